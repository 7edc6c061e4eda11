#include "audit/diagnose.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <set>

#include "audit/low_rank.h"

namespace verify_tflite {
namespace {

// Rows looked at where all would take too long; enough for every figure here.
constexpr int64_t kSampledRows = 512;
// Most numbers of a difference whose rank is measured.
constexpr int64_t kMostRankElements = int64_t{1} << 18;
// Rows of a table may be off by this many.
constexpr int64_t kMostShift = 4;
// A share of equal rows or columns from which on the rest is what differs.
constexpr double kMostlyEqual = 0.5;
// The estimate of a factor is itself off by a little.
constexpr double kScaledStepLimit = 0.6;
// Factors nearer to 1 are not told from it.
constexpr double kLeastFactor = 0.002;
// int8 with fewer values than that has less than int4.
constexpr size_t kFewValues = 16;

// Sums over the loaded rows.
struct Sums {
  double stored2 = 0, original2 = 0, product = 0, difference2 = 0, step2 = 0;
  int64_t elements = 0;
  void Add(const RowPair& pair) {
    for (int64_t i = 0; i < pair.cols(); ++i) {
      const double s = pair.stored()[i], o = pair.original()[i];
      stored2 += s * s;
      original2 += o * o;
      product += s * o;
      difference2 += (s - o) * (s - o);
      step2 += double{pair.steps()[i]} * pair.steps()[i];
    }
    elements += pair.cols();
  }
  double correlation() const {
    const double norm = std::sqrt(stored2 * original2);
    return norm > 0 ? product / norm : 0;
  }
  double relative() const {
    return original2 > 0 ? std::sqrt(difference2 / original2) : 0;
  }
  double noise() const { return step2 / 12; }  // of rounding
};

class Diagnosis {
 public:
  Diagnosis(const tflite::Constant& constant, const RoleUse& use,
            const Original& original, const Comparison& comparison,
            const Originals& originals)
      : constant_(constant),
        use_(use),
        original_(original),
        comparison_(comparison),
        originals_(originals),
        pair_(constant, original, use.transposed) {}

  Difference Find() {
    ForSampledRows([&](int64_t) { sums_.Add(pair_); });
    difference_.correlation = sums_.correlation();
    difference_.size = sums_.relative();
    if (NotFinite() || Zero() || NotRotated() || OtherTensor() || Heads() ||
        Transposed() || RouterRows() || Shifted() || NormOffset() ||
        FewerBits() || Precision() || Collapsed() || Rounding() || Scaled() ||
        Partly()) {
      return std::move(difference_);
    }
    Differs();
    return std::move(difference_);
  }

 private:
  bool Is(Fault fault, std::string text) {
    difference_.fault = fault;
    difference_.text = std::move(text);
    return true;
  }

  // The first row that is wrong among them.
  template <typename Work>
  void ForSampledRows(const Work& work) {
    std::vector<int64_t> rows = SampleRows(pair_.rows(), kSampledRows);
    if (comparison_.first_bad_row >= 0) {
      rows.push_back(comparison_.first_bad_row);
    }
    for (const int64_t row : rows) {
      pair_.Load(row);
      work(row);
    }
  }

  bool NotFinite() {
    if (std::isfinite(comparison_.worst)) return false;
    int64_t count = 0, row = -1;
    for (int64_t r = 0; r < pair_.rows(); ++r) {
      pair_.Load(r);
      for (int64_t i = 0; i < pair_.cols(); ++i) {
        if (std::isfinite(pair_.stored()[i]) ||
            !std::isfinite(pair_.original()[i])) {
          continue;
        }
        ++count;
        if (row < 0) row = r;
      }
    }
    if (count == 0) return false;
    return Is(Fault::kNotFinite,
              fmt::format("{} of {} numbers are NaN or infinite, the first in "
                          "row {}; the checkpoint's are finite",
                          count, comparison_.elements, row));
  }

