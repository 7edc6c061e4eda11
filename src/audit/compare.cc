#include "audit/compare.h"

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <limits>

namespace verify_tflite {
namespace {

// Rows that MayBe looks at.
constexpr int64_t kFewRows = 8;
// And Distance: all of most vectors.
constexpr int64_t kDistanceRows = 64;

// Scaled originals are rounded twice: once by whoever scaled them.
constexpr double kScaledLimit = 2;

// Sums of float32 that someone else computed are off by a share of what their
// terms' magnitudes are: a few times 2^-24, as long as terms are added in
// groups.
constexpr float kSumRounding = 0x1p-22f;

// Squared errors of numbers of which some are cut off, relative to those of
// none cut off: OCTAV's of int8 are up to 1.23, of int4 0.92 (SmolLM2).
constexpr double kCutOffError = 1.5;
// Sums of n squares scatter by 0.9 / sqrt(n) of them, where errors are uniform.
constexpr double kScatter = 5;

// Lets go of what was read, a few megabytes at a time.
class Dropper {
 public:
  Dropper(const tflite::Constant& constant, const Original& original,
          bool transposed, bool drop)
      : constant_(constant) {
    const int64_t rows = constant.rows();
    if (!drop || rows == 0 || transposed) return;
    row_bytes_ = static_cast<int64_t>(constant.data.size()) / rows;
    rows_at_once_ = kBytesAtOnce / std::max<int64_t>(row_bytes_, 1);
    // Rows of one tensor in their order, but for fused ones, which are small.
    if (original.rows.size() == 1 && original.rows[0].run == 0 &&
        original.rows[0].tensor->file != nullptr) {
      original_ = &original.rows[0];
    }
  }

  void RowDone(int64_t row) {
    if (row_bytes_ == 0 || row + 1 - first_ < rows_at_once_) return;
    const int64_t count = row + 1 - first_;
    DropPages(constant_.data.subspan(first_ * row_bytes_, count * row_bytes_));
    if (original_ != nullptr) {
      const TensorView& tensor = *original_->tensor;
      const auto bytes =
          original_->cols * static_cast<int64_t>(SizeOf(tensor.dtype));
      DropPages(tensor.data.subspan((original_->first + first_) * bytes,
                                    count * bytes));
    }
    first_ = row + 1;
  }

 private:
  static constexpr int64_t kBytesAtOnce = int64_t{4} << 20;

