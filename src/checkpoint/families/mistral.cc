// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/families/family.h"

namespace verify_tflite {

Family Mistral() {
  return {.model_type = "mistral",
          .max_position_embeddings = 131072,
          .num_kv_heads = 8,
          .windows = Windows::kAll,
          .sliding_window = 4096,
          .handles = {"sliding_window"}};
}

}  // namespace verify_tflite
