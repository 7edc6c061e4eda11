// What converters call KV caches.
#ifndef VERIFY_TFLITE_CANDIDATE_KV_NAME_H_
#define VERIFY_TFLITE_CANDIDATE_KV_NAME_H_

#include <cstdint>
#include <optional>
#include <string_view>

namespace verify_tflite {

enum class KvPart { kKeys, kValues };

struct KvName {
  KvPart part = KvPart::kKeys;
  int64_t layer = 0;
  bool operator==(const KvName&) const = default;
};

// Of an input or output of a signature ("kv_cache_k_0"; "v_cache_3" in files of
// other exporters); nothing where it is no KV cache.
std::optional<KvName> ParseKvName(std::string_view name);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CANDIDATE_KV_NAME_H_
