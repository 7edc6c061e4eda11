#include "checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/testing.h"

namespace verify_tflite {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

constexpr char kConfig[] = R"({
  "model_type": "llama", "vocab_size": 8, "hidden_size": 4,
  "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2
})";

// A safetensors file with one F32 tensor of two numbers for each name, and an
// I64 tensor "ids".
std::string Weights(std::initializer_list<std::string> names) {
  std::string header = R"({"ids":{"dtype":"I64","shape":[1],)"
                       R"("data_offsets":[0,8]})";
  size_t end = 8;
  for (const std::string& name : names) {
    header += fmt::format(
        R"(,"{}":{{"dtype":"F32","shape":[2,1],"data_offsets":[{},{}]}})", name,
        end, end + 8);
    end += 8;
  }
  header += "}";
  const uint64_t length = header.size();
  std::string file(sizeof(length), '\0');
  std::memcpy(file.data(), &length, sizeof(length));
  return file + header + std::string(end, '\1');
}

auto Fails(const std::string& path, const std::string& message) {
  return [=] {
    EXPECT_THAT([&] { Checkpoint::Open(path); },
                ThrowsMessage<Error>(HasSubstr(message)))
        << path;
  };
}

TEST(Checkpoint, OpensADirectoryOrAWeightFile) {
  const TempDir dir;
  dir.Write("config.json", kConfig);
  const std::string file = dir.Write("model.safetensors", Weights({"a"}));
  for (const std::string& path : {dir.path(), dir.path() + "/", file}) {
    Checkpoint opened = Checkpoint::Open(path);
    const Checkpoint checkpoint = std::move(opened);
    EXPECT_TRUE(
        std::filesystem::equivalent(checkpoint.directory(), dir.path()));
    EXPECT_EQ(checkpoint.config().vocab_size, 8);
    EXPECT_TRUE(checkpoint.Has("a"));
    EXPECT_TRUE(checkpoint.Has("ids"));
    EXPECT_FALSE(checkpoint.Has("b"));
    const TensorView& a = checkpoint.Get("a", {2, 1});
    EXPECT_EQ(a.data[0], std::byte{1});
    EXPECT_EQ(a.file->bytes().size(), Weights({"a"}).size());
  }
}

TEST(Checkpoint, OpensAWeightFileOfAnyName) {
  const TempDir dir;
  dir.Write("config.json", kConfig);
  const std::string file = dir.Write("mine.safetensors", Weights({"a"}));
  EXPECT_TRUE(Checkpoint::Open(file).Has("a"));
}

TEST(Checkpoint, GetNamesTensorExpectedAndFound) {
  const TempDir dir;
  dir.Write("config.json", kConfig);
  dir.Write("model.safetensors", Weights({"a"}));
  const Checkpoint checkpoint = Checkpoint::Open(dir.path());
  EXPECT_THAT(
      [&] {
        checkpoint.Get("b", {4, 2});
      },
      ThrowsMessage<Error>(AllOf(HasSubstr("model.safetensors"),
                                 HasSubstr("no tensor \"b\""),
                                 HasSubstr("[4, 2]"))));
  for (const auto& shape : {std::initializer_list<int64_t>{1, 2}, {2}, {}}) {
    EXPECT_THAT([&] { checkpoint.Get("a", shape); },
                ThrowsMessage<Error>(AllOf(
                    HasSubstr("\"a\" has shape [2, 1]"),
                    HasSubstr("implies " +
                              ShapeToString({shape.begin(), shape.size()})))));
  }
  EXPECT_THAT([&] { checkpoint.Get("ids", {1}); },
              ThrowsMessage<Error>(HasSubstr("\"ids\" has dtype I64")));
}

TEST(Checkpoint, OpensShards) {
  const TempDir dir;
  dir.Write("config.json", kConfig);
  dir.Write("m-1-of-2.safetensors", Weights({"a"}));
  const std::string shard = dir.Write("m-2-of-2.safetensors", Weights({"b"}));
  const std::string index =
      dir.Write("model.safetensors.index.json",
                R"({"metadata": {}, "weight_map": {"a": "m-1-of-2.safetensors",
          "ids": "m-1-of-2.safetensors", "b": "m-2-of-2.safetensors"}})");
  for (const std::string& path : {dir.path(), index}) {
    const Checkpoint checkpoint = Checkpoint::Open(path);
    checkpoint.Get("a", {2, 1});
    checkpoint.Get("b", {2, 1});
    EXPECT_TRUE(checkpoint.Has("ids"));
  }
  Fails(shard, "one shard of several")();
}

