// Parses the command line of the commands that take few flags: `verify_tflite
// NAME …`.
#ifndef VERIFY_TFLITE_CLI_ARGUMENTS_H_
#define VERIFY_TFLITE_CLI_ARGUMENTS_H_

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace verify_tflite {

// What a command takes beside --help and -h.
struct ArgumentSpec {
  std::string_view command;             // "weights"
  std::vector<std::string_view> flags;  // "--name": --name=X or --name X
  bool json = false;                    // --json or --json=FILE
  bool paths = false;                   // what is no flag
};

struct Arguments {
  bool help = false;  // asked for: nothing after it was read
  std::map<std::string, std::string, std::less<>> values;  // by flag
  bool json = false;
  std::string json_path;  // empty: standard output
  std::vector<std::string> paths;

  // Returns an empty text if the flag was not given; no flag has an empty
  // value.
  std::string Value(std::string_view flag) const;
};

// Returns whether the first argument is `name`.
bool IsCommand(int argc, const char* const* argv, std::string_view name);

// Reads what follows the command's name. The last of several values counts.
// Throws Error for what `spec` does not name, and for an empty value.
Arguments ParseArguments(const ArgumentSpec& spec, int argc,
                         const char* const* argv);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CLI_ARGUMENTS_H_
