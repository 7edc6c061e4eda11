#include "report/svg.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace verify_tflite {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(AxisFor, OfALogAxisEndsInPowersOfTen) {
  const std::vector<double> values = {0.02, 0, -1, NAN, INFINITY, 30};
  const Axis axis = AxisFor("x", values, true);
  EXPECT_DOUBLE_EQ(axis.low, 0.01);
  EXPECT_DOUBLE_EQ(axis.high, 100);
}

TEST(AxisFor, OfALogAxisSpansAtMost18Decades) {
  const std::vector<double> values = {1e-300, 1};
  EXPECT_DOUBLE_EQ(AxisFor("x", values, true).low, 1e-17);
}

TEST(AxisFor, IsNeverEmpty) {
  for (const std::vector<double>& values :
       {std::vector<double>{}, {0}, {NAN}, {7}}) {
    for (const bool log : {false, true}) {
      const Axis axis = AxisFor("x", values, log);
      EXPECT_LT(axis.low, axis.high);
    }
  }
}

TEST(Plot, DrawsEveryValueInside) {
  Plot plot("t", "d", {"x", 0, 10, false}, {"y", 1e-3, 1, true});
  const std::vector<Point> points = {
      {0, 1e-3}, {10, 1}, {5, 0}, {5, NAN}, {-1e300, INFINITY}, {NAN, 1}};
  plot.Points("p", points);
  const std::string svg = plot.Finish();
  EXPECT_THAT(svg, HasSubstr("M68.0 254.0h0M746.0 14.0h0M407.0 254.0h0"
                             "M407.0 254.0h0M68.0 14.0h0M68.0 14.0h0"));
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  EXPECT_THAT(svg, Not(HasSubstr("inf")));
}

TEST(Plot, WritesSmallTicksAsPowers) {
  const Plot plot("t", "d", {"x", 0, 1, false}, {"y", 1e-12, 1, true});
  EXPECT_THAT(plot.Finish(), HasSubstr(">10⁻¹²<"));
}

TEST(Plot, EscapesItsTexts) {
  Plot plot("<t>", "\"d\"", {"<x>", 0, 1, false}, {"&y", 0, 1, false});
  plot.Level("l", 0.5, "<b>");
  const std::string svg = plot.Finish();
  EXPECT_THAT(svg, Not(HasSubstr("<t>")));
  EXPECT_THAT(svg, Not(HasSubstr("<x>")));
  EXPECT_THAT(svg, Not(HasSubstr("<b>")));
  EXPECT_THAT(svg, HasSubstr("&amp;y"));
}

}  // namespace
}  // namespace verify_tflite
