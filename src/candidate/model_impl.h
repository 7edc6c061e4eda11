// What Model hides from its users and shares with Session.
#ifndef VERIFY_TFLITE_CANDIDATE_MODEL_IMPL_H_
#define VERIFY_TFLITE_CANDIDATE_MODEL_IMPL_H_

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "candidate/graph.h"
#include "candidate/model.h"
#include "candidate/runtime.h"
#include "candidate/signatures.h"
#include "tflite/bundle.h"
#include "tflite/signature_faults.h"
#include "tflite/tap_image.h"

namespace verify_tflite {

// A model whose signatures turn tokens into embeddings.
struct Embedder {
  // `part` must outlive this. Throws Error when it is no such model.
  explicit Embedder(const tflite::Part& part);
  // A file of its own.
  explicit Embedder(const std::string& path);

  std::string name;
  std::unique_ptr<tflite::Part> own;
  OwnedModel handle;
  std::vector<SignatureFault> faults;
  std::vector<EmbedderSignature> signatures;  // by descending length

 private:
  void Load(const tflite::Part& part);
};

struct Model::Impl {
  const std::string& path() const { return container->path(); }
  const tflite::File& file() const { return part->file(); }

  std::shared_ptr<const tflite::Container> container;
  const tflite::Part* part = nullptr;  // of it: the model
  Model::OpenOptions options;          // but for taps
  std::vector<tflite::Tap> taps;
  std::optional<tflite::TapImage> tapped;  // with taps: what is loaded instead
  // Behind the memory it lies in, so that it goes first.
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
