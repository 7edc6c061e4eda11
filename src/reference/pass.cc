// SPDX-License-Identifier: Apache-2.0
#include "reference/pass.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/std.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <set>
#include <utility>

#include "reference/attention.h"
#include "reference/convolution.h"
#include "reference/experts.h"
#include "reference/kernels.h"
#include "reference/norms.h"

namespace verify_tflite {
namespace {

// Logits of so many floats at a time: 64 MB.
constexpr int64_t kMaxLogits = 16 << 20;

// Numbers below this are not worth another thread.
constexpr int64_t kGrain = 1 << 14;

// RunLinear for some rows of `x`; the others' outputs stay as they are.
void RunRows(const WeightReader& reader, const at::Tensor& x,
             std::span<const int64_t> rows, std::span<const LinearTask> tasks,
             int64_t max_dot_rows) {
  const auto copy_rows = [](const float* from, int64_t from_row, float* to,
                            int64_t to_row, int64_t width) {
    std::copy_n(from + from_row * width, width, to + to_row * width);
  };
  const auto count = std::ssize(rows);
  const int64_t inputs = x.size(1);
  std::vector<float> some(static_cast<size_t>(count * inputs));
  for (int64_t i = 0; i < count; ++i) {
    copy_rows(x.const_data_ptr<float>(), rows[static_cast<size_t>(i)],
              some.data(), i, inputs);
  }
  std::vector<LinearTask> compact(tasks.begin(), tasks.end());
  std::deque<std::vector<float>> outputs;
  for (LinearTask& task : compact) {
    outputs.emplace_back(
        static_cast<size_t>(count * task.layer.weight->shape[0]));
    task.out = outputs.back().data();
  }
  RunLinear(reader, {some.data(), count}, compact, max_dot_rows);
  for (size_t t = 0; t < compact.size(); ++t) {
    const int64_t width = compact[t].layer.weight->shape[0];
    for (int64_t i = 0; i < count; ++i) {
      copy_rows(compact[t].out, i, tasks[t].out, rows[static_cast<size_t>(i)],
                width);
    }
  }
}

// Of one row and one expert.
float WeightOf(const at::Tensor& weights, int64_t row, int64_t expert) {
  return weights.const_data_ptr<float>()[row * weights.size(1) + expert];
}

// XIELUActivation of transformers, in place.
void ApplyXielu(const XieluNumbers& numbers, const at::Tensor& values) {
  float* const data = values.mutable_data_ptr<float>();
  at::parallel_for(0, values.numel(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float x = data[i];
      data[i] =
          x > 0 ? numbers.alpha_p * x * x + numbers.beta * x
                : (std::expm1(std::min(x, numbers.eps)) - x) * numbers.alpha_n +
                      numbers.beta * x;
    }
  });
}

// Scales `values`, which a product gave, to be as large as `like`, a number for
// each row: Gemma3nTextModel.
at::Tensor AsLarge(const at::Tensor& values, const at::Tensor& like) {
  const at::Tensor size =
      values.square().mean(-1, /*keepdim=*/true).clamp_min(1e-5).sqrt();
  return values * like / size;
}

}  // namespace

Pass::Pass(const Decoder& decoder, std::span<const Reference::Item> items,
           std::vector<Span> spans, const CaptureFn* capture)
    : decoder_(decoder),
      config_(decoder.config),
      weights_(decoder.weights),
      items_(items),
      spans_(std::move(spans)),
      capture_(capture) {
  for (const Span& span : spans_) rows_ += span.count;
  SkipProbed();
  hidden_ = Embed();
  SetAngles();
}

void Pass::SkipProbed() {
  for (size_t i = 0; i < items_.size(); ++i) {
    for (int64_t row = 0; row < spans_[i].count; ++row) {
      const bool probed =
          row >= items_[i].probed_begin && row < items_[i].probed_end;
      if (!probed) computed_.push_back(spans_[i].row + row);
    }
  }
  if (std::ssize(computed_) == rows_) computed_.clear();
}

at::Tensor Pass::Embed() const {
  return LookUp(*weights_.embedding, config_.embedding_scale);
}

at::Tensor Pass::LookUp(const TensorView& table, double scale_by) const {
  const int64_t size = table.shape[1];
  at::Tensor hidden = Floats(rows_, size);
  float* out = hidden.mutable_data_ptr<float>();
  for (const Reference::Item& item : items_) {
    for (const int32_t token : item.tokens) {
      // get_per_layer_inputs of Gemma3nTextModel.
      const int64_t row =
          config_.num_streams > 0 && token >= table.shape[0] ? 0 : token;
      decoder_.reader.ReadFloats(table, row * size, size, out);
      out += size;
    }
  }
  // Rounded to float32 first, as Gemma's embed_scale.
  const auto scale = static_cast<float>(scale_by);
  return scale == 1 ? hidden : hidden.mul_(scale);
}

