// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/testing.h"
#include "mapping/originals.h"
#include "mapping/stored.h"

namespace verify_tflite {
namespace {

using ::testing::SizeIs;

// Six heads of 16 in two groups: three queries, a key and a value in turn.
TEST(Originals, GroupedQkv) {
  const Checkpoint checkpoint = Checkpoint::Open(ModelPath("ref_falcon_new"));
  const int64_t dim = checkpoint.config().head_dim;
  const Originals originals(checkpoint);
  const auto rows = [&](Part part) {
    return originals.all().at({part, 1, false});
  };
  EXPECT_EQ(rows(Part::kQ).count, 6 * dim);
  EXPECT_EQ(rows(Part::kK).count, 2 * dim);
  EXPECT_EQ(rows(Part::kQ).At(3 * dim - 1), 3 * dim - 1);
  EXPECT_EQ(rows(Part::kQ).At(3 * dim), 5 * dim);
  EXPECT_EQ(rows(Part::kK).At(0), 3 * dim);
  EXPECT_EQ(rows(Part::kK).At(dim + 1), 8 * dim + 1);
  EXPECT_EQ(rows(Part::kV).At(dim), 9 * dim);
  // As the checkpoint has them: the tensor as it is.
  const Original way = originals.Plain({Part::kQkv, 1, false})[0];
  std::vector<float> row(way.cols()), expected(row);
  for (int64_t r = 0; r < way.num_rows(); ++r) {
    Originals::Read(way, r, 0, way.cols(), row.data());
    ToFloats(*way.rows[0].tensor, r * way.cols(), way.cols(), expected.data());
    ASSERT_EQ(row, expected) << r;
  }
}

TEST(Rows, PartsInRuns) {
  const TensorView tensor;
  const Rows rows{&tensor, "", 4, 6, 1, 2, 10};
  EXPECT_THAT(rows.Runs(), SizeIs(3));
  EXPECT_EQ(rows.Runs()[2].first, 24);
  EXPECT_EQ(rows.Slice(3, 1).first, 15);
  EXPECT_EQ(rows.Slice(2, 4).At(3), 25);
  EXPECT_EQ(rows.IndexOf({&tensor, "", 15, 1, 1}), 3);
  EXPECT_EQ(rows.IndexOf({&tensor, "", 15, 2, 1}), -1);
  EXPECT_EQ(rows.IndexOf({&tensor, "", 16, 1, 1}), -1);
  EXPECT_EQ(rows.IndexOf({&tensor, "", 34, 1, 1}), -1);
  EXPECT_EQ(rows.IndexOf({nullptr, "", 15, 1, 1}), -1);
}

}  // namespace
}  // namespace verify_tflite
