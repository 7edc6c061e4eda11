// SPDX-License-Identifier: Apache-2.0
// The decoders of transformers 5.24 (models/*/modeling_*.py) in float32, layer
// by layer over all sequences of a pass. One block serves all families, as
// ModelConfig says: LlamaForCausalLM is the plain case.
#include "reference/reference.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <c10/core/InferenceMode.h>

#include <set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "reference/decoder.h"
#include "reference/pass.h"
#include "reference/sequence.h"

namespace verify_tflite {
namespace {

// longrope_frequency_update of transformers' modeling_rope_utils.
bool IsLong(const ModelConfig& config, int64_t length) {
  return config.long_rope &&
         length > config.long_rope->original_max_position_embeddings;
}

// Where a text becomes long, transformers computes all of it anew with other
// frequencies.
void CheckRope(const Decoder& decoder, const SequenceState& sequence,
               int64_t count) {
  const ModelConfig& config = decoder.config;
  if (config.dynamic_rope &&
      sequence.length + count > config.max_position_embeddings) {
    throw Error(
        "{}: a text of {} tokens is longer than max_position_embeddings {}, "
        "where dynamic RoPE changes its frequencies with every token: that is "
        "not supported. Take a shorter one",
        decoder.checkpoint.directory(), sequence.length + count,
        config.max_position_embeddings);
  }
  if (sequence.length == 0 ||
      sequence.long_rope == IsLong(config, sequence.length + count)) {
    return;
  }
  throw Error(
      "{}: a sequence cannot go on across {} tokens "
      "(original_max_position_embeddings), where longrope changes all its "
      "keys: score it anew",
      decoder.checkpoint.directory(),
      config.long_rope->original_max_position_embeddings);
}

std::vector<double> Doubles(const at::Tensor& from) {
  std::vector<double> result;
  for (int64_t i = 0; from.defined() && i < from.size(0); ++i) {
    result.push_back(from.const_data_ptr<float>()[i]);
  }
  return result;
}

}  // namespace

Reference::Reference(std::unique_ptr<Decoder> decoder)
    : decoder_(std::move(decoder)) {}
Reference::~Reference() = default;
Reference::Reference(Reference&&) noexcept = default;
Reference& Reference::operator=(Reference&&) noexcept = default;

Reference Reference::Open(const Checkpoint& checkpoint, Options options) {
  const c10::InferenceMode no_autograd;
  return Reference(std::make_unique<Decoder>(checkpoint, std::move(options)));
}

std::span<const float> Reference::ChoiceBias(int64_t layer) const {
  return decoder_->weights.layers.at(static_cast<size_t>(layer)).choice_bias;
}

std::vector<double> Reference::RopeFrequencies(bool local) const {
  return Doubles(local ? decoder_->frequencies.local
                       : decoder_->frequencies.usual);
}

std::vector<double> Reference::RopeFrequenciesOf(const ModelConfig& config,
                                                 bool local) {
  const Frequencies frequencies = GetFrequencies(config);
  return Doubles(local ? frequencies.local : frequencies.usual);
}

bool Reference::HasKeys(int64_t layer) const {
  return decoder_->config.layers.at(static_cast<size_t>(layer)).HasKeys();
}

Sequence Reference::NewSequence() const {
  const c10::InferenceMode no_autograd;
  auto state = std::make_unique<SequenceState>();
  state->owner = decoder_.get();
  const ModelConfig& config = decoder_->config;
  for (const LayerConfig& layer : config.layers) {
    const int64_t heads = layer.kv_source < 0 ? layer.num_kv_heads : 0;
    const at::Tensor empty = at::empty({heads, 0, layer.head_dim}, at::kFloat);
    const at::Tensor none = at::empty({heads, 0, 0}, at::kFloat);
    state->layers.push_back({empty, layer.conv ? none : empty});
  }
  return Sequence(std::move(state));
}

void Reference::Check(std::span<const Item> items) const {
  std::set<const Sequence*> seen;
  for (const Item& item : items) {
    if (item.sequence->state_->owner != decoder_.get()) {
      throw Error("a sequence of another reference cannot be scored");
    }
    if (!seen.insert(item.sequence).second) {
      throw Error("a sequence occurs twice in a pass");
    }
    const auto count = static_cast<int64_t>(item.tokens.size());
    CheckRope(*decoder_, *item.sequence->state_, count);
    if (count == 0) throw Error("an item of a pass has no tokens");
    if (item.logit_rows < 0 || item.logit_rows > count) {
      throw Error("logits of {} rows wanted, the item has {} tokens",
                  item.logit_rows, count);
    }
    for (const int32_t token : item.tokens) {
      if (token < 0 || token >= decoder_->config.vocab_size) {
        throw Error("{}: token id {} is outside the vocabulary of {}",
                    decoder_->checkpoint.directory(), token,
                    decoder_->config.vocab_size);
      }
    }
  }
}

void Reference::Score(std::span<const Item> items, const LogitsFn& on_logits,
                      const CaptureFn& capture) {
  const Timer timer(decoder_->Time(&Times::total));
  const c10::InferenceMode no_autograd;
  at::set_num_threads(decoder_->options.num_threads);
  Check(items);
  if (items.empty()) return;
  std::vector<Span> spans;
  int64_t row = 0;
  for (const Item& item : items) {
    SequenceState* sequence = item.sequence->state_.get();
    const auto count = static_cast<int64_t>(item.tokens.size());
    sequence->Reserve(sequence->length + count);
    sequence->long_rope = IsLong(decoder_->config, sequence->length + count);
    spans.push_back({sequence, row, count});
    row += count;
  }
  Pass(*decoder_, items, std::move(spans), capture ? &capture : nullptr)
      .Run(on_logits);
}

}  // namespace verify_tflite
