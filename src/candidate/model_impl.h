// What Model hides from its users and shares with Session.
#ifndef VERIFY_TFLITE_CANDIDATE_MODEL_IMPL_H_
#define VERIFY_TFLITE_CANDIDATE_MODEL_IMPL_H_

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/mapped_file.h"
#include "candidate/bundle.h"
#include "candidate/graph.h"
#include "candidate/model.h"
#include "candidate/runtime.h"
#include "candidate/signature_faults.h"
#include "candidate/signatures.h"
#include "candidate/tap_image.h"

namespace verify_tflite {

// A model whose signatures turn tokens into embeddings.
struct Embedder {
  // A file of its own, or part of one that outlives this; `name` names it in
  // messages. Throws Error when it is no such model.
  explicit Embedder(const std::string& path);
  Embedder(std::string name, std::span<const std::byte> bytes);

  std::string name;
  std::optional<MappedFile> file;
  OwnedModel handle;
  std::vector<SignatureFault> faults;
  std::vector<EmbedderSignature> signatures;  // by descending length

 private:
  void Load(std::span<const std::byte> bytes);
};

struct Model::Impl {
  explicit Impl(const std::string& path) : file(path) {}

  MappedFile file;
  std::optional<Bundle> bundle;      // what the file is, if not a .tflite
  std::span<const std::byte> bytes;  // of the .tflite, within `file`
  Model::OpenOptions options;  // but for taps
  std::vector<GraphTensor> taps;
  std::optional<TapImage> tapped;  // with taps: what is loaded instead
  // Behind the file it lies in, so that it goes first.
  OwnedModel handle;
  std::vector<SignatureFault> faults;  // of this file and its embedders
  LlmSignatures signatures;
  std::unique_ptr<Embedder> embedder;            // for `embeddings`, or null
  std::unique_ptr<Embedder> per_layer_embedder;  // or null
  int64_t sliding_window = 0;  // for a local mask; 0 if there is none
  ModelInfo info;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CANDIDATE_MODEL_IMPL_H_
