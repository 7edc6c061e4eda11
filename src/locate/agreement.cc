#include "locate/agreement.h"

#include <cmath>

#include "base/error.h"

namespace verify_tflite {
namespace {

struct Sums {
  double rr = 0;
  double cc = 0;
  double rc = 0;
  double dd = 0;  // of (c - r)^2
  bool finite = true;

  void Add(float reference, float candidate) {
    const double r = reference;
    const double c = candidate;
    finite = finite && std::isfinite(candidate);
    rr += r * r;
    cc += c * c;
    rc += r * c;
    dd += (c - r) * (c - r);
  }

  void Add(const Sums& other) {
    rr += other.rr;
    cc += other.cc;
    rc += other.rc;
    dd += other.dd;
    finite = finite && other.finite;
  }
};

Agreement AgreementOf(const Sums& sums) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (!std::isfinite(sums.rr)) {
    throw Error("the reference has NaN or infinite activations");
  }
  if (!sums.finite) return {kInfinity, 0, kInfinity};
  if (sums.rr == 0 && sums.cc == 0) return {0, 1, 1};
  if (sums.rr == 0) return {kInfinity, 0, kInfinity};
  if (sums.cc == 0) return {1, 0, 0};
  return {.nmse = sums.dd / sums.rr,
          .cosine = sums.rc / std::sqrt(sums.rr) / std::sqrt(sums.cc),
          .norm_ratio = std::sqrt(sums.cc / sums.rr)};
}

}  // namespace

Agreement MeasureAgreement(std::span<const float> reference,
                           std::span<const float> candidate) {
  if (reference.empty() && candidate.empty()) return {};
  return MeasureHeads(reference, candidate, 1,
                      static_cast<int64_t>(reference.size()))
      .all;
}

HeadsAgreement MeasureHeads(std::span<const float> reference,
                            std::span<const float> candidate, int64_t heads,
                            int64_t head_dim) {
  if (reference.size() != candidate.size()) {
    throw Error("cannot compare {} numbers with {}", candidate.size(),
                reference.size());
  }
  if (reference.empty()) return {};
  const auto count = static_cast<size_t>(heads);
  const auto size = static_cast<size_t>(head_dim);
  if (heads <= 0 || head_dim <= 0 || reference.size() % size != 0 ||
      reference.size() / size % count != 0) {
    throw Error("{} numbers are no rows of {} heads of {}", reference.size(),
                heads, head_dim);
  }
  std::vector<Sums> sums(count);
  for (size_t i = 0; i < reference.size(); ++i) {
    sums[i / size % count].Add(reference[i], candidate[i]);
  }
  Sums all;
  HeadsAgreement result;
  for (const Sums& head : sums) {
    all.Add(head);
    result.heads.push_back(AgreementOf(head));
    if (result.heads.back().nmse > result.heads[result.worst_head].nmse) {
      result.worst_head = result.heads.size() - 1;
    }
  }
  result.all = AgreementOf(all);
  return result;
}

}  // namespace verify_tflite
