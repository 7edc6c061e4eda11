// SPDX-License-Identifier: Apache-2.0
// RoPE as config.json has it.
#ifndef VERIFY_TFLITE_CHECKPOINT_ROPE_CONFIG_H_
#define VERIFY_TFLITE_CHECKPOINT_ROPE_CONFIG_H_

#include "checkpoint/families/family.h"

namespace verify_tflite {

inline constexpr double kMinTheta = 1;
inline constexpr double kMaxTheta = 1e15;

// Reads one RoPE for all layers.
void ParseRope(const ConfigFields& fields, const Family& family,
               ModelConfig* result);

// Reads one RoPE for layers with a window and one for the others, as
// Gemma3TextConfig.convert_rope_params_to_dict does: rope_scaling is of the
// latter only.
void ParseTwoRopes(const ConfigFields& fields, const Family& family,
                   ModelConfig* result);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CHECKPOINT_ROPE_CONFIG_H_
