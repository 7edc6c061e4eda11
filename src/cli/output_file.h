// Writes a report so that readers see all of it or none.
#ifndef VERIFY_TFLITE_CLI_OUTPUT_FILE_H_
#define VERIFY_TFLITE_CLI_OUTPUT_FILE_H_

#include <string>
#include <string_view>

namespace verify_tflite {

// Throws Error when `path` could not be written later: asked before the work,
// so that minutes are not lost to a typing error. Leaves nothing behind.
void CheckWritable(const std::string& path);

// Writes a temporary file beside `path` and renames it. A path that is there
// and no regular file (/dev/stdout, a pipe) is written in place. Throws Error.
void WriteWhole(const std::string& path, std::string_view content);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CLI_OUTPUT_FILE_H_
