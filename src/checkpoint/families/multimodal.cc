// SPDX-License-Identifier: Apache-2.0
// Models of images and text around a text model of another family. Of text
// alone they compute what that model does, but for the head: it is their own
// class's, a product and nothing else.
#include <string_view>

#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

// `text`: what the config class of transformers 5.24 assumes.
Family Around(std::string_view model_type, std::string_view text, bool tied) {
  return {.model_type = model_type,
          .tie_word_embeddings = tied,
          .parse = ParseTextModel,
          .text = text,
          .plain_head = true,
          // As files are saved today, and as they were.
          .prefixes = {{"model.language_model.", ""},
                       {"language_model.model.", "language_model."}}};
}

// A Llava whose head was tied by the text model's settings.
Family TiedByText(Family family) {
  family.tied_by_text = true;
  return family;
}

// RoPE of an image's rows and columns: three positions, which are one where
// there is text alone.
Family WithSections(Family text, std::string_view model_type) {
  text.model_type = model_type;
  text.handles.push_back("mrope_section");
  return text;
}

Family Qwen2VlText(std::string_view model_type) {
  Family text = WithSections(*FindFamily("qwen2"), model_type);
  text.rms_norm_eps = 1e-5;
  text.rope_theta = 1e6;
  text.num_kv_heads = 8;
  text.max_window_layers = 80;
  return text;
}

// `text`: the type of its own text model, which `own_text` reads.
Family AroundOwn(std::string_view model_type, std::string_view text,
                 Family (*own_text)()) {
  Family family = Around(model_type, text, /*tied=*/false);
  family.text_is_fixed = true;
  family.own_text = own_text;
  return family;
}

}  // namespace

Family Llava() { return TiedByText(Around("llava", "llama", false)); }

Family LlavaNext() { return Around("llava_next", "llama", false); }

Family LlavaOnevision() {
  return TiedByText(Around("llava_onevision", "qwen2", false));
}

Family VipLlava() { return Around("vipllava", "llama", false); }

Family FastVlm() { return TiedByText(Around("fast_vlm", "qwen2", false)); }

Family Idefics3() {
  Family family = Around("idefics3", "llama", false);
  family.prefixes = {{"model.text_model.", ""}};
  return family;
}

Family SmolVlm() {
  Family family = Idefics3();
  family.model_type = "smolvlm";
  return family;
}

Family InternVl() { return Around("internvl", "qwen2", true); }

Family Qwen2Vl() {
  Family family = TiedByText(AroundOwn("qwen2_vl", "qwen2_vl_text", [] {
    return Qwen2VlText("qwen2_vl_text");
  }));
  family.flat = true;
  family.prefixes = {{"model.language_model.", ""}, {"model.", ""}};
  return family;
}

Family Qwen25Vl() {
  Family family = Qwen2Vl();
  family.model_type = "qwen2_5_vl";
  family.text = "qwen2_5_vl_text";
  family.own_text = [] { return Qwen2VlText("qwen2_5_vl_text"); };
  return family;
}

Family Qwen3Vl() {
  return AroundOwn("qwen3_vl", "qwen3_vl_text", [] {
    Family text = WithSections(*FindFamily("qwen3"), "qwen3_vl_text");
    text.rope_theta = 5e5;
    text.windows = Windows::kNone;
    return text;
  });
}

Family Mistral3() { return Around("mistral3", "mistral", true); }

Family AyaVision() { return Around("aya_vision", "cohere2", true); }

Family Cohere2Vision() { return Around("cohere2_vision", "cohere2", true); }

Family GotOcr2() { return Around("got_ocr2", "qwen2", true); }

Family Ovis2() { return Around("ovis2", "qwen2", true); }

Family LightOnOcr() { return Around("lighton_ocr", "qwen3", true); }

}  // namespace verify_tflite