// get_per_layer_inputs and project_per_layer_inputs of Gemma4TextModel.
void Pass::SetPerLayerInputs() {
  if (config_.per_layer_size == 0) return;
  const int64_t size = config_.per_layer_size;
  per_layer_inputs_ =
      Floats(rows_, weights_.per_layer_model_projection.weight->shape[0]);
  Multiply(Stage::kEmbedding, -1, hidden_,
           {{weights_.per_layer_model_projection,
             per_layer_inputs_.mutable_data_ptr<float>()}});
  Capture(Stage::kPerLayerModelProjection, -1, per_layer_inputs_);
  const double hidden = static_cast<double>(config_.hidden_size);
  per_layer_inputs_.mul_(static_cast<float>(1 / std::sqrt(hidden)));
  per_layer_inputs_ =
      Norm(decoder_.reader, config_, per_layer_inputs_.view({-1, size}),
           weights_.per_layer_model_norm)
          .view({rows_, -1});
  const auto& alternative = decoder_.options.alternative;
  const bool unscaled = alternative && alternative->per_layer_unscaled;
  per_layer_inputs_.add_(
      LookUp(*weights_.per_layer_embedding,
             unscaled ? 1 : std::sqrt(static_cast<double>(size))));
  per_layer_inputs_.mul_(static_cast<float>(std::sqrt(0.5)));
  Capture(Stage::kPerLayerInputs, -1, per_layer_inputs_);
}

void Pass::SetStreams() {
  if (config_.num_streams == 0) return;
  const at::Tensor size = hidden_.square().mean(-1, /*keepdim=*/true).sqrt();
  streams_ = {hidden_.clone()};
  for (size_t i = 0; i < weights_.stream_projections.size(); ++i) {
    const at::Tensor projected = Floats(rows_, config_.hidden_size);
    Multiply(Stage::kEmbedding, -1, hidden_,
             {{weights_.stream_projections[i],
               projected.mutable_data_ptr<float>()}});
    Capture(Stage::kStreamProjection, static_cast<int64_t>(i), projected);
    streams_.push_back(AsLarge(projected, size));
  }
}

void Pass::JoinStreams() {
  if (streams_.empty()) return;
  const at::Tensor size =
      streams_[0].square().mean(-1, /*keepdim=*/true).sqrt();
  hidden_ = streams_[0].clone();
  for (size_t i = 0; i < weights_.stream_outputs.size(); ++i) {
    const auto number = static_cast<int64_t>(i);
    const at::Tensor& stream = streams_[i + 1];
    Capture(Stage::kStreamInput, number, stream);
    const at::Tensor projected = Floats(rows_, config_.hidden_size);
    Multiply(
        Stage::kStreamInput, -1, stream,
        {{weights_.stream_outputs[i], projected.mutable_data_ptr<float>()}});
    Capture(Stage::kStreamOutput, number, projected);
    hidden_.add_(AsLarge(projected, size));
  }
  hidden_.div_(static_cast<double>(config_.num_streams));
}

// Gemma3nTextAltUp.
at::Tensor Pass::Coefficients(const at::Tensor& values, const Route& route,
                              const Linear& by, size_t index) const {
  const auto number = static_cast<int64_t>(index);
  const LayerWeights& layer = weights_.layers[index];
  const at::Tensor input =
      Norm(decoder_.reader, config_, values, layer.stream_router_norm)
          .mul_(static_cast<float>(1.0 /
                                   static_cast<double>(config_.hidden_size)));
  Capture(route.input, number, input);
  const at::Tensor modalities = Floats(rows_, config_.num_streams);
  Multiply(route.input, number, input,
           {{layer.stream_router, modalities.mutable_data_ptr<float>()}});
  CaptureProduct(route.router, route.input, index, modalities);
  modalities.tanh_();
  Capture(route.modalities, number, modalities);
  at::Tensor coefficients = Floats(rows_, by.weight->shape[0]);
  Multiply(route.modalities, number, modalities,
           {{by, coefficients.mutable_data_ptr<float>()}});
  CaptureProduct(route.coefficients, route.modalities, index, coefficients);
  return coefficients;
}

void Pass::Predict(size_t index) {
  const at::Tensor coefficients = Coefficients(
      active(),
      {Stage::kPredictionInput, Stage::kPredictionRouter,
       Stage::kPredictionModalities, Stage::kPredictionCoefficients},
      weights_.layers[index].prediction, index);
  const std::vector<at::Tensor> before = std::exchange(streams_, {});
  const auto count = static_cast<int64_t>(before.size());
  for (int64_t i = 0; i < count; ++i) {
    at::Tensor sum = before[0] * coefficients.narrow(1, i * count, 1);
    for (int64_t j = 1; j < count; ++j) {
      sum.add_(before[static_cast<size_t>(j)] *
               coefficients.narrow(1, i * count + j, 1));
    }
    streams_.push_back(sum.add_(before[static_cast<size_t>(i)]));
  }
  Capture(Stage::kPrediction, static_cast<int64_t>(index), active());
  hidden_ = active().clone();
}

void Pass::Correct(size_t index) {
  const at::Tensor coefficients = Coefficients(
      hidden_,
      {Stage::kCorrectionInput, Stage::kCorrectionRouter,
       Stage::kCorrectionModalities, Stage::kCorrectionCoefficients},
      weights_.layers[index].correction, index);
  const at::Tensor change = hidden_ - active();
  for (size_t i = 0; i < streams_.size(); ++i) {
    streams_[i].add_(change *
                     coefficients.narrow(1, static_cast<int64_t>(i), 1));
  }
  at::Tensor entry = active().clone();
  if (const TensorView* scale = weights_.layers[index].stream_scale) {
    const at::Tensor factors = Floats(1, config_.hidden_size);
    decoder_.reader.ReadFloats(*scale, 0, config_.hidden_size,
                               factors.mutable_data_ptr<float>());
    entry.mul_(factors);
  }
  Capture(Stage::kPerLayerEntry, static_cast<int64_t>(index), entry);
  const at::Tensor added = PerLayer(entry, Stage::kPerLayerEntry, index);
  for (size_t i = 1; i < streams_.size(); ++i) streams_[i].add_(added);
}

