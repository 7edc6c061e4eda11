// The decoders of transformers 5.24 (models/*/modeling_*.py) in float32, layer
// by layer over all sequences of a pass. One block serves all families, as
// ModelConfig says: LlamaForCausalLM is the plain case.
#include "reference/reference.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <deque>
#include <limits>
#include <mutex>
#include <numbers>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "reference/kernels.h"
#include "reference/linear.h"
#include "reference/weight_reader.h"

namespace verify_tflite {
namespace {

// Rows of queries that attend at once; bounds the mask, and skips most of what
// it would hide.
constexpr int64_t kQueryRows = 256;
// Logits of so many floats at a time: 64 MB.
constexpr int64_t kMaxLogits = 16 << 20;
// Rows below this are not worth another thread.
constexpr int64_t kRowGrain = 16;

// Scale and, of LayerNorm, bias; no weight: none.
struct NormWeights {
  const TensorView* weight = nullptr;
  const TensorView* bias = nullptr;
};

struct Layer {
  NormWeights input_norm;
  Linear q, k, v, o;
  Linear qkv;          // with grouped_qkv, in place of q, k and v
  NormWeights q_norm;  // with qk_norm
  NormWeights k_norm;
  NormWeights attention_norm;  // with sandwich_norms
  NormWeights mlp_norm;        // none: takes what input_norm gives
  Linear gate, up, down;       // gate with gated_mlp
  NormWeights output_norm;     // with sandwich_norms
};

struct Weights {
  const TensorView* embedding;
  std::vector<Layer> layers;
  NormWeights norm;
  Linear head;
  std::deque<TensorView> parts;  // of fused projections
};

// What files call the parts of a decoder; "{}" is the number of a layer.
struct WeightNames {
  const char* embedding;
  const char* layer;
  const char* norm;
  const char* input_norm;
  const char* mlp_norm;
  const char* qkv;  // if fused; else q_proj, k_proj and v_proj
  const char* o;
  const char* q_norm;
  const char* k_norm;
  const char* gate_up;  // if fused; else gate and up
  const char* gate;
  const char* up;
  const char* down;
};

constexpr WeightNames kLlamaNames = {.embedding = "embed_tokens",
                                     .layer = "layers.{}.",
                                     .norm = "norm",
                                     .input_norm = "input_layernorm",
                                     .mlp_norm = "post_attention_layernorm",
                                     .qkv = "self_attn.qkv_proj",
                                     .o = "self_attn.o_proj",
                                     .q_norm = "self_attn.q_norm",
                                     .k_norm = "self_attn.k_norm",
                                     .gate_up = "mlp.gate_up_proj",
                                     .gate = "mlp.gate_proj",
                                     .up = "mlp.up_proj",
                                     .down = "mlp.down_proj"};

WeightNames NamesOf(const ModelConfig& config) {
  WeightNames names = kLlamaNames;
  switch (config.naming) {
    case Naming::kLlama:
      if (config.sandwich_norms) names.mlp_norm = "pre_feedforward_layernorm";
      break;
    case Naming::kPhi:
      names.norm = "final_layernorm";
      names.o = "self_attn.dense";
      names.up = "mlp.fc1";
      names.down = "mlp.fc2";
      break;
    case Naming::kFalcon:
      names.embedding = "word_embeddings";
      names.layer = "h.{}.";
      names.norm = "ln_f";
      names.qkv = "self_attention.query_key_value";
      names.o = "self_attention.dense";
      names.up = "mlp.dense_h_to_4h";
      names.down = "mlp.dense_4h_to_h";
      if (config.parallel_block && config.mlp_norm) {
        names.input_norm = "ln_attn";
        names.mlp_norm = "ln_mlp";
      }
      break;
    case Naming::kOpenElm:
      names.embedding = "token_embeddings";
      names.input_norm = "attn_norm";
      names.mlp_norm = "ffn_norm";
      names.qkv = "attn.qkv_proj";
      names.o = "attn.out_proj";
      names.q_norm = "attn.q_norm";
      names.k_norm = "attn.k_norm";
      names.gate_up = "ffn.proj_1";
      names.down = "ffn.proj_2";
      break;
  }
  return names;
}

// Finds the weights of a checkpoint by the names of its family.
class WeightFinder {
 public:
  WeightFinder(const Checkpoint& checkpoint, const Reference::Options& options)
      : checkpoint_(checkpoint),
        others_(options.weights),
        quantise_inputs_(options.quantise_inputs),
        config_(checkpoint.config()),
        names_(NamesOf(config_)) {}

  Weights Find() {
    const ModelConfig& c = config_;
    const std::string model = Prefix();
    weights_.embedding = &Get(model + names_.embedding + ".weight",
                              {c.vocab_size, c.hidden_size});
    for (size_t i = 0; i < c.layers.size(); ++i) {
      weights_.layers.push_back(FindLayer(
          model + fmt::format(fmt::runtime(names_.layer), i), c.layers[i]));
    }
    weights_.norm = FindNorm(model + names_.norm, c.hidden_size);
    const std::string head =
        model == kOldMultimodal ? "language_model.lm_head" : "lm_head";
    // A head of its own wins over tie_word_embeddings, as in transformers,
    // which ties only when the file has no such tensor or one equal to the
    // embedding.
    const bool tied = c.tie_word_embeddings &&
                      !checkpoint_.Has(head + ".weight") &&
                      Other(head + ".weight") == nullptr;
    weights_.head =
        tied ? Linear{weights_.embedding}
             : FindLinear(head, c.vocab_size, c.hidden_size, c.head_bias);
    if (tied && c.head_bias) {
      weights_.head.bias = &Get(head + ".bias", {c.vocab_size});
    }
    return std::move(weights_);
  }

 private:
  static constexpr std::string_view kOldMultimodal = "language_model.model.";

  std::string Prefix() const {
    if (config_.naming == Naming::kFalcon ||
        config_.naming == Naming::kOpenElm) {
      return "transformer.";
    }
    if (!config_.multimodal) return "model.";
    // Multimodal models were published with one name and are saved with
    // another.
    const std::string old(kOldMultimodal);
    return checkpoint_.Has(old + names_.embedding + ".weight")
               ? old
               : "model.language_model.";
  }

  const FileWeight* Other(const std::string& name) const {
    if (others_ == nullptr) return nullptr;
    const auto found = others_->find(name);
    return found == others_->end() ? nullptr : &found->second;
  }

  const TensorView& Get(const std::string& name,
                        std::initializer_list<int64_t> shape) const {
    const FileWeight* other = Other(name);
    if (other != nullptr &&
        std::equal(shape.begin(), shape.end(), other->view.shape.begin(),
                   other->view.shape.end())) {
      return other->view;
    }
    return checkpoint_.Get(name, shape);
  }

  Linear FindLinear(const std::string& name, int64_t outputs, int64_t inputs,
                    bool bias) {
    const FileWeight* other = Other(name + ".weight");
    return {&Get(name + ".weight", {outputs, inputs}),
            bias ? &Get(name + ".bias", {outputs}) : nullptr,
            other != nullptr && other->quantised_input && quantise_inputs_,
            other == nullptr ? nullptr : other->rotation,
            other == nullptr ? nullptr : other->input_scale};
  }

  NormWeights FindNorm(const std::string& name, int64_t size) {
    return {&Get(name + ".weight", {size}),
            config_.layer_norm ? &Get(name + ".bias", {size}) : nullptr};
  }

  // Outputs [begin, begin + count) of a projection without bias.
  Linear Part(const Linear& fused, int64_t begin, int64_t count) {
    const TensorView& whole = *fused.weight;
    const size_t row =
        static_cast<size_t>(whole.shape[1]) * SizeOf(whole.dtype);
    TensorView& part = weights_.parts.emplace_back(whole);
    part.shape[0] = count;
    if (whole.read != nullptr) {
      part.read_first += begin * whole.shape[1];
    } else {
      part.data = whole.data.subspan(static_cast<size_t>(begin) * row,
                                     static_cast<size_t>(count) * row);
    }
    return {&part, nullptr, fused.quantised_input, fused.rotation,
            fused.input_scale};
  }

