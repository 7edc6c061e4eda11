#include "candidate/signatures.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/utf8.h"

namespace verify_tflite {
namespace {

// Names as LiteRT-LM's executor finds them
// (litert_compiled_model_executor_utils.cc): the converters' own first, then
// the older ones.
constexpr std::pair<std::string_view, Role> kRoles[] = {
    {"tokens", Role::kTokens},
    {"token_ids", Role::kTokens},
    {"embeddings", Role::kEmbeddings},
    {"per_layer_embeddings", Role::kPerLayerEmbeddings},
    {"input_pos", Role::kPositions},
    {"positions", Role::kPositions},
    {"mask", Role::kMask},
    {"attn_mask", Role::kMask},
    {"local_mask", Role::kLocalMask},
    {"attn_mask_local", Role::kLocalMask},
    {"local_attn_mask", Role::kLocalMask},
    {"param_tensor", Role::kParams},
    {"logits", Role::kLogits},
};

// What the inputs are for that converters are known to add.
constexpr std::pair<std::string_view, std::string_view> kUnsupported[] = {
    {"pixel_values", "images"},
    {"image", "images"},
    {"audio", "sound"},
    {"lora", "LoRA adapters"},
    {"atten_", "LoRA adapters"},
    {"activations", "hidden states of another model"},
    {"kv_cache_r_", "recurrent state"},
    {"kv_slice", "a cache that the caller updates: a split cache, for NPUs"},
    {"pos_emb", "rotary embeddings that the caller computes, for NPUs"},
    {"mask_global", "masks of a split cache, for NPUs"},
    {"mask_local", "masks of a split cache, for NPUs"},
};

// What custom operators are for that converters and compilers are known to
// make.
constexpr std::pair<std::string_view, std::string_view> kCustomOps[] = {
    {"DISPATCH_OP",
     "code compiled for an NPU. Check the file that was given to the NPU "
     "compiler instead"},
};
constexpr std::string_view kCacheSuffix = "_cache_";

bool IsDigits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return c >= '0' && c <= '9';
  });
}

bool IsPrefill(std::string_view name) {
  return name == "prefill" ||
         (name.starts_with("prefill_") && IsDigits(name.substr(8)));
}

// "_cache_256" of "prefill_8_cache_256", which belongs with
// "decode_cache_256"; empty without.
std::string_view CacheSuffix(std::string_view name) {
  const size_t at = name.rfind(kCacheSuffix);
  if (at == std::string_view::npos ||
      !IsDigits(name.substr(at + kCacheSuffix.size()))) {
    return "";
  }
  return name.substr(at);
}

