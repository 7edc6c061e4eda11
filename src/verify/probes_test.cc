// Real conversions: the KV caches of sound ones agree in every layer, and what
// is wrong in a wrong one is seen where it is.
#include "verify/probes.h"

#include <gtest/gtest.h>

#include <cmath>
#include <ostream>
#include <string>

#include "base/testing.h"
#include "candidate/testing_models.h"

namespace verify_tflite {
namespace {

struct Pair {
  const char* tflite;
  const char* checkpoint;
  double max_nmse = 1e-9;
  int64_t window = 0;  // of the file that takes the mask of a sliding window
};

void PrintTo(const Pair& pair, std::ostream* stream) { *stream << pair.tflite; }

Probes ProbesOf(const Pair& pair) {
  const Checkpoint checkpoint = Checkpoint::Open(ModelPath(pair.checkpoint));
  const Model model = Open(ModelPath(pair.tflite), pair.window);
  Session session = WholeSession(model);
  Reference reference = Reference::Open(checkpoint, {.num_threads = 2});
  Tokens tokens = SomeTokens(128);
  for (int32_t& token : tokens) {
    token %= static_cast<int32_t>(model.info().vocab_size);
  }
  return RunProbes(PlanProbes(tokens, model.info(), checkpoint.config()),
                   session, reference);
}

class SoundCaches : public testing::TestWithParam<Pair> {};

TEST_P(SoundCaches, AgreeInEveryLayerAndHead) {
  const Probes probes = ProbesOf(GetParam());
  const double most = GetParam().max_nmse;
  EXPECT_EQ(probes.profile.layers.size(), probes.reference.size());
  for (const LayerKv& layer : probes.profile.layers) {
    for (const TensorFigures* part : {&layer.prefill_k, &layer.prefill_v,
                                      &layer.decode_k, &layer.decode_v}) {
      EXPECT_LE(part->nmse, most);
      EXPECT_LE(part->worst_head_nmse, most);
      EXPECT_NEAR(part->cosine, 1, most);
      EXPECT_NEAR(part->norm_ratio, 1, std::sqrt(most));
    }
  }
}

// One of each layout and element type of caches; every other sound file's are
// compared by the mutation suite.
INSTANTIATE_TEST_SUITE_P(
    Models, SoundCaches,
    testing::Values(Pair{"tiny_f32.tflite", "tiny"},
                    Pair{"tiny_transposed.tflite", "tiny"},
                    Pair{"tiny_hf_caches.tflite", "tiny"},
                    Pair{"tiny_batch.tflite", "tiny"},
                    Pair{"tiny_kv_float16.tflite", "tiny", 1e-6},
                    Pair{"tiny_kv_int8.tflite", "tiny", 1e-2},
                    Pair{"tiny_q8.tflite", "tiny", 1e-2},
                    Pair{"small_ring.tflite", "small_sliding", 1e-9, 24}),
    [](const auto& info) {
      std::string name = info.param.tflite;
      for (char& c : name) c = c == '.' ? '_' : c;
      return name;
    });

// A wrong RoPE base turns keys; values of layer 0 do not depend on it, those of
// later layers do.
TEST(WrongCaches, RopeBase) {
  const KvProfile profile =
      ProbesOf({"tiny_wrong_rope.tflite", "tiny"}).profile;
  for (const bool decode : {false, true}) {
    const LayerKv& first = profile.layers[0];
    const TensorFigures& keys = decode ? first.decode_k : first.prefill_k;
    EXPECT_GT(keys.nmse, 1e-2);
    EXPECT_NEAR(keys.norm_ratio, 1, 1e-5);  // a rotation keeps lengths
    EXPECT_LE((decode ? first.decode_v : first.prefill_v).nmse, 1e-9);
    const LayerKv& second = profile.layers[1];
    EXPECT_GT((decode ? second.decode_v : second.prefill_v).nmse, 1e-6);
  }
}

// Layers 1 and 2 have changed places.
TEST(WrongCaches, LayerOrder) {
  const KvProfile profile =
      ProbesOf({"tiny_wrong_layers.tflite", "tiny"}).profile;
  EXPECT_LE(profile.layers[0].prefill_k.nmse, 1e-9);
  EXPECT_LE(profile.layers[0].prefill_v.nmse, 1e-9);
  EXPECT_GT(profile.layers[1].prefill_k.nmse, 0.1);
  EXPECT_GT(profile.layers[1].prefill_v.nmse, 0.1);
}

TEST(WrongCaches, OtherWeights) {
  const KvProfile profile =
      ProbesOf({"tiny_wrong_weights.tflite", "tiny"}).profile;
  EXPECT_GT(profile.layers[0].prefill_k.nmse, 0.1);
  EXPECT_GT(profile.layers[0].prefill_v.nmse, 0.1);
}

}  // namespace
}  // namespace verify_tflite
