#include "checkpoint/pytorch_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <random>
#include <string>

#include "base/error.h"
#include "base/testing.h"
#include "base/testing_zip.h"

namespace verify_tflite {
namespace {

using namespace std::string_literals;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

// Pieces of pickles, as torch.save writes them.

std::string Text(const std::string& text) {
  const auto size = static_cast<uint32_t>(text.size());
  return "X" + std::string(reinterpret_cast<const char*>(&size), 4) + text;
}

std::string Int(int64_t value) {
  return "\x8a\x08" + std::string(reinterpret_cast<const char*>(&value), 8);
}

std::string Tuple(const std::vector<std::string>& items) {
  std::string text = "(";
  for (const std::string& item : items) text += item;
  return text + "t";
}

std::string Ints(const std::vector<int64_t>& values) {
  std::vector<std::string> items;
  for (const int64_t value : values) items.push_back(Int(value));
  return Tuple(items);
}

std::string Global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}

std::string Storage(int64_t count, const std::string& type = "FloatStorage",
                    const std::string& key = "0") {
  return Tuple({Text("storage"), Global("torch", type), Text(key), Text("cpu"),
                Int(count)}) +
         "Q";
}

const std::string kHooks = Global("collections", "OrderedDict") + ")R";

std::string Rebuild(const std::string& function,
                    const std::vector<std::string>& arguments) {
  return Global("torch._utils", function) + Tuple(arguments) + "R";
}

std::string Tensor(const std::string& storage, int64_t offset,
                   const std::vector<int64_t>& shape,
                   const std::vector<int64_t>& strides) {
  return Rebuild("_rebuild_tensor_v2", {storage, Int(offset), Ints(shape),
                                        Ints(strides), "\x89", kHooks});
}

std::string Dict(
    const std::vector<std::pair<std::string, std::string>>& items) {
  std::string text = "}(";
  for (const auto& [key, value] : items) text += Text(key) + value;
  return text + "u";
}

// Six float32: 0, 1, 2, 3, 4, 5.
std::string Numbers() {
  const float numbers[] = {0, 1, 2, 3, 4, 5};
  return {reinterpret_cast<const char*>(numbers), sizeof(numbers)};
}

std::string Archive(const std::string& value) {
  return MakeZip(
      {{"a/data.pkl", "\x80\x02" + value + "."},
       {"a/byteorder", "little"},
       {"a/data/0", Numbers()},
       {"a/version", "3\n"}},
      {.zip64 = true, .sizes_follow = true, .alignment = 64, .comment = {}});
}

std::vector<float> Floats(const TensorView& tensor) {
  std::vector<float> values(tensor.data.size() / sizeof(float));
  std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
  return values;
}

PytorchFile Open(const TempDir& dir, const std::string& content) {
  // A file written anew is slow on some file systems, a new file is not.
  std::filesystem::remove(dir.File("m.bin"));
  return PytorchFile::Open(dir.Write("m.bin", content));
}

const std::string kWhole = Tensor(Storage(6), 0, {2, 3}, {3, 1});

TEST(PytorchFile, ViewsDenseTensorsAndCopiesOthers) {
  const TempDir dir;
  PytorchFile opened = Open(
      dir, Archive(Dict({{"whole", kWhole},
                         {"offset", Tensor(Storage(6), 2, {2, 2}, {2, 1})},
                         {"transposed", Tensor(Storage(6), 0, {3, 2}, {1, 3})},
                         {"expanded", Tensor(Storage(6), 5, {3}, {0})},
                         {"scalar", Tensor(Storage(6), 4, {}, {})},
                         {"one_row", Tensor(Storage(6), 0, {1, 6}, {99, 1})},
                         {"empty", Tensor(Storage(6), 99, {0, 3}, {3, 1})}})));
  const PytorchFile file = std::move(opened);
  const auto at = [&](const char* name) { return file.tensors().at(name); };
  EXPECT_THAT(Floats(at("whole")), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_THAT(Floats(at("offset")), ElementsAre(2, 3, 4, 5));
  EXPECT_THAT(Floats(at("transposed")), ElementsAre(0, 3, 1, 4, 2, 5));
  EXPECT_THAT(Floats(at("expanded")), ElementsAre(5, 5, 5));
  EXPECT_THAT(Floats(at("scalar")), ElementsAre(4));
  EXPECT_TRUE(at("empty").data.empty());
  for (const char* name : {"whole", "offset", "scalar", "one_row", "empty"}) {
    EXPECT_EQ(at(name).file, &file.file());
  }
  EXPECT_EQ(at("transposed").file, nullptr);
  EXPECT_EQ(at("expanded").file, nullptr);
}

struct Bad {
  std::string value;
  std::string message;
};

TEST(PytorchFile, RefusesTensorsThatLie) {
  const auto tensor = [](int64_t offset, std::vector<int64_t> shape,
                         std::vector<int64_t> strides) {
    return Dict({{"w", Tensor(Storage(6), offset, shape, strides)}});
  };
  const auto storage = [](const std::string& text) {
    return Dict({{"w", Tensor(text, 0, {1}, {1})}});
  };
  const auto rebuild = [](std::vector<std::string> arguments) {
    return Dict({{"w", Rebuild("_rebuild_tensor_v2", arguments)}});
  };
  constexpr int64_t kHuge = int64_t{1} << 62;
  const Bad cases[] = {
      {tensor(1, {2, 3}, {3, 1}), "reaches element 6 of a storage that has 6"},
      {tensor(0, {2, 3}, {4, 1}), "reaches element 6"},
      {tensor(6, {}, {}), "reaches element 6"},
      {tensor(-1, {1}, {1}), "offset -1"},
      {tensor(0, {-1}, {1}), "not integers from 0"},
      {tensor(0, {2}, {-1}), "not integers from 0"},
      {tensor(0, {2, 3}, {1}), "has 1 strides"},
      {tensor(0, {kHuge, 4}, {0, 0}), "too large to be true"},
      {tensor(0, {kHuge, 0, 4}, {0, 0, 0}), "too large to be true"},
      {tensor(0, {5}, {kHuge}), "too large to be true"},
      {tensor(INT64_MAX, {2}, {INT64_MAX}), "reaches element"},
      {tensor(0, std::vector<int64_t>(65, 1), std::vector<int64_t>(65, 1)),
       "65 dimensions"},
      // Nothing is allocated for this one.
      {tensor(0, {int64_t{1} << 40}, {0}), "exceed 1024 MiB"},
      {storage(Storage(5)), "should have 5 elements of F32"},
      {storage(Storage(-1)), "should have -1 elements"},
      {storage(Storage(kHuge)), "should have"},
      {storage(Storage(6, "DoubleStorage")), "should have 6 elements of F64"},
      {storage(Storage(6, "FloatStorage", "1")), "has no \"a/data/1\""},
      {storage(Storage(6, "FloatStorage", "../version")), "has no"},
      {storage(Storage(6, "FloatStorage", std::string(300, '0'))),
       "has 300 bytes"},
      {storage(Storage(6, "Storage")), "\"torch.Storage\""},
      {storage(Storage(6, "QInt8Storage")), "\"torch.QInt8Storage\""},
      {storage("NQ"), "a storage is not given as"},
      {storage(Text("storage") + "Q"), "a storage is not given as"},
      {storage("N"), "argument 0 of torch._utils._rebuild_tensor_v2 is None"},
      {rebuild({}), "with 0 arguments"},
      {rebuild({Storage(6), Text("0"), Ints({1}), Ints({1}), "\x89", kHooks}),
       "argument 1"},
      {rebuild({Storage(6), Int(0), "]", Ints({1}), "\x89", kHooks}),
       "argument 2"},
      {rebuild({Storage(6), Int(0), Ints({1}), "N", "\x89", kHooks}),
       "argument 3"},
      {rebuild(
           {Storage(6), Int(0), Tuple({Text("1")}), Ints({1}), "\x89", kHooks}),
       "not integers"},
      {rebuild({Storage(6), Int(0), Ints({1}), Ints({1}), "\x89", kHooks,
                Dict({{"conj", "\x88"}})}),
       "metadata"},
      {Dict({{"w", Rebuild("_rebuild_parameter", {"N", "\x89", kHooks})}}),
       "_rebuild_parameter of None"},
      {Dict({{"w", Rebuild("_rebuild_parameter", {kWhole, "\x89"})}}),
       "with 2 arguments"},
      {Dict({{"w", Rebuild("_rebuild_sparse_tensor", {kWhole})}}),
       "\"torch._utils._rebuild_sparse_tensor\""},
      {Dict({{"w", Rebuild("_rebuild_qtensor", {kWhole})}}),
       "\"torch._utils._rebuild_qtensor\""},
      // Not reached from the state dict, checked all the same.
      {Dict({{"w", kWhole}, {"x", "](" + Tensor("N", 0, {}, {}) + "e"}}),
       "argument 0"},
      {Dict({{"w", kWhole}, {"w", kWhole}}), "\"w\" is given twice"},
      {"}(" + Int(1) + kWhole + "u", "the name of a tensor is an integer"},
      {Dict({{"epoch", Int(3)}}), "no float tensors"},
      {"](" + kWhole + "e", "holds a list"},
      {kWhole, "holds a call"},
      {Dict({{"w", kWhole}, {"model", Dict({{"w", kWhole}})}}),
       "in more than one place (the top level, \"model\")"},
      {Dict({{"state_dict", Dict({{"w", kWhole}})},
             {"model", Dict({{"w", kWhole}})}}),
       "(\"model\", \"state_dict\")"},
      {Dict({{"model", Dict({{"w", kWhole}})}, {"model", "}"}}),
       "\"model\" is there twice"},
      {Dict({{"w", kWhole},
             {"x",
              Global("os", "system") + Tuple({Text("touch pwned")}) + "R"}}),
       "\"os.system\""},
      {Dict({{"w", kWhole},
             {"x", Global("torch.serialization", "load") +
                       Tuple({Text("other.pt")}) + "R"}}),
       "\"torch.serialization.load\""},
      {Global("transformers.models.llama.modeling_llama", "LlamaForCausalLM") +
           ")\x81",
       "LlamaForCausalLM"},
  };
  const TempDir dir;
  for (const Bad& bad : cases) {
    EXPECT_THAT([&] { Open(dir, Archive(bad.value)); },
                ThrowsMessage<Error>(
                    AllOf(HasSubstr("m.bin: "), HasSubstr(bad.message))))
        << bad.message;
  }
}

TEST(PytorchFile, FindsTheStateDict) {
  const TempDir dir;
  for (const char* key : {"model", "state_dict", "model_state_dict"}) {
    const PytorchFile file =
        Open(dir, Archive(Dict({{key, Dict({{"w", kWhole}})},
                                {"epoch", Int(1)},
                                {"optimizer", Dict({{"x", kWhole}})}})));
    EXPECT_EQ(file.tensors().size(), 1);
    EXPECT_TRUE(file.tensors().contains("w"));
  }
}

TEST(PytorchFile, NamesOtherFormats) {
  const TempDir dir;
  const auto fails = [&](const std::string& content,
                         const std::string& message) {
    EXPECT_THAT([&] { Open(dir, content); },
                ThrowsMessage<Error>(HasSubstr(message)));
  };
  fails("\x80\x02\x8a\nl\xfc\x9c\x46\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."s,
        "before torch 1.6; load it where you trust it and save it again");
  fails(std::string(257, '\0') + "ustar" + std::string(250, '\0'),
        "tar format");
  fails("version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "git lfs pull");
  fails("something else", "not a file of torch.save");
  fails(MakeZip({{"a/data/0", "x"}}), "with 0 data.pkl");
  fails(MakeZip({{"a/data.pkl", "x"}, {"b/data.pkl", "x"}}), "with 2 data.pkl");
  fails(MakeZip({{"a/data.pkl", "x"}, {"a/constants.pkl", "x"}}),
        "TorchScript");
  fails(MakeZip({{"a/data.pkl", "x"}, {"a/byteorder", "big"}}),
        "byte order is \"big\"");
  fails(MakeZip({{"a/data.pkl", "x", 8}}), "compressed or encrypted");
}

// The pickle of a small, honest checkpoint.
std::string HonestPickle() {
  return Dict(
      {{"whole", kWhole},
       {"transposed", Tensor(Storage(6), 0, {3, 2}, {1, 3})},
       {"parameter", Rebuild("_rebuild_parameter", {kWhole, "\x88", kHooks})}});
}

TEST(PytorchFile, EveryTruncationIsAnError) {
  const TempDir dir;
  const std::string pickle = "\x80\x02" + HonestPickle() + ".";
  for (size_t size = 0; size < pickle.size(); ++size) {
    const std::string content = MakeZip(
        {{"a/data.pkl", pickle.substr(0, size)}, {"a/data/0", Numbers()}});
    EXPECT_THAT([&] { Open(dir, content); },
                ThrowsMessage<Error>(HasSubstr("data.pkl")))
        << size;
  }
  const std::string whole = Archive(HonestPickle());
  EXPECT_EQ(Open(dir, whole).tensors().size(), 3);
  for (size_t size = 1; size < whole.size(); ++size) {
    EXPECT_THROW(Open(dir, whole.substr(0, size)), Error) << size;
  }
}

TEST(PytorchFile, SurvivesRandomDamage) {
  const TempDir dir;
  std::mt19937 random(11);
  const std::string pickle = "\x80\x02" + HonestPickle() + ".";
  int opened = 0;
  for (int round = 0; round < 4000; ++round) {
    std::string bad = pickle;
    for (int i = random() % 3; i >= 0; --i) {
      const size_t at = 2 + random() % (bad.size() - 2);
      switch (random() % 4) {
        case 0:  // another opcode of this pickle, so that it means something
          bad[at] = bad[random() % bad.size()];
          break;
        case 1:
          bad.erase(at, 1);
          break;
        case 2:
          bad.insert(at, 1, bad[random() % bad.size()]);
          break;
        default:
          bad[at] = static_cast<char>(random());
      }
    }
    try {
      const PytorchFile file =
          Open(dir, MakeZip({{"a/data.pkl", bad}, {"a/data/0", Numbers()}}));
      unsigned sum = 0;
      for (const auto& [name, tensor] : file.tensors()) {
        for (const std::byte byte : tensor.data) {
          sum += static_cast<unsigned>(byte);
        }
      }
      EXPECT_GE(sum, 0u);
      ++opened;
    } catch (const Error&) {
    }
  }
  RecordProperty("opened", opened);
  EXPECT_GT(opened, 30);
}

}  // namespace
}  // namespace verify_tflite
