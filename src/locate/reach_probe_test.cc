#include "locate/reach_probe.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/testing.h"
#include "checkpoint/checkpoint.h"

namespace verify_tflite {
namespace {

std::vector<int32_t> Ids(int32_t count) {
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < count; ++i) ids.push_back(3 + (i * 7919) % 990);
  return ids;
}

Reach Measure(const std::string& file, int32_t count, bool by_prefill) {
  const Model model = Model::Open(ModelPath(file));
  std::vector<int64_t> lengths;
  for (const PrefillInfo& p : model.info().prefills) {
    lengths.push_back(p.length);
  }
  const std::vector<PrefillPlan> plans = {
      PlanPrefill(lengths, model.info().kv_length, 0, count)};
  Session session = Session::Create(model, plans, {});
  return MeasureReach(session, Ids(count), 1000 - 1, by_prefill);
}

class Sound : public ::testing::TestWithParam<std::string> {};

TEST_P(Sound, SeesWhatTheCheckpointSays) {
  const std::string name = GetParam();
  const std::string checkpoint = name.starts_with("tiny") ? "tiny" : name;
  const ModelConfig config = Checkpoint::Open(ModelPath(checkpoint)).config();
  for (const bool by_prefill : {true, false}) {
    const Reach reach = Measure(name + ".tflite", 64, by_prefill);
    ASSERT_EQ(reach.layers.size(), config.layers.size());
    for (size_t i = 0; i < reach.layers.size(); ++i) {
      SCOPED_TRACE(i);
      EXPECT_EQ(reach.layers[i].forward,
                ExpectedForward(config, static_cast<int64_t>(i), 64));
      EXPECT_EQ(reach.layers[i].backward, 63);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Conversions, Sound,
                         ::testing::Values("tiny_f32", "tiny_q8",
                                           "tiny_export_hf",
                                           "tiny_mask_transposed", "ref_gemma2",
                                           "ref_gemma3", "ref_mistral",
                                           "ref_smollm3"),
                         [](const auto& info) { return info.param; });

TEST(MeasureReach, SeesAMissingMaskInPrefill) {
  const Reach reach = Measure("mut_mask_none.tflite", 40, true);
  EXPECT_EQ(reach.layers[0].backward, 39);
  EXPECT_EQ(reach.layers[1].backward, 0);
}

TEST(MeasureReach, SeesAMaskThatIsOffByOne) {
  const Reach reach = Measure("mut_mask_peek.tflite", 40, true);
  EXPECT_EQ(reach.layers[1].backward, 38);
}

TEST(MeasureReach, MeasuresAWindow) {
  const Reach reach = Measure("mut_mask_window.tflite", 64, false);
  EXPECT_EQ(reach.layers[1].forward, 15);
  EXPECT_EQ(reach.layers[2].forward, 30);
}

}  // namespace
}  // namespace verify_tflite
