// SPDX-License-Identifier: Apache-2.0
// One teacher-forced pass over several sequences, every weight touched once.
#ifndef VERIFY_TFLITE_REFERENCE_PASS_H_
#define VERIFY_TFLITE_REFERENCE_PASS_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

#include "reference/decoder.h"
#include "reference/linear.h"
#include "reference/reference.h"
#include "reference/sequence.h"
#include "reference/stage.h"

namespace verify_tflite {

class Pass {
 public:
  // `spans`, one for each of `items`, have room for their tokens. All that is
  // given must outlive this; `capture` may be null.
  Pass(const Decoder& decoder, std::span<const Reference::Item> items,
       std::vector<Span> spans, const CaptureFn* capture);

  // Layer by layer, and logits at the end. The sequences have grown by then.
  void Run(const Reference::LogitsFn& on_logits);

 private:
  // Of one layer, a row for each token.
  struct Projections {
    at::Tensor queries, keys, values;
  };

  void SkipProbed();
  at::Tensor Embed() const;
  // Rows of `table`, [rows, numbers of a row], times `scale`.
  at::Tensor LookUp(const TensorView& table, double scale) const;
  void SetPerLayerInputs();
  void SetAngles();
  const RopeAngles* AnglesOf(size_t index) const;

  void RunLayer(size_t index);
  at::Tensor Entering(const NormWeights& norm) const;
  void AddToStream(const at::Tensor& values);
  at::Tensor Attention(const at::Tensor& normed, size_t index) const;
  // In place of attention, with LayerConfig::conv.
  at::Tensor Convolution(const at::Tensor& normed, size_t index) const;
  Projections Project(const at::Tensor& normed, size_t index) const;
  void Turn(size_t index, const at::Tensor& queries,
            const at::Tensor& keys) const;
  at::Tensor HeadNorm(const at::Tensor& rows, int64_t size,
                      const NormWeights& norm) const;
  at::Tensor Mlp(const at::Tensor& hidden, size_t index) const;
  // The same of layers with experts: what all of them give, weighted.
  at::Tensor Experts(const at::Tensor& hidden, size_t index) const;
  // A weight of each for each row, 0 where the row does not take it.
  at::Tensor ExpertWeightsOf(const at::Tensor& hidden, size_t index) const;
  // Add what one expert gives, weighted, to `output`.
  void AddToAllRows(const at::Tensor& hidden, size_t index, int64_t expert,
                    const at::Tensor& weights, at::Tensor& output) const;
  void AddToSomeRows(const at::Tensor& hidden, size_t index, int64_t expert,
                     const at::Tensor& weights, at::Tensor& output) const;
  void Activate(const LayerWeights& layer, at::Tensor& values) const;
  // What the layer makes of its per-layer inputs; `input`, which the gate
  // reads, is that of `stage`.
  at::Tensor PerLayer(const at::Tensor& input, Stage stage, size_t index) const;
  // With num_streams.
  void SetStreams();
  void JoinStreams();
  // Which stages a router's are.
  struct Route {
    Stage input, router, modalities, coefficients;
  };
  // The coefficients that `by`, of the layer's, gives for `values`.
  at::Tensor Coefficients(const at::Tensor& values, const Route& route,
                          const Linear& by, size_t index) const;
  void Predict(size_t index);
  void Correct(size_t index);
  at::Tensor Laurel(const at::Tensor& normed, size_t index) const;
  at::Tensor& active() { return streams_[ActiveIndex()]; }
  size_t ActiveIndex() const {
    return static_cast<size_t>(config_.active_stream);
  }
  void Sparsify(double share, at::Tensor& values) const;
  void Head(const Reference::LogitsFn& on_logits) const;

  // `some`: `input` has other rows than the pass, which nobody looks at.
  void Multiply(Stage stage, int64_t layer, const at::Tensor& input,
                std::initializer_list<LinearTask> tasks,
                bool some = false) const;
  // Of the products that read `input`.
  bool WithoutProbed(Stage input, int64_t layer) const;
  void Prefetch(size_t index) const;

  void Capture(Stage stage, int64_t layer, const at::Tensor& values,
               bool without_probed = false, int64_t expert = -1) const;
  // Of a product's output; `input` is the stage that it reads.
  void CaptureProduct(Stage stage, Stage input, size_t index,
                      const at::Tensor& values, int64_t expert = -1) const;
  void CaptureCached(Stage stage, size_t index,
                     at::Tensor LayerCache::*part) const;
  void CaptureStates(size_t index) const;
  // The layer in whose caches the keys are that this one attends to.
  size_t CacheOf(size_t index) const;
  // Whether no layer behind it attends to its keys.
  bool IsLastReader(size_t index) const;

  const Decoder& decoder_;
  const ModelConfig& config_;
  const Weights& weights_;
  std::span<const Reference::Item> items_;
  std::vector<Span> spans_;
  const CaptureFn* capture_;
  int64_t rows_ = 0;
  at::Tensor hidden_;                // the residual stream, [rows, hidden_size]
  at::Tensor per_layer_inputs_;      // [rows, num_layers * per_layer_size]
  std::vector<at::Tensor> streams_;  // num_streams, as hidden_
  RopeAngles angles_;
  RopeAngles local_angles_;  // if a layer has local_rope
  // Rows of which products are computed; empty: all.
  std::vector<int64_t> computed_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REFERENCE_PASS_H_
