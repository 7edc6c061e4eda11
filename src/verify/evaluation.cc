#include "verify/evaluation.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "base/error.h"
#include "result/judge.h"
#include "verify/preconditions.h"
#include "verify/stopwatch.h"

namespace verify_tflite {
namespace {

constexpr int64_t kLogitBytes = int64_t{1} << 28;

bool ThroughPrefill(const ModelInfo& model) {
  return model.ring_length == 0 &&
         std::all_of(model.prefills.begin(), model.prefills.end(),
                     [](const PrefillInfo& prefill) {
                       return prefill.logit_rows == prefill.length;
                     });
}

std::vector<int64_t> LengthsOf(const ModelInfo& model) {
  std::vector<int64_t> lengths;
  for (const PrefillInfo& prefill : model.prefills) {
    lengths.push_back(prefill.length);
  }
  return lengths;
}

// One sequence under way in both models.
class Run {
 public:
  Run(const VerifyInput& input, Session& session, Reference& reference,
      Reference* file_reference, Timing& timing)
      : input_(input),
        session_(session),
        reference_(reference),
        file_reference_(file_reference),
        timing_(timing),
        vocab_(static_cast<size_t>(input.model.info().vocab_size)),
        through_prefill_(ThroughPrefill(input.model.info())) {}

  void Predict(std::span<const int32_t> ids, std::vector<Position>& positions);
  WeightsCost Cost() const;

 private:
  void RunCandidate(KvCache& kv, std::span<const int32_t> ids);
  Position Measure(int64_t index, std::span<const float> reference,
                   std::span<const float> candidate, int32_t next) const;
  void RunFileReference(Sequence& sequence, std::span<const int32_t> ids);
  void MeasureCost(size_t row, std::span<const float> reference,
                   std::span<const float> candidate, int32_t next);