  void FindAttention(const std::string& prefix, const LayerConfig& sizes,
                     Layer* layer) {
    const ModelConfig& c = config_;
    const int64_t queries = sizes.num_heads * c.head_dim;
    const int64_t keys = sizes.num_kv_heads * c.head_dim;
    const auto find = [&](const char* name, int64_t outputs) {
      return FindLinear(prefix + name, outputs, c.hidden_size, c.qkv_bias);
    };
    if (c.grouped_qkv) {
      layer->qkv = find(names_.qkv, queries + 2 * keys);
    } else if (c.fused_projections) {
      const Linear qkv = find(names_.qkv, queries + 2 * keys);
      layer->q = Part(qkv, 0, queries);
      layer->k = Part(qkv, queries, keys);
      layer->v = Part(qkv, queries + keys, keys);
    } else {
      layer->q = find("self_attn.q_proj", queries);
      layer->k = find("self_attn.k_proj", keys);
      layer->v = find("self_attn.v_proj", keys);
    }
    layer->o = FindLinear(prefix + names_.o, c.hidden_size, queries, c.o_bias);
    if (c.qk_norm) {
      layer->q_norm = FindNorm(prefix + names_.q_norm, c.head_dim);
      layer->k_norm = FindNorm(prefix + names_.k_norm, c.head_dim);
    }
  }

  void FindMlp(const std::string& prefix, int64_t size, Layer* layer) {
    const ModelConfig& c = config_;
    const auto find = [&](const char* name, int64_t outputs) {
      return FindLinear(prefix + name, outputs, c.hidden_size, c.mlp_bias);
    };
    if (!c.gated_mlp) {
      layer->up = find(names_.up, size);
    } else if (c.fused_projections) {
      const Linear fused = find(names_.gate_up, 2 * size);
      layer->gate = Part(fused, 0, size);
      layer->up = Part(fused, size, size);
    } else {
      layer->gate = find(names_.gate, size);
      layer->up = find(names_.up, size);
    }
    layer->down =
        FindLinear(prefix + names_.down, c.hidden_size, size, c.mlp_bias);
  }

  Layer FindLayer(const std::string& prefix, const LayerConfig& sizes) {
    const auto norm = [&](const char* name) {
      return FindNorm(prefix + name, config_.hidden_size);
    };
    Layer layer;
    layer.input_norm = norm(names_.input_norm);
    if (config_.mlp_norm) layer.mlp_norm = norm(names_.mlp_norm);
    if (config_.sandwich_norms) {
      layer.attention_norm = norm("post_attention_layernorm");
      layer.output_norm = norm("post_feedforward_layernorm");
    }
    FindAttention(prefix, sizes, &layer);
    FindMlp(prefix, sizes.intermediate_size, &layer);
    return layer;
  }

  const Checkpoint& checkpoint_;
  const FileWeights* others_;
  bool quantise_inputs_;
  const ModelConfig& config_;
  WeightNames names_;
  Weights weights_;
};

// _compute_llama3_parameters of transformers' modeling_rope_utils.
at::Tensor ScaleLlama3(const at::Tensor& inv_freq,
                       const Llama3RopeScaling& scaling) {
  const double original =
      static_cast<double>(scaling.original_max_position_embeddings);
  const double low = scaling.low_freq_factor;
  const double high = scaling.high_freq_factor;
  const at::Tensor wavelength = inv_freq.reciprocal() * (2 * std::numbers::pi);
  const at::Tensor is_long = wavelength > original / low;
  const at::Tensor is_medium =
      (wavelength >= original / high).logical_and(is_long.logical_not());
  const at::Tensor smooth =
      (wavelength.reciprocal() * original - low) / (high - low);
  const at::Tensor scaled = inv_freq / scaling.factor;
  const at::Tensor smoothed =
      (1 - smooth) * inv_freq / scaling.factor + smooth * inv_freq;
  return at::where(is_medium, smoothed, at::where(is_long, scaled, inv_freq));
}

// Float32 operation by operation as transformers: the rounding of a frequency
// grows with the position.
at::Tensor Wavelengths(const ModelConfig& config, double theta) {
  const at::Tensor exponents =
      at::arange(0, config.rotary_dim, 2, at::kFloat) / config.rotary_dim;
  return at::pow(at::Scalar(theta), exponents);
}

at::Tensor LongRopeFrequencies(const ModelConfig& config,
                               const std::vector<double>& factors) {
  return (at::tensor(factors, at::kFloat) *
          Wavelengths(config, config.rope_theta))
      .reciprocal();
}

// _compute_yarn_parameters of transformers' modeling_rope_utils.
at::Tensor YarnFrequencies(const ModelConfig& config,
                           const YarnRopeScaling& scaling) {
  const auto dim = static_cast<double>(config.rotary_dim);
  const auto correction = [&](double rotations) {
    const double original =
        static_cast<double>(scaling.original_max_position_embeddings);
    return dim * std::log(original / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(config.rope_theta));
  };
  double low = correction(scaling.beta_fast);
  double high = correction(scaling.beta_slow);
  if (scaling.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1);
  if (low == high) high += 0.001;
  const at::Tensor ramp =
      ((at::arange(config.rotary_dim / 2, at::kFloat) - low) / (high - low))
          .clamp(0, 1);
  const at::Tensor kept = 1 - ramp;
  const at::Tensor wavelengths = Wavelengths(config, config.rope_theta);
  return (wavelengths * scaling.factor).reciprocal() * (1 - kept) +
         wavelengths.reciprocal() * kept;
}

// Frequencies by which the elements of a head rotate, [rotary_dim / 2].
struct Frequencies {
  at::Tensor usual;
  at::Tensor long_sequence;  // with long_rope
  at::Tensor local;          // of layers with local_rope
};

Frequencies GetFrequencies(const ModelConfig& config) {
  Frequencies result;
  if (config.long_rope) {
    result.usual = LongRopeFrequencies(config, config.long_rope->short_factor);
    result.long_sequence =
        LongRopeFrequencies(config, config.long_rope->long_factor);
    return result;
  }
  result.usual = Wavelengths(config, config.rope_theta).reciprocal();
  if (config.llama3_rope) {
    result.usual = ScaleLlama3(result.usual, *config.llama3_rope);
  } else if (config.yarn_rope) {
    result.usual = YarnFrequencies(config, *config.yarn_rope);
  } else if (config.rope_linear_factor != 1) {
    result.usual = result.usual / config.rope_linear_factor;
  }
  if (config.local_rope_theta > 0) {
    result.local = Wavelengths(config, config.local_rope_theta).reciprocal();
  }
  return result;
}

at::Tensor Floats(int64_t rows, int64_t columns) {
  return at::empty({rows, columns}, at::kFloat);
}

// LlamaRMSNorm.
at::Tensor RmsNorm(const at::Tensor& input, const std::vector<float>& scale,
                   double eps) {
  const int64_t size = input.size(1);
  at::Tensor output = Floats(input.size(0), size);
  const float* in = input.const_data_ptr<float>();
  float* out = output.mutable_data_ptr<float>();
  at::parallel_for(0, input.size(0), kRowGrain, [&](int64_t row, int64_t end) {
    for (; row < end; ++row) {
      const float* x = in + row * size;
      float* y = out + row * size;
      double squares = 0;
      for (int64_t i = 0; i < size; ++i) squares += double{x[i]} * x[i];
      const float factor = static_cast<float>(
          1 / std::sqrt(squares / static_cast<double>(size) + eps));
      for (int64_t i = 0; i < size; ++i) y[i] = scale[i] * (x[i] * factor);
    }
  });
  return output;
}

// nn.LayerNorm.
at::Tensor LayerNorm(const at::Tensor& input, const std::vector<float>& scale,
                     const std::vector<float>& bias, double eps) {
  const int64_t size = input.size(1);
  const auto as_tensor = [&](const std::vector<float>& values) {
    return at::from_blob(const_cast<float*>(values.data()), {size}, at::kFloat);
  };
  return at::layer_norm(input, {size}, as_tensor(scale), as_tensor(bias), eps);
}

// Rotates the first `size` elements of a head: element i pairs with i + size/2
// (rotate_half).
void Rotate(float* head, const float* cos, const float* sin, int64_t size) {
  const int64_t half = size / 2;
  for (int64_t i = 0; i < half; ++i) {
    const float a = head[i];
    const float b = head[i + half];
    head[i] = a * cos[i] - b * sin[i];
    head[i + half] = b * cos[i] + a * sin[i];
  }
}

// Keys (rotated) and values of one layer, [kv_heads, capacity, head_dim].
struct KvCache {
  at::Tensor keys;
  at::Tensor values;
};

// A copy of `cache` with room for `capacity` positions.
at::Tensor Grow(const at::Tensor& cache, int64_t length, int64_t capacity) {
  at::Tensor grown =
      at::empty({cache.size(0), capacity, cache.size(2)}, at::kFloat);
  grown.narrow(1, 0, length).copy_(cache.narrow(1, 0, length));
  return grown;
}

class Timer {
 public:
  explicit Timer(double* sum) : sum_(sum) {}
  ~Timer() {
    if (sum_ == nullptr) return;
    const std::chrono::duration<double> time = Clock::now() - start_;
    *sum_ += time.count();
  }

