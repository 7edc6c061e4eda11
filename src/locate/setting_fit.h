// The value of one setting at which a candidate agrees with a reference that
// has it.
#ifndef VERIFY_TFLITE_LOCATE_SETTING_FIT_H_
#define VERIFY_TFLITE_LOCATE_SETTING_FIT_H_

#include <functional>
#include <optional>

namespace verify_tflite {

// The x from `low` to `high`, both above 0, at which `error` is 0: how far the
// two are apart beyond their limit, 0 within it. Looked for on a grid of
// `steps` in log x, around whose best `error` is taken to fall towards x from
// either side. Of the values that no error tells apart, the one with the fewest
// digits. None where `error` is 0 nowhere, or as far as `low` or `high`: then
// it does not depend on x there, and nothing is measured. `error` is called up
// to steps + 100 times.
std::optional<double> FitSetting(double low, double high, int steps,
                                 const std::function<double(double)>& error);

// The number from `low` to `high` (0 < low <= high) with the fewest digits, of
// several the nearest to the middle.
double RoundestBetween(double low, double high);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_LOCATE_SETTING_FIT_H_
