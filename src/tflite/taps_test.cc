// SPDX-License-Identifier: Apache-2.0
#include "tflite/taps.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "base/error.h"
#include "base/testing.h"
#include "tflite/summary.h"

namespace verify_tflite::tflite {
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

bool Everything(const std::string&, int32_t) { return true; }

TapPatch Plan(const std::string& content, const TapFilter& filter,
              size_t limit = kFlatbufferLimit) {
  return PlanTaps(File::Read(Bytes(content), "a.tflite"), filter, limit);
}

Summary Read(const std::string& content) {
  return Summarize(File::Read(Bytes(content), "b.tflite"));
}

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

std::vector<std::string> OutputsOf(const Summary& file, size_t signature) {
  std::vector<std::string> names;
  for (const TensorSpec& t : file.signatures.at(signature).outputs) {
    names.push_back(t.name);
  }
  return names;
}

TEST(CanTap, OfAFixedShapeAndNoOutput) {
  const File file = File::Read(Bytes(Good()), "a.tflite");
  ASSERT_EQ(file.signatures.size(), 3u);
  EXPECT_EQ(file.signatures[0].name, "decode");
  EXPECT_EQ(file.signatures[1].name, "same");
  EXPECT_EQ(file.signatures[2].name, "prefill");
  const Graph& graph = file.graphs[file.signatures[0].graph];
  const auto can_tap = [&](int32_t tensor) {
    return CanTap(graph, file.signatures[0], tensor);
  };
  EXPECT_THAT(graph.ops[0].inputs, ElementsAre(0, -1));
  EXPECT_FALSE(can_tap(0)) << "an input";
  EXPECT_EQ(graph.tensors[1].name, "model/Linear_q_proj;1");
  EXPECT_EQ(KindOf(graph.ops[graph.tensors[1].producer]), "FULLY_CONNECTED");
  EXPECT_THAT(graph.tensors[1].shape, ElementsAre(1, 4));
  EXPECT_TRUE(can_tap(1));
  size_t integers = 0, any = 0;
  for (int32_t i = 0; i < std::ssize(graph.tensors); ++i) {
    const Tensor& tensor = graph.tensors[static_cast<size_t>(i)];
    if (tensor.producer < 0) continue;
    integers += tensor.type == ElementType::kInt32 && !can_tap(i);
    any += tensor.name == "any" && !can_tap(i);
  }
  EXPECT_EQ(integers, 1u);
  EXPECT_EQ(any, 1u) << "its shape is not fixed";
  const auto& [logits, output] = file.signatures[0].outputs[0];
  EXPECT_EQ(logits, "logits");
  EXPECT_FALSE(can_tap(output));
  EXPECT_EQ(KindOf(graph.ops[graph.tensors[4].producer]), "odml.rms_norm");
  EXPECT_TRUE(can_tap(4));
}

TEST(Tap, AddsOutputsBehindThoseThereAre) {
  const TapPatch patch = Plan(Good(), Everything);
  const std::string tapped = Apply(Good(), patch);
  const Summary file = Read(tapped);
  ASSERT_EQ(file.signatures.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_THAT(OutputsOf(file, i), ElementsAre("logits", "verify_tflite_tap_1",
                                                "verify_tflite_tap_4"));
    EXPECT_THAT(file.signatures[i].outputs[2].dims, ElementsAre(2, 2));
  }
  EXPECT_EQ(patch.taps.size(), 6u);
  // What was tapped is now an output.
  const File again = File::Read(Bytes(tapped), "b.tflite");
  for (const Signature& s : again.signatures) {
    const Graph& graph = again.graphs[s.graph];
    for (int32_t i = 0; i < std::ssize(graph.tensors); ++i) {
      EXPECT_FALSE(CanTap(graph, s, i));
    }
  }
  // The rest is untouched: two graphs and three signatures are repointed.
  EXPECT_EQ(patch.words.size(), 5u);
  size_t differing = 0;
  for (size_t i = 0; i < Good().size(); ++i)
    differing += tapped[i] != Good()[i];
  EXPECT_LE(differing, 5 * sizeof(uint32_t));
}

TEST(Tap, OfOneSignature) {
  const auto filter = [](const std::string& signature, int32_t tensor) {
    return signature == "prefill" && tensor == 4;
  };
  const TapPatch patch = Plan(Good(), filter);
  const std::string tapped = Apply(Good(), patch);
  const Summary file = Read(tapped);
  EXPECT_THAT(OutputsOf(file, 0), ElementsAre("logits"));
  EXPECT_THAT(OutputsOf(file, 2), ElementsAre("logits", "verify_tflite_tap_4"));
  ASSERT_EQ(patch.taps.size(), 1u);
  EXPECT_EQ(patch.taps[0].output, "verify_tflite_tap_4");
}

// A graph has one list of outputs, whichever signature asks.
TEST(Tap, SignaturesThatShareAGraph) {
  const auto filter = [](const std::string& signature, int32_t tensor) {
    return signature == "same" && tensor == 1;
  };
  const TapPatch patch = Plan(Good(), filter);
  const std::string tapped = Apply(Good(), patch);
  const Summary file = Read(tapped);
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
  const TapPatch behind = Plan(External(), Everything);
  EXPECT_EQ(behind.shift, 0u);
  EXPECT_EQ(behind.moved_begin, External().size());
  EXPECT_TRUE(behind.offsets.empty());

  const TapPatch patch = Plan(External(), Everything, External().size());
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
  const Summary before = Read(External());
  const Summary after = Read(moved);
  EXPECT_EQ(before.weight_bytes, after.weight_bytes);
  EXPECT_EQ(before.ops, after.ops);
}

// All of taps.tflite is flatbuffer.
TEST(Tap, NotBeyondTheReachOfOffsets) {
  try {
    Plan(Good(), Everything, Good().size());
    FAIL() << "expected an Error";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("a.tflite: intermediate tensors"));
    EXPECT_THAT(e.what(), HasSubstr("of at most 1580 bytes"));
  }
}

TEST(Tap, RandomDamageWhereDataMove) {
  const auto read = [](const std::string& content) {
    ApplyMoved(content, Plan(content, Everything, 0));
  };
  const auto planned = [](const std::string& content) {
    ApplyMoved(content, Plan(content, Everything, content.size()));
  };
  EXPECT_EQ(CountRefusedDamage(External(), 100, read), 100);
  EXPECT_GT(CountRefusedDamage(External(), 20000, planned), 1000);
}

TEST(Tap, TruncatedAnywhere) {
  for (size_t size = 0; size < Good().size(); ++size) {
    try {
      Plan(Good().substr(0, size), Everything);
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr("a.tflite"));
    }
  }
}

// Words lie in the model, whatever it holds.
TEST(Tap, RandomDamage) {
  const auto read = [](const std::string& content) {
    Apply(content, Plan(content, Everything));
  };
  EXPECT_GT(CountRefusedDamage(Good(), 20000, read), 2000);
}

}  // namespace
}  // namespace verify_tflite::tflite
