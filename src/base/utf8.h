// Checks UTF-8 that comes from users, files and token decoders.
#ifndef VERIFY_TFLITE_BASE_UTF8_H_
#define VERIFY_TFLITE_BASE_UTF8_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace verify_tflite {

// Returns the byte offset of the first ill-formed sequence in `text`, or npos
// if `text` is well-formed (Unicode 15, table 3-7: no surrogates, no overlong
// forms, nothing above U+10FFFF).
size_t FindInvalidUtf8(std::string_view text);

// Returns `text` with each ill-formed byte replaced by U+FFFD.
std::string ReplaceInvalidUtf8(std::string_view text);

// Returns `text` as one printable line in double quotes: \n, \t, \", \\ and
// \u00XX stand for controls, \xXX for ill-formed bytes. Model output may hold
// escape sequences that would drive a terminal; this is how they are shown.
std::string Quote(std::string_view text);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_BASE_UTF8_H_
