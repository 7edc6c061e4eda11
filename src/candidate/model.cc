#include "candidate/model.h"

#include <utility>

#include "base/error.h"
#include "candidate/graph.h"
#include "candidate/model_impl.h"

namespace verify_tflite {
namespace {

// A TFLite flatbuffer carries its identifier behind the root offset.
constexpr std::string_view kIdentifier = "TFL3";
constexpr size_t kIdentifierOffset = 4;

// What users take for a .tflite file, by its first bytes.
constexpr std::pair<std::string_view, std::string_view> kContainers[] = {
    {"LITERTLM",
     "a .litertlm bundle. Export the .tflite file alone (litert-torch "
     "export_hf --bundle_litert_lm=False)"},
    {"PK\x03\x04",
     "a zip archive. If it is a .task bundle, unpack it and name "
     "TF_LITE_PREFILL_DECODE inside"},
    {"version https://git-lfs",
     "a Git LFS pointer. Fetch the file itself with git lfs pull"},
};

void CheckIdentifier(const MappedFile& file) {
  const std::string_view bytes(
      reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  if (bytes.size() > kIdentifierOffset &&
      bytes.substr(kIdentifierOffset).starts_with(kIdentifier)) {
    return;
  }
  for (const auto& [magic, what] : kContainers) {
    if (bytes.starts_with(magic)) {
      throw Error("{}: is no .tflite file but {}", file.path(), what);
    }
  }
  throw Error("{}: is no .tflite file: expected \"{}\" at byte {}", file.path(),
              kIdentifier, kIdentifierOffset);
}

ModelInfo InfoOf(const LlmSignatures& signatures,
                 const std::map<LiteRtElementType, int64_t>& weight_bytes) {
  ModelInfo info;
  for (const LlmSignature& prefill : signatures.prefills) {
    info.prefills.push_back({.name = prefill.spec.name,
                             .length = prefill.length,
                             .logit_rows = prefill.logit_rows});
  }
  info.ignored_signatures = signatures.ignored;
  info.num_layers = signatures.num_layers;
  info.kv_length = signatures.kv_length;
  info.vocab_size = signatures.vocab_size;
  info.mask_input = signatures.mask_input;
  info.recipe = RecipeOf(weight_bytes);
  for (const auto& [type, bytes] : weight_bytes) {
    info.weight_bytes[ElementTypeName(type)] += bytes;
  }
  for (const TensorSpec& cache : signatures.kv_caches) {
    info.kv_bytes += ByteSize(cache);
  }
  return info;
}

}  // namespace

std::string_view NameOf(Recipe recipe) {
  switch (recipe) {
    case Recipe::kFloat32:
      return "float32";
    case Recipe::kFloat16:
      return "float16";
    case Recipe::kInt8:
      return "int8";
    case Recipe::kInt4:
      return "int4";
  }
  return "unknown";
}

Model::Model(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Model::~Model() = default;
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;

const std::string& Model::path() const { return impl_->file.path(); }
const ModelInfo& Model::info() const { return impl_->info; }

Model Model::Open(const std::string& path) {
  auto impl = std::make_unique<Impl>(path);
  CheckIdentifier(impl->file);
  // From memory only: unlike this one, LiteRtCreateModelFromFile and -FromFd do
  // not verify the flatbuffer and crash on truncated files.
  const auto& lib = Runtime::Get();
  Call(path + ": the file is damaged or incomplete",
       lib.LiteRtCreateModelFromBuffer, lib.environment,
       impl->file.bytes().data(), impl->file.bytes().size(),
       impl->handle.receive());
  const LiteRtModel model = impl->handle.get();
  impl->signatures = Interpret(path, ReadSignatures(path, model));
  impl->info = InfoOf(impl->signatures, ReadWeightBytes(path, model));
  return Model(std::move(impl));
}

}  // namespace verify_tflite
