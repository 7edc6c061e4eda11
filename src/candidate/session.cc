#include "candidate/session.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <variant>

#include "base/error.h"
#include "base/utf8.h"
#include "candidate/compiled_model.h"
#include "candidate/embedding.h"
#include "candidate/host_buffer.h"
#include "candidate/model_impl.h"
#include "candidate/signature_inputs.h"

namespace verify_tflite {
namespace {

// An output of integers, and the numbers that they stand for.
struct IntegerOutput {
  std::variant<std::span<int8_t>, std::span<int16_t>> stored;
  TensorScale scale;
  mutable std::vector<float> numbers;
};

// A compiled signature with its own buffers. The handles are in the order of
// the graph's inputs and outputs; those of the KV caches change with every run.
struct BoundSignature {
  const LlmSignature* signature = nullptr;
  std::vector<HostBuffer> buffers;
  std::vector<LiteRtTensorBuffer> inputs;
  std::vector<LiteRtTensorBuffer> outputs;
  std::span<int32_t> tokens;
  std::span<int32_t> positions;
  std::span<int32_t> params;
  std::span<float> embeddings;
  int32_t embeddings_tensor = -1;  // in the signature's graph
  std::span<float> per_layer_embeddings;
  MaskInput mask;
  MaskInput local_mask;
  std::span<float> logits;
  // Of integer logits: what the graph writes; `logits` is then `dequantised`.
  std::variant<std::monostate, std::span<int8_t>, std::span<int16_t>> stored;
  TensorScale logits_scale;
  std::vector<float> dequantised;
  // Outputs that running the model has no use for, by name: taps.
  std::map<std::string, std::span<const float>> unused;
  std::map<std::string, IntegerOutput> unused_integers;
};

MaskInput MaskOf(const HostBuffer& buffer, const TensorSpec& tensor) {
  switch (buffer.type()) {
    case ElementType::kInt8:
      return MaskOf(buffer.As<int8_t>(), tensor.scale.value());
    case ElementType::kInt16:
      return MaskOf(buffer.As<int16_t>(), tensor.scale.value());
    case ElementType::kBool:
      return buffer.As<uint8_t>();
    case ElementType::kFloat16:
      return buffer.As<uint16_t>();
    default:
      return buffer.As<float>();
  }
}

void Dequantise(std::monostate, const TensorScale&, std::span<float>) {}

template <typename Stored>
void Dequantise(std::span<Stored> stored, const TensorScale& scale,
                std::span<float> values) {
  std::ranges::transform(stored, values.begin(), [&](Stored x) {
    return scale.scale * static_cast<float>(x - scale.zero_point);
  });
}

// After a run of a signature with integer logits.
void DequantiseLogits(BoundSignature& bound) {
  std::visit(
      [&](auto stored) {
        Dequantise(stored, bound.logits_scale, bound.logits);
      },
      bound.stored);
}

void KeepLogits(BoundSignature& bound, const HostBuffer& buffer,
                const TensorSpec& tensor) {
  if (!IsQuantised(tensor)) {
    bound.logits = buffer.As<float>();
    return;
  }
  bound.logits_scale = *tensor.scale;
  if (tensor.type == ElementType::kInt8) {
    bound.stored = buffer.As<int8_t>();
    bound.dequantised.resize(buffer.As<int8_t>().size());
  } else {
    bound.stored = buffer.As<int16_t>();
    bound.dequantised.resize(buffer.As<int16_t>().size());
  }
  bound.logits = bound.dequantised;
}

void KeepSpan(BoundSignature& bound, Role role, const HostBuffer& buffer,
              const TensorSpec& tensor) {
  switch (role) {
    case Role::kTokens:
      bound.tokens = buffer.As<int32_t>();
      break;
    case Role::kPositions:
      bound.positions = buffer.As<int32_t>();
      break;
    case Role::kMask:
      bound.mask = MaskOf(buffer, tensor);
      break;
    case Role::kLocalMask:
      bound.local_mask = MaskOf(buffer, tensor);
      break;
    case Role::kParams:
      bound.params = buffer.As<int32_t>();
      break;
    case Role::kEmbeddings:
      bound.embeddings = buffer.As<float>();
      bound.embeddings_tensor = static_cast<int32_t>(tensor.index);
      break;
    case Role::kPerLayerEmbeddings:
      bound.per_layer_embeddings = buffer.As<float>();
      break;
    case Role::kLogits:
      KeepLogits(bound, buffer, tensor);
      break;
    case Role::kKvCache:
    case Role::kUnused:
      break;
  }
}

void KeepUnused(BoundSignature& bound, const HostBuffer& buffer,
                const TensorSpec& tensor) {
  if (tensor.type == ElementType::kFloat32) {
    bound.unused[tensor.name] = buffer.As<float>();
  }
  if (!IsQuantised(tensor)) return;
  IntegerOutput& output = bound.unused_integers[tensor.name];
  output.scale = *tensor.scale;
  if (tensor.type == ElementType::kInt8) {
    output.stored = buffer.As<int8_t>();
  } else {
    output.stored = buffer.As<int16_t>();
  }
}

// As the last run left it.
std::span<const float> NumbersOf(const IntegerOutput& output) {
  std::visit(
      [&](auto stored) {
        output.numbers.resize(stored.size());
        Dequantise(stored, output.scale, output.numbers);
      },
      output.stored);
  return output.numbers;
}

std::vector<LiteRtTensorBuffer> BindTensors(
    BoundSignature& bound, const std::vector<TensorSpec>& tensors,
    const std::vector<Slot>& slots) {
  std::vector<LiteRtTensorBuffer> handles(tensors.size(), nullptr);
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (slots[i].role == Role::kKvCache) continue;
    bound.buffers.emplace_back(tensors[i], bound.signature->origin);
    handles[i] = bound.buffers.back().handle();
    KeepSpan(bound, slots[i].role, bound.buffers.back(), tensors[i]);
    if (slots[i].role == Role::kUnused) {
      KeepUnused(bound, bound.buffers.back(), tensors[i]);
    }
  }
  return handles;
}

BoundSignature Bind(const LlmSignature& signature) {
  BoundSignature bound;
  bound.signature = &signature;
  bound.inputs = BindTensors(bound, signature.spec.inputs, signature.inputs);
  bound.outputs = BindTensors(bound, signature.spec.outputs, signature.outputs);
  return bound;
}

}  // namespace

