// Continues a sequence of token ids with a converted model, greedily:
//
//   generate MODEL.tflite COUNT TOKEN_ID...
#include <algorithm>
#include <charconv>
#include <cstdint>
#include <iostream>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "candidate/model.h"
#include "candidate/prefill_plan.h"
#include "candidate/session.h"

using namespace verify_tflite;

namespace {

int32_t ParseNumber(std::string_view text) {
  int32_t value = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw Error("'{}': expected a number", text);
  }
  return value;
}

int32_t Best(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) -
                              logits.begin());
}

// Prints `count` tokens that follow `prompt`.
void Generate(const Model& model, std::span<const int32_t> prompt, int count) {
  // The last token of the prompt goes through decode, whose logits choose the
  // first new token.
  const std::span<const int32_t> context = prompt.first(prompt.size() - 1);
  std::vector<int64_t> lengths;
  for (const PrefillInfo& prefill : model.info().prefills) {
    lengths.push_back(prefill.length);
  }
  const PrefillPlan plan = PlanPrefill(lengths, model.info().kv_length, 0,
                                       static_cast<int64_t>(context.size()));

  Session session = Session::Create(model, {&plan, 1}, {});
  KvCache kv = session.NewKvCache();
  session.Prefill(kv, context);
  int32_t token = prompt.back();
  for (int i = 0; i < count; ++i) {
    token = Best(session.Decode(kv, token));
    std::cout << token << (i + 1 < count ? " " : "\n") << std::flush;
  }
}

}  // namespace

int main(int argc, char** argv) try {
  const std::span<char*> args(argv, static_cast<size_t>(argc));
  if (args.size() < 4) {
    std::cerr << "usage: generate MODEL.tflite COUNT TOKEN_ID...\n";
    return 2;
  }
  std::vector<int32_t> prompt;
  for (const char* arg : args.subspan(3)) prompt.push_back(ParseNumber(arg));
  Generate(Model::Open(args[1]), prompt, ParseNumber(args[2]));
  return 0;
} catch (const std::exception& e) {
  std::cerr << e.what() << '\n';
  return 2;
}
