#include "structure/recording.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace verify_tflite {
namespace {

// Rows at either end of a prefill whose products are computed as a whole.
constexpr int64_t kEndRows = 16;

std::vector<int64_t> LengthsOf(const ModelInfo& info) {
  std::vector<int64_t> lengths;
  for (const PrefillInfo& prefill : info.prefills) {
    lengths.push_back(prefill.length);
  }
  return lengths;
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
  return model.WithTaps([&](const std::string& signature, int32_t tensor) {
    return wanted.contains({signature, tensor});
  });
}

using Rows = std::pair<int64_t, int64_t>;  // [begin, end)

// What a step yields: of each row its logits' hash and, if they are kept, the
// logits.
struct Logits {
  std::vector<size_t> hashes;
  std::vector<std::vector<float>> rows;
};

Logits Feed(Session& session, KvCache& kv, std::span<const int32_t> tokens,
            bool decode, std::span<const Rows> keep) {
  Logits result;
  result.hashes.resize(tokens.size());
  result.rows.resize(tokens.size());
  const auto take = [&](size_t row, std::span<const float> logits) {
    result.hashes[row] = std::hash<std::string_view>()(
        {reinterpret_cast<const char*>(logits.data()), logits.size_bytes()});
    const auto index = static_cast<int64_t>(row);
    for (const auto& [begin, end] : keep) {
      if (index < begin || index >= end) continue;
      result.rows[row].assign(logits.begin(), logits.end());
    }
  };
  if (decode) {
    for (size_t i = 0; i < tokens.size(); ++i) {
      take(i, session.Decode(kv, tokens[i]));
    }
  } else {
    session.Prefill(kv, tokens, take);
  }
  return result;
}

std::vector<int32_t> TokensOf(const RecordingStep& step,
                              std::span<const int32_t> ids) {
  std::vector<int32_t> tokens;
  for (int64_t i = step.begin; i < step.begin + step.count; ++i) {
    tokens.push_back(ids[static_cast<size_t>(i % std::ssize(ids))]);
  }
  return tokens;
}

class Planner {
 public:
  Planner(const ModelInfo& info, int64_t positions)
      : lengths_(LengthsOf(info)), end_(positions), rings_(info.ring_length > 0) {
    for (const int64_t length : lengths_) all_ += length + 1;
  }

  std::vector<RecordingStep> Plan() {
    steps_.push_back({.count = 1});
    if (rings_ || end_ < lengths_[0] + 1 + all_) {
      // One length: once more, past the boundary of a chunk.
      if (lengths_.size() == 1) lengths_.push_back(lengths_[0]);
      AddAll();
      if (!rings_ && position_ > 0 && position_ < end_) CopyTo(end_ - 1);
      if (!rings_ && position_ + 1 == end_) Add(1, 0);
      return std::move(steps_);
    }
    Add(lengths_[0], lengths_[0]);
    Add(1, 0);
    // The last of all is a step of decode.
    const int64_t last = end_ - all_;
    for (int64_t power = 2; power < last; power *= 2) {
      for (const int64_t at : {power - 1, power, power + 1}) {
        if (at < position_ || at >= last) continue;
        CopyTo(at);
        Add(1, 0);
      }
    }
    CopyTo(last);
    AddAll();
    return std::move(steps_);
  }

 private:
  void AddAll() {
    for (const int64_t length : lengths_) {
      Add(length, length);
      Add(1, 0);
    }
  }

  void Add(int64_t count, int64_t prefill) {
    if (position_ + count > end_) return;
    steps_.push_back({1, position_, count, prefill, false});
    position_ += count;
  }

  void CopyTo(int64_t position) {
    if (position <= position_) return;
    steps_.push_back({1, position_, position - position_, 0, true});
    position_ = position;
  }

