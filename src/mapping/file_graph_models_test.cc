// The weights of sound conversions, under the checkpoint's names, are the
// checkpoint's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <span>
#include <thread>
#include <tuple>

#include "base/testing.h"
#include "mapping/file_graph.h"
#include "mapping/stored.h"

namespace verify_tflite {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

// How matrices are stored, and the embedding: bits of integers, or of the
// fraction of a float.
enum class Kind { kFloat32, kFloat16, kInt8, kInt4, kInt4Block32 };

Kind KindOf(const std::string& stored) {
  static const std::map<std::string, Kind> kinds = {
      {"float32", Kind::kFloat32},
      {"float16", Kind::kFloat16},
      {"int8", Kind::kInt8},
      {"int4", Kind::kInt4},
      {"int4_block32", Kind::kInt4Block32}};
  return kinds.at(stored);
}

const TensorView& Original(const Checkpoint& checkpoint,
                           const std::string& name) {
  const auto found = checkpoint.tensors().find(name);
  if (found != checkpoint.tensors().end()) return found->second;
  EXPECT_TRUE(name.ends_with("lm_head.weight")) << name;
  return checkpoint.tensors().at(checkpoint.names().Of({Part::kEmbedding}));
}

int64_t Elements(const TensorView& tensor) {
  int64_t product = 1;
  for (const int64_t size : tensor.shape) product *= size;
  return product;
}

// Numbers per step's maximum: a quantiser maps the largest of a row, or of a
// block, to the largest integer. 0.501: see compare.h. Floats are those of the
// type next to the original, and off by what undoing 1 + w or a factor rounds.
void ExpectRow(Kind kind, std::span<const float> file,
               std::span<const float> original, const std::string& name) {
  const size_t block = kind == Kind::kInt4Block32 ? 32 : file.size();
  for (size_t begin = 0; begin < file.size(); begin += block) {
    float largest = 0;
    for (size_t i = begin; i < begin + block; ++i) {
      largest = std::max(largest, std::fabs(original[i]));
    }
    for (size_t i = begin; i < begin + block; ++i) {
      double limit = 0;
      const double size = std::fabs(original[i]);
      if (kind == Kind::kFloat32) limit = size * 0x1p-23;
      if (kind == Kind::kFloat16) limit = std::max(size * 0x1p-11, 0x1p-25);
      if (kind == Kind::kInt8) limit = 0.501 * largest / 127;
      if (kind == Kind::kInt4) limit = 0.501 * largest / 7;
      // The quantiser keeps such scales with the 8 bits of bfloat16.
      if (kind == Kind::kInt4Block32) {
        limit = 0.501 * largest / 7 * (1 + 0x1p-8);
      }
      ASSERT_NEAR(file[i], original[i], limit) << name << " " << i;
    }
  }
}

// Rotations change no L2 norm, but spread what one number is off by. Rounding
// of numbers that are normally distributed, the largest 4.5 of their
// deviations, is off by 0.0102 (int8) and 0.19 (int4) of their size.
void ExpectRotatedRow(Kind kind, std::span<const float> file,
                      std::span<const float> original,
                      const std::string& name) {
  double squares = 0, size = 0;
  for (size_t i = 0; i < file.size(); ++i) {
    const double error = double{file[i]} - original[i];
    squares += error * error;
    size += double{original[i]} * original[i];
  }
  const double limit = kind == Kind::kInt8 ? 0.02 : 0.3;
  ASSERT_LE(squares, limit * limit * size) << name;
  ASSERT_GT(squares, 0.01 * limit * limit * size) << name << ": not quantised";
}

// A file and its checkpoint, opened once for all that is asked of them.
struct Opened {
  explicit Opened(const SoundModel& model)
      : checkpoint(Checkpoint::Open(ModelPath(model.checkpoint))),
        graph(OpenFileGraph(ModelPath(model.file), checkpoint)) {}

  Checkpoint checkpoint;
  FileGraph graph;
};

const Opened& Open(const SoundModel& model) {
  static std::map<std::string, Opened> opened;
  return opened.try_emplace(model.file, model).first->second;
}

class SoundFile : public ::testing::TestWithParam<SoundModel> {
 protected:
  SoundFile()
      : checkpoint_(Open(GetParam()).checkpoint),
        graph_(Open(GetParam()).graph) {}

