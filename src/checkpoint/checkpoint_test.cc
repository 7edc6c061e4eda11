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
      {R"({"weight_map": {"b": "m.safetensors"}})", "has no tensor \"b\""},
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
       "has both model.embed_tokens.weight and module.model.embed_tokens"},
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
