#include "structure/position_check.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "candidate/partial_graph.h"
#include "structure/dependence.h"
#include "structure/recording.h"

namespace verify_tflite {
namespace {

// A score that this much is added to has no share in softmax: exp(-1e4) is 0 in
// float32 whatever the other scores of a model are.
constexpr double kHidden = -1e4;

// What a cosine or sine may be off by: the runtime's approximations, and what
// one rounding of the angle in another order of operations makes.
constexpr double kCosine = 2e-6;
constexpr double kAngleUlps = 1.5 / (1 << 24);

// Frequencies are powers computed in float32; so many units in the last place
// are allowed, the same ones at all positions.
constexpr int kUlps = 2;
constexpr int kCandidates = 2 * kUlps + 1;

// Of numbers that were compared at many positions.
struct Mismatches {
  int64_t values = 0;
  int64_t wrong = 0;
  int64_t first = std::numeric_limits<int64_t>::max();  // wrong positions
  int64_t last = -1;
  int64_t rows = 0;  // with a wrong number
  // The worst.
  int64_t at = 0;
  int64_t column = 0;
  double found = 0;
  double expected = 0;
  double worst = -1;

  void Add(const Mismatches& more) {
    values += more.values;
    wrong += more.wrong;
    first = std::min(first, more.first);
    last = std::max(last, more.last);
    rows = std::max(rows, more.rows);
    if (more.worst <= worst) return;
    at = more.at;
    column = more.column;
    found = more.found;
    expected = more.expected;
    worst = more.worst;
  }
  void Wrong(int64_t position, int64_t in, double is, double should) {
    ++wrong;
    first = std::min(first, position);
    last = std::max(last, position);
    rows += position != latest_;
    latest_ = position;
    const double difference = std::abs(is - should);
    const double error = std::isnan(difference)
                             ? std::numeric_limits<double>::infinity()
                             : difference;
    if (error <= worst) return;
    at = position;
    column = in;
    found = is;
    expected = should;
    worst = error;
  }

 private:
  int64_t latest_ = -1;
};

// What a row of a tensor might be.
class Meaning {
 public:
  using Kind = PositionFault::Kind;
  Meaning(std::string what, Kind kind) : what_(std::move(what)), kind_(kind) {}
  virtual ~Meaning() = default;

  // Looks, unless the first rows have shown that the tensor is something else.
  void Visit(int64_t position, int64_t start, int64_t head,
             std::span<const double> row) {
    if (ruled_out_) return;
    Look(position, start, head, row);
    if (++rows_ == kRowsToKnow) ruled_out_ = IsSomethingElse(Result());
  }
  bool ruled_out() const { return ruled_out_; }

  static bool IsSomethingElse(const Mismatches& m) {
    return 2 * m.wrong > m.values;
  }

 protected:
  // `head` counts rows of one position. `start`: position of the first row of
  // the run.
  virtual void Look(int64_t position, int64_t start, int64_t head,
                    std::span<const double> row) = 0;

 public:
  virtual Mismatches Result() const = 0;
  const std::string& what() const { return what_; }
  Kind kind() const { return kind_; }

 private:
  static constexpr int64_t kRowsToKnow = 64;
  std::string what_;
  Kind kind_;
  bool ruled_out_ = false;
  int64_t rows_ = 0;
};

// Cosines and sines of every frequency, and of its neighbours among float32's
// numbers, at the positions of a run. Shared by all that may be RoPE.
class Angles {
 public:
  struct Angle {
    double value, cos, sin;
  };

  explicit Angles(std::span<const double> frequencies)
      : count_(std::ssize(frequencies)) {
    for (const double f : frequencies) {
      auto candidate = static_cast<float>(f);
      for (int i = 0; i < kUlps; ++i)
        candidate = std::nextafter(candidate, 0.f);
      for (int i = 0; i < kCandidates; ++i) {
        candidates_.push_back(candidate);
        candidate = std::nextafter(candidate, 1e30f);
      }
    }
  }

  int64_t count() const { return count_; }  // frequencies

  // kCandidates of each frequency; valid until the next call.
  const std::vector<Angle>& At(int64_t position) {
    constexpr size_t kMost = 512;  // rows kept
    if (rows_.size() > kMost && !rows_.contains(position)) rows_.clear();
    std::vector<Angle>& row = rows_[position];
    if (!row.empty() || count_ == 0) return row;
    for (const float f : candidates_) {
      // As the file and PyTorch do: a product in float32.
      const double angle = static_cast<float>(position) * f;
      row.push_back({angle, std::cos(angle), std::sin(angle)});
    }
    return row;
  }

