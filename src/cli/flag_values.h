// Parses values of flags, as the commands of verify_tflite take them.
#ifndef VERIFY_TFLITE_CLI_FLAG_VALUES_H_
#define VERIFY_TFLITE_CLI_FLAG_VALUES_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace CLI {
class App;
}

namespace verify_tflite {

// What must be given is not. ParseCommandLine adds where it is explained.
class Missing : public Error {
 public:
  using Error::Error;
};

// Throws Missing, "--flag is required", for an empty value.
void Require(std::string_view flag, const std::string& value);

// Where a command prints JSON: `--json` on standard output, `--json=FILE` in a
// file. What follows `--json` is not its value: a path may.
struct JsonOutput {
  bool asked = false;
  std::string path = {};
};
// Adds the flag; its value is `raw`, for JsonOutputOf to read after the parse.
void AddJsonFlag(CLI::App& command, std::string& raw, const std::string& text);
JsonOutput JsonOutputOf(const std::string& raw);

// Adds a flag with a value; of several the last holds, as in the scripts people
// know. `fallback` is what the help says of its default.
void AddValue(CLI::App& command, const char* name, std::string& value,
              const char* text, const char* type, const char* fallback = "");

// Returns a whole number from 1 to `largest`. Throws Error that names the flag.
int64_t ParseCount(std::string_view flag, const std::string& text,
                   int64_t largest);

// Returns the value of --num_threads; all cores where it is empty.
int ParseThreads(const std::string& text);

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
