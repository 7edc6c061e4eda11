// The converted model's file: its signatures and what they mean.
#ifndef VERIFY_TFLITE_CANDIDATE_MODEL_H_
#define VERIFY_TFLITE_CANDIDATE_MODEL_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace verify_tflite {

class Bundle;

// How the weights are stored: what decides how near to PyTorch the file can be.
enum class Recipe { kFloat32, kFloat16, kInt8, kInt4 };
std::string_view NameOf(Recipe recipe);  // "float32", …

// One `prefill` or `prefill_N` signature.
struct PrefillInfo {
  std::string name;
  int64_t length = 0;      // N
  int64_t logit_rows = 0;  // 0: no logits; N: one row a token; 1: last row
};

struct ModelInfo {
  std::vector<PrefillInfo> prefills;  // by descending length, at least one
  std::vector<std::string> ignored_signatures;  // neither prefill nor decode
  int64_t num_layers = 0;
  int64_t kv_length = 0;  // positions the KV cache can hold
  int64_t vocab_size = 0;
  bool mask_input = false;
  Recipe recipe = Recipe::kFloat32;
  // Bytes of constants by element type ("FLOAT32", "INT8", "INT4", …).
  std::map<std::string, int64_t> weight_bytes;
  int64_t kv_bytes = 0;  // of one zeroed set of KV caches
};

// Movable. Opening compiles nothing and takes milliseconds.
class Model {
 public:
  struct Impl;  // of use to this room alone

  // Maps `path`, a .tflite or a .litertlm bundle of one, has the runtime verify
  // it and reads the signatures. Throws Error when it is neither, is damaged,
  // is not an LLM (no prefill or decode signature), needs inputs this tool does
  // not know, or when libLiteRt.so cannot be loaded (the message names the
  // package to install).
  static Model Open(const std::string& path);
  ~Model();
  Model(Model&&) noexcept;
  Model& operator=(Model&&) noexcept;

  const std::string& path() const;
  const ModelInfo& info() const;
  // What is packed around the model, nullptr for a .tflite alone.
  const Bundle* bundle() const;

 private:
  friend class Session;
  explicit Model(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CANDIDATE_MODEL_H_
