// Real conversions: sound ones agree in every cache, and what is wrong in a
// wrong one is seen where it is.
#include "locate/kv_agreement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <ostream>
#include <string>

#include "base/error.h"
#include "base/testing.h"
#include "candidate/testing_models.h"

namespace verify_tflite {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

// Both models after the same tokens, the last `decoded` of them through decode.
struct Fed {
  Fed(const std::string& tflite, const std::string& checkpoint_name,
      size_t prefilled, size_t decoded)
      : checkpoint(Checkpoint::Open(ModelPath(checkpoint_name))),
        model(Open(ModelPath(tflite), WindowFor(tflite))),
        session(WholeSession(model)),
        kv(session.NewKvCache()),
        reference(Reference::Open(checkpoint, {.num_threads = 2})),
        sequence(reference.NewSequence()) {
    const auto vocab = static_cast<int32_t>(model.info().vocab_size);
    for (size_t i = 0; i < prefilled + decoded; ++i) {
      tokens.push_back(3 + static_cast<int32_t>(i) * 7919 % (vocab - 3));
    }
    const std::span<const int32_t> all(tokens);
    session.Prefill(kv, all.first(prefilled));
    for (const int32_t token : all.subspan(prefilled)) {
      session.Decode(kv, token);
    }
    const Reference::Item item{&sequence, tokens, 0};
    reference.Score({&item, 1}, [](size_t, int64_t, auto) {});
  }

  // Only small_ring.tflite takes the mask of a sliding window as input.
  int64_t WindowFor(const std::string& tflite) const {
    if (tflite != "small_ring.tflite") return 0;
    for (const LayerConfig& layer : checkpoint.config().layers) {
      if (layer.window > 0) return layer.window;
    }
    return 0;
  }

  KvAgreement Profile(int64_t begin, int64_t end) {
    return CompareKv(session, kv, sequence, checkpoint.config(), {begin, end});
  }

