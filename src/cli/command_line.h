// The command line of verify_tflite: flags of a verification, or a command.
#ifndef VERIFY_TFLITE_CLI_COMMAND_LINE_H_
#define VERIFY_TFLITE_CLI_COMMAND_LINE_H_

#include <optional>
#include <string>
#include <variant>

#include "cli/explain.h"
#include "cli/flags.h"
#include "cli/inspect.h"
#include "cli/recheck.h"
#include "cli/self_check_command.h"
#include "cli/weights_command.h"

namespace verify_tflite {

using Command = std::variant<Flags, InspectFlags, RecheckFlags, SelfCheckFlags,
                             WeightsFlags, ExplainFlags>;

// What to do: run `command`, or print `text` (help, version) and leave with 0.
struct CommandLine {
  std::optional<Command> command;
  std::string text;
};

// Reads the arguments; of a flag given several times the last value holds.
// Throws Error for an unknown flag, a missing or absurd value, a prompt that is
// not UTF-8, an unreadable prompts file, paths too few or too many.
CommandLine ParseCommandLine(int argc, const char* const* argv);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CLI_COMMAND_LINE_H_
