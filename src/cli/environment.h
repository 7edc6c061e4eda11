// Describes where and with what a verification ran.
#ifndef VERIFY_TFLITE_CLI_ENVIRONMENT_H_
#define VERIFY_TFLITE_CLI_ENVIRONMENT_H_

#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "result/verification.h"

namespace verify_tflite {

// Returns all but the hashes. What cannot be found out is empty. Call it when
// both runtimes are loaded: their versions are those of the packages that the
// loaded libraries belong to.
Environment DescribeEnvironment(int argc, const char* const* argv);

// Returns the arguments as a shell would take them.
std::string ShellCommand(int argc, const char* const* argv);

// Returns "model name" of /proc/cpuinfo's text; where there is none (ARM), what
// it says about implementer and part. Returns an empty text if it has neither.
std::string CpuModel(std::string_view cpuinfo);

// Returns the version of the Python package that `library`, a path below a
// site-packages directory, belongs to by the RECORD of an installed
// distribution. Returns an empty text for a file that is elsewhere.
std::string PackageVersion(const std::string& library);

using FileHashes = std::vector<std::pair<std::string, std::string>>;

// Returns the SHA-256 of the model file and of the checkpoint's files, by file
// name, in that order and by name. Of a directory these are configuration,
// tokenizer, template, and the weights: .safetensors, or where there are none,
// .bin, .pt, .pth and .ckpt. It ends early, with fewer, when asked to stop.
// Throws Error when a file cannot be read. It may run at the same time as the
// work.
FileHashes HashFiles(const std::string& tflite_path,
                     const std::string& checkpoint_path,
                     const std::stop_token& stop = {});

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CLI_ENVIRONMENT_H_