 private:
  using Clock = std::chrono::steady_clock;
  double* sum_;
  Clock::time_point start_ = Clock::now();
};

}  // namespace

struct Sequence::Impl {
  const void* owner;  // Reference::Impl
  int64_t length = 0;
  bool long_rope = false;  // keys were rotated by the long factors
  std::vector<KvCache> layers;
  Sequence::ReadLayerFn read_layer;  // of RestoreByLayer, else empty

  void SetLayer(int64_t layer, int64_t length, std::span<const float> keys,
                std::span<const float> values);
  // Makes room for `count` tokens behind what it reads.
  void ReadLayer(int64_t layer, int64_t count);
  void ForgetLayer(int64_t layer);

  // [length, kv_heads, head_dim]
  std::vector<float> Copy(at::Tensor KvCache::*part, int64_t layer) const;

  void Reserve(int64_t needed) {
    if (read_layer) return;
    const int64_t capacity = layers[0].keys.size(1);
    if (needed <= capacity) return;
    const int64_t larger = std::max(needed, capacity + capacity / 2);
    for (KvCache& cache : layers) {
      cache.keys = Grow(cache.keys, length, larger);
      cache.values = Grow(cache.values, length, larger);
    }
  }
};

Sequence::Sequence(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Sequence::~Sequence() = default;
Sequence::Sequence(Sequence&&) noexcept = default;
Sequence& Sequence::operator=(Sequence&&) noexcept = default;

int64_t Sequence::length() const { return impl_->length; }

void Sequence::Truncate(int64_t length) {
  if (length < 0 || length > impl_->length) {
    throw Error("cannot truncate a sequence of {} tokens to {}", impl_->length,
                length);
  }
  impl_->length = length;
}

std::vector<float> Sequence::Impl::Copy(at::Tensor KvCache::*part,
                                        int64_t layer) const {
  if (layer < 0 || layer >= static_cast<int64_t>(layers.size())) {
    throw Error("no layer {}: the model has {}", layer, layers.size());
  }
  const c10::InferenceMode no_autograd;
  const at::Tensor rows =
      (layers[layer].*part).narrow(1, 0, length).transpose(0, 1).contiguous();
  const float* data = rows.const_data_ptr<float>();
  return {data, data + rows.numel()};
}

void Sequence::Impl::SetLayer(int64_t layer, int64_t length,
                              std::span<const float> keys,
                              std::span<const float> values) {
  KvCache& cache = layers.at(static_cast<size_t>(layer));
  const int64_t heads = cache.keys.size(0);
  const int64_t size = cache.keys.size(2);
  if (length < 0 || std::ssize(keys) != length * heads * size ||
      keys.size() != values.size()) {
    throw Error(
        "layer {}: {} keys and {} values for {} positions of {} heads of {}",
        layer, keys.size(), values.size(), length, heads, size);
  }
  const auto set = [&](at::Tensor& part, std::span<const float> from) {
    part = at::empty({heads, length, size}, at::kFloat);
    part.copy_(at::from_blob(const_cast<float*>(from.data()),
                             {length, heads, size}, at::kFloat)
                   .transpose(0, 1));
  };
  set(cache.keys, keys);
  set(cache.values, values);
}

void Sequence::Impl::ReadLayer(int64_t layer, int64_t count) {
  std::vector<float> keys;
  std::vector<float> values;
  read_layer(layer, keys, values);
  SetLayer(layer, length, keys, values);
  KvCache& cache = layers[static_cast<size_t>(layer)];
  cache.keys = Grow(cache.keys, length, length + count);
  cache.values = Grow(cache.values, length, length + count);
}

void Sequence::Impl::ForgetLayer(int64_t layer) {
  KvCache& cache = layers[static_cast<size_t>(layer)];
  cache.keys = cache.keys.narrow(1, 0, 0).clone();
  cache.values = cache.values.narrow(1, 0, 0).clone();
}

void Sequence::Restore(int64_t layer, int64_t length,
                       std::span<const float> keys,
                       std::span<const float> values) {
  const c10::InferenceMode no_autograd;
  impl_->SetLayer(layer, length, keys, values);
  impl_->length = length;
}

void Sequence::RestoreByLayer(int64_t length, ReadLayerFn read) {
  impl_->read_layer = std::move(read);
  impl_->length = length;
}

std::vector<float> Sequence::Keys(int64_t layer) const {
  return impl_->Copy(&KvCache::keys, layer);
}

std::vector<float> Sequence::Values(int64_t layer) const {
  return impl_->Copy(&KvCache::values, layer);
}

// What the alternative's settings leave out of a layer.
void LeaveOut(const ModelConfig& config, Layer& layer) {
  if (!config.qkv_bias) {
    for (Linear* linear : {&layer.q, &layer.k, &layer.v, &layer.qkv}) {
      linear->bias = nullptr;
    }
  }
  if (!config.o_bias) layer.o.bias = nullptr;
  if (!config.qk_norm) layer.q_norm = layer.k_norm = {};
}

void Apply(const Alternative& alternative, ModelConfig& config,
           Weights& weights) {
  if (alternative.config) config = *alternative.config;
  if (!alternative.layers.empty()) {
    const std::vector<Layer> layers = std::exchange(weights.layers, {});
    const std::vector<LayerConfig> settings = std::exchange(config.layers, {});
    for (const int64_t i : alternative.layers) {
      weights.layers.push_back(layers.at(static_cast<size_t>(i)));
      config.layers.push_back(settings.at(static_cast<size_t>(i)));
    }
    config.num_layers = static_cast<int64_t>(config.layers.size());
  }
  for (Layer& layer : weights.layers) {
    LeaveOut(config, layer);
    if (alternative.gate_up_swapped) std::swap(layer.gate, layer.up);
  }
  if (alternative.tied_head) weights.head = Linear{weights.embedding};
}

struct Reference::Impl {
  Impl(const Checkpoint& from, Options given)
      : checkpoint(from),
        config(from.config()),
        options(std::move(given)),
        weights(WeightFinder(from, options).Find()),
        reader(from) {
    if (options.alternative) Apply(*options.alternative, config, weights);
    frequencies = GetFrequencies(config);
  }

  const Checkpoint& checkpoint;
  ModelConfig config;
  Options options;
  Weights weights;
  WeightReader reader;
  Frequencies frequencies;

  // One item of a pass, its tokens being `count` rows from `row` on.
  struct Span {
    Sequence::Impl* sequence;
    int64_t row;
    int64_t count;
  };

  struct Rotation {
    at::Tensor cos, sin;  // [rows, rotary_dim / 2]
  };

  // What a pass carries from layer to layer.
  struct Pass {
    std::vector<Span> spans;
    int64_t rows = 0;
    at::Tensor hidden;  // [rows, hidden_size]
    Rotation rotation;
    Rotation local_rotation;  // if a layer has local_rope
    const CaptureFn* capture = nullptr;
    // Rows of which products are computed; empty: all.
    std::vector<int64_t> computed;
  };

  // What Probe has of a product: W^T r and b.r for each random vector r.
  struct ProbeVectors {
    const TensorView* weight = nullptr;
    std::array<std::vector<double>, kProbes> inputs;
    std::array<double, kProbes> bias = {};
  };
  mutable ProbeVectors probe;

  const ProbeVectors& ProbeOf(const Linear& linear) const;
  // Of the products that read `input`.
  bool WithoutProbed(const Pass& pass, Stage input, int64_t layer) const;

  static void Capture(const Pass& pass, Stage stage, int64_t layer,
                      const at::Tensor& values, bool without_probed = false);
  // Of a product's output; `input` is the stage that it reads.
  void CaptureProduct(const Pass& pass, Stage stage, Stage input, size_t index,
                      const at::Tensor& values) const {
    const auto layer = static_cast<int64_t>(index);
    Capture(pass, stage, layer, values, WithoutProbed(pass, input, layer));
  }
  void CaptureCached(const Pass& pass, Stage stage, size_t index,
                     at::Tensor KvCache::*part) const;

  double* Time(double Times::*part) const {
    return options.times ? &(options.times->*part) : nullptr;
  }

  void Check(std::span<const Item> items) const;
  Pass Begin(std::span<const Item> items) const;
  at::Tensor Embed(std::span<const Item> items, int64_t rows) const;
  bool IsLong(int64_t length) const;
  void CheckRope(const Item& item) const;
  void FillRotation(Pass& pass) const;
  void RunLayer(Pass& pass, size_t index) const;
  at::Tensor Attention(const Pass& pass, const at::Tensor& normed,
                       size_t index) const;
  // Of one layer, a row for each token.
  struct Projections {
    at::Tensor queries, keys, values;
  };
  Projections Project(const Pass& pass, const at::Tensor& normed,
                      size_t index) const;
  void Attend(const Span& span, const KvCache& cache, size_t index,
              at::Tensor queries, at::Tensor mixed) const;
  MaskFault MaskOf() const;
  at::Tensor FaultyAttention(const at::Tensor& queries, const at::Tensor& keys,
                             const at::Tensor& values, at::Tensor mask,
                             int64_t first_position) const;
  at::Tensor CappedAttention(const at::Tensor& queries, const at::Tensor& keys,
                             const at::Tensor& values,
                             const at::Tensor& mask) const;
  void Store(const Rotation* rotation, const Span& span, KvCache& cache,
             at::Tensor& queries, const at::Tensor& keys,
             const at::Tensor& values) const;
  const Rotation* RotationOf(const Pass& pass, size_t index) const;
  at::Tensor Mlp(const Pass& pass, const at::Tensor& hidden,
                 size_t index) const;
  void Head(const Pass& pass, std::span<const Item> items,
            const LogitsFn& on_logits) const;
  void Run(const Pass& pass, Stage stage, int64_t layer,
           const at::Tensor& input,
           std::initializer_list<LinearTask> tasks) const;
  at::Tensor Norm(const at::Tensor& input, const NormWeights& norm) const;
  at::Tensor HeadNorm(const at::Tensor& rows, const NormWeights& norm) const;
  void Prefetch(size_t index) const;
};

void Reference::Impl::Check(std::span<const Item> items) const {
  std::set<const Sequence*> seen;
  for (const Item& item : items) {
    if (item.sequence->impl_->owner != this) {
      throw Error("a sequence of another reference cannot be scored");
    }
    if (!seen.insert(item.sequence).second) {
      throw Error("a sequence occurs twice in a pass");
    }
    CheckRope(item);
    const auto count = static_cast<int64_t>(item.tokens.size());
    if (count == 0) throw Error("an item of a pass has no tokens");
    if (item.logit_rows < 0 || item.logit_rows > count) {
      throw Error("logits of {} rows wanted, the item has {} tokens",
                  item.logit_rows, count);
    }
    for (const int32_t token : item.tokens) {
      if (token < 0 || token >= config.vocab_size) {
        throw Error("{}: token id {} is outside the vocabulary of {}",
                    checkpoint.directory(), token, config.vocab_size);
      }
    }
  }
}

// longrope_frequency_update of transformers' modeling_rope_utils.
bool Reference::Impl::IsLong(int64_t length) const {
  return config.long_rope &&
         length > config.long_rope->original_max_position_embeddings;
}

// Where a text becomes long, transformers computes all of it anew with other
// frequencies.
void Reference::Impl::CheckRope(const Item& item) const {
  const Sequence::Impl& sequence = *item.sequence->impl_;
  const auto count = static_cast<int64_t>(item.tokens.size());
  if (config.dynamic_rope &&
      sequence.length + count > config.max_position_embeddings) {
    throw Error(
        "{}: a text of {} tokens is longer than max_position_embeddings {}, "
        "where dynamic RoPE changes its frequencies with every token: that is "
        "not supported. Take a shorter one",
        checkpoint.directory(), sequence.length + count,
        config.max_position_embeddings);
  }
  if (sequence.length == 0 ||
      sequence.long_rope == IsLong(sequence.length + count)) {
    return;
  }
  throw Error(
      "{}: a sequence cannot go on across {} tokens "
      "(original_max_position_embeddings), where longrope changes all its "
      "keys: score it anew",
      checkpoint.directory(),
      config.long_rope->original_max_position_embeddings);
}

Reference::Impl::Pass Reference::Impl::Begin(
    std::span<const Item> items) const {
  Pass pass;
  for (const Item& item : items) {
    Sequence::Impl* sequence = item.sequence->impl_.get();
    const auto count = static_cast<int64_t>(item.tokens.size());
    sequence->Reserve(sequence->length + count);
    sequence->long_rope = IsLong(sequence->length + count);
    pass.spans.push_back({sequence, pass.rows, count});
    pass.rows += count;
  }
  for (size_t i = 0; i < items.size(); ++i) {
    for (int64_t row = 0; row < pass.spans[i].count; ++row) {
      if (row >= items[i].probed_begin && row < items[i].probed_end) continue;
      pass.computed.push_back(pass.spans[i].row + row);
    }
  }
  if (std::ssize(pass.computed) == pass.rows) pass.computed.clear();
  pass.hidden = Embed(items, pass.rows);
  FillRotation(pass);
  return pass;
}

at::Tensor Reference::Impl::Embed(std::span<const Item> items,
                                  int64_t rows) const {
  const TensorView& table = *weights.embedding;
  const int64_t size = config.hidden_size;
  at::Tensor hidden = Floats(rows, size);
  float* out = hidden.mutable_data_ptr<float>();
  for (const Item& item : items) {
    for (const int32_t token : item.tokens) {
      reader.ReadFloats(table, token * size, size, out);
      out += size;
    }
  }
  // Rounded to float32 first, as Gemma's embed_scale.
  const auto scale = static_cast<float>(config.embedding_scale);
  return scale == 1 ? hidden : hidden.mul_(scale);
}

// LlamaRotaryEmbedding.
void Reference::Impl::FillRotation(Pass& pass) const {
  at::Tensor positions = at::empty({pass.rows, 1}, at::kFloat);
  float* out = positions.mutable_data_ptr<float>();
  for (const Span& span : pass.spans) {
    for (int64_t i = 0; i < span.count; ++i) {
      *out++ = static_cast<float>(span.sequence->length + i);
    }
  }
  const auto rotate = [](const at::Tensor& angles) {
    return Rotation{angles.cos(), angles.sin()};
  };
  pass.rotation = rotate(positions * frequencies.usual);
  if (frequencies.local.defined()) {
    pass.local_rotation = rotate(positions * frequencies.local);
  }
  for (const Span& span : pass.spans) {
    if (!span.sequence->long_rope) continue;
    const at::Tensor angles =
        positions.narrow(0, span.row, span.count) * frequencies.long_sequence;
    pass.rotation.cos.narrow(0, span.row, span.count).copy_(angles.cos());
    pass.rotation.sin.narrow(0, span.row, span.count).copy_(angles.sin());
  }
  if (config.rope_attention_factor != 1) {
    pass.rotation.cos.mul_(config.rope_attention_factor);
    pass.rotation.sin.mul_(config.rope_attention_factor);
  }
}

const Reference::Impl::Rotation* Reference::Impl::RotationOf(
    const Pass& pass, size_t index) const {
  const LayerConfig& layer = config.layers[index];
  if (!layer.rope) return nullptr;
  return layer.local_rope ? &pass.local_rotation : &pass.rotation;
}

namespace {

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

}  // namespace

// `input` is that of `stage`. What rotations make of it can be looked at, and
// exchanged, on its own: where it is quantised next, the last bits of someone
// else's sums decide about a rounding now and then, of a step of int8 each, and
// the products would agree to 1e-3 at best. That needs one rotation for all.
void Reference::Impl::Run(const Pass& pass, Stage stage, int64_t layer,
                          const at::Tensor& input,
                          std::initializer_list<LinearTask> tasks) const {
  const Timer timer(Time(&Times::linear));
  std::vector<LinearTask> left(tasks);
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
      const bool is_only = end == left.end() && left.size() == std::size(tasks);
      if (is_only) Capture(pass, *RotatedOf(stage), layer, x);
    }
    const std::span<const LinearTask> together(left.begin(), end);
    const int64_t max_dot_rows =
        options.max_dot_rows.value_or(AvailableKernels()[0].max_dot_rows);
    if (WithoutProbed(pass, stage, layer)) {
      RunRows(reader, x, pass.computed, together, max_dot_rows);
    } else {
      RunLinear(reader, {x.const_data_ptr<float>(), x.size(0)}, together,
                max_dot_rows);
    }
    left.erase(left.begin(), end);
  }
}

