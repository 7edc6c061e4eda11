// LlamaForCausalLM of transformers 5.24 (models/llama/modeling_llama.py) in
// float32, layer by layer over all sequences of a pass.
#include "reference/reference.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
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

struct Layer {
  const TensorView* input_norm;
  Linear q, k, v, o;
  const TensorView* post_attention_norm;
  Linear gate, up, down;
};

struct Weights {
  const TensorView* embedding;
  std::vector<Layer> layers;
  const TensorView* norm;
  Linear head;
};

Linear GetLinear(const Checkpoint& checkpoint, const std::string& name,
                 int64_t outputs, int64_t inputs, bool bias) {
  return {&checkpoint.Get(name + ".weight", {outputs, inputs}),
          bias ? &checkpoint.Get(name + ".bias", {outputs}) : nullptr};
}

Layer GetLayer(const Checkpoint& checkpoint, int64_t index) {
  const ModelConfig& c = checkpoint.config();
  const std::string prefix = fmt::format("model.layers.{}.", index);
  const auto norm = [&](const char* name) {
    return &checkpoint.Get(prefix + name + ".weight", {c.hidden_size});
  };
  const auto attention = [&](const char* name, int64_t outputs,
                             int64_t inputs) {
    return GetLinear(checkpoint, prefix + "self_attn." + name, outputs, inputs,
                     c.attention_bias);
  };
  const auto mlp = [&](const char* name, int64_t outputs, int64_t inputs) {
    return GetLinear(checkpoint, prefix + "mlp." + name, outputs, inputs,
                     c.mlp_bias);
  };
  const int64_t queries = c.num_heads * c.head_dim;
  const int64_t keys = c.num_kv_heads * c.head_dim;
  return {.input_norm = norm("input_layernorm"),
          .q = attention("q_proj", queries, c.hidden_size),
          .k = attention("k_proj", keys, c.hidden_size),
          .v = attention("v_proj", keys, c.hidden_size),
          .o = attention("o_proj", c.hidden_size, queries),
          .post_attention_norm = norm("post_attention_layernorm"),
          .gate = mlp("gate_proj", c.intermediate_size, c.hidden_size),
          .up = mlp("up_proj", c.intermediate_size, c.hidden_size),
          .down = mlp("down_proj", c.hidden_size, c.intermediate_size)};
}

