// The PyTorch model: a decoder on libtorch (ATen, fp32) that streams its
// weights from the checkpoint, a block of a weight matrix at a time. Memory is
// libtorch, activations, logits (64 MB) and KV caches, whatever the model's
// size.
#ifndef VERIFY_TFLITE_REFERENCE_REFERENCE_H_
#define VERIFY_TFLITE_REFERENCE_REFERENCE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/progress.h"
#include "checkpoint/checkpoint.h"
#include "reference/alternative.h"
#include "reference/file_weight.h"
#include "reference/stage.h"

namespace verify_tflite {

struct Decoder;
struct SequenceState;

// One token sequence with the keys and values of what was scored so far.
// Movable; made by Reference::NewSequence and used with that Reference only.
class Sequence {
 public:
  ~Sequence();
  Sequence(Sequence&&) noexcept;
  Sequence& operator=(Sequence&&) noexcept;

  int64_t length() const;  // tokens in the KV cache
  // Forgets all tokens from position `length` on. Throws Error unless
  // 0 <= length <= length().
  void Truncate(int64_t length);

  // Keys (after RoPE) and values of one layer, [length(), num_kv_heads,
  // head_dim]: copies. All positions are there, also those that have left a
  // layer's sliding window. Throws Error for a layer the model does not have.
  std::vector<float> Keys(int64_t layer) const;
  std::vector<float> Values(int64_t layer) const;

  // Makes one layer's keys (after RoPE) and values of positions [0, length)
  // those of someone else, [length, num_kv_heads, head_dim] each. Call it for
  // every layer, with the same length, on a sequence that scored nothing: then
  // the sequence goes on from there. Of a layer with LayerConfig::conv, `keys`
  // are what was convolved of the last positions, [any number, hidden_size].
  // Throws Error for wrong sizes.
  void Restore(int64_t layer, int64_t length, std::span<const float> keys,
               std::span<const float> values);

  // The same for one Score, layer by layer as it comes to them: `read` fills
  // `keys` and `values`, [length, num_kv_heads, head_dim] each. What Score has
  // of a layer is gone behind it: the caches of one layer are in memory, not of
  // all.
  using ReadLayerFn = std::function<void(
      int64_t layer, std::vector<float>& keys, std::vector<float>& values)>;
  void RestoreByLayer(int64_t length, ReadLayerFn read);

 private:
  friend class Reference;
  explicit Sequence(std::unique_ptr<SequenceState> state);
  std::unique_ptr<SequenceState> state_;
};

class Reference {
 public:
  // Seconds of wall time, added up over passes: for benchmarks.
  struct Times {
    double linear = 0;     // all linear layers, reading weights included
    double attention = 0;  // RoPE, caches, scores, softmax and mixing
    double head = 0;       // final norm, LM head (linear, too) and callbacks
    double total = 0;
  };

  struct Options {
    int num_threads = 1;            // of ATen: one setting for the process
    ProgressFn progress = nullptr;  // counts layers
    Times* times = nullptr;
    // Linear layers of more rows go through ATen (MKL), others through loops of
    // our own. None: whichever was measured to be faster (kernels.h).
    std::optional<int64_t> max_dot_rows = std::nullopt;
    // None: what the checkpoint describes.
    std::optional<Alternative> alternative = std::nullopt;
    // Weights in place of the checkpoint's, where there are some; must outlive
    // the Reference.
    const FileWeights* weights = nullptr;
    bool quantise_inputs = true;  // where FileWeight::quantised_input says so
    uint64_t probe_seed = 0;      // of Probe
    // Experts compute all rows, also those that do not take them.
    bool all_experts = false;
  };

  // Checks that every weight the config implies is there with the right shape;
  // reads none of them. `checkpoint` must outlive the Reference. Throws Error.
  static Reference Open(const Checkpoint& checkpoint, Options options);
  ~Reference();
  Reference(Reference&&) noexcept;
  Reference& operator=(Reference&&) noexcept;

  Sequence NewSequence() const;

  // Whether the layer has keys and values of its own.
  bool HasKeys(int64_t layer) const;

