#include "base/mapped_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>
#include <utility>

#include "base/error.h"
#include "base/testing.h"

namespace verify_tflite {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

std::string Text(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()),
          file.bytes().size()};
}

TEST(MappedFile, ShowsTheBytesAndKeepsTheAddressWhenMoved) {
  const TempDir dir;
  MappedFile file(dir.Write("f", "hello"));
  EXPECT_EQ(Text(file), "hello");
  const auto* address = file.bytes().data();
  MappedFile moved = std::move(file);
  EXPECT_EQ(moved.bytes().data(), address);
  file = std::move(moved);
  EXPECT_EQ(file.bytes().data(), address);
}

TEST(MappedFile, RefusesWhatIsNoReadableFile) {
  const TempDir dir;
  const std::string fifo = dir.File("fifo");
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_THAT([&] { MappedFile{dir.File("absent")}; },
              ThrowsMessage<Error>(HasSubstr("No such file")));
  EXPECT_THAT([&] { MappedFile{dir.path()}; },
              ThrowsMessage<Error>(HasSubstr("is a directory")));
  EXPECT_THAT([&] { MappedFile{dir.Write("empty", "")}; },
              ThrowsMessage<Error>(HasSubstr("the file is empty")));
  EXPECT_THAT([&] { MappedFile{fifo}; },
              ThrowsMessage<Error>(HasSubstr("not a regular file")));
}

}  // namespace
}  // namespace verify_tflite