// Gemma3nTextLaurelBlock; without what it is added to.
at::Tensor Pass::Laurel(const at::Tensor& normed, size_t index) const {
  const auto number = static_cast<int64_t>(index);
  const LayerWeights& layer = weights_.layers[index];
  const at::Tensor left = Floats(rows_, config_.laurel_rank);
  Multiply(Stage::kInputNorm, number, normed,
           {{layer.laurel_left, left.mutable_data_ptr<float>()}});
  CaptureProduct(Stage::kLaurelLeft, Stage::kInputNorm, index, left);
  const at::Tensor right = Floats(rows_, config_.hidden_size);
  Multiply(Stage::kLaurelLeft, number, left,
           {{layer.laurel_right, right.mutable_data_ptr<float>()}});
  CaptureProduct(Stage::kLaurelRight, Stage::kLaurelLeft, index, right);
  const at::Tensor output =
      Norm(decoder_.reader, config_, right, layer.laurel_norm);
  Capture(Stage::kLaurelNorm, number, output);
  return output;
}

// Gemma3nTextMLP._gaussian_topk.
void Pass::Sparsify(double share, at::Tensor& values) const {
  if (share == 0) return;
  const at::Tensor factor =
      at::scalar_tensor(2 * static_cast<float>(share) - 1, at::kFloat)
          .erfinv_()
          .mul_(std::sqrt(2.0));
  const at::Tensor mean = values.mean(-1, /*keepdim=*/true);
  const at::Tensor deviation =
      at::std(values, at::IntArrayRef{-1}, /*correction=*/0, /*keepdim=*/true);
  values.sub_(mean + deviation * factor).relu_();
}

// LlamaRotaryEmbedding.
void Pass::SetAngles() {
  at::Tensor positions = at::empty({rows_, 1}, at::kFloat);
  float* out = positions.mutable_data_ptr<float>();
  for (const Span& span : spans_) {
    for (int64_t i = 0; i < span.count; ++i) {
      *out++ = static_cast<float>(span.sequence->length + i);
    }
  }
  const auto rotate = [](const at::Tensor& angles) {
    return RopeAngles{angles.cos(), angles.sin()};
  };
  angles_ = rotate(positions * decoder_.frequencies.usual);
  if (decoder_.frequencies.local.defined()) {
    local_angles_ = rotate(positions * decoder_.frequencies.local);
  }
  for (const Span& span : spans_) {
    if (!span.sequence->long_rope) continue;
    const at::Tensor angles = positions.narrow(0, span.row, span.count) *
                              decoder_.frequencies.long_sequence;
    angles_.cos.narrow(0, span.row, span.count).copy_(angles.cos());
    angles_.sin.narrow(0, span.row, span.count).copy_(angles.sin());
  }
  if (config_.rope_attention_factor != 1) {
    angles_.cos.mul_(config_.rope_attention_factor);
    angles_.sin.mul_(config_.rope_attention_factor);
  }
  if (config_.reversed_rope) {
    angles_.sin.neg_();
    if (local_angles_.sin.defined()) local_angles_.sin.neg_();
  }
}

const RopeAngles* Pass::AnglesOf(size_t index) const {
  const LayerConfig& layer = config_.layers[index];
  if (!layer.rope) return nullptr;
  return layer.local_rope ? &local_angles_ : &angles_;
}

void Pass::Run(const Reference::LogitsFn& on_logits) {
  Capture(Stage::kEmbedding, -1, hidden_);
  if (config_.embedding_norm) {
    hidden_ = Norm(decoder_.reader, config_, hidden_, {.unscaled = true});
  }
  SetPerLayerInputs();
  SetStreams();
  const auto layers = std::ssize(weights_.layers);
  for (int64_t i = 0; i < layers; ++i) {
    Prefetch(static_cast<size_t>(i) + 1);
    const auto index = static_cast<size_t>(i);
    const size_t cache = CacheOf(index);
    for (const Span& span : spans_) {
      if (span.sequence->read_layer && cache == index) {
        span.sequence->ReadLayer(i, span.count);
      }
    }
    RunLayer(index);
    for (const Span& span : spans_) {
      if (span.sequence->read_layer && IsLastReader(index)) {
        span.sequence->ForgetLayer(static_cast<int64_t>(cache));
      }
    }
    if (decoder_.options.progress) {
      decoder_.options.progress("reference: layer", i + 1, layers);
    }
  }
  JoinStreams();
  for (const Span& span : spans_) span.sequence->length += span.count;
  Head(on_logits);
}

