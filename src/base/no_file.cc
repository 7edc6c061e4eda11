#include "base/no_file.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/utf8.h"

namespace verify_tflite {
namespace {

constexpr std::string_view kLfsPointer =
    "version https://git-lfs.github.com/spec/";

// Beginnings, in small letters.
constexpr std::array<std::string_view, 4> kPages = {"<!doctype html", "<html",
                                                    "<?xml", "<!--"};
constexpr std::array<std::string_view, 11> kAnswers = {
    "entry not found",
    "repository not found",
    "revision not found",
    "not found",
    "file not found",
    "404: not found",
    "access denied",
    "access to model",
    "access to this",
    "invalid username or password",
    "invalid credentials"};

// The first `count` bytes without white space before them.
std::string_view Beginning(std::string_view content, size_t count) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (content.starts_with(kByteOrderMark)) {
    content.remove_prefix(kByteOrderMark.size());
  }
  const size_t first = content.substr(0, count).find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return content.substr(first, count);
}

template <size_t kCount>
bool BeginsWithOneOf(std::string_view text,
                     const std::array<std::string_view, kCount>& beginnings) {
  const auto same = [](char a, char b) {
    return (a >= 'A' && a <= 'Z' ? a - 'A' + 'a' : a) == b;
  };
  return std::ranges::any_of(beginnings, [&](std::string_view beginning) {
    return text.size() >= beginning.size() &&
           std::equal(beginning.begin(), beginning.end(), text.begin(),
                      [&](char b, char a) { return same(a, b); });
  });
}

}  // namespace

void RefuseLfsPointer(std::string_view content, const std::string& origin) {
  if (!content.starts_with(kLfsPointer)) return;
  throw Error(
      "{}: is a Git LFS pointer, not the file itself: it was cloned without "
      "Git LFS. Run \"git lfs install\" and \"git lfs pull\" in its directory, "
      "or download the file",
      origin);
}

void RefuseNoFile(std::string_view content, const std::string& origin) {
  RefuseLfsPointer(content, origin);
  const std::string_view start = Beginning(content, 160);
  if (BeginsWithOneOf(start, kPages)) {
    throw Error(
        "{}: is a web page (it begins with {}), not the file itself: a server "
        "answered so in its place. Download it again, signed in where that is "
        "asked for",
        origin, Quote(start.substr(0, start.find_first_of("\r\n>"))));
  }
  if (BeginsWithOneOf(start, kAnswers)) {
    throw Error(
        "{}: is a server's answer, not the file itself: {}. Download it again, "
        "signed in where that is asked for",
        origin, Quote(start.substr(0, start.find_first_of("\r\n"))));
  }
}

void RefuseNoFile(std::span<const std::byte> content,
                  const std::string& origin) {
  RefuseNoFile(std::string_view(reinterpret_cast<const char*>(content.data()),
                                content.size()),
               origin);
}

}  // namespace verify_tflite