struct BadIndex {
  const char* index;
  const char* message;
};

TEST(Checkpoint, RefusesAnIndexThatLies) {
  const TempDir dir;
  dir.Write("config.json", kConfig);
  dir.Write("m.safetensors", Weights({"a"}));
  const BadIndex cases[] = {
      {R"({"weight_map": {"a": "n.safetensors"}})", "n.safetensors: missing"},
      {R"({"weight_map": {"a": "../m.safetensors"}})", "bad shard name"},
      {R"({"weight_map": {"a": "/m.safetensors"}})", "bad shard name"},
      {R"({"weight_map": {"a": "x\\m.safetensors"}})", "bad shard name"},
      {R"({"weight_map": {"a": "m.safetensors\u0000"}})", "bad shard name"},
      {R"({"weight_map": {"a": "config.json"}})", "bad shard name"},
      {R"({"weight_map": {"a": ".."}})", "bad shard name"},
      {R"({"weight_map": {"a": ""}})", "bad shard name"},
      {R"({"weight_map": {"a": 1}})", "expected a file name"},
      {R"({"weight_map": {}})", "no \"weight_map\""},
      {R"({"weight_map": ["m.safetensors"]})", "no \"weight_map\""},
      {R"({})", "no \"weight_map\""},
      {R"({"weight_map")", "not valid JSON"},
  };
  for (const BadIndex& bad : cases) {
    dir.Write("model.safetensors.index.json", bad.index);
    Fails(dir.path(), bad.message)();
  }
}

TEST(Checkpoint, SaysWhatIsMissing) {
  const TempDir dir;
  Fails(dir.File("absent"), "no such file or directory")();
  Fails(dir.path(), "no config.json")();
  Fails(dir.path(), "it is empty")();
  dir.Write("weights.safetensors", Weights({"a"}));
  Fails(dir.path(), "found: weights.safetensors")();
  dir.Write("config.json", kConfig);
  Fails(dir.path(), "expected model.safetensors or model.safetensors.index")();
  Fails(dir.path(), "found: config.json, weights.safetensors")();
  Fails(dir.File("config.json"), "File format not supported")();
}

TEST(Checkpoint, OtherWeightFormatsAreNotSupported) {
  for (const char* name : {"a.gguf", "a.h5", "a.onnx", "a.msgpack"}) {
    const TempDir dir;
    dir.Write("config.json", kConfig);
    const std::string file = dir.Write(name, "x");
    for (const std::string& path : {dir.path(), file}) {
      Fails(path, "File format not supported: use .safetensors")();
      Fails(path, "safe_serialization=True")();
      Fails(path, name)();
    }
  }
}