// `input` is that of `stage`. What rotations make of it can be looked at, and
// exchanged, on its own: where it is quantised next, the last bits of someone
// else's sums decide about a rounding now and then, of a step of int8 each, and
// the products would agree to 1e-3 at best. That needs one rotation for all.
void Pass::Multiply(Stage stage, int64_t layer, const at::Tensor& input,
                    std::initializer_list<LinearTask> tasks, bool some) const {
  const Timer timer(decoder_.Time(&Reference::Times::linear));
  std::vector<LinearTask> left(tasks);
  // Products that a signature does not compute have weights that are not
  // rotated.
  std::set<std::pair<const Rotation*, const std::vector<float>*>> rotations;
  for (const LinearTask& task : left) {
    if (task.layer.rotation == nullptr) continue;
    rotations.emplace(task.layer.rotation, task.layer.input_scale);
  }
  while (!left.empty()) {
    const auto* rotation = left[0].layer.rotation;
    const auto* scale = left[0].layer.input_scale;
    const auto end = std::stable_partition(
        left.begin(), left.end(), [&](const LinearTask& task) {
          return task.layer.rotation == rotation &&
                 task.layer.input_scale == scale;
        });
    at::Tensor x = input;
    if (rotation != nullptr || scale != nullptr) {
      x = input.clone(at::MemoryFormat::Contiguous);
    }
    const std::span<float> values(x.mutable_data_ptr<float>(),
                                  static_cast<size_t>(x.numel()));
    if (scale != nullptr) ScaleRows(*scale, values);
    if (rotation != nullptr) {
      RotateRows(*rotation, values);
      if (!some && rotations.size() == 1 && RotatedOf(stage))
        Capture(*RotatedOf(stage), layer, x);
    }
    const std::span<const LinearTask> together(left.begin(), end);
    const int64_t max_dot_rows = decoder_.options.max_dot_rows.value_or(
        AvailableKernels()[0].max_dot_rows);
    if (!some && WithoutProbed(stage, layer)) {
      RunRows(decoder_.reader, x, computed_, together, max_dot_rows);
    } else {
      RunLinear(decoder_.reader, {x.const_data_ptr<float>(), x.size(0)},
                together, max_dot_rows);
    }
    left.erase(left.begin(), end);
  }
}

// Falcon's fused product has no rows of query, key and value by themselves.
bool Pass::WithoutProbed(Stage input, int64_t layer) const {
  if (computed_.empty() || layer < 0) return false;
  // Converters fuse the ReLU into the product; what it sets to 0 no sum shows.
  if (input == Stage::kMlpNorm && config_.activation == Activation::kRelu2) {
    return false;
  }
  return input != Stage::kInputNorm ||
         weights_.layers[static_cast<size_t>(layer)].qkv.weight == nullptr;
}

// Each head of each row on its own, or all of a row's together.
at::Tensor Pass::HeadNorm(const at::Tensor& rows, int64_t size,
                          const NormWeights& norm) const {
  if (config_.qk_norm_of_all_heads) {
    return Norm(decoder_.reader, config_, rows, norm);
  }
  if (!norm.exists()) return rows;
  return Norm(decoder_.reader, config_, rows.view({-1, size}), norm)
      .view(rows.sizes());
}

size_t Pass::CacheOf(size_t index) const {
  const int64_t source = config_.layers[index].kv_source;
  return source < 0 ? index : static_cast<size_t>(source);
}

bool Pass::IsLastReader(size_t index) const {
  for (size_t i = index + 1; i < config_.layers.size(); ++i) {
    if (CacheOf(i) == CacheOf(index)) return false;
  }
  return true;
}

// Disk and processor work at the same time.
void Pass::Prefetch(size_t index) const {
  if (index == weights_.layers.size()) {
    decoder_.reader.WillNeed(*weights_.head.weight);
    return;
  }
  const LayerWeights& l = weights_.layers[index];
  for (const Linear& linear :
       {l.qkv, l.q, l.k, l.v, l.o, l.gate, l.up, l.down, l.per_layer_gate,
        l.per_layer_projection, l.laurel_left, l.laurel_right, l.router,
        l.shared_scale, l.conv_input, l.conv_output}) {
    if (linear.weight != nullptr) decoder_.reader.WillNeed(*linear.weight);
  }
}

void Pass::Capture(Stage stage, int64_t layer, const at::Tensor& values,
                   bool without_probed, int64_t expert) const {
  if (capture_ == nullptr) return;
  const at::Tensor rows = values.contiguous();
  (*capture_)({stage,
               layer,
               rows.size(0),
               rows.size(1),
               {static_cast<float*>(rows.mutable_data_ptr()),
                static_cast<size_t>(rows.numel())},
               without_probed,
               expert});
  if (!rows.is_same(values)) values.copy_(rows);
}

void Pass::CaptureProduct(Stage stage, Stage input, size_t index,
                          const at::Tensor& values, int64_t expert) const {
  const auto layer = static_cast<int64_t>(index);
  Capture(stage, layer, values, WithoutProbed(input, layer), expert);
}

// What the caches have of this pass, [rows, kv_heads * head_dim]; and back.
void Pass::CaptureCached(Stage stage, size_t index,
                         at::Tensor LayerCache::*part) const {
  if (capture_ == nullptr) return;
  const int64_t heads = config_.layers[index].num_kv_heads;
  const int64_t size = config_.layers[index].head_dim;
  const at::Tensor all = Floats(rows_, heads * size);
  const auto each = [&](auto copy) {
    for (const Span& span : spans_) {
      copy((span.sequence->layers[index].*part)
               .narrow(1, span.sequence->length, span.count),
           all.narrow(0, span.row, span.count)
               .view({span.count, heads, size})
               .transpose(0, 1));
    }
  };
  each([](at::Tensor cached, at::Tensor rows) { rows.copy_(cached); });
  Capture(stage, static_cast<int64_t>(index), all);
  each([](at::Tensor cached, at::Tensor rows) { cached.copy_(rows); });
}

