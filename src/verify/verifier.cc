#include "verify/verifier.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/utf8.h"
#include "candidate/session.h"
#include "reference/reference.h"
#include "result/faithful.h"
#include "result/judge.h"
#include "tflite/file.h"
#include "verify/diagnosis.h"
#include "verify/evaluation.h"
#include "verify/probes.h"
#include "verify/proofs.h"
#include "verify/range_findings.h"
#include "verify/self_check.h"
#include "verify/signature_findings.h"
#include "verify/stopwatch.h"

namespace verify_tflite {
namespace {

// Prompts run in groups so that KV caches and drafted logits stay within this,
// however many prompts there are, and the activations of a pass stay small.
constexpr int64_t kGroupBytes = int64_t{1} << 30;
constexpr int64_t kGroupTokens = 4096;

// A draft that follows a difference is at least this long. It doubles with what
// was accepted: a sound file is drafted in long runs, a broken one wastes
// little.
constexpr int64_t kMinDraft = 4;

// A prompt's first bytes, enough to know it by.
std::string Shorten(std::string_view text) {
  constexpr size_t kBytes = 60;
  if (text.size() <= kBytes) return Quote(text);
  return Quote(ReplaceInvalidUtf8(text.substr(0, kBytes))) + "…";
}

// One prompt under way.
struct Lane {
  Lane(const Prompt& prompt, KvCache kv, Sequence sequence)
      : prompt(prompt), kv(std::move(kv)), sequence(std::move(sequence)) {}

  const Prompt& prompt;
  KvCache kv;         // the candidate's
  Sequence sequence;  // the reference's

  PromptResult result;
  // Both models have agreed on, or been given, prompt + result.reference_ids.
  std::vector<int32_t> draft;  // the candidate's choices after that
  std::vector<std::vector<float>> draft_logits;
  std::vector<LogitDifference> scored;  // one per draft token
  int64_t next_draft_length = 0;
  bool done = false;
};

class Verifier {
 public:
  Verifier(const VerifyInput& input, Session& session, Reference& reference,
           Timing& timing)
      : input_(input),
        session_(session),
        reference_(reference),
        timing_(timing) {}

  void RunGroup(std::span<const Prompt> prompts,
                std::vector<PromptResult>& results);

 private:
  Lane Start(const Prompt& prompt);
  void ComparePrefillLogits(Lane& lane, std::span<const float> decode_logits);
  void Draft(Lane& lane);
  void Score(std::vector<Lane>& lanes);
  void Accept(Lane& lane);
  PromptResult Finish(Lane lane);

  bool IsEos(int32_t token) const {
    return std::find(input_.eos_ids.begin(), input_.eos_ids.end(), token) !=
           input_.eos_ids.end();
  }
  int64_t Remaining(const Lane& lane) const {
    return input_.settings.max_new_tokens -
           static_cast<int64_t>(lane.result.reference_ids.size());
  }
  // Tokens that both models share: the prompt and PyTorch's greedy text so far.
  static std::vector<int32_t> SharedTokens(const Lane& lane) {
    std::vector<int32_t> tokens = lane.prompt.ids;
    tokens.insert(tokens.end(), lane.result.reference_ids.begin(),
                  lane.result.reference_ids.end());
    return tokens;
  }