 private:
  int64_t count_;
  std::vector<float> candidates_;
  std::unordered_map<int64_t, std::vector<Angle>> rows_;
};

// Cosines or sines in blocks of one number for each frequency, or each number
// twice in a row. `step`: of integers, what rounding may take; 0: of floats.
class Rope : public Meaning {
 public:
  Rope(std::string what, Angles& angles, int64_t blocks, bool interleaved,
       double factor, double step)
      : Meaning(std::move(what), Kind::kRope),
        angles_(angles),
        count_(angles.count()),
        blocks_(blocks),
        interleaved_(interleaved),
        factor_(factor),
        step_(step),
        cells_(
            static_cast<size_t>(blocks * kFunctions * count_ * kCandidates)) {}

  void Look(int64_t position, int64_t, int64_t,
            std::span<const double> row) override {
    const std::vector<Angles::Angle>& angles = angles_.At(position);
    rows_ += 1;
    for (int64_t i = 0; i < count_; ++i) {
      for (int c = 0; c < kCandidates; ++c) {
        const Angles::Angle& angle =
            angles[static_cast<size_t>(i * kCandidates + c)];
        const std::array<double, kFunctions> expected = {
            factor_ * angle.cos, factor_ * angle.sin, -factor_ * angle.sin};
        const double allowed =
            factor_ * (kCosine + kAngleUlps * angle.value) + step_;
        for (int64_t b = 0; b < blocks_; ++b) {
          const int64_t column = interleaved_ ? 2 * i + b : b * count_ + i;
          const double found = row[static_cast<size_t>(column)];
          for (int f = 0; f < kFunctions; ++f) {
            const double should = expected[static_cast<size_t>(f)];
            // Not a number is beyond any limit.
            if (std::abs(found - should) <= allowed) continue;
            CellAt(b, f, i, c).Wrong(position, column, found, should);
          }
        }
      }
    }
  }

  Mismatches Result() const override {
    Mismatches all;
    for (int64_t b = 0; b < blocks_; ++b) {
      std::optional<Mismatches> best;
      for (int f = 0; f < kFunctions; ++f) {
        Mismatches block;
        for (int64_t i = 0; i < count_; ++i) block.Add(Best(b, f, i));
        if (!best || block.wrong < best->wrong) best = std::move(block);
      }
      all.Add(*best);
    }
    all.values = rows_ * count_ * blocks_;
    return all;
  }

 private:
  static constexpr int kFunctions = 3;

  // Of all candidates for a frequency the one that fits best.
  const Mismatches& Best(int64_t block, int function, int64_t frequency) const {
    const Mismatches* least = nullptr;
    for (int c = 0; c < kCandidates; ++c) {
      const Mismatches& cell = cells_[IndexOf(block, function, frequency, c)];
      if (least == nullptr || cell.wrong < least->wrong) least = &cell;
    }
    return *least;
  }
  size_t IndexOf(int64_t block, int function, int64_t frequency,
                 int candidate) const {
    return static_cast<size_t>(
        ((block * kFunctions + function) * count_ + frequency) * kCandidates +
        candidate);
  }
  Mismatches& CellAt(int64_t b, int f, int64_t i, int c) {
    return cells_[IndexOf(b, f, i, c)];
  }

  Angles& angles_;
  int64_t count_;
  int64_t blocks_;
  bool interleaved_;
  double factor_;
  double step_;
  int64_t rows_ = 0;
  std::vector<Mismatches> cells_;
};

// What queries are multiplied with, one number a position.
class QueryScale : public Meaning {
 public:
  explicit QueryScale(const QueryScaling& scaling)
      : Meaning("the scale of queries", Kind::kQueryScale), scaling_(scaling) {}

  void Look(int64_t position, int64_t, int64_t,
            std::span<const double> row) override {
    constexpr double kAllowed = 1e-6;
    const double turns = static_cast<double>(
        position / scaling_.original_max_position_embeddings);
    const double expected = 1 + scaling_.beta * std::log(1 + turns);
    result_.values += std::ssize(row);
    for (size_t j = 0; j < row.size(); ++j) {
      if (std::abs(row[j] - expected) <= kAllowed * std::abs(expected)) {
        continue;
      }
      result_.Wrong(position, static_cast<int64_t>(j), row[j], expected);
    }
  }
  Mismatches Result() const override { return result_; }