void Pass::CaptureStates(size_t index) const {
  if (capture_ == nullptr) return;
  const int64_t before = config_.conv_taps - 1;
  const at::Tensor all = Floats(rows_, before * config_.hidden_size);
  for (const Span& span : spans_) {
    all.narrow(0, span.row, span.count)
        .copy_(ConvStates(before, span, span.sequence->layers[index]));
  }
  Capture(Stage::kConvState, static_cast<int64_t>(index), all);
}

// What a block reads: without a norm a copy, which may be written to alone.
at::Tensor Pass::Entering(const NormWeights& norm) const {
  if (!norm.exists() && capture_ != nullptr) return hidden_.clone();
  return Norm(decoder_.reader, config_, hidden_, norm);
}

void Pass::AddToStream(const at::Tensor& values) {
  const double scale = config_.residual_scale;
  hidden_.add_(scale == 1 ? values : values * scale);
}

void Pass::RunLayer(size_t index) {
  const LayerWeights& layer = weights_.layers[index];
  const auto capture = [&](Stage stage, const at::Tensor& values) {
    Capture(stage, static_cast<int64_t>(index), values);
  };
  const auto norm = [&](const at::Tensor& values, const NormWeights& by) {
    return Norm(decoder_.reader, config_, values, by);
  };
  if (config_.num_streams > 0) Predict(index);
  const at::Tensor input = Entering(layer.input_norm);
  capture(Stage::kInputNorm, input);
  at::Tensor laurel;
  if (config_.laurel_rank > 0) laurel = Laurel(input, index);
  const bool conv = config_.layers[index].conv;
  const at::Tensor attention =
      conv ? Convolution(input, index) : Attention(input, index);
  CaptureProduct(Stage::kAttentionOutput,
                 conv ? Stage::kConvGated : Stage::kAttention, index,
                 attention);
  if (config_.parallel_block) {
    const bool shared = !layer.mlp_norm.exists();
    const at::Tensor mlp_input = shared ? input : Entering(layer.mlp_norm);
    if (!shared) capture(Stage::kMlpNorm, mlp_input);
    const at::Tensor output = Mlp(mlp_input, index);
    AddToStream(attention);
    AddToStream(output);
    capture(Stage::kAfterMlp, hidden_);
    return;
  }
  const at::Tensor attended = norm(attention, layer.attention_norm);
  if (config_.sandwich_norms) capture(Stage::kAttentionNorm, attended);
  AddToStream(attended);
  if (laurel.defined()) {
    const auto& alternative = decoder_.options.alternative;
    const bool lost = alternative && alternative->laurel_lost;
    hidden_.add_(lost ? input : input + laurel).div_(std::sqrt(2.0));
  }
  capture(Stage::kAfterAttention, hidden_);
  const at::Tensor mlp_input = Entering(layer.mlp_norm);
  capture(Stage::kMlpNorm, mlp_input);
  const at::Tensor output = config_.layers[index].experts
                                ? Experts(mlp_input, index)
                                : Mlp(mlp_input, index);
  const at::Tensor last = norm(output, layer.output_norm);
  if (config_.sandwich_norms) capture(Stage::kOutputNorm, last);
  AddToStream(last);
  capture(Stage::kAfterMlp, hidden_);
  if (config_.num_streams > 0) return Correct(index);
  if (config_.per_layer_size > 0) {
    hidden_.add_(PerLayer(hidden_, Stage::kAfterMlp, index));
    capture(Stage::kAfterPerLayer, hidden_);
  }
  if (layer.scalar == nullptr) return;
  float scalar = 1;
  decoder_.reader.ReadFloats(*layer.scalar, 0, 1, &scalar);
  hidden_.mul_(scalar);
  capture(Stage::kLayerOutput, hidden_);
}

at::Tensor Pass::PerLayer(const at::Tensor& input, Stage stage,
                          size_t index) const {
  const LayerWeights& layer = weights_.layers[index];
  const auto number = static_cast<int64_t>(index);
  const int64_t size = config_.per_layer_size;
  at::Tensor inner = Floats(rows_, size);
  Multiply(stage, number, input,
           {{layer.per_layer_gate, inner.mutable_data_ptr<float>()}});
  CaptureProduct(Stage::kPerLayerGate, stage, index, inner);
  Activate(layer, inner);
  inner.mul_(per_layer_inputs_.narrow(1, number * size, size));
  Capture(Stage::kPerLayerInner, number, inner);
  at::Tensor output = Floats(rows_, config_.hidden_size);
  Multiply(Stage::kPerLayerInner, number, inner,
           {{layer.per_layer_projection, output.mutable_data_ptr<float>()}});
  CaptureProduct(Stage::kPerLayerOutput, Stage::kPerLayerInner, index, output);
  const at::Tensor normed =
      Norm(decoder_.reader, config_, output, layer.per_layer_norm);
  Capture(Stage::kPerLayerNorm, number, normed);
  return normed;
}