struct KvCache::Impl {
  struct Set {
    std::vector<HostBuffer> buffers;
    // With rings, where a signature writes before both are exchanged: in place,
    // the graph may overwrite slots of a ring before it has read them (seen
    // with chunks longer than the ring). Else empty.
    std::vector<HostBuffer> next;
  };

  Set one;  // as LlmSignatures::kv_caches
  // As LlmSignatures::decode_kv_caches, where they differ; else empty. Then one
  // of both is up to date.
  Set batch;
  bool batch_is_current = false;
  int64_t length = 0;
  // With rings: their length, the tokens fed, and whether a truncation needs
  // slots that were overwritten, so that all tokens have to be fed again.
  int64_t ring_length = 0;
  std::vector<int32_t> fed;
  bool must_replay = false;
  // With states beside keys and values, which a truncation cannot cut back:
  // copies of them, in the order of LlmSignatures::states, by the tokens fed so
  // far; and the tokens, which are fed again behind the last copy.
  struct Snapshot {
    int64_t length = 0;
    std::vector<std::vector<std::byte>> states;
  };
  std::vector<size_t> states;  // as LlmSignatures::states
  std::vector<Snapshot> snapshots;

  void Remember();
  // Returns how many tokens the states are of now.
  int64_t Recall();
  bool keeps_tokens() const { return ring_length > 0 || !states.empty(); }