Weights GetWeights(const Checkpoint& checkpoint) {
  const ModelConfig& c = checkpoint.config();
  Weights weights;
  weights.embedding = &checkpoint.Get("model.embed_tokens.weight",
                                      {c.vocab_size, c.hidden_size});
  for (int64_t i = 0; i < c.num_layers; ++i) {
    weights.layers.push_back(GetLayer(checkpoint, i));
  }
  weights.norm = &checkpoint.Get("model.norm.weight", {c.hidden_size});
  // A head of its own wins over tie_word_embeddings, as in transformers, which
  // ties only when the file has no such tensor or one equal to the embedding.
  const bool tied = c.tie_word_embeddings && !checkpoint.Has("lm_head.weight");
  weights.head = tied ? Linear{weights.embedding}
                      : GetLinear(checkpoint, "lm_head", c.vocab_size,
                                  c.hidden_size, /*bias=*/false);
  return weights;
}

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
at::Tensor InverseFrequencies(const ModelConfig& config) {
  const at::Tensor exponents =
      at::arange(0, config.head_dim, 2, at::kFloat) / config.head_dim;
  const at::Tensor inv_freq =
      at::pow(at::Scalar(config.rope_theta), exponents).reciprocal();
  return config.llama3_rope ? ScaleLlama3(inv_freq, *config.llama3_rope)
                            : inv_freq;
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

// Rotates a head: element i pairs with i + size/2 (rotate_half).
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
  std::vector<KvCache> layers;

  void Reserve(int64_t needed) {
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

struct Reference::Impl {
  Impl(const Checkpoint& from, Options given)
      : checkpoint(from),
        config(from.config()),
        options(std::move(given)),
        weights(GetWeights(from)),
        reader(from),
        inv_freq(InverseFrequencies(config)) {}

  const Checkpoint& checkpoint;
  const ModelConfig& config;
  Options options;
  Weights weights;
  WeightReader reader;
  at::Tensor inv_freq;

  // One item of a pass, its tokens being `count` rows from `row` on.
  struct Span {
    Sequence::Impl* sequence;
    int64_t row;
    int64_t count;
  };

  // What a pass carries from layer to layer.
  struct Pass {
    std::vector<Span> spans;
    int64_t rows = 0;
    at::Tensor hidden;    // [rows, hidden_size]
    at::Tensor cos, sin;  // [rows, head_dim / 2]
  };

  double* Time(double Times::*part) const {
    return options.times ? &(options.times->*part) : nullptr;
  }

  void Check(std::span<const Item> items) const;
  Pass Begin(std::span<const Item> items) const;
  at::Tensor Embed(std::span<const Item> items, int64_t rows) const;
  void FillRotation(Pass& pass) const;
  void RunLayer(Pass& pass, size_t index) const;
  at::Tensor Attention(const Pass& pass, size_t index) const;
  void Attend(const Span& span, const KvCache& cache, at::Tensor queries,
              at::Tensor mixed) const;
  void Store(const Pass& pass, const Span& span, KvCache& cache,
             at::Tensor& queries, const at::Tensor& keys,
             const at::Tensor& values) const;
  at::Tensor Mlp(const at::Tensor& hidden, const Layer& layer) const;
  void Head(const Pass& pass, std::span<const Item> items,
            const LogitsFn& on_logits) const;
  void Run(const at::Tensor& input,
           std::initializer_list<LinearTask> tasks) const;
  at::Tensor Norm(const at::Tensor& input, const TensorView& weight) const;
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

Reference::Impl::Pass Reference::Impl::Begin(
    std::span<const Item> items) const {
  Pass pass;
  for (const Item& item : items) {
    Sequence::Impl* sequence = item.sequence->impl_.get();
    const auto count = static_cast<int64_t>(item.tokens.size());
    sequence->Reserve(sequence->length + count);
    pass.spans.push_back({sequence, pass.rows, count});
    pass.rows += count;
  }
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
  return hidden;
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
  const at::Tensor angles = positions * inv_freq;
  pass.cos = angles.cos();
  pass.sin = angles.sin();
}

void Reference::Impl::Run(const at::Tensor& input,
                          std::initializer_list<LinearTask> tasks) const {
  const Timer timer(Time(&Times::linear));
  RunLinear(reader, {input.const_data_ptr<float>(), input.size(0)}, tasks,
            options.max_dot_rows.value_or(AvailableKernels()[0].max_dot_rows));
}

at::Tensor Reference::Impl::Norm(const at::Tensor& input,
                                 const TensorView& weight) const {
  std::vector<float> scale(config.hidden_size);
  reader.ReadFloats(weight, 0, config.hidden_size, scale.data());
  return RmsNorm(input, scale, config.rms_norm_eps);
}

// Disk and processor work at the same time.
void Reference::Impl::Prefetch(size_t index) const {
  if (index == weights.layers.size()) {
    reader.WillNeed(*weights.head.weight);
    return;
  }
  const Layer& l = weights.layers[index];
  for (const Linear& linear : {l.q, l.k, l.v, l.o, l.gate, l.up, l.down}) {
    reader.WillNeed(*linear.weight);
  }
}

void Reference::Impl::RunLayer(Pass& pass, size_t index) const {
  const Layer& layer = weights.layers[index];
  pass.hidden.add_(Attention(pass, index));
  pass.hidden.add_(Mlp(Norm(pass.hidden, *layer.post_attention_norm), layer));
}

at::Tensor Reference::Impl::Attention(const Pass& pass, size_t index) const {
  const Layer& layer = weights.layers[index];
  const at::Tensor normed = Norm(pass.hidden, *layer.input_norm);
  at::Tensor queries = Floats(pass.rows, config.num_heads * config.head_dim);
  at::Tensor keys = Floats(pass.rows, config.num_kv_heads * config.head_dim);
  at::Tensor values = at::empty_like(keys);
  Run(normed, {{layer.q, queries.mutable_data_ptr<float>()},
               {layer.k, keys.mutable_data_ptr<float>()},
               {layer.v, values.mutable_data_ptr<float>()}});
  at::Tensor mixed = at::empty_like(queries);
  {
    const Timer timer(Time(&Times::attention));
    for (const Span& span : pass.spans) {
      KvCache& cache = span.sequence->layers[index];
      Store(pass, span, cache, queries, keys, values);
      Attend(span, cache, queries.narrow(0, span.row, span.count),
             mixed.narrow(0, span.row, span.count));
    }
  }
  at::Tensor output = Floats(pass.rows, config.hidden_size);
  Run(mixed, {{layer.o, output.mutable_data_ptr<float>()}});
  return output;
}

// Rotates queries in place and keys on their way into the cache.
void Reference::Impl::Store(const Pass& pass, const Span& span, KvCache& cache,
                            at::Tensor& queries, const at::Tensor& keys,
                            const at::Tensor& values) const {
  const int64_t size = config.head_dim;
  const int64_t capacity = cache.keys.size(1);
  float* q = queries.mutable_data_ptr<float>();
  const float* k = keys.const_data_ptr<float>();
  const float* v = values.const_data_ptr<float>();
  float* cached_keys = cache.keys.mutable_data_ptr<float>();
  float* cached_values = cache.values.mutable_data_ptr<float>();
  const float* cos = pass.cos.const_data_ptr<float>();
  const float* sin = pass.sin.const_data_ptr<float>();
  at::parallel_for(0, span.count, kRowGrain, [&](int64_t i, int64_t end) {
    for (; i < end; ++i) {
      const int64_t row = span.row + i;
      const int64_t position = span.sequence->length + i;
      const float* row_cos = cos + row * size / 2;
      const float* row_sin = sin + row * size / 2;
      for (int64_t head = 0; head < config.num_heads; ++head) {
        Rotate(q + (row * config.num_heads + head) * size, row_cos, row_sin,
               size);
      }
      for (int64_t head = 0; head < config.num_kv_heads; ++head) {
        const int64_t from = (row * config.num_kv_heads + head) * size;
        const int64_t to = (head * capacity + position) * size;
        std::copy_n(k + from, size, cached_keys + to);
        Rotate(cached_keys + to, row_cos, row_sin, size);
        std::copy_n(v + from, size, cached_values + to);
      }
    }
  });
}

// Causal attention of `queries` over the sequence's whole cache. Query heads of
// a group share a key head: the group is the head dimension of ATen's operator
// and the key heads are its batch, so that keys need no copies.
void Reference::Impl::Attend(const Span& span, const KvCache& cache,
                             at::Tensor queries, at::Tensor mixed) const {
  const int64_t heads = config.num_kv_heads;
  const int64_t group = config.num_heads / heads;
  const int64_t size = config.head_dim;
  const auto grouped = [&](const at::Tensor& rows) {
    return rows.view({rows.size(0), heads, group, size}).permute({1, 2, 0, 3});
  };
  for (int64_t begin = 0; begin < span.count; begin += kQueryRows) {
    const int64_t count = std::min(kQueryRows, span.count - begin);
    const int64_t past = span.sequence->length + begin;
    const int64_t visible = past + count;
    const auto shared = [&](const at::Tensor& cached) {
      return cached.narrow(1, 0, visible)
          .unsqueeze(1)
          .expand({heads, group, visible, size});
    };
    // Without a past the operator's own causal mask serves; with one, row i
    // sees keys 0 … past + i.
    std::optional<at::Tensor> mask;
    if (past > 0 && count > 1) {
      mask = at::full({count, visible}, -std::numeric_limits<float>::infinity(),
                      at::kFloat)
                 .triu_(past + 1);
    }
    const at::Tensor result = at::scaled_dot_product_attention(
        grouped(queries.narrow(0, begin, count)), shared(cache.keys),
        shared(cache.values), mask, /*dropout_p=*/0, /*is_causal=*/past == 0);
    grouped(mixed.narrow(0, begin, count)).copy_(result);
  }
}

at::Tensor Reference::Impl::Mlp(const at::Tensor& hidden,
                                const Layer& layer) const {
  at::Tensor gate = Floats(hidden.size(0), config.intermediate_size);
  at::Tensor up = at::empty_like(gate);
  Run(hidden, {{layer.gate, gate.mutable_data_ptr<float>()},
               {layer.up, up.mutable_data_ptr<float>()}});
  at::silu_(gate).mul_(up);
  at::Tensor output = Floats(hidden.size(0), config.hidden_size);
  Run(gate, {{layer.down, output.mutable_data_ptr<float>()}});
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
    const at::Tensor normed = Norm(rows.narrow(0, 0, size), *weights.norm);
    const float* out = logits.const_data_ptr<float>();
    Run(normed, {{weights.head, logits.mutable_data_ptr<float>()}});
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

Sequence Reference::NewSequence() const {
  const c10::InferenceMode no_autograd;
  auto sequence = std::make_unique<Sequence::Impl>();
  sequence->owner = impl_.get();
  const ModelConfig& config = impl_->config;
  const at::Tensor empty =
      at::empty({config.num_kv_heads, 0, config.head_dim}, at::kFloat);
  sequence->layers.assign(impl_->weights.layers.size(), {empty, empty});
  return Sequence(std::move(sequence));
}

void Reference::Score(std::span<const Item> items, const LogitsFn& on_logits) {
  const Timer timer(impl_->Time(&Times::total));
  const c10::InferenceMode no_autograd;
  at::set_num_threads(impl_->options.num_threads);
  impl_->Check(items);
  if (items.empty()) return;
  Impl::Pass pass = impl_->Begin(items);
  const size_t layers = impl_->weights.layers.size();
  for (size_t i = 0; i < layers; ++i) {
    impl_->Prefetch(i + 1);
    impl_->RunLayer(pass, i);
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
