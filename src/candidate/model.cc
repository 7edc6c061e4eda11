#include "candidate/model.h"

#include <utility>

#include "base/error.h"
#include "candidate/graph.h"
#include "candidate/model_impl.h"

namespace verify_tflite {
namespace {

// A TFLite flatbuffer carries its identifier behind the root offset.
void CheckIdentifier(const MappedFile& file) {
  constexpr std::string_view kIdentifier = "TFL3";
  constexpr size_t kOffset = 4;
  const std::string_view bytes(
      reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  if (bytes.size() > kOffset &&
      bytes.substr(kOffset).starts_with(kIdentifier)) {
    return;
  }
  throw Error("{}: is no .tflite file: \"{}\" is missing at byte {}",
              file.path(), kIdentifier, kOffset);
}

ModelInfo InfoOf(const LlmSignatures& signatures,
                 const std::map<LiteRtElementType, int64_t>& weight_bytes) {
  ModelInfo info;
  for (const LlmSignature& prefill : signatures.prefills) {
    info.prefills.push_back({.name = prefill.spec.name,
                             .length = prefill.length,
                             .logit_rows = prefill.logit_rows});
  }
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
  Call(path + ": is damaged or no .tflite file",
       lib.LiteRtCreateModelFromBuffer, lib.environment,
       impl->file.bytes().data(), impl->file.bytes().size(),
       impl->handle.receive());
  const LiteRtModel model = impl->handle.get();
  impl->signatures = Interpret(path, ReadSignatures(path, model));
  impl->info = InfoOf(impl->signatures, ReadWeightBytes(path, model));
  return Model(std::move(impl));
}

}  // namespace verify_tflite
