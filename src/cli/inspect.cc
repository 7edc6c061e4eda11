#include "cli/inspect.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string_view>

#include "mapping/roles.h"
#include "base/error.h"
#include "base/json_file.h"
#include "base/utf8.h"
#include "checkpoint/checkpoint.h"
#include "text/chat_template.h"
#include "text/eos.h"
#include "text/tokenizer.h"
#include "text/vocab_merges.h"

namespace verify_tflite {
namespace {

// Of config.json, where they are there; what the architecture is made of.
constexpr const char* kConfigKeys[] = {
    "num_hidden_layers",   "hidden_size",
    "intermediate_size",   "num_attention_heads",
    "num_key_value_heads", "head_dim",
    "vocab_size",          "max_position_embeddings",
    "hidden_act",          "rms_norm_eps",
    "rope_parameters",     "rope_scaling",
    "rope_theta",          "tie_word_embeddings",
    "sliding_window",
};

// What it makes of one token, where a signature takes tokens and nothing else.
std::optional<InspectedEmbedding> AsEmbedding(const SignatureSpec& s) {
  if (s.inputs.size() != 1 || s.outputs.size() != 1) return std::nullopt;
  const TensorSpec& tokens = s.inputs[0];
  const TensorSpec& made = s.outputs[0];
  if (tokens.type != ElementType::kInt32 ||
      made.type != ElementType::kFloat32 || tokens.dims.empty() ||
      made.dims.size() < 3) {
    return std::nullopt;
  }
  return InspectedEmbedding{
      s.name, tokens.dims.back(), {made.dims.begin() + 2, made.dims.end()}};
}

std::vector<InspectedEmbedding> FindEmbeddings(const tflite::Summary& file) {
  std::vector<InspectedEmbedding> found;
  for (const SignatureSpec& s : file.signatures) {
    const auto embedding = AsEmbedding(s);
    if (!embedding) return {};
    found.push_back(*embedding);
  }
  std::ranges::stable_sort(found, std::greater{}, &InspectedEmbedding::tokens);
  return found;
}

InspectedModel InspectModel(std::span<const std::byte> bytes,
                            const std::string& model_type,
                            const std::string& what) {
  InspectedModel model;
  model.model_type = model_type;
  if (!tflite::IsTflite(bytes)) {
    model.damage = what + ": is no TFLite model";
    return model;
  }
  try {
    model.file = Summarize(tflite::File::Read(bytes, what));
    model.embeddings = FindEmbeddings(*model.file);
  } catch (const Error& e) {
    model.damage = e.what();
  }
  return model;
}

// Those that attend, whether their keys are cached or another layer's; 0: the
// graph is not of the form known.
int64_t CountLayers(const tflite::File& file, int64_t kv_layers) {
  int64_t most = 0;
  const Roles roles = FindRoles(file, kv_layers, /*head_dim=*/0);
  for (const SignatureRoles& signature : roles.signatures) {
    most = std::max<int64_t>(
        most, std::ranges::count(
                  signature.products, Part::kO,
                  [](const ProductUse& product) { return product.role.part; }));
  }
  return most;
}

// What verification would make of the file.
void Understand(std::shared_ptr<const tflite::Container> container,
                InspectedModel& model) {
  try {
    model.llm = Model::Open(container, {}).info();
    model.layers = CountLayers(container->model_parts().front()->file(),
                               model.llm->num_layers);
  } catch (const Error& e) {
    model.unsupported = e.what();
  }
}

std::string DescribeTokenizer(const Bundle& bundle) {
  try {
    if (const auto json = bundle.ReadHfTokenizer()) {
      return fmt::format("Hugging Face tokenizer.json, {} bytes", json->size());
    }
  } catch (const Error& e) {
    return e.what();
  }
  if (const auto model = bundle.SentencePieceModel()) {
    return fmt::format("SentencePiece model, {} bytes", model->size());
  }
  return "none";
}

void InspectBundle(const std::shared_ptr<const tflite::Container>& container,
                   Inspection& result) {
  const Bundle& bundle = *container->bundle();
  InspectedBundle& b = result.bundle.emplace();
  result.kind = ".task";
  if (bundle.format() == BundleFormat::kLitertlm) {
    result.kind = ".litertlm";
    b.version = fmt::format("{}", fmt::join(bundle.version(), "."));
  }
  b.system_metadata = bundle.system_metadata();
  b.llm_metadata = bundle.ReadLlmMetadata();
  b.executor_metadata = bundle.ReadExecutorMetadata();
  b.tokenizer = DescribeTokenizer(bundle);
  const BundleSection* run = nullptr;
  std::string unsupported;
  try {
    run = &bundle.PrefillDecode();
  } catch (const Error& e) {
    unsupported = e.what();
  }
  for (size_t i = 0; i < bundle.sections().size(); ++i) {
    const BundleSection& s = bundle.sections()[i];
    b.sections.push_back({NameOf(s.type), s.begin, s.end, s.items});
    if (s.type != SectionType::kTfliteModel) continue;
    result.models.push_back(InspectModel(
        s.bytes, s.model_type, fmt::format("{}: section {}", result.path, i)));
    if (&s == run) Understand(container, result.models.back());
  }
  if (!unsupported.empty()) {
    if (result.models.empty()) result.models.emplace_back();
    result.models.front().unsupported = unsupported;
  }
}

// Runs part of the inspection of a checkpoint; what it throws is part of the
// result.
template <typename Work>
void Try(InspectedCheckpoint& c, const Work& work) {
  try {
    work();
  } catch (const Error& e) {
    c.unsupported.emplace_back(e.what());
  }
}

void InspectConfig(const std::string& directory, InspectedCheckpoint& c) {
  const auto config = ReadJsonFile(directory + "/config.json");
  const auto type = config.find("model_type");
  if (type != config.end() && type->is_string()) c.model_type = *type;
  for (const char* key : kConfigKeys) {
    const auto value = config.find(key);
    if (value == config.end() || value->is_null()) continue;
    c.config.emplace_back(key, value->dump(-1, ' ', /*ensure_ascii=*/true));
  }
}

void InspectWeights(const std::string& directory, InspectedCheckpoint& c) {
  const Checkpoint checkpoint = Checkpoint::Open(directory);
  c.notes = checkpoint.notes();
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    const auto bytes = static_cast<int64_t>(tensor.data.size());
    ++c.tensors;
    c.parameters += bytes / static_cast<int64_t>(SizeOf(tensor.dtype));
    c.tensor_bytes[std::string(NameOf(tensor.dtype))] += bytes;
  }
}

void InspectTokenizer(const std::string& directory, InspectedCheckpoint& c) {
  std::error_code ignored;
  std::string file = "tokenizer.model";
  if (!std::filesystem::exists(directory + "/tokenizer.json", ignored) &&
      std::filesystem::exists(directory + "/tokenizer.model", ignored)) {
    c.tokenizer = "SentencePiece";
  } else if (!std::filesystem::exists(directory + "/tokenizer.json", ignored) &&
             HasVocabOrMerges(directory)) {
    file = "vocab.json, merges.txt";
    c.tokenizer = "BPE";
  } else {
    file = "tokenizer.json";
    const auto json = ReadJsonFile(directory + "/tokenizer.json");
    const auto model = json.find("model");
    if (model != json.end() && model->is_object()) {
      c.tokenizer = model->value("type", "tokenizer.json");
    }
  }
  const Tokenizer tokenizer = Tokenizer::Open(directory);
  c.tokenizer +=
      fmt::format(" ({}), ids below {}", file, tokenizer.vocab_size());
  const EosIds eos = ReadEosIds(directory, tokenizer);
  c.eos_ids = eos.ids;
  c.notes.insert(c.notes.end(), eos.notes.begin(), eos.notes.end());
}

void InspectTemplate(const std::string& directory, InspectedCheckpoint& c) {
  const auto found = ChatTemplate::FromCheckpoint(directory);
  if (!found) return;
  c.chat_template =
      std::filesystem::path(found->origin()).lexically_relative(directory);
  if (c.chat_template.ends_with(".json")) c.chat_template.insert(0, "in ");
}

void InspectCheckpoint(const std::string& directory, Inspection& result) {
  InspectedCheckpoint& c = result.checkpoint.emplace();
  c.tokenizer = "none";
  c.chat_template = "none";
  InspectConfig(directory, c);
  Try(c, [&] { InspectWeights(directory, c); });
  Try(c, [&] { InspectTokenizer(directory, c); });
  Try(c, [&] { InspectTemplate(directory, c); });
}

}  // namespace

Inspection Inspect(const std::string& path, const StageFn& stage) {
  stage("inspecting " + path);
  Inspection result;
  result.path = path;
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    result.kind = "checkpoint";
    InspectCheckpoint(path, result);
    return result;
  }
  const auto container = std::make_shared<const tflite::Container>(path);
  result.bytes = static_cast<int64_t>(container->bytes().size());
  if (container->bundle() != nullptr) {
    InspectBundle(container, result);
    return result;
  }
  if (!tflite::IsTflite(container->bytes())) {
    throw Error(
        "{}: is neither a .tflite, .litertlm or .task file, nor a directory "
        "with a checkpoint",
        path);
  }
  result.kind = ".tflite";
  result.models.push_back(InspectModel(container->bytes(), "", path));
  Understand(container, result.models.back());
  return result;
}

}  // namespace verify_tflite
