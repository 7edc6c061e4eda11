#include "locate/agreement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"

namespace verify_tflite {
namespace {

using Floats = std::vector<float>;

TEST(Agreement, OfEqualNumbers) {
  const Floats x = {1, -2, 3};
  const Agreement a = MeasureAgreement(x, x);
  EXPECT_EQ(a.nmse, 0);
  EXPECT_DOUBLE_EQ(a.cosine, 1);
  EXPECT_EQ(a.norm_ratio, 1);
}

// numpy, float64: ((c-r)**2).sum()/(r**2).sum(), c@r/norm(c)/norm(r),
// norm(c)/norm(r) of these two.
TEST(Agreement, AsNumpyComputesIt) {
  const Floats r = {0.5, -1.25, 2, 3.5};
  const Floats c = {0.75, -1, 1.5, 4};
  const Agreement a = MeasureAgreement(r, c);
  EXPECT_DOUBLE_EQ(a.nmse, 0.03460207612456748);
  EXPECT_DOUBLE_EQ(a.cosine, 0.9845498528112687);
  EXPECT_DOUBLE_EQ(a.norm_ratio, 1.0473231655744033);
}

TEST(Agreement, ClosedForms) {
  const Floats x = {3, 4};
  const Agreement twice = MeasureAgreement(x, Floats{6, 8});
  EXPECT_DOUBLE_EQ(twice.nmse, 1);
  EXPECT_DOUBLE_EQ(twice.cosine, 1);
  EXPECT_DOUBLE_EQ(twice.norm_ratio, 2);
  const Agreement negative = MeasureAgreement(x, Floats{-3, -4});
  EXPECT_DOUBLE_EQ(negative.nmse, 4);
  EXPECT_DOUBLE_EQ(negative.cosine, -1);
  const Agreement turned = MeasureAgreement(x, Floats{-4, 3});
  EXPECT_DOUBLE_EQ(turned.nmse, 2);
  EXPECT_DOUBLE_EQ(turned.cosine, 0);
  EXPECT_DOUBLE_EQ(turned.norm_ratio, 1);
}

TEST(Agreement, OfZerosAndOfNothing) {
  const Floats zero = {0, 0};
  const Floats x = {1, 2};
  const Agreement both = MeasureAgreement(zero, zero);
  EXPECT_EQ(both.nmse, 0);
  EXPECT_EQ(both.cosine, 1);
  EXPECT_EQ(both.norm_ratio, 1);
  const Agreement unwritten = MeasureAgreement(x, zero);
  EXPECT_EQ(unwritten.nmse, 1);
  EXPECT_EQ(unwritten.cosine, 0);
  EXPECT_EQ(unwritten.norm_ratio, 0);
  EXPECT_EQ(MeasureAgreement(zero, x).nmse, INFINITY);
  EXPECT_TRUE(std::isnan(MeasureAgreement({}, {}).nmse));
}

TEST(Agreement, NotFinite) {
  const Floats x = {1, 2};
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    const Agreement a = MeasureAgreement(x, Floats{1, bad});
    EXPECT_EQ(a.nmse, INFINITY);
    EXPECT_EQ(a.cosine, 0);
    EXPECT_EQ(a.norm_ratio, INFINITY);
    EXPECT_THROW(MeasureAgreement(Floats{1, bad}, x), Error);
  }
}

// Squares of these overflow float32.
TEST(Agreement, LargeNumbers) {
  const Agreement a = MeasureAgreement(Floats{1e30f, 1e30f}, Floats{1e30f, 0});
  EXPECT_DOUBLE_EQ(a.nmse, 0.5);
  EXPECT_DOUBLE_EQ(a.cosine, std::sqrt(0.5));
}

TEST(HeadsAgreement, TellsHeadsApart) {
  // Two rows of three heads of two.
  const Floats r = {1, 1, 2, 2, 3, 3, 1, 1, 2, 2, 3, 3};
  Floats c = r;
  c[3] = 0;   // head 1: 4 of 16
  c[11] = 4;  // head 2: 1 of 36
  const HeadsAgreement a = MeasureHeads(r, c, 3, 2);
  ASSERT_EQ(a.heads.size(), 3u);
  EXPECT_EQ(a.heads[0].nmse, 0);
  EXPECT_DOUBLE_EQ(a.heads[1].nmse, 4.0 / 16);
  EXPECT_DOUBLE_EQ(a.heads[2].nmse, 1.0 / 36);
  EXPECT_EQ(a.worst_head, 1u);
  EXPECT_DOUBLE_EQ(a.all.nmse, 5.0 / 56);
}

TEST(HeadsAgreement, RefusesOtherShapes) {
  const Floats x(12, 1);
  EXPECT_THROW(MeasureHeads(x, Floats(11, 1), 3, 2), Error);
  EXPECT_THROW(MeasureHeads(x, x, 5, 2), Error);
  EXPECT_THROW(MeasureHeads(x, x, 0, 2), Error);
  EXPECT_THROW(MeasureHeads(x, x, 2, 0), Error);
  EXPECT_TRUE(MeasureHeads({}, {}, 2, 2).heads.empty());
}

}  // namespace
}  // namespace verify_tflite
