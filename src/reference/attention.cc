// SPDX-License-Identifier: Apache-2.0
#include "reference/attention.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "reference/norms.h"

namespace verify_tflite {
namespace {

// Rows of queries that attend at once; bounds the mask, and skips most of what
// it would hide.
constexpr int64_t kQueryRows = 256;

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

// Attention as a candidate has it whose mask has the alternative's fault.
// Empty slots hold zeros, so their scores are 0 and their values add nothing:
// together they are one more key with a score of log(their number).
at::Tensor FaultyAttention(const ModelConfig& config,
                           const Alternative& alternative,
                           const at::Tensor& queries, const at::Tensor& keys,
                           const at::Tensor& values, at::Tensor mask,
                           int64_t first_position) {
  const int64_t count = mask.size(0);
  if (alternative.mask == MaskFault::kNotItself) {
    const int64_t past = mask.size(1) - count;
    for (int64_t i = first_position == 0 ? 1 : 0; i < count; ++i) {
      mask[i][past + i] = -std::numeric_limits<float>::infinity();
    }
    return at::scaled_dot_product_attention(queries, keys, values, mask, 0,
                                            false, config.attention_scale);
  }
  at::Tensor sink = at::empty({count, 1}, at::kFloat);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t behind = alternative.kv_length - (first_position + i) - 1;
    const int64_t seen = alternative.mask == MaskFault::kNextSlot
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
at::Tensor CappedAttention(const ModelConfig& config, const at::Tensor& queries,
                           const at::Tensor& keys, const at::Tensor& values,
                           const at::Tensor& mask) {
  const double cap = *config.attention_softcap;
  at::Tensor mixed = at::empty_like(queries);
  for (int64_t head = 0; head < queries.size(0); ++head) {
    at::Tensor scores = at::matmul(queries[head], keys[head].transpose(1, 2));
    scores.mul_(config.attention_scale).div_(cap).tanh_().mul_(cap).add_(mask);
    mixed[head].copy_(at::matmul(at::softmax(scores, -1), values[head]));
  }
  return mixed;
}

}  // namespace

void RotateHeads(const ModelConfig& config, const RopeAngles& rotation,
                 const Span& span, int64_t size, const at::Tensor& heads) {
  const int64_t half = rotation.cos.size(1);
  const int64_t count = heads.size(1) / size;
  float* const data = heads.mutable_data_ptr<float>();
  const float* cos = rotation.cos.const_data_ptr<float>();
  const float* sin = rotation.sin.const_data_ptr<float>();
  const auto rotate = config.interleaved_rope ? RotateNeighbours : Rotate;
  at::parallel_for(0, span.count, kRowGrain, [&](int64_t i, int64_t end) {
    for (; i < end; ++i) {
      const int64_t row = span.row + i;
      for (int64_t head = 0; head < count; ++head) {
        rotate(data + (row * count + head) * size, cos + row * half,
               sin + row * half, 2 * half);
      }
    }
  });
}

// As get_llama_4_attn_scale of transformers' modeling_ministral3, in float32.
void ScaleQueries(const QueryScaling& scaling, const Span& span,
                  const at::Tensor& queries) {
  for (int64_t i = 0; i < span.count; ++i) {
    const int64_t turns =
        (span.sequence->length + i) / scaling.original_max_position_embeddings;
    const float scale = 1 + static_cast<float>(scaling.beta) *
                                std::log(1 + static_cast<float>(turns));
    if (scale != 1) queries[span.row + i].mul_(scale);
  }
}

void Store(const Span& span, const at::Tensor& keys, const at::Tensor& values,
           LayerCache& cache) {
  const int64_t size = cache.keys.size(2);
  const int64_t heads = keys.size(1) / size;
  const int64_t capacity = cache.keys.size(1);
  const float* k = keys.const_data_ptr<float>();
  const float* v = values.const_data_ptr<float>();
  float* cached_keys = cache.keys.mutable_data_ptr<float>();
  float* cached_values = cache.values.mutable_data_ptr<float>();
  at::parallel_for(0, span.count, kRowGrain, [&](int64_t i, int64_t end) {
    for (; i < end; ++i) {
      const int64_t row = span.row + i;
      const int64_t position = span.sequence->length + i;
      for (int64_t head = 0; head < heads; ++head) {
        const int64_t from = (row * heads + head) * size;
        const int64_t to = (head * capacity + position) * size;
        std::copy_n(k + from, size, cached_keys + to);
        std::copy_n(v + from, size, cached_values + to);
      }
    }
  });
}

void Attend(const ModelConfig& config, const Alternative* alternative,
            const LayerConfig& layer, const Span& span, const LayerCache& cache,
            const at::Tensor& queries, const at::Tensor& mixed) {
  const int64_t window = layer.window;
  const int64_t heads = layer.num_kv_heads;
  const int64_t group = layer.num_heads / heads;
  const int64_t size = layer.head_dim;
  const bool interleaved =
      alternative != nullptr && alternative->heads_interleaved;
  const MaskFault fault =
      alternative == nullptr ? MaskFault::kNone : alternative->mask;
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
    if (fault != MaskFault::kNone) {
      output.copy_(FaultyAttention(config, *alternative, q, k, v,
                                   CausalMask(count, visible, past, hiding),
                                   first + past));
      continue;
    }
    if (config.attention_softcap) {
      output.copy_(CappedAttention(config, q, k, v,
                                   CausalMask(count, visible, past, hiding)));
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

}  // namespace verify_tflite