  bool Zero() {
    if (sums_.stored2 != 0) return false;
    for (int64_t r = 0; r < pair_.rows(); ++r) {
      pair_.Load(r);
      for (const float value : pair_.stored()) {
        if (value != 0) return false;
      }
    }
    return Is(Fault::kZero, "all numbers are zero");
  }

  bool Equals(const Original& other, bool transposed) const {
    return SameShape(constant_, other, transposed) &&
           MayBe(constant_, other, transposed) &&
           Compare(constant_, other, transposed).ok();
  }

  bool OtherTensor() {
    if (sums_.stored2 == 0) return false;
    // The same part of other layers first: of equals the likeliest.
    const int64_t layers = originals_.checkpoint().config().num_layers;
    WeightRole role = use_.role;
    for (int32_t layer = 0; role.layer >= 0 && layer < layers; ++layer) {
      role.layer = layer;
      if (layer != use_.role.layer && IsRole(role)) return true;
    }
    for (const auto& [other, rows] : originals_.all()) {
      if (other != use_.role && IsRole(other)) return true;
    }
    return OtherExpert();
  }

  // Gate and up of another expert in one constant.
  bool OtherExpert() {
    const ModelConfig& config = originals_.checkpoint().config();
    WeightRole role = use_.role;
    if (role.part != Part::kExpertGateUp) return false;
    for (role.layer = 0; role.layer < config.num_layers; ++role.layer) {
      for (role.expert = 0; role.expert < config.experts.count; ++role.expert) {
        if (role != use_.role && IsRole(role)) return true;
      }
    }
    return false;
  }

  bool IsRole(const WeightRole& role) {
    for (Original& way : originals_.Plain(role)) {
      Rotate(way);
      if (!Equals(way, use_.transposed)) continue;
      difference_.other = role;
      return Is(Fault::kOtherTensor, fmt::format("holds {}", Describe(role)));
    }
    return false;
  }

  // Other tensors would be stored as this one.
  void Rotate(Original& way) const {
    way.rotation = original_.rotation;
    way.rotated_back = original_.rotated_back;
  }

  bool NotRotated() {
    if (original_.rotation == nullptr) return false;
    Original plain = original_;
    plain.rotation = nullptr;
    if (!Equals(plain, use_.transposed)) return false;
    return Is(Fault::kDiffers,
              fmt::format("is not rotated, as the graph expects: it multiplies "
                          "blocks of {} numbers with a Hadamard matrix",
                          original_.rotation->size()));
  }

  // A head of q, k or v: its rows in the checkpoint.
  struct Head {
    Part part;
    int64_t number;
    Original rows;
  };

  // Of the layer that the constant is of.
  int64_t HeadDim() const {
    const ModelConfig& config = originals_.checkpoint().config();
    return config.layers[static_cast<size_t>(use_.role.layer)].head_dim;
  }

  std::vector<Head> AllHeads() const {
    const int64_t dim = HeadDim();
    std::vector<Head> heads;
    for (const Part part : {Part::kQ, Part::kK, Part::kV}) {
      const auto ways = originals_.Plain({part, use_.role.layer, false});
      if (ways.empty()) continue;
      const Rows& rows = ways[0].rows[0];
      for (int64_t h = 0; (h + 1) * dim <= rows.count; ++h) {
        heads.push_back({part, h, {"", {rows.Slice(h * dim, dim)}}});
        Rotate(heads.back().rows);
      }
    }
    return heads;
  }

  // Of the head that block `block` of the constant should hold.
  const Head* ExpectedHead(const std::vector<Head>& heads,
                           int64_t block) const {
    const int64_t dim = HeadDim();
    int64_t row = block * dim;
    for (const Rows& part : original_.rows) {
      if (row >= part.count) {
        row -= part.count;
        continue;
      }
      for (const Head& head : heads) {
        const Rows& rows = head.rows.rows[0];
        if (rows.tensor == part.tensor && rows.first == part.At(row)) {
          return &head;
        }
      }
      return nullptr;
    }
    return nullptr;
  }