  std::vector<int64_t> lengths_;
  int64_t end_;
  bool rings_;
  int64_t all_ = 0;  // positions that all prefills, each with decode, take
  int64_t position_ = 0;
  std::vector<RecordingStep> steps_;
};

class Recorder {
 public:
  explicit Recorder(const RecordingInput& input)
      : input_(input),
        info_(input.model.info()),
        tapped_(OpenTapped(input.model, input.anchors)),
        integers_(std::ranges::any_of(input.file.signatures,
                                      &SignatureGraph::integer_activations)) {}

  Recording Run() {
    const std::vector<RecordingStep> steps =
        PlanRecording(info_, input_.positions);
    recording_.same_bits = !input_.plain.empty();
    int64_t text = -1;
    for (size_t i = 0; i < steps.size(); ++i) {
      UseSession(steps[i].prefill);
      if (steps[i].text != text) Begin();
      text = steps[i].text;
      const std::vector<size_t> hashes = RunStep(steps[i]);
      if (i < input_.plain.size() && input_.plain[i] != hashes) {
        recording_.same_bits = false;
      }
    }
    Finish();
    return std::move(recording_);
  }

 private:
  bool rings() const { return info_.ring_length > 0; }

  // Sessions of one model share KV caches.
  void UseSession(int64_t prefill) {
    if (session_ && (prefill == 0 || prefill == compiled_)) return;
    std::vector<PrefillPlan> plans;
    const std::vector<int64_t> lengths = LengthsOf(info_);
    if (prefill == 0) prefill = lengths[0];
    plans.push_back(PlanPrefill(lengths, info_.kv_length, 0, prefill));
    session_.reset();
    session_.emplace(
        Session::Create(tapped_, plans, {.num_threads = input_.num_threads}));
    compiled_ = prefill;
  }

  void Begin() {
    if (kv_) Finish();
    kv_.emplace(session_->NewKvCache());
    copied_ = false;
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
    for (const int64_t i : session_->kv_layers()) {
      // Layers between that have no keys have no rows.
      layers.resize(static_cast<size_t>(i));
      layers.push_back(session_->ReadKv(*kv_, i));
    }
    return layers;
  }

  std::vector<size_t> RunStep(const RecordingStep& step) {
    if (input_.progress) {
      input_.progress("structure: position", step.begin, info_.kv_length);
    }
    if (step.copies) {
      session_->FillTo(*kv_, step.begin + step.count);
      copied_ = true;
      return {};
    }
    const std::vector<int32_t> tokens = TokensOf(step, input_.ids);
    const size_t before = recording_.caches.size();
    if (rings()) recording_.caches.push_back(ReadCaches());
    const std::vector<Rows> kept = RowsToKeep(step);
    auto states_before = session_->ReadStates(*kv_);
    Logits logits = Feed(*session_, *kv_, tokens, step.prefill == 0, kept);
    const size_t after = recording_.caches.size();
    if (rings()) recording_.caches.push_back(ReadCaches());
    const TapValues taps = session_->Taps();
    // Of several runs, which rings may make it take, the last one's values are
    // left.
    if (taps.begin != step.begin || taps.count != step.count) {
      return std::move(logits.hashes);
    }
    const auto states_after = session_->ReadStates(*kv_);
    for (const Rows& rows : kept) {
      Keep(taps, tokens, rows, logits);
      recording_.snapshots.back().before = before;
      recording_.snapshots.back().after = after;
      recording_.snapshots.back().states_before = states_before;
      recording_.snapshots.back().states_after = states_after;
    }
    return std::move(logits.hashes);
  }

  // All of a signature's first run; of another, which tells what is different
  // there, both ends. But what is in the middle of a run is in no ring before
  // and after it, and KV caches of fewer bits have it rounded. Integers are
  // looked at a tensor at a time.
  std::vector<Rows> RowsToKeep(const RecordingStep& step) {
    const bool is_first = ran_.insert(step.prefill).second;
    const bool whole = rings() || integers_ || info_.num_states > 0 ||
                       info_.kv_type != "FLOAT32";
    if (is_first || whole || step.count <= 2 * kEndRows) {
      return {{0, step.count}};
    }
    return {{0, kEndRows}, {step.count - kEndRows, step.count}};
  }

