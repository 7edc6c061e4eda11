// Measures how far two rows of logits are apart.
#ifndef VERIFY_TFLITE_RESULT_METRICS_H_
#define VERIFY_TFLITE_RESULT_METRICS_H_

#include <cstdint>
#include <optional>
#include <span>

namespace verify_tflite {

// Returns the greedy choice: the index of the largest value, and the lowest
// such index where several are equal (as torch.argmax and numpy.argmax on CPU).
// NaN is never chosen. Returns 0 when all are NaN.
int32_t Argmax(std::span<const float> logits);

struct LogitDifference {
  // False when either row holds NaN or an infinity; then only the two tokens
  // are meaningful.
  bool finite = true;
  // KL(reference || candidate) in nats: sum of p * (log p - log q) over the
  // full vocabulary, with float64 log-softmax. Blind to a constant offset, as
  // softmax is.
  double kld = 0;
  double max_abs = 0;   // of candidate - reference
  double mean_abs = 0;  // of candidate - reference
  double rms = 0;       // of candidate - reference with its mean removed
  // Sum of squares of the difference over that of the reference's logits, the
  // mean of each removed first: a constant offset means nothing to softmax. 0
  // where the reference's logits are all equal and the candidate's as well.
  double nmse = 0;
  int32_t reference_token = 0;  // Argmax of each
  int32_t candidate_token = 0;
  // reference[reference_token] - reference[candidate_token]: how sure PyTorch
  // is of its choice over the candidate's; 0 where they are the same.
  double margin = 0;
  // Entries of the candidate's row that come before the reference's token; 0
  // where the two agree.
  int64_t rank = 0;
  // The token that follows in the text, and its log-probability in nats.
  int32_t text_token = 0;
  double reference_logprob = 0;
  double candidate_logprob = 0;
  // All of the candidate's logits are equal.
  bool constant = false;
};

// Compares two rows, [vocab], which must have the same non-zero size.
// `text_token` is an index into them; without one it is the reference's own
// choice.
LogitDifference Compare(std::span<const float> reference,
                        std::span<const float> candidate,
                        std::optional<int32_t> text_token = std::nullopt);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_RESULT_METRICS_H_
