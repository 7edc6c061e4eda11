// Parses the command line of verify_tflite.
#ifndef VERIFY_TFLITE_CLI_FLAGS_H_
#define VERIFY_TFLITE_CLI_FLAGS_H_

#include <optional>
#include <string>
#include <vector>

#include "cli/report_files.h"
#include "result/verification.h"

namespace verify_tflite {

struct Flags {
  std::string tflite_path;
  std::string checkpoint_path;
  std::vector<std::string> prompts;  // from --prompts and --prompts_file
  std::string chat_template = "auto";
  std::string eval_text_path;  // empty: the built-in text
  ReportFiles reports;
  bool quiet = false;
  Settings settings;
};

// Says what to do: run with `flags`, or print `text` (help, version) and leave
// with 0.
struct ParsedFlags {
  std::optional<Flags> flags;
  std::string text;
};

// Throws Error for an unknown flag, a missing or absurd value, a prompt that is
// not UTF-8, an unreadable prompts file.
ParsedFlags ParseFlags(int argc, const char* const* argv);

// Returns the prompts of a file: one a line, or JSON lines {"prompt": "…"};
// empty lines are skipped. Throws Error with the line's number.
std::vector<std::string> ReadPromptsFile(const std::string& path);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CLI_FLAGS_H_