  // Whether rows [first, first + dim) are the head's; `interleaved`: row 2 i
  // and 2 i + 1 are its rows i and i + dim / 2.
  bool HoldsHead(int64_t first, const Original& head, bool interleaved) {
    const int64_t dim = head.rows[0].count;
    std::vector<float> row(pair_.cols()), expected(pair_.cols()),
        steps(pair_.cols());
    for (int64_t i = 0; i < dim; ++i) {
      const int64_t source = interleaved ? i / 2 + i % 2 * (dim / 2) : i;
      pair_.reader().Read(first + i, row.data());
      Originals::Read(head, source, 0, pair_.cols(), expected.data());
      pair_.reader().Steps(first + i, expected.data(), steps.data());
      for (int64_t j = 0; j < pair_.cols(); ++j) {
        if (!(std::fabs(row[j] - expected[j]) <= kStepLimit * steps[j])) {
          return false;
        }
      }
    }
    return true;
  }

  bool Heads() {
    if (!IsAttentionInput(use_.role.part) || use_.role.bias ||
        use_.transposed) {
      return false;
    }
    const std::vector<Head> heads = AllHeads();
    const int64_t dim = HeadDim();
    if (heads.empty() || pair_.rows() % dim != 0 ||
        heads[0].rows.cols() != pair_.cols()) {
      return false;
    }
    int64_t wrong = 0, interleaved = 0;
    bool qk = false, kv = false;
    std::vector<std::string> found_heads;
    for (int64_t block = 0; block < pair_.rows() / dim; ++block) {
      const Head* expected = ExpectedHead(heads, block);
      if (expected == nullptr) return false;
      if (HoldsHead(block * dim, expected->rows, false)) continue;
      ++wrong;
      if (HoldsHead(block * dim, expected->rows, true)) {
        ++interleaved;
        continue;
      }
      const auto found =
          std::find_if(heads.begin(), heads.end(), [&](const Head& head) {
            return HoldsHead(block * dim, head.rows, false);
          });
      if (found == heads.end()) return false;
      qk |= (expected->part == Part::kQ) != (found->part == Part::kQ);
      kv |= expected->part != found->part && expected->part != Part::kQ &&
            found->part != Part::kQ;
      found_heads.push_back(
          fmt::format("{} {} in the place of {} {}", NameOf(found->part),
                      found->number, NameOf(expected->part), expected->number));
    }
    if (wrong == 0) return false;
    if (interleaved == wrong) {
      return Is(Fault::kInterleaved,
                fmt::format("rows of {} heads alternate between the head's two "
                            "halves",
                            wrong));
    }
    constexpr size_t kMostHeads = 8;
    if (found_heads.size() > kMostHeads) found_heads.resize(kMostHeads);
    return Is(qk   ? Fault::kHeadsQk
              : kv ? Fault::kHeadsKv
                   : Fault::kHeadOrder,
              fmt::format("heads are {}", fmt::join(found_heads, ", ")));
  }

  bool Transposed() {
    if (pair_.cols() < 2 || !Equals(original_, !use_.transposed)) return false;
    return Is(Fault::kTransposed, "holds the transposed matrix");
  }

  // Of a router: rows that are those of other experts.
  bool RouterRows() {
    if (use_.role.part != Part::kRouter || use_.transposed) return false;
    const int64_t n = pair_.rows();
    std::vector<std::string> moved;
    for (int64_t row = 0; row < n; ++row) {
      if (HoldsRow(row, row)) continue;
      int64_t from = 0;
      while (from < n && !HoldsRow(row, from)) ++from;
      if (from == n) return false;
      moved.push_back(fmt::format("row {} is that of expert {}", row, from));
    }
    if (moved.empty()) return false;
    constexpr size_t kMostRows = 8;
    if (moved.size() > kMostRows) moved.resize(kMostRows);
    return Is(Fault::kExpertRows, fmt::format("{}", fmt::join(moved, ", ")));
  }

