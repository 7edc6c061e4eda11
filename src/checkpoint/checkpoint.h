// A PyTorch checkpoint as Hugging Face lays it out: config.json and weights.
#ifndef VERIFY_TFLITE_CHECKPOINT_CHECKPOINT_H_
#define VERIFY_TFLITE_CHECKPOINT_CHECKPOINT_H_

#include <cstdint>
#include <deque>
#include <initializer_list>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "checkpoint/model_config.h"
#include "checkpoint/pytorch_file.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/weight_names.h"

namespace verify_tflite {

// Movable. Weights are mapped, not read, at opening; but for tensors of pickles
// that are not stored row by row (PytorchFile).
class Checkpoint {
 public:
  // `path` is a directory or a weight file with config.json beside it. Weights
  // are the first there is of model.safetensors, the shards that
  // model.safetensors.index.json names, pytorch_model.bin and the shards of
  // pytorch_model.bin.index.json, as transformers looks for them; or the given
  // file (.safetensors; .bin, .pt, .pth and .ckpt of torch.save).
  //
  // Names of a model that was saved wrapped ("module.", "_orig_mod.",
  // "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", a second "model.")
  // or without its head ("embed_tokens.weight") are made those of the whole
  // model; where two names could be meant that is an Error. Where config.json
  // ties embedding and head, either of the two is enough, as in transformers
  // (PreTrainedModel.tie_weights).
  //
  // What an index names and no shard holds is missing when it is asked for, and
  // a note otherwise.
  //
  // Throws Error that says what is missing and what was expected, for quantized
  // checkpoints, and for a weight file of another kind ("File format not
  // supported"), and for adapters that are not merged (PEFT).
  static Checkpoint Open(const std::string& path);

  // The directory that holds config.json, the tokenizer and so on.
  const std::string& directory() const { return directory_; }
  const ModelConfig& config() const { return config_; }
  const WeightNames& names() const { return *names_; }

  // What the reader should know of this checkpoint and what decides nothing:
  // one sentence each.
  const std::vector<std::string>& notes() const { return notes_; }

  // The tensor `name` with exactly `shape`. Throws Error when it is missing,
  // has another shape than the config implies, or a dtype other than F64, F32,
  // F16 and BF16.
  const TensorView& Get(const std::string& name,
                        std::initializer_list<int64_t> shape) const;
  // Whether the checkpoint holds `name`, of whatever dtype. Throws Error where
  // that is not known: the index names it in a shard that is not there.
  bool Has(const std::string& name) const;
  const std::map<std::string, TensorView>& tensors() const { return tensors_; }

 private:
  using Tensors = std::map<std::string, TensorView>;
  using OtherTensors = std::map<std::string, std::string>;  // name -> dtype

  // What a file holds; valid as long as this object.
  struct Content {
    const Tensors& tensors;
    const OtherTensors& other_tensors;
  };

  Content OpenFile(const std::string& path);
  void AddShards(const std::string& index_path);
  void UnwrapNames();
  void ReadLoneHeadAsEmbedding();
  void ChooseNames();
  void NoteAdapterBeside();
  void NoteMissing();
  Error Missing(const std::string& name,
                std::span<const int64_t> expected) const;
  void RefuseQuantized() const;

  std::string directory_;
  std::string weights_path_;  // the file, or the index of the shards
  ModelConfig config_;
  std::optional<WeightNames> names_;
  // A deque keeps the place of what it holds.
  std::deque<SafetensorsFile> safetensors_;
  std::deque<PytorchFile> pickles_;
  Tensors tensors_;
  OtherTensors other_tensors_;
  std::map<std::string, std::string> missing_shard_;  // by tensor; as the index
  std::vector<std::string> not_in_shard_;  // named by the index, in no shard
  std::vector<std::string> notes_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CHECKPOINT_CHECKPOINT_H_
