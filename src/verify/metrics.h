// How far two rows of logits are apart.
#ifndef VERIFY_TFLITE_VERIFY_METRICS_H_
#define VERIFY_TFLITE_VERIFY_METRICS_H_

#include <cstdint>
#include <span>

namespace verify_tflite {

// The greedy choice: the index of the largest value, the lowest such index
// where several are equal (as torch.argmax and numpy.argmax on CPU). NaN is
// never chosen; 0 when all are NaN.
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
  int32_t reference_token = 0;  // Argmax of each
  int32_t candidate_token = 0;
  // reference[reference_token] - reference[candidate_token]: how sure PyTorch
  // is of its choice over the candidate's; 0 where they are the same.
  double margin = 0;
};

// Both rows are [vocab], of the same non-zero size.
LogitDifference Compare(std::span<const float> reference,
                        std::span<const float> candidate);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_VERIFY_METRICS_H_