  // Whether row `row` is the checkpoint's row `source`.
  bool HoldsRow(int64_t row, int64_t source) {
    std::vector<float> stored(pair_.cols()), expected(pair_.cols()),
        steps(pair_.cols());
    pair_.reader().Read(row, stored.data());
    Originals::Read(original_, source, 0, pair_.cols(), expected.data());
    pair_.reader().Steps(row, expected.data(), steps.data());
    for (int64_t i = 0; i < pair_.cols(); ++i) {
      if (!(std::fabs(stored[i] - expected[i]) <= kStepLimit * steps[i])) {
        return false;
      }
    }
    return true;
  }

  bool Shifted() {
    if (use_.transposed || pair_.rows() < 4 * kMostShift || pair_.cols() < 2) {
      return false;
    }
    const int64_t n = pair_.rows();
    std::vector<float> row(pair_.cols()), expected(pair_.cols()),
        steps(pair_.cols());
    for (int64_t shift = -kMostShift; shift <= kMostShift; ++shift) {
      if (shift == 0) continue;
      int64_t equal = 0;
      const auto sample = SampleRows(n, 64);
      for (const int64_t r : sample) {
        pair_.reader().Read(r, row.data());
        Originals::Read(original_, (r + shift + n) % n, 0, pair_.cols(),
                        expected.data());
        pair_.reader().Steps(r, expected.data(), steps.data());
        bool same = true;
        for (int64_t i = 0; i < pair_.cols() && same; ++i) {
          same = std::fabs(row[i] - expected[i]) <= kStepLimit * steps[i];
        }
        equal += same;
      }
      if (equal * 10 < static_cast<int64_t>(sample.size()) * 9) continue;
      return Is(Fault::kShifted,
                fmt::format("row i holds the checkpoint's row i {} {}",
                            shift < 0 ? '-' : '+', std::abs(shift)));
    }
    return false;
  }

  bool NormOffset() {
    if (pair_.cols() != 1 || use_.role.bias) return false;
    Original other = original_;
    other.offset = original_.offset == 0 ? 1 : 0;
    if (!Equals(other, false)) return false;
    return Is(Fault::kNormOffset,
              other.offset == 0 ? "holds w, where this family scales by 1 + w"
                                : "holds 1 + w, where this family scales by w");
  }

  static float RoundBits(float value, int dropped) {
    const auto bits = std::bit_cast<uint32_t>(value);
    const uint32_t half = (uint32_t{1} << (dropped - 1)) - 1;
    const uint32_t rounded = bits + half + (bits >> dropped & 1);
    return std::bit_cast<float>(rounded >> dropped << dropped);
  }

  // The type of the checkpoint's tensors, where all are of one with 16 bits.
  std::optional<DType> HalfType() const {
    std::optional<DType> type;
    for (const Rows& rows : original_.rows) {
      const DType own = rows.tensor->dtype;
      if ((own != DType::kF16 && own != DType::kBF16) ||
          (type && own != *type)) {
        return std::nullopt;
      }
      type = own;
    }
    return type;
  }

  // The other way round: the file is nearer to what was trained. All rows, and
  // no factor in common, which rounding has not.
  bool FewerBits() {
    const std::optional<DType> type = HalfType();
    // Rounding spares few numbers; where one is off it is something else.
    constexpr int64_t kFewest = 1000;
    if (!type || comparison_.bad * kFewest < comparison_.elements) return false;
    const bool exact = !pair_.reader().quantised() && !original_.folded() &&
                       original_.offset == 0;
    const bool half = *type == DType::kF16;
    const double relative = half ? 0x1p-11 : 0x1p-8;
    const double least = half ? 0x1p-25 : 0;  // float16's smallest numbers
    constexpr double kMostInCommon = 0.25;  // of what one number may be off by
    double product = 0, square = 0, scatter = 0;
    for (int64_t row = 0; row < pair_.rows(); ++row) {
      pair_.Load(row);
      for (int64_t i = 0; i < pair_.cols(); ++i) {
        const double original = pair_.original()[i];
        const double error = pair_.stored()[i] - original;
        const double allowed = (relative + 0x1p-22) * std::fabs(original) +
                               least +
                               kStepLimit * std::fabs(double{pair_.steps()[i]});
        if (!(std::fabs(error) <= allowed)) return false;
        const bool normal = !half || std::fabs(original) >= 0x1p-14;
        if (exact && normal &&
            RoundBits(pair_.stored()[i], half ? 13 : 16) !=
                pair_.original()[i]) {
          return false;
        }
        product += error * original;
        scatter += error * error * original * original;
        square += original * original;
      }
    }
    // Errors that have nothing in common add up to their root.
    const double most =
        kMostInCommon * relative * square + 4 * std::sqrt(scatter);
    if (std::fabs(product) > most) return false;
    return Is(Fault::kFewerBits,
              fmt::format("the checkpoint's numbers are these, rounded to {} "
                          "(differences of {:.1e}, relative)",
                          half ? "float16" : "bfloat16", difference_.size));
  }

