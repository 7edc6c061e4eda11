// What a graph's products and lookups are for, told by the order in which the
// graph computes them (FindRoles).
#ifndef VERIFY_TFLITE_MAPPING_PRODUCTS_H_
#define VERIFY_TFLITE_MAPPING_PRODUCTS_H_

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/weight_role.h"
#include "mapping/graph_walk.h"

namespace verify_tflite {

struct Lookup {
  int32_t table = -1;  // constant
  Part part = Part::kEmbedding;
  bool has_output = false;
  GraphWalk::Rotated output;  // rotated back, where it is rotated
};

struct Lookups {
  std::vector<Lookup> found;  // in the order of execution
  OpSet ops;
  OpSet rotations;  // operators: part of a lookup, not of the product behind
};

Lookups FindLookups(const GraphWalk& walk);

// What an expert's output is multiplied with: a column of weights, 0 for rows
// that do not take it, from what chooses the experts.
struct ExpertUse {
  int32_t layer = -1;
  int32_t expert = -1;  // that the choice is compared with
  int32_t weight = -1;  // tensor
  int32_t choice = -1;  // TOPK_V2, operator
  int32_t equal = -1;   // EQUAL, operator
};

// Products of one expert: one of gate and up, or two.
struct Expert {
  ExpertUse use;
  OpSet gate_up;
  int32_t gate = -1, up = -1;
  int32_t down = -1;
};

// One layer's products.
struct Layer {
  int32_t k = -1, v = -1, q = -1, o = -1, down = -1;
  int32_t k_cache = -1;  // tensor
  OpSet gate_up;
  int32_t gate = -1, up = -1;  // none where there is one product of both
  bool fused = false;          // k is q and v, too
  // A short convolution in place of attention: k, and v, is its input, o its
  // output, and k_cache its state.
  bool conv = false;
  int32_t per_layer_gate = -1, per_layer_projection = -1;
  // Of AltUp: each reads its router alone.
  int32_t prediction_router = -1, prediction = -1;
  int32_t correction_router = -1, correction = -1;
  int32_t laurel_left = -1, laurel_right = -1;
  // With experts; down, gate and up are the shared one's then.
  int32_t router = -1, shared_scale = -1;
  std::vector<Expert> experts;
  // Returns what reads the norm before the MLP.
  OpSet MlpInputs() const;
  // Its first product. One that takes another layer's keys has no k.
  int32_t First() const {
    if (k < 0) return q;
    return q >= 0 ? std::min(q, k) : k;
  }
};

// What a graph's products are for.
struct Products {
  std::vector<Layer> layers;  // in the order of execution
  OpSet attention, outputs, downs;
  OpSet of_experts;                // and of routers
  std::vector<ExpertUse> experts;  // in the order of the comparisons
  int32_t per_layer_model = -1;
  int32_t head = -1;
  // Of all residual streams but the first.
  std::vector<int32_t> stream_projections, stream_outputs;
};

// What is known of the model before its graph is looked at.
struct ModelForm {
  int64_t num_layers = 0;   // with KV caches
  bool sub_norms = false;   // ModelConfig::sub_norms
  int64_t num_streams = 0;  // ModelConfig::num_streams
};

// The last layer that begins before `op`; null: there is none. `layers` may be
// const.
template <typename Layers>
auto* LayerAt(Layers& layers, int32_t op) {
  decltype(layers.data()) found = nullptr;
  for (auto& layer : layers) {
    if (layer.First() < op) found = &layer;
  }
  return found;
}

// Which of two products is the gate: the activation stands between it and down
// alone. Leaves both as they are where that does not tell.
void OrderGateUp(const GraphWalk& walk, const OpSet& gate_up, int32_t& gate,
                 int32_t& up);

// The tensor that a product reads, before what rotates, scales or reshapes it.
int32_t InputRoot(const GraphWalk& walk, const Lookups& lookups, int32_t op);

// Fills `products`. Returns why not, where the graph is not of the form known.
std::optional<std::string> FindProducts(const tflite::File& file,
                                        const GraphWalk& walk,
                                        const Lookups& lookups,
                                        const ModelForm& form,
                                        Products& products);

// The steps of FindProducts that only some models need, each from what those
// before it found.
//
// Experts: what is multiplied with a weight that follows from a comparison of
// their number with the choice. Returns why they are not told, where they are
// not.
std::optional<std::string> FindExperts(const tflite::File& file,
                                       const GraphWalk& walk,
                                       Products& products);
// Of experts that all rows take: one number for each row.
void FindSharedScales(const GraphWalk& walk, const Lookups& lookups,
                      Products& products);
// What makes several residual streams of one, mixes them and makes them one
// again; two products of low rank beside attention.
void FindStreams(const GraphWalk& walk, const Lookups& lookups,
                 int64_t num_streams, Products& products);

// Of several lookups, the first layer's products stand behind the token
// embedding; the others are per-layer embeddings.
void TellLookups(const GraphWalk& walk, const Products& products,
                 Lookups& lookups);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_MAPPING_PRODUCTS_H_
