#include "cli/arguments.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/utf8.h"

namespace verify_tflite {

std::string Arguments::Value(std::string_view flag) const {
  const auto at = values.find(flag);
  return at == values.end() ? "" : at->second;
}

bool IsCommand(int argc, const char* const* argv, std::string_view name) {
  return argc > 1 && argv[1] == name;
}

Arguments ParseArguments(const ArgumentSpec& spec, int argc,
                         const char* const* argv) {
  const std::string hint =
      fmt::format("verify_tflite {} --help explains it", spec.command);
  Arguments result;
  for (int i = 2; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--help" || argument == "-h") {
      result.help = true;
      return result;
    }
    if (!argument.starts_with("--")) {
      if (!spec.paths) {
        throw Error("{}: {}: expected --flag=value ({})", spec.command,
                    Quote(argument), hint);
      }
      result.paths.emplace_back(argument);
      continue;
    }
    const size_t equals = argument.find('=');
    const bool has_value = equals != std::string_view::npos;
    const std::string_view flag = argument.substr(0, equals);
    std::string_view value = has_value ? argument.substr(equals + 1) : "";
    const bool json = spec.json && flag == "--json";
    if (!json && std::ranges::find(spec.flags, flag) == spec.flags.end()) {
      throw Error("{}: unknown ({})", Quote(argument), hint);
    }
    // What follows --json is not its value: a path may.
    if (!json && !has_value && i + 1 < argc) value = argv[++i];
    if (value.empty() && (!json || has_value)) {
      throw Error("{}: the value is empty", flag);
    }
    if (json) {
      result.json = true;
      result.json_path = value;
    } else {
      result.values[std::string(flag)] = value;
    }
  }
  return result;
}

}  // namespace verify_tflite
