// The layer that embeds tokens, in a file of its own.
#ifndef VERIFY_TFLITE_CANDIDATE_EMBEDDING_H_
#define VERIFY_TFLITE_CANDIDATE_EMBEDDING_H_

#include <cstdint>
#include <span>
#include <vector>

#include "candidate/compiled_model.h"
#include "candidate/host_buffer.h"
#include "candidate/model_impl.h"

namespace verify_tflite {

class Embedding {
 public:
  // Compiles the signatures of `embedder` for `lengths` tokens: those of just
  // these lengths, and where there is none, the one for a single token.
  // `embedder` must outlive this. Throws Error when it has neither.
  Embedding(const Embedder& embedder, std::span<const int64_t> lengths,
            int num_threads);

  // Embeds `tokens` and then, up to `length` tokens, token 0. `embedded` is
  // [length, …]. Throws Error when the sizes do not fit.
  void Embed(std::span<const int32_t> tokens, int64_t length,
             std::span<float> embedded);

 private:
  struct Bound {
    const EmbedderSignature* signature;
    HostBuffer tokens;
    HostBuffer embedded;
  };

  Bound& BoundFor(int64_t length);
  void Run(Bound& bound, std::span<const int32_t> tokens,
           std::span<float> embedded);

  const Embedder* embedder_;
  CompiledModel compiled_;
  std::vector<Bound> bound_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CANDIDATE_EMBEDDING_H_