 private:
  QueryScaling scaling_;
  Mismatches result_;
};

// Which slots of the KV cache a position sees: added to scores (0, or so little
// that nothing is left), or true and false.
class Mask : public Meaning {
 public:
  using Sees = std::function<bool(int64_t position, int64_t slot)>;
  enum class Form { kAdded, kTrueSees, kFalseSees };
  Mask(std::string what, Kind kind, Form form, Sees sees)
      : Meaning(std::move(what), kind), form_(form), sees_(std::move(sees)) {}

  void Look(int64_t position, int64_t, int64_t,
            std::span<const double> row) override {
    result_.values += std::ssize(row);
    for (size_t j = 0; j < row.size(); ++j) {
      const auto slot = static_cast<int64_t>(j);
      const bool sees = sees_(position, slot);
      if (IsRight(row[j], sees)) continue;
      result_.Wrong(position, slot, row[j], Expected(sees));
    }
  }
  Mismatches Result() const override { return result_; }

 private:
  bool IsRight(double value, bool sees) const {
    if (form_ != Form::kAdded) {
      return (value != 0) == (sees == (form_ == Form::kTrueSees));
    }
    return sees ? value == 0 : value <= kHidden;
  }
  double Expected(bool sees) const {
    if (form_ == Form::kAdded) return sees ? 0 : kHidden;
    return sees == (form_ == Form::kTrueSees) ? 1 : 0;
  }

  Form form_;
  Sees sees_;
  Mismatches result_;
};

// A bias that falls off with the distance (Press, Smith, Lewis 2022), with the
// causal mask. What all slots of a row have in common makes no difference.
class Alibi : public Meaning {
 public:
  Alibi(std::string what, int64_t heads, double factor)
      : Meaning(std::move(what), Kind::kMask), factor_(factor) {
    // As transformers' build_alibi_tensor: powers of 2^(-8 / n) for the largest
    // power of two n up to the number of heads, then every other one of 2 n.
    int64_t n = 1;
    while (2 * n <= heads) n *= 2;
    for (int64_t h = 0; h < heads; ++h) {
      const double base =
          h < n ? -8.0 / static_cast<double>(n) : -4.0 / static_cast<double>(n);
      const int64_t power = h < n ? h + 1 : 2 * (h - n) + 1;
      slopes_.push_back(std::exp2(base * static_cast<double>(power)));
    }
  }

  void Look(int64_t position, int64_t, int64_t head,
            std::span<const double> row) override {
    result_.values += std::ssize(row);
    const double slope =
        slopes_[static_cast<size_t>(head) % slopes_.size()] * factor_;
    for (size_t j = 0; j < row.size(); ++j) {
      const auto slot = static_cast<int64_t>(j);
      const double expected =
          slot <= position ? row[0] + slope * static_cast<double>(j) : kHidden;
      const double allowed = 1e-6 * (1 + std::abs(expected) + std::abs(row[0]));
      if (slot <= position ? std::abs(row[j] - expected) <= allowed
                           : row[j] <= kHidden) {
        continue;
      }
      result_.Wrong(position, slot, row[j], expected);
    }
  }
  Mismatches Result() const override { return result_; }

 private:
  double factor_;
  std::vector<double> slopes_;
  Mismatches result_;
};

// Numbers each of which is 0 or follows the position, of the row or of the
// run's first: places in KV caches and tables.
class Place : public Meaning {
 public:
  Place(std::string what, int64_t modulus, bool of_start)
      : Meaning(std::move(what), Kind::kPlace),
        modulus_(modulus),
        of_start_(of_start) {}

  void Look(int64_t position, int64_t start, int64_t,
            std::span<const double> row) override {
    const auto place =
        static_cast<double>((of_start_ ? start : position) % modulus_);
    columns_.resize(row.size());
    for (size_t j = 0; j < row.size(); ++j) {
      auto& [stays, follows] = columns_[j];
      const auto column = static_cast<int64_t>(j);
      ++stays.values;
      ++follows.values;
      if (row[j] != 0) stays.Wrong(position, column, row[j], 0);
      if (row[j] != place) follows.Wrong(position, column, row[j], place);
    }
  }
  Mismatches Result() const override {
    Mismatches all;
    bool any = false;
    for (const auto& [stays, follows] : columns_) {
      const bool moves = follows.wrong < stays.wrong;
      any = any || moves;
      all.Add(moves ? follows : stays);
    }
    if (!any) all.wrong = all.values;  // what never follows is no place
    return all;
  }

