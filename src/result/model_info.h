// Describes a converted model: how its weights are stored, what its signatures
// take and yield. It is plain data, which candidate/ reads from a file.
#ifndef VERIFY_TFLITE_RESULT_MODEL_INFO_H_
#define VERIFY_TFLITE_RESULT_MODEL_INFO_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/tensor_scale.h"

namespace verify_tflite {

// How the weights are stored, which decides how near to PyTorch the file can
// be. The order is that of their cost: of two, the larger is the coarser
// (docs/recipes.md).
enum class Recipe {
  kFloat32,
  kFloat16,
  kInt8WeightOnly,  // int8 that no product takes as it is: dequantised first
  kInt8,            // products whose activations are quantised on the go
  kInt16x8Static,   // int8 weights, 16-bit activations of ranges measured once
  kInt8Static,      // int8 weights and activations of such ranges
  kInt4,            // int4 or int2 in blocks, or of embeddings alone
  kInt4PerChannel,  // int4 or int2 in products, one scale a channel or tensor
};
inline constexpr Recipe kAllRecipes[] = {
    Recipe::kFloat32, Recipe::kFloat16,       Recipe::kInt8WeightOnly,
    Recipe::kInt8,    Recipe::kInt16x8Static, Recipe::kInt8Static,
    Recipe::kInt4,    Recipe::kInt4PerChannel};
std::string_view NameOf(Recipe recipe);  // "float32", "int8 weight-only", …

// The constants of one kind in the whole file.
struct WeightGroup {
  // What one scale belongs to.
  enum class Scales { kNone, kPerTensor, kPerChannel, kPerBlock };
  // How operators read them.
  enum class Use {
    kTable,        // no weights: positions, masks, shapes, norms
    kPlain,        // in a product, as they are
    kLookup,       // row by row, dequantised: embeddings
    kDequantized,  // dequantised as a whole before a float product
    kDynamic,      // in an integer product with activations quantised on the go
    kStatic,       // in an integer product with 8-bit activations
    kStatic16,     // the same with 16-bit activations
  };

  std::string type;  // "FLOAT32", "INT8", …
  Scales scales = Scales::kNone;
  int64_t block_size = 0;  // of kPerBlock
  Use use = Use::kTable;
  int64_t bytes = 0;
  int64_t elements = 0;
};

// Returns one group for all of one kind (type, scales, use), those with the most
// elements first.
std::vector<WeightGroup> SumOfKinds(const std::vector<WeightGroup>& groups);

// Returns "int8 per channel, dynamic", "int4 in blocks of 32, dynamic",
// "float16"; with shares where a relevant part of the weights is stored in
// another way: "mixed: 80 % int8 per channel, dynamic; 20 % int4 per channel,
// lookup".
std::string DescribeWeights(const std::vector<WeightGroup>& groups);

// Returns the coarsest recipe that a relevant share of the weights has. Norms,
// biases and tables are small, and stay float32 in every recipe.
Recipe RecipeOf(const std::vector<WeightGroup>& groups);

// One `prefill` or `prefill_N` signature.
struct PrefillInfo {
  std::string name;
  int64_t length = 0;      // N
  int64_t logit_rows = 0;  // 0: no logits; N: one row a token; 1: last row
};

// An input or output of a signature that is stored as integers with one scale.
struct EndScale {
  std::string signature;
  std::string name;
  bool is_output = false;
  bool decode = false;  // the signature takes one token
  bool mask = false;    // it is an attention mask
  std::string type;     // "INT8", "INT16"
  TensorScale scale;
};

struct ModelInfo {
  std::vector<PrefillInfo> prefills;  // by descending length, at least one
  std::vector<std::string> ignored_signatures;  // neither prefill nor decode
  int64_t num_layers = 0;                       // with KV caches
  // States beside keys and values, of the other layers of a hybrid; and what
  // its graph takes for pads, which change none of them (SignatureSpec).
  int64_t num_states = 0;
  std::optional<int32_t> pad_token = std::nullopt;
  bool repeated_positions_are_pads = false;
  int64_t kv_length = 0;  // positions the KV cache can hold
  int64_t vocab_size = 0;
  bool mask_input = false;
  // Layers with a sliding window have KV caches that are rings of this many
  // slots; 0 without.
  int64_t ring_length = 0;
  // Sequences that decode takes at once. All get the same tokens.
  int64_t decode_batch = 1;
  // The file that embeds tokens for this one, as a path or "<path>: embedder"
  // in a bundle; empty if it embeds them itself.
  std::string embedder_path;
  std::string per_layer_embedder_path;
  // What made the file and what it says that it needs (tflite::ConvertedBy,
  // tflite::File::min_runtime_version); empty where it says nothing.
  std::string converted_by;
  std::string min_runtime_version;
  // Says to the user where running this file differs from running others; empty
  // for most.
  std::vector<std::string> notes;
  Recipe recipe = Recipe::kFloat32;
  std::vector<WeightGroup> weights;  // by descending number of elements
  std::string recipe_detail;         // DescribeWeights
  // Bytes of constants by element type ("FLOAT32", "INT8", "INT4", …).
  std::map<std::string, int64_t> weight_bytes;
  // Those of the signatures that run; empty for most files.
  std::vector<EndScale> end_scales;
  // Radians between two neighbouring angles that COS and SIN can get, where
  // these are stored as integers; 0 where they are not.
  double angle_step = 0;
  int64_t kv_bytes = 0;  // of one zeroed set of KV caches
  // Element type of the KV caches ("FLOAT32", "FLOAT16", "INT8"); of several,
  // the one of fewest bits. What passes through them is as coarse as that.
  std::string kv_type;
  // Numbers that one position of one sequence takes in one layer's KV caches; 0
  // where layers differ (rings).
  int64_t kv_values = 0;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_RESULT_MODEL_INFO_H_
