#include "base/utf8.h"

#include <fmt/format.h>

#include <cstdint>
#include <iterator>

namespace verify_tflite {
namespace {

bool IsContinuation(uint8_t byte) { return (byte & 0xC0) == 0x80; }

// Length of the well-formed sequence at the start of `text`, 0 if there is
// none. `text` is not empty.
size_t SequenceLength(std::string_view text) {
  const auto at = [&](size_t i) {
    return i < text.size() ? static_cast<uint8_t>(text[i]) : uint8_t{0};
  };
  const uint8_t lead = at(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return IsContinuation(at(1)) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    const uint8_t low = lead == 0xE0 ? 0xA0 : 0x80;   // overlong
    const uint8_t high = lead == 0xED ? 0x9F : 0xBF;  // surrogates
    return at(1) >= low && at(1) <= high && IsContinuation(at(2)) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const uint8_t low = lead == 0xF0 ? 0x90 : 0x80;   // overlong
    const uint8_t high = lead == 0xF4 ? 0x8F : 0xBF;  // above U+10FFFF
    return at(1) >= low && at(1) <= high && IsContinuation(at(2)) &&
                   IsContinuation(at(3))
               ? 4
               : 0;
  }
  return 0;
}

}  // namespace

size_t FindInvalidUtf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const size_t length = SequenceLength(text.substr(i));
    if (length == 0) return i;
    i += length;
  }
  return std::string_view::npos;
}

std::string ReplaceInvalidUtf8(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const size_t length = SequenceLength(text.substr(i));
    if (length == 0) {
      result += "\xEF\xBF\xBD";
      i += 1;
    } else {
      result += text.substr(i, length);
      i += length;
    }
  }
  return result;
}

std::string Quote(std::string_view text) {
  std::string result = "\"";
  for (size_t i = 0; i < text.size();) {
    const size_t length = SequenceLength(text.substr(i));
    const std::string_view piece = text.substr(i, length == 0 ? 1 : length);
    const auto byte = static_cast<uint8_t>(piece[0]);
    i += piece.size();
    if (length == 0) {
      fmt::format_to(std::back_inserter(result), "\\x{:02X}", byte);
    } else if (byte == '\n') {
      result += "\\n";
    } else if (byte == '\t') {
      result += "\\t";
    } else if (byte == '"' || byte == '\\') {
      result += '\\';
      result += piece;
    } else if (byte < 0x20 || byte == 0x7F) {
      fmt::format_to(std::back_inserter(result), "\\u{:04X}", byte);
    } else if (length == 2 && byte == 0xC2 &&
               static_cast<uint8_t>(piece[1]) < 0xA0) {  // C1 controls
      fmt::format_to(std::back_inserter(result), "\\u{:04X}",
                     static_cast<uint8_t>(piece[1]));
    } else {
      result += piece;
    }
  }
  result += '"';
  return result;
}

}  // namespace verify_tflite
