#include "report/format.h"

#include <gtest/gtest.h>

#include <cmath>
#include <utility>
#include <vector>

namespace verify_tflite {
namespace {

TEST(EscapeMarkup, LeavesNothingThatIsMarkup) {
  EXPECT_EQ(EscapeMarkup("<a href=\"x\" b='y'>&amp;"),
            "&lt;a href=&quot;x&quot; b=&#39;y&#39;&gt;&amp;amp;");
}

TEST(EscapeMarkup, ShowsWhatXmlHasNoPlaceFor) {
  using namespace std::string_view_literals;
  EXPECT_EQ(EscapeMarkup("\x1B[31m\0\x7F"sv), "\\u001B[31m\\u0000\\u007F");
  EXPECT_EQ(EscapeMarkup("\xC2\x85|\uFFFE|\uFFFF|\xFF|\uFFFD"),
            "\uFFFD|\uFFFD|\uFFFD|\uFFFD|\uFFFD");
  EXPECT_EQ(EscapeMarkup("äö…🙂"), "äö…🙂");
}

TEST(EscapeMarkup, KeepsLinesWhereAsked) {
  EXPECT_EQ(EscapeMarkup("a\n\tb\r"), "a\\n\\tb\\r");
  EXPECT_EQ(EscapeMarkup("a\n\tb\r", true), "a\n\tb\r");
}

TEST(Shorten, CutsBetweenCharacters) {
  EXPECT_EQ(Shorten("äöü", 6), "äöü");
  EXPECT_EQ(Shorten("äöü", 5), "äö…");
  EXPECT_EQ(Shorten("äöü", 1), "…");
  EXPECT_EQ(Shorten("\x80\x80\x80", 2), "…");
}

TEST(Figure, HasWordsForWhatIsNoNumber) {
  EXPECT_EQ(Figure(0.018349), "0.0183");
  EXPECT_EQ(Figure(NAN), "not a number");
  EXPECT_EQ(Figure(INFINITY), "∞");
}

TEST(FiguresOf, NamesWhatIsThere) {
  Check check;
  EXPECT_EQ(FiguresOf(check), "");
  check.limit = 0.5;
  EXPECT_EQ(FiguresOf(check), "limit 0.5");
  check.value = 0.25;
  check.interval = {0.125, 0.375};
  EXPECT_EQ(FiguresOf(check), "0.25 [0.125, 0.375], limit 0.5");
}

TEST(Ranges, AreOfPositionsAndShort) {
  using Pairs = std::vector<std::pair<int64_t, int64_t>>;
  EXPECT_EQ(Ranges(Pairs{}), "");
  EXPECT_EQ(Ranges(Pairs{{0, 8}, {62, 63}}), "0–7, 62");
  EXPECT_EQ(Ranges(Pairs(9, {1, 2})), "1, 1, 1, 1, 1, 1, …");
}

}  // namespace
}  // namespace verify_tflite
