#include "report/sample_verification.h"

#include "verify/judge.h"

namespace verify_tflite {
namespace {

Position At(int32_t reference, int32_t candidate, double margin) {
  Position p;
  p.logits = {.finite = true,
              .kld = 2.5e-11,
              .max_abs = 1.25e-4,
              .mean_abs = 1.5e-5,
              .rms = 2e-5,
              .reference_token = reference,
              .candidate_token = candidate,
              .margin = margin};
  p.tie = IsTie(p.logits);
  return p;
}

PromptResult WithATie(const Limits& limits) {
  PromptResult r;
  r.prompt = {"What is AI?", "<user>What is AI?\n<assistant>", {1, 5, 6, 7, 2}};
  r.reference_ids = {10, 11, 12};
  r.candidate_ids = {10, 14, 15, 16};
  r.reference_text = "AI is…\n";
  r.candidate_text = "AI was \x1B[31m";
  r.shared_text = "AI";
  r.positions = {At(10, 10, 0), At(11, 14, 5e-5), At(12, 12, 0)};
  r.positions[1].reference_text = " is";
  r.positions[1].candidate_text = " was";
  r.prefill_logits = r.positions[0].logits;
  Judge(limits, r);
  return r;
}

PromptResult WithDifferences(const Limits& limits) {
  PromptResult r;
  r.prompt = {"Grüße \"bitte\"", "Grüße \"bitte\"", {8, 9}};
  r.reference_text = "äö";
  r.candidate_text = "äü";
  r.shared_text = "\uFFFD";  // half a character: the texts decide
  for (int32_t i = 0; i < 7; ++i) {
    r.reference_ids.push_back(20);
    r.candidate_ids.push_back(30);
    r.positions.push_back(At(20, 30, 0.5));
    r.positions.back().logits.kld = 0.25;
    r.positions.back().logits.max_abs = 3.5;
    r.positions.back().reference_text = "ö";
    r.positions.back().candidate_text = "\xC3";  // ends inside a character
  }
  Judge(limits, r);
  return r;
}

}  // namespace

Verification SampleVerification() {
  Verification v;
  v.tool_version = "1.2.3";
  v.tflite_path = "model_f32.tflite";
  v.checkpoint_path = "checkpoint";
  v.chat_template = "the checkpoint's";
  v.model.prefills = {{"prefill_64", 64, 64}, {"prefill_8", 8, 8}};
  v.model.num_layers = 30;
  v.model.kv_length = 1280;
  v.model.vocab_size = 49152;
  v.model.recipe = Recipe::kFloat32;
  v.model.recipe_detail = "float32";
  v.model.notes = {"a note on how this file is run"};
  v.model.weight_bytes = {{"FLOAT32", 538'000'000}, {"INT32", 100}};
  v.model.kv_bytes = 58'982'400;
  v.config.model_type = "llama";
  v.config.vocab_size = 49152;
  v.config.hidden_size = 576;
  v.config.num_layers = 30;
  v.config.num_heads = 9;
  v.config.num_kv_heads = 3;
  v.config.head_dim = 64;
  v.config.rope_theta = 100000;
  v.config.rms_norm_eps = 1e-5;
  v.config.tie_word_embeddings = true;
  v.settings.num_threads = 2;
  v.limits = LimitsFor(v.model.recipe, v.settings);
  v.eos_ids = {2};
  v.prompts = {WithATie(v.limits), WithDifferences(v.limits)};
  v.bundle_checks = {{"stop_tokens", Outcome::kFail, {}, {}, ""},
                     {"start_token", Outcome::kPass, {}, {}, ""},
                     {"chat_template", Outcome::kPass, {}, {}, ""},
                     {"tokenizer",
                      Outcome::kNotChecked,
                      {},
                      {},
                      "Splitting is not compared."}};
  v.findings = {{"stop-token-differs", "Texts end elsewhere.",
                 "checkpoint: 2 \"</s>\"\nbundle: 0 \"<unk>\""}};
  v.timing = {.open = 0.25,
              .compile = 0.5,
              .prefill = 0.125,
              .decode = 2,
              .reference = 1.5,
              .total = 4.5,
              .prefill_tokens = 5,
              .decode_tokens = 100,
              .reference_passes = 3,
              .reference_tokens = 20};
  v.peak_memory_bytes = 512'000'000;
  return v;
}

}  // namespace verify_tflite
