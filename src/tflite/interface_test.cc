// SPDX-License-Identifier: Apache-2.0
#include "tflite/interface.h"

#include <gtest/gtest.h>

namespace verify_tflite {
namespace {

TEST(ParseKvName, KnowsBothWaysOfNaming) {
  EXPECT_EQ(ParseKvName("kv_cache_k_0"), (KvName{KvPart::kKeys, 0}));
  EXPECT_EQ(ParseKvName("kv_cache_v_12"), (KvName{KvPart::kValues, 12}));
  EXPECT_EQ(ParseKvName("k_cache_3"), (KvName{KvPart::kKeys, 3}));
  EXPECT_EQ(ParseKvName("v_cache_3"), (KvName{KvPart::kValues, 3}));
  EXPECT_EQ(ParseKvName("kv_cache_c_5"), (KvName{KvPart::kConvState, 5}));
}

TEST(ParseKvName, IsNothingElse) {
  for (const char* name :
       {"", "logits", "kv_cache_k_", "kv_cache_k_-1", "kv_cache_k_1x",
        "kv_cache_r_0", "xk_cache_0", "k_cache_99999999999999999999"}) {
    EXPECT_EQ(ParseKvName(name), std::nullopt) << name;
  }
}

TEST(IsDecode, OfWhateverCacheLength) {
  EXPECT_TRUE(IsDecode("decode"));
  EXPECT_TRUE(IsDecode("decode_cache_256"));
  EXPECT_FALSE(IsDecode("prefill_8"));
  EXPECT_FALSE(IsDecode(""));
}

}  // namespace
}  // namespace verify_tflite
