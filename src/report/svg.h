// Draws plots as SVG inside HTML: axes, points, lines.
#ifndef VERIFY_TFLITE_REPORT_SVG_H_
#define VERIFY_TFLITE_REPORT_SVG_H_

#include <span>
#include <string>
#include <utility>
#include <vector>

namespace verify_tflite {

struct Axis {
  std::string label;
  double low = 0;
  double high = 1;
  bool log = false;  // both ends are positive then
};

// Returns the axis that holds these values, and a little more. A log axis
// ignores values that are not positive and finite (a plot shows them at its
// lower edge), and its ends are powers of ten at most 18 apart.
Axis AxisFor(std::string label, std::span<const double> values, bool log);

using Point = std::pair<double, double>;  // x, y in the units of the axes

// Everything is drawn with classes, whose looks the page decides: "axis",
// "grid", "tick", "label", and those given here. Texts are escaped.
class Plot {
 public:
  // `title` and `description` say what is seen to those who cannot see it.
  Plot(std::string title, std::string description, Axis x, Axis y);

  // Draws dots of the class. What lies outside of the axes is drawn at their
  // edge.
  void Points(const std::string& css, std::span<const Point> points);
  void Line(const std::string& css, std::span<const Point> points);
  // Draws a horizontal line across the plot with a label above it; nothing
  // where it lies outside of the axis.
  void Level(const std::string& css, double y, const std::string& label);
  // Draws a vertical line in the same way, without a label.
  void Mark(const std::string& css, double x);

  std::string Finish() const;

 private:
  std::string At(const Point& point) const;
  double X(double x) const;
  double Y(double y) const;

  std::string title_;
  std::string description_;
  Axis x_;
  Axis y_;
  std::string body_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REPORT_SVG_H_