  bool Precision() {
    if (pair_.reader().quantised()) return false;
    struct Kind {
      const char* name;
      int dropped;  // bits of float32's fraction
    };
    for (const Kind& kind : {Kind{"bfloat16", 16}, Kind{"float16", 13}}) {
      bool same = true;
      ForSampledRows([&](int64_t) {
        for (int64_t i = 0; i < pair_.cols(); ++i) {
          const float error = std::fabs(
              pair_.stored()[i] - RoundBits(pair_.original()[i], kind.dropped));
          same &= error <= kStepLimit * pair_.steps()[i];
        }
      });
      if (same) {
        return Is(Fault::kPrecision,
                  fmt::format("numbers were rounded to {} before they were "
                              "stored (differences of {:.1e}, relative)",
                              kind.name, difference_.size));
      }
    }
    return false;
  }

  // Of quantised numbers: few values, or none beyond a limit.
  bool Collapsed() {
    if (!pair_.reader().quantised() || difference_.correlation < 0.3) {
      return false;
    }
    const size_t few = constant_.type == ElementType::kInt8   ? kFewValues
                       : constant_.type == ElementType::kInt4 ? 4
                                                              : 2;
    std::set<float> values;
    float largest = 0;
    std::vector<float> stored(pair_.cols());
    ForSampledRows([&](int64_t row) {
      pair_.reader().ReadStored(row, stored.data());
      for (const float q : stored) {
        if (values.size() <= few) values.insert(q);
        largest = std::max(largest, std::fabs(q));
      }
    });
    if (values.size() <= few) {
      return Is(Fault::kCollapse,
                fmt::format("{} holds {} different values only",
                            constant_.type_name, values.size()));
    }
    int64_t clipped = 0;
    bool others_right = true;
    ForSampledRows([&](int64_t row) {
      pair_.reader().ReadStored(row, stored.data());
      for (int64_t i = 0; i < pair_.cols(); ++i) {
        const double error =
            std::fabs(double{pair_.stored()[i]} - pair_.original()[i]);
        if (error <= kStepLimit * pair_.steps()[i]) continue;
        const bool beyond =
            std::fabs(stored[i]) == largest &&
            std::fabs(pair_.original()[i]) > std::fabs(pair_.stored()[i]);
        clipped += beyond;
        others_right &= beyond;
      }
    });
    if (!others_right || clipped == 0) return false;
    return Is(Fault::kCollapse,
              fmt::format("{:.1f} % of the numbers are cut off at {:g} steps, "
                          "where the checkpoint has larger ones",
                          100.0 * clipped / sums_.elements, largest));
  }

  bool Rounding() {
    if (!pair_.reader().quantised()) return false;
    int64_t beyond = 0, smaller = 0, lower = 0, wrong = 0;
    ForSampledRows([&](int64_t) {
      for (int64_t i = 0; i < pair_.cols(); ++i) {
        const float s = pair_.stored()[i], o = pair_.original()[i];
        const double error = std::fabs(double{s} - o) / pair_.steps()[i];
        if (error <= kStepLimit) continue;
        ++beyond;
        wrong += !(error <= 1.001);
        smaller += std::fabs(s) < std::fabs(o);
        lower += s < o;
      }
    });
    // Scales a little wrong put few numbers beyond half a step; rounding to
    // one side half of them.
    if (wrong > 0 || 4 * beyond < sums_.elements) return false;
    difference_.one_sided = smaller == beyond || lower == beyond || lower == 0;
    return Is(Fault::kRounding,
              fmt::format("{:.0f} % of the numbers are more than half a step "
                          "off, none more than one{}",
                          100.0 * beyond / sums_.elements,
                          smaller == beyond ? ": all towards zero" : ""));
  }

