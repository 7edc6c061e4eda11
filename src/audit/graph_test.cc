#include "audit/graph.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "audit/roles.h"
#include "base/error.h"
#include "base/testing.h"

namespace verify_tflite {
namespace {

using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

// Made by the schema classes of ai-edge-litert (tools/record_tflite.py).
const std::string& Good() {
  static const std::string content = ReadFile(TestDataPath("small.tflite"));
  return content;
}

AuditedFile Read(const std::string& content) {
  AuditedFile file =
      ReadAuditedFile(std::as_bytes(std::span(content)), "a.tflite");
  FindRoles(file, 1, 4);
  return file;
}

TEST(AuditedFile, ReadsWhatIsInIt) {
  const AuditedFile file = Read(Good());
  ASSERT_EQ(file.graphs.size(), 2u);
  EXPECT_EQ(file.graphs[0].signature, "decode");
  std::vector<std::string> types;
  for (const StoredConstant& constant : file.constants) {
    if (constant.type_name != "other") {
      types.push_back(constant.type_name);
    }
  }
  EXPECT_THAT(types, UnorderedElementsAre(
                         "FLOAT32", "INT4 in blocks of 32 without their scales",
                         "INT8 per channel", "INT8 per tensor"));
}

TEST(AuditedFile, TruncatedAnywhere) {
  ExpectTruncationsRefused(Good(), "a.tflite is damaged or incomplete", Read);
}

TEST(AuditedFile, RandomDamage) {
  EXPECT_GT(CountRefusedDamage(Good(), 20000, Read), 5000);
}

TEST(ZeroScales, AreFound) {
  AuditedFile file;
  file.constants.resize(2);
  file.constants[0].scales = {0.5, 0.25};
  EXPECT_EQ(FindZeroScales(file).constants, 0);
  file.constants[1].name = "gate";
  file.constants[1].scales = {1, 0, 0};
  const ZeroScales zeros = FindZeroScales(file);
  EXPECT_EQ(zeros.constants, 1);
  EXPECT_EQ(zeros.count, 2);
  EXPECT_EQ(zeros.row, 1);
  EXPECT_THAT(Describe(zeros), HasSubstr("\"gate\""));
}

}  // namespace
}  // namespace verify_tflite