// Falcon's fused product has no rows of query, key and value by themselves.
bool Reference::Impl::WithoutProbed(const Pass& pass, Stage input,
                                    int64_t layer) const {
  if (pass.computed.empty() || layer < 0) return false;
  return input != Stage::kInputNorm ||
         weights.layers[static_cast<size_t>(layer)].qkv.weight == nullptr;
}

// Unchanged without weight.
at::Tensor Reference::Impl::Norm(const at::Tensor& input,
                                 const NormWeights& norm) const {
  if (norm.weight == nullptr) return input;
  const int64_t size = input.size(1);
  const auto read = [&](const TensorView& from) {
    std::vector<float> values(size);
    reader.ReadFloats(from, 0, size, values.data());
    return values;
  };
  std::vector<float> scale = read(*norm.weight);
  if (norm.bias != nullptr) {
    return LayerNorm(input, scale, read(*norm.bias), config.rms_norm_eps);
  }
  if (config.norm_adds_one) {
    for (float& value : scale) value += 1;
  }
  return RmsNorm(input, scale, config.rms_norm_eps);
}

// Each head of each row on its own.
at::Tensor Reference::Impl::HeadNorm(const at::Tensor& rows,
                                     const NormWeights& norm) const {
  return Norm(rows.view({-1, config.head_dim}), norm).view(rows.sizes());
}

