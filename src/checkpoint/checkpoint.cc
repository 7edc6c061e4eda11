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
constexpr std::string_view kModel = "model.";
constexpr std::string_view kHead = "lm_head.";

struct Wrapping {
  std::string_view before_embedding;
  std::string_view strip;  // from names that begin so
  bool add_model;          // kModel before names that lack it, but the head's
};

constexpr Wrapping kWrappings[] = {
    {"model.", "", false},  // LlamaForCausalLM and the like
    {"", "", true},         // LlamaModel: without the head
    // DistributedDataParallel
    {"module.model.", "module.", false},
    {"module.", "module.", true},
    // torch.compile
    {"_orig_mod.model.", "_orig_mod.", false},
    {"_orig_mod.", "_orig_mod.", true},
    // A member `model` of a training class (Lightning)
    {"model.model.", "model.", false},
};

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

// The weight file or shard index that `directory` holds.
std::string FindWeights(const std::string& directory) {
  for (const std::string_view name : kWeightNames) {
    const std::string path = Beside(directory, name);
    if (Exists(path)) return path;
  }
  const std::vector<std::string> names = List(directory);
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

std::string Unwrap(const std::string& name, const Wrapping& wrapping) {
  std::string_view rest = name;
  if (rest.starts_with(wrapping.strip)) {
    rest.remove_prefix(wrapping.strip.size());
  }
  const bool add = wrapping.add_model && !rest.starts_with(kHead) &&
                   !rest.starts_with(kModel);
  return fmt::format("{}{}", add ? kModel : "", rest);
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
    if (!opened.contains(shard)) {
      if (!Exists(path)) {
        throw Error("{}: missing: {} says that it holds {}", path, index,
                    Quote(tensor));
      }
      opened.emplace(shard, OpenFile(path));
    }
    const Content& content = opened.at(shard);
    if (const auto found = content.tensors.find(tensor);
        found != content.tensors.end()) {
      tensors_[tensor] = found->second;
    } else if (const auto other = content.other_tensors.find(tensor);
               other != content.other_tensors.end()) {
      other_tensors_[tensor] = other->second;
    } else {
      throw Error("{}: has no tensor {}, but {} says so", path, Quote(tensor),
                  index);
    }
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
  const Wrapping* found = nullptr;
  for (const Wrapping& wrapping : kWrappings) {
    const std::string name =
        fmt::format("{}{}", wrapping.before_embedding, kEmbedding);
    if (!Has(name)) continue;
    if (found) {
      throw Error(
          "{}: has both {}{} and {}: it is not clear which is the model's",
          weights_path_, found->before_embedding, kEmbedding, name);
    }
    found = &wrapping;
  }
  if (!found) {
    if (Has("tok_embeddings.weight")) {
      throw Error(
          "{}: names tensors as Meta's own files do; convert it to the Hugging "
          "Face format first (transformers' convert_llama_weights_to_hf.py)",
          weights_path_);
    }
    return;  // whoever needs a tensor says which one is missing
  }
  const auto unwrap_all = [&](auto& map) {
    std::remove_reference_t<decltype(map)> renamed;
    for (const auto& [name, value] : map) {
      const std::string unwrapped = Unwrap(name, *found);
      if (!renamed.emplace(unwrapped, value).second) {
        throw Error("{}: more than one tensor could be {}", weights_path_,
                    Quote(unwrapped));
      }
    }
    map = std::move(renamed);
  };
  unwrap_all(tensors_);
  unwrap_all(other_tensors_);
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
  if (found == tensors_.end()) {
    throw Error(
        "{}: no tensor \"{}\" of shape {}, which {} implies; the file has {} "
        "tensors",
        weights_path_, name, ShapeToString(expected), kConfig, tensors_.size());
  }
  if (!std::ranges::equal(found->second.shape, expected)) {
    throw Error("{}: tensor \"{}\" has shape {}, {} implies {}", weights_path_,
                name, ShapeToString(found->second.shape), kConfig,
                ShapeToString(expected));
  }
  return found->second;
}

bool Checkpoint::Has(const std::string& name) const {
  return tensors_.contains(name) || other_tensors_.contains(name);
}

}  // namespace verify_tflite
