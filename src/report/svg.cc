#include "report/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "report/format.h"

namespace verify_tflite {
namespace {

// Of the drawing, which the page scales to its width.
constexpr double kWidth = 760;
constexpr double kHeight = 300;
constexpr double kLeft = 68;
constexpr double kRight = 14;
constexpr double kTop = 14;
constexpr double kBottom = 46;

constexpr int kMaxDecades = 18;

// Where `value` lies between the ends of the axis, from 0 to 1.
double Share(const Axis& axis, double value) {
  double share = 0;
  if (axis.log) {
    share = value > 0 ? (std::log10(value) - std::log10(axis.low)) /
                            (std::log10(axis.high) - std::log10(axis.low))
                      : 0;
  } else {
    share = (value - axis.low) / (axis.high - axis.low);
  }
  if (std::isnan(share)) return 0;
  return std::clamp(share, 0.0, 1.0);
}

// 1, 2 or 5 times a power of ten: `high - low` holds about `count` of it.
double StepOf(double range, int count) {
  const double raw = range / count;
  const double power = std::pow(10, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (raw <= factor * power) return factor * power;
  }
  return 10 * power;
}

std::vector<double> Ticks(const Axis& axis) {
  std::vector<double> ticks;
  if (axis.log) {
    const int low = static_cast<int>(std::lround(std::log10(axis.low)));
    const int high = static_cast<int>(std::lround(std::log10(axis.high)));
    const int step = std::max(1, (high - low + 5) / 6);
    for (int i = high; i >= low; i -= step) ticks.push_back(std::pow(10, i));
    return ticks;
  }
  const double step = StepOf(axis.high - axis.low, 8);
  const double first = std::ceil(axis.low / step);
  for (int i = 0; (first + i) * step <= axis.high + 1e-9 * step; ++i) {
    ticks.push_back((first + i) * step);
  }
  return ticks;
}

// "0.01", "10⁻⁵".
std::string TickText(const Axis& axis, double tick) {
  if (!axis.log || (tick > 9e-4 && tick < 1.1e4)) {
    return fmt::format("{:g}", tick);
  }
  static constexpr const char* kDigits[] = {"⁰", "¹", "²", "³", "⁴",
                                            "⁵", "⁶", "⁷", "⁸", "⁹"};
  std::string text = "10";
  for (const char c : fmt::format("{}", std::lround(std::log10(tick)))) {
    text += c == '-' ? "⁻" : kDigits[c - '0'];
  }
  return text;
}

Axis LogAxisFor(std::string label, std::span<const double> values) {
  double low = INFINITY;
  double high = 0;
  for (const double value : values) {
    if (!(value > 0) || !std::isfinite(value)) continue;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  if (high == 0) low = high = 1;
  const int top = static_cast<int>(std::floor(std::log10(high))) + 1;
  const int bottom = std::max(static_cast<int>(std::floor(std::log10(low))),
                              top - kMaxDecades);
  return {std::move(label), std::pow(10, bottom), std::pow(10, top), true};
}

}  // namespace

Axis AxisFor(std::string label, std::span<const double> values, bool log) {
  if (log) return LogAxisFor(std::move(label), values);
  double low = INFINITY;
  double high = -INFINITY;
  for (const double value : values) {
    if (!std::isfinite(value)) continue;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  if (low > high) low = high = 0;
  if (low == high) high = low + 1;
  return {std::move(label), low, high, false};
}

Plot::Plot(std::string title, std::string description, Axis x, Axis y)
    : title_(std::move(title)),
      description_(std::move(description)),
      x_(std::move(x)),
      y_(std::move(y)) {}

double Plot::X(double x) const {
  return kLeft + Share(x_, x) * (kWidth - kLeft - kRight);
}

double Plot::Y(double y) const {
  return kTop + (1 - Share(y_, y)) * (kHeight - kTop - kBottom);
}

std::string Plot::At(const Point& point) const {
  return fmt::format("{:.1f} {:.1f}", X(point.first), Y(point.second));
}

void Plot::Points(const std::string& css, std::span<const Point> points) {
  if (points.empty()) return;
  // One path of dots (lines of no length with round ends): a tenth of the bytes
  // that as many circles take.
  body_ += fmt::format("<path class=\"dots {}\" d=\"", css);
  for (const Point& point : points) {
    fmt::format_to(std::back_inserter(body_), "M{}h0", At(point));
  }
  body_ += "\"/>\n";
}

void Plot::Line(const std::string& css, std::span<const Point> points) {
  if (points.empty()) return;
  body_ += fmt::format("<path class=\"line {}\" d=\"", css);
  char command = 'M';
  for (const Point& point : points) {
    fmt::format_to(std::back_inserter(body_), "{}{}", command, At(point));
    command = 'L';
  }
  body_ += "\"/>\n";
}

void Plot::Level(const std::string& css, double y, const std::string& label) {
  if (!(y >= y_.low && y <= y_.high)) return;
  const double at = Y(y);
  body_ += fmt::format(
      "<path class=\"line {}\" d=\"M{:.1f} {:.1f}H{:.1f}\"/>\n"
      "<text class=\"label {}\" x=\"{:.1f}\" y=\"{:.1f}\" "
      "text-anchor=\"end\">{}</text>\n",
      css, kLeft, at, kWidth - kRight, css, kWidth - kRight - 4,
      at < kTop + 14 ? at + 13 : at - 5, EscapeMarkup(label));
}

void Plot::Mark(const std::string& css, double x) {
  if (!(x >= x_.low && x <= x_.high)) return;
  body_ += fmt::format("<path class=\"line {}\" d=\"M{:.1f} {}V{}\"/>\n", css,
                       X(x), kTop, kHeight - kBottom);
}

std::string Plot::Finish() const {
  std::string out = fmt::format(
      "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n"
      "<title>{}</title>\n<desc>{}</desc>\n",
      kWidth, kHeight, EscapeMarkup(title_ + ". " + description_),
      EscapeMarkup(title_), EscapeMarkup(description_));
  const double bottom = kHeight - kBottom;
  for (const double tick : Ticks(y_)) {
    const double y = Y(tick);
    out += fmt::format(
        "<path class=\"grid\" d=\"M{} {:.1f}H{}\"/>"
        "<text class=\"tick\" x=\"{}\" y=\"{:.1f}\" "
        "text-anchor=\"end\">{}</text>\n",
        kLeft, y, kWidth - kRight, kLeft - 8, y + 4, TickText(y_, tick));
  }
  for (const double tick : Ticks(x_)) {
    const double x = X(tick);
    out += fmt::format(
        "<path class=\"axis\" d=\"M{:.1f} {}v5\"/>"
        "<text class=\"tick\" x=\"{:.1f}\" y=\"{}\" "
        "text-anchor=\"middle\">{}</text>\n",
        x, bottom, x, bottom + 18, TickText(x_, tick));
  }
  out += fmt::format(
      "<path class=\"axis\" d=\"M{} {}H{}\"/>\n"
      "<text class=\"label\" x=\"{}\" y=\"{}\" "
      "text-anchor=\"middle\">{}</text>\n"
      "<text class=\"label\" transform=\"translate(14 {}) rotate(-90)\" "
      "text-anchor=\"middle\">{}</text>\n",
      kLeft, bottom, kWidth - kRight, (kLeft + kWidth - kRight) / 2,
      kHeight - 8, EscapeMarkup(x_.label), (kTop + bottom) / 2,
      EscapeMarkup(y_.label));
  return out + body_ + "</svg>\n";
}

}  // namespace verify_tflite
