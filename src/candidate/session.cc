#include "candidate/session.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>
#include <utility>

#include "base/error.h"
#include "candidate/host_buffer.h"
#include "candidate/model_impl.h"
#include "candidate/runtime.h"
#include "candidate/signature_inputs.h"
#include "candidate/stderr_capture.h"

namespace verify_tflite {
namespace {

// A failing kernel can report the same line thousands of times.
constexpr size_t kMaxReason = 2000;

// Where the runtime's error text goes: its error_reporter_mode.
enum class ErrorText { kToStderr = 1, kToBuffer = 2 };

// A compiled signature with its own buffers. The handles are in the order of
// the graph's inputs and outputs; those of the KV caches change with every run.
struct BoundSignature {
  const LlmSignature* signature = nullptr;
  std::vector<HostBuffer> buffers;
  std::vector<LiteRtTensorBuffer> inputs;
  std::vector<LiteRtTensorBuffer> outputs;
  std::span<int32_t> tokens;
  std::span<int32_t> positions;
  std::span<float> float_mask;
  std::span<uint8_t> bool_mask;
  std::span<float> logits;
};

void KeepSpan(BoundSignature& bound, Role role, const HostBuffer& buffer) {
  switch (role) {
    case Role::kTokens:
      bound.tokens = buffer.As<int32_t>();
      break;
    case Role::kPositions:
      bound.positions = buffer.As<int32_t>();
      break;
    case Role::kMask:
      if (buffer.type() == kLiteRtElementTypeBool) {
        bound.bool_mask = buffer.As<uint8_t>();
      } else {
        bound.float_mask = buffer.As<float>();
      }
      break;
    case Role::kLogits:
      bound.logits = buffer.As<float>();
      break;
    case Role::kKvCache:
    case Role::kUnused:
      break;
  }
}

std::vector<LiteRtTensorBuffer> BindTensors(
    BoundSignature& bound, const std::vector<TensorSpec>& tensors,
    const std::vector<Slot>& slots) {
  std::vector<LiteRtTensorBuffer> handles(tensors.size(), nullptr);
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (slots[i].role == Role::kKvCache) continue;
    bound.buffers.emplace_back(tensors[i], bound.signature->origin);
    handles[i] = bound.buffers.back().handle();
    KeepSpan(bound, slots[i].role, bound.buffers.back());
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

// The runtime takes options as text, `key = value` a line, and ignores what it
// does not know.
void AddOptions(LiteRtOptions options, const char* reader,
                const std::string& text) {
  const auto& lib = Runtime::Get();
  char* copy = strdup(text.c_str());
  LiteRtOpaqueOptions opaque = nullptr;
  Call("LiteRT options", lib.LiteRtCreateOpaqueOptions, reader,
       static_cast<void*>(copy), std::free, &opaque);
  Call("LiteRT options", lib.LiteRtAddOpaqueOptions, options, opaque);
}

using CompiledModel = Owned<&Runtime::LiteRtDestroyCompiledModel>;

CompiledModel Compile(const Model::Impl& model,
                      const std::vector<std::string>& signatures,
                      int num_threads, ErrorText error_text) {
  const auto& lib = Runtime::Get();
  Owned<&Runtime::LiteRtDestroyOptions> options;
  Call("LiteRT options", lib.LiteRtCreateOptions, options.receive());
  Call("LiteRT options", lib.LiteRtSetOptionsHardwareAccelerators,
       options.get(), kLiteRtHwAcceleratorCpu);
  // Without a weight cache every signature packs all weights again. The cache
  // is in memory, because one on disk that belongs to another model of the same
  // structure is taken without notice and gives wrong results.
  const std::string cpu = fmt::format(
      "num_threads = {}\nweight_cache_file_path = \":memory\"\n", num_threads);
  // "xnnpack" is for XNNPACK's operators, "cpu_delegate" for all others.
  AddOptions(options.get(), "xnnpack", cpu);
  AddOptions(options.get(), "cpu_delegate", cpu);
  AddOptions(options.get(), "runtime_options_string",
             fmt::format("error_reporter_mode = {}\n"
                         "selected_signature_keys = [\"{}\"]\n",
                         static_cast<int>(error_text),
                         fmt::join(signatures, "\", \"")));
  CompiledModel compiled;
  Call(model.file.path() + ": cannot be compiled for the CPU",
       lib.LiteRtCreateCompiledModel, lib.environment, model.handle.get(),
       options.get(), compiled.receive());
  return compiled;
}

// Compile; a failure's Error has the reason, which a failed compilation only
// ever writes to standard error, and only if asked to.
CompiledModel CompileOrExplain(const Model::Impl& model,
                               const std::vector<std::string>& signatures,
                               int num_threads) {
  const StderrCapture capture;
  try {
    return Compile(model, signatures, num_threads, ErrorText::kToBuffer);
  } catch (const Error&) {
    const ErrorLog log;
    try {
      return Compile(model, signatures, num_threads, ErrorText::kToStderr);
    } catch (const Error& e) {
      throw Error("{}{}", e.what(), CleanReason(capture.Text(kMaxReason)));
    }
  }
}

// What the runtime reported since the last call.
std::string TakeErrorText(LiteRtCompiledModel compiled) {
  const auto& lib = Runtime::Get();
  char* text = nullptr;
  if (lib.LiteRtCompiledModelGetErrorMessages(compiled, &text) !=
          kLiteRtStatusOk ||
      text == nullptr) {
    return "";
  }
  const std::string reason(text, strnlen(text, kMaxReason));
  std::free(text);
  lib.LiteRtCompiledModelClearErrors(compiled);
  return reason;
}

// Call; a failure's Error has the reason.
template <typename... Parameters, typename... Arguments>
void CallCompiled(const std::string& what,
                  LiteRtStatus (*function)(LiteRtCompiledModel, Parameters...),
                  LiteRtCompiledModel compiled, Arguments... arguments) {
  try {
    Call(what, function, compiled, arguments...);
  } catch (const Error& e) {
    throw Error("{}{}", e.what(), CleanReason(TakeErrorText(compiled)));
  }
}

// The file declares shapes and the graph computes them: where the graph makes
// more than the file says, the runtime writes past the end of our buffer.
void CheckOutputShapes(LiteRtCompiledModel compiled,
                       const LlmSignature& signature) {
  const std::vector<TensorSpec>& outputs = signature.spec.outputs;
  std::vector<LiteRtLayout> layouts(outputs.size());
  CallCompiled(signature.origin,
               Runtime::Get().LiteRtGetCompiledModelOutputTensorLayouts,
               compiled, signature.spec.index, layouts.size(), layouts.data(),
               /*update_allocation=*/true);
  for (size_t i = 0; i < outputs.size(); ++i) {
    const auto rank = std::min<unsigned>(layouts[i].rank, kLiteRtMaxRank);
    const std::vector<int64_t> computed(layouts[i].dimensions,
                                        layouts[i].dimensions + rank);
    if (computed == outputs[i].dims) continue;
    throw Error("{}: the graph computes [{}] for {}; the file is damaged",
                signature.origin, fmt::join(computed, ", "),
                Describe(outputs[i]));
  }
}

}  // namespace

struct KvCache::Impl {
  std::vector<HostBuffer> buffers;  // as LlmSignatures::kv_caches
  int64_t length = 0;
};

namespace {

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
  BoundSignature decode;
  std::vector<std::optional<BoundSignature>> prefills;  // as ModelInfo's
  std::vector<int64_t> lengths;                         // of all prefills

