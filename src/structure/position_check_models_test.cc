// What depends on positions alone is what config.json says, at all positions,
// in sound conversions of every family and converter.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cctype>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/testing.h"
#include "checkpoint/checkpoint.h"
#include "mapping/file_graph.h"
#include "reference/reference.h"
#include "structure/position_check.h"
#include "tflite/file.h"

namespace verify_tflite {
namespace {

using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

PositionResult Check(const std::string& path, const std::string& from) {
  const Checkpoint checkpoint = Checkpoint::Open(ModelPath(from));
  Model::OpenOptions options;
  options.sliding_window = SlidingWindowOf(checkpoint.config());
  const Model model = Model::Open(path, options);
  const FileGraph file = OpenFileGraph(path, checkpoint);
  const Reference reference = Reference::Open(checkpoint, {.num_threads = 1});
  return CheckPositions(
      model, *file.file, checkpoint.config(),
      {reference.RopeFrequencies(false), reference.RopeFrequencies(true)});
}

void ExpectRight(const std::string& model, const std::string& checkpoint) {
  const PositionResult result = Check(ModelPath(model), checkpoint);
  for (const PositionFault& f : result.faults) {
    ADD_FAILURE() << f.signature << ": " << f.what << " at " << f.at
                  << ", column " << f.column << " is " << f.found << ", not "
                  << f.expected << "; " << f.values << " values at "
                  << f.positions << " positions";
  }
  EXPECT_THAT(result.gaps, IsEmpty());
  EXPECT_THAT(result.kinds, Not(IsEmpty()));
}

class SoundPositions : public testing::TestWithParam<SoundModel> {};

TEST_P(SoundPositions, AreRightAtAllPositions) {
  ExpectRight(GetParam().file, GetParam().checkpoint);
}

INSTANTIATE_TEST_SUITE_P(Models, SoundPositions,
                         testing::ValuesIn(SoundModelsOf("positions")),
                         CaseName);

TEST(Positions, DoNotDependOnTheWeights) {
  ExpectRight("tiny_wrong_weights.tflite", "tiny");
}

// Changes a constant of a copy of a file, as a mishap on the way would.
class PatchedFile {
 public:
  PatchedFile(const std::string& model, const std::vector<int64_t>& shape,
              const std::function<void(std::span<float>)>& change)
      : bytes_(ReadFile(ModelPath(model))) {
    const auto all = std::as_writable_bytes(std::span(bytes_));
    const tflite::File file = tflite::File::Read(all, model);
    for (const tflite::Constant& constant : file.constants) {
      if (constant.type != ElementType::kFloat32 || constant.shape != shape) {
        continue;
      }
      const auto at = static_cast<size_t>(constant.data.data() - all.data());
      change({reinterpret_cast<float*>(bytes_.data() + at),
              constant.data.size() / sizeof(float)});
      ++changed_;
    }
    path_ = dir_.Write("model.tflite", bytes_);
  }
  int changed() const { return changed_; }
  const std::string& path() const { return path_; }

 private:
  TempDir dir_;
  std::string bytes_;
  std::string path_;
  int changed_ = 0;
};

using Kind = PositionFault::Kind;

TEST(PositionFaults, OneSlotOfOneRowOfTheMask) {
  for (const int64_t row : {1, 100, 255}) {
    SCOPED_TRACE(row);
    const PatchedFile file("tiny_q8.tflite", {256, 1, 1, 256},
                           [&](std::span<float> mask) {
                             mask[static_cast<size_t>(row * 256)] = -1e9f;
                           });
    ASSERT_EQ(file.changed(), 1);
    const PositionResult result = Check(file.path(), "tiny");
    EXPECT_THAT(result.gaps, IsEmpty());
    ASSERT_THAT(result.faults,
                SizeIs(3));  // two lengths of prefill, and decode
    for (const PositionFault& fault : result.faults) {
      EXPECT_EQ(fault.kind, Kind::kMask);
      EXPECT_EQ(fault.first, row);
      EXPECT_EQ(fault.last, row);
      EXPECT_EQ(fault.positions, 1);
      EXPECT_EQ(fault.column, 0);
      EXPECT_EQ(fault.expected, 0);
    }
  }
}

// No run of a verification comes to these positions.
TEST(PositionFaults, RowsThatSeeTheFuture) {
  const PatchedFile file("tiny_f32.tflite", {256, 1, 1, 256},
                         [](std::span<float> mask) {
                           for (size_t row = 150; row <= 170; ++row) {
                             mask[row * 256 + row + 1] = 0;
                           }
                         });
  const PositionResult result = Check(file.path(), "tiny");
  ASSERT_THAT(result.faults, SizeIs(3));
  EXPECT_EQ(result.faults[0].first, 150);
  EXPECT_EQ(result.faults[0].last, 170);
  EXPECT_EQ(result.faults[0].positions, 21);
}

TEST(PositionFaults, OneFrequencyOfRope) {
  for (const char* model : {"tiny_f32.tflite", "tiny_hf_q8.tflite"}) {
    SCOPED_TRACE(model);
    const PatchedFile file(model, {1, 1, 8}, [](std::span<float> frequencies) {
      frequencies[2] *= 1 + 1e-4f;
    });
    ASSERT_GT(file.changed(), 0);
    const PositionResult result = Check(file.path(), "tiny");
    ASSERT_THAT(result.faults, Not(IsEmpty()));
    EXPECT_EQ(result.faults[0].kind, Kind::kRope);
    EXPECT_EQ(result.faults[0].column % 8, 2);
  }
}

// What is wrong everywhere is something else: nothing is accused, and nothing
// passes.
TEST(PositionFaults, AnotherBaseIsNotUnderstood) {
  const PatchedFile file("tiny_f32.tflite", {1, 1, 8},
                         [](std::span<float> frequencies) {
                           for (float& f : frequencies) f *= 1.7f;
                         });
  const PositionResult result = Check(file.path(), "tiny");
  EXPECT_THAT(result.gaps, Not(IsEmpty()));
}

std::vector<ShortTable> ShortTablesOf(const std::string& name) {
  const Model model = Model::Open(ModelPath(name));
  const FileGraph file =
      OpenFileGraph(ModelPath(name), Checkpoint::Open(ModelPath("tiny")));
  return FindShortTables(model, *file.file);
}

TEST(FindShortTables, FindsTheFirstPositionOfEachSignature) {
  for (const char* name :
       {"mut_f32_mask_short.tflite", "mut_q8_mask_short.tflite"}) {
    const std::vector<ShortTable> tables = ShortTablesOf(name);
    EXPECT_THAT(tables, SizeIs(3));  // decode, prefill_8, prefill_64
    for (const ShortTable& table : tables) {
      SCOPED_TRACE(table.signature);
      EXPECT_EQ(table.first, 200);
      EXPECT_EQ(table.positions, 256);
      EXPECT_EQ(table.table, "[200, 1, 1, 256]");
      EXPECT_THAT(table.error, testing::HasSubstr("index out of bounds"));
    }
  }
}

TEST(FindShortTables, FindsNoneInSoundFiles) {
  for (const char* name :
       {"tiny_f32.tflite", "tiny_q8.tflite", "tiny_export_hf.tflite",
        "tiny_transposed.tflite", "tiny_batch.tflite"}) {
    EXPECT_THAT(ShortTablesOf(name), IsEmpty()) << name;
  }
}

}  // namespace
}  // namespace verify_tflite
