// Comparisons that one check of the self-check makes, as figures.
#ifndef VERIFY_TFLITE_VERIFY_SELF_CHECK_TALLY_H_
#define VERIFY_TFLITE_VERIFY_SELF_CHECK_TALLY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "result/verification.h"

namespace verify_tflite {

// Returns " (not compared, to save time: 8 and 63)"; empty for none.
std::string LeftOut(const std::vector<int64_t>& tokens);

class Tally {
 public:
  // Adds a comparison after so many tokens.
  void Add(int64_t tokens, const LogitDifference& logits);

  bool empty() const { return tokens_.empty(); }
  bool finite() const { return finite_; }
  double kld() const { return kld_; }          // the largest, nats
  double max_abs() const { return max_abs_; }  // the largest
  int64_t worst() const { return worst_; }     // tokens before the largest kld
  std::string Tokens() const;                  // "8, 63 and 64"
  std::string Figures() const;
  // Returns a check that holds the divergence against a limit. `what` begins
  // its detail.
  Check ToCheck(std::string name, const Limit& limit,
                const std::string& what) const;

 private:
  std::vector<int64_t> tokens_;
  bool finite_ = true;
  double kld_ = 0;
  double rms_ = 0;
  double max_abs_ = 0;
  int64_t worst_ = 0;
  bool flipped_ = false;
};

inline bool Failed(const Check& check) {
  return check.outcome > Outcome::kPass;
}

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_VERIFY_SELF_CHECK_TALLY_H_
