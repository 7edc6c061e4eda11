#include "verify/self_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/testing.h"
#include "candidate/testing_models.h"

namespace verify_tflite {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A .tflite file whose constants can be exchanged (field numbers:
// tensorflow/compiler/mlir/lite/schema/schema.fbs).
class Patch {
 public:
  explicit Patch(const std::string& name) : bytes_(ReadFile(ModelPath(name))) {}

  // Offset of a constant tensor's `buffer` field, by signature and order.
  std::vector<size_t> Constants(const std::string& signature,
                                const std::vector<int32_t>& shape) const {
    std::vector<size_t> found;
    const size_t tensors = Vector(Subgraph(signature), 0);
    for (size_t i = 0; i < Get(tensors); ++i) {
      const size_t tensor = Entry(tensors, i);
      const size_t dims = Vector(tensor, 0);
      std::vector<int32_t> found_shape(Get(dims));
      for (size_t k = 0; k < found_shape.size(); ++k) {
        found_shape[k] = static_cast<int32_t>(Get(dims + 4 + 4 * k));
      }
      const size_t at = Field(tensor, 2);
      if (found_shape == shape && at != 0 && HasData(Get(at))) {
        found.push_back(at);
      }
    }
    if (found.empty()) throw Error("no constant of that shape");
    return found;
  }

  // Makes one constant of a signature that of another.
  void Exchange(size_t tensor, size_t other) { Set(tensor, Get(other)); }

  // A constant's numbers, with those changed that `change` changes, in a buffer
  // that no graph uses; the given tensors read that one.
  template <typename Change>
  void Replace(const std::vector<size_t>& tensors, const Change& change) {
    std::string data = Content(Get(tensors.front()));
    std::vector<float> numbers(data.size() / 4);
    std::memcpy(numbers.data(), data.data(), data.size());
    change(numbers);
    const size_t unused = Buffers() - 1;  // metadata
    const size_t field = Field(Entry(BufferVector(), unused), 0);
    while (bytes_.size() % 16 != 12) bytes_.push_back('\0');
    Set(field, static_cast<uint32_t>(bytes_.size() - field));
    const auto size = static_cast<uint32_t>(data.size());
    bytes_.append(reinterpret_cast<const char*>(&size), 4);
    bytes_.append(reinterpret_cast<const char*>(numbers.data()), data.size());
    for (const size_t tensor : tensors) {
      Set(tensor, static_cast<uint32_t>(unused));
    }
  }

  const std::string& bytes() const { return bytes_; }

 private:
  uint32_t Get(size_t at) const {
    uint32_t value;
    if (at + 4 > bytes_.size()) throw Error("outside");
    std::memcpy(&value, bytes_.data() + at, 4);
    return value;
  }
  void Set(size_t at, uint32_t value) {
    std::memcpy(bytes_.data() + at, &value, 4);
  }
  // Where a table's field lies, 0 where it is absent.
  size_t Field(size_t table, size_t number) const {
    const size_t vtable = table - static_cast<int32_t>(Get(table));
    const size_t entry = vtable + 4 + 2 * number;
    if (entry >= vtable + (Get(vtable) & 0xFFFF)) return 0;
    const size_t offset = Get(entry) & 0xFFFF;
    return offset == 0 ? 0 : table + offset;
  }
  size_t Vector(size_t table, size_t number) const {
    const size_t field = Field(table, number);
    if (field == 0) throw Error("no such vector");
    return field + Get(field);
  }
  size_t Entry(size_t vector, size_t i) const {
    const size_t at = vector + 4 + 4 * i;
    return at + Get(at);
  }
  size_t Root() const { return Get(0); }
  size_t BufferVector() const { return Vector(Root(), 4); }
  size_t Buffers() const { return Get(BufferVector()); }
  size_t Data(size_t buffer) const {
    const size_t field = Field(Entry(BufferVector(), buffer), 0);
    return field == 0 ? 0 : field + Get(field);
  }
  // In the buffer itself, or behind the FlatBuffer (large files).
  bool HasData(size_t buffer) const {
    return Data(buffer) != 0 || Field(Entry(BufferVector(), buffer), 1) != 0;
  }
  std::string Content(size_t buffer) const {
    return bytes_.substr(Data(buffer) + 4, Get(Data(buffer)));
  }
  size_t Subgraph(const std::string& signature) const {
    const size_t signatures = Vector(Root(), 7);
    for (size_t i = 0; i < Get(signatures); ++i) {
      const size_t table = Entry(signatures, i);
      const size_t key = Vector(table, 2);
      if (bytes_.substr(key + 4, Get(key)) != signature) continue;
      const size_t index = Field(table, 4);
      return Entry(Vector(Root(), 2), index == 0 ? 0 : Get(index));
    }
    throw Error("no signature {}", signature);
  }

  std::string bytes_;
};

SelfCheckResult SelfCheck(const Model& model, SelfCheckOptions options = {}) {
  Session session = Session::Create(model, SelfCheckPlans(model.info()), {});
  return RunSelfCheck(model, session, {}, options);
}

SelfCheckResult SelfCheck(const std::string& name,
                          SelfCheckOptions options = {}) {
  return SelfCheck(Open(ModelPath(name), options.window.value_or(0)), options);
}

SelfCheckResult SelfCheck(const Patch& patch, SelfCheckOptions options = {}) {
  const TempDir dir;
  return SelfCheck(Open(dir.Write("patched.tflite", patch.bytes())), options);
}

std::vector<std::string> Ids(const SelfCheckResult& result) {
  std::vector<std::string> ids;
  for (const Finding& finding : result.findings)
    ids.emplace_back(NameOf(finding.id));
  return ids;
}

// Checks that did not pass, by name.
std::map<std::string, Outcome> NotPassed(const SelfCheckResult& result) {
  std::map<std::string, Outcome> outcomes;
  for (const Check& check : result.checks) {
    if (check.outcome != Outcome::kPass) outcomes[check.name] = check.outcome;
  }
  return outcomes;
}

std::set<std::string> Failed(const SelfCheckResult& result) {
  std::set<std::string> names;
  for (const auto& [name, outcome] : NotPassed(result)) names.insert(name);
  return names;
}

TEST(SelfCheckTest, SoundConversionsPassEveryCheck) {
  for (const char* name :
       {"tiny_f32", "tiny_q8", "tiny_q8_embedding_q4", "tiny_export_hf",
        "tiny_hf_logits", "tiny_prefill_logits", "tiny_mask_transposed",
        "tiny_transposed", "tiny_single", "tiny_batch", "tiny_hf_gpu",
        "tiny_kv_float16", "tiny_kv_int8", "ref_gemma3", "ref_phi"}) {
    const SelfCheckResult result = SelfCheck(std::string(name) + ".tflite");
    EXPECT_THAT(Failed(result), IsEmpty()) << name;
    EXPECT_THAT(Ids(result), IsEmpty()) << name;
    EXPECT_GE(result.checks.size(), 6u) << name;
  }
}

TEST(SelfCheckTest, RingsAndWindowsHaveTheirOwnBoundary) {
  const SelfCheckResult result = SelfCheck("small_ring.tflite", {.window = 24});
  EXPECT_THAT(Failed(result), IsEmpty());
  std::map<std::string, std::string> details;
  for (const Check& check : result.checks) details[check.name] = check.detail;
  EXPECT_THAT(details["ring"], HasSubstr("31, 32 and 33 prefilled tokens"));
  EXPECT_THAT(details["window"], HasSubstr("23, 24 and 25 prefilled tokens"));
}

// Checks that each signature is compared at one token less, at and past its
// length.
TEST(SelfCheckTest, SaysWhatWasCompared) {
  const SelfCheckResult result = SelfCheck("tiny_f32.tflite");
  std::map<std::string, std::string> details;
  for (const Check& check : result.checks) details[check.name] = check.detail;
  EXPECT_THAT(details["prefill_8"],
              HasSubstr("1, 7 and 8 prefilled tokens, against decode alone"));
  EXPECT_THAT(details["prefill_64"],
              HasSubstr("9, 63 and 64 prefilled tokens, against decode alone"));
  EXPECT_THAT(details["chunking"], HasSubstr("9, 65 and 71 tokens"));
}

constexpr int32_t kQkvShape[] = {128, 64};
const std::vector<int32_t> kQkv(std::begin(kQkvShape), std::end(kQkvShape));
const std::vector<int32_t> kMask = {256, 1, 1, 256};

TEST(SelfCheckTest, AWeightOfDecodeAlone) {
  Patch patch("tiny_f32.tflite");
  const auto weights = patch.Constants("decode", kQkv);
  ASSERT_GE(weights.size(), 2u);
  patch.Exchange(weights[0], weights[1]);
  const SelfCheckResult result = SelfCheck(patch);
  EXPECT_THAT(Ids(result), ElementsAre("decode-differs"));
  EXPECT_THAT(NotPassed(result)["prefill_8"], Outcome::kBroken);
  EXPECT_THAT(NotPassed(result)["prefill_64"], Outcome::kBroken);
  EXPECT_THAT(result.findings[0].cause, HasSubstr("of decode alone"));
}

TEST(SelfCheckTest, AWeightOfOnePrefillSignature) {
  for (const std::string name : {"prefill_8", "prefill_64"}) {
    Patch patch("tiny_f32.tflite");
    const auto weights = patch.Constants(name, kQkv);
    patch.Exchange(weights[0], weights[1]);
    const SelfCheckResult result = SelfCheck(patch);
    EXPECT_THAT(Ids(result), ElementsAre("prefill-differs")) << name;
    EXPECT_THAT(NotPassed(result)[name], Outcome::kBroken);
    EXPECT_THAT(result.findings[0].cause, HasSubstr("of " + name + " alone"));
  }
}

// Norms of decode that are off by a last bit: no more than rounding, which this
// model magnifies. The same of another model is below every limit.
TEST(SelfCheckTest, RoundingThatTheModelMagnifiesIsNoFinding) {
  for (const std::string name : {"tiny_cancelling", "tiny_f32"}) {
    Patch patch(name + ".tflite");
    const auto norms = patch.Constants("decode", {64});
    patch.Replace({norms.back()}, [](std::vector<float>& numbers) {
      for (float& x : numbers) x = std::nextafter(x, 2 * x);
    });
    const SelfCheckResult result = SelfCheck(patch);
    for (const Check& check : result.checks) {
      EXPECT_LE(check.outcome, Outcome::kInconclusive) << check.name;
      if (check.name == "prefill_64" && name == "tiny_cancelling") {
        EXPECT_EQ(check.outcome, Outcome::kInconclusive);
        EXPECT_GT(check.value, 1e-4);
        EXPECT_THAT(check.detail, HasSubstr("this model magnifies rounding"));
      }
    }
    // Kernels sum in another order altogether, and accuse nobody.
    for (const Finding& finding : result.findings) {
      EXPECT_EQ(finding.id, FindingId::kKernelDiffers);
    }
  }
}

// The same in a quantised file, whose limits are wider.
TEST(SelfCheckTest, AQuantisedWeightOfOnePrefillSignature) {
  Patch patch("tiny_q8.tflite");
  const auto weights = patch.Constants("prefill_64", kQkv);
  patch.Exchange(weights[0], weights[1]);
  EXPECT_THAT(Ids(SelfCheck(patch)), ElementsAre("prefill-differs"));
}

// Prefill's mask with rows of the table changed; decode keeps its own.
Patch WithPrefillMask(int first_row, int last_row, int first_column,
                      int last_column, bool visible) {
  Patch patch("tiny_f32.tflite");
  std::vector<size_t> tensors;
  for (const char* name : {"prefill_8", "prefill_64"}) {
    for (const size_t tensor : patch.Constants(name, kMask)) {
      tensors.push_back(tensor);
    }
  }
  patch.Replace(tensors, [&](std::vector<float>& mask) {
    const auto [low, high] = std::minmax_element(mask.begin(), mask.end());
    const float value = visible ? *high : *low;
    for (int row = first_row; row <= last_row; ++row) {
      for (int column = first_column; column <= last_column; ++column) {
        mask[static_cast<size_t>(row * 256 + column)] = value;
      }
    }
  });
  return patch;
}

// Pads that enter the state of a convolution: the graph has lost their mark.
TEST(SelfCheckTest, PadsThatChangeAState) {
  const SelfCheckResult result = SelfCheck("mut_lfm2_mask_lost.tflite");
  EXPECT_THAT(Ids(result), ElementsAre("prefill-differs"));
  EXPECT_THAT(result.findings[0].cause, HasSubstr("marks pads"));
  EXPECT_THAT(Ids(SelfCheck("ref_lfm2.tflite")), IsEmpty());
}

// The second chunk of a prompt does not see the first tokens.
TEST(SelfCheckTest, AMaskThatIsRightInTheFirstChunkOnly) {
  const SelfCheckResult result =
      SelfCheck(WithPrefillMask(64, 255, 0, 40, false));
  EXPECT_THAT(Ids(result), ElementsAre("chunking"));
  EXPECT_TRUE(Failed(result).contains("chunking"));
  EXPECT_FALSE(Failed(result).contains("prefill_64"));
}

TEST(SelfCheckTest, AMaskThatIsWrongAtTheEndOfTheKvCache) {
  const SelfCheckResult result =
      SelfCheck(WithPrefillMask(250, 255, 249, 249, false));
  EXPECT_THAT(Ids(result), ElementsAre("kv-boundary"));
  EXPECT_THAT(Failed(result), ElementsAre("kv_end"));
}

// The last row of a full chunk sees the entry behind it, which is zero in a
// fresh KV cache.
TEST(SelfCheckTest, AMaskThatLetsStaleEntriesIn) {
  const SelfCheckResult result =
      SelfCheck(WithPrefillMask(63, 63, 64, 64, true));
  EXPECT_EQ(NotPassed(result)["state_leak"], Outcome::kBroken);
  EXPECT_THAT(result.findings.back().cause, HasSubstr("entries"));
}

TEST(SelfCheckTest, NotANumber) {
  Patch patch("tiny_f32.tflite");
  const auto weights = patch.Constants("decode", kQkv);
  patch.Replace({weights[0]}, [](std::vector<float>& numbers) {
    numbers[0] = std::numeric_limits<float>::quiet_NaN();
  });
  const SelfCheckResult result = SelfCheck(patch);
  EXPECT_THAT(Ids(result), ElementsAre("nan"));
  EXPECT_EQ(NotPassed(result)["prefill_8"], Outcome::kBroken);
}

// TFLite's own kernels, optimised and reference, compute another thing than
// XNNPACK from this file; PyTorch agrees with XNNPACK (docs/self_check.md).
TEST(SelfCheckTest, KernelsThatDiffer) {
  const SelfCheckResult result = SelfCheck("small_lora.tflite");
  EXPECT_THAT(Ids(result), ElementsAre("kernel-differs"));
  EXPECT_EQ(NotPassed(result)["kernels"], Outcome::kInconclusive);
  EXPECT_THAT(Failed(result), ElementsAre("kernels"));
}

TEST(SelfCheckTest, NamesWhatDoesNotFitTheBudget) {
  const SelfCheckResult result =
      SelfCheck("tiny_f32.tflite", {.max_steps = 60});
  EXPECT_THAT(Ids(result), IsEmpty());
  bool named = false;
  for (const Check& check : result.checks) {
    EXPECT_TRUE(check.outcome == Outcome::kPass ||
                check.outcome == Outcome::kNotChecked)
        << check.name;
    if (check.outcome == Outcome::kNotChecked) {
      EXPECT_THAT(check.detail, HasSubstr("would take about")) << check.name;
    }
    named = named || check.detail.find("not compared, to save time: ") !=
                         std::string::npos;
  }
  EXPECT_TRUE(named);
  EXPECT_EQ(NotPassed(result)["kv_end"], Outcome::kNotChecked);
}

TEST(SelfCheckTest, BriefIsThoroughForSmallModels) {
  ModelInfo info;
  info.weight_bytes = {{"FLOAT32", 1'000'000}};
  EXPECT_EQ(BriefSteps(info), SelfCheckOptions::kThorough);
  info.weight_bytes = {{"INT8", 1'000'000'000}, {"FLOAT32", 1'000'000}};
  EXPECT_EQ(BriefSteps(info), 95);
  info.weight_bytes = {};
  EXPECT_EQ(BriefSteps(info), SelfCheckOptions::kThorough);
}

// All prefill signatures share the fault, and decode alone does not come that
// far.
TEST(SelfCheckTest, ABoundaryBehindWhatDecodeReaches) {
  Patch patch = WithPrefillMask(100, 101, 1, 90, false);
  const SelfCheckResult result =
      SelfCheck(patch, {.window = 101, .max_steps = 250});
  EXPECT_TRUE(Failed(result).contains("window"));
  EXPECT_THAT(Ids(result), ElementsAre("kv-boundary"));
}

TEST(SelfCheckTest, LimitsFollowTheArithmetic) {
  ModelInfo info;
  info.weights = {{.type = "INT8", .use = WeightGroup::Use::kDequantized}};
  EXPECT_EQ(SelfCheckLimitsFor(info).kld.pass, 1e-8);
  info.weights.push_back({.type = "INT8", .use = WeightGroup::Use::kDynamic});
  EXPECT_EQ(SelfCheckLimitsFor(info).kld.pass, 1e-2);
}

TEST(SelfCheckTest, TextIsTheSameEverywhere) {
  const std::vector<int32_t> ids = SelfCheckIds(49152, 1000);
  EXPECT_EQ(ids, SelfCheckIds(49152, 1000));
  EXPECT_GT(std::set<int32_t>(ids.begin(), ids.end()).size(), 980u);
  EXPECT_LT(*std::max_element(ids.begin(), ids.end()), 49152);
  EXPECT_THAT(SelfCheckIds(1, 2), ElementsAre(0, 0));
}

TEST(SelfCheckTest, RefusesIdsOutsideTheVocabulary) {
  const Model model = Open(ModelPath("tiny_f32.tflite"));
  Session session = Session::Create(model, SelfCheckPlans(model.info()), {});
  const Tokens ids = {1 << 30};
  EXPECT_THROW(RunSelfCheck(model, session, ids, {}), Error);
}

TEST(SelfCheckTest, ReportsProgress) {
  std::vector<std::string> stages;
  SelfCheck("tiny_f32.tflite", {.progress = [&](std::string_view stage,
                                                int64_t done, int64_t total) {
              EXPECT_LT(done, total);
              stages.emplace_back(stage);
            }});
  EXPECT_EQ(stages.front(), "self-check: decode alone");
  EXPECT_EQ(stages.back(), "self-check: kernels");
}

}  // namespace
}  // namespace verify_tflite
