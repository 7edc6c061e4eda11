#include "audit/graph.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

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
  for (size_t size = 0; size < Good().size(); ++size) {
    try {
      Read(Good().substr(0, size));
      // Only what nothing points to may be missing.
      EXPECT_GT(size + 8, Good().size());
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr("a.tflite is damaged or incomplete"));
    }
  }
}

TEST(AuditedFile, RandomDamage) {
  std::mt19937 random(1);
  int refused = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string content = Good();
    for (size_t n = 1 + random() % 4; n > 0; --n) {
      content[random() % content.size()] = static_cast<char>(random());
    }
    try {
      Read(content);
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 5000);
}

}  // namespace
}  // namespace verify_tflite
