#include "candidate/signatures.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "base/error.h"

namespace verify_tflite {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr auto kFloat = kLiteRtElementTypeFloat32;
constexpr auto kInt = kLiteRtElementTypeInt32;
constexpr int64_t kVocab = 50;

// A signature of a model with 2 layers and 32 positions, in the classic
// converter's layout.
SignatureSpec Signature(std::string name, size_t index, int64_t length) {
  SignatureSpec s{.name = std::move(name), .index = index};
  s.inputs.push_back({.name = "tokens", .type = kInt, .dims = {1, length}});
  s.inputs.push_back({.name = "input_pos", .type = kInt, .dims = {length}});
  for (const char* kind : {"kv_cache_k_", "kv_cache_v_"}) {
    for (const char* layer : {"0", "1"}) {
      TensorSpec cache{.name = std::string(kind) + layer,
                       .type = kFloat,
                       .dims = {1, 32, 2, 4}};
      s.inputs.push_back(cache);
      cache.sequence_axis = 1;
      s.outputs.push_back(cache);
    }
  }
  return s;
}

std::vector<SignatureSpec> ValidModel() {
  std::vector<SignatureSpec> model = {Signature("prefill_4", 0, 4),
                                      Signature("decode", 1, 1),
                                      Signature("prefill_16", 2, 16)};
  model[1].outputs.push_back(
      {.name = "logits", .type = kFloat, .dims = {1, 1, kVocab}});
  return model;
}

TensorSpec& At(std::vector<TensorSpec>& tensors, const std::string& name) {
  for (TensorSpec& t : tensors) {
    if (t.name == name) return t;
  }
  throw std::out_of_range(name);
}

void Remove(std::vector<TensorSpec>& tensors, const std::string& name) {
  std::erase_if(tensors, [&](const TensorSpec& t) { return t.name == name; });
}

void AddMask(SignatureSpec& s, int64_t length, LiteRtElementType type) {
  s.inputs.push_back(
      {.name = "mask", .type = type, .dims = {1, 1, length, 32}});
}

// The message for a valid model after `change`.
std::string MessageAfter(
    const std::function<void(std::vector<SignatureSpec>&)>& change) {
  std::vector<SignatureSpec> model = ValidModel();
  change(model);
  try {
    Interpret("m.tflite", model);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(InterpretTest, ReadsAValidModel) {
  const LlmSignatures model = Interpret("m.tflite", ValidModel());
  ASSERT_EQ(model.prefills.size(), 2u);
  EXPECT_EQ(model.prefills[0].spec.name, "prefill_16");
  EXPECT_EQ(model.prefills[0].spec.index, 2u);
  EXPECT_EQ(model.prefills[0].length, 16);
  EXPECT_EQ(model.prefills[0].logit_rows, 0);
  EXPECT_EQ(model.prefills[1].length, 4);
  EXPECT_EQ(model.decode.length, 1);
  EXPECT_EQ(model.decode.logit_rows, 1);
  EXPECT_EQ(model.num_layers, 2);
  EXPECT_EQ(model.kv_length, 32);
  EXPECT_EQ(model.vocab_size, kVocab);
  EXPECT_FALSE(model.mask_input);
  EXPECT_THAT(model.ignored, ElementsAre());
  EXPECT_EQ(model.kv_caches.size(), 4u);
  EXPECT_EQ(model.decode.inputs[0].role, Role::kTokens);
  EXPECT_EQ(model.decode.inputs[1].role, Role::kPositions);
  EXPECT_EQ(model.decode.inputs[3].role, Role::kKvCache);
  EXPECT_EQ(model.decode.inputs[3].kv, 1u);
  EXPECT_EQ(model.decode.outputs[4].role, Role::kLogits);
}

TEST(InterpretTest, BindsByNameWhateverTheOrder) {
  std::vector<SignatureSpec> specs = ValidModel();
  std::reverse(specs[0].inputs.begin(), specs[0].inputs.end());
  const LlmSignatures model = Interpret("m.tflite", specs);
  const LlmSignature& prefill = model.prefills[1];
  EXPECT_EQ(prefill.inputs[0].role, Role::kKvCache);
  EXPECT_EQ(model.kv_caches[prefill.inputs[0].kv].name, "kv_cache_v_1");
  EXPECT_EQ(prefill.inputs[5].role, Role::kTokens);
}

TEST(InterpretTest, AcceptsTheOtherNamesAndOneUnnumberedPrefill) {
  EXPECT_EQ(MessageAfter([](auto& m) {
              m.erase(m.begin());
              for (SignatureSpec& s : m) {
                At(s.inputs, "tokens").name = "token_ids";
                At(s.inputs, "input_pos").name = "positions";
              }
              m[1].name = "prefill";
            }),
            "");
}

TEST(InterpretTest, IgnoresSignaturesOfOtherUses) {
  std::vector<SignatureSpec> specs = ValidModel();
  for (const char* name : {"test_prefill_4", "prefill_4_lora_r8",
                           "prefill_4_pixel", "prefill_", "verify"}) {
    SignatureSpec other{.name = name};
    other.inputs.push_back({.name = "whatever"});
    specs.push_back(other);
  }
  const LlmSignatures model = Interpret("m.tflite", specs);
  EXPECT_EQ(model.prefills.size(), 2u);
  EXPECT_THAT(model.ignored,
              ElementsAre("test_prefill_4", "prefill_4_lora_r8",
                          "prefill_4_pixel", "prefill_", "verify"));
}

TEST(InterpretTest, AcceptsOutputsItDoesNotUse) {
  EXPECT_EQ(MessageAfter([](auto& m) {
              m[1].outputs.push_back(
                  {.name = "activations", .type = kFloat, .dims = {1, 8}});
            }),
            "");
}

TEST(InterpretTest, CountsPrefillLogitRows) {
  std::vector<SignatureSpec> specs = ValidModel();
  specs[0].outputs.push_back(
      {.name = "logits", .type = kFloat, .dims = {1, 4, kVocab}});
  specs[2].outputs.push_back(
      {.name = "logits", .type = kFloat, .dims = {1, 1, kVocab}});
  const LlmSignatures model = Interpret("m.tflite", specs);
  EXPECT_EQ(model.prefills[0].logit_rows, 1);
  EXPECT_EQ(model.prefills[1].logit_rows, 4);
}

TEST(LogitRowTest, BelongsToTheLastTokenThatIsNoPad) {
  const auto row = [](int64_t rows, int64_t count) {
    LlmSignature signature;
    signature.length = 8;
    signature.logit_rows = rows;
    return LogitRow(signature, count);
  };
  EXPECT_EQ(row(8, 8), 7);
  EXPECT_EQ(row(8, 3), 2);
  EXPECT_EQ(row(1, 8), 0);
  EXPECT_EQ(row(1, 7), std::nullopt);
  EXPECT_EQ(row(0, 8), std::nullopt);
}

TEST(InterpretTest, MaskOfEitherType) {
  for (const auto type : {kFloat, kLiteRtElementTypeBool}) {
    std::vector<SignatureSpec> specs = ValidModel();
    AddMask(specs[0], 4, type);
    AddMask(specs[1], 1, type);
    AddMask(specs[2], 16, type);
    EXPECT_TRUE(Interpret("m.tflite", specs).mask_input);
  }
}

TEST(InterpretTest, KvLengthFollowsTheAxisThatIsWritten) {
  std::vector<SignatureSpec> specs = ValidModel();
  for (SignatureSpec& s : specs) {
    for (auto* tensors : {&s.inputs, &s.outputs}) {
      for (const char* name : {"kv_cache_v_0", "kv_cache_v_1"}) {
        At(*tensors, name).dims = {1, 2, 4, 32};
      }
      for (const char* name : {"kv_cache_k_0", "kv_cache_k_1"}) {
        At(*tensors, name).dims = {1, 2, 32, 4};
      }
    }
    for (TensorSpec& t : s.outputs) {
      if (t.sequence_axis) {
        t.sequence_axis = t.name.starts_with("kv_cache_v") ? 3 : 2;
      }
    }
  }
  EXPECT_EQ(Interpret("m.tflite", specs).kv_length, 32);
}

TEST(InterpretTest, KvLengthFromTheMaskWhereTheGraphDoesNotShowIt) {
  std::vector<SignatureSpec> specs = ValidModel();
  for (SignatureSpec& s : specs) {
    for (TensorSpec& t : s.outputs) t.sequence_axis.reset();
    AddMask(s, s.inputs[1].dims[0], kFloat);
  }
  EXPECT_EQ(Interpret("m.tflite", specs).kv_length, 32);
  for (SignatureSpec& s : specs) Remove(s.inputs, "mask");
  EXPECT_THROW(Interpret("m.tflite", specs), Error);
}

TEST(InterpretTest, NoLanguageModel) {
  EXPECT_THAT(MessageAfter([](auto& m) {
                m = {{.name = "serving_default",
                      .index = 0,
                      .inputs = {},
                      .outputs = {}}};
              }),
              AllOf(HasSubstr("m.tflite"), HasSubstr("\"decode\""),
                    HasSubstr("found: \"serving_default\"")));
  EXPECT_THAT(MessageAfter([](auto& m) { m = {m[1]}; }),
              HasSubstr("no signature \"prefill\""));
  EXPECT_THAT(MessageAfter([](auto& m) { m.clear(); }),
              HasSubstr("found: none"));
}

TEST(InterpretTest, NamesInputsThatAreNotSupported) {
  EXPECT_THAT(
      MessageAfter([](auto& m) {
        Remove(m[1].inputs, "tokens");
        m[1].inputs.push_back(
            {.name = "embeddings", .type = kFloat, .dims = {1, 1, 8}});
        m[1].inputs.push_back({.name = "mystery", .type = kFloat, .dims = {1}});
      }),
      AllOf(HasSubstr("signature \"decode\""),
            HasSubstr("\"embeddings\" (an embedding layer"),
            HasSubstr("\"mystery\"")));
}

TEST(InterpretTest, RefusesWhatContradictsItself) {
  const struct {
    const char* expected;
    std::function<void(std::vector<SignatureSpec>&)> change;
  } cases[] = {
      {"two signatures are named \"prefill_4\"",
       [](auto& m) { m[2].name = "prefill_4"; }},
      {"\"tokens\" is empty or used twice",
       [](auto& m) { m[0].inputs[1].name = "tokens"; }},
      {"\"\" is empty or used twice",
       [](auto& m) { m[0].outputs[0].name = ""; }},
      {"\"token_ids\" mean the same",
       [](auto& m) {
         m[0].inputs.push_back(
             {.name = "token_ids", .type = kInt, .dims = {1, 4}});
       }},
      {"has no input \"tokens\"",
       [](auto& m) { Remove(m[0].inputs, "tokens"); }},
      {"has no input \"input_pos\"",
       [](auto& m) { Remove(m[1].inputs, "input_pos"); }},
      {"has no output \"logits\"",
       [](auto& m) { Remove(m[1].outputs, "logits"); }},
      {"a batch of 2 sequences",
       [](auto& m) {
         At(m[1].inputs, "tokens").dims = {2, 1};
       }},
      {"takes 2 tokens, expected 1",
       [](auto& m) {
         At(m[1].inputs, "tokens").dims = {1, 2};
         At(m[1].inputs, "input_pos").dims = {2};
       }},
      {"[3] for 4 tokens",
       [](auto& m) { At(m[0].inputs, "input_pos").dims = {3}; }},
      {"expected INT32",
       [](auto& m) {
         At(m[0].inputs, "tokens").type = kLiteRtElementTypeInt64;
       }},
      {"expected INT32",
       [](auto& m) { At(m[0].inputs, "input_pos").type = kFloat; }},
      {"dynamic shapes",
       [](auto& m) {
         At(m[0].inputs, "tokens").dims = {1, -1};
       }},
      {"dynamic shapes",
       [](auto& m) { At(m[0].outputs, "kv_cache_k_0").dims[0] = 0; }},
      {"too large",
       [](auto& m) {
         At(m[1].outputs, "logits").dims = {1 << 30, 1 << 30, 1 << 30};
       }},
      {"element type not supported",
       [](auto& m) {
         At(m[1].outputs, "logits").type = kLiteRtElementTypeInt4;
       }},
      {"2 key and 1 value caches",
       [](auto& m) { Remove(m[1].inputs, "kv_cache_v_1"); }},
      {"decode has no such KV cache",
       [](auto& m) { At(m[0].inputs, "kv_cache_v_1").name = "kv_cache_v_7"; }},
      {"3 KV caches among the outputs, expected 4",
       [](auto& m) { Remove(m[0].outputs, "kv_cache_v_1"); }},
      {"3 KV caches among the inputs, expected 4",
       [](auto& m) { Remove(m[0].inputs, "kv_cache_v_1"); }},
      {"All signatures must share the KV caches",
       [](auto& m) { At(m[0].inputs, "kv_cache_k_0").dims[0] = 2; }},
      {"FLOAT16 [1, 32, 2, 4], but decode takes",
       [](auto& m) {
         At(m[0].outputs, "kv_cache_k_0").type = kLiteRtElementTypeFloat16;
       }},
      {"Caches of several lengths",
       [](auto& m) {
         for (SignatureSpec& s : m) {
           At(s.inputs, "kv_cache_k_0").dims[1] = 16;
           At(s.outputs, "kv_cache_k_0").dims[1] = 16;
         }
       }},
      {"expected FLOAT32",
       [](auto& m) {
         At(m[1].outputs, "logits").type = kLiteRtElementTypeFloat16;
       }},
      {"expected 1 or 4 rows of 50",
       [](auto& m) {
         m[0].outputs.push_back(
             {.name = "logits", .type = kFloat, .dims = {1, 3, kVocab}});
       }},
      {"expected 1 or 4 rows of 50",
       [](auto& m) {
         m[0].outputs.push_back(
             {.name = "logits", .type = kFloat, .dims = {1, 1, kVocab - 1}});
       }},
      {"expected FLOAT32 or BOOL",
       [](auto& m) { AddMask(m[0], 4, kLiteRtElementTypeInt8); }},
      {"expected 4 rows of 32", [](auto& m) { AddMask(m[0], 3, kFloat); }},
  };
  for (const auto& test : cases) {
    const std::string message = MessageAfter(test.change);
    EXPECT_THAT(message, HasSubstr(test.expected));
    EXPECT_THAT(message, HasSubstr("m.tflite: "));
  }
}

}  // namespace
}  // namespace verify_tflite
