// Finds the value of one setting at which a candidate agrees with a reference
// that has it.
#ifndef VERIFY_TFLITE_LOCATE_SETTING_FIT_H_
#define VERIFY_TFLITE_LOCATE_SETTING_FIT_H_

#include <functional>
#include <optional>

namespace verify_tflite {

// Returns the x from `low` to `high`, both above 0, at which `error` is 0.
// `error` says how far the two are apart beyond their limit; it is 0 within it.
// It is searched on a grid of `steps` in log x; near the best of these `error`
// is assumed to fall towards x from either side. Of the values that no error
// tells apart, it returns the one with the fewest digits. It returns none where
// `error` is 0 nowhere, or 0 up to `low` or `high`: then it does not depend on
// x there, and nothing is measured. `error` is called up to steps + 100 times.
std::optional<double> FitSetting(double low, double high, int steps,
                                 const std::function<double(double)>& error);

// Returns the number from `low` to `high` (0 < low <= high) with the fewest
// digits; of several, the one nearest to the middle.
double RoundestBetween(double low, double high);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_LOCATE_SETTING_FIT_H_
