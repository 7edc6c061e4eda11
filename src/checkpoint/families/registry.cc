// SPDX-License-Identifier: Apache-2.0
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "checkpoint/families/family.h"

namespace verify_tflite {

// All there are, in the order in which messages name them. A family is a
// function of this name, in a file of its own.
#define VERIFY_TFLITE_FAMILIES(FAMILY) \
  FAMILY(Llama)                        \
  FAMILY(Mistral)                      \
  FAMILY(Qwen2)                        \
  FAMILY(Qwen3)                        \
  FAMILY(Gemma)                        \
  FAMILY(Gemma2)                       \
  FAMILY(Gemma3Text)                   \
  FAMILY(Phi3)                         \
  FAMILY(SmolLm3)                      \
  FAMILY(Phi)                          \
  FAMILY(Falcon)                       \
  FAMILY(Gemma3)                       \
  FAMILY(OpenElm)                      \
  FAMILY(Granite)                      \
  FAMILY(Olmo2)                        \
  FAMILY(Ministral)                    \
  FAMILY(Ministral3)                   \
  FAMILY(Exaone4)                      \
  FAMILY(HunYuanV1Dense)               \
  FAMILY(SeedOss)                      \
  FAMILY(Starcoder2)                   \
  FAMILY(Glm)                          \
  FAMILY(Glm4)                         \
  FAMILY(Cohere)                       \
  FAMILY(Cohere2)                      \
  FAMILY(Ernie45)                      \
  FAMILY(Helium)                       \
  FAMILY(Olmo)                         \
  FAMILY(Olmo3)                        \
  FAMILY(Arcee)                        \
  FAMILY(Apertus)                      \
  FAMILY(VaultGemma)                   \
  FAMILY(NanoChat)                     \
  FAMILY(BitNet)                       \
  FAMILY(Jais2)                        \
  FAMILY(HyperClovaX)                  \
  FAMILY(Exaone)                       \
  FAMILY(InternLm3)                    \
  FAMILY(IQuestCoder)                  \
  FAMILY(Gemma4Text)                   \
  FAMILY(Gemma4)                       \
  FAMILY(Llava)                        \
  FAMILY(LlavaNext)                    \
  FAMILY(LlavaOnevision)               \
  FAMILY(VipLlava)                     \
  FAMILY(FastVlm)                      \
  FAMILY(Idefics3)                     \
  FAMILY(SmolVlm)                      \
  FAMILY(InternVl)                     \
  FAMILY(Qwen2Vl)                      \
  FAMILY(Qwen25Vl)                     \
  FAMILY(Qwen3Vl)                      \
  FAMILY(Mistral3)                     \
  FAMILY(AyaVision)                    \
  FAMILY(Cohere2Vision)                \
  FAMILY(LightOnOcr)                   \
  FAMILY(GotOcr2)                      \
  FAMILY(Ovis2)                        \
  FAMILY(Gemma3nText)                  \
  FAMILY(Gemma3n)                      \
  FAMILY(Qwen2Moe)                     \
  FAMILY(Qwen3Moe)                     \
  FAMILY(Mixtral)                      \
  FAMILY(Olmoe)                        \
  FAMILY(GraniteMoe)                   \
  FAMILY(GraniteMoeShared)             \
  FAMILY(Ernie45Moe)                   \
  FAMILY(Glm4Moe)                      \
  FAMILY(Lfm2)

#define DECLARE(name) Family name();
VERIFY_TFLITE_FAMILIES(DECLARE)
#undef DECLARE

const std::vector<Family>& AllFamilies() {
#define CALL(name) name(),
  static const auto& families =
      *new std::vector<Family>{VERIFY_TFLITE_FAMILIES(CALL)};
#undef CALL
  return families;
}

const Family* FindFamily(std::string_view model_type) {
  const auto found =
      std::ranges::find(AllFamilies(), model_type, &Family::model_type);
  return found == AllFamilies().end() ? nullptr : &*found;
}

bool Family::Handles(std::string_view key) const {
  return std::ranges::count(handles, key) > 0;
}

std::optional<Family> TextFamily(const Family& outer,
                                 std::string_view model_type) {
  if (outer.own_text != nullptr) {
    const Family own = outer.own_text();
    if (own.model_type == model_type) return own;
  }
  if (outer.text_is_fixed && model_type != outer.text) return std::nullopt;
  const Family* found = FindFamily(model_type);
  if (found == nullptr || !found->text.empty()) return std::nullopt;
  return *found;
}

std::vector<WeightNames> WeightNamesOf(const ModelConfig& config) {
  const Family& outer = *FindFamily(config.model_type);
  const Family text =
      outer.text.empty() ? outer : *TextFamily(outer, config.text_type);
  std::vector<WeightNames> names;
  for (const NamePrefix& prefix : outer.prefixes) {
    names.emplace_back(text.names(config), prefix, text.grouped_qkv);
  }
  return names;
}

namespace {

// Mixtures of experts that litert-torch 0.10.0 does not convert, by the
// beginning of their model_type.
constexpr std::string_view kNotConverted[] = {"gpt_oss", "deepseek_v"};

}  // namespace

Error NotSupported(const ConfigFields& fields, const std::string& model_type) {
  std::vector<std::string_view> supported;
  for (const Family& family : AllFamilies()) {
    supported.push_back(family.model_type);
  }
  const bool not_converted =
      std::ranges::any_of(kNotConverted, [&](std::string_view type) {
        return model_type.starts_with(type);
      });
  return Error("{}: model_type {} is not supported{}; supported: {}",
               fields.origin(), Dump(nlohmann::json(model_type)),
               not_converted ? ", nor does litert-torch 0.10.0 convert it" : "",
               fmt::join(supported, ", "));
}

}  // namespace verify_tflite