  Checkpoint checkpoint;
  Model model;
  Session session;
  KvCache kv;
  Reference reference;
  Sequence sequence;
  Tokens tokens;
};

// Positions 0 to 69 go through two prefills, the last one padded.
constexpr int64_t kPrefilled = 70;
constexpr int64_t kEnd = 74;

struct Sound {
  const char* tflite;
  const char* checkpoint;
  double max_nmse = 1e-9;
};

void PrintTo(const Sound& sound, std::ostream* stream) {
  *stream << sound.tflite;
}

class SoundKv : public testing::TestWithParam<Sound> {};

TEST_P(SoundKv, AgreesInEveryLayerAndHead) {
  const Sound& param = GetParam();
  Fed fed(param.tflite, param.checkpoint, kPrefilled, kEnd - kPrefilled);
  for (const PositionRange range :
       {PositionRange{0, kPrefilled}, PositionRange{kPrefilled, kEnd}}) {
    const KvAgreement profile = fed.Profile(range.begin, range.end);
    ASSERT_EQ(static_cast<int64_t>(profile.layers.size()),
              fed.model.info().num_layers);
    for (const LayerAgreement& layer : profile.layers) {
      EXPECT_EQ(layer.positions.end, range.end);
      for (const HeadsAgreement* part : {&layer.keys, &layer.values}) {
        ASSERT_FALSE(part->heads.empty());
        EXPECT_LE(part->all.nmse, param.max_nmse);
        EXPECT_LE(part->heads[part->worst_head].nmse, param.max_nmse);
        EXPECT_NEAR(part->all.cosine, 1, param.max_nmse);
        EXPECT_NEAR(part->all.norm_ratio, 1, std::sqrt(param.max_nmse));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Models, SoundKv,
    testing::Values(Sound{"tiny_f32.tflite", "tiny"},
                    Sound{"tiny_transposed.tflite", "tiny"},
                    Sound{"tiny_mask.tflite", "tiny"},
                    Sound{"tiny_single.tflite", "tiny"},
                    Sound{"tiny_export_hf.tflite", "tiny"},
                    Sound{"tiny_export_hf.litertlm", "tiny"},
                    Sound{"tiny_hf_logits.tflite", "tiny"},
                    Sound{"tiny_hf_gpu.tflite", "tiny"},
                    Sound{"tiny_hf_caches.tflite", "tiny"},
                    Sound{"tiny_batch.tflite", "tiny"},
                    Sound{"tiny_kv_float16.tflite", "tiny", 1e-6},
                    Sound{"tiny_kv_int8.tflite", "tiny", 1e-2},
                    Sound{"tiny_q8.tflite", "tiny", 1e-2},
                    Sound{"ref_mistral.tflite", "ref_mistral"},
                    Sound{"ref_qwen2.tflite", "ref_qwen2"},
                    Sound{"ref_qwen3.tflite", "ref_qwen3"},
                    Sound{"ref_gemma.tflite", "ref_gemma"},
                    Sound{"ref_gemma2.tflite", "ref_gemma2"},
                    Sound{"ref_gemma3.tflite", "ref_gemma3"},
                    Sound{"ref_smollm3.tflite", "ref_smollm3"},
                    Sound{"ref_phi.tflite", "ref_phi"},
                    Sound{"small_ring.tflite", "small_sliding"}),
    [](const auto& info) {
      std::string name = info.param.tflite;
      for (char& c : name) c = c == '.' ? '_' : c;
      return name;
    });

// A wrong RoPE base turns keys, and not those at position 0; values of layer 0
// do not depend on it, those of later layers do.
TEST(WrongKv, RopeBase) {
  Fed fed("tiny_wrong_rope.tflite", "tiny", kPrefilled, 4);
  const LayerAgreement first = fed.Profile(0, 1).layers[0];
  EXPECT_LE(first.keys.all.nmse, 1e-9);
  EXPECT_LE(first.values.all.nmse, 1e-9);
  for (const PositionRange range :
       {PositionRange{1, kPrefilled}, PositionRange{kPrefilled, kEnd}}) {
    const KvAgreement profile = fed.Profile(range.begin, range.end);
    EXPECT_GT(profile.layers[0].keys.all.nmse, 1e-2);
    // A rotation keeps lengths.
    EXPECT_NEAR(profile.layers[0].keys.all.norm_ratio, 1, 1e-5);
    EXPECT_LE(profile.layers[0].values.all.nmse, 1e-9);
    EXPECT_GT(profile.layers[1].values.all.nmse, 1e-6);
  }
}

// Layers 1 and 2 have changed places.
TEST(WrongKv, LayerOrder) {
  Fed fed("tiny_wrong_layers.tflite", "tiny", kPrefilled, 4);
  const KvAgreement profile = fed.Profile(0, kEnd);
  EXPECT_LE(profile.layers[0].keys.all.nmse, 1e-9);
  EXPECT_LE(profile.layers[0].values.all.nmse, 1e-9);
  EXPECT_GT(profile.layers[1].keys.all.nmse, 0.1);
  EXPECT_GT(profile.layers[1].values.all.nmse, 0.1);
}

TEST(WrongKv, OtherWeights) {
  Fed fed("tiny_wrong_weights.tflite", "tiny", kPrefilled, 4);
  const KvAgreement profile = fed.Profile(0, kEnd);
  EXPECT_GT(profile.layers[0].keys.all.nmse, 0.1);
  EXPECT_GT(profile.layers[0].values.all.nmse, 0.1);
}

TEST(Rings, KeepTheirLastPositions) {
  Fed fed("small_ring.tflite", "small_sliding", kPrefilled, 4);
  ASSERT_EQ(fed.model.info().ring_length, 32);
  const KvAgreement all = fed.Profile(0, kEnd);
  EXPECT_EQ(all.layers[0].positions.begin, kEnd - 32);
  EXPECT_EQ(all.layers[1].positions.begin, 0);
  const KvAgreement gone = fed.Profile(0, 20);
  EXPECT_EQ(gone.layers[0].positions.begin, gone.layers[0].positions.end);
  EXPECT_TRUE(std::isnan(gone.layers[0].keys.all.nmse));
  EXPECT_LE(gone.layers[1].keys.all.nmse, 1e-9);

  // Cut back to where the ring had other positions, which are fed anew.
  fed.kv.Truncate(50);
  fed.sequence.Truncate(50);
  const KvAgreement again = fed.Profile(0, 50);
  EXPECT_EQ(again.layers[0].positions.begin, 50 - 32);
  EXPECT_LE(again.layers[0].keys.all.nmse, 1e-9);
}

TEST(KvAgreement, RefusesWhatWasNotFed) {
  Fed fed("tiny_f32.tflite", "tiny", 10, 1);
  EXPECT_NO_THROW(fed.Profile(0, 11));
  EXPECT_THAT([&] { fed.Profile(0, 12); },
              ThrowsMessage<Error>(HasSubstr("fed 11 and 11 tokens")));
  EXPECT_THROW(fed.Profile(-1, 5), Error);
  EXPECT_THROW(fed.Profile(5, 4), Error);
  EXPECT_THAT([&] { fed.session.ReadKv(fed.kv, 4); },
              ThrowsMessage<Error>(HasSubstr("no KV cache of layer 4")));
  EXPECT_THROW(fed.sequence.Keys(4), Error);
  ModelConfig config = fed.checkpoint.config();
  config.head_dim *= 2;
  EXPECT_THROW(CompareKv(fed.session, fed.kv, fed.sequence, config, {0, 1}),
               Error);
  config.num_layers = 3;
  EXPECT_THROW(CompareKv(fed.session, fed.kv, fed.sequence, config, {0, 1}),
               Error);
}

}  // namespace
}  // namespace verify_tflite
