#include "cli/flags.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/error.h"
#include "base/json_file.h"
#include "base/mapped_file.h"
#include "base/utf8.h"
#include "cli/flag_values.h"

namespace verify_tflite {
namespace {

constexpr const char* kDescription =
    R"(Is this .tflite still the same model as the PyTorch checkpoint it came from?

Runs the converted model as production does (zeroed KV cache, prefill, decode,
greedy) and the PyTorch checkpoint in float32 on libtorch, compares tokens,
logits and distributions at every generated position, and says whether they are
the same, but for what the file's quantisation costs.)";

constexpr const char* kFooter =
    R"(Examples:
  verify_tflite --tflite_path=model.tflite --checkpoint_path=checkpoint/
  verify_tflite --tflite_path=model_q8.tflite --checkpoint_path=checkpoint/ \
    --max_new_tokens=50 --prompts="What is AI?" --prompts="Explain RoPE"
  verify_tflite --tflite_path=model.tflite --checkpoint_path=checkpoint/ \
    --prompts_file=prompts.txt --json=result.json --quiet
  verify_tflite inspect model.tflite    (what is in it; see inspect --help)
  verify_tflite recheck result.json --max_kld=0.05   (judges it again)
  verify_tflite explain rope-base       (what a finding means)
  verify_tflite selfcheck --tflite_path=model.tflite    (no checkpoint needed)

Is it faithful? Every byte of weights must be the checkpoint's, and every
operator must compute what the model says (--structure): a fault in either is
never a pass, however little it costs. Is it good enough? Both models are given
the same tokens everywhere: PyTorch's own greedy text after each prompt, and an
evaluation text. What decides (docs/pass_rule.md):
  KLD      mean KL(PyTorch || TFLite) over all positions within --max_kld
           (default: float32 1e-7, float16 1e-4, int8 0.1, int4 0.3 nats), its
           99th percentile within a limit of its own
  flips    share of positions with another greedy choice within --max_flips. A
           differing choice is a tie, and does not count, where PyTorch's margin
           between the two is at most 4 x the RMS of the logit differences there
  logits   float32 files: largest |logit difference| within --tolerance
  tokens   the first --match_tokens of each prompt agree, ties aside