Pass::Projections Pass::Project(const at::Tensor& normed, size_t index) const {
  const auto number = static_cast<int64_t>(index);
  const LayerWeights& layer = weights_.layers[index];
  const int64_t rows = normed.size(0);
  const int64_t size = config_.layers[index].head_dim;
  const int64_t heads = config_.layers[index].num_kv_heads;
  const int64_t group = config_.layers[index].num_heads / heads;
  if (layer.qkv.weight == nullptr) {
    Projections p = {Floats(rows, heads * group * size), {}, {}};
    const LinearTask query = {layer.q, p.queries.mutable_data_ptr<float>()};
    if (layer.k.weight == nullptr) {
      Multiply(Stage::kInputNorm, number, normed, {query});
      return p;
    }
    p.keys = Floats(rows, heads * size);
    const LinearTask key = {layer.k, p.keys.mutable_data_ptr<float>()};
    if (layer.v.weight == nullptr) {
      Multiply(Stage::kInputNorm, number, normed, {query, key});
      return p;
    }
    p.values = Floats(rows, heads * size);
    Multiply(Stage::kInputNorm, number, normed,
             {query, key, {layer.v, p.values.mutable_data_ptr<float>()}});
    return p;
  }
  // Each key head's queries, its key and its value lie together, as
  // FalconAttention._split_heads has it.
  at::Tensor fused = Floats(rows, heads * (group + 2) * size);
  Multiply(Stage::kInputNorm, number, normed,
           {{layer.qkv, fused.mutable_data_ptr<float>()}});
  const at::Tensor groups = fused.view({rows, heads, group + 2, size});
  const auto take = [&](int64_t first, int64_t count) {
    return groups.narrow(2, first, count)
        .contiguous()
        .view({rows, heads * count * size});
  };
  return {take(0, group), take(group, 1), take(group + 1, 1)};
}

// RoPE. `keys` may be what a product gave, which nothing else reads.
void Pass::Turn(size_t index, const at::Tensor& queries,
                const at::Tensor& keys) const {
  const RopeAngles* angles = AnglesOf(index);
  for (const Span& span : spans_) {
    if (angles != nullptr) {
      const int64_t size = config_.layers[index].head_dim;
      RotateHeads(config_, *angles, span, size, queries);
      if (keys.defined()) RotateHeads(config_, *angles, span, size, keys);
    }
    if (config_.query_scaling) {
      ScaleQueries(*config_.query_scaling, span, queries);
    }
  }
}

at::Tensor Pass::Attention(const at::Tensor& normed, size_t index) const {
  const LayerWeights& layer = weights_.layers[index];
  auto [queries, keys, values] = Project(normed, index);
  const auto capture = [&](Stage stage, const at::Tensor& rows) {
    Capture(stage, static_cast<int64_t>(index), rows);
  };
  const auto capture_product = [&](Stage stage, const at::Tensor& rows) {
    CaptureProduct(stage, Stage::kInputNorm, index, rows);
  };
  capture_product(Stage::kQueryProjection, queries);
  if (keys.defined()) {
    capture_product(Stage::kKeyProjection, keys);
    if (values.defined()) {
      capture_product(Stage::kValueProjection, values);
    } else {
      values = keys.clone();
    }
  }
  at::Tensor mixed = at::empty_like(queries);
  const auto& options = decoder_.options;
  const Alternative* alternative =
      options.alternative ? &*options.alternative : nullptr;
  {
    const Timer timer(decoder_.Time(&Reference::Times::attention));
    const LayerConfig& settings = config_.layers[index];
    const auto norm = [&] {
      const int64_t size = settings.head_dim;
      queries = HeadNorm(queries, size, layer.q_norm);
      if (keys.defined()) keys = HeadNorm(keys, size, layer.k_norm);
    };
    if (!config_.qk_norm_after_rope) norm();
    if (config_.qk_norm && !config_.qk_norm_after_rope) {
      capture(Stage::kQueryNorm, queries);
      if (keys.defined()) capture(Stage::kKeyNorm, keys);
    }
    if (config_.v_norm && values.defined()) {
      values = PlainNorm(config_, values.view({-1, settings.head_dim}))
                   .view(values.sizes());
    }
    Turn(index, queries, keys);
    if (config_.qk_norm_after_rope) norm();
    for (const Span& span : spans_) {
      if (!keys.defined()) continue;
      Store(span, keys, values, span.sequence->layers[index]);
    }
    capture(Stage::kQuery, queries);
    if (keys.defined()) {
      CaptureCached(Stage::kKey, index, &LayerCache::keys);
      CaptureCached(Stage::kValue, index, &LayerCache::values);
    }
    for (const Span& span : spans_) {
      Attend(config_, alternative, settings, span,
             span.sequence->layers[CacheOf(index)],
             queries.narrow(0, span.row, span.count),
             mixed.narrow(0, span.row, span.count));
    }
  }
  if (layer.attention_sub_norm.exists()) {
    mixed = Norm(decoder_.reader, config_, mixed, layer.attention_sub_norm);
  }
  capture(Stage::kAttention, mixed);
  at::Tensor output = Floats(rows_, config_.hidden_size);
  Multiply(Stage::kAttention, static_cast<int64_t>(index), mixed,
           {{layer.o, output.mutable_data_ptr<float>()}});
  return output;
}

