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

constexpr auto kFloat = ElementType::kFloat32;
constexpr auto kInt = ElementType::kInt32;
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

void AddMask(SignatureSpec& s, int64_t length, ElementType type) {
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
  for (const auto type : {kFloat, ElementType::kBool}) {
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
        for (const char* name : {"pixel_values", "pos_emb_cos", "kv_slice_k_0",
                                 "kv_cache_r_0", "mystery"}) {
          m[1].inputs.push_back({.name = name, .type = kFloat, .dims = {1}});
        }
      }),
      AllOf(HasSubstr("signature \"decode\""),
            HasSubstr("\"pixel_values\" (images)"),
            HasSubstr("\"pos_emb_cos\" (rotary embeddings"),
            HasSubstr("split cache"), HasSubstr("recurrent state"),
            HasSubstr("\"mystery\"")));
}

TEST(InterpretTest, NamesOperatorsThatTheCpuDoesNotHave) {
  EXPECT_THAT(MessageAfter([](auto& m) { m[1].custom_ops = {"DISPATCH_OP"}; }),
              AllOf(HasSubstr("signature \"decode\""), HasSubstr("NPU")));
  // The runtime says itself whether it has others.
  EXPECT_EQ(MessageAfter([](auto& m) { m[0].custom_ops = {"my\x01op"}; }), "");
  // Signatures that are not used may have them.
  EXPECT_EQ(MessageAfter([](auto& m) {
              m.push_back({.name = "verify", .custom_ops = {"DISPATCH_OP"}});
            }),
            "");
}

TEST(InterpretTest, TheLongestOfSeveralCaches) {
  std::vector<SignatureSpec> specs = ValidModel();
  std::vector<SignatureSpec> both;
  for (const char* suffix : {"_cache_32", "_cache_9", "_cache_x"}) {
    for (SignatureSpec s : specs) {
      s.name += suffix;
      both.push_back(std::move(s));
    }
  }
  const LlmSignatures model = Interpret("m.tflite", both);
  EXPECT_EQ(model.decode.spec.name, "decode_cache_32");
  ASSERT_EQ(model.prefills.size(), 2u);
  EXPECT_EQ(model.prefills[0].spec.name, "prefill_16_cache_32");
  EXPECT_EQ(model.ignored.size(), 6u);
  // Signatures without suffix come first.
  both.insert(both.end(), specs.begin(), specs.end());
  EXPECT_EQ(Interpret("m.tflite", both).decode.spec.name, "decode");
  EXPECT_EQ(Interpret("m.tflite", both).prefills[1].spec.name, "prefill_4");
}

// Decode takes `batch` sequences and prefill one.
void MakeBatch(std::vector<SignatureSpec>& specs, int64_t batch) {
  At(specs[1].inputs, "tokens").dims = {batch, 1};
  At(specs[1].outputs, "logits").dims = {batch, 1, kVocab};
  for (auto* tensors : {&specs[1].inputs, &specs[1].outputs}) {
    for (TensorSpec& t : *tensors) {
      if (t.name.starts_with("kv_cache")) t.dims[0] = batch;
    }
  }
}

TEST(InterpretTest, DecodeBatch) {
  std::vector<SignatureSpec> specs = ValidModel();
  MakeBatch(specs, 3);
  const LlmSignatures model = Interpret("m.tflite", specs);
  EXPECT_EQ(model.decode.batch, 3);
  EXPECT_EQ(model.decode.length, 1);
  EXPECT_EQ(model.decode.logit_rows, 1);
  EXPECT_EQ(model.prefills[0].batch, 1);
  EXPECT_THAT(model.kv_caches[0].dims, ElementsAre(1, 32, 2, 4));
  EXPECT_THAT(model.decode_kv_caches[0].dims, ElementsAre(3, 32, 2, 4));
  EXPECT_EQ(model.kv_length, 32);
  At(specs[0].inputs, "kv_cache_k_0").dims[0] = 2;
  EXPECT_THROW(Interpret("m.tflite", specs), Error);
}

void TakeEmbeddings(SignatureSpec& s) {
  const int64_t length = At(s.inputs, "input_pos").dims[0];
  Remove(s.inputs, "tokens");
  s.inputs.push_back(
      {.name = "embeddings", .type = kFloat, .dims = {1, length, 8}});
}

TEST(InterpretTest, EmbeddingsInsteadOfTokens) {
  std::vector<SignatureSpec> specs = ValidModel();
  EXPECT_FALSE(Interpret("m.tflite", specs).embeddings_input);
  for (SignatureSpec& s : specs) TakeEmbeddings(s);
  const LlmSignatures model = Interpret("m.tflite", specs);
  EXPECT_TRUE(model.embeddings_input);
  EXPECT_FALSE(model.per_layer_embeddings_input);
  EXPECT_EQ(model.prefills[0].length, 16);
}

