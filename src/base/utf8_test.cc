#include "base/utf8.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace verify_tflite {
namespace {

using std::string_view_literals::operator""sv;

constexpr size_t kValid = std::string_view::npos;

TEST(FindInvalidUtf8, AcceptsEveryLength) {
  EXPECT_EQ(FindInvalidUtf8(""), kValid);
  EXPECT_EQ(FindInvalidUtf8("a\x7F\0b"sv), kValid);
  EXPECT_EQ(FindInvalidUtf8("\xC2\x80 \xDF\xBF"), kValid);
  EXPECT_EQ(FindInvalidUtf8("\xE0\xA0\x80 \xED\x9F\xBF \xEF\xBF\xBF"), kValid);
  EXPECT_EQ(FindInvalidUtf8("\xF0\x90\x80\x80 \xF4\x8F\xBF\xBF"), kValid);
}

TEST(FindInvalidUtf8, FindsTheFirstFault) {
  EXPECT_EQ(FindInvalidUtf8("ab\x80"), 2u);            // lone continuation
  EXPECT_EQ(FindInvalidUtf8("\xC1\xBF"), 0u);          // overlong, 2 bytes
  EXPECT_EQ(FindInvalidUtf8("\xE0\x9F\xBF"), 0u);      // overlong, 3 bytes
  EXPECT_EQ(FindInvalidUtf8("\xF0\x8F\xBF\xBF"), 0u);  // overlong, 4 bytes
  EXPECT_EQ(FindInvalidUtf8("\xED\xA0\x80"), 0u);      // surrogate
  EXPECT_EQ(FindInvalidUtf8("\xF4\x90\x80\x80"), 0u);  // above U+10FFFF
  EXPECT_EQ(FindInvalidUtf8("\xFF"), 0u);
}

TEST(FindInvalidUtf8, FindsSequencesCutShort) {
  EXPECT_EQ(FindInvalidUtf8("a\xC3"), 1u);
  EXPECT_EQ(FindInvalidUtf8("a\xE2\x82"), 1u);
  EXPECT_EQ(FindInvalidUtf8("a\xF0\x9F\x98"), 1u);
}

TEST(ReplaceInvalidUtf8, KeepsWhatIsWellFormed) {
  EXPECT_EQ(ReplaceInvalidUtf8("é€😀"), "é€😀");
  EXPECT_EQ(ReplaceInvalidUtf8("a\xFFz\xE2\x82"),
            "a\xEF\xBF\xBDz\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST(Quote, ShowsOneSafeLine) {
  EXPECT_EQ(Quote("a\n\t\"\\"), R"("a\n\t\"\\")");
  EXPECT_EQ(Quote("\x1B[31m\x7F"), R"("\u001B[31m\u007F")");
  EXPECT_EQ(Quote("\xC2\x9B"), R"("\u009B")");
  EXPECT_EQ(Quote("\xFF é"), "\"\\xFF é\"");
}

}  // namespace
}  // namespace verify_tflite
