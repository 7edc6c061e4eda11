#include "candidate/signatures.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/utf8.h"
#include "candidate/runtime.h"

namespace verify_tflite {
namespace {

// No tensor of a language model comes near; what is larger is a damaged file.
constexpr int64_t kMaxTensorBytes = int64_t{1} << 40;

// Names as LiteRT-LM's executor finds them
// (litert_compiled_model_executor_utils.cc): the converters' own first, then
// the older ones.
constexpr std::pair<std::string_view, Role> kRoles[] = {
    {"tokens", Role::kTokens},       {"token_ids", Role::kTokens},
    {"input_pos", Role::kPositions}, {"positions", Role::kPositions},
    {"mask", Role::kMask},           {"attn_mask", Role::kMask},
    {"logits", Role::kLogits},
};
constexpr std::string_view kKeyCaches[] = {"kv_cache_k_", "k_cache_"};
constexpr std::string_view kValueCaches[] = {"kv_cache_v_", "v_cache_"};

// What the inputs are for that converters are known to add.
constexpr std::pair<std::string_view, std::string_view> kUnsupported[] = {
    {"embeddings", "an embedding layer in another file"},
    {"per_layer_embeddings", "per-layer embeddings in another file"},
    {"pixel_values", "images"},
    {"lora", "LoRA adapters"},
    {"local_mask", "a sliding-window cache that is a ring buffer"},
    {"param_tensor", "positions for a GPU kernel"},
    {"kv_cache_c_", "recurrent state"},
    {"kv_slice", "a cache that the caller updates"},
    {"pos_emb", "rotary embeddings that the caller computes"},
};

bool IsDigits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return c >= '0' && c <= '9';
  });
}

template <size_t N>
bool IsNumbered(const std::string_view (&roots)[N], std::string_view name) {
  return std::any_of(
      std::begin(roots), std::end(roots), [name](std::string_view root) {
        return name.starts_with(root) && IsDigits(name.substr(root.size()));
      });
}

bool IsPrefill(std::string_view name) {
  return name == "prefill" ||
         (name.starts_with("prefill_") && IsDigits(name.substr(8)));
}

std::optional<Role> RoleOf(std::string_view name) {
  for (const auto& [known, role] : kRoles) {
    if (name == known) return role;
  }
  if (IsNumbered(kKeyCaches, name) || IsNumbered(kValueCaches, name)) {
    return Role::kKvCache;
  }
  return std::nullopt;
}

std::string Explain(std::string_view input) {
  for (const auto& [part, meaning] : kUnsupported) {
    if (input.starts_with(part)) {
      return fmt::format("{} ({})", Quote(input), meaning);
    }
  }
  return Quote(input);
}

int64_t Elements(const TensorSpec& tensor) {
  int64_t count = 1;
  for (const int64_t dim : tensor.dims) count *= dim;
  return count;
}

// The tensor with that role, nullptr if there is none.
const TensorSpec* Find(const LlmSignature& signature,
                       const std::vector<TensorSpec>& tensors, Role role) {
  const TensorSpec* found = nullptr;
  for (const TensorSpec& tensor : tensors) {
    if (RoleOf(tensor.name) != role) continue;
    if (found != nullptr) {
      throw Error("{}: {} and {} mean the same", signature.origin,
                  Quote(found->name), Quote(tensor.name));
    }
    found = &tensor;
  }
  return found;
}

const TensorSpec& FindInput(const LlmSignature& signature, Role role,
                            std::string_view usual_name) {
  const TensorSpec* found = Find(signature, signature.spec.inputs, role);
  if (found == nullptr) {
    throw Error("{}: has no input \"{}\"", signature.origin, usual_name);
  }
  return *found;
}

void CheckTensors(const LlmSignature& signature,
                  const std::vector<TensorSpec>& tensors) {
  std::set<std::string> seen;
  for (const TensorSpec& tensor : tensors) {
    if (tensor.name.empty() || !seen.insert(tensor.name).second) {
      throw Error(
          "{}: the tensor name {} is empty or used twice; the file is damaged",
          signature.origin, Quote(tensor.name));
    }
    try {
      ByteSize(tensor);
    } catch (const Error& e) {
      throw Error("{}: {}", signature.origin, e.what());
    }
  }
}