TEST(Checkpoint, NamesOfWrappedModelsAreUnwrapped) {
  const struct {
    const char* embedding;
    const char* norm;
    const char* head;
  } cases[] = {
      {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"},
      {"embed_tokens.weight", "norm.weight", "lm_head.weight"},
      {"module.model.embed_tokens.weight", "module.model.norm.weight",
       "module.lm_head.weight"},
      {"module.embed_tokens.weight", "module.norm.weight",
       "module.lm_head.weight"},
      {"model.model.embed_tokens.weight", "model.model.norm.weight",
       "model.lm_head.weight"},
      {"_orig_mod.model.embed_tokens.weight", "_orig_mod.model.norm.weight",
       "_orig_mod.lm_head.weight"},
  };
  for (const auto& names : cases) {
    const TempDir dir;
    dir.Write("config.json", kConfig);
    dir.Write("model.safetensors",
              Weights({names.embedding, names.norm, names.head}));
    const Checkpoint checkpoint = Checkpoint::Open(dir.path());
    EXPECT_TRUE(checkpoint.Has("model.embed_tokens.weight"));
    EXPECT_TRUE(checkpoint.Has("model.norm.weight"));
    EXPECT_TRUE(checkpoint.Has("lm_head.weight"));
  }
}

TEST(Checkpoint, NamesThatCouldBeTwoThingsAreErrors) {
  const struct {
    std::initializer_list<std::string> names;
    const char* message;
  } cases[] = {
      {{"model.embed_tokens.weight", "module.model.embed_tokens.weight"},
       "more than one tensor could be \"model.embed_tokens.weight\""},
      {{"embed_tokens.weight", "model.embed_tokens.weight"},
       "it is not clear which"},
      {{"embed_tokens.weight", "norm.weight", "model.norm.weight"},
       "more than one tensor could be"},
      {{"module.model.embed_tokens.weight", "norm.weight",
        "module.norm.weight"},
       "more than one tensor could be \"norm.weight\""},
      {{"tok_embeddings.weight"}, "as Meta's own files do"},
  };
  for (const auto& bad : cases) {
    const TempDir dir;
    dir.Write("config.json", kConfig);
    dir.Write("model.safetensors", Weights(bad.names));
    Fails(dir.path(), bad.message)();
  }
}

// PreTrainedModel.tie_weights of transformers 5.24 ties either way.
TEST(Checkpoint, ALoneHeadIsTheEmbeddingWhereTheTwoAreTied) {
  const TempDir dir;
  std::string tied = kConfig;
  tied.replace(tied.find('{'), 1, R"({"tie_word_embeddings": true,)");
  dir.Write("config.json", tied);
  dir.Write("model.safetensors",
            Weights({"model.norm.weight", "lm_head.weight"}));
  const Checkpoint checkpoint = Checkpoint::Open(dir.path());
  EXPECT_NO_THROW(checkpoint.Get("model.embed_tokens.weight", {2, 1}));
  EXPECT_FALSE(checkpoint.Has("lm_head.weight"));
  EXPECT_THAT(checkpoint.notes(), ElementsAre(HasSubstr("lm_head.weight")));
  // A wrapped one, whose names the last norm tells.
  dir.Write("model.safetensors",
            Weights({"module.norm.weight", "module.lm_head.weight"}));
  EXPECT_TRUE(Checkpoint::Open(dir.path()).Has("model.embed_tokens.weight"));
  // Both: nothing is exchanged.
  dir.Write("model.safetensors",
            Weights({"model.embed_tokens.weight", "lm_head.weight"}));
  EXPECT_TRUE(Checkpoint::Open(dir.path()).Has("lm_head.weight"));
  // Not tied: the embedding is missing.
  dir.Write("config.json", kConfig);
  dir.Write("model.safetensors", Weights({"lm_head.weight"}));
  EXPECT_FALSE(Checkpoint::Open(dir.path()).Has("model.embed_tokens.weight"));
}

TEST(Checkpoint, WhatAnIndexNamesIsMissingWhereItIsNeeded) {
  const TempDir dir;
  dir.Write("config.json", kConfig);
  dir.Write("m.safetensors", Weights({"a"}));
  dir.Write("model.safetensors.index.json",
            R"({"weight_map": {"a": "m.safetensors", "b": "m.safetensors",
                "c": "n.safetensors"}})");
  const Checkpoint checkpoint = Checkpoint::Open(dir.path());
  EXPECT_TRUE(checkpoint.Has("a"));
  EXPECT_FALSE(checkpoint.Has("b"));
  EXPECT_THAT([&] { checkpoint.Get("b", {2, 1}); },
              ThrowsMessage<Error>(HasSubstr("names tensor \"b\", but")));
  // Whether it would be there is not known.
  EXPECT_THAT([&] { checkpoint.Has("c"); },
              ThrowsMessage<Error>(HasSubstr("n.safetensors: missing")));
  EXPECT_THAT([&] { checkpoint.Get("c", {2, 1}); },
              ThrowsMessage<Error>(HasSubstr("n.safetensors: missing")));
  EXPECT_THAT(checkpoint.notes(),
              ElementsAre(HasSubstr("\"b\""), HasSubstr("\"n.safetensors\"")));
}

