#include "candidate/tap.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "base/error.h"
#include "base/testing.h"
#include "candidate/tflite_file.h"

namespace verify_tflite {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Made by the schema classes of ai-edge-litert (tools/record_tflite.py).
const std::string& Good() {
  static const std::string content = ReadFile(TestDataPath("taps.tflite"));
  return content;
}

std::span<const std::byte> Bytes(const std::string& content) {
  return std::as_bytes(std::span(content));
}

bool Everything(const GraphTensor&) { return true; }

std::string Apply(const std::string& content, const TapPatch& patch) {
  std::string result = content;
  result.resize(patch.tail_begin);
  for (const auto& [at, word] : patch.words) {
    EXPECT_LE(at + sizeof(word), content.size());
    std::memcpy(result.data() + at, &word, sizeof(word));
  }
  result.append(reinterpret_cast<const char*>(patch.tail.data()),
                patch.tail.size());
  return result;
}

std::vector<std::string> OutputsOf(const TfliteFile& file, size_t signature) {
  std::vector<std::string> names;
  for (const TfliteTensor& t : file.signatures.at(signature).outputs) {
    names.push_back(t.name);
  }
  return names;
}

TEST(ListTensors, InTheOrderOfOperators) {
  const auto all = ListTensors(Bytes(Good()), "a.tflite");
  ASSERT_EQ(all.size(), 15u);  // five of each signature
  EXPECT_EQ(all[0].signature, "decode");
  EXPECT_EQ(all[5].signature, "same");
  EXPECT_EQ(all[10].signature, "prefill");
  EXPECT_EQ(all[0].index, 1);
  EXPECT_EQ(all[0].name, "model/Linear_q_proj;1");
  EXPECT_EQ(all[0].op, "FULLY_CONNECTED");
  EXPECT_THAT(all[0].inputs, ElementsAre(0, -1));
  EXPECT_THAT(all[0].shape, ElementsAre(1, 4));
  EXPECT_TRUE(all[0].can_tap);
  EXPECT_EQ(all[1].type, "INT32");
  EXPECT_FALSE(all[1].can_tap);
  EXPECT_EQ(all[2].name, "any");
  EXPECT_EQ(all[2].order, 1u);
  EXPECT_FALSE(all[2].can_tap) << "its shape is not fixed";
  EXPECT_EQ(all[3].op, "odml.rms_norm");
  EXPECT_EQ(all[3].output, "");
  EXPECT_EQ(all[4].output, "logits");
  EXPECT_FALSE(all[4].can_tap);
}

TEST(Tap, AddsOutputsBehindThoseThereAre) {
  const TapPatch patch = PlanTaps(Bytes(Good()), "a.tflite", Everything);
  const std::string tapped = Apply(Good(), patch);
  const TfliteFile file = ReadTfliteFile(Bytes(tapped), "b.tflite");
  ASSERT_EQ(file.signatures.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_THAT(OutputsOf(file, i), ElementsAre("logits", "verify_tflite_tap_1",
                                                "verify_tflite_tap_4"));
    EXPECT_THAT(file.signatures[i].outputs[2].shape, ElementsAre(2, 2));
  }
  EXPECT_EQ(patch.taps.size(), 6u);
  // What was tapped is now an output.
  for (const GraphTensor& t : ListTensors(Bytes(tapped), "b.tflite")) {
    EXPECT_FALSE(t.can_tap);
  }
  // The rest is untouched: two graphs and three signatures are repointed.
  EXPECT_EQ(patch.words.size(), 5u);
  size_t differing = 0;
  for (size_t i = 0; i < Good().size(); ++i)
    differing += tapped[i] != Good()[i];
  EXPECT_LE(differing, 5 * sizeof(uint32_t));
}

TEST(Tap, OfOneSignature) {
  const auto filter = [](const GraphTensor& t) {
    return t.signature == "prefill" && t.index == 4;
  };
  const TapPatch patch = PlanTaps(Bytes(Good()), "a.tflite", filter);
  const std::string tapped = Apply(Good(), patch);
  const TfliteFile file = ReadTfliteFile(Bytes(tapped), "b.tflite");
  EXPECT_THAT(OutputsOf(file, 0), ElementsAre("logits"));
  EXPECT_THAT(OutputsOf(file, 2), ElementsAre("logits", "verify_tflite_tap_4"));
  ASSERT_EQ(patch.taps.size(), 1u);
  EXPECT_EQ(patch.taps[0].output, "verify_tflite_tap_4");
}

// A graph has one list of outputs, whichever signature asks.
TEST(Tap, SignaturesThatShareAGraph) {
  const auto filter = [](const GraphTensor& t) {
    return t.signature == "same" && t.index == 1;
  };
  const TapPatch patch = PlanTaps(Bytes(Good()), "a.tflite", filter);
  const std::string tapped = Apply(Good(), patch);
  const TfliteFile file = ReadTfliteFile(Bytes(tapped), "b.tflite");
  EXPECT_THAT(OutputsOf(file, 0), ElementsAre("logits", "verify_tflite_tap_1"));
  EXPECT_THAT(OutputsOf(file, 1), ElementsAre("logits", "verify_tflite_tap_1"));
  EXPECT_EQ(patch.taps.size(), 2u);
}

// Its five buffers lie behind the flatbuffer.
const std::string& External() {
  static const std::string content = ReadFile(TestDataPath("external.tflite"));
  return content;
}

// As TapImage lays it out.
std::string ApplyMoved(const std::string& content, const TapPatch& patch) {
  std::string result(content.size() + patch.shift, '\0');
  std::memcpy(result.data(), content.data(), patch.moved_begin);
  for (const auto& [at, word] : patch.words) {
    EXPECT_LE(at + sizeof(word), patch.moved_begin);
    std::memcpy(result.data() + at, &word, sizeof(word));
  }
  for (const auto& [at, place] : patch.offsets) {
    EXPECT_LE(at + sizeof(place), patch.moved_begin);
    std::memcpy(result.data() + at, &place, sizeof(place));
  }
  std::memcpy(result.data() + patch.tail_begin, patch.tail.data(),
              patch.tail.size());
  std::memcpy(result.data() + patch.moved_begin + patch.shift,
              content.data() + patch.moved_begin,
              content.size() - patch.moved_begin);
  return result;
}

TEST(Tap, MovesDataBehindTheFlatbufferWhereOffsetsDoNotReachOverThem) {
  const TapPatch behind = PlanTaps(Bytes(External()), "a.tflite", Everything);
  EXPECT_EQ(behind.shift, 0u);
  EXPECT_EQ(behind.moved_begin, External().size());
  EXPECT_TRUE(behind.offsets.empty());

  const TapPatch patch =
      PlanTaps(Bytes(External()), "a.tflite", Everything, External().size());
  ASSERT_EQ(patch.offsets.size(), 5u);
  EXPECT_GT(patch.shift, 0u);
  EXPECT_EQ(patch.shift % kTapShiftUnit, 0u);
  EXPECT_LT(patch.moved_begin, External().size());
  EXPECT_LE(patch.moved_begin, patch.tail_begin);
  // Even of pages that begin a unit before.
  EXPECT_LE(patch.tail_begin + patch.tail.size() + kTapShiftUnit,
            patch.moved_begin + patch.shift);
  EXPECT_EQ(patch.offsets[0].second, patch.moved_begin + patch.shift);
  EXPECT_EQ(patch.offsets[1].second, patch.offsets[0].second + 8);
  const std::string moved = ApplyMoved(External(), patch);
  const TfliteFile before = ReadTfliteFile(Bytes(External()), "a.tflite");
  const TfliteFile after = ReadTfliteFile(Bytes(moved), "b.tflite");
  EXPECT_EQ(before.weight_bytes, after.weight_bytes);
  EXPECT_EQ(before.ops, after.ops);
}

// All of taps.tflite is flatbuffer.
TEST(Tap, NotBeyondTheReachOfOffsets) {
  try {
    PlanTaps(Bytes(Good()), "a.tflite", Everything, Good().size());
    FAIL() << "expected an Error";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("a.tflite: intermediate tensors"));
    EXPECT_THAT(e.what(), HasSubstr("of at most 1580 bytes"));
  }
}

TEST(Tap, RandomDamageWhereDataMove) {
  const auto read = [](const std::string& content) {
    ApplyMoved(content, PlanTaps(Bytes(content), "a.tflite", Everything, 0));
  };
  const auto planned = [](const std::string& content) {
    ApplyMoved(content, PlanTaps(Bytes(content), "a.tflite", Everything,
                                 content.size()));
  };
  EXPECT_EQ(CountRefusedDamage(External(), 100, read), 100);
  EXPECT_GT(CountRefusedDamage(External(), 20000, planned), 1000);
}

TEST(Tap, TruncatedAnywhere) {
  for (size_t size = 0; size < Good().size(); ++size) {
    try {
      PlanTaps(Bytes(Good().substr(0, size)), "a.tflite", Everything);
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr("a.tflite"));
    }
  }
}

// Words lie in the model, whatever it holds.
TEST(Tap, RandomDamage) {
  const auto read = [](const std::string& content) {
    Apply(content, PlanTaps(Bytes(content), "a.tflite", Everything));
  };
  EXPECT_GT(CountRefusedDamage(Good(), 20000, read), 2000);
}

}  // namespace
}  // namespace verify_tflite
