// The HTML report as a browser shows it.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/testing.h"
#include "report/html.h"
#include "report/sample_verification.h"

namespace verify_tflite {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::optional<std::string> FindChromium() {
  const char* path = getenv("PATH");
  std::string_view rest = path == nullptr ? "" : path;
  while (!rest.empty()) {
    const std::string directory(rest.substr(0, rest.find(':')));
    rest.remove_prefix(std::min(rest.size(), directory.size() + 1));
    for (const char* name : {"chromium", "chromium-browser", "google-chrome"}) {
      const std::string program = directory + "/" + name;
      if (access(program.c_str(), X_OK) == 0) return program;
    }
  }
  return std::nullopt;
}

// Runs a program with standard error in `log`; its exit code, or -1.
int RunProgram(std::vector<std::string> arguments, const std::string& log) {
  const pid_t child = fork();
  if (child == 0) {
    const int file = open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(file, STDOUT_FILENO);
    dup2(file, STDERR_FILENO);
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    execv(argv[0], argv.data());
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

struct Image {
  size_t width = 0;
  size_t height = 0;
  size_t channels = 0;
  std::string pixels;  // rows from top to bottom, 8 bits a channel
};

uint32_t BigEndian(std::string_view bytes) {
  uint32_t value = 0;
  for (const char c : bytes.substr(0, 4)) {
    value = value << 8 | static_cast<uint8_t>(c);
  }
  return value;
}

// Undoes the filter of one row (PNG specification, 9.2).
void Unfilter(int filter, size_t bpp, std::string_view above,
              std::string& row) {
  for (size_t i = 0; i < row.size(); ++i) {
    const int a = i < bpp ? 0 : static_cast<uint8_t>(row[i - bpp]);
    const int b = static_cast<uint8_t>(above[i]);
    const int c = i < bpp ? 0 : static_cast<uint8_t>(above[i - bpp]);
    const int pa = std::abs(b - c);
    const int pb = std::abs(a - c);
    const int pc = std::abs(a + b - 2 * c);
    const int paeth = pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
    const std::array<int, 5> predicted = {0, a, b, (a + b) / 2, paeth};
    row[i] = static_cast<char>(row[i] + predicted.at(filter));
  }
}

// What Chromium writes: 8 bits a channel, not interlaced.
Image ReadPng(const std::string& path) {
  const std::string file = ReadFile(path);
  Image image;
  std::string packed;
  for (size_t at = 8; at + 8 <= file.size();) {
    const std::string_view chunk(file.data() + at, file.size() - at);
    const size_t size = BigEndian(chunk);
    const std::string_view type = chunk.substr(4, 4);
    const std::string_view data = chunk.substr(8, size);
    if (type == "IHDR") {
      image.width = BigEndian(data);
      image.height = BigEndian(data.substr(4));
      image.channels = data.at(9) == 6 ? 4 : 3;
    } else if (type == "IDAT") {
      packed += data;
    }
    at += size + 12;
  }
  const size_t stride = image.width * image.channels;
  std::string raw((stride + 1) * image.height, '\0');
  uLongf size = raw.size();
  EXPECT_EQ(
      uncompress(reinterpret_cast<Bytef*>(raw.data()), &size,
                 reinterpret_cast<const Bytef*>(packed.data()), packed.size()),
      Z_OK);
  std::string above(stride, '\0');
  for (size_t y = 0; y < image.height; ++y) {
    std::string row = raw.substr(y * (stride + 1) + 1, stride);
    Unfilter(raw[y * (stride + 1)], image.channels, above, row);
    image.pixels += row;
    above = std::move(row);
  }
  return image;
}

struct Look {
  int brightness = 0;  // of the background, 0 to 255
  size_t colors = 0;   // that differ
  double covered = 0;  // share of pixels that are not background
};

Look LookAt(const Image& image) {
  std::map<std::string_view, size_t> counts;
  const std::string_view pixels = image.pixels;
  for (size_t i = 0; i + 3 <= pixels.size(); i += image.channels) {
    ++counts[pixels.substr(i, 3)];
  }
  const auto most = std::max_element(
      counts.begin(), counts.end(),
      [](const auto& a, const auto& b) { return a.second < b.second; });
  Look look;
  look.colors = counts.size();
  if (most == counts.end()) return look;
  for (const char c : most->first) look.brightness += static_cast<uint8_t>(c);
  look.brightness /= 3;
  look.covered = 1 - static_cast<double>(most->second) /
                         static_cast<double>(image.width * image.height);
  return look;
}

class Page : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const auto chromium = FindChromium();
    if (!chromium) {
      GTEST_SKIP() << "no Chromium on this machine, so nobody looked at the "
                      "page; on Debian: apt-get install chromium";
    }
    chromium_ = *chromium;
  }

  // Opens the page and returns how it looks; what the browser's console says
  // is in `log_`.
  Look Open(const std::string& html, bool dark) {
    const std::string page = dir_.Write("page.html", html);
    const std::string log = dir_.File("log");
    // Kept for people to look at where this names a directory.
    const char* keep = getenv("VERIFY_TFLITE_SCREENSHOTS");
    const std::string name = GetParam() + (dark ? "_dark.png" : "_light.png");
    const std::string shot =
        keep == nullptr ? dir_.File(name) : std::string(keep) + "/" + name;
    const int code = RunProgram(
        {chromium_, "--headless", "--no-sandbox", "--disable-gpu",
         "--hide-scrollbars", "--no-first-run", "--disable-dev-shm-usage",
         "--user-data-dir=" + dir_.File("profile"), "--enable-logging=stderr",
         fmt::format("--blink-settings=preferredColorScheme={}", dark ? 0 : 1),
         "--window-size=1100,4200", "--screenshot=" + shot, "file://" + page},
        log);
    log_ = ReadFile(log);
    EXPECT_EQ(code, 0) << log_;
    return LookAt(ReadPng(shot));
  }

  TempDir dir_;
  std::string chromium_;
  std::string log_;
};

TEST_P(Page, IsShownInLightAndDark) {
  const std::string html = HtmlReport(
      GetParam() == "broken" ? SampleVerification() : SoundVerification(2400));
  for (const bool dark : {false, true}) {
    const Look look = Open(html, dark);
    EXPECT_THAT(log_, Not(HasSubstr("CONSOLE")));
    EXPECT_EQ(look.brightness < 64, dark);
    EXPECT_EQ(look.brightness > 192, !dark);
    EXPECT_GT(look.colors, 100u);
    EXPECT_GT(look.covered, 0.05);
  }
}

INSTANTIATE_TEST_SUITE_P(Reports, Page, ::testing::Values("broken", "sound"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace verify_tflite
