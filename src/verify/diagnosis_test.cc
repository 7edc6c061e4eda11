// What is named, and by which evidence, on conversions broken on purpose. All
// of them, through the command, are the mutation suite's
// (tools/mutation_suite.py).
#include "verify/diagnosis.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "base/testing.h"
#include "result/judge.h"
#include "verify/evaluation.h"

namespace verify_tflite {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

struct Case {
  Probes probes;
  Diagnosis diagnosis;
};

Case Look(const std::string& file, const std::string& name,
          bool recompute = true) {
  const Checkpoint checkpoint = Checkpoint::Open(ModelPath(name));
  const Tokenizer tokenizer = Tokenizer::Open(checkpoint.directory());
  const Model model = Model::Open(ModelPath(file));
  const ModelInfo& info = model.info();
  const EvalPlan text =
      PlanEvaluation(BuiltInEvalText(), tokenizer, 200,
                     MaxSequence(info, checkpoint.config()), info.vocab_size);
  const ProbePlan plan =
      PlanProbes(text.sequences.at(0), info, checkpoint.config());
  Session session = Session::Create(model, ProbePrefills(info, plan), {});
  Reference reference = Reference::Open(checkpoint, {});
  Case result{RunProbes(plan, session, reference), {}};
  const Limits limits = LimitsFor(JudgedRecipe(info), {});
  result.diagnosis = Diagnose({.checkpoint = checkpoint,
                               .model = info,
                               .limits = limits,
                               .reference = reference,
                               .recompute = recompute},
                              result.probes);
  return result;
}

Finding Only(const Diagnosis& diagnosis) {
  EXPECT_EQ(diagnosis.findings.size(), 1u);
  return diagnosis.findings.empty() ? Finding{} : diagnosis.findings[0];
}

TEST(RunProbes, ProfilesOfSoundFilesAreNearZero) {
  const Case sound = Look("tiny_f32.tflite", "tiny");
  EXPECT_EQ(sound.probes.profile.prefill_positions, 64);
  EXPECT_EQ(sound.probes.profile.decode_positions, 48);
  ASSERT_EQ(sound.probes.profile.layers.size(), 4u);
  for (const LayerKv& layer : sound.probes.profile.layers) {
    for (const TensorFigures& f :
         {layer.prefill_k, layer.prefill_v, layer.decode_k, layer.decode_v}) {
      EXPECT_LT(f.nmse, 1e-10);
      EXPECT_NEAR(f.cosine, 1, 1e-6);
      EXPECT_NEAR(f.norm_ratio, 1, 1e-4);
    }
  }
  EXPECT_LT(ProbeKld(sound.probes, sound.probes.reference_logits), 1e-9);
  EXPECT_TRUE(sound.diagnosis.findings.empty());
  EXPECT_TRUE(sound.diagnosis.hypotheses.empty());
}

TEST(PlanProbes, GoesPastTheWindowAndFitsTheKvCache) {
  ModelInfo model;
  model.kv_length = 1000;
  ModelConfig config;
  config.layers.resize(2);
  const std::vector<int32_t> ids(500, 1);
  EXPECT_EQ(PlanProbes(ids, model, config).prefill, 64);
  config.layers[1].window = 100;
  EXPECT_EQ(PlanProbes(ids, model, config).decode, 148);
  config.layers[1].window = 4096;  // too far
  EXPECT_EQ(PlanProbes(ids, model, config).decode, 48);
  model.kv_length = 30;
  EXPECT_EQ(PlanProbes(ids, model, config).prefill, 30);
  EXPECT_EQ(PlanProbes(std::span(ids).first(5), model, config).prefill, 0);
}

TEST(Diagnose, MeasuresARopeBase) {
  const Finding f = Only(Look("tiny_wrong_rope.tflite", "tiny").diagnosis);
  EXPECT_EQ(f.id, FindingId::kRopeBase);
  EXPECT_THAT(f.sentence,
              AllOf(HasSubstr("100000"), HasSubstr("config.json says 10000")));
}

TEST(Diagnose, RecomputesWithAnotherEpsilon) {
  const Diagnosis d = Look("tiny_wrong_eps.tflite", "tiny").diagnosis;
  EXPECT_EQ(Only(d).id, FindingId::kNormEps);
  EXPECT_THAT(Only(d).sentence, HasSubstr("1e-06 instead of 1e-05"));
  ASSERT_FALSE(d.hypotheses.empty());
  EXPECT_TRUE(d.hypotheses.back().explains);
  EXPECT_LT(d.hypotheses.back().kld, 1e-9);
  EXPECT_GT(d.hypotheses.back().unchanged_kld, 1e-6);
}

TEST(Diagnose, FindsLayersByRecomputing) {
  const Finding f = Only(Look("tiny_wrong_layers.tflite", "tiny").diagnosis);
  EXPECT_EQ(f.id, FindingId::kLayerOrder);
  EXPECT_THAT(f.sentence, HasSubstr("layers 1 and 2 exchanged"));
}

TEST(Diagnose, WithoutRecomputingSaysWhere) {
  const Finding f =
      Only(Look("tiny_wrong_layers.tflite", "tiny", false).diagnosis);
  EXPECT_THAT(f.evidence, HasSubstr("first wrong in layer 1, K and V"));
}

TEST(Diagnose, ShowsThatAMaskIsNotCausal) {
  const Finding f = Only(Look("mut_mask_peek.tflite", "tiny").diagnosis);
  EXPECT_EQ(f.id, FindingId::kMask);
  EXPECT_THAT(f.evidence, HasSubstr("from token 63 on"));
}

TEST(Diagnose, MeasuresAWindow) {
  const Finding f =
      Only(Look("mut_gemma3_window_28.tflite", "text_gemma3").diagnosis);
  EXPECT_EQ(f.id, FindingId::kSlidingWindow);
  EXPECT_THAT(f.sentence,
              AllOf(HasSubstr("28 tokens"), HasSubstr("a window of 29")));
}

TEST(Diagnose, ThroughTheNoiseOfInt8) {
  const Finding rope = Only(Look("mut_q8_rope.tflite", "tiny").diagnosis);
  EXPECT_EQ(rope.id, FindingId::kRopeBase);
  const Finding layers = Only(Look("mut_q8_layers.tflite", "tiny").diagnosis);
  EXPECT_EQ(layers.id, FindingId::kLayerOrder);
}

}  // namespace
}  // namespace verify_tflite
