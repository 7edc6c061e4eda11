// The figures of the HTML report.
#ifndef VERIFY_TFLITE_REPORT_HTML_PLOTS_H_
#define VERIFY_TFLITE_REPORT_HTML_PLOTS_H_

#include <string>

#include "result/verification.h"

namespace verify_tflite {

// Each is a <figure> with its caption, which also says where something was left
// out; empty where there is nothing to show.

// KL divergence over the place in the sequence, with the median of ranges.
std::string KldPlot(const Verification& verification);
// NMSE of K and V over the layers, of prefill and of decode.
std::string KvPlot(const Verification& verification);
// Where greedy choices differ: PyTorch's margin over the noise.
std::string MarginPlot(const Verification& verification);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REPORT_HTML_PLOTS_H_