std::optional<Role> RoleOf(std::string_view name) {
  for (const auto& [known, role] : kRoles) {
    if (name == known) return role;
  }
  if (ParseKvName(name)) return Role::kKvCache;
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

// Those alone whose meaning is known. Whether it has any other one the runtime
// itself says when the signature is compiled.
void CheckCustomOps(const LlmSignature& signature) {
  if (signature.spec.custom_ops.empty()) return;
  for (const std::string& name : signature.spec.custom_ops) {
    for (const auto& [known, meaning] : kCustomOps) {
      if (name != known) continue;
      throw Error("{}: has the operator {}: {}", signature.origin, Quote(name),
                  meaning);
    }
  }
}

void ReadLength(LlmSignature& signature) {
  const TensorSpec& positions =
      FindInput(signature, Role::kPositions, "input_pos");
  const TensorSpec* tokens =
      Find(signature, signature.spec.inputs, Role::kTokens);
  const TensorSpec* embeddings =
      Find(signature, signature.spec.inputs, Role::kEmbeddings);
  signature.length = positions.dims.empty() ? 1 : positions.dims.back();
  if (positions.type != ElementType::kInt32) {
    throw Error("{}: {}: expected INT32", signature.origin,
                Describe(positions));
  }
  if (Elements(positions) != signature.length) {
    throw Error("{}: {}: expected one row of positions", signature.origin,
                Describe(positions));
  }
  if (tokens == nullptr && embeddings == nullptr) {
    throw Error("{}: has no input \"tokens\" or \"embeddings\"",
                signature.origin);
  }
  if (tokens == nullptr) return;
  if (tokens->type != ElementType::kInt32) {
    throw Error("{}: {}: expected INT32", signature.origin, Describe(*tokens));
  }
  const int64_t length = tokens->dims.empty() ? 1 : tokens->dims.back();
  if (length != signature.length) {
    throw Error("{}: {} for {} tokens, expected as many positions",
                signature.origin, Describe(positions), length);
  }
  signature.batch = Elements(*tokens) / length;
}

// [1, length, …] FLOAT32 where there is such an input.
bool CheckEmbeddings(const LlmSignature& signature, Role role) {
  const TensorSpec* tensor = Find(signature, signature.spec.inputs, role);
  if (tensor == nullptr) return false;
  if (tensor->type != ElementType::kFloat32) {
    throw Error("{}: {}: expected FLOAT32", signature.origin,
                Describe(*tensor));
  }
  if (tensor->dims.size() < 3 || tensor->dims[0] != 1 ||
      tensor->dims[1] != signature.length) {
    throw Error("{}: {}: expected the embeddings of {} tokens, [1, {}, …]",
                signature.origin, Describe(*tensor), signature.length,
                signature.length);
  }
  return true;
}

void CheckParams(const LlmSignature& signature) {
  const TensorSpec* params =
      Find(signature, signature.spec.inputs, Role::kParams);
  if (params == nullptr) return;
  if (params->type != ElementType::kInt32 || Elements(*params) < 3) {
    throw Error("{}: {}: expected INT32 with at least 3 elements",
                signature.origin, Describe(*params));
  }
}

// The caches that decode takes.
std::vector<TensorSpec> ReadKvCaches(const LlmSignature& decode) {
  std::vector<TensorSpec> caches;
  size_t keys = 0;
  size_t values = 0;
  for (const TensorSpec& input : decode.spec.inputs) {
    const auto name = ParseKvName(input.name);
    if (!name) continue;
    keys += name->part == KvPart::kKeys;
    values += name->part == KvPart::kValues;
    caches.push_back(input);
  }
  if (keys == 0 || keys != values) {
    throw Error(
        "{}: {} key and {} value caches among the inputs, expected one of each "
        "for every layer (kv_cache_k_0, kv_cache_v_0, …)",
        decode.origin, keys, values);
  }
  return caches;
}

// What prefill takes of the caches that decode takes for a batch of sequences.
std::vector<TensorSpec> OfOneSequence(const LlmSignature& decode,
                                      std::vector<TensorSpec> caches) {
  if (decode.batch == 1) return caches;
  for (TensorSpec& cache : caches) {
    if (cache.dims.empty() || cache.dims[0] != decode.batch) {
      throw Error(
          "{}: {}: expected {} as the first dimension, as decode takes that "
          "many sequences",
          decode.origin, Describe(cache), decode.batch);
    }
    cache.dims[0] = 1;
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
        "{}: {}, expected {} as decode takes. All signatures must share the KV "
        "caches",
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
  if (logits->type != ElementType::kFloat32 && !IsQuantised(*logits)) {
    throw Error("{}: {}: expected FLOAT32, or INT8 or INT16 with one scale",
                signature.origin, Describe(*logits));
  }
  const int64_t rows = Elements(*logits) / vocab_size / signature.batch;
  if (logits->dims.empty() || logits->dims.back() != vocab_size ||
      Elements(*logits) != rows * vocab_size * signature.batch ||
      (rows != 1 && rows != signature.length)) {
    throw Error("{}: {}: expected 1 or {} rows of {}", signature.origin,
                Describe(*logits), signature.length * signature.batch,
                vocab_size);
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
  CheckCustomOps(result);
  CheckInputsKnown(result);
  ReadLength(result);
  CheckEmbeddings(result, Role::kEmbeddings);
  CheckEmbeddings(result, Role::kPerLayerEmbeddings);
  CheckParams(result);
  return result;
}

void ReadSlotsAndLogits(LlmSignature& signature,
                        const std::vector<TensorSpec>& caches,
                        int64_t vocab_size) {
  signature.inputs = ReadSlots(signature, signature.spec.inputs, caches);
  signature.outputs = ReadSlots(signature, signature.spec.outputs, caches);
  signature.logit_rows = ReadLogitRows(signature, vocab_size);
}

// The axis of cache number `kv` that counts positions, as the graphs that write
// it show; absent if none does.
std::optional<size_t> WrittenAxis(const LlmSignatures& model, size_t kv) {
  const auto axis_in = [kv](const LlmSignature& s) -> std::optional<size_t> {
    for (size_t i = 0; i < s.outputs.size(); ++i) {
      const TensorSpec& output = s.spec.outputs[i];
      if (s.outputs[i].role == Role::kKvCache && s.outputs[i].kv == kv &&
          output.sequence_axis) {
        return output.sequence_axis;
      }
    }
    return std::nullopt;
  };
  // Decode first: a prefill as long as the cache replaces it as a whole.
  if (const auto axis = axis_in(model.decode)) return axis;
  for (const LlmSignature& prefill : model.prefills) {
    if (const auto axis = axis_in(prefill)) return axis;
  }
  return std::nullopt;
}

// Positions that cache number `kv` holds; absent if no graph shows it.
std::optional<int64_t> WrittenLength(const LlmSignatures& model, size_t kv) {
  const auto axis = WrittenAxis(model, kv);
  if (!axis) return std::nullopt;
  return model.kv_caches.at(kv).dims.at(*axis);
}

// Length of the rings: a prefill's local mask has a column for each of their
// slots and one for each of its own tokens. 0 where it has one for each
// position of the cache.
int64_t ReadRingLength(const LlmSignatures& model) {
  const LlmSignature& prefill = model.prefills.front();
  const TensorSpec* in_decode =
      Find(model.decode, model.decode.spec.inputs, Role::kLocalMask);
  const TensorSpec* in_prefill =
      Find(prefill, prefill.spec.inputs, Role::kLocalMask);
  if (in_decode == nullptr || in_prefill == nullptr ||
      in_decode->dims.empty() || in_prefill->dims.empty() ||
      in_prefill->dims.back() == in_decode->dims.back()) {
    return 0;
  }
  return in_decode->dims.back();
}

int64_t ReadKvLength(const LlmSignatures& model) {
  std::optional<int64_t> length;
  const LlmSignature& decode = model.decode;
  const TensorSpec* mask = Find(decode, decode.spec.inputs, Role::kMask);
  for (size_t kv = 0; kv < model.kv_caches.size(); ++kv) {
    const std::optional<int64_t> written = WrittenLength(model, kv);
    if (!written || std::ranges::count(model.states, kv) > 0) continue;
    if (model.ring_length > 0 && *written == model.ring_length) continue;
    if (length.value_or(*written) != *written) {
      throw Error(
          "{}: {} holds {} positions, other KV caches {}. Caches of several "
          "lengths (sliding windows) without a local attention mask are not "
          "supported",
          decode.origin, Describe(model.kv_caches[kv]), *written, *length);
    }
    length = written;
  }
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

void CheckMask(const LlmSignature& signature, Role role, int64_t width,
               std::string_view columns) {
  const TensorSpec* mask = Find(signature, signature.spec.inputs, role);
  if (mask == nullptr) return;
  if (mask->type != ElementType::kFloat32 &&
      mask->type != ElementType::kFloat16 && mask->type != ElementType::kBool &&
      !IsQuantised(*mask)) {
    throw Error(
        "{}: {}: expected FLOAT32, FLOAT16 or BOOL, or INT8 or INT16 with one "
        "scale",
        signature.origin, Describe(*mask));
  }
  if (mask->dims.empty() || mask->dims.back() != width ||
      Elements(*mask) != signature.length * width) {
    throw Error("{}: {}: expected {} rows of {}, one entry for each {}",
                signature.origin, Describe(*mask), signature.length, width,
                columns);
  }
}

void CheckMasks(const LlmSignatures& model, const LlmSignature& signature) {
  CheckMask(signature, Role::kMask, model.kv_length,
            "position of the KV cache");
  if (model.ring_length == 0) {
    CheckMask(signature, Role::kLocalMask, model.kv_length,
              "position of the KV cache");
    return;
  }
  const bool prefill = &signature != &model.decode;
  CheckMask(signature, Role::kLocalMask,
            model.ring_length + (prefill ? signature.length : 0),
            "slot of the ring and, in prefill, each token");
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

std::optional<int64_t> LogitRow(const LlmSignature& signature, int64_t count) {
  if (signature.logit_rows == signature.length) return count - 1;
  if (signature.logit_rows == 1 && count == signature.length) return 0;
  return std::nullopt;
}

std::optional<size_t> FindKvCache(const LlmSignatures& model, KvPart part,
                                  int64_t layer) {
  for (size_t i = 0; i < model.kv_caches.size(); ++i) {
    if (ParseKvName(model.kv_caches[i].name) == KvName{part, layer}) return i;
  }
  return std::nullopt;
}

size_t SequenceAxisOf(const std::string& path, const LlmSignatures& model,
                      size_t kv) {
  if (const auto axis = WrittenAxis(model, kv)) return *axis;
  const TensorSpec& cache = model.kv_caches.at(kv);
  std::vector<size_t> candidates;
  for (size_t i = 0; i < cache.dims.size(); ++i) {
    if (cache.dims[i] != model.kv_length &&
        (model.ring_length == 0 || cache.dims[i] != model.ring_length)) {
      continue;
    }
    candidates.push_back(i);
  }
  if (candidates.size() == 1) return candidates.front();
  throw Error(
      "{}: cannot tell which axis of {} counts positions: no "
      "DYNAMIC_UPDATE_SLICE writes it",
      path, Describe(cache));
}

bool MayPad(const LlmSignatures& model, const LlmSignature& prefill) {
  return model.ring_length == 0 ||
         (Find(prefill, prefill.spec.inputs, Role::kParams) != nullptr &&
          prefill.length <= model.ring_length);
}

namespace {

// The name's part before its cache suffix, if it has the suffix asked for.
std::optional<std::string_view> NameInSet(std::string_view name,
                                          std::string_view suffix) {
  if (CacheSuffix(name) != suffix) return std::nullopt;
  return name.substr(0, name.size() - suffix.size());
}

// The decode signature to use: "decode", or the one for the longest cache.
const SignatureSpec* FindDecode(const std::vector<SignatureSpec>& signatures) {
  const SignatureSpec* found = nullptr;
  for (const SignatureSpec& s : signatures) {
    if (s.name == "decode") return &s;
    const std::string_view suffix = CacheSuffix(s.name);
    if (suffix.empty() || NameInSet(s.name, suffix) != "decode") continue;
    const auto rank = [](std::string_view digits) {
      return std::pair(digits.size(), digits);  // as numbers compare
    };
    if (found == nullptr || rank(suffix) > rank(CacheSuffix(found->name))) {
      found = &s;
    }
  }
  return found;
}

void ReadDecode(LlmSignatures& model) {
  LlmSignature& decode = model.decode;
  if (decode.length != 1) {
    throw Error("{}: takes {} tokens, expected 1", decode.origin,
                decode.length);
  }
  model.decode_kv_caches = ReadKvCaches(decode);
  model.kv_caches = OfOneSequence(decode, model.decode_kv_caches);
  for (size_t i = 0; i < model.kv_caches.size(); ++i) {
    const KvName name = *ParseKvName(model.kv_caches[i].name);
    if (name.part == KvPart::kKeys) model.kv_layers.push_back(name.layer);
    if (name.part == KvPart::kConvState) model.states.push_back(i);
  }
  std::ranges::sort(model.kv_layers);
  model.num_layers = std::ssize(model.kv_layers);
  model.vocab_size = ReadVocabSize(decode);
  ReadSlotsAndLogits(decode, model.decode_kv_caches, model.vocab_size);
}

void AddPrefill(LlmSignatures& model, LlmSignature prefill) {
  if (prefill.batch != 1) {
    throw Error("{}: a batch of {} sequences, expected 1", prefill.origin,
                prefill.batch);
  }
  ReadSlotsAndLogits(prefill, model.kv_caches, model.vocab_size);
  model.prefills.push_back(std::move(prefill));
}

bool Has(const LlmSignature& signature, Role role) {
  return Find(signature, signature.spec.inputs, role) != nullptr;
}

void CheckSameInputs(const LlmSignatures& model, const LlmSignature& prefill) {
  for (const Role role : {Role::kEmbeddings, Role::kPerLayerEmbeddings}) {
    if (Has(prefill, role) == Has(model.decode, role)) continue;
    throw Error("{}: takes {} and decode the other of tokens and embeddings",
                prefill.origin, Has(prefill, role) ? "embeddings" : "tokens");
  }
}

// No pad is a token that cannot be fed.
void DropPad(const LlmSignatures& model, LlmSignature& prefill) {
  std::optional<int32_t>& pad = prefill.spec.pad_token;
  if (pad && (*pad < 0 || *pad >= model.vocab_size)) pad.reset();
}

}  // namespace

LlmSignatures Interpret(const std::string& path,
                        const std::vector<SignatureSpec>& signatures) {
  CheckNamesUnique(path, signatures);
  const SignatureSpec* decode = FindDecode(signatures);
  if (decode == nullptr) throw NoLlm(path, signatures, "decode");
  const std::string_view suffix = CacheSuffix(decode->name);

  LlmSignatures model;
  model.decode = ReadSignature(path, *decode);
  ReadDecode(model);
  for (const SignatureSpec& s : signatures) {
    if (&s == decode) continue;
    if (IsPrefill(NameInSet(s.name, suffix).value_or(""))) {
      AddPrefill(model, ReadSignature(path, s));
    } else {
      model.ignored.push_back(s.name);
    }
  }
  if (model.prefills.empty()) throw NoLlm(path, signatures, "prefill");
  std::stable_sort(model.prefills.begin(), model.prefills.end(),
                   [](const LlmSignature& a, const LlmSignature& b) {
                     return a.length > b.length;
                   });
  model.ring_length = ReadRingLength(model);
  model.kv_length = ReadKvLength(model);
  for (LlmSignature& prefill : model.prefills) DropPad(model, prefill);
  model.mask_input = Has(model.decode, Role::kMask);
  model.local_mask_input = Has(model.decode, Role::kLocalMask);
  model.embeddings_input = Has(model.decode, Role::kEmbeddings);
  model.per_layer_embeddings_input =
      Has(model.decode, Role::kPerLayerEmbeddings);
  CheckMasks(model, model.decode);
  for (const LlmSignature& prefill : model.prefills) {
    CheckMasks(model, prefill);
    CheckSameInputs(model, prefill);
  }
  return model;
}

namespace {

std::optional<EmbedderSignature> ReadEmbedder(const std::string& path,
                                              const SignatureSpec& spec) {
  if (spec.inputs.size() != 1 || spec.outputs.size() != 1) return std::nullopt;
  const TensorSpec& tokens = spec.inputs.front();
  const TensorSpec& output = spec.outputs.front();
  if (RoleOf(tokens.name) != Role::kTokens ||
      tokens.type != ElementType::kInt32 || tokens.dims.empty() ||
      output.type != ElementType::kFloat32) {
    return std::nullopt;
  }
  EmbedderSignature result;
  result.spec = spec;
  result.origin = fmt::format("{}: signature {}", path, Quote(spec.name));
  ByteSize(tokens);
  ByteSize(output);
  result.length = Elements(tokens);
  if (Elements(output) % result.length != 0) {
    throw Error("{}: {} for {} tokens", result.origin, Describe(output),
                result.length);
  }
  return result;
}

}  // namespace

std::vector<EmbedderSignature> InterpretEmbedder(
    const std::string& path, const std::vector<SignatureSpec>& signatures) {
  std::vector<EmbedderSignature> found;
  for (const SignatureSpec& s : signatures) {
    if (auto embedder = ReadEmbedder(path, s)) {
      found.push_back(std::move(*embedder));
    }
  }
  if (found.empty()) {
    throw Error(
        "{}: is no embedder: no signature turns \"token_ids\" (INT32) into "
        "\"embeddings\" (FLOAT32)",
        path);
  }
  std::stable_sort(
      found.begin(), found.end(),
      [](const auto& a, const auto& b) { return a.length > b.length; });
  return found;
}

}  // namespace verify_tflite
