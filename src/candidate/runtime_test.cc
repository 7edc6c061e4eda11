#include "candidate/runtime.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <stdexcept>

#include "base/testing.h"

namespace verify_tflite {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

template <typename Function>
std::string MessageOf(Function function) {
  try {
    function();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

LiteRtStatus Fail(int status) { return static_cast<LiteRtStatus>(status); }
LiteRtStatus Throw(int) { throw std::logic_error("no such tensor"); }

TEST(CallTest, TurnsEveryFailureIntoAnError) {
  EXPECT_EQ(MessageOf([] { Call("a.tflite", Fail, 0); }), "");
  EXPECT_EQ(MessageOf([] { Call("a.tflite", Fail, 501); }),
            "a.tflite: LiteRT reports INVALID_FLATBUFFER");
  EXPECT_EQ(MessageOf([] { Call("a.tflite", Throw, 0); }),
            "a.tflite: LiteRT threw no such tensor");
}

TEST(StatusTextTest, NamesKnownAndUnknownStatus) {
  EXPECT_EQ(StatusText(static_cast<LiteRtStatus>(504)), "COMPILATION");
  EXPECT_EQ(StatusText(static_cast<LiteRtStatus>(777)), "status 777");
}

TEST(ElementTypeTest, ThereAndBack) {
  EXPECT_EQ(FromAbi(kLiteRtElementTypeInt4), ElementType::kInt4);
  EXPECT_EQ(ToAbi(ElementType::kInt4), kLiteRtElementTypeInt4);
  EXPECT_EQ(FromAbi(static_cast<LiteRtElementType>(99)), ElementType::kUnknown);
  EXPECT_EQ(ToAbi(ElementType::kUnknown), kLiteRtElementTypeNone);
}

TEST(CleanReasonTest, KeepsWhatExplains) {
  EXPECT_EQ(CleanReason(""), "");
  EXPECT_EQ(CleanReason("INFO: hello\n\nNo such op\nNode 5 failed\n\n"),
            "\n  No such op\n  Node 5 failed");
  EXPECT_EQ(CleanReason("cut \xc3"), "\n  cut \uFFFD");
}

TEST(RuntimeTest, MissingLibraryNamesThePackage) {
  setenv("VERIFY_TFLITE_LITERT", "/nowhere/libLiteRt.so", 1);
  EXPECT_THAT(MessageOf([] { Runtime::Get(); }),
              AllOf(HasSubstr("/nowhere/libLiteRt.so"),
                    HasSubstr("VERIFY_TFLITE_LITERT")));
}

TEST(RuntimeTest, AnotherVersionIsRefusedBeforeItIsLoaded) {
  const TempDir packages;
  std::filesystem::create_directories(packages.File("ai_edge_litert"));
  std::filesystem::create_directories(
      packages.File("ai_edge_litert-2.1.0.dist-info"));
  const std::string library =
      packages.Write("ai_edge_litert/libLiteRt.so", "no library");
  setenv("VERIFY_TFLITE_LITERT", library.c_str(), 1);
  EXPECT_THAT(MessageOf([] { Runtime::Get(); }),
              AllOf(HasSubstr("ai_edge_litert-2.1.0"),
                    HasSubstr("pip install 'ai-edge-litert==2.3.0'")));
}

}  // namespace
}  // namespace verify_tflite
