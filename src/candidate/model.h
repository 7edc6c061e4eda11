// The converted model's file: its signatures and what they mean.
#ifndef VERIFY_TFLITE_CANDIDATE_MODEL_H_
#define VERIFY_TFLITE_CANDIDATE_MODEL_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "candidate/signature_faults.h"
#include "candidate/tap.h"

namespace verify_tflite {

class Bundle;

// How the weights are stored: what decides how near to PyTorch the file can be.
// By what they cost: of two, the larger is the coarser (docs/recipes.md).
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
    Recipe::kFloat32, Recipe::kFloat16, Recipe::kInt8WeightOnly,
    Recipe::kInt8,    Recipe::kInt16x8Static, Recipe::kInt8Static,
    Recipe::kInt4,    Recipe::kInt4PerChannel};
std::string_view NameOf(Recipe recipe);  // "float32", "int8 weight-only", …

// Constants of one kind, all over the file.
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

// "int8 per channel, dynamic", "int4 in blocks of 32, dynamic", "float16"; with
// shares where a relevant part of the weights is stored in another way: "mixed:
// 80 % int8 per channel, dynamic; 20 % int4 per channel, lookup". Pure.
std::string DescribeWeights(const std::vector<WeightGroup>& groups);

// The coarsest recipe that a relevant share of the weights has. Norms, biases
// and tables are small, and stay float32 in every recipe. Pure.
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
  int64_t num_layers = 0;
  int64_t kv_length = 0;  // positions the KV cache can hold
  int64_t vocab_size = 0;
  bool mask_input = false;
  // Layers with a sliding window have KV caches that are rings of this many
  // slots; 0 without.
  int64_t ring_length = 0;
  // Sequences that decode takes at once. All are given the same tokens.
  int64_t decode_batch = 1;
  // What embeds tokens for this file, as a path or "<path>: embedder" in a
  // bundle; empty if it does so itself.
  std::string embedder_path;
  std::string per_layer_embedder_path;
  // Where running this file differs from running others, for the user: empty
  // for most.
  std::vector<std::string> notes;
  Recipe recipe = Recipe::kFloat32;
  std::vector<WeightGroup> weights;  // by descending number of elements
  std::string recipe_detail;         // DescribeWeights
  // Bytes of constants by element type ("FLOAT32", "INT8", "INT4", …).
  std::map<std::string, int64_t> weight_bytes;
  // Of the signatures that run; empty for most files.
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

// Movable. Opening compiles nothing and takes milliseconds.
class Model {
 public:
  struct Impl;  // of use to this room alone

  struct OpenOptions {
    // For a file that takes embeddings instead of tokens. Empty: the bundle's
    // own section, or the file
    // beside it that the converter writes with it: "embedder.tflite" beside
    // "model.tflite", "embedder_quantized.tflite" beside
    // "model_quantized.tflite"; "per_layer_embedder…" likewise.
    std::string embedder_path = {};
    std::string per_layer_embedder_path = {};
    // config.json's sliding_window, for a file that takes the mask of the
    // layers with a sliding window as input: it does not hold that number.
    std::optional<int64_t> sliding_window = {};
    // Inner tensors that running a signature shall yield, see Session::Taps:
    // asked for each that can be. What the model computes stays the same, bit
    // for bit.
    TapFilter taps = {};
    // As PlanTaps (tap.h) has it; for tests.
    size_t taps_limit = kFlatbufferLimit;
  };

  // Maps `path`, a .tflite or a bundle of one (.litertlm, .task), has the
  // runtime verify it and reads the signatures. Throws Error when it is
  // neither, is damaged, is not an LLM (no prefill or decode signature), needs
  // inputs this tool does not know, or when libLiteRt.so cannot be loaded (the
  // message names the package to install). Likewise when what the options are
  // for is needed and missing.
  static Model Open(const std::string& path, const OpenOptions& options);
  static Model Open(const std::string& path);
  ~Model();
  Model(Model&&) noexcept;
  Model& operator=(Model&&) noexcept;

  const std::string& path() const;
  const ModelInfo& info() const;
  // What is packed around the model, nullptr for a .tflite alone.
  const Bundle* bundle() const;

  // Signatures of the file, or of what embeds tokens for it, that name tensors
  // which their graphs do not take or give. With any, no Session can be created;
  // info() is what the file declares, as far as that makes sense.
  const std::vector<SignatureFault>& signature_faults() const;

  // What the signatures' graphs compute; to choose taps. Throws Error when the
  // file is damaged.
  std::vector<GraphTensor> ListTensors() const;
  // The same file, opened once more as this one was, with these taps.
  Model WithTaps(TapFilter taps) const;
  // Those that OpenOptions::taps has chosen.
  const std::vector<GraphTensor>& taps() const;

 private:
  friend class Session;
  friend class PartialGraph;
  static const Impl& ImplOf(const Model& model) { return *model.impl_; }
  explicit Model(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CANDIDATE_MODEL_H_
