// What a constant is for, found by what the graph computes with it.
#ifndef VERIFY_TFLITE_MAPPING_ROLES_H_
#define VERIFY_TFLITE_MAPPING_ROLES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/weight_role.h"
#include "mapping/products.h"
#include "mapping/rotations.h"
#include "tflite/file.h"

namespace verify_tflite {

// One use of a constant. A norm's composite counts as plain where its body
// multiplies with the constant and nothing else.
struct RoleUse {
  int32_t constant = 0;
  WeightRole role;
  std::string signature;
  bool transposed = false;  // [in, out] instead of [out, in]
  bool composite = false;   // read by a composite that may do more than scale
  bool operand = false;     // of a product: its matrix or its bias
  bool integers = false;    // taps that a convolution reads as integers
  // Of a product whose input, or a lookup whose output, is rotated block by
  // block: by what, of Roles::rotations.
  int32_t rotation = -1;
  // Of a product whose input is multiplied by a constant vector first, which
  // belongs to no norm: that vector. Its inverse is in the matrix's columns
  // (SmoothQuant, AWQ, OSCAR).
  int32_t input_scale = -1;
  bool operator==(const RoleUse&) const = default;
};

// A product with weights.
struct ProductUse {
  WeightRole role;
  int32_t constant = -1;
  bool transposed = false;
  int32_t bias = -1;  // constant
  int32_t op = -1;
  // Tensor; before a rotation and before input_scale, where there are such.
  int32_t input = -1;
  int32_t input_scale = -1;  // constant, as RoleUse::input_scale
  int32_t rotation = -1;     // as RoleUse::rotation
  int32_t rotated = -1;      // what the operator reads, where that is rotated
  int32_t output = -1;  // with the bias, also where an ADD of its own adds it
  // Of integers that the operator reads as they are, with a float input.
  bool quantised_input = false;
};

// What a signature's graph computes with weights.
struct SignatureRoles {
  std::string signature;
  int32_t graph = -1;                // of tflite::File::graphs
  std::vector<ProductUse> products;  // in the order of execution
  // Output of the lookup, rotated back where it is rotated; -1: an input.
  int32_t embedding = -1;
  std::vector<ExpertUse> experts;
  std::string not_understood;  // why there are no products; else empty
};

struct Roles {
  std::vector<RoleUse> uses;
  Rotations rotations;
  std::vector<SignatureRoles> signatures;
  // Operators that multiply with weights or look them up and whose role is not
  // known, as constants of `uses`' kind.
  std::vector<int32_t> unknown;
  // Why a signature's graph was not understood: "prefill_8: …".
  std::vector<std::string> not_understood;
  // RoPE turns neighbours, not halves: rows of q and k may be in Meta's order.
  bool interleaved_rope = false;
  bool embeddings_input = false;  // the embedding is not part of the file
};

// The order in which an LLM's graph computes is fixed by the data that flows
// between its operators, whatever the converter: a layer's K and V caches are
// outputs, the product that feeds the one is k (or q, k and v in one), what
// shares its input and leads to the same product as v is q, that product is o,
// and so on. A product with a Hadamard matrix is part of the product behind it,
// or of the lookup before it, whose weights are stored rotated; so is one with
// a vector that belongs to no norm. No name of a tensor is read; of the
// signature, which outputs are caches and logits. A graph that is not of this
// form gives no roles and a reason, never a guess. `num_layers`: those that
// have KV caches; those behind them that take another one's are found.
// `sub_norms`: what o and down read is the output of a norm, as
// ModelConfig::sub_norms has it. `num_streams`: as ModelConfig::num_streams.
// Throws Error for a graph too large to follow.
Roles FindRoles(const tflite::File& file, int64_t num_layers, int64_t head_dim,
                bool sub_norms = false, int64_t num_streams = 0);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_MAPPING_ROLES_H_
