#include "candidate/embedding.h"

#include <algorithm>

#include "base/error.h"
#include "candidate/signature_inputs.h"

namespace verify_tflite {
namespace {

const EmbedderSignature& SignatureFor(const Embedder& embedder,
                                      int64_t length) {
  for (const int64_t wanted : {length, int64_t{1}}) {
    for (const EmbedderSignature& signature : embedder.signatures) {
      if (signature.length == wanted) return signature;
    }
  }
  throw Error(
      "{}: no signature embeds {} tokens or a single one. Was the file "
      "converted together with the model?",
      embedder.name, length);
}

}  // namespace

Embedding::Embedding(const Embedder& embedder, std::span<const int64_t> lengths,
                     int num_threads)
    : embedder_(&embedder) {
  std::vector<const EmbedderSignature*> used;
  for (const int64_t length : lengths) {
    const EmbedderSignature* signature = &SignatureFor(embedder, length);
    if (std::find(used.begin(), used.end(), signature) == used.end()) {
      used.push_back(signature);
    }
  }
  std::vector<std::string> names;
  for (const auto* signature : used) names.push_back(signature->spec.name);
  compiled_ = CompileOrExplain(embedder.name, embedder.handle.get(), names,
                               {.num_threads = num_threads});
  for (const auto* signature : used) {
    CheckOutputShapes(compiled_.get(), signature->origin, signature->spec);
    bound_.push_back(
        {.signature = signature,
         .tokens = HostBuffer(signature->spec.inputs[0], signature->origin),
         .embedded =
             HostBuffer(signature->spec.outputs[0], signature->origin)});
  }
}

Embedding::Bound& Embedding::BoundFor(int64_t length) {
  const EmbedderSignature* signature = &SignatureFor(*embedder_, length);
  for (Bound& bound : bound_) {
    if (bound.signature == signature) return bound;
  }
  throw Error("{}: was not compiled for this session", signature->origin);
}

void Embedding::Run(Bound& bound, std::span<const int32_t> tokens,
                    std::span<float> embedded) {
  const EmbedderSignature& signature = *bound.signature;
  FillTokens(bound.tokens.As<int32_t>(), tokens);
  std::vector<LiteRtTensorBuffer> inputs = {bound.tokens.handle()};
  std::vector<LiteRtTensorBuffer> outputs = {bound.embedded.handle()};
  RunSignature(compiled_.get(), signature.origin, signature.spec.index, inputs,
               outputs);
  const std::span<float> made = bound.embedded.As<float>();
  if (made.size() != embedded.size()) {
    throw Error(
        "{}: makes {} numbers of {} tokens, the model takes {}. Was the file "
        "converted together with the model?",
        signature.origin, made.size(), signature.length, embedded.size());
  }
  std::copy(made.begin(), made.end(), embedded.begin());
}

void Embedding::Embed(std::span<const int32_t> tokens, int64_t length,
                      std::span<float> embedded) {
  Bound& bound = BoundFor(length);
  const int64_t step = bound.signature->length;
  const size_t width = embedded.size() / static_cast<size_t>(length);
  for (int64_t begin = 0; begin < length; begin += step) {
    const auto at = static_cast<size_t>(begin);
    const auto part =
        tokens.subspan(std::min(at, tokens.size()))
            .first(std::min(static_cast<size_t>(step),
                            tokens.size() - std::min(at, tokens.size())));
    Run(bound, part,
        embedded.subspan(at * width, static_cast<size_t>(step) * width));
  }
}

}  // namespace verify_tflite
