#include "audit/audit_file.h"

#include <filesystem>
#include <string_view>

#include "base/error.h"
#include "base/no_file.h"
#include "candidate/bundle.h"
#include "candidate/tflite_file.h"

namespace verify_tflite {
namespace {

// "dir/embedder.tflite" of "dir/model.tflite", as the converter names them.
std::string EmbedderBeside(const std::string& path) {
  constexpr std::string_view kModel = "model";
  const std::filesystem::path file(path);
  std::string name = file.filename();
  if (!name.starts_with(kModel)) return "";
  name.replace(0, kModel.size(), "embedder");
  return file.parent_path() / name;
}

}  // namespace

AuditInputs OpenAuditInputs(const std::string& path) {
  AuditInputs inputs;
  const auto& file = inputs.files.emplace_back(path);
  RefuseNoFile(file.bytes(), path);
  if (const auto bundle = Bundle::Open(file)) {
    inputs.parts.push_back(
        {bundle->PrefillDecode().bytes, path + ": the model's section", true});
    for (const char* type : {"embedder", "per_layer_embedder"}) {
      if (const BundleSection* embedder = bundle->Embedder(type)) {
        inputs.parts.push_back(
            {embedder->bytes, path + ": the embedder's section", true});
      }
    }
    return inputs;
  }
  if (!IsTflite(file.bytes())) {
    throw Error("{}: is neither a .tflite nor a .litertlm or .task file", path);
  }
  inputs.parts.push_back({file.bytes(), path, true});
  const std::string beside = EmbedderBeside(path);
  std::error_code ignored;
  if (!beside.empty() && std::filesystem::exists(beside, ignored)) {
    const auto& embedder = inputs.files.emplace_back(beside);
    inputs.parts.push_back({embedder.bytes(), beside, true});
  }
  return inputs;
}

WeightAudit AuditFile(const std::string& path, const Checkpoint& checkpoint,
                      int num_threads) {
  const AuditInputs inputs = OpenAuditInputs(path);
  return AuditWeights(inputs.parts, checkpoint, num_threads);
}

}  // namespace verify_tflite
