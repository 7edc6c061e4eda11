#include "report/sample_verification.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <string_view>

#include "result/judge.h"

namespace verify_tflite {
namespace {

Position At(int64_t index, int32_t reference, int32_t candidate, double margin,
            double kld, double rms) {
  Position p;
  p.index = index;
  p.logits = {.finite = true,
              .kld = kld,
              .max_abs = 6 * rms,
              .mean_abs = 0.75 * rms,
              .rms = rms,
              .nmse = rms * rms,
              .reference_token = reference,
              .candidate_token = candidate,
              .margin = margin,
              .rank = reference == candidate ? 0 : 1,
              .text_token = reference,
              .reference_logprob = -1.5,
              .candidate_logprob = -1.5 - kld};
  p.tie = IsTie(p.logits);
  return p;
}

void SetTexts(Position& p, std::string_view reference,
              std::string_view candidate) {
  p.reference_text = std::string(reference);
  p.candidate_text = std::string(candidate);
}

PromptResult WithATie() {
  PromptResult r;
  r.prompt = {"What is AI?", "<user>What is AI?\n<assistant>", {1, 5, 6, 7, 2}};
  r.reference_ids = {10, 11, 12};
  r.candidate_ids = {10, 14, 15, 16};
  r.reference_text = "AI is…\n";
  r.candidate_text = "AI was \x1B[31m";
  r.shared_text = "AI";
  constexpr double kKld = 2.5e-11;
  constexpr double kRms = 2e-5;
  r.positions = {At(5, 10, 10, 0, kKld, kRms), At(6, 11, 14, 5e-5, kKld, kRms),
                 At(7, 12, 12, 0, kKld, kRms)};
  SetTexts(r.positions[1], " is", " was");
  r.prefill_logits = r.positions[0].logits;
  return r;
}

PromptResult WithDifferences() {
  PromptResult r;
  r.prompt = {"Grüße \"<script>alert(1)</script>\" & `bitte` | ]]>",
              "Grüße \"<script>alert(1)</script>\" & `bitte` | ]]>",
              {8, 9}};
  r.reference_text = "äö";
  r.candidate_text = "äü";
  r.shared_text = std::string("\uFFFD");  // half a character: the texts decide
  for (int32_t i = 0; i < 7; ++i) {
    r.reference_ids.push_back(20);
    r.candidate_ids.push_back(30);
    r.positions.push_back(At(2 + i, 20, 30, 0.5, 0.25, 0.03));
    SetTexts(r.positions.back(), "ö", "\xC3");  // ends inside a character
  }
  return r;
}

// Grows with the position, as a wrong RoPE base does.
Evaluation GrowingWorse() {
  Evaluation e;
  e.source = std::string("built-in");
  e.through_prefill = true;
  for (int64_t i = 0; i < 40; ++i) {
    e.ids.push_back(static_cast<int32_t>(100 + i));
    const double kld = std::ldexp(1.0, static_cast<int>(i / 2) - 16);
    Position p = At(1 + i % 20, 40, i % 8 == 7 ? 41 : 40, i % 8 == 7 ? 1.5 : 0,
                    kld, 0.25);
    if (i % 8 == 7) SetTexts(p, "<b>", "\n");
    e.positions.push_back(p);
  }
  e.passages = {{"prose", 0, 20, {}}, {"code", 20, 40, {}}};
  return e;
}

TensorFigures Tensor(double nmse) {
  return {nmse, 1 - nmse / 2, 1 + nmse / 4, 2, std::min(1.0, 2 * nmse)};
}

// Keys part at layer 3, values follow one layer later.
KvProfile SteppingAt3() {
  KvProfile p;
  p.prefill_positions = 24;
  p.decode_positions = 8;
  for (int i = 0; i < 6; ++i) {
    const double noise = std::ldexp(1e-12, i);
    const double k = i < 3 ? noise : 0.25;
    const double v = i < 4 ? noise : 0.125;
    p.layers.push_back({Tensor(k), Tensor(v), Tensor(k / 2), Tensor(v / 2)});
  }
  return p;
}

StageAgreement Stage(std::string_view name, bool linear, double worst,
                     int64_t layer) {
  return {.stage = std::string(name),
          .linear = linear,
          .rows = layer < 0 ? 10 : 300,
          .worst = worst,
          .limit = linear ? 1e-6 : 1e-5,
          .layer = layer,
          .position = 7};
}

// Local verification of one signature of a model of 30 layers.
SignatureStructure WholeSignature(std::string_view name, int64_t ops,
                                  int64_t end) {
  SignatureStructure s;
  s.signature = std::string(name);
  s.ops = s.verified_ops = ops;
  s.positions = {{0, 8}};
  if (end > 8) s.positions.emplace_back(end - 2, end);
  s.stages = {Stage("embedding", false, 0, -1),
              Stage("input_norm", false, 1.7e-7, 4),
              Stage("query_projection", true, 4.1e-8, 11),
              Stage("key_projection", true, 3.7e-8, 2),
              Stage("value_projection", true, 3.8e-8, 29),
              Stage("query", false, 1.2e-7, 0),
              Stage("key", false, 1.1e-7, 8),
              Stage("attention", false, 2.9e-6, 21),
              Stage("attention_output", true, 3.9e-8, 17),
              Stage("after_attention", false, 5.2e-8, 1),
              Stage("mlp_norm", false, 1.6e-7, 3),
              Stage("mlp_output", true, 4.3e-8, 22),
              Stage("after_mlp", false, 5.1e-8, 6),
              Stage("final_norm", false, 1.9e-7, -1)};
  return s;
}

Structure WholeStructure() {
  Structure s;
  s.same_bits = true;
  s.signatures = {WholeSignature("decode", 694, 12),
                  WholeSignature("prefill_64", 701, 64),
                  WholeSignature("prefill_8", 701, 8)};
  return s;
}

// Turned by wrong angles from layer 0 on; a part that was not covered, and a
// signature that did not run.
Structure WrongAngles() {
  Structure s;
  s.same_bits = true;
  s.signatures = {WholeSignature("decode", 694, 12),
                  WholeSignature("prefill_64", 701, 64),
                  WholeSignature("prefill_8", 701, 8)};
  SignatureStructure& decode = s.signatures[0];
  decode.verified_ops = 511;
  decode.not_verified = {"COS behind MUL of \"a\x1B[31m/rope\"",
                         "SIN behind MUL of \"<b>/rope\""};
  decode.stages[5].worst = 0.25;
  decode.stages[6].worst = 0.21;
  SignatureStructure& skipped = s.signatures[2];
  skipped = {.signature = "prefill_8",
             .not_verified = {},
             .positions = {},
             .stages = {},
             .not_run = "it takes no tokens"};
  for (const int64_t layer : {0, 1}) {
    for (const std::string_view stage : {"query", "key"}) {
      s.faults.push_back({.signature = "decode",
                          .stage = std::string(stage),
                          .layer = layer,
                          .position = 7,
                          .op = "ADD",
                          .tensor = "<rope>;\x1B[31m",
                          .error = stage == "query" ? 0.25 : 0.21,
                          .limit = 1e-5});
    }
  }
  return s;
}

// What these shares of the evaluation's divergence come to.
WeightsCost CostsOf(const Evaluation& evaluation, double weights, double rest) {
  const auto scaled = [&](double share) {
    std::vector<Position> positions = evaluation.positions;
    std::vector<const Position*> pointers;
    for (size_t i = 0; i < positions.size(); ++i) {
      LogitDifference& l = positions[i].logits;
      l.kld *= share;
      l.candidate_logprob = l.reference_logprob - l.kld;
      if (i % 2 == 0) l.candidate_token = l.reference_token;
      pointers.push_back(&positions[i]);
    }
    return Summarize(pointers);
  };
  return {scaled(weights), scaled(rest)};
}

ModelConfig SmallLlama() {
  ModelConfig c;
  c.model_type = "llama";
  c.transformers_version = "4.57.1";
  c.vocab_size = 49152;
  c.hidden_size = 576;
  c.num_layers = 30;
  c.num_heads = 9;
  c.num_kv_heads = 3;
  c.head_dim = 64;
  c.rope_theta = 100000;
  c.rms_norm_eps = 1e-5;
  c.tie_word_embeddings = true;
  return c;
}

ModelInfo SmallModel(Recipe recipe) {
  ModelInfo m;
  m.prefills = {{"prefill_64", 64, 64}, {"prefill_8", 8, 8}};
  m.converted_by =
      "litert-torch's export_hf, from transformers' LlamaForCausalLM";
  m.min_runtime_version = "2.17.0";
  m.num_layers = 30;
  m.kv_length = 1280;
  m.vocab_size = 49152;
  m.recipe = recipe;
  m.kv_bytes = 58'982'400;
  m.kv_type = std::string("FLOAT32");
  return m;
}

Verification Common() {
  Verification v;
  v.tool_version = "1.2.3";
  v.checkpoint_path = "checkpoint";
  v.chat_template = "the checkpoint's";
  v.config = SmallLlama();
  v.settings.num_threads = 2;
  v.eos_ids = {2};
  v.timing = {.open = 0.25,
              .compile = 0.5,
              .prefill = 0.125,
              .decode = 2,
              .reference = 1.5,
              .self_check = 0.75,
              .locate = 1.25,
              .structure = 2.25,
              .weights_cost = 0.75,
              .total = 9.5,
              .prefill_tokens = 5,
              .decode_tokens = 100,
              .reference_passes = 3,
              .reference_tokens = 20};
  v.environment = {
      .command =
          "verify_tflite --tflite_path=model.litertlm "
          "--checkpoint_path=checkpoint '--prompts=What is AI?'",
      .date = "2026-01-02T03:04:05Z",
      .cpu = "A CPU @ 3.00GHz",
      .litert_version = "2.3.0",
      .torch_version = "2.13.0",
      .reference_version = "5.24",
      .hashes =
          {{"model.litertlm",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
           {"config.json",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015a"
            "d"}},
  };
  v.peak_memory_bytes = 512'000'000;
  v.peak_mapped_bytes = 112'000'000;
  return v;
}

}  // namespace

Verification SampleVerification() {
  Verification v = Common();
  v.tflite_path = "model.litertlm";
  v.model = SmallModel(Recipe::kFloat32);
  v.model.recipe_detail = "float32";
  v.model.notes = {"a note on how this file is run"};
  v.model.weight_bytes = {{"FLOAT32", 538'000'000}, {"INT32", 100}};
  v.limits = LimitsFor(v.model.recipe, v.settings);
  v.prompts = {WithATie(), WithDifferences()};
  v.evaluation = GrowingWorse();
  v.checks[CheckGroup::kWeights] = {
      {"weights", Outcome::kPass, 1, 1,
       "134620416 of 134620416 bytes are the checkpoint's"}};
  v.structure = WrongAngles();
  v.checks[CheckGroup::kSelf] = {
      {"state", Outcome::kPass, 0, 0, "prompt A, B, A: equal"},
      {"chunking", Outcome::kDegraded, 0.5, 0.01,
       "prefill in parts of 8 differs from decode"},
      {"threads", Outcome::kInconclusive, {}, {}, "one CPU"}};
  v.checks[CheckGroup::kBundle] = {
      {"stop_tokens", Outcome::kBroken, {}, {}, "they differ"},
      {"start_token", Outcome::kPass, {}, {}, ""},
      {"chat_template", Outcome::kPass, {}, {}, ""},
      {"tokenizer", Outcome::kNotChecked, {}, {}, "Splitting is not compared."},
  };
  v.notes = {
      "generation_config.json names the stop token 49200, which the "
      "vocabulary <49152> does not have; it is passed over"};
  v.findings = {{.id = FindingId::kRopeBase,
                 .severity = Outcome::kBroken,
                 .sentence = "The file rotates by another RoPE base.",
                 .evidence = "keys part from layer 0 on, values follow\nwith "
                             "rope_theta 10000 the reference agrees",
                 .cause = "The converter did not read rope_theta.",
                 .remedy = "Convert again with rope_theta 100000."},
                {.id = FindingId::kStopTokenDiffers,
                 .severity = Outcome::kDegraded,
                 .sentence = "Texts end elsewhere.",
                 .evidence = "checkpoint: 2 \"</s>\"\nbundle: 0 \"<unk>\""}};
  v.kv_profile = SteppingAt3();
  v.hypotheses = {{FindingId::kRopeBase, "rope_theta 10000 instead of 100000",
                   3e-11, 2.5, true},
                  {FindingId::kNormEps, "rms_norm_eps 1e-6 instead of 1e-5",
                   2.25, 2.5, false}};
  Judge(v);
  return v;
}

Verification SoundVerification(int64_t positions) {
  Verification v = Common();
  v.tflite_path = "model_q8.tflite";
  v.model = SmallModel(Recipe::kInt8);
  v.model.recipe_detail = "int8 per channel, dynamic";
  v.model.weight_bytes = {{"FLOAT32", 100'000}, {"INT8", 136'000'000}};
  v.limits = LimitsFor(v.model.recipe, v.settings);
  // minstd_rand's numbers are the same everywhere, distributions' are not.
  std::minstd_rand random(1);
  const auto uniform = [&] {
    return static_cast<double>(random()) / static_cast<double>(random.max());
  };
  const auto position = [&](int64_t index) {
    const bool differs = uniform() < 0.04;
    const double kld = 0.002 / (0.02 + uniform());
    return At(index, 40, differs ? 41 : 40, differs ? 0.8 * uniform() : 0, kld,
              0.2 + 0.1 * uniform());
  };
  PromptResult prompt;
  prompt.prompt = {"What is AI?", "What is AI?", {1, 5, 6}};
  prompt.reference_text = prompt.candidate_text = prompt.shared_text =
      "AI is a field of computer science.";
  for (int i = 0; i < 30; ++i) {
    prompt.reference_ids.push_back(40);
    prompt.candidate_ids.push_back(40);
    Position p = position(3 + i);
    p.logits.candidate_token = 40;
    p.logits.rank = 0;
    p.logits.margin = 0;
    p.tie = false;
    prompt.positions.push_back(p);
  }
  v.prompts = {prompt};
  v.evaluation.source = "built-in";
  const int64_t half = positions / 2;
  for (int64_t i = 0; i < positions; ++i) {
    v.evaluation.ids.push_back(40);
    v.evaluation.positions.push_back(
        position(1 + i % std::max(half, int64_t{1})));
  }
  v.evaluation.passages = {{"prose", 0, half, {}},
                           {"code", half, positions, {}}};
  v.checks[CheckGroup::kWeights] = {
      {"weights", Outcome::kPass, 1, 1,
       "134620416 of 134620416 bytes are the checkpoint's "
       "(worst 0.5000 steps of rounding)"}};
  v.structure = WholeStructure();
  v.weights_cost = CostsOf(v.evaluation, 0.25, 0.8);
  KvProfile profile;
  profile.prefill_positions = 128;
  profile.decode_positions = 32;
  for (int i = 0; i < 30; ++i) {
    const double noise = 1e-3 * (1 + 0.2 * i) * (0.8 + 0.4 * uniform());
    profile.layers.push_back({Tensor(noise), Tensor(1.4 * noise),
                              Tensor(0.9 * noise), Tensor(1.2 * noise)});
  }
  v.kv_profile = profile;
  Judge(v);
  return v;
}

}  // namespace verify_tflite
