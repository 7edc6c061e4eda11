// SPDX-License-Identifier: Apache-2.0
#include "tflite/executor_metadata.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/error.h"

namespace verify_tflite {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::ThrowsMessage;

// Of a protocol buffer: a field of bytes, and one that is a small number.
std::string Bytes(int field, const std::string& value) {
  std::string result = {static_cast<char>(field << 3 | 2)};
  size_t size = value.size();
  for (; size > 127; size >>= 7) {
    result += static_cast<char>((size & 127) | 128);
  }
  return result + static_cast<char>(size) + value;
}
std::string Int(int field, int value) {
  return {static_cast<char>(field << 3), static_cast<char>(value)};
}

std::string Buffer(const std::string& name, int type) {
  return Bytes(2, Bytes(1, name) + Bytes(2, name + "_out") + Bytes(3, name) +
                      Bytes(4, name) + Int(6, type));
}

SignatureSpec Signature(const std::string& name,
                        const std::vector<std::string>& inputs,
                        const std::vector<std::string>& outputs) {
  SignatureSpec signature{.name = name};
  for (const std::string& each : inputs) signature.inputs.push_back({each});
  for (const std::string& each : outputs) signature.outputs.push_back({each});
  return signature;
}

ExecutorMetadata Sample() {
  return ParseExecutorMetadata(
      Bytes(1, Int(1, 5) + Buffer("kv_cache_k_0", 3) +
                   Buffer("kv_cache_v_0", 42) +
                   Bytes(3, Int(1, 1) + Int(2, 3) + Int(3, 29))),
      "x");
}

TEST(ExecutorMetadata, SaysWhatIsState) {
  const ExecutorMetadata metadata = Sample();
  EXPECT_EQ(metadata.max_history_size, 5);
  ASSERT_EQ(metadata.state_buffers.size(), 2u);
  EXPECT_EQ(metadata.state_buffers[0].prefill_input, "kv_cache_k_0");
  EXPECT_EQ(metadata.state_buffers[0].prefill_output, "kv_cache_k_0_out");
  EXPECT_EQ(metadata.state_buffers[0].decode_output, "kv_cache_k_0");
  EXPECT_EQ(metadata.state_buffers[0].type, "local key cache");
  EXPECT_EQ(metadata.state_buffers[1].type, "type 42");
  EXPECT_EQ(metadata.mask, "causal");
  EXPECT_EQ(metadata.local_mask, "vision bidirectional");
  EXPECT_EQ(metadata.sliding_window_size, 29);
}

TEST(ExecutorMetadata, DamageIsAnError) {
  EXPECT_THAT([] { ParseExecutorMetadata("\x0a\x7f", "a.litertlm"); },
              ThrowsMessage<Error>(HasSubstr("a.litertlm")));
}

TEST(CompareState, NamesAreThoseOfTheSignatures) {
  const std::vector<std::string> caches = {"kv_cache_k_0", "kv_cache_v_0"};
  const std::vector<SignatureSpec> prefills = {
      Signature("prefill_8", caches, {"kv_cache_k_0_out", "kv_cache_v_0_out"})};
  const SignatureSpec decode = Signature("decode", caches, caches);
  EXPECT_THAT(CompareState(Sample(), decode, prefills), IsEmpty());
  EXPECT_THAT(CompareState(Sample(), decode, {&decode, 1}),
              ElementsAre(HasSubstr("\"kv_cache_k_0_out\" as state, which is "
                                    "no output of \"decode\""),
                          HasSubstr("kv_cache_v_0_out")));
  const SignatureSpec more = Signature(
      "decode", {"kv_cache_k_0", "kv_cache_v_0", "kv_cache_k_1", "mask"},
      caches);
  EXPECT_THAT(CompareState(Sample(), more, prefills),
              ElementsAre(HasSubstr("does not name \"kv_cache_k_1\"")));
  EXPECT_THAT(CompareState({}, more, prefills), IsEmpty());
}

TEST(CompareState, KindsAreThoseOfTheNames) {
  const std::vector<std::string> names = {"kv_cache_k_1", "kv_cache_c_0"};
  const SignatureSpec decode = Signature("decode", names, names);
  const auto compare = [&](int key, int state) {
    const std::string buffers =
        Bytes(2, Bytes(3, "kv_cache_k_1") + Int(6, key)) +
        Bytes(2, Bytes(3, "kv_cache_c_0") + Int(6, state));
    return CompareState(ParseExecutorMetadata(Bytes(1, buffers), "x"), decode,
                        {});
  };
  EXPECT_THAT(compare(1, 5), IsEmpty());
  EXPECT_THAT(compare(3, 42), IsEmpty());
  EXPECT_THAT(compare(5, 1),
              ElementsAre(HasSubstr("\"kv_cache_k_1\" as \"linear attention\""),
                          HasSubstr("\"kv_cache_c_0\" as \"global key cache")));
}

}  // namespace
}  // namespace verify_tflite