// Disk and processor work at the same time.
void Reference::Impl::Prefetch(size_t index) const {
  if (index == weights.layers.size()) {
    reader.WillNeed(*weights.head.weight);
    return;
  }
  const Layer& l = weights.layers[index];
  for (const Linear& linear :
       {l.qkv, l.q, l.k, l.v, l.o, l.gate, l.up, l.down}) {
    if (linear.weight != nullptr) reader.WillNeed(*linear.weight);
  }
}

void Reference::Impl::Capture(const Pass& pass, Stage stage, int64_t layer,
                              const at::Tensor& values, bool without_probed) {
  if (pass.capture == nullptr) return;
  const at::Tensor rows = values.contiguous();
  (*pass.capture)({stage,
                   layer,
                   rows.size(0),
                   rows.size(1),
                   {static_cast<float*>(rows.mutable_data_ptr()),
                    static_cast<size_t>(rows.numel())},
                   without_probed});
  if (!rows.is_same(values)) values.copy_(rows);
}

// What the caches have of this pass, [rows, kv_heads * head_dim]; and back.
void Reference::Impl::CaptureCached(const Pass& pass, Stage stage, size_t index,
                                    at::Tensor KvCache::*part) const {
  if (pass.capture == nullptr) return;
  const int64_t heads = config.layers[index].num_kv_heads;
  const at::Tensor all = Floats(pass.rows, heads * config.head_dim);
  const auto each = [&](auto copy) {
    for (const Span& span : pass.spans) {
      copy((span.sequence->layers[index].*part)
               .narrow(1, span.sequence->length, span.count),
           all.narrow(0, span.row, span.count)
               .view({span.count, heads, config.head_dim})
               .transpose(0, 1));
    }
  };
  each([](at::Tensor cached, at::Tensor rows) { rows.copy_(cached); });
  Capture(pass, stage, static_cast<int64_t>(index), all);
  each([](at::Tensor cached, at::Tensor rows) { cached.copy_(rows); });
}

void Reference::Impl::RunLayer(Pass& pass, size_t index) const {
  const Layer& layer = weights.layers[index];
  const auto capture = [&](Stage stage, const at::Tensor& values) {
    Capture(pass, stage, static_cast<int64_t>(index), values);
  };
  const at::Tensor input = Norm(pass.hidden, layer.input_norm);
  capture(Stage::kInputNorm, input);
  const at::Tensor attention = Attention(pass, input, index);
  CaptureProduct(pass, Stage::kAttentionOutput, Stage::kAttention, index,
                 attention);
  if (config.parallel_block) {
    const bool shared = layer.mlp_norm.weight == nullptr;
    const at::Tensor mlp_input =
        shared ? input : Norm(pass.hidden, layer.mlp_norm);
    if (!shared) capture(Stage::kMlpNorm, mlp_input);
    const at::Tensor output = Mlp(pass, mlp_input, index);
    CaptureProduct(pass, Stage::kMlpOutput, Stage::kMlpInner, index, output);
    pass.hidden.add_(attention).add_(output);
    capture(Stage::kAfterMlp, pass.hidden);
    return;
  }
  const at::Tensor attended = Norm(attention, layer.attention_norm);
  if (config.sandwich_norms) capture(Stage::kAttentionNorm, attended);
  pass.hidden.add_(attended);
  capture(Stage::kAfterAttention, pass.hidden);
  const at::Tensor mlp_input = Norm(pass.hidden, layer.mlp_norm);
  capture(Stage::kMlpNorm, mlp_input);
  const at::Tensor output = Mlp(pass, mlp_input, index);
  CaptureProduct(pass, Stage::kMlpOutput, Stage::kMlpInner, index, output);
  const at::Tensor last = Norm(output, layer.output_norm);
  if (config.sandwich_norms) capture(Stage::kOutputNorm, last);
  pass.hidden.add_(last);
  capture(Stage::kAfterMlp, pass.hidden);
}

Reference::Impl::Projections Reference::Impl::Project(const Pass& pass,
                                                      const at::Tensor& normed,
                                                      size_t index) const {
  const auto number = static_cast<int64_t>(index);
  const Layer& layer = weights.layers[index];
  const int64_t rows = normed.size(0);
  const int64_t size = config.head_dim;
  const int64_t heads = config.layers[index].num_kv_heads;
  const int64_t group = config.layers[index].num_heads / heads;
  if (layer.qkv.weight == nullptr) {
    Projections p = {Floats(rows, heads * group * size),
                     Floats(rows, heads * size), Floats(rows, heads * size)};
    Run(pass, Stage::kInputNorm, number, normed,
        {{layer.q, p.queries.mutable_data_ptr<float>()},
         {layer.k, p.keys.mutable_data_ptr<float>()},
         {layer.v, p.values.mutable_data_ptr<float>()}});
    return p;
  }
  // Each key head's queries, its key and its value lie together, as
  // FalconAttention._split_heads has it.
  at::Tensor fused = Floats(rows, heads * (group + 2) * size);
  Run(pass, Stage::kInputNorm, number, normed,
      {{layer.qkv, fused.mutable_data_ptr<float>()}});
  const at::Tensor groups = fused.view({rows, heads, group + 2, size});
  const auto take = [&](int64_t first, int64_t count) {
    return groups.narrow(2, first, count)
        .contiguous()
        .view({rows, heads * count * size});
  };
  return {take(0, group), take(group, 1), take(group + 1, 1)};
}

at::Tensor Reference::Impl::Attention(const Pass& pass,
                                      const at::Tensor& normed,
                                      size_t index) const {
  const Layer& layer = weights.layers[index];
  auto [queries, keys, values] = Project(pass, normed, index);
  const auto capture = [&](Stage stage, const at::Tensor& rows) {
    Capture(pass, stage, static_cast<int64_t>(index), rows);
  };
  const auto capture_product = [&](Stage stage, const at::Tensor& rows) {
    CaptureProduct(pass, stage, Stage::kInputNorm, index, rows);
  };
  capture_product(Stage::kQueryProjection, queries);
  capture_product(Stage::kKeyProjection, keys);
  capture_product(Stage::kValueProjection, values);
  at::Tensor mixed = at::empty_like(queries);
  {
    const Timer timer(Time(&Times::attention));
    queries = HeadNorm(queries, layer.q_norm);
    keys = HeadNorm(keys, layer.k_norm);
    if (config.qk_norm) {
      capture(Stage::kQueryNorm, queries);
      capture(Stage::kKeyNorm, keys);
    }
    for (const Span& span : pass.spans) {
      KvCache& cache = span.sequence->layers[index];
      Store(RotationOf(pass, index), span, cache, queries, keys, values);
    }
    capture(Stage::kQuery, queries);
    CaptureCached(pass, Stage::kKey, index, &KvCache::keys);
    CaptureCached(pass, Stage::kValue, index, &KvCache::values);
    for (const Span& span : pass.spans) {
      Attend(span, span.sequence->layers[index], index,
             queries.narrow(0, span.row, span.count),
             mixed.narrow(0, span.row, span.count));
    }
  }
  capture(Stage::kAttention, mixed);
  at::Tensor output = Floats(pass.rows, config.hidden_size);
  Run(pass, Stage::kAttention, static_cast<int64_t>(index), mixed,
      {{layer.o, output.mutable_data_ptr<float>()}});
  return output;
}