  // What positions are multiplied with, [rotary_dim / 2]; of layers with
  // LayerConfig::local_rope, or of the others. With ModelConfig::long_rope,
  // those of short texts.
  std::vector<double> RopeFrequencies(bool local) const;
  // The same of other settings; nothing is read.
  static std::vector<double> RopeFrequenciesOf(const ModelConfig& config,
                                               bool local);

  // The bias of the choice among a layer's experts; empty where there is none.
  std::span<const float> ChoiceBias(int64_t layer) const;

  // What one sequence contributes to a pass.
  struct Item {
    Sequence* sequence;               // distinct within a pass
    std::span<const int32_t> tokens;  // appended to it; at least one
    // Logits are wanted of this many last rows of `tokens`.
    int64_t logit_rows;
    // Of rows [begin, end) the layers' products with weights are not computed:
    // a CaptureFn must write them, and Probe tells whether they are right.
    int64_t probed_begin = 0;
    int64_t probed_end = 0;
  };

  // A product with weights of one row, in float64 and with the sum of the
  // magnitudes of its terms: what float32 sums may be off by is a share of
  // that. `x` is the stage's input, [inputs]; the input is quantised where the
  // layer has quantised_input, and the bias is added. `x` of a layer with a
  // rotation is what comes before it, or, `is_rotated`, behind it. The product
  // may be that rotation itself (UnrotatedOf). Throws Error for a stage that is
  // no product or that the model does not have.
  struct PreciseRow {
    std::vector<double> values;      // [outputs]
    std::vector<double> magnitudes;  // [outputs]
  };
  PreciseRow Multiply(Stage stage, int64_t layer, std::span<const float> x,
                      bool is_rotated = false, int64_t expert = -1) const;

  // How far `found`, [outputs], is from that product, relative to `found` and
  // in L2, at a cost of inputs + outputs instead of inputs * outputs (R.
  // Freivalds, Probabilistic machines can use less running time, 1977). For
  // a random r, the square of r.(found - W x) is on average that of
  // |found - W x|, and r.(W x) is (W^T r).x, where W^T r is computed once. The
  // estimate is the root of the mean over kProbes vectors, of numbers of either
  // sign from 0.48 to 1.44: below a tenth of the true distance in one of 20,000
  // cases where many outputs differ, in one of 400 where two differ by the
  // same, and never below 0.48 of it where one does. Vectors follow from
  // Options::probe_seed. Not to be called from several threads at once. Errors
  // as Multiply's.
  static constexpr int kProbes = 4;
  double Probe(Stage stage, int64_t layer, std::span<const float> x,
               bool is_rotated, std::span<const float> found,
               int64_t expert = -1) const;

  // Receives logits row by row: `item` is an index into the items of the pass,
  // `row` an index into its tokens, `logits` is [vocab_size], valid only during
  // the call. The logits of row i predict the token after tokens[i].
  using LogitsFn = std::function<void(size_t item, int64_t row,
                                      std::span<const float> logits)>;

  // One teacher-forced causal pass over all items, every weight touched once.
  // Positions continue from sequence->length(). Throws Error for a token id
  // outside the vocabulary and for an item that breaks a rule above; then no
  // sequence has changed. What `on_logits` throws passes through; by then the
  // sequences have grown.
  //
  // With ModelConfig::long_rope, frequencies of all rows follow from the length
  // of the sequence after the pass, as in one forward pass of transformers.
  // Going on with a sequence across original_max_position_embeddings is an
  // Error: all its keys would have to be computed anew.
  //
  // The same pass gives the same bits on the same processor. Packing other
  // sequences into a pass or splitting a sequence over passes changes the shape
  // of matrix products and so may change the last bits of logits (about 1e-5),
  // never more.
  //
  // `capture` receives the activations of every stage as the pass computes
  // them, the rows of all items one after another. kFinalNorm has the rows that
  // logits are wanted of, and so has kHead; both may come in several parts. The
  // result is the same with it, unless it writes to what it is given: then all
  // that follows is computed from that. What it throws passes through; the
  // sequences are then of no more use than to be destroyed.
  void Score(std::span<const Item> items, const LogitsFn& on_logits,
             const CaptureFn& capture = nullptr);

 private:
  explicit Reference(std::unique_ptr<Decoder> decoder);
  void Check(std::span<const Item> items) const;

  std::unique_ptr<Decoder> decoder_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REFERENCE_REFERENCE_H_
