#include "base/protobuf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "base/error.h"

namespace verify_tflite {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

const std::string kWhat = "file: message";

// The examples of https://protobuf.dev/programming-guides/encoding/.
TEST(ProtoReader, ReadsTheExamplesOfTheSpecification) {
  ProtoReader one("\x08\x96\x01", kWhat);
  ASSERT_TRUE(one.Next());
  EXPECT_EQ(one.field(), 1u);
  EXPECT_EQ(one.Int(), 150);
  EXPECT_FALSE(one.Next());

  ProtoReader two("\x12\x07testing", kWhat);
  ASSERT_TRUE(two.Next());
  EXPECT_EQ(two.field(), 2u);
  EXPECT_EQ(two.Bytes(), "testing");
  EXPECT_THROW(two.Int(), Error);

  ProtoReader packed("\x32\x06\x03\x8e\x02\x9e\xa7\x05", kWhat);
  ASSERT_TRUE(packed.Next());
  EXPECT_EQ(packed.field(), 6u);
  std::vector<int32_t> values;
  packed.AppendInts(values);
  EXPECT_THAT(values, ElementsAre(3, 270, 86942));

  ProtoReader negative("\x08\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", kWhat);
  ASSERT_TRUE(negative.Next());
  EXPECT_EQ(negative.Int(), -2);
}

TEST(ProtoReader, PassesOverFixedWidths) {
  const std::string message("\x0d\1\2\3\4\x11\1\2\3\4\5\6\7\x08\x18\x05", 16);
  ProtoReader reader(message, kWhat);
  ASSERT_TRUE(reader.Next());
  EXPECT_THROW(reader.Bytes(), Error);
  ASSERT_TRUE(reader.Next());
  ASSERT_TRUE(reader.Next());
  EXPECT_EQ(reader.field(), 3u);
  EXPECT_EQ(reader.Int(), 5);
}

void Walk(std::string_view bytes) {
  for (ProtoReader reader(bytes, kWhat); reader.Next();) {
    std::vector<int32_t> values;
    try {
      reader.AppendInts(values);
    } catch (const Error&) {
    }
  }
}

TEST(ProtoReader, RefusesWhatIsNoMessage) {
  for (const std::string& bad :
       {std::string("\x08"), std::string("\x08\x80"),
        std::string("\x12\x07test"), std::string("\x0d\1\2\3"),
        std::string("\x11\1"), std::string("\x0b"), std::string("\x0f"),
        std::string("\x00\x01", 2),
        std::string("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        std::string("\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        std::string("\xff\xff\xff\xff\xff\xff\x01\x01")}) {
    EXPECT_THAT([&] { Walk(bad); },
                ThrowsMessage<Error>(HasSubstr("file: message is damaged")));
  }
}

TEST(ProtoReader, RandomBytes) {
  std::mt19937 random(1);
  for (int i = 0; i < 20000; ++i) {
    std::string bytes(random() % 40, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    try {
      Walk(bytes);
    } catch (const Error&) {
    }
  }
}

}  // namespace
}  // namespace verify_tflite
