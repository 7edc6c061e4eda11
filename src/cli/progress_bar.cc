#include "cli/progress_bar.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "cli/terminal.h"

namespace verify_tflite {
namespace {

constexpr auto kInterval = std::chrono::milliseconds(100);
constexpr const char* kClearLine = "\r\x1B[K";

}  // namespace

std::string ProgressLine(std::string_view stage, int64_t done, int64_t total) {
  constexpr int64_t kWidth = 30;
  constexpr size_t kStageWidth = 36;
  const std::string name(stage.substr(0, kStageWidth));
  if (total <= 0) return name;
  const int64_t filled = std::clamp<int64_t>(done, 0, total) * kWidth / total;
  return fmt::format("{:<{}} [{:<{}}] {}/{}", name, kStageWidth,
                     std::string(static_cast<size_t>(filled), '#'), kWidth,
                     done, total)
      .substr(0, 79);
}

void ProgressBar::Update(std::string_view stage, int64_t done, int64_t total) {
  if (!enabled_) return;
  const auto now = Clock::now();
  if (drawn_ && stage == stage_ && now - last_ < kInterval) return;
  last_ = now;
  stage_ = stage;
  drawn_ = true;
  fmt::print(Terminal(), "{}{}", kClearLine, ProgressLine(stage, done, total));
  std::fflush(Terminal());
}

void ProgressBar::Clear() {
  if (!drawn_) return;
  drawn_ = false;
  fmt::print(Terminal(), "{}", kClearLine);
  std::fflush(Terminal());
}

}  // namespace verify_tflite
