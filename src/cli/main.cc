// verify_tflite: the command.

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/error.h"
#include "base/progress.h"
#include "candidate/model.h"
#include "checkpoint/checkpoint.h"
#include "cli/background.h"
#include "cli/command_line.h"
#include "cli/environment.h"
#include "cli/memory_watch.h"
#include "cli/output_file.h"
#include "cli/progress_bar.h"
#include "cli/report_files.h"
#include "cli/supervisor.h"
#include "cli/terminal.h"
#include "cli/version.h"
#include "report/console.h"
#include "report/inspect.h"
#include "result/judge.h"
#include "result/verification.h"
#include "text/chat_template.h"
#include "text/eos.h"
#include "text/tokenizer.h"
#include "verify/bundle_check.h"
#include "verify/run.h"

namespace verify_tflite {
namespace {

constexpr int kPassed = 0;
constexpr int kFailed = 1;
constexpr int kCouldNotCheck = 2;
constexpr int kInconclusive = 3;

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

bool OnTerminal() { return isatty(fileno(Terminal())) != 0; }

std::optional<ChatTemplate> OpenTemplate(const std::string& setting,
                                         const std::string& directory) {
  if (setting == "none") return std::nullopt;
  if (setting == "auto") return ChatTemplate::FromCheckpoint(directory);
  return ChatTemplate::FromFile(setting, directory);
}

std::string DescribeTemplate(const std::string& setting,
                             const std::optional<ChatTemplate>& chat_template) {
  if (!chat_template) {
    return setting == "auto" ? "none (the checkpoint has none)" : "none";
  }
  return setting == "auto" ? "the checkpoint's" : setting;
}

std::vector<Prompt> MakePrompts(
    const std::vector<std::string>& texts, const Tokenizer& tokenizer,
    const std::optional<ChatTemplate>& chat_template) {
  std::vector<Prompt> prompts;
  for (const std::string& text : texts) {
    Prompt prompt{.text = text, .rendered = text, .ids = {}};
    if (chat_template) prompt.rendered = chat_template->Render(text);
    // A template writes BOS itself.
    prompt.ids = tokenizer.Encode(prompt.rendered, !chat_template.has_value());
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

Verification Verify(const Flags& flags, Clock::time_point start,
                    const StageFn& stage, ProgressBar& bar) {
  const auto enter = [&](const char* what, const std::string& path) {
    stage(fmt::format("{} {}", what, path));
    bar.Update(what, 0, 0);
  };
  enter("opening checkpoint", flags.checkpoint_path);
  const Checkpoint checkpoint = Checkpoint::Open(flags.checkpoint_path);
  enter("reading the tokenizer of", checkpoint.directory());
  const Tokenizer tokenizer = Tokenizer::Open(checkpoint.directory());
  const auto [eos_ids, eos_notes] =
      ReadEosIds(checkpoint.directory(), tokenizer);
  const auto chat_template =
      OpenTemplate(flags.chat_template, checkpoint.directory());
  const std::vector<Prompt> prompts =
      MakePrompts(flags.prompts, tokenizer, chat_template);
  const EvalText eval_text = flags.eval_text_path.empty()
                                 ? BuiltInEvalText()
                                 : ReadEvalText(flags.eval_text_path);
  enter("opening", flags.tflite_path);
  Model::OpenOptions options;
  options.sliding_window = SlidingWindowOf(checkpoint.config());
  const Model model = Model::Open(flags.tflite_path, options);

  Verification v;
  v.timing.open = SecondsSince(start);
  v.tool_version = kVersion;
  v.tflite_path = flags.tflite_path;
  v.checkpoint_path = flags.checkpoint_path;
  v.chat_template = DescribeTemplate(flags.chat_template, chat_template);
  v.model = model.info();
  v.config = checkpoint.config();
  v.settings = flags.settings;
  v.limits = LimitsFor(JudgedRecipe(model.info()), flags.settings);
  v.eos_ids = eos_ids;
  v.notes = checkpoint.notes();
  v.notes.insert(v.notes.end(), eos_notes.begin(), eos_notes.end());
  if (model.bundle() != nullptr) {
    enter("comparing the bundle's parts of", flags.tflite_path);
    CheckBundle({*model.bundle(), checkpoint.directory(), tokenizer, eos_ids,
                 chat_template ? &*chat_template : nullptr},
                v);
  }
  enter("compiling and running", flags.tflite_path);
  const ProgressFn progress = [&](std::string_view text, int64_t done,
                                  int64_t total) {
    bar.Update(text, done, total);
  };
  RunVerification(
      {model, checkpoint, tokenizer, eos_ids, flags.settings, progress},
      prompts, eval_text, v);
  return v;
}

int ExitCode(Outcome outcome) {
  switch (outcome) {
    case Outcome::kPass:
      return kPassed;
    case Outcome::kInconclusive:
      return kInconclusive;
    case Outcome::kDegraded:
    case Outcome::kBroken:
      return kFailed;
    case Outcome::kNotChecked:
      break;
  }
  return kCouldNotCheck;
}

void Print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  if (std::fflush(stdout) != 0) throw Error("cannot write to standard output");
}

// Writes and prints what was found.
int Deliver(const Verification& v, const ReportFiles& files, bool quiet) {
  WriteReports(files, v);
  Print(quiet ? VerdictLine(v) + "\n" : ConsoleReport(v));
  return ExitCode(v.outcome);
}

int Run(const Flags& flags, int argc, char** argv, const StageFn& stage) {
  const Clock::time_point start = Clock::now();
  CheckWritable(flags.reports);
  const MemoryWatch memory;
  std::optional<Background<FileHashes>> hashes;
  if (AnyOf(flags.reports)) {
    hashes.emplace([&](const std::stop_token& stop) {
      return HashFiles(flags.tflite_path, flags.checkpoint_path, stop);
    });
  }
  ProgressBar bar(!flags.quiet && OnTerminal());
  Verification v = Verify(flags, start, stage, bar);
  if (hashes) {
    stage("hashing the files");
    bar.Update("hashing", 0, 0);
    v.environment = DescribeEnvironment(argc, argv);
    v.environment.hashes = hashes->Get();
  }
  v.timing.total = SecondsSince(start);
  const PeakMemory peak = memory.Peak();
  v.peak_memory_bytes = peak.bytes;
  v.peak_mapped_bytes = peak.mapped_bytes;
  stage("writing the report");
  bar.Clear();
  return Deliver(v, flags.reports, flags.quiet);
}

int Run(const RecheckFlags& flags, const StageFn& stage) {
  CheckWritable(flags.reports);
  stage("reading " + flags.path);
  return Deliver(Recheck(flags), flags.reports, flags.quiet);
}

void CheckJsonWritable(const JsonOutput& json) {
  if (!json.path.empty()) CheckWritable(json.path);
}

int Run(const InspectFlags& flags, const StageFn& stage) {
  CheckJsonWritable(flags.json);
  const Inspection inspection = Inspect(flags.path, stage);
  stage("writing the report");
  if (!flags.json.path.empty()) {
    WriteWhole(flags.json.path, InspectionJson(inspection));
  } else {
    Print(flags.json.asked ? InspectionJson(inspection)
                           : InspectionReport(inspection));
  }
  return kPassed;
}

int Run(const SelfCheckFlags& flags, const StageFn& stage) {
  CheckJsonWritable(flags.json);
  ProgressBar bar(OnTerminal());
  const SelfCheckReport report = SelfCheckFile(
      flags, stage, [&](std::string_view text, int64_t done, int64_t total) {
        bar.Update(text, done, total);
      });
  bar.Clear();
  if (!flags.json.path.empty()) {
    WriteWhole(flags.json.path, SelfCheckJson(report));
  }
  const bool json = flags.json.asked && flags.json.path.empty();
  Print(json ? SelfCheckJson(report) : SelfCheckText(report));
  return ExitCode(OutcomeOf(report));
}

int Run(const WeightsFlags& flags, const StageFn& stage) {
  CheckJsonWritable(flags.json);
  const WeightReport report = RunWeights(flags, stage);
  stage("writing the report");
  if (!flags.json.path.empty()) {
    WriteWhole(flags.json.path, WeightsJson(report));
  } else {
    Print(flags.json.asked ? WeightsJson(report) : WeightsText(report));
  }
  return ExitCode(OutcomeOf(report));
}

int ReportError(const char* message) {
  std::fprintf(Terminal(), "verify_tflite: error: %s\n", message);
  return kCouldNotCheck;
}

// The one place that catches.
template <typename Work>
int Guarded(const Work& work) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return ReportError("out of memory; nothing was verified");
  } catch (const std::exception& e) {
    return ReportError(e.what());
  } catch (...) {
    return ReportError("an unknown error; nothing was verified");
  }
}

// libtorch's OpenMP threads spin while they wait, by default; next to any other
// load on the machine that makes a pass 2 to 10 times slower (measured). The
// runtime reads its setting once, when it is loaded, so the program starts
// again with it. A setting of the user's own stays.
void StartWithPassiveWaiting(char** argv) {
  constexpr const char* kVariable = "OMP_WAIT_POLICY";
  if (getenv(kVariable) != nullptr) return;
  setenv(kVariable, "passive", 1);
  execv("/proc/self/exe", argv);
  // Where that is not possible, it is only slower.
}

int Main(int argc, char** argv) {
  return Guarded([&] {
    const CommandLine line = ParseCommandLine(argc, argv);
    if (!line.command) {
      Print(line.text);
      return kPassed;
    }
    if (const auto* explain = std::get_if<ExplainFlags>(&*line.command)) {
      Print(Explain(*explain));
      return kPassed;
    }
    if (std::holds_alternative<Flags>(*line.command)) {
      StartWithPassiveWaiting(argv);
    }
    return RunSupervised([&](const StageFn& stage) {
      return Guarded([&] {
        return std::visit(
            [&](const auto& flags) {
              using Given = std::decay_t<decltype(flags)>;
              if constexpr (std::is_same_v<Given, Flags>) {
                return Run(flags, argc, argv, stage);
              } else if constexpr (!std::is_same_v<Given, ExplainFlags>) {
                return Run(flags, stage);
              }
              return kPassed;
            },
            *line.command);
      });
    });
  });
}

}  // namespace
}  // namespace verify_tflite

int main(int argc, char** argv) { return verify_tflite::Main(argc, argv); }
