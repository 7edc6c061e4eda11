#include "report/inspect.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/utf8.h"
#include "report/approved.h"

namespace verify_tflite {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

tflite::Summary SampleFile() {
  tflite::Summary file;
  file.description = "MLIR Converted.";
  file.version = 3;
  file.metadata = {{"min_runtime_version", 16}};
  const TensorSpec cache_k = {
      "kv_cache_k_0", ElementType::kFloat32, {1, 256, 2, 16}};
  const TensorSpec cache_v = {
      "kv_cache_v_0", ElementType::kFloat32, {1, 2, 16, 256}};
  TensorSpec other_k = cache_k;
  other_k.name = "kv_cache_k_1";
  const TensorSpec tokens = {"tokens", ElementType::kInt32, {1, 1}};
  const TensorSpec mask = {"mask", ElementType::kFloat32, {1, 1, 1, 256}};
  const TensorSpec logits = {"logits", ElementType::kFloat32, {1, 1, 1000}};
  const TensorSpec stored_k = {"kv_cache_k_0",
                               ElementType::kInt8,
                               {1, 256, 2, 16},
                               std::nullopt,
                               TensorScale{0.03125F, -3}};
  TensorSpec stored_k_1 = stored_k;
  stored_k_1.name = "kv_cache_k_1";
  stored_k_1.scale = {0.0625F, 5};
  const TensorSpec stored_mask = {"mask",
                                  ElementType::kInt16,
                                  {1, 1, 1, 256},
                                  std::nullopt,
                                  TensorScale{0.00305F, 0}};
  file.signatures = {{"decode",
                      0,
                      {tokens, cache_k, other_k, cache_v, mask},
                      {cache_k, logits}},
                     {"decode_static",
                      1,
                      {tokens, stored_k, stored_k_1, stored_mask},
                      {stored_k}},
                     {"a \x1B[31m \xFF", 2, {}, {}}};
  file.subgraphs = 12;
  file.ops = {{"FULLY_CONNECTED", 70}, {"CUSTOM own", 1}};
  for (int i = 0; i < 30; ++i) file.ops[fmt::format("SOME_OPERATOR_{}", i)] = i;
  file.composites = {{"odml.rms_norm", 23}};
  file.weights = {{"INT8 per channel", {29, 3'400'000, 3'400'000}},
                  {"FLOAT32", {14, 4000, 1000}}};
  file.weight_bytes = {{"FLOAT32", 4000}, {"INT8", 3'400'000}};
  return file;
}

// A bundle with a model that can be verified, one that is damaged, and one that
// is not asked about.
Inspection SampleBundle() {
  Inspection result = {.path = "model.litertlm",
                       .kind = ".litertlm",
                       .bytes = 1'234'567'890,
                       .bundle = {},
                       .models = {},
                       .checkpoint = {}};
  InspectedBundle& bundle = result.bundle.emplace();
  bundle.version = "1.7.0";
  bundle.system_metadata = {{"Authors", "me\x1B[31m"}};
  bundle.sections = {
      {"LlmMetadata", 16384, 17000, {}},
      {"TFLiteModel", 32768, 1032768, {{"model_type", "tf_lite_embedder"}}}};
  LlmMetadata& metadata = bundle.llm_metadata.emplace();
  metadata.start_token = {.ids = {1}, .text = ""};
  metadata.stop_tokens = {{.ids = {2, 3}, .text = ""},
                          {.ids = {}, .text = "</s>\n"}};
  metadata.jinja_template = std::string(200, 'x');
  metadata.user = {"<user>", "\n"};
  metadata.max_num_tokens = 1280;
  metadata.model_type = "gemma3";
  bundle.tokenizer = "Hugging Face tokenizer.json, 46 bytes";

  InspectedModel& model = result.models.emplace_back();
  model.model_type = "prefill_decode";
  model.file = SampleFile();
  ModelInfo& info = model.llm.emplace();
  info.prefills = {{"prefill_64", 64, 64}, {"prefill_8", 8, 0}};
  info.ignored_signatures = {"verify"};
  info.num_layers = 2;
  info.kv_length = 256;
  info.kv_bytes = 65536;
  info.kv_type = "FLOAT32";
  info.vocab_size = 1000;
  info.recipe = Recipe::kInt8;
  info.embedder_path = "model.litertlm: embedder";
  info.notes = {"a note on how this file is run"};
  InspectedModel& damaged = result.models.emplace_back();
  damaged.model_type = "embedder";
  damaged.damage = "model.litertlm: section 1 is damaged or incomplete";
  return result;
}

Inspection SampleUnsupported() {
  Inspection result = {.path = "model.tflite",
                       .kind = ".tflite",
                       .bytes = 4567,
                       .bundle = {},
                       .models = {},
                       .checkpoint = {}};
  InspectedModel& model = result.models.emplace_back();
  model.file.emplace();
  model.unsupported =
      "model.tflite: signature \"decode\": needs inputs that are not supported "
      "yet: \"lora_atten_q_a_prime_weight_0\" (LoRA adapters). Supported are "
      "tokens, positions, an attention mask and KV caches";
  return result;
}

Inspection SampleCheckpoint() {
  Inspection result = {.path = "checkpoint",
                       .kind = "checkpoint",
                       .bytes = 0,
                       .bundle = {},
                       .models = {},
                       .checkpoint = {}};
  InspectedCheckpoint& c = result.checkpoint.emplace();
  c.model_type = "mamba";
  c.config = {
      {"hidden_size", "576"},
      {"hidden_act", "\"silu\\u001b[31m\""},
      {"rope_scaling",
       R"({"factor":8.0,"rope_type":"llama3","original_max_position_embeddings":8192,"high_freq_factor":4.0})"},
      {"layer_types", R"(["full",{"a":[1,2]},{}])"}};
  c.parameters = 134'515'008;
  c.tensors = 272;
  c.tensor_bytes = {{"BF16", 269'030'016}};
  c.tokenizer = "BPE (tokenizer.json), ids below 49152";
  c.chat_template = "chat_template.jinja";
  c.eos_ids = {1, 106};
  c.unsupported = {"config.json: model_type \"mamba\" is not supported"};
  return result;
}

// A .task with an embedder of its own.
Inspection SampleTask() {
  Inspection result = {.path = "model.task",
                       .kind = ".task",
                       .bytes = 4567,
                       .bundle = {},
                       .models = {},
                       .checkpoint = {}};
  InspectedBundle& bundle = result.bundle.emplace();
  bundle.sections = {{"TFLiteModel", 56, 4000, {{"name", "TF_LITE_EMBEDDER"}}}};
  LlmMetadata& metadata = bundle.llm_metadata.emplace();
  metadata.stop_tokens = {{.ids = {}, .text = "<eos>"}};
  metadata.session_prefix = "Be brief.";
  metadata.single_turn = {"<user>", "</user>\n"};
  metadata.bytes_to_unicode = true;
  bundle.tokenizer = "SentencePiece model, 46 bytes";
  InspectedModel& model = result.models.emplace_back();
  model.model_type = "embedder";
  model.embeddings = {{"prefill_embedder_8", 8, {64}},
                      {"decode_per_layer\x1B", 1, {2, 32}}};
  return result;
}

std::string All(std::string (*report)(const Inspection&)) {
  return report(SampleBundle()) + report(SampleUnsupported()) +
         report(SampleCheckpoint()) + report(SampleTask());
}

TEST(InspectionReport, IsAsApproved) {
  ExpectApproved("inspect.txt", All(InspectionReport));
}

TEST(InspectionReport, FitsTheTerminalAndSendsNoEscapes) {
  const std::string text = All(InspectionReport);
  EXPECT_THAT(text, Not(HasSubstr("\x1B")));
  EXPECT_EQ(FindInvalidUtf8(text), std::string::npos);
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    size_t columns = 0;
    for (size_t i = at; i < end; ++i) columns += (text[i] & 0xC0) != 0x80;
    EXPECT_LE(columns, 100u) << text.substr(at, end - at);
    at = end + 1;
  }
}

TEST(InspectionJson, IsAsApproved) {
  ExpectApproved("inspect.json", InspectionJson(SampleBundle()));
  ExpectApproved("inspect_checkpoint.json", InspectionJson(SampleCheckpoint()));
  ExpectApproved("inspect_task.json", InspectionJson(SampleTask()));
}

TEST(InspectionJson, CanBeReadBack) {
  const auto json = nlohmann::json::parse(InspectionJson(SampleUnsupported()));
  EXPECT_EQ(json["schema_version"], kInspectSchemaVersion);
  EXPECT_THAT(json["models"][0]["unsupported"].get<std::string>(),
              HasSubstr("LoRA adapters"));
  EXPECT_TRUE(json["bundle"].is_null());
}

}  // namespace
}  // namespace verify_tflite
