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
  return std::ranges::count(config.layers, int64_t{-1},
                            &LayerConfig::kv_source);
}

ModelConfig ParseModelConfig(const nlohmann::json& config,
                             const std::string& origin) {
  const ConfigFields fields(config, origin);
  const std::string model_type = fields.Text("model_type", "");
  const Family* family = FindFamily(model_type);
  if (family == nullptr) throw NotSupported(fields, model_type);
  return family->parse(fields, *family);
}

}  // namespace verify_tflite
