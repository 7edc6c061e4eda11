#include "verify/rounding.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/last_bits.h"
#include "result/faithful.h"
#include "result/judge.h"
#include "verify/stopwatch.h"

namespace verify_tflite {
namespace {

constexpr int64_t kLogitBytes = int64_t{1} << 28;

// A sum of float32 is off by the root of the number of its terms. Kernels keep
// several sums at a time, so that products of 64 terms are off by about a last
// place, and of 2048 by six.
int64_t PlacesOf(int64_t terms) {
  return std::max<int64_t>(
      1, std::lround(std::sqrt(static_cast<double>(terms)) / 8));
}

// Two runs of PyTorch over one text.
class Pair {
 public:
  Pair(const VerifyInput& input, Reference& reference)
      : reference_(reference),
        vocab_(static_cast<size_t>(input.model.info().vocab_size)) {}

  // Compares the predictions behind all tokens but the first `begin` and the
  // last.
  void Predict(std::span<const int32_t> ids, size_t begin);
  Aggregate Figures() const;

 private:
  void Compare(std::span<const int32_t> part, size_t at, size_t begin,
               Sequence& plain, Sequence& moved);
  void Move(const Captured& captured);

  Reference& reference_;
  size_t vocab_;
  LastBits bits_;
  int64_t terms_ = 1;          // of the products that are computed next
  std::vector<float> logits_;  // [tokens of the part, vocab], as it is
  std::vector<Position> positions_;
};

void Pair::Compare(std::span<const int32_t> part, size_t at, size_t begin,
                   Sequence& plain, Sequence& moved) {
  const auto rows = static_cast<int64_t>(part.size());
  logits_.resize(part.size() * vocab_);
  const std::vector<Reference::Item> first = {{&plain, part, rows}};
  reference_.Score(
      first, [&](size_t, int64_t row, std::span<const float> logits) {
        std::ranges::copy(logits, &logits_[static_cast<size_t>(row) * vocab_]);
      });
  const std::vector<Reference::Item> second = {{&moved, part, rows}};
  reference_.Score(
      second,
      [&](size_t, int64_t row, std::span<const float> logits) {
        if (at + static_cast<size_t>(row) < begin) return;
        Position position;
        position.index = static_cast<int64_t>(at) + row + 1;
        position.logits = verify_tflite::Compare(
            {&logits_[static_cast<size_t>(row) * vocab_], vocab_}, logits);
        position.tie = IsTie(position.logits);
        positions_.push_back(position);
      },
      [&](const Captured& captured) { Move(captured); });
}

void Pair::Move(const Captured& captured) {
  const bool is_sum = IsLinear(captured.stage);
  if (!is_sum) terms_ = captured.width;
  // An embedding is looked up, not computed.
  if (captured.stage == Stage::kEmbedding) return;
  std::vector<float> moved(captured.values.begin(), captured.values.end());
  bits_.Move(moved);
  const auto places = static_cast<float>(is_sum ? PlacesOf(terms_) : 1);
  for (size_t i = 0; i < moved.size(); ++i) {
    captured.values[i] += places * (moved[i] - captured.values[i]);
  }
}

void Pair::Predict(std::span<const int32_t> ids, size_t begin) {
  Sequence plain = reference_.NewSequence();
  Sequence moved = reference_.NewSequence();
  const auto size = std::max<size_t>(
      1, static_cast<size_t>(kLogitBytes) / (vocab_ * sizeof(float)));
  for (size_t at = 0; at + 1 < ids.size(); at += size) {
    Compare(ids.subspan(at, std::min(size, ids.size() - 1 - at)), at, begin,
            plain, moved);
  }
}

Aggregate Pair::Figures() const {
  std::vector<const Position*> pointers;
  for (const Position& position : positions_) pointers.push_back(&position);
  return Summarize(pointers);
}

}  // namespace

bool IsRoundingInQuestion(const Verification& v) {
  if (!IsFaithful(v)) return false;
  const auto failed = [](const auto& it) {
    return it.outcome > Outcome::kPass;
  };
  return std::ranges::any_of(v.checks[CheckGroup::kDivergence], failed) ||
         std::ranges::any_of(v.prompts, failed);
}

Aggregate MeasureRounding(const VerifyInput& input, const EvalPlan& plan,
                          std::span<const PromptResult> prompts,
                          Reference& reference, Timing& timing) {
  const Stopwatch watch(timing.reference);
  Pair pair(input, reference);
  for (const std::vector<int32_t>& sequence : plan.sequences) {
    pair.Predict(sequence, 0);
  }
  for (const PromptResult& prompt : prompts) {
    std::vector<int32_t> ids = prompt.prompt.ids;
    ids.insert(ids.end(), prompt.reference_ids.begin(),
               prompt.reference_ids.end());
    pair.Predict(ids, prompt.prompt.ids.size() - 1);
  }
  return pair.Figures();
}

std::string DescribeRounding(const Verification& v) {
  if (!v.rounding || !MagnifiesRounding(*v.rounding)) return "";
  std::string note = fmt::format(
      "This model magnifies rounding: PyTorch with the last bits of all that it "
      "computes moved by chance is {:.2g} nats from itself (mean over {} "
      "positions; {} of its greedy choices differ). ",
      v.rounding->kld.mean, v.rounding->kld.count,
      v.rounding->flips + v.rounding->ties);
  note += JudgedRecipe(v.model) == Recipe::kFloat32
              ? "Its logits show no fault that costs less. That the file is "
                "the checkpoint's was shown by its weights and its operators, "
                "each by itself."
              : "What quantisation changes is magnified as much.";
  return note;
}

}  // namespace verify_tflite