 private:
  struct Column {
    Mismatches stays, follows;
  };
  int64_t modulus_;
  bool of_start_;
  std::vector<Column> columns_;
};

// The same at all positions: what marks text, or how many tokens are text.
class Fixed : public Meaning {
 public:
  // A number for each column.
  Fixed(std::string what, std::vector<double> row)
      : Meaning(std::move(what), Kind::kMask), row_(std::move(row)) {}

  void Look(int64_t position, int64_t, int64_t,
            std::span<const double> row) override {
    result_.values += std::ssize(row);
    for (size_t j = 0; j < row.size(); ++j) {
      const double expected = j < row_.size() ? row_[j] : kUnknown;
      if (row[j] == expected) continue;
      result_.Wrong(position, static_cast<int64_t>(j), row[j], expected);
    }
  }
  Mismatches Result() const override { return result_; }

 private:
  static constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
  std::vector<double> row_;
  Mismatches result_;
};

// How a tensor's numbers lie: `outer` times `rows` rows of `width`.
struct Layout {
  int64_t outer = 1;
  int64_t rows = 1;
  int64_t width = 1;
};

Layout LayoutOf(std::span<const int64_t> dims, int64_t rows) {
  Layout layout;
  layout.rows = rows;
  int64_t elements = 1;
  for (const int64_t d : dims) elements *= d;
  if (rows == 1) {
    layout.width = dims.empty() ? 1 : dims.back();
    layout.outer = elements / layout.width;
    return layout;
  }
  // The last dimension of that size that leaves a row of more than one number;
  // else the last of that size.
  std::optional<size_t> axis;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] != rows) continue;
    if (!axis || i + 1 < dims.size()) axis = i;
  }
  if (!axis) {  // one for all rows
    layout.rows = 1;
    layout.width = dims.empty() ? 1 : dims.back();
    layout.outer = elements / layout.width;
    return layout;
  }
  layout.width = 1;
  for (size_t i = *axis + 1; i < dims.size(); ++i) layout.width *= dims[i];
  layout.outer = elements / (layout.rows * layout.width);
  return layout;
}

using Meanings = std::vector<std::unique_ptr<Meaning>>;

class Checker {
 public:
  Checker(const Model& model, const tflite::File& file,
          const ModelConfig& config, const RotaryFrequencies& frequencies)
      : model_(model),
        file_(file),
        config_(config),
        usual_(frequencies.usual),
        local_(frequencies.local) {}

  PositionResult Check() {
    result_.positions = model_.info().kv_length;
    std::set<int32_t> constants;
    for (const tflite::Graph& graph : file_.graphs) {
      const int64_t rows = RowsOf(model_.info(), graph.signature);
      if (rows == 0) continue;
      const PositionPart part = FindPositionPart(graph);
      if (part.frontier.empty()) continue;
      constants.insert(part.constants.begin(), part.constants.end());
      CheckSignature(graph, part, rows);
    }
    result_.constants.assign(constants.begin(), constants.end());
    std::ranges::sort(result_.kinds);
    const auto again = std::ranges::unique(result_.kinds);
    result_.kinds.erase(again.begin(), again.end());
    return std::move(result_);
  }

 private:
  void Gap(const std::string& signature, const std::string& why) {
    result_.gaps.push_back(fmt::format("{}: {}", signature, why));
  }

  void CheckSignature(const tflite::Graph& graph, const PositionPart& part,
                      int64_t rows) {
    // A part has no more outputs than the signature.
    const size_t most =
        std::max<size_t>(1, tflite::MaxOutputs(model_.file(), graph.signature));
    for (size_t from = 0; from < part.frontier.size(); from += most) {
      const size_t count = std::min(most, part.frontier.size() - from);
      const auto tensors = std::span(part.frontier).subspan(from, count);
      CheckTensors(graph, part, tensors, rows);
    }
  }