  void CheckTokens(std::span<const int32_t> tokens, int64_t begin) const;
  PrefillPlan PlanCompiled(int64_t begin, int64_t count) const;
  void Run(BoundSignature& bound, KvCache::Impl& kv,
           std::span<const int32_t> tokens);
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
  impl_->length = length;
}

Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

Session Session::Create(const Model& model, std::span<const PrefillPlan> plans,
                        Options options) {
  auto impl = std::make_unique<Impl>();
  impl->model = model.impl_.get();
  impl->options = std::move(options);
  const LlmSignatures& signatures = impl->model->signatures;
  std::set<size_t> used;
  for (const PrefillPlan& plan : plans) {
    for (const PrefillChunk& chunk : plan.chunks) used.insert(chunk.prefill);
  }
  std::vector<std::string> names = {signatures.decode.spec.name};
  for (const size_t i : used) {
    names.push_back(signatures.prefills.at(i).spec.name);
  }
  impl->compiled =
      CompileOrExplain(*impl->model, names, impl->options.num_threads);

  CheckOutputShapes(impl->compiled.get(), signatures.decode);
  impl->decode = Bind(signatures.decode);
  impl->prefills.resize(signatures.prefills.size());
  for (const size_t i : used) {
    CheckOutputShapes(impl->compiled.get(), signatures.prefills[i]);
    impl->prefills[i] = Bind(signatures.prefills[i]);
  }
  for (const LlmSignature& prefill : signatures.prefills) {
    impl->lengths.push_back(prefill.length);
  }
  return Session(std::move(impl));
}

KvCache Session::NewKvCache() const {
  auto kv = std::make_unique<KvCache::Impl>();
  for (const TensorSpec& cache : impl_->model->signatures.kv_caches) {
    kv->buffers.emplace_back(cache, impl_->model->file.path());
  }
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
        model->file.path(), count, begin, signatures.kv_length);
  }
  for (const int32_t token : tokens) {
    if (token >= 0 && token < signatures.vocab_size) continue;
    throw Error(
        "{}: token {} is outside the model's vocabulary of {}. Does the "
        "tokenizer belong to this model?",
        model->file.path(), token, signatures.vocab_size);
  }
}