// Lfm2ShortConv. What is convolved is kept of all positions, as keys are: a
// sequence that is cut back then goes on from the right ones.
at::Tensor Pass::Convolution(const at::Tensor& normed, size_t index) const {
  const auto number = static_cast<int64_t>(index);
  const LayerWeights& layer = weights_.layers[index];
  const int64_t size = config_.hidden_size;
  at::Tensor projected = Floats(rows_, 3 * size);
  Multiply(Stage::kInputNorm, number, normed,
           {{layer.conv_input, projected.mutable_data_ptr<float>()}});
  CaptureProduct(Stage::kConvProjection, Stage::kInputNorm, index, projected);
  const at::Tensor input =
      projected.narrow(1, 0, size) * projected.narrow(1, 2 * size, size);
  for (const Span& span : spans_) {
    span.sequence->layers[index]
        .keys[0]
        .narrow(0, span.sequence->length, span.count)
        .copy_(input.narrow(0, span.row, span.count));
  }
  CaptureCached(Stage::kConvInput, index, &LayerCache::keys);
  CaptureStates(index);
  const ConvNumbers numbers = ReadConvolution(decoder_.reader, config_, layer);
  at::Tensor gated = projected.narrow(1, size, size).contiguous();
  for (const Span& span : spans_) {
    gated.narrow(0, span.row, span.count)
        .mul_(Convolve(numbers, span, span.sequence->layers[index]));
  }
  Capture(Stage::kConvGated, number, gated);
  at::Tensor output = Floats(rows_, size);
  Multiply(Stage::kConvGated, number, gated,
           {{layer.conv_output, output.mutable_data_ptr<float>()}});
  return output;
}

at::Tensor Pass::Mlp(const at::Tensor& hidden, size_t index) const {
  const auto number = static_cast<int64_t>(index);
  const auto capture = [&](Stage stage, const at::Tensor& rows) {
    Capture(stage, number, rows);
  };
  const LayerWeights& layer = weights_.layers[index];
  at::Tensor up = Floats(hidden.size(0), layer.up.weight->shape[0]);
  at::Tensor inner = up;  // what the activation applies to
  if (layer.gate.weight == nullptr) {
    Multiply(Stage::kMlpNorm, number, hidden,
             {{layer.up, up.mutable_data_ptr<float>()}});
  } else {
    inner = at::empty_like(up);
    Multiply(Stage::kMlpNorm, number, hidden,
             {{layer.gate, inner.mutable_data_ptr<float>()},
              {layer.up, up.mutable_data_ptr<float>()}});
    CaptureProduct(Stage::kGateProjection, Stage::kMlpNorm, index, inner);
  }
  CaptureProduct(Stage::kUpProjection, Stage::kMlpNorm, index, up);
  Sparsify(config_.layers[index].sparsity, inner);
  Activate(layer, inner);
  if (layer.gate.weight != nullptr) inner.mul_(up);
  if (layer.mlp_sub_norm.exists()) {
    inner = Norm(decoder_.reader, config_, inner, layer.mlp_sub_norm);
  }
  capture(Stage::kMlpInner, inner);
  at::Tensor output = Floats(hidden.size(0), config_.hidden_size);
  Multiply(Stage::kMlpInner, number, inner,
           {{layer.down, output.mutable_data_ptr<float>()}});
  CaptureProduct(Stage::kMlpOutput, Stage::kMlpInner, index, output);
  return output;
}

at::Tensor Pass::ExpertWeightsOf(const at::Tensor& hidden, size_t index) const {
  const auto layer = static_cast<int64_t>(index);
  const int64_t count = config_.experts.count;
  at::Tensor rows = Floats(hidden.size(0), count);
  float* const values = rows.mutable_data_ptr<float>();
  Multiply(Stage::kMlpNorm, layer, hidden,
           {{weights_.layers[index].router, values}});
  CaptureProduct(Stage::kRouter, Stage::kMlpNorm, index, rows);
  for (int64_t row = 0; row < rows.size(0); ++row) {
    WeighExperts(config_.experts, weights_.layers[index].choice_bias,
                 {values + row * count, static_cast<size_t>(count)});
  }
  Capture(Stage::kExpertWeights, layer, rows);
  return rows;
}

at::Tensor Pass::Experts(const at::Tensor& hidden, size_t index) const {
  const auto number = static_cast<int64_t>(index);
  const LayerWeights& layer = weights_.layers[index];
  const at::Tensor weights = ExpertWeightsOf(hidden, index);
  at::Tensor output = Floats(hidden.size(0), config_.hidden_size).zero_();
  const auto add =
      decoder_.options.all_experts ? &Pass::AddToAllRows : &Pass::AddToSomeRows;
  for (int64_t i = 0; i < config_.experts.count; ++i) {
    (this->*add)(hidden, index, i, weights, output);
  }
  if (layer.down.weight == nullptr) return output;
  const at::Tensor shared = Mlp(hidden, index);
  if (layer.shared_scale.weight != nullptr) {
    at::Tensor scale = Floats(hidden.size(0), 1);
    Multiply(Stage::kMlpNorm, number, hidden,
             {{layer.shared_scale, scale.mutable_data_ptr<float>()}});
    CaptureProduct(Stage::kSharedScale, Stage::kMlpNorm, index, scale);
    shared.mul_(at::sigmoid(scale));
  }
  return output.add_(shared);
}

