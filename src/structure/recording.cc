#include "structure/recording.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>
#include <utility>

#include "base/error.h"

namespace verify_tflite {
namespace {

// Rows of a prefill that are kept: so many at either end.
constexpr int64_t kEndRows = 16;
// Tokens fed for nothing but to reach the end of the KV cache.
constexpr int64_t kMostFill = 2048;

std::vector<int64_t> LengthsOf(const ModelInfo& info) {
  std::vector<int64_t> lengths;
  for (const PrefillInfo& prefill : info.prefills) {
    lengths.push_back(prefill.length);
  }
  return lengths;
}

// Begin and end.
std::vector<std::pair<int64_t, int64_t>> RowsToKeep(int64_t count) {
  if (count <= 2 * kEndRows) return {{0, count}};
  return {{0, kEndRows}, {count - kEndRows, count}};
}

Model OpenTapped(const Model& model, const AnchorsBySignature& anchors) {
  std::set<std::pair<std::string, int32_t>> wanted;
  for (const auto& [signature, stages] : anchors) {
    for (const auto& [stage, anchor] : stages) {
      for (const int32_t tensor : anchor.tensors) {
        wanted.emplace(signature, tensor);
      }
    }
  }
  return model.WithTaps([&](const GraphTensor& tensor) {
    return wanted.contains({tensor.signature, tensor.index});
  });
}

// Logits by row.
using Rows = std::vector<std::vector<float>>;

Rows Feed(Session& session, KvCache& kv, std::span<const int32_t> tokens,
          bool decode) {
  Rows rows(tokens.size());
  if (decode) {
    const std::span<const float> logits = session.Decode(kv, tokens[0]);
    rows[0].assign(logits.begin(), logits.end());
    return rows;
  }
  session.Prefill(kv, tokens, [&](size_t row, std::span<const float> logits) {
    rows[row].assign(logits.begin(), logits.end());
  });
  return rows;
}

bool SameBits(const Rows& a, const Rows& b) {
  return std::equal(
      a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
        return x.size() == y.size() &&
               std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0;
      });
}

class Recorder {
 public:
  explicit Recorder(const RecordingInput& input)
      : input_(input),
        info_(input.model.info()),
        tapped_model_(OpenTapped(input.model, input.anchors)),
        tapped_(Session::Create(tapped_model_, RecordingPlans(info_),
                                {input.num_threads})) {}

  Recording Run() {
    Begin();
    Step(1, true);
    Finish();
    Begin();
    const std::vector<int64_t> lengths = LengthsOf(info_);
    for (const int64_t length : lengths) {
      Step(length, false);
      Step(1, true);
    }
    // Past the boundary of a chunk.
    if (lengths.size() == 1) Step(lengths[0], false);
    GoToEnd();
    Finish();
    return std::move(recording_);
  }

 private:
  bool rings() const { return info_.ring_length > 0; }

  void Begin() {
    plain_kv_.emplace(input_.plain.NewKvCache());
    kv_.emplace(tapped_.NewKvCache());
    first_ = recording_.snapshots.size();
  }

  // Entries stay as they are written: what caches hold at the end serves all
  // runs of a text. Not with rings.
  void Finish() {
    if (rings()) return;
    for (size_t i = first_; i < recording_.snapshots.size(); ++i) {
      recording_.snapshots[i].before = recording_.caches.size();
      recording_.snapshots[i].after = recording_.caches.size();
    }
    recording_.caches.push_back(ReadCaches());
  }

  std::vector<KvRows> ReadCaches() {
    std::vector<KvRows> layers;
    for (int64_t i = 0; i < tapped_.num_layers(); ++i) {
      layers.push_back(tapped_.ReadKv(*kv_, i));
    }
    return layers;
  }

  std::vector<int32_t> Next(int64_t count) const {
    std::vector<int32_t> tokens;
    for (int64_t i = kv_->length(); i < kv_->length() + count; ++i) {
      tokens.push_back(
          input_.ids[static_cast<size_t>(i % std::ssize(input_.ids))]);
    }
    return tokens;
  }

  void GoToEnd() {
    const int64_t left = info_.kv_length - 1 - kv_->length();
    if (left < 1 || left > kMostFill || rings()) return;
    tapped_.Prefill(*kv_, Next(left));
    plain_kv_.reset();
    Step(1, true);
  }

  void Step(int64_t count, bool decode) {
    const int64_t begin = kv_->length();
    if (begin + count > info_.kv_length) return;
    if (input_.progress) {
      input_.progress("structure: position", begin, info_.kv_length);
    }
    const std::vector<int32_t> tokens = Next(count);
    const size_t before = recording_.caches.size();
    if (rings()) recording_.caches.push_back(ReadCaches());
    const Rows logits = Feed(tapped_, *kv_, tokens, decode);
    if (plain_kv_) {
      const Rows plain = Feed(input_.plain, *plain_kv_, tokens, decode);
      recording_.same_bits = recording_.same_bits && SameBits(plain, logits);
    }
    const size_t after = recording_.caches.size();
    if (rings()) recording_.caches.push_back(ReadCaches());
    const TapValues taps = tapped_.Taps();
    // Of several runs, which rings may make it take, the last one's values are
    // left.
    if (taps.begin != begin || taps.count != count) return;
    for (const auto& rows : RowsToKeep(count)) {
      Keep(taps, tokens, begin, rows, logits);
      recording_.snapshots.back().before = before;
      recording_.snapshots.back().after = after;
    }
  }

  // Tokens that a run of the signature takes, pads included, of all sequences.
  int64_t RowsOf(const std::string& signature) const {
    for (const PrefillInfo& prefill : info_.prefills) {
      if (prefill.name == signature) return prefill.length;
    }
    return info_.decode_batch;
  }

  void Keep(const TapValues& taps, std::span<const int32_t> tokens,
            int64_t begin, const std::pair<int64_t, int64_t>& rows,
            const Rows& logits) {
    Snapshot& s = recording_.snapshots.emplace_back();
    for (const SignatureGraph& graph : input_.file.signatures) {
      if (graph.signature == taps.signature) s.graph = &graph;
    }
    s.begin = begin + rows.first;
    const auto count = rows.second - rows.first;
    s.tokens.assign(tokens.begin() + rows.first, tokens.begin() + rows.second);
    s.logits.assign(logits.begin() + rows.first, logits.begin() + rows.second);
    for (const TapValues::Tap& tap : taps.taps) {
      const int64_t width = std::ssize(tap.values) / RowsOf(taps.signature);
      const auto from = tap.values.begin() + rows.first * width;
      s.tensors[tap.tensor->index].assign(from, from + count * width);
    }
  }

  const RecordingInput& input_;
  const ModelInfo& info_;
  Model tapped_model_;
  Session tapped_;
  std::optional<KvCache> kv_;
  std::optional<KvCache> plain_kv_;  // none: not compared any more
  size_t first_ = 0;                 // snapshot of this text
  Recording recording_;
};

}  // namespace

std::vector<PrefillPlan> RecordingPlans(const ModelInfo& model) {
  const std::vector<int64_t> lengths = LengthsOf(model);
  std::vector<PrefillPlan> plans;
  for (const int64_t length : lengths) {
    plans.push_back(PlanPrefill(lengths, model.kv_length, 0, length));
  }
  return plans;
}

Recording Record(const RecordingInput& input) {
  if (input.ids.empty()) throw Error("no tokens to verify the structure with");
  return Recorder(input).Run();
}

}  // namespace verify_tflite