// Rotates queries in place and keys on their way into the cache.
void Reference::Impl::Store(const Rotation* rotation, const Span& span,
                            KvCache& cache, at::Tensor& queries,
                            const at::Tensor& keys,
                            const at::Tensor& values) const {
  const int64_t size = config.head_dim;
  const int64_t rotary = rotation ? config.rotary_dim : 0;
  const int64_t heads = queries.size(1) / size;
  const int64_t kv_heads = keys.size(1) / size;
  const int64_t capacity = cache.keys.size(1);
  float* q = queries.mutable_data_ptr<float>();
  const float* k = keys.const_data_ptr<float>();
  const float* v = values.const_data_ptr<float>();
  float* cached_keys = cache.keys.mutable_data_ptr<float>();
  float* cached_values = cache.values.mutable_data_ptr<float>();
  const float* cos = rotation ? rotation->cos.const_data_ptr<float>() : nullptr;
  const float* sin = rotation ? rotation->sin.const_data_ptr<float>() : nullptr;
  at::parallel_for(0, span.count, kRowGrain, [&](int64_t i, int64_t end) {
    for (; i < end; ++i) {
      const int64_t row = span.row + i;
      const int64_t position = span.sequence->length + i;
      const float* row_cos = cos + row * rotary / 2;
      const float* row_sin = sin + row * rotary / 2;
      for (int64_t head = 0; head < heads; ++head) {
        Rotate(q + (row * heads + head) * size, row_cos, row_sin, rotary);
      }
      for (int64_t head = 0; head < kv_heads; ++head) {
        const int64_t from = (row * kv_heads + head) * size;
        const int64_t to = (head * capacity + position) * size;
        std::copy_n(k + from, size, cached_keys + to);
        Rotate(cached_keys + to, row_cos, row_sin, rotary);
        std::copy_n(v + from, size, cached_values + to);
      }
    }
  });
}

// What row i of `count` rows sees of `visible` keys, of which key past + i is
// its own: those before, and of them no more than `window`, if that is not 0.
at::Tensor CausalMask(int64_t count, int64_t visible, int64_t past,
                      int64_t window) {
  constexpr float kHidden = -std::numeric_limits<float>::infinity();
  at::Tensor mask =
      at::full({count, visible}, kHidden, at::kFloat).triu_(past + 1);
  if (window > 0) {
    mask.add_(
        at::full({count, visible}, kHidden, at::kFloat).tril_(past - window));
  }
  return mask;
}

// build_alibi_tensor of transformers' modeling_falcon, [heads, count] of keys
// from `first` on: slopes, positions and products are rounded to bfloat16.
at::Tensor AlibiBias(int64_t heads, int64_t first, int64_t count) {
  int64_t power = 1;  // the largest that is not above the number of heads
  while (power * 2 <= heads) power *= 2;
  const auto base = [](int64_t of) {
    return std::pow(2.0, -8.0 / static_cast<double>(of));
  };
  const auto powers = [](double number, const at::Tensor& exponents) {
    return at::pow(at::scalar_tensor(number, at::kFloat), exponents);
  };
  at::Tensor slopes = powers(base(power), at::arange(1, power + 1, at::kInt));
  if (power < heads) {
    const at::Tensor odd = at::arange(1, 2 * (heads - power), 2, at::kInt);
    slopes = at::cat({slopes, powers(base(2 * power), odd)});
  }
  const at::Tensor positions = at::arange(first, first + count, at::kLong);
  return (slopes.to(at::kBFloat16).unsqueeze(1) * positions).to(at::kFloat);
}

// Causal attention of `queries` over the sequence's cache. Query heads of a
// group share a key head: the group is the head dimension of ATen's operator
// and the key heads are its batch, so that keys need no copies.
void Reference::Impl::Attend(const Span& span, const KvCache& cache,
                             size_t index, at::Tensor queries,
                             at::Tensor mixed) const {
  const LayerConfig& layer = config.layers[index];
  const int64_t window = layer.window;
  const int64_t heads = layer.num_kv_heads;
  const int64_t group = layer.num_heads / heads;
  const int64_t size = config.head_dim;
  const bool interleaved =
      options.alternative && options.alternative->heads_interleaved;
  const auto grouped = [&](const at::Tensor& rows) {
    if (interleaved) {
      return rows.view({rows.size(0), group, heads, size})
          .permute({2, 1, 0, 3});
    }
    return rows.view({rows.size(0), heads, group, size}).permute({1, 2, 0, 3});
  };
  for (int64_t begin = 0; begin < span.count; begin += kQueryRows) {
    const int64_t count = std::min(kQueryRows, span.count - begin);
    // The first key that any row sees, and how many come after it.
    const int64_t end = span.sequence->length + begin + count;
    const int64_t first =
        window > 0 ? std::max(int64_t{0}, end - count - window + 1) : 0;
    const int64_t visible = end - first;
    const int64_t past = visible - count;
    const auto shared = [&](const at::Tensor& cached) {
      return cached.narrow(1, first, visible)
          .unsqueeze(1)
          .expand({heads, group, visible, size});
    };
    const int64_t hiding = visible > window ? window : 0;
    const at::Tensor q = grouped(queries.narrow(0, begin, count));
    const at::Tensor k = shared(cache.keys);
    const at::Tensor v = shared(cache.values);
    at::Tensor output = grouped(mixed.narrow(0, begin, count));
    if (MaskOf() != MaskFault::kNone) {
      output.copy_(FaultyAttention(
          q, k, v, CausalMask(count, visible, past, hiding), first + past));
      continue;
    }
    if (config.attention_softcap) {
      output.copy_(
          CappedAttention(q, k, v, CausalMask(count, visible, past, hiding)));
      continue;
    }
    // Without a past the operator's own causal mask serves; a single row sees
    // all keys.
    const bool plain = past == 0 && hiding == 0 && !config.alibi;
    std::optional<at::Tensor> mask;
    if (!plain && count > 1) mask = CausalMask(count, visible, past, hiding);
    if (config.alibi) {
      const at::Tensor bias =
          (AlibiBias(heads * group, first, visible) * config.attention_scale)
              .view({heads, group, 1, visible});
      mask = mask ? bias + *mask : bias;
    }
    output.copy_(at::scaled_dot_product_attention(
        q, k, v, mask, /*dropout_p=*/0, /*is_causal=*/plain,
        config.attention_scale));
  }
}

MaskFault Reference::Impl::MaskOf() const {
  return options.alternative ? options.alternative->mask : MaskFault::kNone;
}

// Attention as a candidate has it whose mask has the alternative's fault.
// Empty slots hold zeros, so their scores are 0 and their values add nothing:
// together they are one more key with a score of log(their number).
at::Tensor Reference::Impl::FaultyAttention(const at::Tensor& queries,
                                            const at::Tensor& keys,
                                            const at::Tensor& values,
                                            at::Tensor mask,
                                            int64_t first_position) const {
  const int64_t count = mask.size(0);
  if (MaskOf() == MaskFault::kNotItself) {
    const int64_t past = mask.size(1) - count;
    for (int64_t i = first_position == 0 ? 1 : 0; i < count; ++i) {
      mask[i][past + i] = -std::numeric_limits<float>::infinity();
    }
    return at::scaled_dot_product_attention(queries, keys, values, mask, 0,
                                            false, config.attention_scale);
  }
  at::Tensor sink = at::empty({count, 1}, at::kFloat);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t behind =
        options.alternative->kv_length - (first_position + i) - 1;
    const int64_t seen = MaskOf() == MaskFault::kNextSlot
                             ? std::min(behind, int64_t{1})
                             : behind;
    sink[i][0] = std::log(static_cast<double>(std::max(seen, int64_t{0})));
  }
  const auto with_slot = [](const at::Tensor& cached) {
    return at::cat({cached, at::zeros_like(cached.narrow(2, 0, 1))}, 2);
  };
  return at::scaled_dot_product_attention(
      queries, with_slot(keys), with_slot(values), at::cat({mask, sink}, 1), 0,
      false, config.attention_scale);
}