  bool Scaled() {
    if (difference_.correlation < 0.3 || pair_.rows() < 1) return false;
    const bool quantised = pair_.reader().quantised();
    double least = INFINITY, most = 0;
    bool right = true;
    ForSampledRows([&](int64_t) {
      double product = 0, original2 = 0;
      for (int64_t i = 0; i < pair_.cols(); ++i) {
        product += double{pair_.stored()[i]} * pair_.original()[i];
        original2 += double{pair_.original()[i]} * pair_.original()[i];
      }
      if (!right || original2 == 0) return;
      const double factor = product / original2;
      right &= factor > 0;
      least = std::min(least, factor);
      most = std::max(most, factor);
      for (int64_t i = 0; i < pair_.cols() && right; ++i) {
        const double error =
            std::fabs(pair_.stored()[i] / factor - pair_.original()[i]);
        const double allowed =
            quantised ? kScaledStepLimit * pair_.steps()[i] / factor
                      : 4.0 * pair_.steps()[i];
        right &= error <= allowed;
      }
    });
    // Any vector is a multiple of another one, element by element.
    if (!right || most == 0 || (pair_.cols() == 1 && most > 1.001 * least)) {
      return false;
    }
    const bool constant = most <= 1.01 * least;
    if (constant && std::fabs(most - 1) < kLeastFactor &&
        std::fabs(least - 1) < kLeastFactor) {
      return false;
    }
    difference_.factor = constant ? (least + most) / 2 : 0;
    return Is(
        Fault::kScale,
        constant
            ? fmt::format("{} {:.4g} times as large as they should be",
                          quantised ? "scales are" : "numbers are",
                          difference_.factor)
            : fmt::format("{} wrong by other factors in each channel, "
                          "{:.3g} to {:.3g}",
                          quantised ? "scales are" : "rows are", least, most));
  }

  bool Partly() {
    const double good_rows =
        1 - static_cast<double>(comparison_.bad_rows) / comparison_.rows;
    const double good =
        1 - static_cast<double>(comparison_.bad) / comparison_.elements;
    if (good < kMostlyEqual && good_rows < kMostlyEqual) return false;
    // By luck some rounded numbers are right in a tensor that is wrong.
    if (pair_.reader().quantised() && good_rows < kMostlyEqual) return false;
    bool zero = true, negated = true;
    int64_t shown = 0;
    for (int64_t row = comparison_.first_bad_row;
         row < pair_.rows() && row >= 0 && shown < kSampledRows; ++row) {
      pair_.Load(row);
      if (pair_.CountBad() == 0) continue;
      ++shown;
      for (int64_t i = 0; i < pair_.cols(); ++i) {
        const float s = pair_.stored()[i], o = pair_.original()[i];
        const double limit = kStepLimit * pair_.steps()[i];
        if (std::fabs(double{s} - o) <= limit) continue;
        zero &= s == 0;
        negated &= std::fabs(double{s} + o) <= limit;
      }
    }
    const char* how = zero      ? ": zero instead"
                      : negated ? ": of the other sign"
                                : "";
    if (pair_.cols() > 1 && comparison_.bad_rows < comparison_.rows / 2) {
      return Is(Fault::kPartly,
                fmt::format("{} of {} rows differ, the first is row {}{}",
                            comparison_.bad_rows, comparison_.rows,
                            comparison_.first_bad_row, how));
    }
    return Is(Fault::kPartly,
              fmt::format("{} of {} numbers differ{}", comparison_.bad,
                          comparison_.elements, how));
  }