  const VerifyInput& input_;
  Session& session_;
  Reference& reference_;
  Reference* file_reference_;  // or null
  Timing& timing_;
  size_t vocab_;
  bool through_prefill_;
  std::vector<float> logits_;  // [tokens of the part, vocab], the candidate's
  std::vector<float> file_logits_;  // the same of `file_reference_`
  std::vector<Position> cost_;      // what the file's weights alone change
  std::vector<Position> rest_;      // and what the candidate changes beyond it
};

void Run::RunCandidate(KvCache& kv, std::span<const int32_t> ids) {
  logits_.resize(ids.size() * vocab_);
  const auto keep = [&](size_t row, std::span<const float> logits) {
    std::copy(logits.begin(), logits.end(), &logits_[row * vocab_]);
  };
  if (through_prefill_) {
    Stopwatch watch(timing_.prefill);
    timing_.prefill_tokens += static_cast<int64_t>(ids.size());
    session_.Prefill(kv, ids, keep);
    return;
  }
  Stopwatch watch(timing_.decode);
  timing_.decode_tokens += static_cast<int64_t>(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    keep(i, session_.Decode(kv, ids[i]));
    if (input_.progress) {
      input_.progress("TFLite, evaluation text", kv.length(),
                      static_cast<int64_t>(ids.size()));
    }
  }
}

Position Run::Measure(int64_t index, std::span<const float> reference,
                      std::span<const float> candidate, int32_t next) const {
  Position position;
  position.index = index;
  position.logits = Compare(reference, candidate, next);
  position.tie = IsTie(position.logits);
  const LogitDifference& l = position.logits;
  if (!l.finite) CheckReferenceFinite(input_, reference, "the evaluation text");
  if (l.reference_token != l.candidate_token) {
    position.reference_text =
        input_.tokenizer.Decode({&l.reference_token, 1}, false);
    position.candidate_text =
        input_.tokenizer.Decode({&l.candidate_token, 1}, false);
  }
  return position;
}

void Run::RunFileReference(Sequence& sequence, std::span<const int32_t> ids) {
  Stopwatch watch(timing_.weights_cost);
  file_logits_.resize(ids.size() * vocab_);
  const std::vector<Reference::Item> items = {
      {&sequence, ids, static_cast<int64_t>(ids.size())}};
  file_reference_->Score(
      items, [&](size_t, int64_t row, std::span<const float> logits) {
        std::copy(logits.begin(), logits.end(),
                  &file_logits_[static_cast<size_t>(row) * vocab_]);
      });
}

void Run::MeasureCost(size_t row, std::span<const float> reference,
                      std::span<const float> candidate, int32_t next) {
  Stopwatch watch(timing_.weights_cost);
  const std::span<const float> file(&file_logits_[row * vocab_], vocab_);
  const auto measure = [&](std::span<const float> from,
                           std::span<const float> to) {
    Position position;
    position.logits = Compare(from, to, next);
    position.tie = IsTie(position.logits);
    return position;
  };
  cost_.push_back(measure(reference, file));
  rest_.push_back(measure(file, candidate));
}

WeightsCost Run::Cost() const {
  const auto summarize = [](const std::vector<Position>& positions) {
    std::vector<const Position*> pointers;
    for (const Position& position : positions) pointers.push_back(&position);
    return Summarize(pointers);
  };
  return {summarize(cost_), summarize(rest_)};
}

void Run::Predict(std::span<const int32_t> ids,
                  std::vector<Position>& positions) {
  KvCache kv = session_.NewKvCache();
  Sequence sequence = reference_.NewSequence();
  const auto part_size = std::max<size_t>(1, static_cast<size_t>(kLogitBytes) /
                                                 (file_reference_ ? 2 : 1) /
                                                 (vocab_ * sizeof(float)));
  // The last token is only predicted.
  std::optional<Sequence> file_sequence;
  if (file_reference_) file_sequence.emplace(file_reference_->NewSequence());
  for (size_t begin = 0; begin + 1 < ids.size(); begin += part_size) {
    const auto part =
        ids.subspan(begin, std::min(part_size, ids.size() - 1 - begin));
    RunCandidate(kv, part);
    if (file_reference_) RunFileReference(*file_sequence, part);
    Stopwatch watch(timing_.reference);
    ++timing_.reference_passes;
    timing_.reference_tokens += static_cast<int64_t>(part.size());
    const std::vector<Reference::Item> items = {
        {&sequence, part, static_cast<int64_t>(part.size())}};
    reference_.Score(items, [&](size_t, int64_t row,
                                std::span<const float> logits) {
      const auto at = begin + static_cast<size_t>(row);
      const std::span<const float> candidate(
          &logits_[static_cast<size_t>(row) * vocab_], vocab_);
      positions.push_back(Measure(static_cast<int64_t>(at) + 1, logits,
                                  candidate, ids[at + 1]));
      if (file_reference_) {
        MeasureCost(static_cast<size_t>(row), logits, candidate, ids[at + 1]);
      }
    });
  }
}

// How many tokens of each part, so that shares are even and the sum is
// `tokens` where the text is long enough.
std::vector<size_t> Shares(const std::vector<std::vector<int32_t>>& parts,
                           int64_t tokens) {
  size_t total = 0;
  for (const auto& part : parts) total += part.size();
  const size_t wanted = std::min(total, static_cast<size_t>(tokens));
  std::vector<size_t> shares;
  size_t seen = 0;
  size_t taken = 0;
  for (const auto& part : parts) {
    seen += part.size();
    const size_t upto = total == 0 ? 0 : wanted * seen / total;
    shares.push_back(upto - taken);
    taken = upto;
  }
  return shares;
}

}  // namespace

EvalPlan PlanEvaluation(const EvalText& text, const Tokenizer& tokenizer,
                        int64_t tokens, int64_t max_sequence,
                        int64_t vocab_size) {
  EvalPlan plan;
  plan.source = text.source;
  const std::vector<int32_t> start = tokenizer.Encode("", true);
  const auto room = max_sequence - static_cast<int64_t>(start.size());
  if (tokens <= 0 || room < 2) return plan;
  std::vector<std::vector<int32_t>> parts;
  for (const EvalText::Part& part : text.parts) {
    parts.push_back(tokenizer.Encode(part.text, false));
  }
  const std::vector<size_t> shares = Shares(parts, tokens);
  std::vector<int32_t> sequence = start;
  int64_t predicted = 0;
  const auto finish = [&] {
    if (sequence.size() > 1) plan.sequences.push_back(sequence);
    sequence = start;
  };
  for (size_t i = 0; i < parts.size(); ++i) {
    Passage passage{text.parts[i].name, predicted, predicted, {}};
    for (size_t j = 0; j < shares[i]; ++j) {
      const int32_t id = parts[i][j];
      if (id < 0 || id >= vocab_size) {
        throw Error(
            "the tokenizer gives id {} for the evaluation text ({}), but the "
            "model has {} vocabulary entries: tokenizer and model do not "
            "belong together",
            id, text.source, vocab_size);
      }
      if (static_cast<int64_t>(sequence.size()) == max_sequence) finish();
      // The first token of a sequence is predicted from nothing.
      if (!sequence.empty()) ++predicted;
      sequence.push_back(id);
    }
    passage.end = predicted;
    if (passage.end > passage.begin) plan.passages.push_back(passage);
  }
  finish();
  return plan;
}

int64_t MaxSequence(const ModelInfo& model, const ModelConfig& config) {
  int64_t length = model.kv_length;
  if (config.max_position_embeddings > 0) {
    length = std::min(length, config.max_position_embeddings);
  }
  // The reference does not go on across it (Reference::Score).
  if (config.long_rope) {
    length =
        std::min(length, config.long_rope->original_max_position_embeddings);
  }
  return length;
}

std::vector<PrefillPlan> EvaluationPlans(const ModelInfo& model,
                                         const EvalPlan& plan) {
  std::vector<PrefillPlan> plans;
  if (!ThroughPrefill(model)) return plans;
  const std::vector<int64_t> lengths = LengthsOf(model);
  for (const auto& sequence : plan.sequences) {
    const auto count = static_cast<int64_t>(sequence.size()) - 1;
    plans.push_back(PlanPrefill(lengths, model.kv_length, 0, count));
  }
  return plans;
}

Evaluation RunEvaluation(const VerifyInput& input, const EvalPlan& plan,
                         Session& session, Reference& reference,
                         Reference* file_reference, Timing& timing,
                         std::optional<WeightsCost>& cost) {
  Evaluation evaluation;
  evaluation.source = plan.source;
  evaluation.passages = plan.passages;
  evaluation.through_prefill = ThroughPrefill(input.model.info());
  Run run(input, session, reference, file_reference, timing);
  for (const std::vector<int32_t>& sequence : plan.sequences) {
    run.Predict(sequence, evaluation.positions);
    evaluation.ids.insert(evaluation.ids.end(), sequence.begin(),
                          sequence.end());
  }
  if (file_reference != nullptr) cost = run.Cost();
  return evaluation;
}

}  // namespace verify_tflite
