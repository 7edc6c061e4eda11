#include "candidate/model.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <span>
#include <utility>

#include "base/error.h"
#include "base/utf8.h"
#include "candidate/graph.h"
#include "candidate/model_impl.h"
#include "candidate/runtime.h"
#include "tflite/bundle.h"
#include "tflite/executor_metadata.h"
#include "tflite/summary.h"

namespace verify_tflite {
namespace {

// What users take for a .tflite file, by its first bytes.
constexpr std::pair<std::string_view, std::string_view> kContainers[] = {
    {"version https://git-lfs",
     "a Git LFS pointer. Fetch the file itself with git lfs pull"},
};

void CheckIdentifier(std::span<const std::byte> model,
                     const std::string& path) {
  if (tflite::IsTflite(model)) return;
  const std::string_view bytes(reinterpret_cast<const char*>(model.data()),
                               model.size());
  for (const auto& [magic, what] : kContainers) {
    if (bytes.starts_with(magic)) {
      throw Error("{}: is no .tflite file but {}", path, what);
    }
  }
  throw Error("{}: is no .tflite file: expected \"TFL3\" at byte 4", path);
}

// A list of backends as ValidateBackendConstraint in LiteRT-LM's
// engine_settings.cc reads it: "cpu,gpu", case ignored.
bool AllowsCpu(std::string list) {
  std::ranges::transform(list, list.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return ("," + list + ",").find(",cpu,") != std::string::npos;
}

// What a prompt that does not fill its prefill is filled up with.
std::string NoteOnPads(const LlmSignatures& signatures) {
  const SignatureSpec& prefill = signatures.prefills.front().spec;
  const std::string states =
      fmt::format("{} states of short convolutions beside the KV caches",
                  signatures.states.size());
  if (prefill.pad_token) {
    return fmt::format(
        "has {}, which token {} alone leaves as they are: prompts are filled "
        "up with it, and as part of a prompt it is taken for a pad",
        states, *prefill.pad_token);
  }
  if (prefill.repeated_positions_are_pads) {
    return fmt::format(
        "has {}, which tokens at positions that do not grow leave as they are: "
        "prompts are filled up with tokens at the last one's position",
        states);
  }
  return fmt::format(
      "has {}, and nothing shows what its graph takes for a pad: prompts are "
      "filled up with token 0 at continuing positions",
      states);
}

// What production does is not what running it alone would do.
std::vector<std::string> NotesOn(const LlmSignatures& signatures) {
  std::vector<std::string> notes;
  if (signatures.decode.batch > 1) {
    notes.push_back(fmt::format(
        "decode takes {} sequences: each is given the same tokens, and the "
        "first one's logits count",
        signatures.decode.batch));
  }
  const bool may_pad =
      std::all_of(signatures.prefills.begin(), signatures.prefills.end(),
                  [&](const LlmSignature& s) { return MayPad(signatures, s); });
  if (!signatures.states.empty()) notes.push_back(NoteOnPads(signatures));
  if (!may_pad) {
    notes.push_back(fmt::format(
        "pads would enter the sliding-window KV caches (rings of {} slots): "
        "prefill takes full chunks only, and decode the rest of a prompt",
        signatures.ring_length));
  }
  return notes;
}

// What production would use of the bundle and this program does not, or the
// other way round.
std::vector<std::string> NotesOn(const Bundle& bundle, const ModelInfo& info) {
  std::vector<std::string> notes;
  const BundleSection& run = bundle.PrefillDecode();
  std::vector<std::string> others;
  for (const BundleSection& s : bundle.sections()) {
    if (s.type != SectionType::kTfliteModel || &s == &run) continue;
    if (s.model_type == tflite::kEmbedder && !info.embedder_path.empty())
      continue;
    if (s.model_type == tflite::kPerLayerEmbedder &&
        !info.per_layer_embedder_path.empty()) {
      continue;
    }
    others.push_back(Quote(s.model_type));
  }
  if (!others.empty()) {
    notes.push_back(fmt::format("not checked, other models of the bundle: {}",
                                fmt::join(others, ", ")));
  }
  for (const auto& [key, value] : run.items) {
    if (key != "backend_constraint" || AllowsCpu(value)) continue;
    notes.push_back(fmt::format(
        "the bundle asks for {}; it is checked on the CPU", Quote(value)));
  }
  return notes;
}

// Where the bundle names other state than the signatures have.
std::vector<std::string> NotesOnState(const Bundle& bundle,
                                      const LlmSignatures& signatures) {
  const auto metadata = bundle.ReadExecutorMetadata();
  if (!metadata) return {};
  std::vector<SignatureSpec> prefills;
  for (const LlmSignature& prefill : signatures.prefills) {
    prefills.push_back(prefill.spec);
  }
  return CompareState(*metadata, signatures.decode.spec, prefills);
}

// Where the model begins in the file.
size_t OffsetOf(const Model::Impl& impl) {
  return static_cast<size_t>(impl.part->bytes().data() -
                             impl.container->bytes().data());
}

// Only after the runtime has verified the file as it is: the message is then
// about the file.
void AddTaps(Model::Impl& impl, const tflite::TapFilter& filter, size_t limit) {
  const std::string& path = impl.path();
  tflite::TapPatch patch = tflite::PlanTaps(impl.file(), filter, limit);
  impl.tapped.emplace(path, OffsetOf(impl), impl.part->bytes().size(), patch);
  impl.handle = LoadModel(path, impl.tapped->bytes());
  impl.taps = std::move(patch.taps);
}

// The signatures, with the taps' outputs behind each graph's own: ascending, as
// PlanTaps adds them.
std::vector<SignatureSpec> SignaturesOf(const Model::Impl& impl) {
  std::vector<SignatureSpec> signatures =
      ReadSignatures(impl.path(), impl.file());
  std::vector<tflite::Tap> taps = impl.taps;
  std::ranges::stable_sort(taps, {}, &tflite::Tap::tensor);
  for (SignatureSpec& signature : signatures) {
    const int32_t graph = impl.file().signatures[signature.index].graph;
    for (const tflite::Tap& tap : taps) {
      if (tap.signature != signature.name) continue;
      signature.outputs.push_back(
          SpecOf(impl.file().graphs[graph], tap.tensor, tap.output));
    }
  }
  return signatures;
}

void AddEndScales(const LlmSignature& signature,
                  std::vector<EndScale>& scales) {
  const auto add = [&](const std::vector<TensorSpec>& tensors,
                       const std::vector<Slot>& slots, bool outputs) {
    for (size_t i = 0; i < slots.size(); ++i) {
      if (!IsQuantised(tensors[i]) || slots[i].role == Role::kUnused) continue;
      scales.push_back({.signature = signature.spec.name,
                        .name = tensors[i].name,
                        .is_output = outputs,
                        .decode = signature.length == 1,
                        .mask = slots[i].role == Role::kMask ||
                                slots[i].role == Role::kLocalMask,
                        .type = std::string(NameOf(tensors[i].type)),
                        .scale = *tensors[i].scale});
    }
  };
  add(signature.spec.inputs, signature.inputs, false);
  add(signature.spec.outputs, signature.outputs, true);
}

ModelInfo InfoOf(const LlmSignatures& signatures,
                 std::vector<WeightGroup> weights) {
  ModelInfo info;
  for (const LlmSignature& prefill : signatures.prefills) {
    info.prefills.push_back({.name = prefill.spec.name,
                             .length = prefill.length,
                             .logit_rows = prefill.logit_rows});
  }
  info.ignored_signatures = signatures.ignored;
  info.num_layers = signatures.num_layers;
  info.num_states = std::ssize(signatures.states);
  if (!signatures.prefills.empty()) {  // none of a file with faults
    const SignatureSpec& longest = signatures.prefills.front().spec;
    info.pad_token = longest.pad_token;
    info.repeated_positions_are_pads = longest.repeated_positions_are_pads;
  }
  info.kv_length = signatures.kv_length;
  info.vocab_size = signatures.vocab_size;
  info.mask_input = signatures.mask_input;
  info.ring_length = signatures.ring_length;
  info.decode_batch = signatures.decode.batch;
  info.notes = NotesOn(signatures);
  info.recipe = RecipeOf(weights);
  info.recipe_detail = DescribeWeights(weights);
  for (const WeightGroup& group : weights) {
    info.weight_bytes[group.type] += group.bytes;
  }
  info.weights = std::move(weights);
  AddEndScales(signatures.decode, info.end_scales);
  for (const LlmSignature& prefill : signatures.prefills) {
    AddEndScales(prefill, info.end_scales);
  }
  int64_t values = 0;
  int kv_bits = std::numeric_limits<int>::max();
  for (const TensorSpec& cache : signatures.kv_caches) {
    info.kv_bytes += ByteSize(cache);
    if (BitsOf(cache.type) < kv_bits) {
      kv_bits = BitsOf(cache.type);
      info.kv_type = NameOf(cache.type);
    }
    // States have no entry for each position.
    if (ParseKvName(cache.name)->part == KvPart::kConvState) continue;
    values += ByteSize(cache) * 8 / BitsOf(cache.type);
  }
  if (signatures.ring_length == 0 && info.kv_length * info.num_layers > 0) {
    info.kv_values = values / info.kv_length / info.num_layers;
  }
  if (signatures.decode.batch > 1) {
    info.kv_bytes += info.kv_bytes * signatures.decode.batch;
  }
  if (signatures.ring_length > 0) info.kv_bytes *= 2;
  return info;
}

void CheckWindow(const std::string& path, const LlmSignatures& signatures,
                 std::optional<int64_t> window) {
  if (!signatures.local_mask_input) return;
  if (!window) {
    throw Error(
        "{}: takes the attention mask of layers with a sliding window, and the "
        "window's size is not in the file. Say it: sliding_window of the "
        "checkpoint's config.json",
        path);
  }
  const int64_t most = signatures.ring_length > 0 ? signatures.ring_length
                                                  : signatures.kv_length;
  if (*window <= 0 || (signatures.ring_length > 0 && *window > most)) {
    throw Error("{}: a sliding window of {}, expected 1 to {}", path, *window,
                most);
  }
}

std::unique_ptr<Embedder> OpenEmbedder(const Model::Impl& impl,
                                       const std::string& given,
                                       std::string_view name,
                                       std::string_view input) {
  if (!given.empty()) return std::make_unique<Embedder>(given);
  if (const tflite::Part* part = impl.container->embedder(name)) {
    return std::make_unique<Embedder>(*part);
  }
  const std::string& path = impl.path();
  if (impl.container->bundle() != nullptr) {
    throw Error(
        "{}: takes {} instead of tokens, and the bundle has no model of type "
        "\"tf_lite_{}\" that makes them",
        path, Quote(input), name);
  }
  const std::string beside = tflite::FileBeside(path, name);
  throw Error(
      "{}: takes {} instead of tokens: the layer that makes them is in another "
      "file. Name that file ({}.tflite in the directory that the model was "
      "converted to){}",
      path, Quote(input), name,
      beside.empty() ? "" : fmt::format("; there is no {}", beside));
}

void AddFaults(const Embedder& embedder, Model::Impl& impl) {
  impl.faults.insert(impl.faults.end(), embedder.faults.begin(),
                     embedder.faults.end());
}

// What a signature says in place of what its graph gives.
void Declare(const SignatureFault& fault, SignatureSpec& signature) {
  if (!fault.graphs) return;
  for (TensorSpec& tensor :
       fault.is_output ? signature.outputs : signature.inputs) {
    if (tensor.index != fault.graphs_tensor) continue;
    const auto axis = tensor.sequence_axis;
    tensor = fault.named;
    tensor.sequence_axis = axis;
  }
}

// As Interpret, of what the file declares. Of a file with faults nothing where
// that makes no sense: they are what is to be said of it.
LlmSignatures InterpretDeclared(const Model::Impl& impl) {
  if (impl.faults.empty()) return Interpret(impl.path(), SignaturesOf(impl));
  try {
    std::vector<SignatureSpec> signatures = SignaturesOf(impl);
    for (const SignatureFault& fault : impl.faults) {
      for (SignatureSpec& signature : signatures) {
        if (signature.name == fault.signature) Declare(fault, signature);
      }
    }
    return Interpret(impl.path(), signatures);
  } catch (const Error&) {
    return {};
  }
}

}  // namespace

Embedder::Embedder(const tflite::Part& part) { Load(part); }

Embedder::Embedder(const std::string& path)
    : own(std::make_unique<tflite::Part>(path)) {
  Load(*own);
}

void Embedder::Load(const tflite::Part& part) {
  name = part.name();
  CheckIdentifier(part.bytes(), name);
  handle = LoadModel(name, part.bytes());
  faults = FindSignatureFaults(part.file(), name);
  signatures = InterpretEmbedder(name, ReadSignatures(name, part.file()));
}

Model::Model(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Model::~Model() = default;
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;

const std::string& Model::path() const { return impl_->path(); }
const std::shared_ptr<const tflite::Container>& Model::container() const {
  return impl_->container;
}
const tflite::File& Model::file() const { return impl_->file(); }
const ModelInfo& Model::info() const { return impl_->info; }
const Bundle* Model::bundle() const { return impl_->container->bundle(); }

const std::vector<SignatureFault>& Model::signature_faults() const {
  return impl_->faults;
}

const std::vector<tflite::Tap>& Model::taps() const { return impl_->taps; }

Model Model::Open(const std::string& path) { return Open(path, {}); }

Model Model::Open(const std::string& path, const OpenOptions& options) {
  return Open(std::make_shared<const tflite::Container>(path), options);
}

Model Model::WithTaps(tflite::TapFilter taps) const {
  OpenOptions options = impl_->options;
  options.taps = std::move(taps);
  return Open(impl_->container, options);
}

Model Model::Open(std::shared_ptr<const tflite::Container> container,
                  const OpenOptions& options) {
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  impl->options.taps = nullptr;
  impl->container = std::move(container);
  const std::string& path = impl->path();
  impl->part = &impl->container->model();
  CheckIdentifier(impl->part->bytes(), path);
  impl->handle = LoadModel(path, impl->part->bytes());
  const tflite::File& file = impl->file();
  if (options.taps) AddTaps(*impl, options.taps, options.taps_limit);
  impl->faults = FindSignatureFaults(file, path);
  impl->signatures = InterpretDeclared(*impl);
  const LlmSignatures& signatures = impl->signatures;
  CheckWindow(path, signatures, options.sliding_window);
  impl->sliding_window = options.sliding_window.value_or(0);
  impl->info = InfoOf(signatures, ReadWeightGroups(file));
  impl->info.angle_step = AngleStep(file);
  impl->info.converted_by = tflite::ConvertedBy(file);
  impl->info.min_runtime_version = file.min_runtime_version;
  if (signatures.embeddings_input) {
    impl->embedder = OpenEmbedder(*impl, options.embedder_path,
                                  tflite::kEmbedder, "embeddings");
    AddFaults(*impl->embedder, *impl);
    impl->info.embedder_path = impl->embedder->name;
  }
  if (signatures.per_layer_embeddings_input) {
    impl->per_layer_embedder =
        OpenEmbedder(*impl, options.per_layer_embedder_path,
                     tflite::kPerLayerEmbedder, "per_layer_embeddings");
    AddFaults(*impl->per_layer_embedder, *impl);
    impl->info.per_layer_embedder_path = impl->per_layer_embedder->name;
  }
  if (const Bundle* bundle = impl->container->bundle()) {
    for (std::string& note : NotesOn(*bundle, impl->info)) {
      impl->info.notes.push_back(std::move(note));
    }
    for (std::string& note : NotesOnState(*bundle, signatures)) {
      impl->info.notes.push_back(std::move(note));
    }
  }
  return Model(std::move(impl));
}

}  // namespace verify_tflite
