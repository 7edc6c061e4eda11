#include "result/checks.h"

#include <algorithm>

namespace verify_tflite {
namespace {

struct Words {
  std::string_view name, word, sign;
};

// By outcome.
constexpr Words kWords[] = {
    {"not_checked", "not checked", "–"},
    {"pass", "passed", "✓"},
    {"inconclusive", "inconclusive", "?"},
    {"degraded", "degraded", "✗"},
    {"broken", "broken", "✗"},
};

constexpr bool AreInOrder() {
  for (size_t i = 0; i < std::size(kCheckGroups); ++i) {
    if (static_cast<size_t>(kCheckGroups[i].group) != i) return false;
  }
  return true;
}
static_assert(AreInOrder());

const Words& WordsOf(Outcome outcome) {
  return kWords[static_cast<size_t>(outcome)];
}

}  // namespace

std::string_view NameOf(Outcome outcome) { return WordsOf(outcome).name; }
std::string_view WordOf(Outcome outcome) { return WordsOf(outcome).word; }
std::string_view SignOf(Outcome outcome) { return WordsOf(outcome).sign; }

const Check* FindCheck(const std::vector<Check>& checks,
                       std::string_view name) {
  const auto at = std::ranges::find(checks, name, &Check::name);
  return at == checks.end() ? nullptr : &*at;
}

bool AnyAt(const std::vector<Check>& checks, Outcome outcome) {
  return std::ranges::any_of(
      checks, [&](const Check& check) { return check.outcome == outcome; });
}

}  // namespace verify_tflite