  // The caches that a signature of one sequence, or of a batch of them, takes,
  // holding what was fed so far.
  Set& For(bool wants_batch);
};

KvCache::Impl::Set& KvCache::Impl::For(bool wants_batch) {
  if (batch.buffers.empty()) return one;
  if (batch_is_current != wants_batch && length > 0) {
    for (size_t i = 0; i < one.buffers.size(); ++i) {
      const std::span<std::byte> row = one.buffers[i].As<std::byte>();
      const std::span<std::byte> rows = batch.buffers[i].As<std::byte>();
      if (!wants_batch) {
        std::copy_n(rows.begin(), row.size(), row.begin());
        continue;
      }
      for (size_t at = 0; at < rows.size(); at += row.size()) {
        std::copy(row.begin(), row.end(), rows.subspan(at).begin());
      }
    }
  }
  batch_is_current = wants_batch;
  return wants_batch ? batch : one;
}

// Copies of states take no more than this; the oldest go first.
constexpr size_t kMaxSnapshotBytes = size_t{128} << 20;

void KvCache::Impl::Remember() {
  // Those of a batch are not kept: all tokens are then fed again.
  if (states.empty() || !batch.buffers.empty()) return;
  Snapshot snapshot{length, {}};
  size_t bytes = 0;
  for (const size_t state : states) {
    const std::span<const std::byte> all = one.buffers[state].As<std::byte>();
    snapshot.states.emplace_back(all.begin(), all.end());
    bytes += all.size();
  }
  snapshots.push_back(std::move(snapshot));
  if (snapshots.size() * bytes > kMaxSnapshotBytes) {
    snapshots.erase(snapshots.begin());
  }
}

int64_t KvCache::Impl::Recall() {
  if (snapshots.empty()) return 0;
  const Snapshot& last = snapshots.back();
  for (size_t i = 0; i < states.size(); ++i) {
    std::ranges::copy(last.states[i],
                      one.buffers[states[i]].As<std::byte>().begin());
  }
  return last.length;
}

namespace {

// What is zeroed holds zeros but for integers with a zero point.
void Empty(const TensorSpec& cache, const HostBuffer& buffer) {
  if (!IsQuantised(cache) || cache.scale->zero_point == 0) return;
  if (cache.type == ElementType::kInt8) {
    std::ranges::fill(buffer.As<int8_t>(), Quantise<int8_t>(0, *cache.scale));
  } else {
    std::ranges::fill(buffer.As<int16_t>(), Quantise<int16_t>(0, *cache.scale));
  }
}

void BindKvCaches(const std::vector<Slot>& slots,
                  const std::vector<HostBuffer>& caches,
                  std::vector<LiteRtTensorBuffer>& handles) {
  for (size_t i = 0; i < slots.size(); ++i) {
    if (slots[i].role != Role::kKvCache) continue;
    handles[i] = caches[slots[i].kv].handle();
  }
}

}  // namespace

struct Session::Impl {
  const Model::Impl* model = nullptr;
  Options options;
  CompiledModel compiled;
  std::optional<Embedding> embedding;
  std::optional<Embedding> per_layer_embedding;
  BoundSignature decode;
  std::vector<std::optional<BoundSignature>> prefills;  // as ModelInfo's
  std::vector<int64_t> lengths;                         // of all prefills
  // What ran last: for taps.
  const BoundSignature* last = nullptr;
  int64_t last_begin = 0;
  int64_t last_count = 0;