  const VerifyInput& input_;
  Session& session_;
  Reference& reference_;
  Timing& timing_;
};

Lane Verifier::Start(const Prompt& prompt) {
  Lane lane(prompt, session_.NewKvCache(), reference_.NewSequence());
  lane.result.prompt = prompt;
  lane.next_draft_length = input_.settings.max_new_tokens;
  // The last prompt token is not prefilled: as in production it goes through
  // decode, which yields the first new token whether or not prefill has logits.
  const std::span<const int32_t> ids(prompt.ids);
  if (ids.size() > 1) {
    Stopwatch watch(timing_.prefill);
    session_.Prefill(lane.kv, ids.first(ids.size() - 1));
    timing_.prefill_tokens += static_cast<int64_t>(ids.size()) - 1;
  }
  return lane;
}

// In a KV cache of its own, so that the lane's stays as production has it.
void Verifier::ComparePrefillLogits(Lane& lane,
                                    std::span<const float> decode_logits) {
  const auto& prefills = input_.model.info().prefills;
  const bool any = std::any_of(
      prefills.begin(), prefills.end(),
      [](const PrefillInfo& prefill) { return prefill.logit_rows > 0; });
  if (!any) return;
  const std::vector<float> decoded(decode_logits.begin(), decode_logits.end());
  KvCache scratch = session_.NewKvCache();
  const auto prefilled = session_.Prefill(scratch, lane.prompt.ids);
  if (!prefilled.empty()) {
    lane.result.prefill_logits = Compare(decoded, prefilled);
  }
}

void Verifier::Draft(Lane& lane) {
  const bool first = lane.result.reference_ids.empty();
  int32_t pending =
      first ? lane.prompt.ids.back() : lane.result.reference_ids.back();
  const int64_t length = std::min(lane.next_draft_length, Remaining(lane));
  lane.draft.clear();
  lane.draft_logits.clear();
  while (static_cast<int64_t>(lane.draft.size()) < length) {
    std::span<const float> logits;
    {
      Stopwatch watch(timing_.decode);
      logits = session_.Decode(lane.kv, pending);
    }
    ++timing_.decode_tokens;
    lane.draft_logits.emplace_back(logits.begin(), logits.end());
    pending = Argmax(logits);
    lane.draft.push_back(pending);
    if (input_.progress) {
      input_.progress("TFLite decode", static_cast<int64_t>(lane.draft.size()),
                      length);
    }
    if (IsEos(pending)) break;
  }
  if (first) {
    lane.result.candidate_ids = lane.draft;
    ComparePrefillLogits(lane, lane.draft_logits.front());
  }
}

void Verifier::Score(std::vector<Lane>& lanes) {
  std::vector<Lane*> active;
  std::vector<std::vector<int32_t>> tokens;
  for (Lane& lane : lanes) {
    if (lane.done) continue;
    std::vector<int32_t> all = SharedTokens(lane);
    // The last draft token is only compared, never fed.
    all.insert(all.end(), lane.draft.begin(), lane.draft.end() - 1);
    all.erase(all.begin(), all.begin() + lane.sequence.length());
    lane.scored.assign(lane.draft.size(), {});
    timing_.reference_tokens += static_cast<int64_t>(all.size());
    active.push_back(&lane);
    tokens.push_back(std::move(all));
  }
  std::vector<Reference::Item> items;
  for (size_t i = 0; i < active.size(); ++i) {
    items.push_back({&active[i]->sequence, tokens[i],
                     static_cast<int64_t>(active[i]->draft.size())});
  }
  Stopwatch watch(timing_.reference);
  ++timing_.reference_passes;
  reference_.Score(
      items, [&](size_t item, int64_t row, std::span<const float> logits) {
        Lane& lane = *active[item];
        const auto first_row =
            static_cast<int64_t>(tokens[item].size() - lane.draft.size());
        const auto step = static_cast<size_t>(row - first_row);
        lane.scored[step] = Compare(logits, lane.draft_logits[step]);
        if (!lane.scored[step].finite) {
          CheckReferenceFinite(input_, logits,
                               "the prompt " + Shorten(lane.prompt.text));
        }
      });
}

// Takes PyTorch's choices up to and including the first that differs from the
// draft: from there on the draft continues another text.
void Verifier::Accept(Lane& lane) {
  PromptResult& result = lane.result;
  int64_t accepted = 0;
  for (size_t i = 0; i < lane.draft.size() && !lane.done; ++i) {
    Position position;
    position.index = static_cast<int64_t>(lane.prompt.ids.size() +
                                          result.reference_ids.size());
    position.logits = lane.scored[i];
    position.tie = IsTie(position.logits);
    const int32_t choice = position.logits.reference_token;
    const bool agree = choice == lane.draft[i];
    if (!agree) {
      const auto text = [&](int32_t token) {
        return input_.tokenizer.Decode({&token, 1}, false);
      };
      position.reference_text = text(choice);
      position.candidate_text = text(lane.draft[i]);
    }
    result.positions.push_back(std::move(position));
    result.reference_ids.push_back(choice);
    ++accepted;
    lane.done = IsEos(choice) || Remaining(lane) == 0;
    if (!agree) break;
  }
  lane.next_draft_length = std::max(kMinDraft, 2 * accepted);
  // Both caches keep all but the last shared token, which is fed next.
  const auto keep = static_cast<int64_t>(lane.prompt.ids.size() +
                                         result.reference_ids.size() - 1);
  lane.kv.Truncate(std::min(keep, lane.kv.length()));
  lane.sequence.Truncate(std::min(keep, lane.sequence.length()));
}

PromptResult Verifier::Finish(Lane lane) {
  PromptResult result = std::move(lane.result);
  result.reference_text = input_.tokenizer.Decode(result.reference_ids, true);
  result.candidate_text = input_.tokenizer.Decode(result.candidate_ids, true);
  const std::span<const int32_t> ids(result.reference_ids);
  result.shared_text = input_.tokenizer.Decode(
      ids.first(FirstDifference(result).value_or(ids.size())), true);
  return result;
}

void Verifier::RunGroup(std::span<const Prompt> prompts,
                        std::vector<PromptResult>& results) {
  std::vector<Lane> lanes;
  lanes.reserve(prompts.size());
  for (const Prompt& prompt : prompts) lanes.push_back(Start(prompt));
  const auto unfinished = [&] {
    return std::any_of(lanes.begin(), lanes.end(),
                       [](const Lane& lane) { return !lane.done; });
  };
  while (unfinished()) {
    for (Lane& lane : lanes) {
      if (!lane.done) Draft(lane);
    }
    Score(lanes);
    for (Lane& lane : lanes) {
      if (!lane.done) Accept(lane);
    }
  }
  for (Lane& lane : lanes) results.push_back(Finish(std::move(lane)));
}

// How many of `prompts`, from the first on, run together.
size_t GroupSize(const VerifyInput& input, std::span<const Prompt> prompts) {
  const ModelInfo& info = input.model.info();
  const int64_t logit_bytes = input.settings.max_new_tokens * info.vocab_size *
                              static_cast<int64_t>(sizeof(float));
  int64_t bytes = 0;
  int64_t tokens = 0;
  size_t size = 0;
  for (const Prompt& prompt : prompts) {
    bytes += info.kv_bytes + logit_bytes;
    tokens +=
        static_cast<int64_t>(prompt.ids.size()) + input.settings.max_new_tokens;
    if (size > 0 && (bytes > kGroupBytes || tokens > kGroupTokens)) break;
    ++size;
  }
  return size;
}

std::vector<PrefillPlan> Plans(const Model& model,
                               std::span<const Prompt> prompts) {
  std::vector<int64_t> lengths;
  bool logits = false;
  for (const PrefillInfo& prefill : model.info().prefills) {
    lengths.push_back(prefill.length);
    logits = logits || prefill.logit_rows > 0;
  }
  std::vector<PrefillPlan> plans;
  for (const Prompt& prompt : prompts) {
    const auto size = static_cast<int64_t>(prompt.ids.size());
    const int64_t kv_length = model.info().kv_length;
    plans.push_back(PlanPrefill(lengths, kv_length, 0, size - 1));
    // The whole prompt too, for ComparePrefillLogits.
    if (logits) plans.push_back(PlanPrefill(lengths, kv_length, 0, size));
  }
  return plans;
}

// The candidate against itself, with the evaluation's text.
std::vector<Finding> AddSelfCheck(const VerifyInput& input, Session& session,
                                  Verification& v) {
  if (!input.settings.self_check) return {};
  if (const int64_t bytes = UnpackedBytes(input.model.info());
      bytes > kMaxUnpackedBytes) {
    Check check;
    check.name = "self_check";
    check.detail = fmt::format(
        "takes about {:.1f} GB of memory: the runtime unpacks weight-only "
        "weights for each signature; `verify_tflite selfcheck` does it",
        static_cast<double>(bytes) / 1e9);
    v.checks[CheckGroup::kSelf] = {check};
    return {};
  }
  const Stopwatch watch(v.timing.self_check);
  SelfCheckResult result =
      RunSelfCheck(input.model, session, v.evaluation.ids,
                   {.num_threads = input.settings.num_threads,
                    .window = SlidingWindowOf(input.checkpoint.config()),
                    .max_steps = BriefSteps(input.model.info()),
                    .progress = input.progress});
  v.checks[CheckGroup::kSelf] = std::move(result.checks);
  return std::move(result.findings);
}

// What the model shows against itself is told by its cause where the comparison
// with PyTorch names one; what only might be wrong, that comparison decides.
void AddUnexplained(std::vector<Finding> findings, Verification& v) {
  const bool explained = !v.findings.empty();
  for (Finding& finding : findings) {
    if (explained || finding.severity == Outcome::kInconclusive) continue;
    v.findings.push_back(std::move(finding));
  }
}

// A table that is wrong explains what the comparison with PyTorch could only
// place.
void AddTables(std::vector<Finding> tables, Verification& v) {
  if (tables.empty()) return;
  std::erase_if(v.findings, [](const Finding& finding) {
    return finding.id == FindingId::kComputationDiffers ||
           finding.id == FindingId::kDecodeDiffers ||
           finding.id == FindingId::kPrefillDiffers;
  });
  AddUnexplained(std::move(tables), v);
}

}  // namespace

void CheckSameShape(const Model& model, const ModelConfig& config,
                    const std::string& checkpoint_path) {
  const ModelInfo& info = model.info();
  const auto check = [&](std::string_view what, int64_t found,
                         int64_t expected) {
    if (found == expected) return;
    throw Error(
        "{} has {} {}, the checkpoint {} has {}: it is not a conversion of "
        "this "
        "checkpoint. Pass the checkpoint it was converted from",
        model.path(), found, what, checkpoint_path, expected);
  };
  check("layers", info.num_layers, config.num_layers);
  check("vocabulary entries", info.vocab_size, config.vocab_size);
  if (info.kv_values == 0) return;
  int64_t kv_heads = 0;
  for (const LayerConfig& layer : config.layers) kv_heads += layer.num_kv_heads;
  // The mean, where layers differ.
  check("KV cache values per position and layer", info.kv_values,
        2 * kv_heads * config.head_dim / config.num_layers);
}

void CheckPromptsFit(const Model& model, std::span<const Prompt> prompts,
                     const Settings& settings) {
  const ModelInfo& info = model.info();
  for (const Prompt& prompt : prompts) {
    if (prompt.ids.empty()) {
      throw Error(
          "the prompt {} gives no tokens: there is nothing to feed. Pass a "
          "prompt with text",
          Shorten(prompt.text));
    }
    for (const int32_t id : prompt.ids) {
      if (id < 0 || id >= info.vocab_size) {
        throw Error(
            "the tokenizer gives id {} for the prompt {}, but {} has {} "
            "vocabulary entries: tokenizer and model do not belong together",
            id, Shorten(prompt.text), model.path(), info.vocab_size);
      }
    }
    // The last new token is never fed.
    const auto size = static_cast<int64_t>(prompt.ids.size());
    if (size + settings.max_new_tokens - 1 > info.kv_length) {
      throw Error(
          "the prompt {} has {} tokens; with --max_new_tokens={} it needs a "
          "KV cache of {} positions, {} has {}. Shorten the prompt, lower "
          "--max_new_tokens, or convert with a longer KV cache",
          Shorten(prompt.text), size, settings.max_new_tokens,
          size + settings.max_new_tokens - 1, model.path(), info.kv_length);
    }
  }
}

namespace {

// Of the prefill signatures that the plans use.
std::vector<int64_t> LengthsOf(const ModelInfo& info,
                               std::span<const PrefillPlan> plans) {
  std::vector<int64_t> lengths;
  for (const PrefillPlan& plan : plans) {
    for (const PrefillChunk& chunk : plan.chunks) {
      lengths.push_back(info.prefills[chunk.prefill].length);
    }
  }
  return lengths;
}

// The evaluation text, or the longest prompt where there is none.
std::span<const int32_t> TextToProbe(const EvalPlan& plan,
                                     std::span<const Prompt> prompts) {
  if (!plan.sequences.empty()) return plan.sequences.front();
  std::span<const int32_t> longest;
  for (const Prompt& prompt : prompts) {
    if (prompt.ids.size() > longest.size()) longest = prompt.ids;
  }
  return longest;
}

Outcome OutcomeOf(const Check* check) {
  return check == nullptr ? Outcome::kNotChecked : check->outcome;
}

void LocateFault(const VerifyInput& input, const Probes& probes,
                 const StructureCheck* structure, const Reference& reference,
                 Verification& v) {
  Stopwatch watch(v.timing.locate);
  v.kv_profile = probes.profile;
  if (input.settings.locate == Locate::kKv) structure = nullptr;
  const Outcome weights = OutcomeOf(WeightsCheckOf(v));
  Diagnosis diagnosis = Diagnose(
      {.checkpoint = input.checkpoint,
       .model = input.model.info(),
       .limits = v.limits,
       .reference = reference,
       .num_threads = input.settings.num_threads,
       .progress = input.progress,
       .weights_differ = weights > Outcome::kPass,
       .weights_verified = weights == Outcome::kPass,
       .recompute = input.settings.locate == Locate::kAuto,
       .suspicious = v.outcome >= Outcome::kDegraded,
       .broken = v.outcome == Outcome::kBroken,
       .structure = structure,
       .faults = structure == nullptr
                     ? std::span<const StructureFault>()
                     : std::span<const StructureFault>(v.structure->faults),
       .structure_verified = OutcomeOf(StructureCheckOf(v)) == Outcome::kPass},
      probes);
  for (Finding& finding : diagnosis.findings) {
    const auto same = [&](const Finding& f) { return f.id == finding.id; };
    if (std::none_of(v.findings.begin(), v.findings.end(), same)) {
      v.findings.push_back(std::move(finding));
    }
  }
  v.hypotheses = std::move(diagnosis.hypotheses);
}

// What else is found explains more than a range does.
void AddRanges(const StructureCheck& structure, Verification& v) {
  const auto finding = FindRanges(
      structure.ranges(),
      OutcomeOf(FindCheck(v.checks[CheckGroup::kDivergence], "kld")));
  if (finding) v.findings.push_back(*finding);
}

// PyTorch with the weights that decode has, where they are not the checkpoint's
// own numbers.
std::optional<Reference> WithFileWeights(const VerifyInput& input,
                                         const std::optional<FileGraph>& file) {
  if (!file || !input.settings.weights_cost ||
      input.model.info().recipe == Recipe::kFloat32) {
    return std::nullopt;
  }
  for (const SignatureGraph& graph : file->signatures) {
    if (IsDecode(graph.signature) && graph.not_understood.empty()) {
      return Reference::Open(input.checkpoint,
                             {.num_threads = input.settings.num_threads,
                              .progress = input.progress,
                              .weights = &graph.weights,
                              .quantise_inputs = false});
    }
  }
  return std::nullopt;
}

}  // namespace

void CheckReferenceFinite(const VerifyInput& input,
                          std::span<const float> logits,
                          const std::string& text) {
  if (std::all_of(logits.begin(), logits.end(),
                  [](float x) { return std::isfinite(x); })) {
    return;
  }
  throw Error(
      "{}: the PyTorch reference yields NaN or infinite logits for {}: the "
      "checkpoint is damaged; nothing was verified",
      input.checkpoint.directory(), text);
}

namespace {

// The runtime refuses such files with a sentence that names nothing.
void CheckScales(const Model& model) {
  for (const tflite::Part* part : model.container()->model_parts()) {
    const tflite::File& file = part->file();
    file.CheckConstants();
    const tflite::ZeroScales zeros = tflite::FindZeroScales(file);
    if (zeros.constants == 0) continue;
    throw Error(
        "{}: {}. No runtime loads that, so nothing could be verified "
        "(verify_tflite explain zero-scale)",
        file.what, Describe(zeros));
  }
}

}  // namespace

void RunVerification(const VerifyInput& input, std::span<const Prompt> prompts,
                     const EvalText& text, Verification& v) {
  const ModelInfo& info = input.model.info();
  for (Finding& finding : FindingsOf(input.model.signature_faults())) {
    v.findings.push_back(std::move(finding));
  }
  if (!input.model.signature_faults().empty()) {
    ProveWeights(input, v);
    Judge(v);
    return;
  }
  CheckSameShape(input.model, input.checkpoint.config(),
                 input.checkpoint.directory());
  for (Finding& finding : ScaleFindings(info)) {
    v.findings.push_back(std::move(finding));
  }
  CheckPromptsFit(input.model, prompts, input.settings);
  CheckScales(input.model);
  std::optional<FileGraph> graph;
  if (input.settings.structure || input.settings.weights_cost) {
    graph = OpenFileGraph(input.model.container(), input.checkpoint);
  }
  if (input.settings.structure) {
    for (Finding& finding : ShortTableFindings(input.model, *graph)) {
      v.findings.push_back(std::move(finding));
      ProveWeights(input, v);
      Judge(v);
      return;
    }
  }
  const EvalPlan plan = PlanEvaluation(
      text, input.tokenizer, input.settings.eval_tokens,
      MaxSequence(info, input.checkpoint.config()), info.vocab_size);
  const ProbePlan probe_plan =
      input.settings.locate == Locate::kOff
          ? ProbePlan{}
          : PlanProbes(TextToProbe(plan, prompts), info,
                       input.checkpoint.config());
  std::optional<Reference> reference;
  std::optional<Session> session;
  std::vector<int64_t> compiled;
  {
    Stopwatch watch(v.timing.compile);
    reference = Reference::Open(input.checkpoint,
                                {input.settings.num_threads, input.progress});
    std::vector<PrefillPlan> plans = Plans(input.model, prompts);
    for (PrefillPlan& more : EvaluationPlans(info, plan)) {
      plans.push_back(std::move(more));
    }
    for (PrefillPlan& more : ProbePrefills(info, probe_plan)) {
      plans.push_back(std::move(more));
    }
    if ((input.settings.self_check || input.settings.structure) &&
        UnpackedBytes(info) <= kMaxUnpackedBytes) {
      for (PrefillPlan& more : SelfCheckPlans(info)) {
        plans.push_back(std::move(more));
      }
    }
    compiled = LengthsOf(info, plans);
    session = Session::Create(input.model, plans,
                              {input.settings.num_threads, input.progress});
  }
  Verifier verifier(input, *session, *reference, v.timing);
  v.prompts.clear();
  while (v.prompts.size() < prompts.size()) {
    const auto rest = prompts.subspan(v.prompts.size());
    verifier.RunGroup(rest.first(GroupSize(input, rest)), v.prompts);
  }
  std::optional<Reference> file_reference = WithFileWeights(input, graph);
  v.evaluation = RunEvaluation(input, plan, *session, *reference,
                               file_reference ? &*file_reference : nullptr,
                               v.timing, v.weights_cost);
  std::vector<Finding> findings = AddSelfCheck(input, *session, v);
  WeightAudit audit = ProveWeights(input, v);
  std::vector<Finding> tables;
  if (input.settings.structure) {
    tables = ProveTables(input, *graph, audit, *reference, v);
  }
  std::optional<Probes> probes;
  if (probe_plan.prefill > 0) {
    Stopwatch watch(v.timing.locate);
    probes = RunProbes(probe_plan, *session, *reference);
  }
  std::unique_ptr<StructureCheck> structure;
  if (input.settings.structure) {
    structure = ProveStructure(input, *graph, TextToProbe(plan, prompts),
                               std::move(session), compiled, v);
    if (structure) ProveCalibrated(*structure, audit, v);
  }
  Judge(v);
  if (structure) AddRanges(*structure, v);
  if (probes) LocateFault(input, *probes, structure.get(), *reference, v);
  AddTables(std::move(tables), v);
  AddUnexplained(std::move(findings), v);
  Judge(v);
}

}  // namespace verify_tflite
