// The converted model's file: its signatures and what they mean.
#ifndef VERIFY_TFLITE_CANDIDATE_MODEL_H_
#define VERIFY_TFLITE_CANDIDATE_MODEL_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "result/model_info.h"
#include "tflite/container.h"
#include "tflite/signature_faults.h"
#include "tflite/taps.h"

namespace verify_tflite {

// Movable. Opening compiles nothing and takes milliseconds.
class Model {
 public:
  struct Impl;  // of use to this room alone

  struct OpenOptions {
    // For a file that takes embeddings instead of tokens. Empty: the bundle's
    // own section, or the file
    // beside it that the converter writes with it: "embedder.tflite" beside
    // "model.tflite", "embedder_quantized.tflite" beside
    // "model_quantized.tflite"; "per_layer_embedder…" likewise.
    std::string embedder_path = {};
    std::string per_layer_embedder_path = {};
    // config.json's sliding_window, for a file that takes the mask of the
    // layers with a sliding window as input: it does not hold that number.
    std::optional<int64_t> sliding_window = {};
    // Inner tensors that running a signature shall yield, see Session::Taps:
    // asked for each that can be. What the model computes stays the same, bit
    // for bit.
    tflite::TapFilter taps = {};
    // As PlanTaps (tflite/taps.h) has it; for tests.
    size_t taps_limit = tflite::kFlatbufferLimit;
  };

  // Maps `path`, a .tflite or a bundle of one (.litertlm, .task), has the
  // runtime verify it and reads the signatures. Throws Error when it is
  // neither, is damaged, is not an LLM (no prefill or decode signature), needs
  // inputs this tool does not know, or when libLiteRt.so cannot be loaded (the
  // message names the package to install). Likewise when what the options are
  // for is needed and missing.
  static Model Open(const std::string& path, const OpenOptions& options);
  static Model Open(const std::string& path);
  // The same of files that are mapped, and parsed, already.
  static Model Open(std::shared_ptr<const tflite::Container> container,
                    const OpenOptions& options);
  ~Model();
  Model(Model&&) noexcept;
  Model& operator=(Model&&) noexcept;

  const std::string& path() const;
  // Returns the files that the model lies in, and the model's own part of them.
  const std::shared_ptr<const tflite::Container>& container() const;
  const tflite::File& file() const;
  const ModelInfo& info() const;
  // What is packed around the model, nullptr for a .tflite alone.
  const Bundle* bundle() const;

  // Signatures of the file, or of what embeds tokens for it, that name tensors
  // which their graphs do not take or give. With any, no Session can be
  // created; info() is what the file declares, as far as that makes sense.
  const std::vector<SignatureFault>& signature_faults() const;

  // Returns the same model, opened once more as this one was, with these taps.
  Model WithTaps(tflite::TapFilter taps) const;
  // Returns those that OpenOptions::taps has chosen.
  const std::vector<tflite::Tap>& taps() const;

 private:
  friend class Session;
  friend class PartialGraph;
  static const Impl& ImplOf(const Model& model) { return *model.impl_; }
  explicit Model(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CANDIDATE_MODEL_H_