  bundles  stop tokens, start token, chat template and tokenizer of a .litertlm
           or .task are the checkpoint's

Exit code: 0 pass, 1 degraded or broken, 2 could not check, 3 inconclusive: too
little evidence (the 95 % interval of a figure holds its limit).

Environment: VERIFY_TFLITE_LITERT and VERIFY_TFLITE_LITERT_LM name libLiteRt.so
and liblitert-lm.so where they are not found in the virtual environment.)";

void CheckPrompt(const std::string& prompt, const std::string& origin) {
  const size_t fault = FindInvalidUtf8(prompt);
  if (fault != std::string::npos) {
    throw Error("{}: not UTF-8 at byte {}: {}", origin, fault, Quote(prompt));
  }
  if (prompt.empty()) {
    throw Error("{}: the prompt is empty; pass some text", origin);
  }
}

std::string PromptOfLine(const std::string& line, const std::string& origin) {
  if (line.front() != '{') return line;
  const auto json = ParseJsonObject(line, origin);
  const auto prompt = json.find("prompt");
  if (prompt == json.end() || !prompt->is_string()) {
    throw Error("{}: expected {{\"prompt\": \"…\"}}, found {}", origin,
                Quote(line));
  }
  return prompt->get<std::string>();
}

// Values as written; CLI11 only splits the command line.
struct RawFlags {
  std::string max_new_tokens, match_tokens, tolerance, max_kld, max_flips;
  std::string eval_tokens, locate, num_threads, self_check;
  std::string structure, weights_cost;
  std::string prompts_file;
};

void AddFlags(CLI::App& app, Flags& flags, RawFlags& raw) {
  const auto add = [&](const char* name, std::string& value, const char* text,
                       const char* type, const char* fallback) {
    AddValue(app, name, value, text, type, fallback);
  };
  add("--tflite_path", flags.tflite_path,
      "converted model (.tflite, .litertlm or .task)", "FILE", "");
  add("--checkpoint_path", flags.checkpoint_path,
      "PyTorch checkpoint: a directory with config.json,\n"
      "weights (.safetensors or pytorch_model.bin) and\n"
      "tokenizer, or a weight file with those beside it",
      "PATH", "");
  app.add_option("--prompts", flags.prompts,
                 "a test prompt; repeatable. Default: \"What is AI?\",\n"
                 "\"Hello, how are you?\"")
      ->type_name("TEXT")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  add("--prompts_file", raw.prompts_file,
      "one prompt a line, or JSON lines {\"prompt\": …}", "FILE", "");
  add("--max_new_tokens", raw.max_new_tokens, "tokens to generate per prompt",
      "N", "30");
  add("--match_tokens", raw.match_tokens, "how many first tokens must agree",
      "N", "10");
  add("--tolerance", raw.tolerance,
      "largest allowed |logit difference|; float32 files", "X", "0.01");
  add("--max_kld", raw.max_kld, "largest allowed mean KL divergence, in nats",
      "X", "by recipe");
  add("--max_flips", raw.max_flips,
      "largest allowed share of differing greedy choices,\n"
      "ties aside (0.05 is 5 %)",
      "X", "by recipe");
  add("--eval_text", flags.eval_text_path,
      "text both models predict token by token", "FILE", "built-in");
  add("--eval_tokens", raw.eval_tokens, "tokens of it; 0: none", "N", "512");
  add("--locate", raw.locate,
      "how far to look for the cause of what is wrong: KV\n"
      "caches alone, stages inside layers as well, or PyTorch\n"
      "with changes, too",
      "auto|taps|kv|off", "auto");
  add("--chat_template", flags.chat_template,
      "auto: the checkpoint's own if it has one", "auto|none|FILE", "auto");
  add("--num_threads", raw.num_threads, "threads for both models", "N",
      "all cores");
  add("--self_check", raw.self_check,
      "compare the TFLite model with itself too\n(docs/self_check.md)",
      "on|off", "on");
  add("--structure", raw.structure,
      "verify every operator: recompute each stage from the\n"
      "file's own tensors, by which even int4 is held to\n"
      "float rounding. Compiles the model once more and runs\n"
      "a text through every signature: about a third more\n"
      "time",
      "on|off", "on");
  add("--weights_cost", raw.weights_cost,
      "tell what the quantisation of weights costs from what\n"
      "that of activations does. Takes another PyTorch pass\n"
      "over the evaluation text, with the file's weights",
      "on|off", "on");
  AddReportFlags(app, flags.reports);
  app.add_flag("--quiet", flags.quiet, "print the verdict line only");
}

bool ParseSwitch(const char* flag, const std::string& text) {
  if (text.empty() || text == "on") return true;
  if (text == "off") return false;
  throw Error("--{}: expected on or off, found {}", flag, Quote(text));
}

Locate ParseLocate(const std::string& text) {
  if (text == "off") return Locate::kOff;
  if (text == "kv") return Locate::kKv;
  if (text == "taps") return Locate::kTaps;
  if (text.empty() || text == "auto") return Locate::kAuto;
  throw Error("--locate: expected auto, taps, kv or off, found \"{}\"", text);
}

void ConvertNumbers(const RawFlags& raw, Settings& settings) {
  constexpr int64_t kMaxTokens = 1 << 20;
  if (!raw.max_new_tokens.empty()) {
    settings.max_new_tokens =
        ParseCount("max_new_tokens", raw.max_new_tokens, kMaxTokens);
  }
  if (!raw.match_tokens.empty()) {
    settings.match_tokens =
        ParseCount("match_tokens", raw.match_tokens, kMaxTokens);
  }
  if (!raw.tolerance.empty()) {
    settings.tolerance = ParsePositive("tolerance", raw.tolerance);
    settings.tolerance_given = true;
  }
  if (!raw.max_kld.empty()) {
    settings.max_kld = ParsePositive("max_kld", raw.max_kld);
  }
  if (!raw.max_flips.empty()) {
    settings.max_flips = ParsePositive("max_flips", raw.max_flips);
  }
  if (!raw.eval_tokens.empty() && raw.eval_tokens != "0") {
    settings.eval_tokens =
        ParseCount("eval_tokens", raw.eval_tokens, kMaxTokens);
  } else if (!raw.eval_tokens.empty()) {
    settings.eval_tokens = 0;
  }
  settings.locate = ParseLocate(raw.locate);
  settings.self_check = ParseSwitch("self_check", raw.self_check);
  settings.structure = ParseSwitch("structure", raw.structure);
  settings.weights_cost = ParseSwitch("weights_cost", raw.weights_cost);
  settings.num_threads = ParseThreads(raw.num_threads);
}

void CollectPrompts(const std::string& prompts_file,
                    std::vector<std::string>& prompts) {
  for (size_t i = 0; i < prompts.size(); ++i) {
    CheckPrompt(prompts[i], fmt::format("--prompts ({})", i + 1));
  }
  if (!prompts_file.empty()) {
    const auto more = ReadPromptsFile(prompts_file);
    prompts.insert(prompts.end(), more.begin(), more.end());
  }
  if (prompts.empty()) prompts = {"What is AI?", "Hello, how are you?"};
}

}  // namespace

std::vector<std::string> ReadPromptsFile(const std::string& path) {
  const MappedFile file(path);
  std::string_view rest(reinterpret_cast<const char*>(file.bytes().data()),
                        file.bytes().size());
  if (rest.starts_with("\xEF\xBB\xBF")) rest.remove_prefix(3);
  std::vector<std::string> prompts;
  for (int number = 1; !rest.empty(); ++number) {
    std::string line(rest.substr(0, rest.find('\n')));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty()) continue;
    const std::string origin = fmt::format("{}, line {}", path, number);
    const std::string prompt = PromptOfLine(line, origin);
    CheckPrompt(prompt, origin);
    prompts.push_back(prompt);
  }
  if (prompts.empty()) throw Error("{}: no prompts in it", path);
  return prompts;
}

std::function<Flags()> AddVerification(CLI::App& app) {
  const auto flags = std::make_shared<Flags>();
  const auto raw = std::make_shared<RawFlags>();
  app.description(kDescription);
  app.footer(kFooter);
  AddFlags(app, *flags, *raw);
  return [flags, raw] {
    Require("--tflite_path", flags->tflite_path);
    Require("--checkpoint_path", flags->checkpoint_path);
    ConvertNumbers(*raw, flags->settings);
    CollectPrompts(raw->prompts_file, flags->prompts);
    return *flags;
  };
}

}  // namespace verify_tflite
