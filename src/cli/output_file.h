// Writes a report so that readers see all of it or none.
#ifndef VERIFY_TFLITE_CLI_OUTPUT_FILE_H_
#define VERIFY_TFLITE_CLI_OUTPUT_FILE_H_

#include <string>
#include <string_view>

namespace verify_tflite {

// Throws Error when `path` could not be written later. It is called before the
// work, so that minutes are not lost to a typing error. It leaves no file.
void CheckWritable(const std::string& path);

// Writes a temporary file beside `path` and renames it. A path that exists and
// is no regular file (/dev/stdout, a pipe) is written in place. Throws Error
// when it cannot be written.
void WriteWhole(const std::string& path, std::string_view content);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CLI_OUTPUT_FILE_H_