// Two layers, of which one is a ring of 8 slots.
std::vector<SignatureSpec> RingModel() {
  std::vector<SignatureSpec> specs = ValidModel();
  for (SignatureSpec& s : specs) {
    const int64_t length = s.inputs[1].dims[0];
    for (auto* tensors : {&s.inputs, &s.outputs}) {
      for (const char* name : {"kv_cache_k_0", "kv_cache_v_0"}) {
        At(*tensors, name).dims[1] = 8;
        At(*tensors, name).sequence_axis.reset();
      }
    }
    AddMask(s, length, kFloat);
    s.inputs.push_back(
        {.name = "local_mask",
         .type = kFloat,
         .dims = {1, 1, length, s.name == "decode" ? 8 : 8 + length}});
  }
  return specs;
}

TEST(InterpretTest, Rings) {
  std::vector<SignatureSpec> specs = RingModel();
  const LlmSignatures model = Interpret("m.tflite", specs);
  EXPECT_EQ(model.ring_length, 8);
  EXPECT_EQ(model.kv_length, 32);
  EXPECT_TRUE(model.local_mask_input);
  for (const LlmSignature& s : model.prefills) EXPECT_FALSE(MayPad(model, s));
  for (SignatureSpec& s : specs) {
    s.inputs.push_back(
        {.name = "param_tensor", .type = kInt, .dims = {1, 1, 1, 7}});
  }
  const LlmSignatures with_params = Interpret("m.tflite", specs);
  // 16 tokens are more than the ring holds.
  EXPECT_FALSE(MayPad(with_params, with_params.prefills[0]));
  EXPECT_TRUE(MayPad(with_params, with_params.prefills[1]));
}

TEST(InterpretTest, LocalMaskOfAWholeCache) {
  std::vector<SignatureSpec> specs = ValidModel();
  for (SignatureSpec& s : specs) {
    s.inputs.push_back({.name = "attn_mask_local",
                        .type = kFloat,
                        .dims = {1, 1, s.inputs[1].dims[0], 32}});
  }
  const LlmSignatures model = Interpret("m.tflite", specs);
  EXPECT_EQ(model.ring_length, 0);
  EXPECT_TRUE(model.local_mask_input);
  EXPECT_TRUE(MayPad(model, model.prefills[0]));
}

TEST(FindKvCacheTest, ByLayerAndPart) {
  const LlmSignatures model = Interpret("m.tflite", ValidModel());
  const auto name = [&](KvPart part, int64_t layer) {
    const auto found = FindKvCache(model, part, layer);
    return found ? model.kv_caches.at(*found).name : "none";
  };
  EXPECT_EQ(name(KvPart::kKeys, 0), "kv_cache_k_0");
  EXPECT_EQ(name(KvPart::kKeys, 1), "kv_cache_k_1");
  EXPECT_EQ(name(KvPart::kValues, 1), "kv_cache_v_1");
  EXPECT_EQ(name(KvPart::kValues, 2), "none");
  EXPECT_EQ(name(KvPart::kKeys, -1), "none");
}

TEST(SequenceAxisTest, AsTheGraphShowsElseByLength) {
  std::vector<SignatureSpec> specs = ValidModel();
  EXPECT_EQ(SequenceAxisOf("m.tflite", Interpret("m.tflite", specs), 0), 1u);
  for (SignatureSpec& s : specs)
    At(s.outputs, "kv_cache_k_0").sequence_axis = {};
  LlmSignatures model = Interpret("m.tflite", specs);
  EXPECT_EQ(SequenceAxisOf("m.tflite", model, 0), 1u);
  model.kv_caches[0].dims = {1, 2, 8, 4};
  model.ring_length = 8;
  EXPECT_EQ(SequenceAxisOf("m.tflite", model, 0), 2u);
  for (const int64_t other : {32, 8, 7}) {
    model.kv_caches[0].dims = {1, 2, other == 7 ? 5 : 8, other};
    EXPECT_THROW(SequenceAxisOf("m.tflite", model, 0), Error);
  }
}

SignatureSpec EmbedderSpec(int64_t length) {
  return {.name = "prefill_embedder_" + std::to_string(length),
          .inputs = {{.name = "token_ids", .type = kInt, .dims = {1, length}}},
          .outputs = {
              {.name = "embeddings", .type = kFloat, .dims = {1, length, 8}}}};
}

TEST(InterpretEmbedderTest, ByDescendingLength) {
  const auto found =
      InterpretEmbedder("e.tflite", {EmbedderSpec(1), EmbedderSpec(16)});
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].length, 16);
  EXPECT_EQ(found[1].length, 1);
}