  void CheckTensors(const tflite::Graph& graph, const PositionPart& part,
                    std::span<const int32_t> tensors, int64_t rows) {
    std::optional<PartialGraph> run;
    try {
      run.emplace(model_, tflite::GraphPart{graph.signature,
                                            part.ops,
                                            {part.input},
                                            {tensors.begin(), tensors.end()}});
    } catch (const Error& error) {
      Gap(graph.signature, error.what());
      return;
    }
    const TensorSpec& input = run->inputs().at(0);
    if (run->inputs().size() != 1 || input.type != ElementType::kInt32 ||
        ByteSize(input) != rows * 4) {
      Gap(graph.signature, "positions are not one number a token");
      return;
    }
    std::vector<Layout> layouts;
    std::vector<Meanings> all;
    for (const TensorSpec& output : run->outputs()) {
      layouts.push_back(LayoutOf(output.dims, rows));
      all.push_back(MeaningsFor(output, layouts.back(), rows));
    }
    for (const int64_t start : StartsOf(rows)) {
      const auto positions = run->Input<int32_t>(0);
      for (int64_t r = 0; r < rows; ++r) {
        positions[static_cast<size_t>(r)] = static_cast<int32_t>(start + r);
      }
      run->Run();
      for (size_t i = 0; i < all.size(); ++i) {
        Look(run->Output(i), layouts[i], start, all[i]);
      }
    }
    for (size_t i = 0; i < all.size(); ++i) {
      Conclude(graph.signature, run->outputs()[i], tensors[i], all[i]);
    }
  }

  // So that every position is in some run, and every row at some place other
  // than a multiple of the length.
  std::vector<int64_t> StartsOf(int64_t rows) const {
    const int64_t last = result_.positions - rows;
    std::set<int64_t> starts;
    for (int64_t s = 0; s <= last; s += rows) starts.insert(s);
    if (last > 0) {
      starts.insert(last);
      starts.insert(std::min(last, rows / 2 + 1));
    }
    return {starts.begin(), starts.end()};
  }

  static void Look(const std::vector<double>& values, const Layout& layout,
                   int64_t start, const Meanings& meanings) {
    const std::span all(values);
    for (int64_t o = 0; o < layout.outer; ++o) {
      for (int64_t r = 0; r < layout.rows; ++r) {
        const auto row = all.subspan(
            static_cast<size_t>((o * layout.rows + r) * layout.width),
            static_cast<size_t>(layout.width));
        for (const auto& h : meanings) h->Visit(start + r, start, o, row);
      }
    }
  }

  // `factor`: of both cosines and sines.
  void AddRope(const std::string& name, Angles& angles, double factor,
               int64_t width, double step, Meanings& all) const {
    const int64_t n = angles.count();
    if (n == 0 || width % n != 0 || width / n > 4) return;
    all.push_back(
        std::make_unique<Rope>(name, angles, width / n, false, factor, step));
    if (width == 2 * n) {
      all.push_back(
          std::make_unique<Rope>(name, angles, 2, true, factor, step));
    }
  }

  void AddMask(const std::string& what, PositionFault::Kind kind, bool boolean,
               const Mask::Sees& sees, Meanings& all) const {
    if (!boolean) {
      all.push_back(
          std::make_unique<Mask>(what, kind, Mask::Form::kAdded, sees));
      return;
    }
    all.push_back(
        std::make_unique<Mask>(what, kind, Mask::Form::kTrueSees, sees));
    all.push_back(
        std::make_unique<Mask>(what, kind, Mask::Form::kFalseSees, sees));
  }

  void AddMasks(bool boolean, const Layout& layout, Meanings& all) const {
    using Kind = PositionFault::Kind;
    const ModelInfo& info = model_.info();
    if (layout.width == info.kv_length) {
      AddMask(
          "the causal mask", Kind::kMask, boolean,
          [](int64_t p, int64_t s) { return s <= p; }, all);
      if (config_.alibi && !boolean) {
        for (const double factor : {1.0, config_.attention_scale}) {
          all.push_back(std::make_unique<Alibi>("the causal mask with ALiBi",
                                                config_.num_heads, factor));
        }
      }
    }
    const auto window = SlidingWindowOf(config_);
    if (!window) return;
    const int64_t w = *window;
    if (layout.width == info.kv_length) {
      AddMask(
          "the mask of a sliding window", Kind::kWindow, boolean,
          [w](int64_t p, int64_t s) { return s <= p && s > p - w; }, all);
      // The rest of the mask is an input, or another tensor.
      AddMask(
          "the mask of a sliding window", Kind::kWindow, boolean,
          [w](int64_t p, int64_t s) { return s > p - w; }, all);
      AddMask(
          "the mask of a sliding window", Kind::kWindow, boolean,
          [w](int64_t p, int64_t s) { return std::abs(p - s) < w; }, all);
    }
  }

