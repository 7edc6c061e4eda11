// What needs no tokenizer library; text_models_test.cc has the rest.
#include "text/tokenizer.h"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdio.h>
#include <stdlib.h>

#include <string>

#include "base/error.h"
#include "base/testing.h"
#include "text/testing_tokenizer.h"

namespace verify_tflite {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TEST(TokenizerOpen, NamesAMissingOrEmptyFile) {
  const TempDir dir;
  EXPECT_THAT([&] { Tokenizer::Open(dir.path()); },
              ThrowsMessage<Error>(HasSubstr("tokenizer.json: cannot open")));
  dir.Write("tokenizer.json", "");
  EXPECT_THAT([&] { Tokenizer::Open(dir.path()); },
              ThrowsMessage<Error>(HasSubstr("tokenizer.json: the file is "
                                             "empty")));
}

TEST(TokenizerOpen, RefusesAFileBeforeItLoadsTheLibrary) {
  const TempDir dir;
  setenv("VERIFY_TFLITE_LITERT_LM", "/nowhere/liblitert-lm.so", 1);
  dir.Write("tokenizer.json", "{}");
  EXPECT_THAT([&] { Tokenizer::Open(dir.path()); },
              ThrowsMessage<Error>(HasSubstr("it is not a tokenizer")));
}

TEST(TokenizerOpen, NamesAMissingLibrary) {
  const TempDir dir;
  dir.Write("tokenizer.json", kSmallTokenizer);
  setenv("VERIFY_TFLITE_LITERT_LM", "/nowhere/liblitert-lm.so", 1);
  EXPECT_THAT([&] { Tokenizer::Open(dir.path()); },
              ThrowsMessage<Error>(HasSubstr("/nowhere/liblitert-lm.so")));
}

TEST(TokenizerOpen, NamesThePackageOfAnotherLibrary) {
  const TempDir dir;
  dir.Write("tokenizer.json", kSmallTokenizer);
  Dl_info libc;
  ASSERT_NE(dladdr(reinterpret_cast<void*>(&puts), &libc), 0);
  setenv("VERIFY_TFLITE_LITERT_LM", libc.dli_fname, 1);
  EXPECT_THAT([&] { Tokenizer::Open(dir.path()); },
              ThrowsMessage<Error>(AllOf(HasSubstr("tokenizers_new_from_str"),
                                         HasSubstr("litert-lm-api==0.18.1"))));
}

}  // namespace
}  // namespace verify_tflite
