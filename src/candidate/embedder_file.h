// Where the embedder of a model lies.
#ifndef VERIFY_TFLITE_CANDIDATE_EMBEDDER_FILE_H_
#define VERIFY_TFLITE_CANDIDATE_EMBEDDER_FILE_H_

#include <string>
#include <string_view>

namespace verify_tflite {

// As the converter names files and sections of bundles.
inline constexpr std::string_view kEmbedderName = "embedder";
inline constexpr std::string_view kPerLayerEmbedderName = "per_layer_embedder";

// The file that the converter writes beside `path`:
// "dir/model_quantized.tflite" -> "dir/embedder_quantized.tflite". Empty for a
// file of another name than "model…". Pure.
std::string FileBeside(const std::string& path, std::string_view name);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CANDIDATE_EMBEDDER_FILE_H_
