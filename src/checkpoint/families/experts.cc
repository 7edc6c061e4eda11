// SPDX-License-Identifier: Apache-2.0
// What families with a mixture of experts share.
#include <algorithm>

#include "checkpoint/families/family.h"

namespace verify_tflite {

void SetExperts(const ConfigFields& fields, const ExpertKeys& keys,
                ModelConfig* config) {
  std::string_view count = keys.count;
  if (!keys.count_alias.empty() && fields.Find(keys.count_alias) != nullptr) {
    if (fields.Find(count) != nullptr &&
        fields.Size(count) != fields.Size(keys.count_alias)) {
      throw Error("{}: \"{}\" and \"{}\" differ", fields.origin(), count,
                  keys.count_alias);
    }
    count = keys.count_alias;
  }
  ExpertsConfig& experts = config->experts;
  experts.count = fields.Size(count);
  experts.taken = fields.Size(keys.taken, keys.usually_taken);
  experts.intermediate_size = fields.Size(keys.size);
  if (experts.taken > experts.count) {
    throw Error("{}: \"{}\" is {}, but there are {} experts", fields.origin(),
                keys.taken, experts.taken, experts.count);
  }
}

void SetExpertLayers(int64_t first, ModelConfig* config) {
  for (int64_t i = first; i < std::ssize(config->layers); ++i) {
    config->layers[static_cast<size_t>(i)].experts = true;
  }
}

std::vector<PartName> ExpertNames(const ModelConfig& config) {
  std::vector<PartName> names = LlamaNames(config);
  names.insert(names.end(),
               {{Part::kRouter, "layers.{}.mlp.gate"},
                {Part::kExpertGate, "layers.{}.mlp.experts.{}.gate_proj"},
                {Part::kExpertUp, "layers.{}.mlp.experts.{}.up_proj"},
                {Part::kExpertDown, "layers.{}.mlp.experts.{}.down_proj"}});
  return names;
}

}  // namespace verify_tflite
