// Parses the command line of verify_tflite.
#ifndef VERIFY_TFLITE_CLI_FLAGS_H_
#define VERIFY_TFLITE_CLI_FLAGS_H_

#include <functional>
#include <string>
#include <vector>

#include "cli/report_files.h"
#include "result/verification.h"

namespace CLI {
class App;
}

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

// Adds the flags of a verification; what is returned reads them after the
// parse. It throws Missing, and Error for an absurd value, a prompt that is not
// UTF-8 or an unreadable prompts file.
std::function<Flags()> AddVerification(CLI::App& app);

// Returns the prompts of a file: one a line, or JSON lines {"prompt": "…"};
// empty lines are skipped. Throws Error with the line's number.
std::vector<std::string> ReadPromptsFile(const std::string& path);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CLI_FLAGS_H_