  const tflite::Constant& constant_;
  const Rows* original_ = nullptr;
  int64_t row_bytes_ = 0;  // 0: keep all
  int64_t rows_at_once_ = 0;
  int64_t first_ = 0;  // row
};

}  // namespace

bool SameShape(const tflite::Constant& constant, const Original& original,
               bool transposed) {
  if (constant.type == ElementType::kUnknown || original.rows.empty()) {
    return false;
  }
  const int64_t rows = original.num_rows(), cols = original.cols();
  if (original.rotation != nullptr && cols % original.rotation->size() != 0) {
    return false;
  }
  if (original.input_scale != nullptr &&
      std::ssize(*original.input_scale) != cols) {
    return false;
  }
  return transposed ? constant.rows() == cols && constant.cols() == rows
                    : constant.rows() == rows && constant.cols() == cols;
}

RowPair::RowPair(const tflite::Constant& constant, const Original& original,
                 bool transposed)
    : constant_(constant),
      expected_(original),
      transposed_(transposed),
      reader_(constant),
      rows_(constant.rows()),
      cols_(constant.cols()),
      limit_(original.folded() && !reader_.quantised() ? kScaledLimit
                                                       : kStepLimit),
      stored_(cols_),
      original_(cols_),
      steps_(cols_) {}

void RowPair::Load(int64_t row) {
  reader_.Read(row, stored_.data());
  if (transposed_) {
    for (int64_t i = 0; i < cols_; ++i) {
      Originals::Read(expected_, i, row, 1, &original_[i]);
    }
  } else {
    Originals::Read(expected_, row, 0, cols_, original_.data());
  }
  reader_.Steps(row, original_.data(), steps_.data());
  if (!expected_.computed_steps.empty()) {
    steps_[0] = std::max(steps_[0], expected_.computed_steps[row]);
  }
  if (expected_.rotation != nullptr && !transposed_) AddRotationSteps();
  cut_off_.clear();
  if (reader_.quantised() && !transposed_) FindCutOff(row);
}

// Terms of a rotated number are no larger together than the block's L2 norm.
void RowPair::AddRotationSteps() {
  const int64_t size = expected_.rotation->size();
  for (int64_t begin = 0; begin < cols_; begin += size) {
    double squares = 0;
    for (int64_t i = begin; i < begin + size; ++i) {
      squares += double{original_[i]} * original_[i];
    }
    // Twice, as a limit is half a step.
    const float more =
        2 * kSumRounding * static_cast<float>(std::sqrt(squares));
    for (int64_t i = begin; i < begin + size; ++i) {
      steps_[i] = std::fabs(steps_[i]) + more;
    }
  }
}

int64_t RowPair::GroupSize() const {
  if (constant_.block_size > 0) return constant_.block_size;
  return constant_.scales.size() <= 1 || constant_.axis == 0 ? cols_ : 0;
}

// Norms and biases of 16 bits and more: what scale they got tells nothing.
bool RowPair::IsMatrixType() const {
  return constant_.type == ElementType::kInt8 ||
         constant_.type == ElementType::kInt4 ||
         constant_.type == ElementType::kInt2;
}

double RowPair::MostOfType() const {
  return constant_.type == ElementType::kInt8   ? 127
         : constant_.type == ElementType::kInt4 ? 7
                                                : 1;
}

std::vector<RowPair::Group> RowPair::GroupsOf(int64_t row) const {
  std::vector<Group> groups;
  const int64_t size = GroupSize();
  // Groups begin where the whole constant does.
  for (int64_t begin = 0; size > 0 && begin < cols_;) {
    Group group;
    group.begin = begin;
    group.end = std::min(begin + size - (row * cols_ + begin) % size, cols_);
    // As in Worst().
    uint32_t largest = 0;
    for (int64_t i = group.begin; i < group.end; ++i) {
      largest = std::max(largest,
                         std::bit_cast<uint32_t>(original_[i]) & 0x7fffffffu);
    }
    group.largest = std::bit_cast<float>(largest);
    begin = group.end;
    groups.push_back(group);
  }
  return groups;
}

// As tensor_zp_scale_from_min_max of ai-edge-quantizer 0.10.0 has it, in
// float32; of blocks it is bfloat16's nearest, as float16.
float RowPair::MinMaxScale(float largest) const {
  constexpr float kLeastBound = 1e-9f;
  const float scale =
      std::max(largest, kLeastBound) / static_cast<float>(MostOfType());
  if (constant_.block_size == 0) return scale;
  const auto bits = std::bit_cast<uint32_t>(scale);
  const uint32_t rounded = bits + 0x7fff + (bits >> 16 & 1);
  const auto bfloat16 = std::bit_cast<float>(rounded & 0xffff0000u);
  // float16's denormals.
  return bfloat16 >= 0x1p-14f ? bfloat16
                              : std::nearbyint(bfloat16 * 0x1p24f) * 0x1p-24f;
}

bool RowPair::IsMinMax(const Group& group) const {
  const float scale = steps_[group.begin];
  const float expected = MinMaxScale(group.largest);
  if (scale == expected) return true;
  // What was rounded more than once is off by a little.
  constexpr float kFolded = 0x1p-21f;
  return (expected_.folded() || expected_.rotation != nullptr) &&
         constant_.block_size == 0 &&
         std::fabs(scale - expected) <= kFolded * expected;
}

bool RowPair::IsMse(const Group& group) const {
  // Of a row's root mean square: _MSE_QUANT_MULS of ai-edge-quantizer 0.10.0.
  constexpr double kInt8 = 0.05408, kInt4 = 0.37755;
  constexpr double kRounding = 1e-5;
  if (constant_.block_size > 0 || group.largest == 0) return false;
  const double factor = constant_.type == ElementType::kInt8   ? kInt8
                        : constant_.type == ElementType::kInt4 ? kInt4
                                                               : 0;
  double squares = 0;
  for (int64_t i = group.begin; i < group.end; ++i) {
    squares += double{original_[i]} * original_[i];
  }
  const double expected =
      factor *
      std::sqrt(squares / static_cast<double>(group.end - group.begin));
  return std::fabs(steps_[group.begin] - expected) <= kRounding * expected;
}

void RowPair::AddScales(int64_t row, double worst,
                        ScaleFigures& figures) const {
  if (!reader_.quantised() || transposed_ || !IsMatrixType() ||
      !constant_.zero_points.empty()) {
    return;
  }
  const double most = MostOfType();
  figures.most_bits = std::log2(2 * most + 1);
  for (const Group& group : GroupsOf(row)) {
    ++figures.scales;
    const bool min_max = IsMinMax(group);
    figures.min_max += min_max;
    const double step = std::max(std::fabs(steps_[group.begin]), FLT_MIN);
    const double levels = std::min(most, std::round(group.largest / step));
    figures.bits += std::log2(2 * levels + 1) *
                    static_cast<double>(group.end - group.begin);
    if (worst > limit_) AddMoved(group, figures);
    if (min_max) continue;
    figures.mse += IsMse(group);
    const double other = MinMaxScale(group.largest);
    // Of numbers that lie on its grid nothing but float32's rounding is left;
    // against that any other scale would look bad.
    const double least = 0.01 * other;
    for (int64_t i = group.begin; i < group.end; ++i) {
      const double error = double{stored_[i]} - original_[i];
      figures.squares += error * error;
      const double rounding =
          original_[i] - other * std::nearbyint(original_[i] / other);
      figures.min_max_squares += std::max(rounding * rounding, least * least);
    }
  }
}

void RowPair::AddMoved(const Group& group, ScaleFigures& figures) const {
  // What GPTQ moved, in squares of rounding's own errors; measured up to 6.
  constexpr double kFar = 25, kFarSteps = 8;
  const double step = std::max(std::fabs(steps_[group.begin]), FLT_MIN);
  double squares = 0, rounding = 0, furthest = 0;
  for (int64_t i = group.begin; i < group.end; ++i) {
    const double error = std::fabs(double{stored_[i]} - original_[i]) / step;
    if (!cut_off_.empty() && cut_off_[i]) {
      figures.cut_off_by = std::max(figures.cut_off_by, error);
      continue;
    }
    const double plain = original_[i] / step;
    squares += error * error;
    rounding += std::pow(plain - std::nearbyint(plain), 2);
    if (error <= limit_) continue;
    ++figures.moved;
    furthest = std::max(furthest, error);
  }
  figures.moved_by = std::max(figures.moved_by, furthest);
  // Rounding's own, of a row that happens to lie near the steps, is too little.
  const double usual = static_cast<double>(group.end - group.begin) / 12;
  figures.far_rows +=
      furthest > 0 &&
      !(squares <= kFar * std::max(usual, rounding) && furthest <= kFarSteps);
}

bool RowPair::IsCutOff(int64_t i) const {
  const auto most = static_cast<float>(MostOfType());
  const bool at_end = numbers_[i] >= most || numbers_[i] <= -most;
  return at_end && std::fabs(original_[i]) > std::fabs(stored_[i]) &&
         std::signbit(original_[i]) == std::signbit(stored_[i]);
}

void RowPair::FindCutOff(int64_t row) {
  const int64_t group = GroupSize();
  if (group == 0 || !IsMatrixType() || !constant_.zero_points.empty() ||
      Worst() <= limit_) {
    return;
  }
  numbers_.resize(cols_);
  reader_.ReadStored(row, numbers_.data());
  for (const Group& numbers : GroupsOf(row)) MarkCutOff(numbers);
}

void RowPair::MarkCutOff(const Group& group) {
  double squares = 0;
  bool some = false;
  for (int64_t i = group.begin; i < group.end; ++i) {
    const double error = double{stored_[i]} - original_[i];
    squares += error * error;
    if (std::fabs(error) <= limit_ * std::fabs(steps_[i])) continue;
    if (!IsCutOff(i)) return;  // the row is wrong anyhow
    some = true;
  }
  if (!some) return;
  const auto count = static_cast<double>(group.end - group.begin);
  const double step = group.largest / MostOfType();
  const double whole = count * step * step / 12;
  const double allowed =
      std::max(kCutOffError, 1 + kScatter / std::sqrt(count));
  // A scale that is nobody else's says itself what is cut off.
  if (!(squares <= allowed * whole) && !IsMse(group)) return;
  cut_off_.resize(cols_);
  for (int64_t i = group.begin; i < group.end; ++i) {
    const double error = std::fabs(double{stored_[i]} - original_[i]);
    cut_off_[i] = !(error <= limit_ * std::fabs(steps_[i]));
  }
}

int64_t RowPair::CountCutOff() const {
  return std::count(cut_off_.begin(), cut_off_.end(), true);
}

double RowPair::Worst() const {
  // Numbers that are not negative compare as their bits do, NaN above all;
  // unlike a maximum of floats, that of integers is vectorised.
  uint32_t worst = 0;
  for (int64_t i = 0; i < cols_; ++i) {
    const float error = std::fabs(stored_[i] - original_[i]) /
                        std::max(std::fabs(steps_[i]), FLT_MIN);
    worst = std::max(worst, std::bit_cast<uint32_t>(error) & 0x7fffffffu);
  }
  const auto value = std::bit_cast<float>(worst);
  return std::isnan(value) ? std::numeric_limits<double>::infinity() : value;
}

int64_t RowPair::CountBad(double* worst) const {
  int64_t bad = 0;
  double most = 0;
  for (int64_t i = 0; i < cols_; ++i) {
    if (!cut_off_.empty() && cut_off_[i]) continue;
    const double error = std::fabs(double{stored_[i]} - original_[i]);
    const double step = std::max(std::fabs(steps_[i]), FLT_MIN);
    bad += !(error <= limit_ * step);
    most = std::max(most, error / step);
  }
  if (worst != nullptr && !cut_off_.empty()) *worst = most;
  return bad;
}

Comparison Compare(const tflite::Constant& constant, const Original& original,
                   bool transposed, bool drop) {
  RowPair pair(constant, original, transposed);
  Dropper dropper(constant, original, transposed, drop);
  Comparison result;
  result.rows = pair.rows();
  result.elements = pair.rows() * pair.cols();
  for (int64_t row = 0; row < pair.rows(); ++row) {
    pair.Load(row);
    dropper.RowDone(row);
    double worst = pair.Worst();
    pair.AddScales(row, worst, result.scales);
    const int64_t bad = worst <= kStepLimit ? 0 : pair.CountBad(&worst);
    result.worst = std::max(result.worst, worst);
    result.cut_off += pair.CountCutOff();
    if (bad == 0) continue;
    result.bad += bad;
    if (result.bad_rows++ == 0) result.first_bad_row = row;
  }
  if (result.scales.scales > 0) {
    result.scales.bits /= static_cast<double>(result.elements);
  }
  return result;
}

FarNumber FindFarNumber(const tflite::Constant& constant,
                        const Original& original) {
  // Of a column's mean magnitude: normal numbers have one in 10^10 beyond.
  constexpr double kFar = 8;
  RowPair pair(constant, original, false);
  const auto cols = static_cast<size_t>(pair.cols());
  std::vector<double> sums(cols), most(cols);
  std::vector<int64_t> rows(cols);
  for (int64_t row = 0; row < pair.rows(); ++row) {
    pair.Load(row);
    for (size_t i = 0; i < cols; ++i) {
      const double step = std::max(std::fabs(pair.steps()[i]), FLT_MIN);
      const double error =
          std::fabs(double{pair.stored()[i]} - pair.original()[i]) / step;
      sums[i] += error;
      if (error <= most[i]) continue;
      most[i] = error;
      rows[i] = row;
    }
  }
  FarNumber furthest;
  for (size_t i = 0; i < cols && pair.rows() > 1; ++i) {
    const double usual =
        (sums[i] - most[i]) / static_cast<double>(pair.rows() - 1);
    // Rounding's own mean is a quarter of a step.
    const bool far = !(most[i] <= kFar * std::max(usual, 0.25));
    if (!far || most[i] <= furthest.steps) continue;
    furthest = {rows[i], static_cast<int64_t>(i), most[i], usual};
  }
  return furthest;
}

double CoarserBy(const ScaleFigures& figures) {
  if (figures.min_max == figures.scales || figures.min_max_squares == 0) {
    return 1;
  }
  return std::sqrt(figures.squares / figures.min_max_squares);
}

bool MayBe(const tflite::Constant& constant, const Original& original,
           bool transposed) {
  RowPair pair(constant, original, transposed);
  for (const int64_t row : SampleRows(pair.rows(), kFewRows)) {
    pair.Load(row);
    if (pair.CountBad() > 0) return false;
  }
  return true;
}

double Distance(const tflite::Constant& constant, const Original& original,
                bool transposed) {
  RowPair pair(constant, original, transposed);
  double difference = 0, size = 0;
  for (const int64_t row : SampleRows(pair.rows(), kDistanceRows)) {
    pair.Load(row);
    for (int64_t i = 0; i < pair.cols(); ++i) {
      const double d = double{pair.stored()[i]} - pair.original()[i];
      difference += d * d;
      size += double{pair.original()[i]} * pair.original()[i];
    }
  }
  const double distance = difference / std::max(size, 1e-300);
  return std::isfinite(distance) ? distance
                                 : std::numeric_limits<double>::infinity();
}

const Original* Nearest(const tflite::Constant& constant,
                        std::span<const Original> ways, bool transposed) {
  constexpr double kMuchNearer = 0.25;  // of squares
  const Original* nearest = nullptr;
  double least = 0;
  for (const Original& way : ways) {
    if (!SameShape(constant, way, transposed)) continue;
    const double distance = Distance(constant, way, transposed);
    if (nearest != nullptr && !(distance < kMuchNearer * least)) continue;
    least = distance;
    nearest = &way;
  }
  return nearest;
}

std::vector<int64_t> SampleRows(int64_t rows, int64_t count) {
  std::vector<int64_t> sample;
  const int64_t n = std::min(rows, count);
  for (int64_t i = 0; i < n; ++i) {
    sample.push_back(n <= 1 ? 0 : i * (rows - 1) / (n - 1));
  }
  return sample;
}

}  // namespace verify_tflite
