#include "locate/reach_probe.h"

#include <algorithm>
#include <bit>

#include "base/error.h"

namespace verify_tflite {
namespace {

KvCache Feed(Session& session, std::span<const int32_t> tokens,
             bool by_prefill) {
  KvCache kv = session.NewKvCache();
  if (by_prefill) {
    session.Prefill(kv, tokens);
  } else {
    for (const int32_t token : tokens) session.Decode(kv, token);
  }
  return kv;
}

// Whether position `row` (of those kept) has other bits in one than in the
// other.
bool Differs(std::span<const float> a, std::span<const float> b, size_t row,
             size_t width) {
  return !std::equal(a.begin() + row * width, a.begin() + (row + 1) * width,
                     b.begin() + row * width, [](float x, float y) {
                       return std::bit_cast<uint32_t>(x) ==
                              std::bit_cast<uint32_t>(y);
                     });
}

// Positions that differ, ascending.
std::vector<int64_t> Differing(const KvRows& a, const KvRows& b) {
  std::vector<int64_t> result;
  const auto width = static_cast<size_t>(a.heads * a.head_dim);
  for (int64_t i = 0; i < a.length; ++i) {
    const auto row = static_cast<size_t>(i);
    if (Differs(a.keys, b.keys, row, width) ||
        Differs(a.values, b.values, row, width)) {
      result.push_back(a.first + i);
    }
  }
  return result;
}

}  // namespace

Reach MeasureReach(Session& session, std::span<const int32_t> tokens,
                   int32_t other, bool by_prefill) {
  if (tokens.size() < 2) {
    throw Error("two tokens at least are needed, {} were given", tokens.size());
  }
  std::vector<int32_t> first(tokens.begin(), tokens.end());
  std::vector<int32_t> last = first;
  first.front() = other;
  last.back() = other;
  KvCache plain = Feed(session, tokens, by_prefill);
  KvCache with_first = Feed(session, first, by_prefill);
  KvCache with_last = Feed(session, last, by_prefill);
  Reach reach;
  reach.length = static_cast<int64_t>(tokens.size());
  for (const int64_t layer : session.kv_layers()) {
    const KvRows rows = session.ReadKv(plain, layer);
    const auto forward = Differing(rows, session.ReadKv(with_first, layer));
    const auto backward = Differing(rows, session.ReadKv(with_last, layer));
    // Layers between that have no keys show nothing.
    reach.layers.resize(static_cast<size_t>(layer),
                        {.forward = -1, .backward = reach.length});
    reach.layers.push_back(
        {.forward = forward.empty() ? -1 : forward.back(),
         .backward = backward.empty() ? reach.length : backward.front()});
  }
  return reach;
}

int64_t ExpectedForward(const ModelConfig& config, int64_t layer,
                        int64_t length) {
  int64_t reach = 0;
  for (int64_t i = 0; i < layer; ++i) {
    const int64_t window = config.layers[static_cast<size_t>(i)].window;
    if (config.layers[static_cast<size_t>(i)].conv) {
      reach += config.conv_taps - 1;
      continue;
    }
    if (window == 0) return length - 1;
    reach += window - 1;
  }
  return std::min(reach, length - 1);
}

}  // namespace verify_tflite