// eager_attention_forward of transformers' modeling_gemma2, a key head at a
// time to bound memory.
at::Tensor Reference::Impl::CappedAttention(const at::Tensor& queries,
                                            const at::Tensor& keys,
                                            const at::Tensor& values,
                                            const at::Tensor& mask) const {
  const double cap = *config.attention_softcap;
  at::Tensor mixed = at::empty_like(queries);
  for (int64_t head = 0; head < queries.size(0); ++head) {
    at::Tensor scores = at::matmul(queries[head], keys[head].transpose(1, 2));
    scores.mul_(config.attention_scale).div_(cap).tanh_().mul_(cap).add_(mask);
    mixed[head].copy_(at::matmul(at::softmax(scores, -1), values[head]));
  }
  return mixed;
}

at::Tensor Reference::Impl::Mlp(const Pass& pass, const at::Tensor& hidden,
                                size_t index) const {
  const auto number = static_cast<int64_t>(index);
  const auto capture = [&](Stage stage, const at::Tensor& rows) {
    Capture(pass, stage, number, rows);
  };
  const Layer& layer = weights.layers[index];
  at::Tensor up =
      Floats(hidden.size(0), config.layers[index].intermediate_size);
  at::Tensor inner = up;  // what the activation applies to
  if (layer.gate.weight == nullptr) {
    Run(pass, Stage::kMlpNorm, number, hidden,
        {{layer.up, up.mutable_data_ptr<float>()}});
  } else {
    inner = at::empty_like(up);
    Run(pass, Stage::kMlpNorm, number, hidden,
        {{layer.gate, inner.mutable_data_ptr<float>()},
         {layer.up, up.mutable_data_ptr<float>()}});
    CaptureProduct(pass, Stage::kGateProjection, Stage::kMlpNorm, index, inner);
  }
  CaptureProduct(pass, Stage::kUpProjection, Stage::kMlpNorm, index, up);
  switch (config.activation) {
    case Activation::kSilu:
      at::silu_(inner);
      break;
    case Activation::kGeluTanh:
      at::gelu_(inner, "tanh");
      break;
    case Activation::kGelu:
      at::gelu_(inner, "none");
      break;
    case Activation::kGeluQuick:
      // https://arxiv.org/abs/1606.08415, section 2.
      inner.mul_(at::sigmoid(inner * 1.702));
      break;
  }
  if (layer.gate.weight != nullptr) inner.mul_(up);
  capture(Stage::kMlpInner, inner);
  at::Tensor output = Floats(hidden.size(0), config.hidden_size);
  Run(pass, Stage::kMlpInner, number, inner,
      {{layer.down, output.mutable_data_ptr<float>()}});
  return output;
}

void Reference::Impl::Head(const Pass& pass, std::span<const Item> items,
                           const LogitsFn& on_logits) const {
  const Timer timer(Time(&Times::head));
  struct Wanted {
    size_t item;
    int64_t row;       // of the item
    int64_t pass_row;  // of the pass
  };
  std::vector<Wanted> wanted;
  for (size_t i = 0; i < items.size(); ++i) {
    const Span& span = pass.spans[i];
    for (int64_t row = span.count - items[i].logit_rows; row < span.count;
         ++row) {
      wanted.push_back({i, row, span.row + row});
    }
  }
  const int64_t vocab = config.vocab_size;
  const auto count = static_cast<int64_t>(wanted.size());
  const int64_t chunk = std::clamp(kMaxLogits / vocab, int64_t{1}, count + 1);
  at::Tensor rows = Floats(std::min(chunk, count), config.hidden_size);
  at::Tensor logits = Floats(std::min(chunk, count), vocab);
  for (int64_t begin = 0; begin < count; begin += chunk) {
    const int64_t size = std::min(chunk, count - begin);
    for (int64_t i = 0; i < size; ++i) {
      rows[i].copy_(pass.hidden[wanted[begin + i].pass_row]);
    }
    const at::Tensor normed = Norm(rows.narrow(0, 0, size), weights.norm);
    Capture(pass, Stage::kFinalNorm, -1, normed);
    const float* out = logits.const_data_ptr<float>();
    Run(pass, Stage::kFinalNorm, -1, normed,
        {{weights.head, logits.mutable_data_ptr<float>()}});
    Capture(pass, Stage::kHead, -1, logits.narrow(0, 0, size));
    if (config.logit_softcap) {
      const double cap = *config.logit_softcap;
      logits.narrow(0, 0, size).div_(cap).tanh_().mul_(cap);
    }
    for (int64_t i = 0; i < size; ++i) {
      const Wanted& row = wanted[begin + i];
      on_logits(row.item, row.row,
                {out + i * vocab, static_cast<size_t>(vocab)});
    }
  }
}