  void CheckTokens(std::span<const int32_t> tokens, int64_t begin) const;
  PrefillPlan PlanCompiled(int64_t begin, int64_t count) const;
  PrefillPlan PlanForRings(int64_t begin, int64_t count) const;
  void FillMasks(BoundSignature& bound, int64_t begin) const;
  void Run(BoundSignature& bound, KvCache::Impl& kv,
           std::span<const int32_t> tokens);
  std::span<const float> Feed(KvCache::Impl& kv,
                              std::span<const int32_t> tokens,
                              const ProgressFn& progress,
                              const RowFn& on_row = nullptr);
  std::span<const float> Feed(KvCache::Impl& kv,
                              std::span<const int32_t> tokens,
                              const PrefillPlan& plan,
                              const ProgressFn& progress, const RowFn& on_row);
  void Replay(KvCache::Impl& kv);
  // [length, heads, head_dim]; fills in what `shape` says of it.
  std::vector<float> ReadCache(const KvCache::Impl& kv, KvPart part,
                               int64_t layer, KvRows& shape) const;
};

KvCache::KvCache(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
KvCache::~KvCache() = default;
KvCache::KvCache(KvCache&&) noexcept = default;
KvCache& KvCache::operator=(KvCache&&) noexcept = default;

int64_t KvCache::length() const { return impl_->length; }

void KvCache::Truncate(int64_t length) {
  if (length < 0 || length > impl_->length) {
    throw Error("KV cache of {} tokens cannot be cut to {}", impl_->length,
                length);
  }
  Impl& kv = *impl_;
  // Positions that wrapped round have overwritten those that would be seen
  // again.
  const bool overwritten =
      kv.ring_length > 0 && kv.length > kv.ring_length && length < kv.length;
  const bool states = !kv.states.empty() && length < kv.length;
  std::erase_if(kv.snapshots, [&](const Impl::Snapshot& snapshot) {
    return snapshot.length > length;
  });
  kv.length = length;
  if (kv.keeps_tokens()) kv.fed.resize(static_cast<size_t>(length));
  kv.must_replay = kv.must_replay || overwritten || states;
}

Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

Session Session::Create(const Model& model, std::span<const PrefillPlan> plans,
                        Options options) {
  if (!model.signature_faults().empty()) {
    const SignatureFault& fault = model.signature_faults().front();
    throw Error(
        "{}: signature {} names the tensor {} as {}, which is none of its "
        "graph's: it cannot be run as it is",
        fault.file, Quote(fault.signature), Describe(fault.named),
        fault.is_output ? "an output" : "an input");
  }
  auto impl = std::make_unique<Impl>();
  impl->model = model.impl_.get();
  impl->options = std::move(options);
  const LlmSignatures& signatures = impl->model->signatures;
  std::set<size_t> used;
  for (const PrefillPlan& plan : plans) {
    for (const PrefillChunk& chunk : plan.chunks) used.insert(chunk.prefill);
  }
  std::vector<std::string> names = {signatures.decode.spec.name};
  std::vector<int64_t> lengths = {1};
  for (const size_t i : used) {
    names.push_back(signatures.prefills.at(i).spec.name);
    lengths.push_back(signatures.prefills[i].length);
  }
  const int num_threads = impl->options.num_threads;
  impl->compiled =
      CompileOrExplain(impl->model->path(), impl->model->handle.get(), names,
                       {num_threads, impl->options.kernels});
  if (const auto& embedder = impl->model->embedder) {
    impl->embedding.emplace(*embedder, lengths, num_threads);
  }
  if (const auto& embedder = impl->model->per_layer_embedder) {
    impl->per_layer_embedding.emplace(*embedder, lengths, num_threads);
  }

  const auto bind = [&](const LlmSignature& signature) {
    CheckOutputShapes(impl->compiled.get(), signature.origin, signature.spec);
    return Bind(signature);
  };
  impl->decode = bind(signatures.decode);
  impl->prefills.resize(signatures.prefills.size());
  for (const size_t i : used) {
    impl->prefills[i] = bind(signatures.prefills[i]);
  }
  for (const LlmSignature& prefill : signatures.prefills) {
    impl->lengths.push_back(prefill.length);
  }
  return Session(std::move(impl));
}

const std::vector<int64_t>& Session::kv_layers() const {
  return impl_->model->signatures.kv_layers;
}

KvCache Session::NewKvCache() const {
  auto kv = std::make_unique<KvCache::Impl>();
  const LlmSignatures& signatures = impl_->model->signatures;
  const std::string& path = impl_->model->path();
  const auto fill = [&](KvCache::Impl::Set& set,
                        const std::vector<TensorSpec>& caches) {
    for (const TensorSpec& cache : caches) {
      set.buffers.emplace_back(cache, path);
      Empty(cache, set.buffers.back());
      if (signatures.ring_length > 0) {
        set.next.emplace_back(cache, path);
        Empty(cache, set.next.back());
      }
    }
  };
  fill(kv->one, signatures.kv_caches);
  if (signatures.decode.batch > 1) {
    fill(kv->batch, signatures.decode_kv_caches);
  }
  kv->ring_length = signatures.ring_length;
  kv->states = signatures.states;
  return KvCache(std::move(kv));
}

// The runtime does not: a position behind the KV cache is clamped and
// overwrites the last entries.
void Session::Impl::CheckTokens(std::span<const int32_t> tokens,
                                int64_t begin) const {
  const LlmSignatures& signatures = model->signatures;
  const auto count = static_cast<int64_t>(tokens.size());
  if (count > signatures.kv_length - begin) {
    throw Error(
        "{}: {} tokens from position {} on do not fit the KV cache of {} "
        "positions. Use a shorter prompt, generate fewer tokens or convert the "
        "model with a longer KV cache",
        model->path(), count, begin, signatures.kv_length);
  }
  for (const int32_t token : tokens) {
    if (token >= 0 && token < signatures.vocab_size) continue;
    throw Error(
        "{}: token {} is outside the model's vocabulary of {}. Does the "
        "tokenizer belong to this model?",
        model->path(), token, signatures.vocab_size);
  }
}

// For rings: full chunks of compiled signatures, then one with pads where pads
// do no harm, or decode.
PrefillPlan Session::Impl::PlanForRings(int64_t begin, int64_t count) const {
  const LlmSignatures& signatures = model->signatures;
  PrefillPlan plan;
  const auto add = [&](size_t prefill, int64_t used) {
    plan.chunks.push_back({.prefill = prefill, .begin = begin, .count = used});
    begin += used;
    count -= used;
  };
  const auto fits = [&](size_t i) {
    return prefills[i] && lengths[i] <= signatures.kv_length - begin;
  };
  for (size_t i = 0; i < lengths.size(); ++i) {
    while (fits(i) && lengths[i] <= count) add(i, lengths[i]);
  }
  // Descending lengths: the last is the shortest.
  for (size_t i = lengths.size(); i-- > 0 && count > 0;) {
    if (fits(i) && lengths[i] >= count &&
        MayPad(signatures, signatures.prefills[i])) {
      add(i, count);
    }
  }
  plan.decode_tail = count;
  return plan;
}

// PlanPrefill; throws Error for a signature that was not compiled.
PrefillPlan Session::Impl::PlanCompiled(int64_t begin, int64_t count) const {
  const LlmSignatures& signatures = model->signatures;
  if (signatures.ring_length > 0) return PlanForRings(begin, count);
  PrefillPlan plan = PlanPrefill(lengths, signatures.kv_length, begin, count);
  for (const PrefillChunk& chunk : plan.chunks) {
    if (prefills[chunk.prefill]) continue;
    throw Error("{}: was not compiled for this session",
                signatures.prefills[chunk.prefill].origin);
  }
  return plan;
}

void Session::Impl::FillMasks(BoundSignature& bound, int64_t begin) const {
  const LlmSignatures& signatures = model->signatures;
  const int64_t ring = signatures.ring_length;
  const int64_t window = model->sliding_window;
  FillCausalMask(bound.mask, signatures.kv_length, begin);
  if (!signatures.local_mask_input) return;
  if (ring == 0) {
    FillWindowMask(bound.local_mask, signatures.kv_length, window, begin);
  } else if (bound.signature == &signatures.decode) {
    FillRingDecodeMask(bound.local_mask, ring, window, begin);
  } else {
    FillRingPrefillMask(bound.local_mask, bound.signature->length, ring, window,
                        begin);
  }
}

// Feeds `tokens` and pads through one signature; kv.length grows by the tokens.
void Session::Impl::Run(BoundSignature& bound, KvCache::Impl& kv,
                        std::span<const int32_t> tokens) {
  const LlmSignature& signature = *bound.signature;
  const auto count = static_cast<int64_t>(tokens.size());
  if (signature.batch > 1) {
    FillBatch(bound.tokens, tokens.front());
  } else if (!bound.tokens.empty()) {
    FillTokens(bound.tokens, tokens, signature.spec.pad_token.value_or(0));
  }
  if (embedding) {
    embedding->Embed(tokens, signature.length, bound.embeddings);
  }
  if (per_layer_embedding) {
    per_layer_embedding->Embed(tokens, signature.length,
                               bound.per_layer_embeddings);
  }
  if (signature.spec.repeated_positions_are_pads) {
    FillRepeatedPositions(bound.positions, kv.length, count);
  } else {
    FillPositions(bound.positions, kv.length);
  }
  FillParams(bound.params, kv.length, count);
  FillMasks(bound, kv.length);
  KvCache::Impl::Set& caches = kv.For(signature.batch > 1);
  const bool in_place = caches.next.empty();
  // The same memory on both sides: the graph then updates the caches in place.
  BindKvCaches(signature.inputs, caches.buffers, bound.inputs);
  BindKvCaches(signature.outputs, in_place ? caches.buffers : caches.next,
               bound.outputs);
  RunSignature(compiled.get(), signature.origin, signature.spec.index,
               bound.inputs, bound.outputs);
  DequantiseLogits(bound);
  if (!in_place) std::swap(caches.buffers, caches.next);
  last = &bound;
  last_begin = kv.length;
  last_count = count;
  kv.length += count;
  if (kv.keeps_tokens()) {
    kv.fed.insert(kv.fed.end(), tokens.begin(), tokens.end());
  }
  kv.Remember();
}

// Logits after the first `count` tokens of a run, empty where it has none.
std::span<const float> RowLogits(const BoundSignature& bound, int64_t count,
                                 size_t vocab) {
  const auto row = LogitRow(*bound.signature, count);
  if (!row) return {};
  return bound.logits.subspan(static_cast<size_t>(*row) * vocab, vocab);
}

// Feeds `tokens`, checked and fitting, in chunks.
std::span<const float> Session::Impl::Feed(KvCache::Impl& kv,
                                           std::span<const int32_t> tokens,
                                           const ProgressFn& progress,
                                           const RowFn& on_row) {
  const PrefillPlan plan =
      PlanCompiled(kv.length, static_cast<int64_t>(tokens.size()));
  return Feed(kv, tokens, plan, progress, on_row);
}

std::span<const float> Session::Impl::Feed(KvCache::Impl& kv,
                                           std::span<const int32_t> tokens,
                                           const PrefillPlan& plan,
                                           const ProgressFn& progress,
                                           const RowFn& on_row) {
  const auto steps =
      static_cast<int64_t>(plan.chunks.size()) + plan.decode_tail;
  int64_t done = 0;
  const auto report = [&] {
    if (progress) progress("prefill", ++done, steps);
  };
  const auto vocab = static_cast<size_t>(model->signatures.vocab_size);
  std::span<const float> logits;
  size_t row = 0;  // of `tokens` as they were given
  for (const PrefillChunk& chunk : plan.chunks) {
    BoundSignature& bound = *prefills[chunk.prefill];
    const auto count = static_cast<size_t>(chunk.count);
    Run(bound, kv, tokens.first(count));
    tokens = tokens.subspan(count);
    for (size_t i = 0; on_row && i < count; ++i) {
      logits = RowLogits(bound, static_cast<int64_t>(i) + 1, vocab);
      if (!logits.empty()) on_row(row + i, logits);
    }
    logits = RowLogits(bound, chunk.count, vocab);
    row += count;
    report();
  }
  for (const int32_t token : tokens) {
    Run(decode, kv, {&token, 1});
    logits = decode.logits.first(vocab);
    if (on_row) on_row(row++, logits);
    report();
  }
  return logits;
}

// After a truncation of rings: feeds all tokens again, over zeroed caches. Of
// states: those behind the last copy of them, over what the caches hold.
void Session::Impl::Replay(KvCache::Impl& kv) {
  if (!kv.must_replay) return;
  kv.must_replay = false;
  kv.length = kv.ring_length > 0 ? 0 : kv.Recall();
  for (size_t i = 0; kv.length == 0 && i < kv.one.buffers.size(); ++i) {
    const HostBuffer& cache = kv.one.buffers[i];
    std::ranges::fill(cache.As<std::byte>(), std::byte{0});
    Empty(model->signatures.kv_caches[i], cache);
  }
  for (size_t i = 0; kv.length == 0 && i < kv.batch.buffers.size(); ++i) {
    const HostBuffer& cache = kv.batch.buffers[i];
    std::ranges::fill(cache.As<std::byte>(), std::byte{0});
    Empty(model->signatures.decode_kv_caches[i], cache);
  }
  const auto kept = static_cast<size_t>(kv.length);
  const std::vector<int32_t> tokens(
      kv.fed.begin() + static_cast<ptrdiff_t>(kept), kv.fed.end());
  kv.fed.resize(kept);
  const auto count = static_cast<int64_t>(tokens.size());
  // Of what was compiled, whatever was planned.
  Feed(kv, tokens, PlanForRings(kv.length, count), nullptr, nullptr);
}

std::span<const float> Session::Decode(KvCache& kv, int32_t token) {
  const std::span<const int32_t> tokens(&token, 1);
  impl_->CheckTokens(tokens, kv.length());
  impl_->Replay(*kv.impl_);
  impl_->Run(impl_->decode, *kv.impl_, tokens);
  return impl_->decode.logits.first(
      static_cast<size_t>(impl_->model->signatures.vocab_size));
}

std::span<const float> Session::Prefill(KvCache& kv,
                                        std::span<const int32_t> tokens) {
  impl_->CheckTokens(tokens, kv.length());
  impl_->Replay(*kv.impl_);
  return impl_->Feed(*kv.impl_, tokens, impl_->options.progress);
}

void Session::Prefill(KvCache& kv, std::span<const int32_t> tokens,
                      const RowFn& on_row) {
  impl_->CheckTokens(tokens, kv.length());
  impl_->Replay(*kv.impl_);
  impl_->Feed(*kv.impl_, tokens, impl_->options.progress, on_row);
}

void Session::FillTo(KvCache& kv, int64_t length) {
  KvCache::Impl& impl = *kv.impl_;
  const LlmSignatures& signatures = impl_->model->signatures;
  const std::string& path = impl_->model->path();
  if (impl.length == 0 || impl.ring_length > 0 || length < impl.length ||
      length > signatures.kv_length) {
    throw Error("{}: cannot fill a KV cache that holds {} of {} positions to {}",
                path, impl.length, signatures.kv_length, length);
  }
  const KvCache::Impl::Set& caches = impl.For(false);
  // States stay as they are, and there is no going back to before.
  impl.snapshots.clear();
  impl.fed.resize(impl.keeps_tokens() ? static_cast<size_t>(length) : 0);
  for (size_t i = 0; i < caches.buffers.size(); ++i) {
    if (std::ranges::count(impl.states, i) > 0) continue;
    RepeatPositions(signatures.kv_caches[i],
                    SequenceAxisOf(path, signatures, i),
                    caches.buffers[i].As<std::byte>(), impl.length, length);
  }
  impl.length = length;
}

bool Session::MoveLastBits(KvCache& kv, LastBits& bits) const {
  KvCache::Impl& impl = *kv.impl_;
  bool moved = false;
  for (const HostBuffer& cache : impl.For(impl.batch_is_current).buffers) {
    if (cache.type() != ElementType::kFloat32) continue;
    bits.Move(cache.As<float>());
    moved = true;
  }
  return moved;
}

TapValues Session::Taps() const {
  TapValues result;
  const BoundSignature* bound = impl_->last;
  if (bound == nullptr) return result;
  result.signature = bound->signature->spec.name;
  result.begin = impl_->last_begin;
  result.count = impl_->last_count;
  for (const tflite::Tap& tap : impl_->model->taps) {
    if (tap.signature != result.signature) continue;
    const auto integers = bound->unused_integers.find(tap.output);
    result.taps.push_back({tap.tensor, integers != bound->unused_integers.end()
                                           ? NumbersOf(integers->second)
                                           : bound->unused.at(tap.output)});
  }
  if (!bound->embeddings.empty()) {
    result.taps.push_back({bound->embeddings_tensor, bound->embeddings});
  }
  return result;
}

std::vector<float> Session::Impl::ReadCache(const KvCache::Impl& kv,
                                            KvPart part, int64_t layer,
                                            KvRows& shape) const {
  const LlmSignatures& signatures = model->signatures;
  const std::string& path = model->path();
  const auto index = FindKvCache(signatures, part, layer);
  if (!index) {
    throw Error("{}: has no KV cache of layer {}; it has {} layers", path,
                layer, signatures.num_layers);
  }
  const TensorSpec& cache = signatures.kv_caches[*index];
  const KvLayout layout =
      LayoutOf(path, cache, SequenceAxisOf(path, signatures, *index));
  shape.first = std::max(int64_t{0}, kv.length - layout.slots);
  shape.length = kv.length - shape.first;
  shape.heads = layout.heads;
  shape.head_dim = layout.head_dim;
  // The first sequence of a batch lies where the only one would.
  const KvCache::Impl::Set& set = kv.batch_is_current ? kv.batch : kv.one;
  return ReadPositions(path, cache, layout, set.buffers[*index].As<std::byte>(),
                       shape.first, kv.length);
}

std::map<int64_t, StateRows> Session::ReadStates(KvCache& kv) {
  impl_->Replay(*kv.impl_);
  const KvCache::Impl& cache = *kv.impl_;
  const KvCache::Impl::Set& set =
      cache.batch_is_current ? cache.batch : cache.one;
  const LlmSignatures& signatures = impl_->model->signatures;
  std::map<int64_t, StateRows> states;
  for (const size_t i : signatures.states) {
    const TensorSpec& spec = signatures.kv_caches[i];
    states[ParseKvName(spec.name)->layer] =
        ReadState(impl_->model->path(), spec, set.buffers[i].As<std::byte>());
  }
  return states;
}

KvRows Session::ReadKv(KvCache& kv, int64_t layer) {
  impl_->Replay(*kv.impl_);
  KvRows keys;
  KvRows values;
  keys.keys = impl_->ReadCache(*kv.impl_, KvPart::kKeys, layer, keys);
  keys.values = impl_->ReadCache(*kv.impl_, KvPart::kValues, layer, values);
  if (keys.first != values.first || keys.heads != values.heads ||
      keys.head_dim != values.head_dim) {
    throw Error(
        "{}: layer {} keeps keys of {} heads of {} and values of {} heads of "
        "{}: other shapes are not supported",
        impl_->model->path(), layer, keys.heads, keys.head_dim, values.heads,
        values.head_dim);
  }
  return keys;
}

}  // namespace verify_tflite