  void Keep(const TapValues& taps, std::span<const int32_t> tokens,
            const Rows& rows, Logits& logits) {
    Snapshot& s = recording_.snapshots.emplace_back();
    for (const SignatureGraph& graph : input_.file.signatures) {
      if (graph.signature == taps.signature) s.graph = &graph;
    }
    const auto [first, last] = rows;
    const int64_t count = last - first;
    s.begin = taps.begin + first;
    s.tokens.assign(tokens.begin() + first, tokens.begin() + last);
    s.logits.assign(std::move_iterator(logits.rows.begin() + first),
                    std::move_iterator(logits.rows.begin() + last));
    s.real_text = !copied_;
    if (count > 2 * kEndRows && !integers_) {
      s.probed_begin = kEndRows;
      s.probed_end = count - kEndRows;
    }
    // The first sequence is looked at; prefill has no other.
    const int64_t batch = IsDecode(taps.signature) ? info_.decode_batch : 1;
    for (const TapValues::Tap& tap : taps.taps) {
      const int64_t width =
          std::ssize(tap.values) / (RowsOf(info_, taps.signature) * batch);
      const auto from = tap.values.begin() + first * width;
      s.tensors[tap.tensor].assign(from, from + count * width);
    }
  }

  const RecordingInput& input_;
  const ModelInfo& info_;
  Model tapped_;
  bool integers_;  // operators round to ranges measured once
  std::optional<Session> session_;
  int64_t compiled_ = 0;  // its prefill
  std::optional<KvCache> kv_;
  size_t first_ = 0;  // snapshot of this text
  bool copied_ = false;    // its KV caches hold copies
  std::set<int64_t> ran_;  // lengths of prefills
  Recording recording_;
};

}  // namespace

int64_t RowsOf(const ModelInfo& model, const std::string& signature) {
  const auto& ignored = model.ignored_signatures;
  for (const PrefillInfo& prefill : model.prefills) {
    if (prefill.name == signature) return prefill.length;
  }
  const bool runs =
      std::find(ignored.begin(), ignored.end(), signature) == ignored.end();
  return runs && IsDecode(signature) ? 1 : 0;
}

int64_t PositionsOf(const ModelInfo& model, const ModelConfig& config) {
  int64_t positions = model.kv_length;
  if (config.dynamic_rope) {
    positions = std::min(positions, config.max_position_embeddings);
  }
  if (config.long_rope) {
    positions = std::min(positions,
                         config.long_rope->original_max_position_embeddings);
  }
  return positions;
}

std::vector<RecordingStep> PlanRecording(const ModelInfo& model,
                                         int64_t positions) {
  return Planner(model, positions).Plan();
}

PlainLogits RunPlain(const ModelInfo& model, int64_t positions,
                     Session& session, std::span<const int64_t> compiled,
                     std::span<const int32_t> ids) {
  if (ids.empty()) throw Error("no tokens to verify the structure with");
  PlainLogits logits;
  std::optional<KvCache> kv;
  int64_t text = -1;
  for (const RecordingStep& step : PlanRecording(model, positions)) {
    const bool known =
        step.prefill == 0 || std::find(compiled.begin(), compiled.end(),
                                       step.prefill) != compiled.end();
    if (!known) break;
    if (step.text != text) kv.emplace(session.NewKvCache());
    text = step.text;
    if (step.copies) {
      session.FillTo(*kv, step.begin + step.count);
      logits.emplace_back();
      continue;
    }
    Logits fed =
        Feed(session, *kv, TokensOf(step, ids), step.prefill == 0, {});
    logits.push_back(std::move(fed.hashes));
  }
  return logits;
}

Recording Record(const RecordingInput& input) {
  if (input.ids.empty()) throw Error("no tokens to verify the structure with");
  return Recorder(input).Run();
}

}  // namespace verify_tflite
