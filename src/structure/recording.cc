#include "structure/recording.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace verify_tflite {
namespace {

// Rows of a prefill that are kept: so many at either end.
constexpr int64_t kEndRows = 16;
// KV caches of more positions are not filled up to their end.
constexpr int64_t kMostPositions = 2304;
// Steps of decode that lead to the last position.
constexpr int64_t kMostSteps = 64;

std::vector<int64_t> LengthsOf(const ModelInfo& info) {
  std::vector<int64_t> lengths;
  for (const PrefillInfo& prefill : info.prefills) {
    lengths.push_back(prefill.length);
  }
  return lengths;
}

// Begin and end.
std::vector<std::pair<int64_t, int64_t>> RowsToKeep(int64_t count, bool whole) {
  if (whole || count <= 2 * kEndRows) return {{0, count}};
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

using Ranges = std::vector<std::pair<int64_t, int64_t>>;

// What a step yields: a hash of each row's logits, and the rows to keep. All
// rows of a long prefill with a large vocabulary would be too much.
struct Logits {
  std::vector<size_t> hashes;
  std::map<int64_t, std::vector<float>> rows;
};

Logits Feed(Session& session, KvCache& kv, std::span<const int32_t> tokens,
            bool decode, const Ranges& keep) {
  Logits result;
  result.hashes.resize(tokens.size());
  const auto take = [&](size_t row, std::span<const float> logits) {
    result.hashes[row] = std::hash<std::string_view>()(
        {reinterpret_cast<const char*>(logits.data()), logits.size_bytes()});
    const auto index = static_cast<int64_t>(row);
    for (const auto& [begin, end] : keep) {
      if (index < begin || index >= end || logits.empty()) continue;
      result.rows[index].assign(logits.begin(), logits.end());
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
  explicit Planner(const ModelInfo& info)
      : lengths_(LengthsOf(info)), kv_length_(info.kv_length) {
    to_end_ = info.ring_length == 0 && kv_length_ <= kMostPositions;
  }

  std::vector<RecordingStep> Plan() {
    steps_.push_back({.count = 1});
    // One length: once more, past the boundary of a chunk.
    if (lengths_.size() == 1) lengths_.push_back(lengths_[0]);
    int64_t rest = 1;  // what the shorter ones need
    for (const int64_t length : lengths_) rest += length + 1;
    for (const int64_t length : lengths_) {
      rest -= length + 1;
      Add(length, length, true);
      Add(1, 0, true);
      if (!to_end_) continue;
      const int64_t chunks = (kv_length_ - position_ - rest) / length;
      if (chunks > 0) Add(chunks * length, length, false);
    }
    const int64_t left = kv_length_ - 1 - position_;
    if (!to_end_ || left < 0 || left > kMostSteps) return std::move(steps_);
    if (left > 0) Add(left, 0, false);
    Add(1, 0, true);
    return std::move(steps_);
  }

 private:
  void Add(int64_t count, int64_t prefill, bool keep) {
    if (position_ + count > kv_length_) return;
    steps_.push_back({1, position_, count, prefill, keep});
    position_ += count;
  }

  std::vector<int64_t> lengths_;
  int64_t kv_length_;
  bool to_end_;
  int64_t position_ = 0;
  std::vector<RecordingStep> steps_;
};

class Recorder {
 public:
  explicit Recorder(const RecordingInput& input)
      : input_(input),
        info_(input.model.info()),
        tapped_(OpenTapped(input.model, input.anchors)) {}

  Recording Run() {
    const std::vector<RecordingStep> steps = PlanRecording(info_);
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
    for (int64_t i = 0; i < session_->num_layers(); ++i) {
      layers.push_back(session_->ReadKv(*kv_, i));
    }
    return layers;
  }

  std::vector<size_t> RunStep(const RecordingStep& step) {
    if (input_.progress) {
      input_.progress("structure: position", step.begin, info_.kv_length);
    }
    const std::vector<int32_t> tokens = TokensOf(step, input_.ids);
    const size_t before = recording_.caches.size();
    if (rings()) recording_.caches.push_back(ReadCaches());
    // What is in the middle of a run is in no ring before and after it, and
    // caches of fewer bits have it rounded.
    const bool whole = rings() || info_.kv_type != "FLOAT32";
    const Ranges ranges = step.keep ? RowsToKeep(step.count, whole) : Ranges();
    Logits logits = Feed(*session_, *kv_, tokens, step.prefill == 0, ranges);
    if (!step.keep) return std::move(logits.hashes);
    const size_t after = recording_.caches.size();
    if (rings()) recording_.caches.push_back(ReadCaches());
    const TapValues taps = session_->Taps();
    // Of several runs, which rings may make it take, the last one's values are
    // left.
    if (taps.begin != step.begin || taps.count != step.count) {
      return std::move(logits.hashes);
    }
    for (const auto& rows : ranges) {
      Keep(taps, tokens, rows, logits);
      recording_.snapshots.back().before = before;
      recording_.snapshots.back().after = after;
    }
    return std::move(logits.hashes);
  }

  void Keep(const TapValues& taps, std::span<const int32_t> tokens,
            const std::pair<int64_t, int64_t>& rows, const Logits& logits) {
    Snapshot& s = recording_.snapshots.emplace_back();
    for (const SignatureGraph& graph : input_.file.signatures) {
      if (graph.signature == taps.signature) s.graph = &graph;
    }
    s.begin = taps.begin + rows.first;
    const auto count = rows.second - rows.first;
    s.tokens.assign(tokens.begin() + rows.first, tokens.begin() + rows.second);
    for (int64_t row = rows.first; row < rows.second; ++row) {
      const auto found = logits.rows.find(row);
      s.logits.push_back(found == logits.rows.end() ? std::vector<float>()
                                                    : found->second);
    }
    // The first sequence is looked at; prefill has no other.
    const int64_t batch = IsDecode(taps.signature) ? info_.decode_batch : 1;
    for (const TapValues::Tap& tap : taps.taps) {
      const int64_t width =
          std::ssize(tap.values) / (RowsOf(info_, taps.signature) * batch);
      const auto from = tap.values.begin() + rows.first * width;
      s.tensors[tap.tensor->index].assign(from, from + count * width);
    }
  }

  const RecordingInput& input_;
  const ModelInfo& info_;
  Model tapped_;
  std::optional<Session> session_;
  int64_t compiled_ = 0;  // its prefill
  std::optional<KvCache> kv_;
  size_t first_ = 0;  // snapshot of this text
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

std::vector<RecordingStep> PlanRecording(const ModelInfo& model) {
  return Planner(model).Plan();
}

PlainLogits RunPlain(const ModelInfo& model, Session& session,
                     std::span<const int64_t> compiled,
                     std::span<const int32_t> ids) {
  if (ids.empty()) throw Error("no tokens to verify the structure with");
  PlainLogits logits;
  std::optional<KvCache> kv;
  int64_t text = -1;
  for (const RecordingStep& step : PlanRecording(model)) {
    const bool known =
        step.prefill == 0 || std::find(compiled.begin(), compiled.end(),
                                       step.prefill) != compiled.end();
    if (!step.keep || !known) break;
    if (step.text != text) kv.emplace(session.NewKvCache());
    text = step.text;
    Logits fed = Feed(session, *kv, TokensOf(step, ids), step.prefill == 0, {});
    logits.push_back(std::move(fed.hashes));
  }
  return logits;
}

Recording Record(const RecordingInput& input) {
  if (input.ids.empty()) throw Error("no tokens to verify the structure with");
  return Recorder(input).Run();
}

}  // namespace verify_tflite
