// Recognises checkpoints that are quantized already: they cannot be the
// reference.
#ifndef VERIFY_TFLITE_CHECKPOINT_QUANTIZED_H_
#define VERIFY_TFLITE_CHECKPOINT_QUANTIZED_H_

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace verify_tflite {

// Throws Error that names the kind ("GPTQ") and asks for the original float
// checkpoint when a parsed config.json has a quantization_config.
void RefuseQuantizedConfig(const nlohmann::json& config,
                           const std::string& path);

// The same by names and dtypes ("I32") of a checkpoint's tensors; `path` is the
// weight file or index. Integer buffers that are no weights pass.
void RefuseQuantizedTensors(const std::map<std::string, std::string>& dtypes,
                            const std::string& path);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CHECKPOINT_QUANTIZED_H_