void CheckInputsKnown(const LlmSignature& signature) {
  std::vector<std::string> unknown;
  for (const TensorSpec& input : signature.spec.inputs) {
    const std::optional<Role> role = RoleOf(input.name);
    if (!role || *role == Role::kLogits) unknown.push_back(Explain(input.name));
  }
  if (unknown.empty()) return;
  throw Error(
      "{}: needs inputs that are not supported yet: {}. Supported are tokens, "
      "positions, an attention mask and KV caches",
      signature.origin, fmt::join(unknown, ", "));
}

int64_t ReadLength(const LlmSignature& signature) {
  const TensorSpec& tokens = FindInput(signature, Role::kTokens, "tokens");
  const TensorSpec& positions =
      FindInput(signature, Role::kPositions, "input_pos");
  const int64_t length = tokens.dims.empty() ? 1 : tokens.dims.back();
  if (Elements(tokens) != length) {
    throw Error(
        "{}: {}: a batch of {} sequences, expected 1. Convert the model "
        "without "
        "a decode batch",
        signature.origin, Describe(tokens), Elements(tokens) / length);
  }
  if (Elements(positions) != length) {
    throw Error("{}: {} for {} tokens, expected as many positions",
                signature.origin, Describe(positions), length);
  }
  for (const TensorSpec* tensor : {&tokens, &positions}) {
    if (tensor->type != kLiteRtElementTypeInt32) {
      throw Error("{}: {}: expected INT32", signature.origin,
                  Describe(*tensor));
    }
  }
  return length;
}

// The caches that decode takes: every signature must agree.
std::vector<TensorSpec> ReadKvCaches(const LlmSignature& decode) {
  std::vector<TensorSpec> caches;
  size_t keys = 0;
  for (const TensorSpec& input : decode.spec.inputs) {
    if (RoleOf(input.name) != Role::kKvCache) continue;
    if (IsNumbered(kKeyCaches, input.name)) ++keys;
    caches.push_back(input);
  }
  if (keys == 0 || keys * 2 != caches.size()) {
    throw Error(
        "{}: {} key and {} value caches among the inputs, expected one of each "
        "for every layer (kv_cache_k_0, kv_cache_v_0, …)",
        decode.origin, keys, caches.size() - keys);
  }
  return caches;
}

Slot KvSlot(const LlmSignature& signature, const TensorSpec& tensor,
            const std::vector<TensorSpec>& caches) {
  for (size_t i = 0; i < caches.size(); ++i) {
    if (caches[i].name != tensor.name) continue;
    if (caches[i].type == tensor.type && caches[i].dims == tensor.dims) {
      return {.role = Role::kKvCache, .kv = i};
    }
    throw Error(
        "{}: {}, but decode takes {}. All signatures must share the KV caches; "
        "those of a model converted with a decode batch do not",
        signature.origin, Describe(tensor), Describe(caches[i]));
  }
  throw Error("{}: {}: decode has no such KV cache", signature.origin,
              Describe(tensor));
}

std::vector<Slot> ReadSlots(const LlmSignature& signature,
                            const std::vector<TensorSpec>& tensors,
                            const std::vector<TensorSpec>& caches) {
  std::vector<Slot> slots;
  size_t num_caches = 0;
  for (const TensorSpec& tensor : tensors) {
    const Role role = RoleOf(tensor.name).value_or(Role::kUnused);
    if (role == Role::kKvCache) {
      slots.push_back(KvSlot(signature, tensor, caches));
      ++num_caches;
    } else {
      slots.push_back({.role = role});
    }
  }
  // Names are unique, so that the number shows a missing one.
  if (num_caches != caches.size()) {
    throw Error("{}: {} KV caches among the {}, expected {} as decode takes",
                signature.origin, num_caches,
                &tensors == &signature.spec.inputs ? "inputs" : "outputs",
                caches.size());
  }
  return slots;
}

