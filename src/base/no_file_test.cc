#include "base/no_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/error.h"

namespace verify_tflite {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TEST(RefuseNoFile, NamesGitLfsAndTheRemedy) {
  const std::string pointer =
      "version https://git-lfs.github.com/spec/v1\n"
      "oid sha256:4d7a\nsize 13277424\n";
  const auto refused = ThrowsMessage<Error>(
      AllOf(HasSubstr("dir/model.safetensors: is a Git LFS pointer"),
            HasSubstr("git lfs pull")));
  EXPECT_THAT([&] { RefuseNoFile(pointer, "dir/model.safetensors"); }, refused);
  EXPECT_THAT([&] { RefuseLfsPointer(pointer, "dir/model.safetensors"); },
              refused);
}

TEST(RefuseNoFile, NamesWhatAServerAnswered) {
  const auto refuses = [](const std::string& content, const char* says) {
    EXPECT_THAT([&] { RefuseNoFile(content, "f"); },
                ThrowsMessage<Error>(HasSubstr(says)));
    EXPECT_NO_THROW(RefuseLfsPointer(content, "f"));
  };
  refuses("<!DOCTYPE html>\n<html>", "web page (it begins with \"<!DOCTYPE");
  refuses("\xEF\xBB\xBF \n<HTML lang", "web page");
  refuses("<?xml version=\"1.0\"?><Error>AccessDenied", "web page");
  refuses("Entry not found", "server's answer, not the file itself: \"Entry");
  refuses("Access to model a/b is restricted and you are not", "signed in");
}

TEST(RefuseNoFile, TakesEverythingElse) {
  for (const char* content :
       {"", "   ", "{}", "version 2", "<", "TFL3", "Not"}) {
    EXPECT_NO_THROW(RefuseNoFile(content, "f")) << content;
  }
  EXPECT_NO_THROW(RefuseNoFile(std::string(1000, ' ') + "<html>", "f"));
}

}  // namespace
}  // namespace verify_tflite
