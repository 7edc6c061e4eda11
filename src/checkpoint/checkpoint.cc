#include "checkpoint/checkpoint.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json_file.h"
#include "base/utf8.h"
#include "checkpoint/families/family.h"
#include "checkpoint/quantized.h"

namespace verify_tflite {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kConfig = "config.json";

// The names under which transformers looks for weights, in its order.
constexpr std::string_view kSafetensors = "model.safetensors";
constexpr std::string_view kSafetensorsIndex = "model.safetensors.index.json";
constexpr std::string_view kPickle = "pytorch_model.bin";
constexpr std::string_view kPickleIndex = "pytorch_model.bin.index.json";
constexpr std::string_view kWeightNames[] = {kSafetensors, kSafetensorsIndex,
                                             kPickle, kPickleIndex};

constexpr std::string_view kSafetensorsExtension = ".safetensors";
constexpr std::string_view kPickleExtensions[] = {".bin", ".pt", ".pth",
                                                  ".ckpt"};

constexpr std::string_view kOtherFormats[] = {".gguf", ".h5", ".onnx",
                                              ".msgpack"};

// Every decoder of the reference names its embedding so; what stands before it
// tells how the model was wrapped when it was saved.
constexpr std::string_view kEmbedding = "embed_tokens.weight";
constexpr std::string_view kLastNorm = "norm.weight";
constexpr std::string_view kModel = "model.";
constexpr std::string_view kHead = "lm_head.";
constexpr std::string_view kAdapterConfig = "adapter_config.json";

// Members under which wrappers of training hold a module, wherever one is in
// the model: DistributedDataParallel and DeepSpeed, torch.compile,
// FullyShardedDataParallel, checkpoint_wrapper (activation checkpointing).
constexpr std::string_view kWrappers[] = {"module.", "_orig_mod.",
                                          "_fsdp_wrapped_module.",
                                          "_checkpoint_wrapped_module."};

struct Wrapping {
  std::string_view before_embedding;
  std::string_view strip;  // from names that begin so
  bool add_model;          // kModel before names that lack it, but the head's
};

constexpr Wrapping kWrappings[] = {
    {"model.", "", false},  // LlamaForCausalLM and the like
    {"", "", true},         // LlamaModel: without the head
    // A member `model` of a training class (Lightning)
    {"model.model.", "model.", false},
};

// What names begin with that are no plain model's, and what to do with such.
struct Foreign {
  std::string_view prefix;
  std::string_view what;
};
constexpr Foreign kForeign[] = {
    {"base_model.model.",
     "as those of a model that PEFT wraps (get_peft_model); merge its adapter "
     "and save the result: model.merge_and_unload().save_pretrained(DIR)"},
    {"model.language_model.",
     "as those of the text model inside a multimodal one, but config.json is "
     "that of a text model; save the text model by itself"},
    {"language_model.",
     "as those of the text model inside a multimodal one, but config.json is "
     "that of a text model; save the text model by itself"},
};

// Parts of the names of an adapter's tensors beside the layer it changes
// (PEFT's LoRA, DoRA and kin; the layer itself becomes "base_layer").
constexpr std::string_view kAdapterParts[] = {
    ".lora_A.",         ".lora_B.",          ".lora_embedding_A",
    ".lora_embedding_B", ".lora_magnitude_vector", ".base_layer.",
    ".hada_w1_a",       ".lokr_w1",          ".oft_r",
    ".vera_lambda_b",   ".ia3_l"};

bool HasExtension(const std::string& path,
                  std::span<const std::string_view> extensions) {
  return std::ranges::count(extensions, fs::path(path).extension()) > 0;
}

bool IsIndex(const std::string& path) {
  return path.ends_with(kSafetensorsIndex) || path.ends_with(kPickleIndex);
}

// Also false where the file system cannot tell: opening says why.
bool Exists(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

bool IsDirectory(const std::string& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

std::string Beside(const std::string& directory, std::string_view name) {
  return (fs::path(directory) / name).string();
}

// File names in `directory`, sorted.
std::vector<std::string> List(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (fs::directory_iterator it(directory, ignored), end; it != end;
       it.increment(ignored)) {
    names.push_back(it->path().filename().string());
  }
  std::ranges::sort(names);
  return names;
}

// "found: a, b, c" for messages; a directory may hold anything.
std::string Found(std::vector<std::string> names) {
  constexpr size_t kMost = 12;
  const size_t count = names.size();
  if (count == 0) return "it is empty";
  if (count > kMost) names.resize(kMost);
  for (std::string& name : names) name = ReplaceInvalidUtf8(name);
  std::string text = fmt::format("found: {}", fmt::join(names, ", "));
  if (count > kMost) text += fmt::format(" and {} more", count - kMost);
  return text;
}

Error FormatNotSupported(const std::string& path) {
  return Error(
      "{}: File format not supported: use .safetensors. Convert with "
      "transformers: AutoModelForCausalLM.from_pretrained(…)"
      ".save_pretrained(\"DIR\", safe_serialization=True), then give DIR",
      path);
}

Error AdapterOnly(const std::string& directory) {
  return Error(
      "{}: is an adapter (PEFT: {}), not a model. Merge it into its base model "
      "and save the result: AutoPeftModelForCausalLM.from_pretrained(DIR)"
      ".merge_and_unload().save_pretrained(…), then give that directory",
      directory, kAdapterConfig);
}

// The weight file or shard index that `directory` holds.
std::string FindWeights(const std::string& directory) {
  for (const std::string_view name : kWeightNames) {
    const std::string path = Beside(directory, name);
    if (Exists(path)) return path;
  }
  const std::vector<std::string> names = List(directory);
  if (Exists(Beside(directory, kAdapterConfig))) throw AdapterOnly(directory);
  for (const std::string& name : names) {
    if (HasExtension(name, kOtherFormats)) {
      throw FormatNotSupported(Beside(directory, name));
    }
  }
  throw Error(
      "{}: no weights: expected {}; {}. A weight file of another name must be "
      "given itself",
      directory, fmt::join(kWeightNames, " or "), Found(names));
}

// A file given in place of a directory.
void CheckWeightFile(const std::string& path) {
  if (IsIndex(path)) return;
  if (!path.ends_with(kSafetensorsExtension) &&
      !HasExtension(path, kPickleExtensions)) {
    if (HasExtension(path, kOtherFormats)) throw FormatNotSupported(path);
    throw Error(
        "{}: File format not supported: expected a directory with {} and "
        "weights, or a .safetensors, {} file",
        path, kConfig, fmt::join(kPickleExtensions, ", "));
  }
  const fs::path file(path);
  const bool shard = file.filename().string().find("-of-") != std::string::npos;
  if (shard && (Exists(file.parent_path() / kSafetensorsIndex) ||
                Exists(file.parent_path() / kPickleIndex))) {
    throw Error("{}: is one shard of several; give its directory instead",
                path);
  }
}

nlohmann::json ReadConfig(const std::string& directory) {
  const std::string path = Beside(directory, kConfig);
  if (!Exists(path)) {
    if (Exists(Beside(directory, kAdapterConfig))) throw AdapterOnly(directory);
    throw Error(
        "{}: no {}: expected the directory that save_pretrained wrote; {}",
        directory, kConfig, Found(List(directory)));
  }
  return ReadJsonFile(path);
}

// A shard must lie beside the index: the index may come from anyone.
void CheckShardName(const std::string& name, const std::string& index_path) {
  const std::string_view extension = index_path.ends_with(kSafetensorsIndex)
                                         ? kSafetensorsExtension
                                         : kPickleExtensions[0];
  if (name.find_first_of("/\\") != std::string::npos ||
      name.find('\0') != std::string::npos || !name.ends_with(extension)) {
    throw Error("{}: bad shard name {}: expected a {} file beside it",
                index_path, Quote(name), extension);
  }
}

using WeightMap = std::map<std::string, std::string>;  // tensor -> shard

WeightMap ReadIndex(const std::string& path) {
  const nlohmann::json index = ReadJsonFile(path);
  const auto found = index.find("weight_map");
  if (found == index.end() || !found->is_object() || found->empty()) {
    throw Error("{}: no \"weight_map\" from tensor names to shards", path);
  }
  WeightMap map;
  for (const auto& [tensor, shard] : found->items()) {
    if (!shard.is_string()) {
      throw Error("{}: the shard of {} is a JSON {}, expected a file name",
                  path, Quote(tensor), shard.type_name());
    }
    const auto& name = shard.get_ref<const std::string&>();
    CheckShardName(name, path);
    map[tensor] = name;
  }
  return map;
}

// Without kWrappers, wherever they stand.
std::string WithoutWrappers(std::string_view name) {
  std::string rest;
  while (!name.empty()) {
    const auto* wrapper = std::ranges::find_if(
        kWrappers, [&](std::string_view each) { return name.starts_with(each); });
    if (wrapper != std::end(kWrappers)) {
      name.remove_prefix(wrapper->size());
      continue;
    }
    const size_t end = std::min(name.find('.'), name.size() - 1) + 1;
    rest += name.substr(0, end);
    name.remove_prefix(end);
  }
  return rest;
}

std::string Unwrap(std::string_view name, const Wrapping& wrapping) {
  if (name.starts_with(wrapping.strip)) {
    name.remove_prefix(wrapping.strip.size());
  }
  const bool add = wrapping.add_model && !name.starts_with(kHead) &&
                   !name.starts_with(kModel);
  return fmt::format("{}{}", add ? kModel : "", name);
}

// A few of `names`, for messages.
std::string Some(std::vector<std::string> names) {
  constexpr size_t kMost = 3;
  const size_t count = names.size();
  if (count > kMost) names.resize(kMost);
  for (std::string& name : names) name = Quote(name);
  return fmt::format("{}{}", fmt::join(names, ", "),
                     count > kMost ? fmt::format(" and {} more", count - kMost)
                                   : "");
}

}  // namespace

Checkpoint Checkpoint::Open(const std::string& path) {
  if (!Exists(path)) {
    throw Error(
        "{}: no such file or directory; expected a checkpoint directory on "
        "this machine (model names are not downloaded)",
        path);
  }
  Checkpoint result;
  if (IsDirectory(path)) {
    result.directory_ = path;
  } else {
    CheckWeightFile(path);
    const fs::path parent = fs::path(path).parent_path();
    result.directory_ = parent.empty() ? std::string(".") : parent.string();
  }
  const nlohmann::json config = ReadConfig(result.directory_);
  const std::string config_path = Beside(result.directory_, kConfig);
  RefuseQuantizedConfig(config, config_path);
  result.config_ = ParseModelConfig(config, config_path);
  result.notes_ = result.config_.notes;
  result.weights_path_ =
      IsDirectory(path) ? FindWeights(result.directory_) : path;
  if (IsIndex(result.weights_path_)) {
    result.AddShards(result.weights_path_);
  } else {
    const Content content = result.OpenFile(result.weights_path_);
    result.tensors_ = content.tensors;
    result.other_tensors_ = content.other_tensors;
  }
  result.RefuseQuantized();
  result.UnwrapNames();
  result.ReadLoneHeadAsEmbedding();
  result.ChooseNames();
  result.NoteMissing();
  result.NoteAdapterBeside();
  return result;
}

Checkpoint::Content Checkpoint::OpenFile(const std::string& path) {
  if (path.ends_with(kSafetensorsExtension)) {
    const SafetensorsFile& file =
        safetensors_.emplace_back(SafetensorsFile::Open(path));
    return {file.tensors(), file.other_tensors()};
  }
  const PytorchFile& file = pickles_.emplace_back(PytorchFile::Open(path));
  return {file.tensors(), file.other_tensors()};
}

void Checkpoint::AddShards(const std::string& index_path) {
  const WeightMap map = ReadIndex(index_path);
  const std::string index = fs::path(index_path).filename().string();
  std::map<std::string, Content> opened;  // by shard
  for (const auto& [tensor, shard] : map) {
    const std::string path = Beside(directory_, shard);
    if (!opened.contains(shard) && !Exists(path)) {
      missing_shard_[tensor] = shard;
      continue;
    }
    if (!opened.contains(shard)) opened.emplace(shard, OpenFile(path));
    const Content& content = opened.at(shard);
    if (const auto found = content.tensors.find(tensor);
        found != content.tensors.end()) {
      tensors_[tensor] = found->second;
    } else if (const auto other = content.other_tensors.find(tensor);
               other != content.other_tensors.end()) {
      other_tensors_[tensor] = other->second;
    } else {
      not_in_shard_.push_back(tensor);
    }
  }
  if (opened.empty()) {
    throw Error("{}: missing: {} says that it holds {}",
                Beside(directory_, map.begin()->second), index,
                Quote(map.begin()->first));
  }
}

void Checkpoint::RefuseQuantized() const {
  OtherTensors dtypes = other_tensors_;
  for (const auto& [name, tensor] : tensors_) {
    dtypes[name] = NameOf(tensor.dtype);
  }
  RefuseQuantizedTensors(dtypes, weights_path_);
}

void Checkpoint::UnwrapNames() {
  const auto rename_all = [&](const auto& rename) {
    const auto rename_in = [&](auto& map) {
      std::remove_reference_t<decltype(map)> renamed;
      for (const auto& [name, value] : map) {
        const std::string unwrapped = rename(name);
        if (!renamed.emplace(unwrapped, value).second) {
          throw Error("{}: more than one tensor could be {}", weights_path_,
                      Quote(unwrapped));
        }
      }
      map = std::move(renamed);
    };
    rename_in(tensors_);
    rename_in(other_tensors_);
    rename_in(missing_shard_);
  };
  rename_all(WithoutWrappers);
  // A model saved without its embedding, which its head is, is told by its last
  // norm.
  for (const std::string_view anchor : {kEmbedding, kLastNorm}) {
    const Wrapping* found = nullptr;
    for (const Wrapping& wrapping : kWrappings) {
      const std::string name =
          fmt::format("{}{}", wrapping.before_embedding, anchor);
      if (!tensors_.contains(name) && !other_tensors_.contains(name)) continue;
      if (found) {
        throw Error(
            "{}: has both {}{} and {}: it is not clear which is the model's",
            weights_path_, found->before_embedding, anchor, name);
      }
      found = &wrapping;
    }
    if (found == nullptr) continue;
    rename_all([&](std::string_view name) { return Unwrap(name, *found); });
    return;
  }
  if (Has("tok_embeddings.weight")) {
    throw Error(
        "{}: names tensors as Meta's own files do; convert it to the Hugging "
        "Face format first (transformers' convert_llama_weights_to_hf.py)",
        weights_path_);
  }
  // Whoever needs a tensor says which one is missing.
}

// PreTrainedModel.tie_weights: "if the source is missing while the target
// exists, we swap".
void Checkpoint::ReadLoneHeadAsEmbedding() {
  if (!config_.tie_word_embeddings) return;
  if (!FindFamily(config_.model_type)->of_transformers) return;
  struct Pair {
    std::string embedding;
    std::string head;
  };
  std::vector<Pair> pairs;
  for (const WeightNames& names : WeightNamesOf(config_)) {
    pairs.push_back(
        {names.Of({Part::kEmbedding}), names.Of({Part::kHead})});
  }
  for (const Pair& pair : pairs) {
    if (missing_shard_.contains(pair.embedding) || Has(pair.embedding)) return;
  }
  for (const Pair& pair : pairs) {
    const auto head = tensors_.find(pair.head);
    if (head == tensors_.end()) continue;
    tensors_[pair.embedding] = head->second;
    tensors_.erase(pair.head);
    notes_.push_back(fmt::format(
        "the checkpoint holds {} alone, and {} ties the embedding to it: one "
        "tensor is both, as in transformers",
        pair.head, kConfig));
    return;
  }
}

// The last of the family's that the embedding has; the usual ones without.
void Checkpoint::ChooseNames() {
  for (WeightNames& names : WeightNamesOf(config_)) {
    const std::string embedding = names.Of({Part::kEmbedding});
    if (!names_ || tensors_.contains(embedding) ||
        other_tensors_.contains(embedding) ||
        missing_shard_.contains(embedding)) {
      names_ = std::move(names);
    }
  }
}

void Checkpoint::NoteMissing() {
  const std::string index = fs::path(weights_path_).filename().string();
  if (!not_in_shard_.empty()) {
    notes_.push_back(fmt::format(
        "{} names {}, which the shard it names does not hold; the model that "
        "{} describes does without",
        index, Some(not_in_shard_), kConfig));
  }
  std::vector<std::string> names;
  for (const auto& [name, shard] : missing_shard_) names.push_back(name);
  if (names.empty()) return;
  notes_.push_back(fmt::format(
      "{} names {} in {}, which is missing; the model that {} describes does "
      "without",
      index, Some(names), Quote(missing_shard_.begin()->second), kConfig));
}

void Checkpoint::NoteAdapterBeside() {
  if (!Exists(Beside(directory_, kAdapterConfig))) return;
  notes_.push_back(fmt::format(
      "{} lies beside the weights: transformers with PEFT loads that adapter, "
      "too; compared is the model without it. If the file was converted with "
      "it, merge it first (merge_and_unload) and give the result",
      kAdapterConfig));
}

// Says what is there instead.
Error Checkpoint::Missing(const std::string& name,
                          std::span<const int64_t> expected) const {
  if (const auto shard = missing_shard_.find(name);
      shard != missing_shard_.end()) {
    return Error("{}: missing: {} says that it holds {}",
                 Beside(directory_, shard->second),
                 fs::path(weights_path_).filename().string(), Quote(name));
  }
  if (std::ranges::count(not_in_shard_, name) > 0) {
    return Error("{}: names tensor {}, but the shard that it names does not "
                 "hold it",
                 weights_path_, Quote(name));
  }
  std::vector<std::string> names;
  for (const auto& [there, tensor] : tensors_) names.push_back(there);
  for (const auto& there : names) {
    for (const std::string_view part : kAdapterParts) {
      if (there.find(part) == std::string::npos) continue;
      return Error(
          "{}: no tensor \"{}\": it holds an adapter that is not merged "
          "(PEFT: {}). Merge it and save the result: "
          "model.merge_and_unload().save_pretrained(DIR)",
          weights_path_, name, Quote(there));
    }
  }
  for (const Foreign& foreign : kForeign) {
    const auto is_so = [&](const std::string& each) {
      return each.starts_with(foreign.prefix);
    };
    const auto found = std::ranges::find_if(names, is_so);
    if (found == names.end()) continue;
    return Error("{}: no tensor \"{}\": {} of {} names begin with \"{}\", {}",
                 weights_path_, name, std::ranges::count_if(names, is_so),
                 names.size(), foreign.prefix, foreign.what);
  }
  return Error(
      "{}: no tensor \"{}\" of shape {}, which {} implies; the file has {} "
      "tensors{}",
      weights_path_, name, ShapeToString(expected), kConfig, names.size(),
      names.empty() ? "" : ": " + Some(names));
}

const TensorView& Checkpoint::Get(const std::string& name,
                                  std::initializer_list<int64_t> shape) const {
  const std::span<const int64_t> expected(shape.begin(), shape.size());
  if (const auto other = other_tensors_.find(name);
      other != other_tensors_.end()) {
    throw Error(
        "{}: tensor \"{}\" has dtype {}, expected F64, F32, F16 or BF16 (a "
        "quantized checkpoint cannot be the reference: use the original)",
        weights_path_, name, other->second);
  }
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) throw Missing(name, expected);
  if (!std::ranges::equal(found->second.shape, expected)) {
    throw Error("{}: tensor \"{}\" has shape {}, {} implies {}", weights_path_,
                name, ShapeToString(found->second.shape), kConfig,
                ShapeToString(expected));
  }
  return found->second;
}

bool Checkpoint::Has(const std::string& name) const {
  if (missing_shard_.contains(name)) throw Missing(name, {});
  return tensors_.contains(name) || other_tensors_.contains(name);
}

}  // namespace verify_tflite