// Rows of logits, each of `vocab_size`; 0 without logits.
int64_t ReadLogitRows(const LlmSignature& signature, int64_t vocab_size) {
  const TensorSpec* logits =
      Find(signature, signature.spec.outputs, Role::kLogits);
  if (logits == nullptr) return 0;
  if (logits->type != kLiteRtElementTypeFloat32) {
    throw Error("{}: {}: expected FLOAT32", signature.origin,
                Describe(*logits));
  }
  const int64_t rows = Elements(*logits) / vocab_size;
  if (logits->dims.empty() || logits->dims.back() != vocab_size ||
      (rows != 1 && rows != signature.length)) {
    throw Error("{}: {}: expected 1 or {} rows of {}", signature.origin,
                Describe(*logits), signature.length, vocab_size);
  }
  return rows;
}

int64_t ReadVocabSize(const LlmSignature& decode) {
  const TensorSpec* logits = Find(decode, decode.spec.outputs, Role::kLogits);
  if (logits == nullptr || logits->dims.empty()) {
    throw Error("{}: has no output \"logits\"", decode.origin);
  }
  return logits->dims.back();
}

LlmSignature ReadSignature(const std::string& path, const SignatureSpec& spec) {
  LlmSignature result;
  result.spec = spec;
  result.origin = fmt::format("{}: signature {}", path, Quote(spec.name));
  CheckTensors(result, spec.inputs);
  CheckTensors(result, spec.outputs);
  CheckInputsKnown(result);
  result.length = ReadLength(result);
  return result;
}

void ReadSlotsAndLogits(LlmSignature& signature,
                        const std::vector<TensorSpec>& caches,
                        int64_t vocab_size) {
  signature.inputs = ReadSlots(signature, signature.spec.inputs, caches);
  signature.outputs = ReadSlots(signature, signature.spec.outputs, caches);
  signature.logit_rows = ReadLogitRows(signature, vocab_size);
}

// Positions that cache number `kv` holds, as the graphs that write it show;
// absent if none does.
std::optional<int64_t> WrittenLength(const LlmSignatures& model, size_t kv) {
  const auto length_in = [kv](const LlmSignature& s) -> std::optional<int64_t> {
    for (size_t i = 0; i < s.outputs.size(); ++i) {
      const TensorSpec& output = s.spec.outputs[i];
      if (s.outputs[i].role == Role::kKvCache && s.outputs[i].kv == kv &&
          output.sequence_axis) {
        return output.dims.at(*output.sequence_axis);
      }
    }
    return std::nullopt;
  };
  // Decode first: a prefill as long as the cache replaces it as a whole.
  if (const auto length = length_in(model.decode)) return length;
  for (const LlmSignature& prefill : model.prefills) {
    if (const auto length = length_in(prefill)) return length;
  }
  return std::nullopt;
}

int64_t ReadKvLength(const LlmSignatures& model) {
  std::optional<int64_t> length;
  const LlmSignature& decode = model.decode;
  for (size_t kv = 0; kv < model.kv_caches.size(); ++kv) {
    const std::optional<int64_t> written = WrittenLength(model, kv);
    if (!written) continue;
    if (length.value_or(*written) != *written) {
      throw Error(
          "{}: {} holds {} positions, other KV caches {}. Caches of several "
          "lengths (sliding windows) are not supported yet",
          decode.origin, Describe(model.kv_caches[kv]), *written, *length);
    }
    length = written;
  }
  const TensorSpec* mask = Find(decode, decode.spec.inputs, Role::kMask);
  if (!length && mask != nullptr && !mask->dims.empty()) {
    length = mask->dims.back();
  }
  if (!length) {
    throw Error(
        "{}: cannot tell which axis of {} counts positions: no "
        "DYNAMIC_UPDATE_SLICE writes it and there is no attention mask",
        decode.origin, Describe(model.kv_caches.front()));
  }
  return *length;
}

void CheckMask(const LlmSignature& signature, int64_t kv_length) {
  const TensorSpec* mask = Find(signature, signature.spec.inputs, Role::kMask);
  if (mask == nullptr) return;
  if (mask->type != kLiteRtElementTypeFloat32 &&
      mask->type != kLiteRtElementTypeBool) {
    throw Error("{}: {}: expected FLOAT32 or BOOL", signature.origin,
                Describe(*mask));
  }
  if (mask->dims.empty() || mask->dims.back() != kv_length ||
      Elements(*mask) != signature.length * kv_length) {
    throw Error(
        "{}: {}: expected {} rows of {}, one entry for each position "
        "of the KV cache",
        signature.origin, Describe(*mask), signature.length, kv_length);
  }
}

