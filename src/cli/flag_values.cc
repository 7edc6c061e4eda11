#include "cli/flag_values.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <thread>

namespace verify_tflite {
namespace {

template <typename T>
T ParseNumber(std::string_view flag, const std::string& text) {
  T value{};
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || at != end || text.empty()) {
    throw Error("--{}: expected a number, found \"{}\"", flag, text);
  }
  return value;
}

}  // namespace

void Require(std::string_view flag, const std::string& value) {
  if (value.empty()) throw Missing("{} is required", flag);
}

void AddJsonFlag(CLI::App& command, std::string& raw, const std::string& text) {
  command.add_flag("--json", raw, text)
      ->type_name("[=FILE]")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
}

JsonOutput JsonOutputOf(const std::string& raw) {
  // CLI11's value of a flag that has none.
  if (raw == "true") return {.asked = true};
  return {.asked = !raw.empty(), .path = raw};
}

void AddValue(CLI::App& command, const char* name, std::string& value,
              const char* text, const char* type, const char* fallback) {
  CLI::Option* option = command.add_option(name, value, text)->type_name(type);
  if (*fallback != '\0') option->default_str(fallback);
  option->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
}

int64_t ParseCount(std::string_view flag, const std::string& text,
                   int64_t largest) {
  const auto value = ParseNumber<int64_t>(flag, text);
  if (value < 1 || value > largest) {
    throw Error("--{}: expected a whole number from 1 to {}, found {}", flag,
                largest, text);
  }
  return value;
}

int ParseThreads(const std::string& text) {
  if (!text.empty())
    return static_cast<int>(ParseCount("num_threads", text, 1024));
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

double ParsePositive(std::string_view flag, const std::string& text) {
  const auto value = ParseNumber<double>(flag, text);
  if (!std::isfinite(value) || value <= 0) {
    throw Error("--{}: expected a positive number, found {}", flag, text);
  }
  return value;
}

void RefuseEmptyValues(int argc, const char* const* argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.starts_with("--") &&
        argument.find('=') + 1 == argument.size()) {
      throw Error("{}: the value is empty", argument);
    }
  }
}

void RefuseFlagsAsValues(const CLI::App& app, int argc,
                         const char* const* argv) {
  const auto find = [&](std::string_view argument) {
    const std::string name(argument.substr(0, argument.find('=')));
    return name.starts_with('-') ? app.get_option_no_throw(name) : nullptr;
  };
  for (int i = 1; i + 1 < argc; ++i) {
    const CLI::Option* option = find(argv[i]);
    if (option == nullptr || option->get_items_expected_max() == 0) continue;
    const std::string_view name = argv[i];
    if (name.find('=') != std::string_view::npos) continue;
    const std::string_view value = argv[++i];
    if (find(value) == nullptr) continue;
    throw Error(
        "{}: the value is missing, found the flag {}; write {}={} if that is "
        "the value",
        name, value, name, value);
  }
}

}  // namespace verify_tflite
