#include "verify/speculation.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "result/judge.h"
#include "verify/preconditions.h"
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

class Speculation {
 public:
  Speculation(const VerifyInput& input, Session& session, Reference& reference,
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

Lane Speculation::Start(const Prompt& prompt) {
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
void Speculation::ComparePrefillLogits(Lane& lane,
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

void Speculation::Draft(Lane& lane) {
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

void Speculation::Score(std::vector<Lane>& lanes) {
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
                               "the prompt " + DescribePrompt(lane.prompt));
        }
      });
}

// Takes PyTorch's choices up to and including the first that differs from the
// draft: from there on the draft continues another text.
void Speculation::Accept(Lane& lane) {
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

PromptResult Speculation::Finish(Lane lane) {
  PromptResult result = std::move(lane.result);
  result.reference_text = input_.tokenizer.Decode(result.reference_ids, true);
  result.candidate_text = input_.tokenizer.Decode(result.candidate_ids, true);
  const std::span<const int32_t> ids(result.reference_ids);
  result.shared_text = input_.tokenizer.Decode(
      ids.first(FirstDifference(result).value_or(ids.size())), true);
  return result;
}

void Speculation::RunGroup(std::span<const Prompt> prompts,
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

}  // namespace

std::vector<PrefillPlan> PromptPlans(const Model& model,
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

std::vector<PromptResult> RunPrompts(const VerifyInput& input,
                                     std::span<const Prompt> prompts,
                                     Session& session, Reference& reference,
                                     Timing& timing) {
  Speculation speculation(input, session, reference, timing);
  std::vector<PromptResult> results;
  while (results.size() < prompts.size()) {
    const auto rest = prompts.subspan(results.size());
    speculation.RunGroup(rest.first(GroupSize(input, rest)), results);
  }
  return results;
}

}  // namespace verify_tflite
