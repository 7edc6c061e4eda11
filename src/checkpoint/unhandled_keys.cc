// SPDX-License-Identifier: Apache-2.0
// Settings of config.json that a family does not handle.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>

#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

using nlohmann::json;

// Who reads a setting in transformers 5.24, beside the families that handle it.
enum class Readers {
  kAll,    // or nothing is known of who does
  kSome,   // Family::reads
  kCache,  // no forward pass, but its KV cache keeps that many tokens alone
};

// Settings that change the computation of some model. For a family that reads
// and does not handle them they may be absent, null or the value that switches
// them off; for one that does not read them they change nothing.
// testdata/ignored_keys.json has what transformers makes of each.
struct Unhandled {
  std::string_view key;
  std::string_view off;  // as JSON
  Readers readers = Readers::kSome;
};

constexpr Unhandled kUnhandled[] = {
    {"quantization_config", "null", Readers::kAll},
    {"compression_config", "null", Readers::kAll},
    {"is_encoder_decoder", "false", Readers::kAll},
    {"add_cross_attention", "false", Readers::kAll},
    {"is_causal", "true", Readers::kAll},
    {"sliding_window", "null", Readers::kCache},
    {"attention_chunk_size", "null", Readers::kCache},
    {"use_bidirectional_attention", "false"},
    {"qk_layernorm", "false"},
    {"attention_bias", "false"},
    {"mlp_bias", "false"},
    {"partial_rotary_factor", "1.0"},
    {"sliding_window_pattern", "null"},
    {"rope_local_base_freq", "null"},
    {"no_rope_layers", "null"},
    {"use_qk_norm", "false"},
    {"qk_norm", "false"},
    {"attn_logit_softcapping", "null"},
    {"final_logit_softcapping", "null"},
    {"query_pre_attn_scalar", "null"},
    {"clip_qkv", "null"},
    {"alibi", "false"},
    {"embedding_multiplier", "1.0"},
    {"residual_multiplier", "1.0"},
    {"attention_multiplier", "null"},
    {"logits_scaling", "1.0"},
    {"logit_scale", "1.0"},
    {"num_experts", "0"},
    {"num_local_experts", "0"},
    {"parallel_attn", "false"},
};

bool IsRead(const Unhandled& row, const Family& family) {
  return row.readers == Readers::kAll || !family.of_transformers ||
         std::ranges::count(family.reads, row.key) > 0;
}

}  // namespace

std::vector<std::string> CheckUnhandled(const ConfigFields& fields,
                                        const Family& family) {
  std::vector<std::string> notes;
  for (const Unhandled& row : kUnhandled) {
    const json* value = fields.Find(row.key);
    if (value == nullptr || *value == json::parse(row.off)) continue;
    if (family.Handles(row.key)) continue;
    // Qwen-style configs name a window and say that it is not used.
    if (row.key == "sliding_window" &&
        !fields.Flag("use_sliding_window", true)) {
      continue;
    }
    if (IsRead(row, family)) {
      throw Error(
          "{}: \"{}\" is {}; the reference does not compute this for {}, it "
          "expects {}",
          fields.origin(), row.key, Dump(*value), family.model_type, row.off);
    }
    notes.push_back(fmt::format(
        "{}: \"{}\" is {}: transformers ignores it for {}, and so does this "
        "verification{}",
        fields.origin(), row.key, Dump(*value), family.model_type,
        row.readers == Readers::kCache
            ? " (in a forward pass; transformers' KV cache drops what is "
              "further back, so its generate() differs on longer texts)"
            : ""));
  }
  return notes;
}

}  // namespace verify_tflite
