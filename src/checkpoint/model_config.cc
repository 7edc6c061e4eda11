#include "checkpoint/model_config.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "checkpoint/families/family.h"

namespace verify_tflite {

std::optional<int64_t> SlidingWindowOf(const ModelConfig& config) {
  for (const LayerConfig& layer : config.layers) {
    if (layer.window > 0) return layer.window;
  }
  return std::nullopt;
}

int64_t NumKvLayers(const ModelConfig& config) {
  return std::ranges::count_if(config.layers, &LayerConfig::HasKeys);
}

ModelConfig ParseModelConfig(const nlohmann::json& config,
                             const std::string& origin) {
  const ConfigFields fields(config, origin);
  const std::string model_type = fields.Text("model_type", "");
  const Family* family = FindFamily(model_type);
  if (family == nullptr) throw NotSupported(fields, model_type);
  ModelConfig result = family->parse(fields, *family);
  // Of a wrong type it is of no use, and of no harm.
  const nlohmann::json* version = fields.Find("transformers_version");
  if (version != nullptr && version->is_string()) {
    result.transformers_version = *version;
  }
  return result;
}

}  // namespace verify_tflite
