// This is the one exception type of this project.
//
// It is thrown where a fault is seen, and caught once in cli/. The message is
// for the user: it names the file, what was expected, what was found, and what
// to do.
#ifndef VERIFY_TFLITE_BASE_ERROR_H_
#define VERIFY_TFLITE_BASE_ERROR_H_

#include <fmt/format.h>

#include <stdexcept>
#include <utility>

namespace verify_tflite {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;

  // Error("{}: {} layers, expected {}", path, found, expected)
  template <typename... Args>
  explicit Error(fmt::format_string<Args...> format,
                 Args&&... args) requires(sizeof...(Args) > 0)
      : std::runtime_error(fmt::format(format, std::forward<Args>(args)...)) {}
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_BASE_ERROR_H_
