#include "candidate/embedder_file.h"

#include <filesystem>

namespace verify_tflite {

std::string FileBeside(const std::string& path, std::string_view name) {
  constexpr std::string_view kModel = "model";
  const std::filesystem::path file(path);
  const std::string own = file.filename().string();
  if (!own.starts_with(kModel)) return "";
  return file.parent_path() / (std::string(name) + own.substr(kModel.size()));
}

}  // namespace verify_tflite
