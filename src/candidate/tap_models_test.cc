// Taps on real files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/json_file.h"
#include "base/mapped_file.h"
#include "base/testing.h"
#include "candidate/session.h"
#include "candidate/testing_models.h"
#include "tflite/summary.h"
#include "tflite/tap_image.h"
#include "tflite/taps.h"

namespace verify_tflite {
namespace {

using ::testing::HasSubstr;

bool Everything(const std::string&, int32_t) { return true; }

Model OpenWith(const std::string& name, tflite::TapFilter taps,
               size_t limit = tflite::kFlatbufferLimit) {
  Model::OpenOptions options;
  options.taps_limit = limit;
  if (name == "small_ring.tflite") options.sliding_window = 24;
  options.taps = std::move(taps);
  return Model::Open(ModelPath(name), options);
}

// Logits of prefill, where there are some, and of decode, and all KV caches.
std::vector<float> Outcome(const Model& model) {
  Session session = WholeSession(model, {.num_threads = 2});
  KvCache kv = session.NewKvCache();
  Tokens prompt;
  const auto vocab = static_cast<int32_t>(model.info().vocab_size);
  for (int32_t i = 0; i < 75; ++i) prompt.push_back(3 + i * 7919 % (vocab - 3));
  std::vector<float> all =
      Copy(session.Prefill(kv, std::span(prompt).first(74)));
  for (int i = 0; i < 3; ++i) {
    const std::vector<float> logits = Copy(session.Decode(kv, prompt.back()));
    all.insert(all.end(), logits.begin(), logits.end());
  }
  for (int64_t layer = 0; layer < model.info().num_layers; ++layer) {
    const KvRows rows = session.ReadKv(kv, layer);
    all.insert(all.end(), rows.keys.begin(), rows.keys.end());
    all.insert(all.end(), rows.values.begin(), rows.values.end());
  }
  return all;
}

class TappedModel : public testing::TestWithParam<const char*> {};

TEST_P(TappedModel, ComputesTheSameBits) {
  const std::vector<float> plain = Outcome(OpenWith(GetParam(), nullptr));
  const Model tapped = OpenWith(GetParam(), Everything);
  EXPECT_GT(tapped.taps().size(), 50u);
  const std::vector<float> watched = Outcome(tapped);
  ASSERT_EQ(plain.size(), watched.size());
  EXPECT_EQ(
      std::memcmp(plain.data(), watched.data(), plain.size() * sizeof(float)),
      0);
}

// Converters put the data of these behind the flatbuffer, which ends before
// 4 MB: files above 2 GB are tapped in this way.
class LargeTappedModel : public testing::TestWithParam<const char*> {};

TEST_P(LargeTappedModel, ComputesTheSameBits) {
  const std::vector<float> plain = Outcome(OpenWith(GetParam(), nullptr));
  constexpr size_t kLimit = size_t{4} << 20;
  const Model tapped = OpenWith(GetParam(), Everything, kLimit);
  EXPECT_GT(tapped.taps().size(), 50u);
  const std::vector<float> watched = Outcome(tapped);
  ASSERT_EQ(plain.size(), watched.size());
  EXPECT_EQ(
      std::memcmp(plain.data(), watched.data(), plain.size() * sizeof(float)),
      0);
}

INSTANTIATE_TEST_SUITE_P(Models, LargeTappedModel,
                         testing::Values("tiny_q8.tflite",
                                         "tiny_hf_q8.tflite"),
                         [](const auto& info) {
                           return info.index == 0 ? "classic" : "export_hf";
                         });

// Wherever the model begins in the file: a bundle's sections begin at multiples
// of 16384, but nothing here relies on it.
TEST(TapImageTest, LaysPartsWhereThePatchSays) {
  const std::string model = ReadFile(TestDataPath("external.tflite"));
  const auto before =
      tflite::File::Read(std::as_bytes(std::span(model)), "a.tflite");
  const tflite::TapPatch patch = PlanTaps(before, Everything, model.size());
  ASSERT_GT(patch.shift, 0u);
  const TempDir dir;
  for (const size_t offset : {0, 64, 3000, 4096, 16384, 70000}) {
    SCOPED_TRACE(offset);
    const std::string path = dir.Write("bundle", std::string(offset, 'x') + model);
    const tflite::TapImage image(path, offset, model.size(), patch);
    const std::string_view bytes(
        reinterpret_cast<const char*>(image.bytes().data()),
        image.bytes().size());
    ASSERT_EQ(bytes.size(), model.size() + patch.shift);
    EXPECT_EQ(bytes.substr(patch.moved_begin + patch.shift),
              std::string_view(model).substr(patch.moved_begin));
    EXPECT_EQ(std::memcmp(bytes.data() + patch.tail_begin, patch.tail.data(),
                          patch.tail.size()),
              0);
    const auto after =
        tflite::File::Read(std::as_bytes(std::span(bytes)), "b.tflite");
    EXPECT_EQ(Summarize(after).weight_bytes, Summarize(before).weight_bytes);
  }
}

// The system's memory holds what is written, not the file's 16 GB.
TEST(TapImageTest, OfASparseFileOf16GigaBytes) {
  const std::string model = ReadFile(TestDataPath("external.tflite"));
  constexpr size_t kSize = size_t{16} << 30;
  const TempDir dir;
  const std::string path = dir.Write("large.tflite", model);
  std::filesystem::resize_file(path, kSize);
  const MappedFile file(path);
  const tflite::TapPatch patch =
      PlanTaps(tflite::File::Read(file.bytes(), "a.tflite"), Everything);
  EXPECT_GT(patch.shift, 0u);
  const tflite::TapImage image(path, 0, kSize, patch);
  EXPECT_EQ(image.bytes().size(), kSize + patch.shift);
  EXPECT_EQ(image.bytes().back(), std::byte{0});
}

INSTANTIATE_TEST_SUITE_P(
    Models, TappedModel,
    testing::Values("tiny_f32.tflite", "tiny_q8.tflite",
                    "tiny_export_hf.tflite", "tiny_export_hf.litertlm",
                    "tiny_mask.tflite", "tiny_transposed.tflite",
                    "tiny_batch.tflite", "tiny_kv_int8.tflite",
                    "tiny_hf_gpu.tflite", "tiny_hf_embedder/model.tflite",
                    "small_ring.tflite"),
    [](const auto& info) {
      std::string name = info.param;
      for (char& c : name) c = std::isalnum(c) != 0 ? c : '_';
      return name;
    });

// Relative to the largest number of the tensor; blocked scores each to itself.
double WorstError(std::span<const float> expected,
                  std::span<const float> found) {
  double largest = 1e-30;
  double worst = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double difference = std::fabs(double{expected[i]} - found[i]);
    if (std::fabs(expected[i]) > 1e30) {
      EXPECT_LE(difference, 1e-6 * std::fabs(double{expected[i]}));
      continue;
    }
    largest = std::max(largest, std::fabs(double{expected[i]}));
    if (!(difference <= worst)) worst = difference;  // NaN, too
  }
  return worst / largest;
}

const tflite::Graph& GraphOf(const Model& model, const std::string& signature) {
  const auto found = std::ranges::find(model.file().signatures, signature,
                                       &tflite::Signature::name);
  return model.file().graphs[found->graph];
}

class RecordedTaps : public testing::TestWithParam<const char*> {};

// LiteRT's Python interface keeps all tensors, without XNNPACK.
TEST_P(RecordedTaps, AreWhatAnInterpreterThatKeepsAllTensorsHas) {
  const std::string stem = GetParam();
  const auto recorded = ReadJsonFile(ExpectedPath("taps/" + stem + ".json"));
  const std::vector<float> values =
      ReadFloats(ExpectedPath("taps/" + stem + ".f32"));
  const auto tokens = recorded["token_ids"].get<Tokens>();
  const Model model = OpenWith(stem + ".tflite", Everything);
  Session session = WholeSession(model);
  EXPECT_TRUE(session.Taps().taps.empty());
  KvCache kv = session.NewKvCache();
  std::map<std::pair<std::string, int32_t>, std::vector<float>> found;
  const auto keep = [&](const std::string& signature, int64_t begin,
                        int64_t count) {
    const TapValues run = session.Taps();
    EXPECT_EQ(run.signature, signature);
    EXPECT_EQ(run.begin, begin);
    EXPECT_EQ(run.count, count);
    for (const TapValues::Tap& tap : run.taps) {
      found[{signature, tap.tensor}] = Copy(tap.values);
    }
  };
  const auto prefilled = static_cast<int64_t>(tokens.size()) - 1;
  session.Prefill(kv, std::span(tokens).first(tokens.size() - 1));
  keep("prefill_" + std::to_string(prefilled), 0, prefilled);
  session.Decode(kv, tokens.back());
  keep("decode", prefilled, 1);

  std::set<std::pair<std::string, int32_t>> listed;
  for (const tflite::Tap& t : model.taps()) {
    listed.emplace(t.signature, t.tensor);
  }
  size_t at = 0;
  for (const auto& tensor : recorded["tensors"]) {
    const auto key = std::pair(tensor["signature"].get<std::string>(),
                               tensor["index"].get<int32_t>());
    SCOPED_TRACE(key.first + " tensor " + std::to_string(key.second));
    ASSERT_TRUE(listed.contains(key));
    const tflite::Graph& graph = GraphOf(model, key.first);
    const tflite::Tensor& own = graph.tensors[key.second];
    EXPECT_EQ(own.name, tensor["name"]);
    EXPECT_EQ(own.producer, tensor["order"]);
    EXPECT_EQ(own.shape, tensor["shape"].get<std::vector<int32_t>>());
    const std::vector<float>& tapped = found[key];
    ASSERT_LE(at + tapped.size(), values.size());
    EXPECT_LE(WorstError(std::span(values).subspan(at, tapped.size()), tapped),
              1e-5)
        << KindOf(graph.ops[own.producer]) << " " << own.name;
    at += tapped.size();
  }
  EXPECT_EQ(at, values.size());
  EXPECT_EQ(found.size(), recorded["tensors"].size());
}

INSTANTIATE_TEST_SUITE_P(Models, RecordedTaps,
                         testing::Values("tiny_f32", "tiny_export_hf"),
                         [](const auto& info) {
                           return std::string(info.param);
                         });

std::string KindOfTensor(const Model& model, const std::string& signature,
                         int32_t tensor) {
  const tflite::Graph& graph = GraphOf(model, signature);
  return KindOf(graph.ops[graph.tensors[tensor].producer]);
}

TEST(TapTest, OnlyWhatWasChosen) {
  const Model plain = OpenWith("tiny_f32.tflite", nullptr);
  EXPECT_TRUE(plain.taps().empty());
  const Model model =
      plain.WithTaps([&](const std::string& signature, int32_t tensor) {
        return signature == "decode" &&
               KindOfTensor(plain, signature, tensor) == "odml.rms_norm";
      });
  // Two in each of four layers and the last.
  EXPECT_EQ(model.taps().size(), 9u);
  Session session = WholeSession(model);
  KvCache kv = session.NewKvCache();
  session.Prefill(kv, SomeTokens(8));
  EXPECT_EQ(session.Taps().signature, "prefill_8");
  EXPECT_TRUE(session.Taps().taps.empty());
  session.Decode(kv, 5);
  const TapValues run = session.Taps();
  ASSERT_EQ(run.taps.size(), 9u);
  for (const TapValues::Tap& tap : run.taps) {
    EXPECT_EQ(tap.values.size(), 64u);
    EXPECT_EQ(KindOfTensor(model, "decode", tap.tensor), "odml.rms_norm");
  }
}

TEST(TapTest, NothingThatIsAnOutputAlready) {
  const Model model = OpenWith("tiny_f32.tflite", nullptr);
  const auto decode = std::ranges::find(model.file().signatures, "decode",
                                        &tflite::Signature::name);
  const tflite::Graph& graph = model.file().graphs[decode->graph];
  for (const auto& [name, tensor] : decode->outputs) {
    EXPECT_FALSE(CanTap(graph, *decode, tensor));
    if (name == "kv_cache_k_0") {
      EXPECT_EQ(KindOfTensor(model, "decode", tensor), "DYNAMIC_UPDATE_SLICE");
    }
  }
  // Logits, two caches of each of four layers.
  EXPECT_EQ(decode->outputs.size(), 9u);
}

}  // namespace
}  // namespace verify_tflite
