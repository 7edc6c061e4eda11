// A PyTorch checkpoint as Hugging Face lays it out: config.json and weights.
#ifndef VERIFY_TFLITE_CHECKPOINT_CHECKPOINT_H_
#define VERIFY_TFLITE_CHECKPOINT_CHECKPOINT_H_

#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/model_config.h"
#include "checkpoint/safetensors.h"

namespace verify_tflite {

// Movable. Nothing of the weights is read at opening: they are mapped.
class Checkpoint {
 public:
  // `path` is a directory or a weight file with config.json beside it. Weights
  // are model.safetensors, or the shards that model.safetensors.index.json
  // names, or the given file. Throws Error that says what is missing and what
  // was expected; a weight file of another kind is "File format not supported".
  static Checkpoint Open(const std::string& path);

  // The directory that holds config.json, the tokenizer and so on.
  const std::string& directory() const { return directory_; }
  const ModelConfig& config() const { return config_; }

  // The tensor `name` with exactly `shape`. Throws Error when it is missing,
  // has another shape than the config implies, or a dtype other than F32, F16
  // and BF16.
  const TensorView& Get(const std::string& name,
                        std::initializer_list<int64_t> shape) const;
  // Whether the checkpoint holds `name`, of whatever dtype.
  bool Has(const std::string& name) const;
  const std::map<std::string, TensorView>& tensors() const { return tensors_; }

 private:
  void AddFile(const std::string& path);
  void AddShards(const std::string& index_path);

  std::string directory_;
  std::string weights_path_;  // the file, or the index of the shards
  ModelConfig config_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, TensorView> tensors_;
  std::map<std::string, std::string> other_tensors_;  // name -> dtype
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CHECKPOINT_CHECKPOINT_H_