Reference::Reference(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Reference::~Reference() = default;
Reference::Reference(Reference&&) noexcept = default;
Reference& Reference::operator=(Reference&&) noexcept = default;

Reference Reference::Open(const Checkpoint& checkpoint, Options options) {
  const c10::InferenceMode no_autograd;
  return Reference(std::make_unique<Impl>(checkpoint, std::move(options)));
}

namespace {

std::vector<double> Doubles(const at::Tensor& from) {
  std::vector<double> result;
  for (int64_t i = 0; from.defined() && i < from.size(0); ++i) {
    result.push_back(from.const_data_ptr<float>()[i]);
  }
  return result;
}

}  // namespace

std::vector<double> Reference::RopeFrequencies(bool local) const {
  return Doubles(local ? impl_->frequencies.local : impl_->frequencies.usual);
}

std::vector<double> Reference::RopeFrequenciesOf(const ModelConfig& config,
                                                 bool local) {
  const Frequencies frequencies = GetFrequencies(config);
  return Doubles(local ? frequencies.local : frequencies.usual);
}

namespace {

// Weights read at once.
constexpr int64_t kBlockFloats = 1 << 18;

const Linear* LinearOf(const Weights& weights, Stage stage, int64_t index) {
  if (stage == Stage::kHead || stage == Stage::kRotatedFinalNorm) {
    return &weights.head;
  }
  if (index < 0 || index >= std::ssize(weights.layers)) return nullptr;
  const Layer& layer = weights.layers[static_cast<size_t>(index)];
  switch (stage) {
    case Stage::kRotatedInputNorm:
      return layer.qkv.weight == nullptr ? &layer.q : &layer.qkv;
    case Stage::kQueryProjection:
      return &layer.q;
    case Stage::kKeyProjection:
      return &layer.k;
    case Stage::kValueProjection:
      return &layer.v;
    case Stage::kRotatedAttention:
    case Stage::kAttentionOutput:
      return &layer.o;
    case Stage::kGateProjection:
      return &layer.gate;
    case Stage::kRotatedMlpNorm:
    case Stage::kUpProjection:
      return &layer.up;
    case Stage::kRotatedMlpInner:
    case Stage::kMlpOutput:
      return &layer.down;
    default:
      return nullptr;
  }
}

Reference::PreciseRow Rotate(const Rotation& rotation,
                             std::span<const float> x) {
  Reference::PreciseRow result;
  result.values.assign(x.begin(), x.end());
  rotation.Multiply(result.values);
  const auto size = static_cast<size_t>(rotation.size());
  for (size_t begin = 0; begin < x.size(); begin += size) {
    double sum = 0;
    for (size_t i = begin; i < begin + size; ++i)
      sum += std::fabs(double{x[i]});
    result.magnitudes.resize(begin + size, rotation.magnitude() * sum);
  }
  return result;
}

}  // namespace

Reference::PreciseRow Reference::Multiply(Stage stage, int64_t layer,
                                          std::span<const float> x,
                                          bool is_rotated) const {
  const Linear* linear = LinearOf(impl_->weights, stage, layer);
  if (linear == nullptr || linear->weight == nullptr) {
    throw Error("layer {} has no {} of its own", layer, NameOf(stage));
  }
  const int64_t outputs = linear->weight->shape[0];
  const int64_t inputs = linear->weight->shape[1];
  if (std::ssize(x) != inputs) {
    throw Error("{} takes {} numbers, not {}", NameOf(stage), inputs, x.size());
  }
  if (UnrotatedOf(stage)) {
    if (linear->rotation == nullptr) {
      throw Error("layer {} has no {}", layer, NameOf(stage));
    }
    std::vector<float> scaled(x.begin(), x.end());
    if (linear->input_scale != nullptr) ScaleRows(*linear->input_scale, scaled);
    return Rotate(*linear->rotation, scaled);
  }
  std::vector<float> values(x.begin(), x.end());
  if (linear->input_scale != nullptr && !is_rotated) {
    ScaleRows(*linear->input_scale, values);
  }
  if (linear->rotation != nullptr && !is_rotated) {
    RotateRows(*linear->rotation, values);
  }
  double scale = 1;
  if (linear->quantised_input) {
    QuantisedRows rows = QuantiseRows({values.data(), 1}, inputs);
    values = std::move(rows.values);
    scale = 1 / double{rows.k[0]};
  }
  PreciseRow result;
  std::vector<float> bias(static_cast<size_t>(outputs), 0.0f);
  if (linear->bias != nullptr) {
    impl_->reader.ReadFloats(*linear->bias, 0, outputs, bias.data());
  }
  const int64_t block = std::max<int64_t>(kBlockFloats / inputs, 1);
  std::vector<float> weights;
  for (int64_t begin = 0; begin < outputs; begin += block) {
    const int64_t count = std::min(block, outputs - begin);
    weights.resize(static_cast<size_t>(count * inputs));
    impl_->reader.ReadFloats(*linear->weight, begin * inputs, count * inputs,
                             weights.data());
    for (int64_t i = 0; i < count; ++i) {
      const float* row = weights.data() + i * inputs;
      double sum = 0;
      double magnitude = 0;
      for (int64_t j = 0; j < inputs; ++j) {
        const double term = double{row[j]} * values[static_cast<size_t>(j)];
        sum += term;
        magnitude += std::fabs(term);
      }
      const double offset = bias[static_cast<size_t>(begin + i)];
      result.values.push_back(sum * scale + offset);
      result.magnitudes.push_back(magnitude * scale + std::fabs(offset));
    }
  }
  return result;
}

namespace {

// Of either sign and from 1/2 to 3/2, times what makes its square 1 on average;
// by SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
double FactorOf(uint64_t seed, int probe, int64_t output) {
  uint64_t x = seed + 0x9E3779B97F4A7C15 *
                          (static_cast<uint64_t>(output) * Reference::kProbes +
                           static_cast<uint64_t>(probe) + 1);
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  x ^= x >> 31;
  const double size = 0.5 + static_cast<double>(x >> 11) * 0x1p-53;
  return ((x & 1) != 0 ? size : -size) * std::sqrt(12.0 / 13.0);
}

}  // namespace

const Reference::Impl::ProbeVectors& Reference::Impl::ProbeOf(
    const Linear& linear) const {
  if (probe.weight == linear.weight) return probe;
  const int64_t outputs = linear.weight->shape[0];
  const int64_t inputs = linear.weight->shape[1];
  for (auto& vector : probe.inputs) {
    vector.assign(static_cast<size_t>(inputs), 0.0);
  }
  probe.bias = {};
  std::vector<float> bias(static_cast<size_t>(outputs), 0.0f);
  if (linear.bias != nullptr) {
    reader.ReadFloats(*linear.bias, 0, outputs, bias.data());
  }
  std::mutex adding;
  const int64_t block = std::max<int64_t>(kBlockFloats / inputs, 1);
  at::parallel_for(0, outputs, block, [&](int64_t begin, int64_t end) {
    std::array<std::vector<double>, kProbes> sums;
    for (auto& vector : sums) vector.assign(static_cast<size_t>(inputs), 0.0);
    std::vector<float> rows;
    for (int64_t first = begin; first < end; first += block) {
      const int64_t count = std::min(block, end - first);
      rows.resize(static_cast<size_t>(count * inputs));
      reader.ReadFloats(*linear.weight, first * inputs, count * inputs,
                        rows.data());
      for (int64_t i = 0; i < count; ++i) {
        const float* row = rows.data() + i * inputs;
        for (int p = 0; p < kProbes; ++p) {
          const double factor = FactorOf(options.probe_seed, p, first + i);
          double* sum = sums[static_cast<size_t>(p)].data();
          for (int64_t j = 0; j < inputs; ++j) sum[j] += factor * row[j];
        }
      }
    }
    const std::lock_guard lock(adding);
    for (size_t p = 0; p < kProbes; ++p) {
      for (size_t j = 0; j < sums[p].size(); ++j) {
        probe.inputs[p][j] += sums[p][j];
      }
    }
  });
  for (int p = 0; p < kProbes; ++p) {
    for (int64_t i = 0; i < outputs; ++i) {
      probe.bias[static_cast<size_t>(p)] +=
          FactorOf(options.probe_seed, p, i) * bias[static_cast<size_t>(i)];
    }
  }
  probe.weight = linear.weight;
  return probe;
}

double Reference::Probe(Stage stage, int64_t layer, std::span<const float> x,
                        bool is_rotated, std::span<const float> found) const {
  const Linear* linear = LinearOf(impl_->weights, stage, layer);
  if (linear == nullptr || linear->weight == nullptr || UnrotatedOf(stage)) {
    throw Error("layer {} has no {} of its own", layer, NameOf(stage));
  }
  const int64_t inputs = linear->weight->shape[1];
  if (std::ssize(x) != inputs ||
      std::ssize(found) != linear->weight->shape[0]) {
    throw Error("{} makes {} of {} numbers, not {} of {}", NameOf(stage),
                linear->weight->shape[0], inputs, found.size(), x.size());
  }
  std::vector<float> values(x.begin(), x.end());
  if (linear->rotation != nullptr && !is_rotated) {
    RotateRows(*linear->rotation, values);
  }
  double scale = 1;
  if (linear->quantised_input) {
    QuantisedRows rows = QuantiseRows({values.data(), 1}, inputs);
    values = std::move(rows.values);
    scale = 1 / double{rows.k[0]};
  }
  const Impl::ProbeVectors& vectors = impl_->ProbeOf(*linear);
  double squares = 0;
  for (int p = 0; p < kProbes; ++p) {
    const auto index = static_cast<size_t>(p);
    double expected = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      expected += vectors.inputs[index][i] * values[i];
    }
    double sum = 0;
    for (size_t i = 0; i < found.size(); ++i) {
      sum += FactorOf(impl_->options.probe_seed, p, static_cast<int64_t>(i)) *
             found[i];
    }
    const double d = sum - (expected * scale + vectors.bias[index]);
    squares += d * d;
  }
  if (squares == 0) return 0;
  double size = 0;
  for (const float value : found) size += double{value} * value;
  const double error = std::sqrt(squares / kProbes / size);
  return std::isnan(error) ? std::numeric_limits<double>::infinity() : error;
}

Sequence Reference::NewSequence() const {
  const c10::InferenceMode no_autograd;
  auto sequence = std::make_unique<Sequence::Impl>();
  sequence->owner = impl_.get();
  const ModelConfig& config = impl_->config;
  for (const LayerConfig& layer : config.layers) {
    const at::Tensor empty =
        at::empty({layer.num_kv_heads, 0, config.head_dim}, at::kFloat);
    sequence->layers.push_back({empty, empty});
  }
  return Sequence(std::move(sequence));
}

void Reference::Score(std::span<const Item> items, const LogitsFn& on_logits,
                      const CaptureFn& capture) {
  const Timer timer(impl_->Time(&Times::total));
  const c10::InferenceMode no_autograd;
  at::set_num_threads(impl_->options.num_threads);
  impl_->Check(items);
  if (items.empty()) return;
  Impl::Pass pass = impl_->Begin(items);
  if (capture) pass.capture = &capture;
  Impl::Capture(pass, Stage::kEmbedding, -1, pass.hidden);
  const size_t layers = impl_->weights.layers.size();
  for (size_t i = 0; i < layers; ++i) {
    impl_->Prefetch(i + 1);
    const auto layer = static_cast<int64_t>(i);
    for (const Impl::Span& span : pass.spans) {
      if (span.sequence->read_layer) {
        span.sequence->ReadLayer(layer, span.count);
      }
    }
    impl_->RunLayer(pass, i);
    for (const Impl::Span& span : pass.spans) {
      if (span.sequence->read_layer) span.sequence->ForgetLayer(layer);
    }
    if (impl_->options.progress) {
      impl_->options.progress("reference: layer", static_cast<int64_t>(i + 1),
                              static_cast<int64_t>(layers));
    }
  }
  for (const Impl::Span& span : pass.spans) {
    span.sequence->length += span.count;
  }
  impl_->Head(pass, items, on_logits);
}

}  // namespace verify_tflite