// PlanPrefill; throws Error for a signature that was not compiled.
PrefillPlan Session::Impl::PlanCompiled(int64_t begin, int64_t count) const {
  const LlmSignatures& signatures = model->signatures;
  PrefillPlan plan = PlanPrefill(lengths, signatures.kv_length, begin, count);
  for (const PrefillChunk& chunk : plan.chunks) {
    if (prefills[chunk.prefill]) continue;
    throw Error("{}: was not compiled for this session",
                signatures.prefills[chunk.prefill].origin);
  }
  return plan;
}

// Feeds `tokens` and pads through one signature; kv.length grows by the tokens.
void Session::Impl::Run(BoundSignature& bound, KvCache::Impl& kv,
                        std::span<const int32_t> tokens) {
  const LlmSignature& signature = *bound.signature;
  FillTokens(bound.tokens, tokens);
  FillPositions(bound.positions, kv.length);
  const int64_t kv_length = model->signatures.kv_length;
  FillCausalMask(bound.float_mask, kv_length, kv.length);
  FillCausalMask(bound.bool_mask, kv_length, kv.length);
  // The same memory on both sides: the graph then updates the caches in place.
  BindKvCaches(signature.inputs, kv.buffers, bound.inputs);
  BindKvCaches(signature.outputs, kv.buffers, bound.outputs);
  CallCompiled(signature.origin, Runtime::Get().LiteRtRunCompiledModel,
               compiled.get(), signature.spec.index, bound.inputs.size(),
               bound.inputs.data(), bound.outputs.size(), bound.outputs.data());
  kv.length += static_cast<int64_t>(tokens.size());
}

std::span<const float> Session::Decode(KvCache& kv, int32_t token) {
  const std::span<const int32_t> tokens(&token, 1);
  impl_->CheckTokens(tokens, kv.length());
  impl_->Run(impl_->decode, *kv.impl_, tokens);
  return impl_->decode.logits;
}

std::span<const float> Session::Prefill(KvCache& kv,
                                        std::span<const int32_t> tokens) {
  impl_->CheckTokens(tokens, kv.length());
  const PrefillPlan plan =
      impl_->PlanCompiled(kv.length(), static_cast<int64_t>(tokens.size()));
  const auto steps =
      static_cast<int64_t>(plan.chunks.size()) + plan.decode_tail;
  int64_t done = 0;
  const auto report = [&] {
    const ProgressFn& progress = impl_->options.progress;
    if (progress) progress("prefill", ++done, steps);
  };
  std::span<const float> logits;
  for (const PrefillChunk& chunk : plan.chunks) {
    BoundSignature& bound = *impl_->prefills[chunk.prefill];
    const auto count = static_cast<size_t>(chunk.count);
    impl_->Run(bound, *kv.impl_, tokens.first(count));
    tokens = tokens.subspan(count);
    const auto row = LogitRow(*bound.signature, chunk.count);
    const auto vocab = impl_->decode.logits.size();
    logits =
        row ? bound.logits.subspan(static_cast<size_t>(*row) * vocab, vocab)
            : std::span<float>();
    report();
  }
  for (const int32_t token : tokens) {
    logits = Decode(kv, token);
    report();
  }
  return logits;
}

}  // namespace verify_tflite
