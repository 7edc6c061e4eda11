// Draws the figures of the HTML report.
#ifndef VERIFY_TFLITE_REPORT_HTML_PLOTS_H_
#define VERIFY_TFLITE_REPORT_HTML_PLOTS_H_

#include <string>

#include "result/verification.h"

namespace verify_tflite {

// Each function returns a <figure> with its caption, which also says where
// something was left out. It returns an empty text where there is nothing to
// show.

// Plots KL divergence over the place in the sequence, with the median of
// ranges.
std::string KldPlot(const Verification& verification);
// Plots NMSE of K and V over the layers, for prefill and for decode.
std::string KvPlot(const Verification& verification);
// Plots, where greedy choices differ, PyTorch's margin over the noise.
std::string MarginPlot(const Verification& verification);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REPORT_HTML_PLOTS_H_
