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

}  // namespace
}  // namespace verify_tflite