  // Where positions that do not grow are pads: those of the check all grow. A
  // state is then the last of all rows and of the state before them.
  void AddPads(const Layout& layout, int64_t rows, Meanings& all) const {
    if (!model_.info().repeated_positions_are_pads) return;
    all.push_back(
        std::make_unique<Fixed>("the mark of pads", std::vector<double>{1}));
    const int64_t before = config_.conv_taps - 1;
    if (layout.rows != 1 || layout.width != before) return;
    std::vector<double> places;
    for (int64_t i = 0; i < before; ++i) {
      places.push_back(static_cast<double>(rows + i));
    }
    all.push_back(
        std::make_unique<Fixed>("the place of a state", std::move(places)));
  }

  Meanings MeaningsFor(const TensorSpec& tensor, const Layout& layout,
                       int64_t rows) {
    Meanings all;
    const int64_t ring = model_.info().ring_length;
    AddPads(layout, rows, all);
    if (tensor.type == ElementType::kInt32) {
      constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
      for (const bool start : {true, false}) {
        if (!start && rows == 1) continue;
        all.push_back(std::make_unique<Place>("the place in the KV caches",
                                              kNone, start));
        if (ring > 0) {
          all.push_back(
              std::make_unique<Place>("the place in a ring", ring, start));
        }
      }
      return all;
    }
    if (tensor.type == ElementType::kBool) {
      AddMasks(true, layout, all);
      return all;
    }
    const bool integers = IsQuantised(tensor);
    if (tensor.type != ElementType::kFloat32 && !integers) return all;
    const double step = integers ? tensor.scale->scale : 0;
    AddRope("RoPE", usual_, config_.rope_attention_factor, layout.width, step,
            all);
    // These are not scaled.
    AddRope("RoPE of layers with a sliding window", local_, 1, layout.width,
            step, all);
    AddMasks(false, layout, all);
    if (config_.query_scaling && layout.width == 1) {
      all.push_back(std::make_unique<QueryScale>(*config_.query_scaling));
    }
    return all;
  }

  void Conclude(const std::string& signature, const TensorSpec& tensor,
                int32_t index, const Meanings& all) {
    ++result_.tensors;
    const Meaning* best = nullptr;
    Mismatches least;
    for (const auto& h : all) {
      if (h->ruled_out()) continue;
      Mismatches m = h->Result();
      if (best != nullptr && m.wrong >= least.wrong) continue;
      best = h.get();
      least = std::move(m);
    }
    // What is mostly something else has not been understood, and is not
    // accused: local verification sees whether it is wrong where it is run.
    if (best == nullptr || Meaning::IsSomethingElse(least)) {
      Gap(signature,
          fmt::format("tensor {} ({}) depends on positions alone and is none "
                      "of what config.json asks for",
                      index, Describe(tensor)));
      return;
    }
    result_.kinds.push_back(best->what());
    if (least.wrong == 0) return;
    result_.faults.push_back(
        {.kind = best->kind(),
         .signature = signature,
         .what = best->what(),
         .tensor = fmt::format("{}", index),
         .first = least.first,
         .last = least.last,
         // Runs overlap, and see some positions twice.
         .positions = std::min(least.rows, least.last - least.first + 1),
         .values = least.wrong,
         .at = least.at,
         .column = least.column,
         .found = least.found,
         .expected = least.expected});
  }

  const Model& model_;
  const tflite::File& file_;
  const ModelConfig& config_;
  Angles usual_, local_;
  PositionResult result_;
};

}  // namespace

