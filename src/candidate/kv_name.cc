#include "candidate/kv_name.h"

#include <charconv>
#include <utility>

namespace verify_tflite {

std::optional<KvName> ParseKvName(std::string_view name) {
  constexpr std::pair<std::string_view, KvPart> kRoots[] = {
      {"kv_cache_k_", KvPart::kKeys},
      {"k_cache_", KvPart::kKeys},
      {"kv_cache_v_", KvPart::kValues},
      {"v_cache_", KvPart::kValues},
  };
  for (const auto& [root, part] : kRoots) {
    if (!name.starts_with(root)) continue;
    const char* end = name.data() + name.size();
    KvName result{part, 0};
    const auto [last, error] =
        std::from_chars(name.data() + root.size(), end, result.layer);
    if (error == std::errc() && last == end && result.layer >= 0) return result;
  }
  return std::nullopt;
}

}  // namespace verify_tflite
