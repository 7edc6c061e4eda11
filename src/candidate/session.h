// Runs the converted model as production does: zeroed KV caches, prefill,
// decode.
#ifndef VERIFY_TFLITE_CANDIDATE_SESSION_H_
#define VERIFY_TFLITE_CANDIDATE_SESSION_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/last_bits.h"
#include "base/progress.h"
#include "candidate/cpu_options.h"
#include "candidate/kv_rows.h"
#include "candidate/model.h"
#include "candidate/prefill_plan.h"

namespace verify_tflite {

// One set of KV caches, zeroed at birth, bound in place as input and output of
// every signature (rings: from one set into a second one). Pages are allocated
// as they are written. Movable; of use to every Session of the Model that the
// Session which made it has, and must not outlive that Model.
class KvCache {
 public:
  ~KvCache();
  KvCache(KvCache&&) noexcept;
  KvCache& operator=(KvCache&&) noexcept;

  int64_t length() const;  // tokens fed so far = next position
  // Goes back to `length` tokens: the entries behind are masked until they are
  // overwritten. length <= length(). Where they have overwritten entries of a
  // ring that count again, the next call on the Session feeds all tokens anew.
  // State beside keys and values (ModelInfo::num_states) cannot be cut back: it
  // is what it was after the last call that ended there or before, and the next
  // call on the Session feeds the tokens behind that anew.
  void Truncate(int64_t length);

 private:
  friend class Session;
  struct Impl;
  explicit KvCache(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Inner tensors of one run of a signature.
struct TapValues {
  struct Tap {
    int32_t tensor = 0;             // in the signature's graph
    std::span<const float> values;  // of integers, what they stand for
  };
  std::string signature;
  int64_t begin = 0;  // position of its first token
  int64_t count = 0;  // tokens; rows behind them are pads
  std::vector<Tap> taps;  // also what an embedder made for the signature
};

class Session {
 public:
  struct Options {
    int num_threads = 1;
    // Told after every chunk and every decode step of a Prefill.
    ProgressFn progress = nullptr;
    Kernels kernels = Kernels::kXnnpack;
  };

  // Compiles the decode signature and those prefill signatures of `model` that
  // the plans use. `model` must outlive the Session. Standard error is captured
  // during the call (the runtime's reasons for a failure go there alone), so no
  // other thread should write to it. Throws Error with the runtime's reason.
  static Session Create(const Model& model, std::span<const PrefillPlan> plans,
                        Options options);
  ~Session();
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;

  // The numbers of the layers that ReadKv reads, ascending.
  const std::vector<int64_t>& kv_layers() const;
  KvCache NewKvCache() const;

  // Feeds `tokens` behind what `kv` holds, in chunks by PlanPrefill; pads are
  // token 0 at continuing positions, or what the graph takes for pads
  // (SignatureSpec::pad_token). Models with rings (ModelInfo::ring_length)
  // get pads only where they do no harm: the chunks are those of the compiled
  // signatures that fit. docs/signatures.md says what each kind is fed. Throws
  // Error when they do not fit the KV cache, for a token outside the
  // vocabulary, or for a signature that was not compiled. Returns the logits
  // [vocab] after the last token where the last chunk's signature yields that
  // row, else an empty span; valid until the next call on this Session.
  std::span<const float> Prefill(KvCache& kv, std::span<const int32_t> tokens);

  // The same, with the logits [vocab] of every token whose signature yields
  // them (PrefillInfo::logit_rows, and decode for a rest): `row` is its index
  // in `tokens`. The span is valid during the call.
  using RowFn = std::function<void(size_t row, std::span<const float> logits)>;
  void Prefill(KvCache& kv, std::span<const int32_t> tokens,
               const RowFn& on_row);

  // Feeds one token; returns the logits [vocab] for the token after it, valid
  // until the next call on this Session. Throws Error as Prefill does.
  std::span<const float> Decode(KvCache& kv, int32_t token);

  // Goes on to position `length` without feeding tokens: positions from
  // kv.length() on get copies of the entries before, in their order, again and
  // again. Attention finds there what the model itself has written, but rotated
  // by the angles of the positions that it comes from: of use where a step is
  // judged by what it makes of the entries there are, not by its text. Throws
  // Error for an empty cache, for rings, and beyond the cache's end.
  void FillTo(KvCache& kv, int64_t length);

  // What `kv` holds of one layer, numbered as in the file from 0; of a decode
  // batch, the first sequence's. A copy: of float32 caches the same bits. Rings
  // hold their last positions only. Throws Error when the file has no such
  // layer or stores its caches in a way this project does not know. After a
  // KvCache::Truncate that needs tokens fed anew, feeds them first.
  KvRows ReadKv(KvCache& kv, int64_t layer);

  // What `kv` holds of each state beside keys and values, by layer. Errors as
  // ReadKv's.
  std::map<int64_t, StateRows> ReadStates(KvCache& kv);

  // What Model::OpenOptions::taps has chosen, as the last run of a signature
  // left it: of a Prefill in several chunks, the last chunk's. Valid until the
  // next call of Prefill or Decode. Nothing before the first.
  TapValues Taps() const;

  // Moves the last bit of all that float32 caches hold, as rounding might have.
  // Returns false where `kv` has none.
  bool MoveLastBits(KvCache& kv, LastBits& bits) const;

 private:
  struct Impl;
  explicit Session(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CANDIDATE_SESSION_H_
