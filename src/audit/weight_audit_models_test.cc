// Every sound conversion at hand, and what is found when their constants are
// changed. The faults are made here, by writing into the file's bytes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>

#include "audit/findings.h"
#include "audit/weight_audit.h"
#include "base/error.h"
#include "base/testing.h"
#include "mapping/file_graph.h"
#include "mapping/model_map.h"
#include "tflite/container.h"

namespace verify_tflite {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

std::vector<std::string> Ids(const WeightAudit& audit) {
  std::vector<std::string> ids;
  for (const Finding& finding : FindingsOf(audit))
    ids.emplace_back(NameOf(finding.id));
  return ids;
}

WeightAudit Audit(const std::string& bytes, const std::string& checkpoint) {
  const Checkpoint original = Checkpoint::Open(ModelPath(checkpoint));
  const auto file =
      tflite::File::Read(std::as_bytes(std::span(bytes)), "a.tflite");
  const tflite::File* files[] = {&file};
  return AuditWeights(ModelMap(files, original), 1);
}

WeightAudit AuditFile(const std::string& model, const std::string& checkpoint) {
  const Checkpoint original = Checkpoint::Open(ModelPath(checkpoint));
  return AuditWeights(
      ModelMap(std::make_shared<const tflite::Container>(ModelPath(model)),
               original),
      2);
}

class SoundFile : public ::testing::TestWithParam<SoundModel> {};

TEST_P(SoundFile, IsVerifiedWhole) {
  const WeightAudit audit = AuditFile(GetParam().file, GetParam().checkpoint);
  EXPECT_THAT(Ids(audit), IsEmpty());
  EXPECT_GT(audit.weight_bytes, 0);
  EXPECT_EQ(audit.verified_bytes, audit.weight_bytes);
  for (const WeightMatch& match : audit.matches) {
    EXPECT_EQ(match.status, WeightMatch::Status::kVerified)
        << Describe(match.role) << " " << match.reason;
  }
  for (const MissingTensor& tensor : audit.missing) {
    EXPECT_TRUE(tensor.explained) << tensor.name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, SoundFile,
                         ::testing::ValuesIn(SoundModelsOf("weights")),
                         CaseName);

class MappedModel : public ::testing::TestWithParam<SoundModel> {};

// But for those that a norm was folded into.
TEST_P(MappedModel, HasWhatTheAuditVerifies) {
  const Checkpoint checkpoint =
      Checkpoint::Open(ModelPath(GetParam().checkpoint));
  const auto map = std::make_shared<const ModelMap>(
      std::make_shared<const tflite::Container>(ModelPath(GetParam().file)),
      checkpoint);
  const FileGraph graph = MakeFileGraph(map);
  const WeightAudit audit = AuditWeights(*map, 1);
  int64_t found = 0;
  for (const WeightMatch& match : audit.matches) {
    ASSERT_EQ(match.status, WeightMatch::Status::kVerified);
    const bool folded = match.layout.find("norm's") != std::string::npos;
    for (const SignatureGraph& signature : graph.signatures) {
      if (!signature.not_understood.empty() ||
          std::find(match.signatures.begin(), match.signatures.end(),
                    signature.signature) == match.signatures.end()) {
        continue;
      }
      for (std::string name : match.tensors) {
        if (match.role.part == Part::kHead && !audit.own_head) {
          name = "lm_head.weight";
        }
        if (folded && name.find("norm") != std::string::npos) continue;
        // Of norms without weight, which the checkpoint has no tensor of.
        if (name == "(ones)") continue;
        EXPECT_EQ(signature.weights.contains(name), !folded)
            << signature.signature << " " << name;
        ++found;
      }
    }
  }
  EXPECT_GT(found, 0);
}

INSTANTIATE_TEST_SUITE_P(All, MappedModel,
                         ::testing::ValuesIn(SoundModelsOf("map")), CaseName);

// A file whose constants can be written to.
class Patched {
 public:
  explicit Patched(const std::string& model)
      : bytes(ReadFile(ModelPath(model))),
        file_(tflite::File::Read(std::as_bytes(std::span(bytes)), model)) {}

  // The constant of a part, the first signature's.
  const tflite::Constant& At(Part part, int32_t layer,
                             bool bias = false) const {
    // Of checkpoints.tiny and tiny_qwen2 alike: as many layers as caches.
    for (int64_t layers = 2; layers <= 4; ++layers) {
      for (const RoleUse& use : FindRoles(file_, layers, 16).uses) {
        if (use.role == WeightRole{part, layer, bias}) {
          return file_.constants[use.constant];
        }
      }
    }
    throw Error("no {} of layer {}", NameOf(part), layer);
  }

  template <typename T>
  std::span<T> Values(const tflite::Constant& constant) {
    char* data =
        bytes.data() +
        (reinterpret_cast<const char*>(constant.data.data()) - bytes.data());
    return {reinterpret_cast<T*>(data), constant.data.size() / sizeof(T)};
  }
  // The square matrix of that size, the first.
  std::span<float> Rotation(int64_t size) {
    for (const tflite::Constant& constant : file_.constants) {
      if (constant.type == ElementType::kFloat32 &&
          constant.shape == std::vector<int64_t>{size, size}) {
        return Values<float>(constant);
      }
    }
    throw Error("no matrix of {} rows", size);
  }
  std::span<float> Floats(Part part, int32_t layer, bool bias = false) {
    return Values<float>(At(part, layer, bias));
  }

  void Swap(Part part, int32_t a, int32_t b) {
    auto x = Floats(part, a), y = Floats(part, b);
    std::swap_ranges(x.begin(), x.end(), y.begin());
  }

  std::string bytes;

 private:
  tflite::File file_;
};

constexpr Part kLayerParts[] = {Part::kQkv,    Part::kO,    Part::kGate,
                                Part::kUp,     Part::kDown, Part::kInputNorm,
                                Part::kMlpNorm};

TEST(WeightFaults, LayersSwapped) {
  Patched file("tiny_f32.tflite");
  for (const Part part : kLayerParts) file.Swap(part, 1, 2);
  const WeightAudit audit = Audit(file.bytes, "tiny");
  const auto findings = FindingsOf(audit);
  ASSERT_THAT(findings, SizeIs(1));
  EXPECT_EQ(findings[0].id, FindingId::kLayerOrder);
  EXPECT_EQ(findings[0].severity, Outcome::kBroken);
  EXPECT_THAT(findings[0].evidence,
              HasSubstr("gate of layer 1 (prefill_8, prefill_64, decode): "
                        "holds gate of layer 2"));
  EXPECT_LT(audit.verified_bytes, audit.weight_bytes);
}

// Composites whose bodies are not understood: they may add the 1 of 1 + w.
WeightAudit AuditWithOpaqueNorms(const std::string& bytes) {
  const Checkpoint original = Checkpoint::Open(ModelPath("ref_gemma3"));
  auto file = tflite::File::Read(std::as_bytes(std::span(bytes)), "a.tflite");
  for (tflite::Graph& graph : file.graphs) {
    for (tflite::Op& op : graph.ops) {
      if (op.composite.find("norm") != std::string::npos) op.body = -1;
    }
  }
  const tflite::File* files[] = {&file};
  return AuditWeights(ModelMap(files, original), 1);
}

const WeightMatch& MatchOf(const WeightAudit& audit, const WeightRole& role) {
  for (const WeightMatch& match : audit.matches) {
    if (match.role == role) return match;
  }
  throw Error("no {}", Describe(role));
}

TEST(OpaqueNorms, OnlyTheNormItselfIsLeftOpen) {
  const WeightRole role = {Part::kMlpNorm, 1, false};
  Patched file("ref_gemma3.tflite");
  EXPECT_EQ(MatchOf(AuditWithOpaqueNorms(file.bytes), role).status,
            WeightMatch::Status::kVerified);
  const std::span<float> norm = file.Floats(role.part, role.layer);
  for (float& value : norm) value -= 1;
  const WeightAudit open = AuditWithOpaqueNorms(file.bytes);
  EXPECT_EQ(MatchOf(open, role).status, WeightMatch::Status::kNotCovered);
  EXPECT_THAT(MatchOf(open, role).reason, HasSubstr("holds w"));
  EXPECT_THAT(Ids(open), IsEmpty());
  // Neither w nor 1 + w, where the sample does not look.
  norm[1] += 0.5F;
  const WeightAudit wrong = AuditWithOpaqueNorms(file.bytes);
  EXPECT_EQ(MatchOf(wrong, role).status, WeightMatch::Status::kDiffers);
  EXPECT_THAT(Ids(wrong), SizeIs(1));
}

struct Fault {
  const char* name;
  std::function<void(Patched&)> make;
  const char* id;
};

void TestFaults(const std::string& model, const std::string& checkpoint,
                const std::vector<Fault>& faults) {
  for (const Fault& fault : faults) {
    Patched file(model);
    fault.make(file);
    const WeightAudit audit = Audit(file.bytes, checkpoint);
    std::string evidence;
    for (const Finding& f : FindingsOf(audit)) evidence += f.evidence + "\n";
    EXPECT_THAT(Ids(audit), ElementsAre(fault.id)) << fault.name << "\n"
                                                   << evidence;
  }
}

// Rows of one head of the fused product; checkpoints.tiny has head_dim 16, and
// two KV heads with two query heads each: [q, q, k, v] twice.
std::span<float> Head(Patched& file, int layer, int block) {
  constexpr size_t kHead = 16 * 64;
  return file.Floats(Part::kQkv, layer).subspan(block * kHead, kHead);
}
void SwapHeads(Patched& file, int a, int b) {
  for (int layer = 0; layer < 4; ++layer) {
    auto x = Head(file, layer, a), y = Head(file, layer, b);
    std::swap_ranges(x.begin(), x.end(), y.begin());
  }
}

TEST(WeightFaults, OfFloatFiles) {
  const auto all_floats = [](Patched& file, auto change) {
    for (int layer = 0; layer < 4; ++layer) {
      for (const Part part : kLayerParts) {
        for (float& value : file.Floats(part, layer)) value = change(value);
      }
    }
  };
  TestFaults(
      "tiny_f32.tflite", "tiny",
      {
          {"q and k swapped", [](Patched& f) { SwapHeads(f, 1, 2); },
           "qk-swapped"},
          {"k and v swapped", [](Patched& f) { SwapHeads(f, 2, 3); },
           "kv-swapped"},
          {"KV heads swapped", [](Patched& f) { SwapHeads(f, 2, 6); },
           "kv-layout"},
          {"gate and up",
           [](Patched& f) {
             auto a = f.Floats(Part::kGate, 1), b = f.Floats(Part::kUp, 1);
             std::swap_ranges(a.begin(), a.end(), b.begin());
           },
           "gate-up-swapped"},
          {"transposed",
           [](Patched& f) {
             auto o = f.Floats(Part::kO, 1);
             for (int i = 0; i < 64; ++i) {
               for (int j = 0; j < i; ++j)
                 std::swap(o[i * 64 + j], o[j * 64 + i]);
             }
           },
           "transposed-weight"},
          {"NaN", [](Patched& f) { f.Floats(Part::kDown, 1)[195] = NAN; },
           "nan"},
          {"infinity",
           [](Patched& f) { f.Floats(Part::kDown, 1)[195] = INFINITY; }, "nan"},
          {"zero",
           [](Patched& f) { std::ranges::fill(f.Floats(Part::kDown, 2), 0); },
           "weight-differs"},
          {"skipped",
           [](Patched& f) {
             std::ranges::fill(f.Floats(Part::kDown, 2), 0);
             std::ranges::fill(f.Floats(Part::kO, 2), 0);
           },
           "layer-skipped"},
          {"one number, by 1e-6",
           [](Patched& f) { f.Floats(Part::kGate, 3)[77] *= 1.000001f; },
           "weight-differs"},
          {"a row",
           [](Patched& f) {
             std::ranges::fill(f.Floats(Part::kGate, 1).subspan(320, 64), 0);
           },
           "weight-differs"},
          {"one row of the embedding",
           [](Patched& f) {
             std::ranges::fill(f.Floats(Part::kEmbedding, -1).subspan(64, 64),
                               0);
           },
           // Table and head are one constant.
           "embedding"},
          {"norms swapped",
           [](Patched& f) {
             auto a = f.Floats(Part::kInputNorm, 1),
                  b = f.Floats(Part::kMlpNorm, 1);
             std::swap_ranges(a.begin(), a.end(), b.begin());
           },
           "norm-weights"},
          {"1 + w",
           [](Patched& f) {
             for (float& w : f.Floats(Part::kFinalNorm, -1)) w += 1;
           },
           "norm-weights"},
          {"bfloat16",
           [&](Patched& f) {
             all_floats(f, [](float value) {
               const auto bits = std::bit_cast<uint32_t>(value);
               return std::bit_cast<float>((bits + 0x7fff + (bits >> 16 & 1)) &
                                           0xffff0000u);
             });
           },
           "precision-loss"},
          {"5 % larger",
           [](Patched& f) {
             for (float& w : f.Floats(Part::kUp, 0)) w *= 1.05f;
           },
           "scale"},
      });
}

TEST(WeightFaults, OfInt8Files) {
  const auto all = [](Patched& file, auto change) {
    for (int layer = 0; layer < 4; ++layer) {
      for (const Part part :
           {Part::kQkv, Part::kO, Part::kGate, Part::kUp, Part::kDown}) {
        for (int8_t& value : file.Values<int8_t>(file.At(part, layer))) {
          value = static_cast<int8_t>(change(int{value}));
        }
      }
    }
  };
  TestFaults(
      "tiny_q8.tflite", "tiny",
      {{"clipped",
        [&](Patched& f) {
          all(f, [](int q) { return std::clamp(q, -24, 24); });
        },
        "quantisation-collapse"},
       {"four values",
        [&](Patched& f) {
          all(f, [](int q) {
            return std::clamp((q + (q < 0 ? -32 : 32)) / 64, -2, 1) * 64;
          });
        },
        "quantisation-collapse"},
       {"one number, by a step",
        [](Patched& f) { f.Values<int8_t>(f.At(Part::kGate, 1))[5] ^= 1; },
        "weight-differs"},
       {"zero",
        [](Patched& f) {
          std::ranges::fill(f.Values<int8_t>(f.At(Part::kUp, 1)), 0);
        },
        "weight-differs"}});
}

// Both clip by OCTAV.
TEST(WeightFaults, OfRotatedWeights) {
  const auto one = [](Part part, int32_t layer) {
    return [=](Patched& f) { f.Values<int8_t>(f.At(part, layer))[5] ^= 1; };
  };
  for (const char* model :
       {"tiny_hf_hadamard.tflite", "tiny_hf_hadamard_q4.tflite"}) {
    TestFaults(
        model, "tiny",
        {{"one number, by a step", one(Part::kQ, 1), "weight-differs"},
         {"one of down", one(Part::kDown, 1), "weight-differs"},
         {"one of the embedding", one(Part::kEmbedding, -1), "embedding"},
         {"zero",
          [](Patched& f) {
            std::ranges::fill(f.Values<int8_t>(f.At(Part::kUp, 1)), 0);
          },
          "weight-differs"},
         {"another matrix",
          [](Patched& f) {
            for (float& c : f.Rotation(32).first(16 * 32)) c *= -1;
          },
          "weight-differs"}});
  }
}

// Floats that lie on a grid come back whole.
TEST(Recovered, IsExact) {
  for (const char* bits : {"8", "4"}) {
    const std::string name = std::string("tiny_qat") + bits;
    const WeightAudit audit = AuditFile(name + "_recovered.tflite", name);
    int products = 0;
    for (const WeightMatch& match : audit.matches) {
      if (match.quantiser != "on a grid") continue;
      ++products;
      EXPECT_LT(match.worst, 2e-3) << match.name;
      EXPECT_LT(CoarserBy(match.scales), 1) << match.name;
    }
    EXPECT_EQ(products, 4 * 5);  // q, k and v are one
  }
}

TEST(CutOff, IsCounted) {
  const WeightAudit audit = AuditFile("tiny_hf_hadamard_q4.tflite", "tiny");
  int64_t cut_off = 0;
  for (const WeightMatch& match : audit.matches) {
    cut_off += match.cut_off;
    EXPECT_LT(match.cut_off, match.elements / 20);
    EXPECT_LE(match.worst, kStepLimit);
  }
  EXPECT_GT(cut_off, 0);
}

TEST(WeightFaults, OfOtherFamilies) {
  TestFaults(
      "ref_mistral.tflite", "ref_mistral",
      {{"head tied",
        [](Patched& f) {
          std::ranges::copy(f.Floats(Part::kEmbedding, -1),
                            f.Floats(Part::kHead, -1).begin());
        },
        "tied-head"},
       {"head off by a row",
        [](Patched& f) {
          auto head = f.Floats(Part::kHead, -1);
          std::rotate(head.begin(), head.end() - 72, head.end());
        },
        "lm-head"},
       {"head of zeros",
        [](Patched& f) { std::ranges::fill(f.Floats(Part::kHead, -1), 0); },
        "constant-logits"}});
  TestFaults("ref_qwen2.tflite", "ref_qwen2",
             {{"no bias",
               [](Patched& f) {
                 for (const Part part : {Part::kQ, Part::kK, Part::kV}) {
                   std::ranges::fill(f.Floats(part, 1, true), 0);
                 }
               },
               "attention-bias-missing"}});
  TestFaults("ref_gemma3.tflite", "ref_gemma3",
             {{"w for 1 + w",
               [](Patched& f) {
                 for (float& w : f.Floats(Part::kFinalNorm, -1)) w -= 1;
               },
               "norm-weights"}});
}

// A file may leave out what scales by 1 or adds 0, and nothing else.
TEST(WeightFaults, LeftOut) {
  for (const auto& [checkpoint, explained] :
       {std::pair("text_starcoder2_neutral", true),
        std::pair("text_starcoder2_plain", false)}) {
    const WeightAudit audit =
        AuditFile("ref_starcoder2_neutral.tflite", checkpoint);
    const auto norm = std::ranges::find(audit.missing, "model.norm.weight",
                                        &MissingTensor::name);
    ASSERT_NE(norm, audit.missing.end());
    EXPECT_EQ(norm->explained, explained) << checkpoint;
  }
}

TEST(WeightFaults, AnotherCheckpoint) {
  EXPECT_THAT(Ids(AuditFile("tiny_wrong_weights.tflite", "tiny")),
              ElementsAre("wrong-checkpoint"));
  EXPECT_THAT(Ids(AuditFile("tiny_wrong_layers.tflite", "tiny")),
              ElementsAre("layer-order"));
  // Faults of other kinds are none of the weights'.
  EXPECT_THAT(Ids(AuditFile("tiny_wrong_eps.tflite", "tiny")), IsEmpty());
  EXPECT_THAT(Ids(AuditFile("tiny_wrong_rope.tflite", "tiny")), IsEmpty());
}

TEST(WeightFaults, ExpertsInAnotherOrder) {
  for (const char* file :
       {"mut_moe_swapped.tflite", "mut_moe_q8_swapped.tflite",
        "mut_moe_router_rows.tflite"}) {
    EXPECT_THAT(Ids(AuditFile(file, "text_qwen3_moe")),
                ElementsAre("expert-order"))
        << file;
  }
  // How they are chosen is none of the weights' faults.
  EXPECT_THAT(Ids(AuditFile("mut_moe_not_normalised.tflite", "text_qwen3_moe")),
              IsEmpty());
  EXPECT_THAT(Ids(AuditFile("mut_moe_shared_scale.tflite", "text_qwen2_moe")),
              ElementsAre("weight-differs"));
}

// An adapter on q and v of every layer, as a difference of rank 3; and another
// model's difference, of full rank.
TEST(WeightFaults, AdapterAndFineTune) {
  for (const bool low_rank : {true, false}) {
    Patched file("tiny_export_hf.tflite");
    uint32_t state = 1;
    const auto random = [&] {
      state = state * 1664525u + 1013904223u;
      return static_cast<float>(state >> 8) / (1 << 23) - 1;
    };
    for (int layer = 0; layer < 4; ++layer) {
      for (const Part part : {Part::kQ, Part::kV, Part::kO, Part::kGate,
                              Part::kUp, Part::kDown}) {
        if (low_rank && part != Part::kQ && part != Part::kV) continue;
        const auto values = file.Floats(part, layer);
        const size_t cols = part == Part::kDown ? 160 : 64;
        const size_t rows = values.size() / cols;
        std::vector<float> a(rows * 3), b(3 * cols);
        for (float& x : a) x = random() * 0.02f;
        for (float& x : b) x = random();
        for (size_t i = 0; i < values.size(); ++i) {
          float d = low_rank ? 0 : 0.02f * random();
          for (size_t k = 0; low_rank && k < 3; ++k) {
            d += a[i / cols * 3 + k] * b[k * cols + i % cols];
          }
          values[i] += d;
        }
      }
    }
    const auto findings = FindingsOf(Audit(file.bytes, "tiny"));
    ASSERT_THAT(findings, SizeIs(1));
    EXPECT_EQ(findings[0].id, low_rank ? FindingId::kLoraNotMerged
                                       : FindingId::kWrongCheckpoint);
    if (low_rank) {
      EXPECT_THAT(findings[0].evidence, HasSubstr("rank 3"));
    } else {
      EXPECT_THAT(findings[0].sentence, HasSubstr("relative"));
    }
  }
}

// Scales are the checkpoint's own, numbers are not its rounding: what a
// quantiser did with activations in mind is not known where nothing runs.
class GptqFile : public ::testing::TestWithParam<const char*> {};

TEST_P(GptqFile, IsCalibrated) {
  WeightAudit audit = AuditFile(GetParam(), "tiny");
  EXPECT_THAT(Ids(audit), IsEmpty());
  EXPECT_GT(audit.calibrated_bytes, 0);
  EXPECT_EQ(audit.verified_bytes + audit.calibrated_bytes, audit.weight_bytes);
  std::vector<ActivationError> errors;
  for (const WeightMatch& match : audit.matches) {
    if (match.status != WeightMatch::Status::kCalibrated) continue;
    EXPECT_EQ(match.scales.min_max, match.scales.scales);
    EXPECT_EQ(match.quantiser, "GPTQ");
    EXPECT_GT(match.scales.moved, 0);
    errors.push_back({match.constant, 0.9, 2, 3, 44});
  }
  // Larger than rounding's: not shown. Far larger, in a row: not compensation.
  errors[0].ratio = 2;
  errors[1].worst_ratio = 100;
  errors[2].samples = 1;
  SettleCalibrated(errors, audit);
  EXPECT_THAT(Ids(audit), ElementsAre("weight-differs"));
  int64_t open = 0;
  for (const WeightMatch& match : audit.matches) {
    open += match.status == WeightMatch::Status::kCalibrated;
  }
  EXPECT_EQ(open, 2);
}

INSTANTIATE_TEST_SUITE_P(All, GptqFile,
                         ::testing::Values("tiny_gptq_q8.tflite",
                                           "tiny_gptq_q4_block32.tflite"));

TEST(QuantiserTest, SaysHowManyBitsAreInUse) {
  const WeightAudit audit = AuditFile("tiny_mse_q8.tflite", "tiny");
  for (const WeightMatch& match : audit.matches) {
    if (match.role.part != Part::kO) continue;
    EXPECT_EQ(match.quantiser, "MSE");
    // As measured by this program, not independently: scales 1.9 to 3.5 times
    // those of the largest magnitude.
    EXPECT_NEAR(match.scales.bits, 6.6, 0.15);
    EXPECT_NEAR(CoarserBy(match.scales), 2.7, 0.2);
  }
  EXPECT_THAT(DescribeProof(audit), HasSubstr("of 8 bits"));
}

}  // namespace
}  // namespace verify_tflite
