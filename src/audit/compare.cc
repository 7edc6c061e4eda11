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

// Lets go of what was read, a few megabytes at a time.
class Dropper {
 public:
  Dropper(const StoredConstant& constant, const Original& original,
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

  const StoredConstant& constant_;
  const Rows* original_ = nullptr;
  int64_t row_bytes_ = 0;  // 0: keep all
  int64_t rows_at_once_ = 0;
  int64_t first_ = 0;  // row
};

}  // namespace

bool SameShape(const StoredConstant& constant, const Original& original,
               bool transposed) {
  if (constant.type == StoredType::kOther || original.rows.empty()) {
    return false;
  }
  const int64_t rows = original.num_rows(), cols = original.cols();
  return transposed ? constant.rows() == cols && constant.cols() == rows
                    : constant.rows() == rows && constant.cols() == cols;
}

RowPair::RowPair(const StoredConstant& constant, const Original& original,
                 bool transposed)
    : expected_(original),
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

int64_t RowPair::CountBad() const {
  int64_t bad = 0;
  for (int64_t i = 0; i < cols_; ++i) {
    const double error = std::fabs(double{stored_[i]} - original_[i]);
    bad += !(error <= limit_ * std::max(std::fabs(steps_[i]), FLT_MIN));
  }
  return bad;
}

Comparison Compare(const StoredConstant& constant, const Original& original,
                   bool transposed, bool drop) {
  RowPair pair(constant, original, transposed);
  Dropper dropper(constant, original, transposed, drop);
  Comparison result;
  result.rows = pair.rows();
  result.elements = pair.rows() * pair.cols();
  for (int64_t row = 0; row < pair.rows(); ++row) {
    pair.Load(row);
    dropper.RowDone(row);
    const double worst = pair.Worst();
    result.worst = std::max(result.worst, worst);
    if (worst <= kStepLimit) continue;
    const int64_t bad = pair.CountBad();
    if (bad == 0) continue;
    result.bad += bad;
    if (result.bad_rows++ == 0) result.first_bad_row = row;
  }
  return result;
}

bool MayBe(const StoredConstant& constant, const Original& original,
           bool transposed) {
  RowPair pair(constant, original, transposed);
  for (const int64_t row : SampleRows(pair.rows(), kFewRows)) {
    pair.Load(row);
    if (pair.CountBad() > 0) return false;
  }
  return true;
}

double Distance(const StoredConstant& constant, const Original& original,
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

std::vector<int64_t> SampleRows(int64_t rows, int64_t count) {
  std::vector<int64_t> sample;
  const int64_t n = std::min(rows, count);
  for (int64_t i = 0; i < n; ++i) {
    sample.push_back(n <= 1 ? 0 : i * (rows - 1) / (n - 1));
  }
  return sample;
}

}  // namespace verify_tflite
