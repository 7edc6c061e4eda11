#include "checkpoint/quantized.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace verify_tflite {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

auto Refuses(const std::string& kind) {
  return ThrowsMessage<Error>(AllOf(HasSubstr("(" + kind + "; "),
                                    HasSubstr("original float checkpoint")));
}

TEST(Quantized, ConfigNamesTheMethod) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"quantization_config": {"quant_method": "gptq", "bits": 4}})",
       "GPTQ"},
      {R"({"quantization_config": {"quant_method": "awq"}})", "AWQ"},
      {R"({"quantization_config": {"load_in_4bit": true}})", "bitsandbytes"},
      {R"({"quantization_config": {"quant_method": "fp8"}})", "FP8"},
      {R"({"quantization_config": {"quant_method": "new\n"}})", R"("new\n")"},
      {R"({"quantization_config": {"quant_method": 4}})", "unknown kind"},
      {R"({"quantization_config": 4})", "unknown kind"},
      {R"({"compression_config": {"quant_method": "compressed-tensors"}})",
       "compressed-tensors"},
  };
  for (const auto& [config, kind] : cases) {
    EXPECT_THAT(
        [&] { RefuseQuantizedConfig(nlohmann::json::parse(config), "c"); },
        Refuses(kind))
        << config;
  }
  EXPECT_NO_THROW(RefuseQuantizedConfig(
      nlohmann::json::parse(R"({"quantization_config": null})"), "c"));
}

TEST(Quantized, TensorsTellTheKind) {
  using Tensors = std::map<std::string, std::string>;
  const std::pair<Tensors, const char*> cases[] = {
      {{{"q.g_idx", "I32"}, {"q.qweight", "I32"}, {"q.qzeros", "I32"}}, "GPTQ"},
      {{{"q.qweight", "I32"}, {"q.qzeros", "I32"}, {"q.scales", "F16"}},
       "AWQ, or GPTQ without g_idx"},
      {{{"q.weight", "U8"}, {"q.weight.absmax", "F32"}}, "bitsandbytes 4-bit"},
      {{{"q.weight", "I8"}, {"q.SCB", "F32"}}, "bitsandbytes 8-bit"},
      {{{"q.weight", "F8_E4M3"}, {"q.weight_scale_inv", "F32"}},
       "FP8 with block scales"},
      {{{"q.weight", "F8_E4M3"}}, "FP8"},
      {{{"q.weight", "I8"}, {"q.scale", "F32"}}, "int8"},
      {{{"q.weight", "U8"}}, "8 or 4 bits in bytes"},
      {{{"q.weight_packed", "I32"}}, "compressed-tensors"},
  };
  for (const auto& [tensors, kind] : cases) {
    EXPECT_THAT([&] { RefuseQuantizedTensors(tensors, "f"); }, Refuses(kind));
  }
  EXPECT_NO_THROW(RefuseQuantizedTensors({{"model.q.weight", "F32"},
                                          {"attn.bias", "BOOL"},
                                          {"position_ids", "I64"},
                                          {"mask", "U8"}},
                                         "f"));
}

}  // namespace
}  // namespace verify_tflite
