#include "checkpoint/quantized.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/error.h"
#include "base/utf8.h"

namespace verify_tflite {
namespace {

using nlohmann::json;

struct Kind {
  std::string_view pattern;
  std::string_view name;
};

// quant_method, as transformers' QuantizationMethod spells it. Others are named
// as they stand.
constexpr Kind kMethods[] = {{"gptq", "GPTQ"},
                             {"awq", "AWQ"},
                             {"bitsandbytes", "bitsandbytes"},
                             {"fp8", "FP8"},
                             {"fbgemm_fp8", "FP8 (FBGEMM)"},
                             {"compressed-tensors", "compressed-tensors"},
                             {"mxfp4", "MXFP4"},
                             {"hqq", "HQQ"},
                             {"aqlm", "AQLM"},
                             {"eetq", "EETQ"},
                             {"quanto", "Quanto"},
                             {"torchao", "torchao"}};

// Ends of tensor names that only one kind of checkpoint has, in the order in
// which they decide.
constexpr Kind kSuffixes[] = {
    {".g_idx", "GPTQ"},
    {".qzeros", "AWQ, or GPTQ without g_idx"},
    {".qweight", "GPTQ or Marlin"},
    {".quant_map", "bitsandbytes 4-bit"},
    {".absmax", "bitsandbytes 4-bit"},
    {".SCB", "bitsandbytes 8-bit"},
    {".weight_packed", "compressed-tensors"},
    {"_proj_blocks", "MXFP4"},
    {".weight_scale_inv", "FP8 with block scales"},
    {".weight_scale", "weights with scales"},
};

constexpr Kind kWeightDTypes[] = {{"F8_", "FP8"},
                                  {"F6_", "FP6"},
                                  {"F4", "FP4"},
                                  {"I8", "int8"},
                                  {"U8", "8 or 4 bits in bytes"}};

[[noreturn]] void Refuse(const std::string& path, std::string_view kind,
                         const std::string& sign) {
  throw Error(
      "{}: an already quantized checkpoint ({}; {}) cannot be the reference: "
      "give the original float checkpoint it was made from",
      path, kind, sign);
}

std::string MethodOf(const json& quantization) {
  if (!quantization.is_object()) return "unknown kind";
  const auto method = quantization.find("quant_method");
  if (method != quantization.end() && method->is_string()) {
    const auto& text = method->get_ref<const std::string&>();
    for (const Kind& kind : kMethods) {
      if (kind.pattern == text) return std::string(kind.name);
    }
    return Quote(text);
  }
  // bitsandbytes before quant_method existed.
  for (const char* key : {"load_in_4bit", "load_in_8bit"}) {
    if (quantization.value(key, json()) == json(true)) return "bitsandbytes";
  }
  return "unknown kind";
}

}  // namespace

void RefuseQuantizedConfig(const json& config, const std::string& path) {
  for (const char* key : {"quantization_config", "compression_config"}) {
    const auto found = config.find(key);
    if (found != config.end() && !found->is_null()) {
      Refuse(path, MethodOf(*found), key);
    }
  }
}

void RefuseQuantizedTensors(const std::map<std::string, std::string>& dtypes,
                            const std::string& path) {
  for (const Kind& kind : kSuffixes) {
    for (const auto& [name, dtype] : dtypes) {
      if (name.ends_with(kind.pattern)) {
        Refuse(path, kind.name, "tensor " + Quote(name));
      }
    }
  }
  for (const auto& [name, dtype] : dtypes) {
    if (!name.ends_with(".weight")) continue;
    for (const Kind& kind : kWeightDTypes) {
      if (dtype.starts_with(kind.pattern)) {
        Refuse(path, kind.name,
               "tensor " + Quote(name) + " has dtype " + dtype);
      }
    }
  }
}

}  // namespace verify_tflite
