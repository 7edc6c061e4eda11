#include "candidate/model.h"

#include <span>
#include <utility>

#include "base/error.h"
#include "candidate/bundle.h"
#include "candidate/graph.h"
#include "candidate/model_impl.h"

namespace verify_tflite {
namespace {

// A TFLite flatbuffer carries its identifier behind the root offset.
constexpr std::string_view kIdentifier = "TFL3";
constexpr size_t kIdentifierOffset = 4;

// What users take for a .tflite file, by its first bytes.
constexpr std::pair<std::string_view, std::string_view> kContainers[] = {
    {"PK\x03\x04",
     "a zip archive. If it is a .task bundle, unpack it and name "
     "TF_LITE_PREFILL_DECODE inside"},
    {"version https://git-lfs",
     "a Git LFS pointer. Fetch the file itself with git lfs pull"},
};

void CheckIdentifier(std::span<const std::byte> model,
                     const std::string& path) {
  const std::string_view bytes(reinterpret_cast<const char*>(model.data()),
                               model.size());
  if (bytes.size() > kIdentifierOffset &&
      bytes.substr(kIdentifierOffset).starts_with(kIdentifier)) {
    return;
  }
  for (const auto& [magic, what] : kContainers) {
    if (bytes.starts_with(magic)) {
      throw Error("{}: is no .tflite file but {}", path, what);
    }
  }
  throw Error("{}: is no .tflite file: expected \"{}\" at byte {}", path,
              kIdentifier, kIdentifierOffset);
}

// The bytes of the .tflite within the file, all of them or a bundle's section.
std::span<const std::byte> ModelBytes(Model::Impl& impl) {
  const auto file = impl.file.bytes();
  if (!Bundle::IsBundle(file)) return file;
  impl.bundle = Bundle::Read(file, impl.file.path());
  return impl.bundle->PrefillDecode().bytes;
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
const Bundle* Model::bundle() const {
  return impl_->bundle ? &*impl_->bundle : nullptr;
}

Model Model::Open(const std::string& path) {
  auto impl = std::make_unique<Impl>(path);
  const std::span<const std::byte> bytes = ModelBytes(*impl);
  CheckIdentifier(bytes, path);
  // From memory only: unlike this one, LiteRtCreateModelFromFile and -FromFd do
  // not verify the flatbuffer and crash on truncated files.
  const auto& lib = Runtime::Get();
  Call(path + ": the file is damaged or incomplete",
       lib.LiteRtCreateModelFromBuffer, lib.environment, bytes.data(),
       bytes.size(), impl->handle.receive());
  const LiteRtModel model = impl->handle.get();
  impl->signatures = Interpret(path, ReadSignatures(path, model));
  impl->info = InfoOf(impl->signatures, ReadWeightBytes(path, model));
  return Model(std::move(impl));
}

}  // namespace verify_tflite