  static bool HasCaches(const tflite::Graph& graph) {
    return std::any_of(graph.outputs.begin(), graph.outputs.end(),
                       [](const tflite::NamedTensor& output) {
                         return output.first.find("cache_") !=
                                std::string::npos;
                       });
  }
  static bool TakesLora(const tflite::Graph& graph) {
    return std::any_of(graph.inputs.begin(), graph.inputs.end(),
                       [](const tflite::NamedTensor& input) {
                         return input.first.find("lora") != std::string::npos;
                       });
  }
  const tflite::Graph& GraphOf(const SignatureGraph& signature) const {
    return graph_.file->graphs[static_cast<size_t>(signature.graph)];
  }

  const Checkpoint& checkpoint_;
  const FileGraph& graph_;
};

TEST_P(SoundFile, HasTheProductsOfEachLayer) {
  int64_t understood = 0, heads = 0;
  for (const SignatureGraph& signature : graph_.signatures) {
    SCOPED_TRACE(signature.signature);
    const tflite::Graph& graph = GraphOf(signature);
    if (!HasCaches(graph) || TakesLora(graph)) {
      EXPECT_FALSE(signature.not_understood.empty());
      continue;
    }
    ++understood;
    EXPECT_EQ(signature.not_understood, "");
    EXPECT_TRUE(std::is_sorted(
        signature.products.begin(), signature.products.end(),
        [](const Product& a, const Product& b) { return a.op < b.op; }));
    // Outputs of each part of each layer, each once.
    using Of = std::tuple<int32_t, Part, int32_t>;  // layer, part, expert
    std::map<Of, std::vector<bool>> seen;
    for (const Product& product : signature.products) {
      SCOPED_TRACE(Describe(product.role));
      EXPECT_FALSE(product.role.bias);
      int64_t width = 0;
      for (const Product::Columns& columns : product.columns) {
        auto& outputs =
            seen[{product.role.layer, columns.part, product.role.expert}];
        const auto end = static_cast<size_t>(columns.first + columns.count);
        if (outputs.size() < end) outputs.resize(end);
        for (auto i = static_cast<size_t>(columns.first); i < end; ++i) {
          EXPECT_FALSE(outputs[i]);
          outputs[i] = true;
        }
        width += columns.count;
      }
      EXPECT_EQ(graph.tensors[static_cast<size_t>(product.output)].shape.back(),
                width);
      EXPECT_EQ(product.rotated >= 0, GetParam().rotated);
      EXPECT_EQ(graph.ops[static_cast<size_t>(product.op)].inputs[0],
                product.rotated >= 0 ? product.rotated : product.input);
    }
    const ModelConfig& c = checkpoint_.config();
    // Without logits, nothing needs more of the last layer with KV caches of
    // its own, or a state, than these.
    const bool no_logits = seen[{-1, Part::kHead, -1}].empty();
    const auto states = std::ranges::count(c.layers, true, &LayerConfig::conv);
    const auto last = static_cast<size_t>(NumKvLayers(c) + states) - 1;
    for (size_t i = 0; i < c.layers.size(); ++i) {
      SCOPED_TRACE(i);
      const LayerConfig& layer = c.layers[i];
      const int64_t q = layer.num_heads * layer.head_dim;
      const int64_t kv = layer.num_kv_heads * layer.head_dim;
      std::map<Part, int64_t> widths = {{Part::kQ, q},
                                        {Part::kK, kv},
                                        {Part::kV, kv},
                                        {Part::kO, c.hidden_size},
                                        {Part::kUp, layer.intermediate_size},
                                        {Part::kDown, c.hidden_size}};
      if (c.gated_mlp) widths[Part::kGate] = layer.intermediate_size;
      if (layer.conv) {
        for (const Part part : {Part::kQ, Part::kK, Part::kV, Part::kO}) {
          widths.erase(part);
        }
        widths[Part::kConvInput] = 3 * c.hidden_size;
        widths[Part::kConvOutput] = c.hidden_size;
      }
      const bool experts = layer.experts && !(no_logits && i >= last);
      if (layer.experts) {
        for (const Part part : {Part::kGate, Part::kUp, Part::kDown}) {
          widths.erase(part);
        }
        widths[Part::kRouter] = c.experts.count;
      }
      for (int32_t e = 0; experts && e < c.experts.count; ++e) {
        SCOPED_TRACE(e);
        const auto width = [&](Part part) {
          return std::ssize(seen[{static_cast<int32_t>(i), part, e}]);
        };
        EXPECT_EQ(width(Part::kExpertGate), c.experts.intermediate_size);
        EXPECT_EQ(width(Part::kExpertUp), c.experts.intermediate_size);
        EXPECT_EQ(width(Part::kExpertDown), c.hidden_size);
      }
      if (no_logits && i == last) widths = {{Part::kK, kv}, {Part::kV, kv}};
      if (no_logits && i == last && layer.conv) {
        widths = {{Part::kConvInput, 3 * c.hidden_size}};
      }
      if (no_logits && i > last) widths.clear();
      if (layer.keys_are_values) widths.erase(Part::kV);
      if (layer.kv_source >= 0) {
        widths.erase(Part::kK);
        widths.erase(Part::kV);
      }
      for (const auto& [part, width] : widths) {
        const auto& outputs = seen[{static_cast<int32_t>(i), part, -1}];
        EXPECT_EQ(std::count(outputs.begin(), outputs.end(), true), width)
            << NameOf(part);
        EXPECT_EQ(static_cast<int64_t>(outputs.size()), width);
      }
    }
    const auto& head = seen[{-1, Part::kHead, -1}];
    if (!head.empty()) {
      EXPECT_EQ(static_cast<int64_t>(head.size()), c.vocab_size);
      ++heads;
    }
  }
  EXPECT_GT(understood, 0);
  EXPECT_GT(heads, 0);
}

TEST_P(SoundFile, WeightsAreTheCheckpoints) {
  std::set<std::pair<std::string, const ReadFn*>> checked;
  for (const SignatureGraph& signature : graph_.signatures) {
    for (const auto& [name, weight] : signature.weights) {
      if (!checked.insert({name, weight.view.read}).second) continue;
      const TensorView& original = Original(checkpoint_, name);
      ASSERT_EQ(weight.view.shape, original.shape) << name;
      const bool matrix = original.shape.size() == 2;
      const int64_t cols = matrix ? original.shape[1] : Elements(original);
      const bool norm = !matrix && name.ends_with(".weight");
      const Kind kind = !matrix ? Kind::kFloat32
                        : name.find("embed") != std::string::npos
                            ? KindOf(GetParam().embedding)
                            : KindOf(GetParam().weights);
      std::vector<float> file(static_cast<size_t>(cols)), expected(file);
      for (int64_t first = 0; first < Elements(original); first += cols) {
        (*weight.view.read)(first, cols, file.data());
        ToFloats(original, first, cols, expected.data());
        if (norm && checkpoint_.config().norm_adds_one) {
          for (int64_t i = 0; i < cols; ++i) ++file[i], ++expected[i];
        }
        if (matrix && GetParam().rotated) {
          // A product with the rotated input is that with w = M^T r.
          if (weight.rotation != nullptr) {
            std::vector<double> row(file.begin(), file.end());
            weight.rotation->Undo(row);
            const double c = weight.rotation->magnitude();
            const double scale =
                static_cast<double>(weight.rotation->size()) * c * c;
            for (double& x : row) x *= scale;
            std::copy(row.begin(), row.end(), file.begin());
          }
          EXPECT_EQ(weight.rotation == nullptr,
                    name.find("embed") != std::string::npos);
          ExpectRotatedRow(kind, file, expected, name);
        } else {
          EXPECT_EQ(weight.rotation, nullptr);
          ExpectRow(kind, file, expected, name);
        }
        if (HasFatalFailure()) return;
      }
    }
  }
  EXPECT_FALSE(checked.empty());
}

TEST_P(SoundFile, IntegersAreReadByTheOperatorOrNot) {
  const bool quantised = KindOf(GetParam().weights) >= Kind::kInt8 &&
                         GetParam().file.find("_wo") == std::string::npos;
  for (const SignatureGraph& signature : graph_.signatures) {
    for (const Product& product : signature.products) {
      EXPECT_EQ(product.quantised_input, quantised) << Describe(product.role);
    }
    for (const auto& [name, weight] : signature.weights) {
      const bool is_product = weight.view.shape.size() == 2 &&
                              name.find("embed") == std::string::npos;
      EXPECT_EQ(weight.quantised_input, quantised && is_product) << name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, SoundFile,
                         ::testing::ValuesIn(SoundModelsOf("map")), CaseName);

const SignatureGraph& At(const FileGraph& graph, const std::string& signature) {
  for (const SignatureGraph& found : graph.signatures) {
    if (found.signature == signature) return found;
  }
  throw std::runtime_error("no " + signature);
}

const Product& At(const SignatureGraph& signature, Part part, int32_t layer) {
  for (const Product& product : signature.products) {
    if (product.role == WeightRole{part, layer, false}) return product;
  }
  throw std::runtime_error("no such product");
}

std::vector<float> ReadAll(const TensorView& view) {
  std::vector<float> values(static_cast<size_t>(Elements(view)));
  if (view.read != nullptr) {
    (*view.read)(view.read_first, Elements(view), values.data());
  } else {
    ToFloats(view, 0, Elements(view), values.data());
  }
  return values;
}

std::vector<std::tuple<Part, int64_t, int64_t>> ColumnsOf(
    const Product& product) {
  std::vector<std::tuple<Part, int64_t, int64_t>> result;
  for (const Product::Columns& c : product.columns) {
    result.emplace_back(c.part, c.first, c.count);
  }
  return result;
}

// Four heads and two KV heads of 16.
TEST(FileGraph, ColumnsOfAFusedProduct) {
  const Checkpoint checkpoint = Checkpoint::Open(ModelPath("tiny"));
  const FileGraph graph =
      OpenFileGraph(ModelPath("tiny_f32.tflite"), checkpoint);
  EXPECT_THAT(
      ColumnsOf(At(At(graph, "decode"), Part::kQkv, 1)),
      ElementsAre(std::tuple(Part::kQ, 0, 32), std::tuple(Part::kK, 0, 16),
                  std::tuple(Part::kV, 0, 16), std::tuple(Part::kQ, 32, 32),
                  std::tuple(Part::kK, 16, 16), std::tuple(Part::kV, 16, 16)));
}

// The checkpoint's tensor has the queries, the key and the value of each of its
// eight key heads of 12 together.
TEST(FileGraph, ColumnsOfFalcon) {
  const Checkpoint checkpoint = Checkpoint::Open(ModelPath("ref_falcon_rw"));
  const FileGraph graph =
      OpenFileGraph(ModelPath("ref_falcon_rw.tflite"), checkpoint);
  const auto columns = ColumnsOf(At(At(graph, "decode"), Part::kQkv, 1));
  ASSERT_THAT(columns, SizeIs(24));
  EXPECT_EQ(columns[0], std::tuple(Part::kQ, 0, 12));
  EXPECT_EQ(columns[4], std::tuple(Part::kK, 12, 12));
  EXPECT_EQ(columns[23], std::tuple(Part::kV, 84, 12));
}

// Layers differ in their heads: three queries to each of one, two, two and
// three key heads of 16.
TEST(FileGraph, ColumnsOfOpenElm) {
  const Checkpoint checkpoint = Checkpoint::Open(ModelPath("ref_openelm"));
  const FileGraph graph =
      OpenFileGraph(ModelPath("ref_openelm.tflite"), checkpoint);
  const SignatureGraph& decode = At(graph, "decode");
  EXPECT_THAT(
      ColumnsOf(At(decode, Part::kQkv, 0)),
      ElementsAre(std::tuple(Part::kQ, 0, 48), std::tuple(Part::kK, 0, 16),
                  std::tuple(Part::kV, 0, 16)));
  EXPECT_EQ(std::get<0>(ColumnsOf(At(decode, Part::kQkv, 3)).back()), Part::kV);
}

// The checkpoint's tensor is fused, too.
TEST(FileGraph, ColumnsAreOfTheirPart) {
  const Checkpoint checkpoint = Checkpoint::Open(ModelPath("ref_phi3_plain"));
  const FileGraph graph =
      OpenFileGraph(ModelPath("ref_phi3_plain.tflite"), checkpoint);
  const SignatureGraph& decode = At(graph, "decode");
  EXPECT_THAT(
      ColumnsOf(At(decode, Part::kQkv, 1)),
      ElementsAre(std::tuple(Part::kQ, 0, 96), std::tuple(Part::kK, 0, 96),
                  std::tuple(Part::kV, 0, 96)));
  EXPECT_THAT(ColumnsOf(At(decode, Part::kGateUp, 0)),
              ElementsAre(std::tuple(Part::kGate, 0, 150),
                          std::tuple(Part::kUp, 0, 150)));
}

TEST(FileGraph, FactorOfSoftCapping) {
  const Checkpoint checkpoint = Checkpoint::Open(ModelPath("ref_gemma2"));
  const FileGraph graph =
      OpenFileGraph(ModelPath("ref_gemma2.tflite"), checkpoint);
  EXPECT_EQ(At(At(graph, "decode"), Part::kHead, -1).factor,
            1 / *checkpoint.config().logit_softcap);
}

// LayerNorm's weight and bias are folded into what prefill multiplies with.
TEST(FileGraph, FoldedNorm) {
  const Checkpoint checkpoint = Checkpoint::Open(ModelPath("ref_phi"));
  const FileGraph graph =
      OpenFileGraph(ModelPath("ref_phi.tflite"), checkpoint);
  const std::string norm = "model.layers.1.input_layernorm.";
  const SignatureGraph& prefill = At(graph, "prefill_16");
  const Product& k = At(prefill, Part::kK, 1);
  EXPECT_EQ(k.input_scale, ReadAll(checkpoint.tensors().at(norm + "weight")));
  EXPECT_EQ(k.input_offset, ReadAll(checkpoint.tensors().at(norm + "bias")));
  EXPECT_FALSE(
      prefill.weights.contains("model.layers.1.self_attn.k_proj.weight"));
  EXPECT_FALSE(
      prefill.weights.contains("model.layers.1.self_attn.k_proj.bias"));
  EXPECT_TRUE(At(At(graph, "decode"), Part::kK, 1).input_scale.empty());
}

TEST(FileGraph, EmbedderBesideTheModel) {
  const Checkpoint checkpoint = Checkpoint::Open(ModelPath("tiny"));
  for (const char* model :
       {"tiny_hf_embedder/model.tflite", "tiny_hf_embedder.litertlm"}) {
    const FileGraph graph = OpenFileGraph(ModelPath(model), checkpoint);
    const SignatureGraph& decode = At(graph, "decode");
    EXPECT_EQ(decode.embedding, -1);
    const std::string name = "model.embed_tokens.weight";
    ASSERT_TRUE(decode.weights.contains(name));
    EXPECT_EQ(ReadAll(decode.weights.at(name).view),
              ReadAll(checkpoint.tensors().at(name)));
  }
}

// The file's own weights, whatever the checkpoint's are.
TEST(FileGraph, OfAnotherCheckpoint) {
  const Checkpoint checkpoint = Checkpoint::Open(ModelPath("tiny"));
  const Checkpoint other = Checkpoint::Open(ModelPath("tiny_other"));
  const FileGraph graph =
      OpenFileGraph(ModelPath("tiny_wrong_weights.tflite"), checkpoint);
  const FileWeights& weights = At(graph, "decode").weights;
  for (const auto& [name, tensor] : other.tensors()) {
    ASSERT_TRUE(weights.contains(name)) << name;
    EXPECT_EQ(ReadAll(weights.at(name).view), ReadAll(tensor)) << name;
  }
}

// Rows of each head as RoPE of neighbours needs them. No conversion at hand has
// that: q and k are put in that order in a file's bytes, and one of the graph's
// tensors is given the shape by which such a RoPE is known.
TEST(FileGraph, RowsForRopeOfNeighbours) {
  constexpr int64_t kDim = 16, kCols = 64;
  const Checkpoint checkpoint = Checkpoint::Open(ModelPath("tiny"));
  std::string bytes = ReadFile(ModelPath("tiny_export_hf.tflite"));
  const tflite::File file =
      tflite::File::Read(std::as_bytes(std::span(bytes)), "a");
  std::set<int32_t> done;
  for (const RoleUse& use :
       FindRoles(file, checkpoint.config().num_layers, kDim).uses) {
    const bool turns = use.role.part == Part::kQ || use.role.part == Part::kK;
    if (!turns || !done.insert(use.constant).second) continue;
    const tflite::Constant& constant =
        file.constants[static_cast<size_t>(use.constant)];
    ASSERT_EQ(constant.cols(), kCols);
    ASSERT_EQ(constant.type, ElementType::kFloat32);
    const std::string copy(reinterpret_cast<const char*>(constant.data.data()),
                           constant.data.size());
    char* data =
        bytes.data() +
        (reinterpret_cast<const char*>(constant.data.data()) - bytes.data());
    constexpr size_t kRowBytes = kCols * sizeof(float);
    for (int64_t row = 0; row < constant.rows(); ++row) {
      const int64_t i = row % kDim;
      const int64_t from = row - i + (i % 2 == 0 ? i / 2 : kDim / 2 + i / 2);
      std::copy_n(copy.data() + from * kRowBytes, kRowBytes,
                  data + row * kRowBytes);
    }
  }
  for (const tflite::Tensor& tensor : file.graphs[0].tensors) {
    if (tensor.producer < 0 || tensor.shape.size() != 4 ||
        tensor.shape[3] != kDim) {
      continue;
    }
    std::vector<int32_t> shape = {4};
    shape.insert(shape.end(), tensor.shape.begin(), tensor.shape.end());
    const size_t size = shape.size() * sizeof(int32_t);
    const size_t at =
        bytes.find(std::string(reinterpret_cast<char*>(shape.data()), size));
    ASSERT_NE(at, std::string::npos);
    shape = {4, 1, 1, kDim / 2, 2};
    bytes.replace(at, size, reinterpret_cast<const char*>(shape.data()), size);
    break;
  }
  const TempDir dir;
  const FileGraph graph =
      OpenFileGraph(dir.Write("model.tflite", bytes), checkpoint);
  const SignatureGraph& decode = At(graph, "decode");
  const std::string name = "model.layers.2.self_attn.k_proj.weight";
  EXPECT_EQ(ReadAll(decode.weights.at(name).view),
            ReadAll(checkpoint.tensors().at(name)));
  std::vector<int64_t> outputs;
  for (const Product::Columns& c : At(decode, Part::kK, 2).columns) {
    EXPECT_EQ(c.part, Part::kK);
    for (int64_t i = 0; i < c.count; ++i) outputs.push_back(c.first + i);
  }
  EXPECT_THAT(outputs, ElementsAre(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6,
                                   14, 7, 15, 16, 24, 17, 25, 18, 26, 19, 27,
                                   20, 28, 21, 29, 22, 30, 23, 31));
}

TEST(FileGraph, ReadsFromSeveralThreads) {
  const Checkpoint checkpoint = Checkpoint::Open(ModelPath("tiny"));
  const FileGraph graph =
      OpenFileGraph(ModelPath("tiny_hf_gpu.tflite"), checkpoint);
  const TensorView& view =
      At(graph, "decode").weights.at("model.layers.0.mlp.up_proj.weight").view;
  const std::vector<float> whole = ReadAll(view);
  const auto read = [&](int64_t first) {
    for (int64_t i = first; i < Elements(view); i += 61) {
      const int64_t count = std::min<int64_t>(200, Elements(view) - i);
      std::vector<float> part(static_cast<size_t>(count));
      (*view.read)(i, count, part.data());
      EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + i));
    }
  };
  std::thread other(read, 0);
  read(7);
  other.join();
}

}  // namespace
}  // namespace verify_tflite
