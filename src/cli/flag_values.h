// Values of flags, as the commands of verify_tflite take them.
#ifndef VERIFY_TFLITE_CLI_FLAG_VALUES_H_
#define VERIFY_TFLITE_CLI_FLAG_VALUES_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace CLI {
class App;
}

namespace verify_tflite {

// A whole number from 1 to `largest`. Throws Error that names the flag.
int64_t ParseCount(std::string_view flag, const std::string& text,
                   int64_t largest);

// A finite number above 0, whatever the locale. Throws Error likewise.
double ParsePositive(std::string_view flag, const std::string& text);

// CLI11 takes the next argument for the value of `--name=`; throws Error for
// one like that.
void RefuseEmptyValues(int argc, const char* const* argv);

// CLI11 takes whatever follows `--name` for its value, another flag too; throws
// Error for that.
void RefuseFlagsAsValues(const CLI::App& app, int argc,
                         const char* const* argv);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CLI_FLAG_VALUES_H_
