#include "checkpoint/checkpoint.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <system_error>

#include "base/error.h"
#include "base/json_file.h"
#include "base/utf8.h"

namespace verify_tflite {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kConfig = "config.json";
constexpr std::string_view kSingleFile = "model.safetensors";
constexpr std::string_view kIndex = "model.safetensors.index.json";
constexpr std::string_view kExtension = ".safetensors";

constexpr std::string_view kOtherFormats[] = {
    ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".onnx", ".msgpack"};

bool IsOtherFormat(const std::string& path) {
  return std::ranges::count(kOtherFormats, fs::path(path).extension()) > 0;
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
  for (const std::string_view name : {kSingleFile, kIndex}) {
    const std::string path = Beside(directory, name);
    if (Exists(path)) return path;
  }
  const std::vector<std::string> names = List(directory);
  const auto other = std::ranges::find_if(names, IsOtherFormat);
  if (other != names.end()) {
    throw FormatNotSupported(Beside(directory, *other));
  }
  throw Error("{}: no weights: expected {} or {}; {}", directory, kSingleFile,
              kIndex, Found(names));
}

// A file given in place of a directory.
void CheckWeightFile(const std::string& path) {
  if (path.ends_with(kIndex)) return;
  if (!path.ends_with(kExtension)) {
    if (IsOtherFormat(path)) throw FormatNotSupported(path);
    throw Error(
        "{}: File format not supported: expected a directory with {} and {}, "
        "or a .safetensors file",
        path, kConfig, kSingleFile);
  }
  const fs::path file(path);
  const bool shard = file.filename().string().find("-of-") != std::string::npos;
  if (shard && Exists(file.parent_path() / kIndex)) {
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
  if (name.find_first_of("/\\") != std::string::npos ||
      name.find('\0') != std::string::npos || !name.ends_with(kExtension)) {
    throw Error("{}: bad shard name {}: expected a .safetensors file beside it",
                index_path, Quote(name));
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
  result.config_ = ParseModelConfig(ReadConfig(result.directory_),
                                    Beside(result.directory_, kConfig));
  result.weights_path_ =
      IsDirectory(path) ? FindWeights(result.directory_) : path;
  if (result.weights_path_.ends_with(kIndex)) {
    result.AddShards(result.weights_path_);
  } else {
    result.AddFile(result.weights_path_);
  }
  return result;
}

void Checkpoint::AddFile(const std::string& path) {
  const SafetensorsFile& file =
      files_.emplace_back(SafetensorsFile::Open(path));
  tensors_.insert(file.tensors().begin(), file.tensors().end());
  other_tensors_.insert(file.other_tensors().begin(),
                        file.other_tensors().end());
}

void Checkpoint::AddShards(const std::string& index_path) {
  const WeightMap map = ReadIndex(index_path);
  std::map<std::string, size_t> opened;  // shard -> index into files_
  for (const auto& [tensor, shard] : map) {
    const std::string path = Beside(directory_, shard);
    if (!opened.contains(shard)) {
      if (!Exists(path)) {
        throw Error("{}: missing: {} says that it holds {}", path, kIndex,
                    Quote(tensor));
      }
      opened[shard] = files_.size();
      files_.push_back(SafetensorsFile::Open(path));
    }
    const SafetensorsFile& file = files_[opened[shard]];
    if (const auto found = file.tensors().find(tensor);
        found != file.tensors().end()) {
      tensors_[tensor] = found->second;
    } else if (const auto other = file.other_tensors().find(tensor);
               other != file.other_tensors().end()) {
      other_tensors_[tensor] = other->second;
    } else {
      throw Error("{}: has no tensor {}, but {} says so", path, Quote(tensor),
                  kIndex);
    }
  }
}

const TensorView& Checkpoint::Get(const std::string& name,
                                  std::initializer_list<int64_t> shape) const {
  const std::span<const int64_t> expected(shape.begin(), shape.size());
  if (const auto other = other_tensors_.find(name);
      other != other_tensors_.end()) {
    throw Error(
        "{}: tensor \"{}\" has dtype {}, expected F32, F16 or BF16 (a "
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