// Weights of others than the taken ones are 0, and so is what they add.
void Pass::AddToAllRows(const at::Tensor& hidden, size_t index, int64_t expert,
                        const at::Tensor& weights, at::Tensor& output) const {
  const auto layer = static_cast<int64_t>(index);
  const auto& [gate, up, down] =
      weights_.layers[index].experts[static_cast<size_t>(expert)];
  at::Tensor inner = Floats(hidden.size(0), gate.weight->shape[0]);
  at::Tensor factor = at::empty_like(inner);
  Multiply(Stage::kMlpNorm, layer, hidden,
           {{gate, inner.mutable_data_ptr<float>()},
            {up, factor.mutable_data_ptr<float>()}});
  CaptureProduct(Stage::kExpertGate, Stage::kMlpNorm, index, inner, expert);
  CaptureProduct(Stage::kExpertUp, Stage::kMlpNorm, index, factor, expert);
  Activate(weights_.layers[index], inner);
  inner.mul_(factor);
  Capture(Stage::kExpertInner, layer, inner, false, expert);
  at::Tensor made = Floats(hidden.size(0), config_.hidden_size);
  Multiply(Stage::kExpertInner, layer, inner,
           {{down, made.mutable_data_ptr<float>()}});
  CaptureProduct(Stage::kExpertOutput, Stage::kExpertInner, index, made,
                 expert);
  output.add_(made.mul_(weights.narrow(1, expert, 1)));
}

// An expert that no row takes is not read.
void Pass::AddToSomeRows(const at::Tensor& hidden, size_t index, int64_t expert,
                         const at::Tensor& weights, at::Tensor& output) const {
  const auto layer = static_cast<int64_t>(index);
  std::vector<int64_t> rows;
  for (int64_t row = 0; row < hidden.size(0); ++row) {
    if (WeightOf(weights, row, expert) != 0) rows.push_back(row);
  }
  if (rows.empty()) return;
  const auto& [gate, up, down] =
      weights_.layers[index].experts[static_cast<size_t>(expert)];
  const auto count = std::ssize(rows);
  at::Tensor some = Floats(count, hidden.size(1));
  for (int64_t i = 0; i < count; ++i) {
    some[i].copy_(hidden[rows[static_cast<size_t>(i)]]);
  }
  at::Tensor inner = Floats(count, gate.weight->shape[0]);
  at::Tensor factor = at::empty_like(inner);
  Multiply(Stage::kMlpNorm, layer, some,
           {{gate, inner.mutable_data_ptr<float>()},
            {up, factor.mutable_data_ptr<float>()}},
           /*some=*/true);
  Activate(weights_.layers[index], inner);
  inner.mul_(factor);
  at::Tensor made = Floats(count, config_.hidden_size);
  Multiply(Stage::kExpertInner, layer, inner,
           {{down, made.mutable_data_ptr<float>()}}, /*some=*/true);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t row = rows[static_cast<size_t>(i)];
    output[row].add_(made[i], WeightOf(weights, row, expert));
  }
}

void Pass::Activate(const LayerWeights& layer, at::Tensor& values) const {
  switch (config_.activation) {
    case Activation::kSilu:
      at::silu_(values);
      break;
    case Activation::kGeluTanh:
      at::gelu_(values, "tanh");
      break;
    case Activation::kGelu:
      at::gelu_(values, "none");
      break;
    case Activation::kGeluQuick:
      // https://arxiv.org/abs/1606.08415, section 2.
      values.mul_(at::sigmoid(values * 1.702));
      break;
    case Activation::kRelu2:
      values.relu_().mul_(values);
      break;
    case Activation::kXielu:
      ApplyXielu(layer.xielu, values);
      break;
  }
}

void Pass::Head(const Reference::LogitsFn& on_logits) const {
  const Timer timer(decoder_.Time(&Reference::Times::head));
  struct Wanted {
    size_t item;
    int64_t row;       // of the item
    int64_t pass_row;  // of the pass
  };
  std::vector<Wanted> wanted;
  for (size_t i = 0; i < items_.size(); ++i) {
    const Span& span = spans_[i];
    for (int64_t row = span.count - items_[i].logit_rows; row < span.count;
         ++row) {
      wanted.push_back({i, row, span.row + row});
    }
  }
  const int64_t vocab = config_.vocab_size;
  const auto count = static_cast<int64_t>(wanted.size());
  const int64_t chunk = std::clamp(kMaxLogits / vocab, int64_t{1}, count + 1);
  at::Tensor rows = Floats(std::min(chunk, count), config_.hidden_size);
  at::Tensor logits = Floats(std::min(chunk, count), vocab);
  for (int64_t begin = 0; begin < count; begin += chunk) {
    const int64_t size = std::min(chunk, count - begin);
    for (int64_t i = 0; i < size; ++i) {
      rows[i].copy_(hidden_[wanted[begin + i].pass_row]);
    }
    const at::Tensor normed =
        Norm(decoder_.reader, config_, rows.narrow(0, 0, size), weights_.norm);
    Capture(Stage::kFinalNorm, -1, normed);
    const float* out = logits.const_data_ptr<float>();
    Multiply(Stage::kFinalNorm, -1, normed,
             {{weights_.head, logits.mutable_data_ptr<float>()}});
    Capture(Stage::kHead, -1, logits.narrow(0, 0, size));
    if (config_.logit_divisor != 1) {
      logits.narrow(0, 0, size).div_(config_.logit_divisor);
    }
    if (config_.logit_softcap) {
      const double cap = *config_.logit_softcap;
      logits.narrow(0, 0, size).div_(cap).tanh_().mul_(cap);
    }
    for (int64_t i = 0; i < size; ++i) {
      const Wanted& row = wanted[begin + i];
      on_logits(row.item, row.row,
                {out + i * vocab, static_cast<size_t>(vocab)});
    }
  }
}

}  // namespace verify_tflite
