// Feeds one text to a model in different pieces, and counts what that costs.
#ifndef VERIFY_TFLITE_VERIFY_SELF_CHECK_FEEDER_H_
#define VERIFY_TFLITE_VERIFY_SELF_CHECK_FEEDER_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "candidate/session.h"
#include "result/metrics.h"
#include "verify/self_check.h"

namespace verify_tflite {

using Logits = std::vector<float>;

Logits Copy(std::span<const float> logits);

// What a text gives in some pieces.
struct Fed {
  Logits row;  // of the decode step after it
  Logits own;  // prefill's own, of the last token; empty where it has none
};

// Costs are in decode steps of the model.
class Feeder {
 public:
  // `model`, `session` and `options` outlive it. The text is `ids`, and
  // SelfCheckIds after their end.
  Feeder(const Model& model, Session& session, std::span<const int32_t> ids,
         const SelfCheckOptions& options);

  const Model& model() const { return model_; }
  const ModelInfo& info() const { return model_.info(); }
  Session& session() const { return session_; }
  const SelfCheckOptions& options() const { return options_; }
  const std::vector<int32_t>& text() const { return text_; }
  // Of the prefill signatures, as in ModelInfo: descending.
  const std::vector<int64_t>& lengths() const { return lengths_; }
  // The most tokens that leave room for a last decode step.
  int64_t most() const { return info().kv_length - 1; }
  // The length of the next shorter prefill signature; 0 for the shortest.
  int64_t Smaller(size_t prefill) const;
  // The longest signature that takes a small part of the budget.
  size_t Affordable() const;

  // Returns what prefill in these pieces and the decode step after it cost;
  // NewCost returns 0 where they were fed before.
  int64_t Cost(const std::vector<int64_t>& pieces) const;
  int64_t NewCost(const std::vector<int64_t>& pieces) const;
  // Whether so many more steps leave the sum within a share of the budget.
  bool Fits(int64_t steps, double share) const;
  void Spend(int64_t steps) { spent_ += steps; }

  // Returns the logits of the decode step after the text's first tokens,
  // prefilled in pieces: those fed before are kept.
  const Fed& Feed(const std::vector<int64_t>& pieces);
  // The same with another session, KV cache and text; keeps nothing.
  static Logits After(Session& session, KvCache& kv,
                      std::span<const int32_t> text,
                      std::span<const int64_t> pieces,
                      Logits* prefill_logits = nullptr);
  // Feeds the text token by token, as far as a fifth of the budget goes, and
  // keeps the logits after these numbers of tokens.
  void DecodeAlone(const std::set<int64_t>& wanted);
  // Returns the logits after so many tokens of decode alone; null where it did
  // not come that far.
  const Logits* Decoded(int64_t tokens) const;

  // Feeds the text token by token twice, as far as a fifth of the budget goes:
  // as it is, and with the last bit of the KV caches moved after every step.
  // Returns how far apart the logits are at most, nats: what rounding alone
  // does. 0 where the caches are of fewer bits.
  double DecodeWithMovedBits();

  // Compares two rows, and remembers if one was not finite.
  LogitDifference Compare(std::span<const float> a, std::span<const float> b);
  bool nan() const { return nan_; }

  static Check NotChecked(std::string name, std::string why);
  // Returns a check that was left out because it takes so many steps.
  Check TooLong(std::string name, int64_t steps) const;

 private:
  const Model& model_;
  Session& session_;
  const SelfCheckOptions& options_;
  std::vector<int32_t> text_;
  std::vector<int64_t> lengths_;
  double step_seconds_ = 0;
  int64_t spent_ = 0;
  std::map<std::vector<int64_t>, Fed> fed_;
  std::map<int64_t, Logits> decoded_;  // by tokens before
  bool nan_ = false;
};

// Returns pieces of so many tokens, and a rest.
std::vector<int64_t> Cut(int64_t tokens, int64_t piece);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_VERIFY_SELF_CHECK_FEEDER_H_
