#include "verify/run.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "candidate/session.h"
#include "mapping/model_map.h"
#include "reference/reference.h"
#include "result/faithful.h"
#include "result/judge.h"
#include "verify/diagnosis.h"
#include "verify/evaluation.h"
#include "verify/preconditions.h"
#include "verify/probes.h"
#include "verify/proofs.h"
#include "verify/range_findings.h"
#include "verify/rounding.h"
#include "verify/self_check.h"
#include "verify/signature_findings.h"
#include "verify/speculation.h"
#include "verify/stopwatch.h"

namespace verify_tflite {
namespace {

void Append(std::vector<Finding> findings, Verification& v) {
  std::ranges::move(findings, std::back_inserter(v.findings));
}

// --- what is run ---

// The texts that both models are given, beside the prompts.
struct Texts {
  EvalPlan evaluation;
  std::span<const int32_t> probed;  // into the evaluation's or a prompt's
  ProbePlan probes;
};

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

Texts PlanTexts(const VerifyInput& input, std::span<const Prompt> prompts,
                const EvalText& text) {
  const ModelInfo& info = input.model.info();
  const ModelConfig& config = input.checkpoint.config();
  Texts texts;
  texts.evaluation =
      PlanEvaluation(text, input.tokenizer, input.settings.eval_tokens,
                     MaxSequence(info, config), info.vocab_size);
  texts.probed = TextToProbe(texts.evaluation, prompts);
  if (input.settings.locate != Locate::kOff) {
    texts.probes = PlanProbes(texts.probed, info, config);
  }
  return texts;
}

// Returns what all parts of the run need compiled, together.
std::vector<PrefillPlan> NeedsOf(const VerifyInput& input,
                                 std::span<const Prompt> prompts,
                                 const Texts& texts) {
  const ModelInfo& info = input.model.info();
  const bool all_signatures =
      (input.settings.self_check || input.settings.structure) &&
      UnpackedBytes(info) <= kMaxUnpackedBytes;
  std::vector<PrefillPlan> needs;
  for (std::vector<PrefillPlan>& plans :
       std::array{PromptPlans(input.model, prompts),
                  EvaluationPlans(info, texts.evaluation),
                  ProbePrefills(info, texts.probes),
                  all_signatures ? SelfCheckPlans(info)
                                 : std::vector<PrefillPlan>()}) {
    std::ranges::move(plans, std::back_inserter(needs));
  }
  return needs;
}

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

// --- what is wrong ---

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
  const Outcome so_far = OutcomeOf(v);
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
       .suspicious = so_far >= Outcome::kDegraded,
       .broken = so_far == Outcome::kBroken,
       .structure = structure,
       .faults = structure == nullptr
                     ? std::span<const StructureFault>()
                     : std::span<const StructureFault>(v.structure->faults),
       .structure_verified = OutcomeOf(StructureCheckOf(v)) == Outcome::kPass},
      probes);
  for (Finding& finding : diagnosis.findings) {
    AddFinding(v, std::move(finding));
  }
  v.hypotheses = std::move(diagnosis.hypotheses);
}

// Which experts the rows take says nothing about whether the file is right, but
// much about what it costs.
void NoteExperts(const StructureCheck& structure, Reference& reference,
                 Verification& v) {
  const Stopwatch watch(v.timing.structure);
  const auto routing = structure.MeasureExperts(reference);
  if (!routing) return;
  for (std::string& note : Describe(*routing)) {
    v.notes.push_back(std::move(note));
  }
}

// What else is found explains more than a range does.
void AddRanges(const StructureCheck& structure, Verification& v) {
  const auto finding = FindRanges(
      structure.ranges(),
      OutcomeOf(FindCheck(v.checks[CheckGroup::kDivergence], "kld")));
  if (finding) v.findings.push_back(*finding);
}

// What can be told before anything runs. Returns whether the rest is worth
// running: not where the runtime would return other tensors' bytes, or fail
// within the KV cache.
bool CheckStatically(const VerifyInput& input, const FileGraph* graph,
                     Verification& v) {
  Append(ScaleFindings(input.model.info()), v);
  if (!input.settings.structure) return true;
  std::vector<Finding> short_tables = ShortTableFindings(input.model, *graph);
  const bool runs = short_tables.empty();
  Append(std::move(short_tables), v);
  return runs;
}

}  // namespace

void RunVerification(const VerifyInput& input, std::span<const Prompt> prompts,
                     const EvalText& text, Verification& v) {
  const Settings& settings = input.settings;
  const auto map = std::make_shared<const ModelMap>(input.model.container(),
                                                    input.checkpoint);
  if (!input.model.signature_faults().empty()) {
    Append(FindingsOf(input.model.signature_faults()), v);
    ProveWeights(input, *map, v);
    return Judge(v);
  }
  CheckSameShape(input.model, input.checkpoint.config(),
                 input.checkpoint.directory());
  CheckPromptsFit(input.model, prompts, settings);
  std::ranges::move(NotesOnPads(input.model.info(), prompts),
                    std::back_inserter(v.notes));
  CheckScales(input.model);
  std::optional<FileGraph> graph;
  if (settings.structure || settings.weights_cost) {
    graph = MakeFileGraph(map);
  }
  if (!CheckStatically(input, graph ? &*graph : nullptr, v)) {
    ProveWeights(input, *map, v);
    return Judge(v);
  }

  const Texts texts = PlanTexts(input, prompts, text);
  const std::vector<PrefillPlan> needs = NeedsOf(input, prompts, texts);
  std::optional<Reference> reference;
  std::optional<Session> session;
  {
    Stopwatch watch(v.timing.compile);
    reference = Reference::Open(input.checkpoint,
                                {settings.num_threads, input.progress});
    session = Session::Create(input.model, needs,
                              {settings.num_threads, input.progress});
  }
  v.prompts = RunPrompts(input, prompts, *session, *reference, v.timing);
  std::optional<Reference> file_reference = WithFileWeights(input, graph);
  v.evaluation = RunEvaluation(input, texts.evaluation, *session, *reference,
                               file_reference ? &*file_reference : nullptr,
                               v.timing, v.weights_cost);
  std::vector<Finding> by_itself = AddSelfCheck(input, *session, v);
  WeightAudit audit = ProveWeights(input, *map, v);
  std::vector<Finding> tables;
  if (settings.structure) {
    tables = ProveTables(input, *graph, audit, *reference, v);
  }
  std::optional<Probes> probes;
  if (texts.probes.prefill > 0) {
    Stopwatch watch(v.timing.locate);
    probes = RunProbes(texts.probes, *session, *reference);
  }
  std::unique_ptr<StructureCheck> structure;
  if (settings.structure) {
    structure = ProveStructure(input, *graph, texts.probed, std::move(session),
                               LengthsOf(input.model.info(), needs), v);
    if (structure) {
      ProveCalibrated(*structure, audit, v);
      NoteExperts(*structure, *reference, v);
    }
  }

  JudgeFigures(v);
  if (IsRoundingInQuestion(v)) {
    v.rounding = MeasureRounding(input, texts.evaluation, v.prompts, *reference,
                                 v.timing);
    v.limits = LimitsOf(v);
    JudgeFigures(v);
    const std::string note = DescribeRounding(v);
    if (!note.empty()) v.notes.push_back(note);
  }
  if (structure) AddRanges(*structure, v);
  if (probes) LocateFault(input, *probes, structure.get(), *reference, v);
  AddTables(std::move(tables), v);
  AddUnexplained(std::move(by_itself), v);
  Conclude(v);
}

}  // namespace verify_tflite