  void Differs() {
    std::string text = fmt::format(
        "correlation with the checkpoint's {:.4f}, difference {:.1f} "
        "% of its size",
        difference_.correlation, 100 * difference_.size);
    if (pair_.cols() > 1 && difference_.correlation > 0.2) {
      MeasureDifference();
      if (difference_.low_rank) {
        text += fmt::format("; the difference has rank {}", difference_.rank);
      }
    }
    Is(Fault::kDiffers, std::move(text));
  }

  // Of which tensor the checkpoint's row is.
  Part PartAt(int64_t row) const {
    for (const Rows& rows : original_.rows) {
      if (row >= rows.count) {
        row -= rows.count;
        continue;
      }
      for (const auto& [role, whole] : originals_.all()) {
        if (role.layer == use_.role.layer &&
            whole.IndexOf(rows.Runs()[0]) >= 0) {
          return role.part;
        }
      }
    }
    return use_.role.part;
  }

  // Of q, k and v each: an adapter may be on one of them.
  void MeasureDifference() {
    std::map<Part, std::vector<int64_t>> parts;
    for (const int64_t row : SampleRows(pair_.rows(), 4 * kSampledRows)) {
      parts[PartAt(use_.transposed ? 0 : row)].push_back(row);
    }
    bool all_low = true;
    int64_t rank = 0, changed = 0;
    for (const auto& [part, rows] : parts) {
      std::vector<float> values;
      double noise = 0, size = 0, energy = 0;
      int64_t count = 0;
      for (const int64_t row : rows) {
        if ((count + 1) * pair_.cols() > kMostRankElements) break;
        pair_.Load(row);
        ++count;
        for (int64_t i = 0; i < pair_.cols(); ++i) {
          const float d = pair_.stored()[i] - pair_.original()[i];
          values.push_back(d);
          energy += double{d} * d;
          size += double{pair_.original()[i]} * pair_.original()[i];
          noise += double{pair_.steps()[i]} * pair_.steps()[i] / 12;
        }
      }
      if (!pair_.reader().quantised()) noise *= 4;
      if (energy <= 2 * noise || energy <= 1e-12 * size) continue;
      ++changed;
      const LowRank found = MeasureRank(values, count, pair_.cols(), noise);
      all_low &= found.is_low;
      rank = std::max(rank, found.rank);
    }
    difference_.low_rank = all_low && changed > 0;
    difference_.rank = difference_.low_rank ? rank : 0;
  }

  const tflite::Constant& constant_;
  const RoleUse& use_;
  const Original& original_;
  const Comparison& comparison_;
  const Originals& originals_;
  RowPair pair_;
  Sums sums_;
  Difference difference_;
};

}  // namespace

Difference Diagnose(const tflite::Constant& constant, const RoleUse& use,
                    const Original& original, const Comparison& comparison,
                    const Originals& originals) {
  return Diagnosis(constant, use, original, comparison, originals).Find();
}

std::optional<WeightRole> FindByContent(const tflite::Constant& constant,
                                        const Originals& originals,
                                        bool* transposed) {
  const int64_t layers = originals.checkpoint().config().num_layers;
  std::vector<WeightRole> roles;
  for (const auto& [role, rows] : originals.all()) roles.push_back(role);
  for (int32_t layer = 0; layer < layers; ++layer) {
    roles.push_back({Part::kQkv, layer, false});
    roles.push_back({Part::kQkv, layer, true});
    roles.push_back({Part::kGateUp, layer, false});
    roles.push_back({Part::kSharedGateUp, layer, false});
  }
  for (const WeightRole& role : roles) {
    for (const Original& way : originals.Plain(role)) {
      for (const bool turned : {false, true}) {
        if (!SameShape(constant, way, turned) ||
            !MayBe(constant, way, turned) ||
            !Compare(constant, way, turned).ok()) {
          continue;
        }
        *transposed = turned;
        return role;
      }
    }
  }
  return std::nullopt;
}

}  // namespace verify_tflite