TEST(Checkpoint, ReadsNamesOfWrappersWhereverTheyStand) {
  const TempDir dir;
  dir.Write("config.json", kConfig);
  dir.Write("model.safetensors",
            Weights({"_fsdp_wrapped_module.model.embed_tokens.weight",
                     "_fsdp_wrapped_module.model.layers.0._fsdp_wrapped_module."
                     "self_attn.q_proj.weight",
                     "model.layers.1._orig_mod.mlp.up_proj.weight",
                     "model.layers.2._checkpoint_wrapped_module.mlp.x"}));
  const Checkpoint checkpoint = Checkpoint::Open(dir.path());
  for (const char* name :
       {"model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight",
        "model.layers.1.mlp.up_proj.weight", "model.layers.2.mlp.x"}) {
    EXPECT_TRUE(checkpoint.Has(name)) << name;
  }
}

TEST(Checkpoint, SaysWhatIsThereInsteadOfATensor) {
  const struct {
    std::initializer_list<std::string> names;
    const char* message;
  } cases[] = {
      {{"base_model.model.model.embed_tokens.weight"}, "merge_and_unload"},
      {{"base_model.model.model.embed_tokens.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default."
        "weight"},
       "an adapter that is not merged"},
      {{"language_model.model.embed_tokens.weight"}, "multimodal"},
      {{"model.language_model.embed_tokens.weight"}, "multimodal"},
      {{"x.y", "z"}, "the file has 2 tensors: \"x.y\", \"z\""},
  };
  for (const auto& bad : cases) {
    const TempDir dir;
    dir.Write("config.json", kConfig);
    dir.Write("model.safetensors", Weights(bad.names));
    const Checkpoint checkpoint = Checkpoint::Open(dir.path());
    EXPECT_THAT([&] { checkpoint.Get("model.embed_tokens.weight", {2, 1}); },
                ThrowsMessage<Error>(HasSubstr(bad.message)));
  }
}

TEST(Checkpoint, NamesAnAdapter) {
  const TempDir dir;
  dir.Write("adapter_config.json", "{}");
  dir.Write("adapter_model.safetensors", Weights({"a"}));
  Fails(dir.path(), "is an adapter (PEFT")();
  dir.Write("config.json", kConfig);
  Fails(dir.path(), "is an adapter (PEFT")();
  dir.Write("model.safetensors", Weights({"a"}));
  EXPECT_THAT(Checkpoint::Open(dir.path()).notes(),
              ElementsAre(HasSubstr("compared is the model without it")));
}

TEST(Checkpoint, TakesTheFirstOfTheFilesTransformersLooksFor) {
  const TempDir dir;
  dir.Write("config.json", kConfig);
  dir.Write("pytorch_model.bin.index.json", "{}");
  Fails(dir.path(), "pytorch_model.bin.index.json: no \"weight_map\"")();
  dir.Write("pytorch_model.bin.index.json",
            R"({"weight_map": {"a": "a.safetensors"}})");
  Fails(dir.path(), "expected a .bin file beside it")();
  dir.Write("pytorch_model.bin", "x");
  Fails(dir.path(), "pytorch_model.bin: not a file of torch.save")();
  dir.Write("model.safetensors", Weights({"a"}));
  EXPECT_TRUE(Checkpoint::Open(dir.path()).Has("a"));
}

TEST(Checkpoint, AWeightFileOfAnotherNameMustBeGiven) {
  const TempDir dir;
  dir.Write("config.json", kConfig);
  const std::string file = dir.Write("best.pt", "x");
  Fails(dir.path(), "must be given itself")();
  Fails(file, "not a file of torch.save")();
}

TEST(Checkpoint, QuantizedCheckpointsAreNamed) {
  const TempDir dir;
  dir.Write("config.json", kConfig);
  dir.Write("model.safetensors", Weights({"q.qweight", "q.qzeros", "q.g_idx"}));
  Fails(dir.path(),
        "already quantized checkpoint (GPTQ; tensor \"q.g_idx\")")();
  dir.Write("config.json",
            R"({"quantization_config": {"quant_method": "awq"}})");
  Fails(dir.path(), "config.json: an already quantized checkpoint (AWQ;")();
}

}  // namespace
}  // namespace verify_tflite