void CheckNamesUnique(const std::string& path,
                      const std::vector<SignatureSpec>& signatures) {
  std::set<std::string> seen;
  for (const SignatureSpec& s : signatures) {
    if (!seen.insert(s.name).second) {
      throw Error("{}: two signatures are named {}; the file is damaged", path,
                  Quote(s.name));
    }
  }
}

Error NoLlm(const std::string& path,
            const std::vector<SignatureSpec>& signatures,
            std::string_view missing) {
  std::vector<std::string> names;
  for (const SignatureSpec& s : signatures) names.push_back(Quote(s.name));
  return Error(
      "{}: no signature \"{}\". This program checks language models converted "
      "by litert-torch, which have \"decode\" and \"prefill\" or "
      "\"prefill_<length>\"; found: {}",
      path, missing,
      names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", ")));
}

}  // namespace

int64_t ByteSize(const TensorSpec& tensor) {
  const int bits = ElementBits(tensor.type);
  if (bits < 8) {
    throw Error("{}: element type not supported as input or output",
                Describe(tensor));
  }
  int64_t bytes = bits / 8;
  for (const int64_t dim : tensor.dims) {
    if (dim <= 0) {
      throw Error("{}: dynamic shapes are not supported yet", Describe(tensor));
    }
    if (dim > kMaxTensorBytes / bytes) {
      throw Error("{}: too large; the file is damaged", Describe(tensor));
    }
    bytes *= dim;
  }
  return bytes;
}

std::string Describe(const TensorSpec& tensor) {
  return fmt::format("{} {} [{}]", Quote(tensor.name),
                     ElementTypeName(tensor.type),
                     fmt::join(tensor.dims, ", "));
}

std::optional<int64_t> LogitRow(const LlmSignature& signature, int64_t count) {
  if (signature.logit_rows == signature.length) return count - 1;
  if (signature.logit_rows == 1 && count == signature.length) return 0;
  return std::nullopt;
}

LlmSignatures Interpret(const std::string& path,
                        const std::vector<SignatureSpec>& signatures) {
  CheckNamesUnique(path, signatures);
  const auto decode =
      std::find_if(signatures.begin(), signatures.end(),
                   [](const SignatureSpec& s) { return s.name == "decode"; });
  if (decode == signatures.end()) throw NoLlm(path, signatures, "decode");

  LlmSignatures model;
  model.decode = ReadSignature(path, *decode);
  if (model.decode.length != 1) {
    throw Error("{}: takes {} tokens, expected 1", model.decode.origin,
                model.decode.length);
  }
  model.kv_caches = ReadKvCaches(model.decode);
  model.num_layers = static_cast<int64_t>(model.kv_caches.size() / 2);
  model.vocab_size = ReadVocabSize(model.decode);
  ReadSlotsAndLogits(model.decode, model.kv_caches, model.vocab_size);
  for (const SignatureSpec& s : signatures) {
    if (&s == &*decode) continue;
    if (!IsPrefill(s.name)) {
      model.ignored.push_back(s.name);
      continue;
    }
    model.prefills.push_back(ReadSignature(path, s));
    ReadSlotsAndLogits(model.prefills.back(), model.kv_caches,
                       model.vocab_size);
  }
  if (model.prefills.empty()) throw NoLlm(path, signatures, "prefill");
  std::stable_sort(model.prefills.begin(), model.prefills.end(),
                   [](const LlmSignature& a, const LlmSignature& b) {
                     return a.length > b.length;
                   });
  model.kv_length = ReadKvLength(model);
  model.mask_input =
      Find(model.decode, model.decode.spec.inputs, Role::kMask) != nullptr;
  CheckMask(model.decode, model.kv_length);
  for (const LlmSignature& prefill : model.prefills) {
    CheckMask(prefill, model.kv_length);
  }
  return model;
}

}  // namespace verify_tflite
