#include "base/flatbuffer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace verify_tflite {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

// By hand, after https://flatbuffers.dev/internals/: a root table with a uint16
// (field 0), a string (field 2) and a vector of two tables (field 3).
const std::string kGood(
    "\x10\0\0\0"                      // 0: root at 16
    "\x0c\0\x10\0"                    // 4: vtable: 12 bytes, table of 16
    "\x04\0\0\0\x08\0\x0c\0"          // 8: fields 0, (1), 2, 3
    "\x0c\0\0\0\x07\x01\0\0"          // 16: vtable 12 before; 263
    "\x08\0\0\0\x0c\0\0\0"            // 24: string at 32, vector at 40
    "\x02\0\0\0hi\0\0"                // 32
    "\x02\0\0\0\x0c\0\0\0\x08\0\0\0"  // 40: tables at 56, 56
    "\x04\0\x04\0"                    // 52: an empty vtable
    "\x04\0\0\0",                     // 56: an empty table
    60);

std::span<const std::byte> Bytes(const std::string& text) {
  return std::as_bytes(std::span(text));
}

// Visits everything that the reader offers.
size_t Walk(const std::string& content) {
  FlatBuffer buffer(Bytes(content), "file: header");
  const FlatTable root = FlatTable::Root(buffer);
  size_t sum = root.Scalar<uint16_t>(0, 0) + root.String(2).size();
  const FlatTables tables = root.Tables(3);
  for (size_t i = 0; i < tables.size(); ++i) {
    sum += tables[i].Scalar<int64_t>(0, 1);
  }
  const auto scalars = root.Scalars<int32_t>(2);
  for (size_t i = 0; i < scalars.size(); ++i) sum += scalars[i] & 1;
  return sum;
}

TEST(FlatBuffer, ReadsFields) {
  FlatBuffer buffer(Bytes(kGood), "file: header");
  const FlatTable root = FlatTable::Root(buffer);
  EXPECT_EQ(root.Scalar<uint16_t>(0, 5), 263);
  EXPECT_EQ(root.Scalar<uint16_t>(1, 5), 5);
  EXPECT_EQ(root.Scalar<uint16_t>(99, 5), 5);
  EXPECT_EQ(root.String(2), "hi");
  EXPECT_EQ(root.String(1), "");
  EXPECT_EQ(root.Tables(3).size(), 2u);
  EXPECT_EQ(root.Tables(3)[1].Scalar<int8_t>(0, 9), 9);
  EXPECT_FALSE(root.Table(1).has_value());
  EXPECT_EQ(root.Scalars<int32_t>(1).size(), 0u);
  EXPECT_THROW(root.Tables(3)[2], Error);
}

TEST(FlatBuffer, TruncatedAnywhere) {
  for (size_t size = 0; size < kGood.size(); ++size) {
    EXPECT_THAT([&] { Walk(kGood.substr(0, size)); },
                ThrowsMessage<Error>(
                    HasSubstr("file: header is damaged or incomplete")))
        << size;
  }
}

TEST(FlatBuffer, EveryByteChanged) {
  size_t refused = 0;
  for (size_t at = 0; at < kGood.size(); ++at) {
    for (const char value : {'\0', '\1', '\x7F', '\x80', '\xFF'}) {
      std::string bad = kGood;
      bad[at] = value;
      try {
        Walk(bad);
      } catch (const Error&) {
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 50u);
}

TEST(FlatBuffer, HugeCounts) {
  std::string bad = kGood;
  bad.replace(40, 4, "\xFF\xFF\xFF\x7F", 4);
  EXPECT_THROW(Walk(bad), Error);
  bad = kGood;
  bad.replace(32, 4, "\xFF\xFF\xFF\xFF", 4);
  EXPECT_THROW(Walk(bad), Error);
}

// A file of n bytes must not name n * n tables.
TEST(FlatBuffer, SharedTablesAreLimited) {
  FlatBuffer buffer(Bytes(kGood), "file");
  const FlatTables tables = FlatTable::Root(buffer).Tables(3);
  EXPECT_THAT(
      [&] {
        for (int i = 0; i < 60; ++i) tables[0];
      },
      ThrowsMessage<Error>(HasSubstr("shared")));
}

}  // namespace
}  // namespace verify_tflite
