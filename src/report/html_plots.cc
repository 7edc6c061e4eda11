#include "report/html_plots.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "report/format.h"
#include "report/svg.h"
#include "result/judge.h"

namespace verify_tflite {
namespace {

// Dots in one figure: 15 bytes each.
constexpr size_t kMaxDots = 3000;
// Ranges of positions that a median is drawn for.
constexpr int64_t kRanges = 40;

std::vector<const Position*> FinitePositions(const Verification& v) {
  std::vector<const Position*> result;
  const auto add = [&](const std::vector<Position>& positions) {
    for (const Position& p : positions) {
      if (p.logits.finite && std::isfinite(p.logits.kld)) result.push_back(&p);
    }
  };
  add(v.evaluation.positions);
  for (const PromptResult& prompt : v.prompts) add(prompt.positions);
  return result;
}

bool Differs(const Position& p) {
  return p.logits.reference_token != p.logits.candidate_token;
}

// At most kMaxDots: of each of equally many consecutive points (by x, then y)
// the lowest, the middle and the highest, so that neither the course nor an
// outlier is lost.
std::vector<Point> Thinned(std::vector<Point> points) {
  if (points.size() <= kMaxDots) return points;
  std::sort(points.begin(), points.end());
  const size_t groups = kMaxDots / 3;
  std::vector<Point> result;
  for (size_t i = 0; i < groups; ++i) {
    const auto begin = points.begin() + points.size() * i / groups;
    const auto end = points.begin() + points.size() * (i + 1) / groups;
    std::sort(begin, end, [](const Point& a, const Point& b) {
      return a.second < b.second;
    });
    for (const Point& p : {*begin, *(begin + (end - begin) / 2), *(end - 1)}) {
      result.push_back(p);
    }
  }
  return result;
}

std::string ThinnedNote(size_t all) {
  if (all <= kMaxDots) return "";
  return fmt::format(
      " Of {} positions, {} are drawn: the lowest, the middle and the highest "
      "of every group of neighbours.",
      all, kMaxDots / 3 * 3);
}

double Median(std::vector<double>& values) {
  const auto middle = values.begin() + values.size() / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// The median of the values in each range of x.
std::vector<Point> Medians(const std::vector<Point>& points, const Axis& x) {
  const double width = std::max(1.0, std::ceil((x.high - x.low) / kRanges));
  std::vector<std::vector<double>> ranges(kRanges + 1);
  for (const Point& p : points) {
    const auto i = static_cast<size_t>((p.first - x.low) / width);
    ranges[std::min(i, ranges.size() - 1)].push_back(p.second);
  }
  std::vector<Point> result;
  for (size_t i = 0; i < ranges.size(); ++i) {
    if (ranges[i].empty()) continue;
    const double middle = x.low + (static_cast<double>(i) + 0.5) * width;
    result.emplace_back(std::min(middle, x.high), Median(ranges[i]));
  }
  return result;
}

std::string Figure(const std::string& svg, const std::string& legend,
                   const std::string& caption) {
  return fmt::format(
      "<figure>\n{}<figcaption><p class=\"legend\">{}</p><p>{}</p>"
      "</figcaption>\n</figure>\n",
      svg, legend, EscapeMarkup(caption));
}

std::string Key(const char* css, const char* text) {
  return fmt::format(
      "<span class=\"key\"><svg class=\"swatch\" viewBox=\"0 0 22 10\" "
      "aria-hidden=\"true\"><path class=\"{}\" d=\"M3 5H19\"/></svg>{}</span> ",
      css, text);
}

std::string DotKey(const char* css, const char* text) {
  return fmt::format(
      "<span class=\"key\"><svg class=\"swatch\" viewBox=\"0 0 22 10\" "
      "aria-hidden=\"true\"><path class=\"dots {}\" d=\"M11 5h0\"/></svg>{}"
      "</span> ",
      css, text);
}

// What the layers' profile is drawn from.
struct Series {
  const char* css;
  const char* name;
  TensorFigures LayerKv::*figures;
};

constexpr std::array<Series, 4> kSeries = {{
    {"k", "K, prefilled", &LayerKv::prefill_k},
    {"v", "V, prefilled", &LayerKv::prefill_v},
    {"k dashed", "K, decoded", &LayerKv::decode_k},
    {"v dashed", "V, decoded", &LayerKv::decode_v},
}};

std::vector<Point> CourseOf(const Series& series,
                            const std::vector<LayerKv>& layers) {
  std::vector<Point> points;
  for (size_t i = 0; i < layers.size(); ++i) {
    const double nmse = (layers[i].*series.figures).nmse;
    // Infinity is drawn at the upper edge, NaN as well: neither is nothing.
    points.emplace_back(static_cast<double>(i),
                        std::isnan(nmse) ? INFINITY : nmse);
  }
  return points;
}

}  // namespace

std::string KldPlot(const Verification& v) {
  const auto positions = FinitePositions(v);
  if (positions.empty()) return "";
  std::vector<Point> equal;
  std::vector<Point> ties;
  std::vector<Point> flips;
  std::vector<Point> all;
  std::vector<double> xs;
  std::vector<double> ys = {v.limits.kld.pass};
  for (const Position* p : positions) {
    const Point point(static_cast<double>(p->index), p->logits.kld);
    (!Differs(*p) ? equal : p->tie ? ties : flips).push_back(point);
    all.push_back(point);
    xs.push_back(point.first);
    ys.push_back(point.second);
  }
  const Axis x = AxisFor("place in the sequence, tokens", xs, false);
  const Axis y = AxisFor("KL divergence, nats", ys, true);
  Plot plot("KL divergence over positions",
            fmt::format("{} positions; mean {}, median {}, 99th percentile {}, "
                        "largest {} nats.",
                        positions.size(), verify_tflite::Figure(v.all.kld.mean),
                        verify_tflite::Figure(v.all.kld.median),
                        verify_tflite::Figure(v.all.kld.p99),
                        verify_tflite::Figure(v.all.kld.max)),
            x, y);
  plot.Points("equal", Thinned(equal));
  plot.Points("tie", Thinned(ties));
  plot.Points("flip", Thinned(flips));
  plot.Line("median", Medians(all, x));
  plot.Level("limit", v.limits.kld.pass, "limit of the mean");
  plot.Level("broken", v.limits.kld.broken, "broken beyond, mean");
  return Figure(
      plot.Finish(),
      DotKey("equal", "same greedy choice") + DotKey("tie", "a tie") +
          DotKey("flip", "another choice") +
          Key("line median", "median of a range"),
      "How far the two distributions are apart, position by position. A level "
      "course is noise; one that climbs points at RoPE or positions; a step, "
      "at a window or the end of a prefill." +
          ThinnedNote(equal.size()));
}

std::string KvPlot(const Verification& v) {
  if (!v.kv_profile || v.kv_profile->layers.empty()) return "";
  const KvProfile& profile = *v.kv_profile;
  std::vector<double> ys;
  std::vector<double> xs = {
      0, static_cast<double>(std::max<size_t>(profile.layers.size(), 2) - 1)};
  std::string legend;
  std::vector<std::pair<const Series*, std::vector<Point>>> courses;
  for (const Series& series : kSeries) {
    const bool decoded = std::string_view(series.css).ends_with("dashed");
    const int64_t positions =
        decoded ? profile.decode_positions : profile.prefill_positions;
    if (positions == 0) continue;
    courses.emplace_back(&series, CourseOf(series, profile.layers));
    for (const Point& p : courses.back().second) ys.push_back(p.second);
    legend += Key(fmt::format("line {}", series.css).c_str(), series.name);
  }
  Plot plot("Error of the KV caches over layers",
            fmt::format("{} layers, {} prefilled and {} decoded positions.",
                        profile.layers.size(), profile.prefill_positions,
                        profile.decode_positions),
            AxisFor("layer", xs, false), AxisFor("NMSE", ys, true));
  for (const auto& [series, points] : courses) plot.Line(series->css, points);
  for (const auto& [series, points] : courses) plot.Points(series->css, points);
  return Figure(
      plot.Finish(), legend,
      "Squared error of every layer's keys (after RoPE) and values against "
      "PyTorch's, relative to their size. Noise grows slowly from layer to "
      "layer; a fault is a step. K wrong with V right is RoPE or positions; "
      "both wrong from layer 0, the embedding, the norm or the projections.");
}

std::string MarginPlot(const Verification& v) {
  std::vector<Point> ties;
  std::vector<Point> flips;
  std::vector<double> xs;
  std::vector<double> ys;
  for (const Position* p : FinitePositions(v)) {
    if (!Differs(*p)) continue;
    const Point point(p->logits.rms, p->logits.margin);
    (p->tie ? ties : flips).push_back(point);
    xs.push_back(point.first);
    ys.push_back(point.second);
    ys.push_back(kTieNoiseFactor * point.first);
  }
  if (xs.empty()) return "";
  const Axis x = AxisFor("noise: RMS of the logit differences", xs, true);
  const Axis y = AxisFor("PyTorch's margin, logits", ys, true);
  Plot plot("PyTorch's margin against the error, where choices differ",
            fmt::format("{} ties and {} other differences.", ties.size(),
                        flips.size()),
            x, y);
  const std::vector<Point> boundary = {
      {std::max(x.low, y.low / kTieNoiseFactor), 0},
      {std::min(x.high, y.high / kTieNoiseFactor), 0}};
  std::vector<Point> line;
  for (const Point& p : boundary) {
    line.emplace_back(p.first, kTieNoiseFactor * p.first);
  }
  plot.Line("limit", line);
  plot.Points("tie", Thinned(ties));
  plot.Points("flip", Thinned(flips));
  return Figure(
      plot.Finish(),
      DotKey("tie", "a tie") + DotKey("flip", "another choice") +
          Key("line limit", "four times the noise"),
      "Each dot is a position at which the greedy choices differ. Below the "
      "line PyTorch itself was too close to call for this conversion's noise; "
      "above it, the choice differs for another reason." +
          ThinnedNote(std::max(ties.size(), flips.size())));
}

}  // namespace verify_tflite
