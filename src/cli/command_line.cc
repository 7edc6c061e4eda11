#include "cli/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/utf8.h"
#include "cli/flag_values.h"
#include "cli/version.h"

namespace verify_tflite {
namespace {

// Each adds a command's flags; what is returned reads them after the parse.

std::function<InspectFlags()> AddInspect(CLI::App& command) {
  const auto flags = std::make_shared<InspectFlags>();
  const auto json = std::make_shared<std::string>();
  command.description(
      "What is in a converted model, a bundle or a checkpoint?");
  command.footer(
      R"(Says what verify_tflite makes of it, and why where it could not verify it.
Exit code: 0 read, 2 could not be read.)");
  command.add_option("PATH", flags->path,
                     "a .tflite, .litertlm or .task file, or a\n"
                     "directory with config.json");
  AddJsonFlag(command, *json,
              "print JSON (format: docs/inspect.md); to FILE if\nnamed");
  return [flags, json] {
    if (flags->path.empty()) throw Missing("name a file or directory");
    flags->json = JsonOutputOf(*json);
    return *flags;
  };
}

std::function<WeightsFlags()> AddWeights(CLI::App& command) {
  const auto flags = std::make_shared<WeightsFlags>();
  const auto json = std::make_shared<std::string>();
  command.description(
      "Are the weights of a converted model those of a checkpoint?");
  command.footer(
      R"(Nothing runs: every weight of the file is compared with the checkpoint's,
element by element, and must be its rounding.
Exit code: 0 all are, 1 some are not, 2 could not be checked.)");
  AddValue(command, "--tflite_path", flags->tflite_path,
           "a .tflite, .litertlm or .task file", "FILE");
  AddValue(command, "--checkpoint_path", flags->checkpoint_path,
           "a directory with config.json, or a weight file in one", "PATH");
  AddJsonFlag(command, *json,
              "print JSON (format: docs/weights.md); to FILE if\nnamed");
  return [flags, json] {
    Require("--tflite_path", flags->tflite_path);
    Require("--checkpoint_path", flags->checkpoint_path);
    flags->json = JsonOutputOf(*json);
    return *flags;
  };
}

// Values as written; CLI11 only splits the command line.
struct RawSelfCheck {
  std::string sliding_window, num_threads, json;
};

std::function<SelfCheckFlags()> AddSelfCheck(CLI::App& command) {
  const auto flags = std::make_shared<SelfCheckFlags>();
  const auto raw = std::make_shared<RawSelfCheck>();
  command.description(
      "Does a converted model agree with itself? Needs no checkpoint.");
  command.footer(
      R"(Feeds the same tokens through decode alone, through every prefill signature and
in several chunks; again after another prompt; with another number of threads;
to the end of the KV cache; and through TFLite's own kernels instead of XNNPACK.
The logits must be the same (docs/self_check.md). It cannot find what is wrong
in the same way everywhere: that takes the checkpoint (verify_tflite --help).

Exit code: 0 consistent, 1 degraded or broken, 2 could not check, 3 inconclusive.)");
  AddValue(command, "--tflite_path", flags->tflite_path,
           "a .tflite, .litertlm or .task file", "FILE");
  AddValue(command, "--sliding_window", raw->sliding_window,
           "sliding_window of the checkpoint's config.json: its\n"
           "boundary is checked; needed by files that take the mask\n"
           "of such layers as input",
           "N");
  AddValue(command, "--num_threads", raw->num_threads, "threads of the model",
           "N", "all cores");
  AddJsonFlag(command, raw->json,
              "print JSON (format: docs/self_check.md); to FILE if\nnamed");
  return [flags, raw] {
    Require("--tflite_path", flags->tflite_path);
    if (!raw->sliding_window.empty()) {
      flags->sliding_window =
          ParseCount("sliding_window", raw->sliding_window, int64_t{1} << 31);
    }
    flags->num_threads = ParseThreads(raw->num_threads);
    flags->json = JsonOutputOf(raw->json);
    return *flags;
  };
}

using ReadFn = std::function<Command()>;

// The app and how to read what each of its commands was given.
class Commands {
 public:
  Commands() : app_("", "verify_tflite") {
    app_.get_formatter()->column_width(26);
    app_.set_version_flag("--version",
                          fmt::format("verify_tflite {}\n", kVersion),
                          "print the version and exit");
    app_.require_subcommand(0, 1);
    commands_.emplace_back(&app_, AddVerification(app_));
    Add("inspect", AddInspect);
    Add("weights", AddWeights);
    Add("selfcheck", AddSelfCheck);
    Add("recheck", AddRecheck);
    Add("explain", AddExplain);
  }

  CLI::App& app() { return app_; }

  // Returns the command that the first argument names; without one it is a
  // verification.
  const CLI::App& Named(int argc, const char* const* argv) const {
    for (const auto& [command, read] : commands_) {
      if (argc > 1 && command->get_name() == argv[1]) return *command;
    }
    return app_;
  }

  Command Read(const CLI::App& named) const {
    for (const auto& [command, read] : commands_) {
      if (command == &named) return read();
    }
    throw Error("no such command");
  }

 private:
  template <typename Flags>
  void Add(const char* name, std::function<Flags()> (*add)(CLI::App&)) {
    CLI::App* command = app_.add_subcommand(name);
    commands_.emplace_back(command, add(*command));
  }

  CLI::App app_;
  std::vector<std::pair<const CLI::App*, ReadFn>> commands_;
};

// A command's name after other flags: they would be read and not used.
void RefuseLateCommand(const CLI::App& app, const CLI::App& named) {
  for (const CLI::App* command : app.get_subcommands()) {
    if (command == &named) continue;
    throw Error("{}: a command is the first argument (verify_tflite {} --help)",
                Quote(command->get_name()), command->get_name());
  }
}

}  // namespace

CommandLine ParseCommandLine(int argc, const char* const* argv) {
  Commands commands;
  CLI::App& app = commands.app();
  const CLI::App& named = commands.Named(argc, argv);
  const bool is_command = &named != &app;
  const std::string prefix = is_command ? named.get_name() + ": " : "";
  const std::string hint = fmt::format("(verify_tflite {}--help explains {})",
                                       is_command ? named.get_name() + " " : "",
                                       is_command ? "it" : "all flags");
  RefuseEmptyValues(argc, argv);
  RefuseFlagsAsValues(named, argc, argv);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    return {std::nullopt, app.help()};
  } catch (const CLI::CallForVersion& version) {
    return {std::nullopt, version.what()};
  } catch (const CLI::ParseError& e) {
    throw Error("{}{} {}", prefix, e.what(), hint);
  }
  RefuseLateCommand(app, named);
  try {
    return {commands.Read(named), ""};
  } catch (const Missing& missing) {
    throw Error("{}{} {}", prefix, missing.what(), hint);
  }
}

}  // namespace verify_tflite