TEST(InterpretEmbedderTest, RefusesWhatIsNone) {
  EXPECT_THROW(InterpretEmbedder("e.tflite", {}), Error);
  EXPECT_THROW(InterpretEmbedder("e.tflite", ValidModel()), Error);
  SignatureSpec odd = EmbedderSpec(4);
  odd.outputs[0].dims = {1, 3, 7};
  EXPECT_THROW(InterpretEmbedder("e.tflite", {odd}), Error);
  odd.outputs[0].dims = {1, -1, 8};
  EXPECT_THROW(InterpretEmbedder("e.tflite", {odd}), Error);
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
      {"has no input \"tokens\" or \"embeddings\"",
       [](auto& m) { Remove(m[0].inputs, "tokens"); }},
      {"has no input \"input_pos\"",
       [](auto& m) { Remove(m[1].inputs, "input_pos"); }},
      {"has no output \"logits\"",
       [](auto& m) { Remove(m[1].outputs, "logits"); }},
      {"expected 2 as the first dimension",
       [](auto& m) {
         At(m[1].inputs, "tokens").dims = {2, 1};
       }},
      {"a batch of 2 sequences, expected 1",
       [](auto& m) {
         At(m[0].inputs, "tokens").dims = {2, 4};
       }},
      {"expected 1 or 2 rows of 50",
       [](auto& m) {
         MakeBatch(m, 2);
         At(m[1].outputs, "logits").dims = {1, 1, kVocab};
       }},
      {"takes embeddings and decode the other",
       [](auto& m) { TakeEmbeddings(m[0]); }},
      {"expected the embeddings of 1 tokens",
       [](auto& m) {
         TakeEmbeddings(m[1]);
         At(m[1].inputs, "embeddings").dims = {1, 2, 8};
       }},
      {"\"embeddings\" FLOAT16 [1, 1, 8]: expected FLOAT32",
       [](auto& m) {
         TakeEmbeddings(m[1]);
         At(m[1].inputs, "embeddings").type = ElementType::kFloat16;
       }},
      {"expected INT32 with at least 3 elements",
       [](auto& m) {
         m[0].inputs.push_back(
             {.name = "param_tensor", .type = kInt, .dims = {2}});
       }},
      {"expected 4 rows of 12",
       [](auto& m) {
         m = RingModel();
         At(m[0].inputs, "local_mask").dims.back() = 11;
       }},
      {"one row of positions",
       [](auto& m) {
         At(m[0].inputs, "input_pos").dims = {2, 4};
       }},
      {"takes 2 tokens, expected 1",
       [](auto& m) {
         At(m[1].inputs, "tokens").dims = {1, 2};
         At(m[1].inputs, "input_pos").dims = {2};
       }},
      {"[3] for 4 tokens",
       [](auto& m) { At(m[0].inputs, "input_pos").dims = {3}; }},
      {"expected INT32",
       [](auto& m) { At(m[0].inputs, "tokens").type = ElementType::kInt64; }},
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
       [](auto& m) { At(m[1].outputs, "logits").type = ElementType::kInt4; }},
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
      {"FLOAT16 [1, 32, 2, 4], expected \"kv_cache_k_0\" FLOAT32",
       [](auto& m) {
         At(m[0].outputs, "kv_cache_k_0").type = ElementType::kFloat16;
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
         At(m[1].outputs, "logits").type = ElementType::kFloat16;
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
      {"expected FLOAT32, FLOAT16 or BOOL",
       [](auto& m) { AddMask(m[0], 4, ElementType::kInt8); }},
      {"expected 4 rows of 32", [](auto& m) { AddMask(m[0], 3, kFloat); }},
  };
  for (const auto& test : cases) {
    const std::string message = MessageAfter(test.change);
    EXPECT_THAT(message, HasSubstr(test.expected));
    EXPECT_THAT(message, HasSubstr("m.tflite: "));
  }
}

// A hybrid, whose layer 0 has a state in place of keys and values.
std::vector<SignatureSpec> Hybrid() {
  std::vector<SignatureSpec> model = ValidModel();
  for (SignatureSpec& s : model) {
    for (std::vector<TensorSpec>* ends : {&s.inputs, &s.outputs}) {
      Remove(*ends, "kv_cache_k_0");
      Remove(*ends, "kv_cache_v_0");
      ends->push_back(
          {.name = "kv_cache_c_0", .type = kFloat, .dims = {1, 6, 2}});
    }
  }
  return model;
}

TEST(InterpretTest, StatesBesideKeysAndValues) {
  std::vector<SignatureSpec> specs = Hybrid();
  specs[0].pad_token = 3;
  specs[2].pad_token = kVocab;  // cannot be fed
  const LlmSignatures model = Interpret("m.tflite", specs);
  EXPECT_EQ(model.num_layers, 1);
  EXPECT_THAT(model.kv_layers, ElementsAre(1));
  ASSERT_EQ(model.states.size(), 1u);
  EXPECT_EQ(model.kv_caches[model.states[0]].name, "kv_cache_c_0");
  EXPECT_EQ(model.kv_length, 32);
  EXPECT_EQ(model.prefills[1].spec.pad_token, 3);
  EXPECT_EQ(model.prefills[0].spec.pad_token, std::nullopt);
  specs[0].inputs.back().dims = {1, 6, 3};
  EXPECT_THROW(Interpret("m.tflite", specs), Error);
}

}  // namespace
}  // namespace verify_tflite