PositionPart FindPositionPart(const tflite::Graph& graph) {
  PositionPart part;
  part.signature = graph.signature;
  part.input = PositionsInput(graph);
  if (part.input < 0) return part;
  const Dependence on = DependenceOf(graph, DependenceOfInputs(graph));
  std::set<int32_t> frontier;
  const auto read_outside = [&](int32_t tensor) {
    const auto at = static_cast<size_t>(tensor);
    if (tensor >= 0 && on.tensors[at] == DependsOn::kPositions &&
        tensor != part.input) {
      frontier.insert(tensor);
    }
  };
  for (size_t k = 0; k < graph.ops.size(); ++k) {
    if (on.ops[k] <= DependsOn::kPositions) continue;
    for (const int32_t input : graph.ops[k].inputs) read_outside(input);
  }
  for (const auto& [name, tensor] : graph.outputs) read_outside(tensor);
  part.frontier.assign(frontier.begin(), frontier.end());
  // Backwards to what it is made of.
  std::set<int32_t> ops;
  std::set<int32_t> constants;
  std::vector<int32_t> open = part.frontier;
  while (!open.empty()) {
    const tflite::Tensor& tensor =
        graph.tensors[static_cast<size_t>(open.back())];
    open.pop_back();
    if (tensor.constant >= 0) constants.insert(tensor.constant);
    if (tensor.producer < 0 || !ops.insert(tensor.producer).second) continue;
    for (const int32_t input :
         graph.ops[static_cast<size_t>(tensor.producer)].inputs) {
      if (input >= 0) open.push_back(input);
    }
  }
  part.ops.assign(ops.begin(), ops.end());
  part.constants.assign(constants.begin(), constants.end());
  return part;
}

namespace {

// What the runtime says of the part at the positions from `start` on; none: it
// runs, or cannot be run alone.
std::optional<std::string> FailureAt(const Model& model,
                                     const PositionPart& part, int64_t rows,
                                     int64_t start) {
  const size_t most =
      std::max<size_t>(1, tflite::MaxOutputs(model.file(), part.signature));
  for (size_t from = 0; from < part.frontier.size(); from += most) {
    const size_t count = std::min(most, part.frontier.size() - from);
    const auto tensors = std::span(part.frontier).subspan(from, count);
    std::optional<PartialGraph> run;
    try {
      run.emplace(model, tflite::GraphPart{part.signature,
                                           part.ops,
                                           {part.input},
                                           {tensors.begin(), tensors.end()}});
    } catch (const Error&) {
      return std::nullopt;
    }
    const TensorSpec& input = run->inputs().at(0);
    if (input.type != ElementType::kInt32 || ByteSize(input) != rows * 4) {
      return std::nullopt;
    }
    const auto positions = run->Input<int32_t>(0);
    for (int64_t r = 0; r < rows; ++r) {
      positions[static_cast<size_t>(r)] = static_cast<int32_t>(start + r);
    }
    try {
      run->Run();
    } catch (const Error& error) {
      return error.what();
    }
  }
  return std::nullopt;
}

// A constant of so many rows that the part reads.
std::string TableOf(const tflite::Graph& graph, const PositionPart& part,
                    int64_t rows) {
  for (const int32_t op : part.ops) {
    for (const int32_t input : graph.ops[static_cast<size_t>(op)].inputs) {
      if (input < 0) continue;
      const tflite::Tensor& tensor = graph.tensors[static_cast<size_t>(input)];
      if (tensor.constant < 0 || tensor.shape.empty()) continue;
      if (tensor.shape.front() != rows) continue;
      return fmt::format("[{}]", fmt::join(tensor.shape, ", "));
    }
  }
  return {};
}

}  // namespace

std::vector<ShortTable> FindShortTables(const Model& model,
                                        const tflite::File& file) {
  std::vector<ShortTable> found;
  const int64_t length = model.info().kv_length;
  for (const tflite::Graph& graph : file.graphs) {
    const int64_t rows = RowsOf(model.info(), graph.signature);
    if (rows == 0 || rows > length) continue;
    const PositionPart part = FindPositionPart(graph);
    if (part.frontier.empty()) continue;
    int64_t fails = length - rows;  // first position of a run
    std::optional<std::string> error = FailureAt(model, part, rows, fails);
    if (!error) continue;
    int64_t runs = -1;
    while (fails - runs > 1) {
      const int64_t middle = (runs + fails) / 2;
      const auto other = FailureAt(model, part, rows, middle);
      (other ? fails : runs) = middle;
      if (other) error = other;
    }
    const int64_t first = fails + rows - 1;
    found.push_back({.signature = graph.signature,
                     .first = first,
                     .positions = length,
                     .table = TableOf(graph, part, first),
                     .error = *error});
  }
  return found;
}

PositionResult CheckPositions(const Model& model, const tflite::File& file,
                              const ModelConfig& config,
                              const RotaryFrequencies& frequencies) {
  return Checker(model, file, config, frequencies).Check();
}

}  // namespace verify_tflite
