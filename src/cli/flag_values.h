// Parses values of flags, as the commands of verify_tflite take them.
#ifndef VERIFY_TFLITE_CLI_FLAG_VALUES_H_
#define VERIFY_TFLITE_CLI_FLAG_VALUES_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace CLI {
class App;
}

namespace verify_tflite {

// Returns a whole number from 1 to `largest`. Throws Error that names the flag.
int64_t ParseCount(std::string_view flag, const std::string& text,
                   int64_t largest);

// Returns a finite number above 0, whatever the locale. Throws Error that names
// the flag.
double ParsePositive(std::string_view flag, const std::string& text);

// Throws Error for `--name=`, because CLI11 takes the next argument for its
// value.
void RefuseEmptyValues(int argc, const char* const* argv);

// Throws Error for a flag that follows `--name`, because CLI11 takes whatever
// follows for its value.
void RefuseFlagsAsValues(const CLI::App& app, int argc,
                         const char* const* argv);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CLI_FLAG_VALUES_H_
