// The part of Python's pickle format that plain data and tensors need, read
// into a table of values. Nothing is imported, called or built.
// Format and checks: docs/pytorch_pickle_format.md.
#ifndef VERIFY_TFLITE_CHECKPOINT_PICKLE_H_
#define VERIFY_TFLITE_CHECKPOINT_PICKLE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace verify_tflite {

struct PickleValue {
  enum class Kind {
    kNone,
    kBool,        // integer: 0 or 1
    kInteger,     // integer
    kFloat,       // not kept
    kText,        // text
    kTuple,       // items
    kList,        // items
    kDict,        // items: key, value, key, value, …; also OrderedDict
    kGlobal,      // text: "torch._utils._rebuild_tensor_v2"
    kPersistent,  // items: the id, as the pickle gives it
    kCall,        // items: what would be called, its arguments
  };
  Kind kind = Kind::kNone;
  int64_t integer = 0;
  std::string_view text;
  std::vector<uint32_t> items;  // indices into Pickle::values
};

// What a pickle says. Values may be shared and may even contain themselves:
// whoever walks them must not recurse without a limit.
struct Pickle {
  std::vector<PickleValue> values;
  uint32_t root = 0;
  std::set<std::string, std::less<>> global_names;  // what their text views
};

// What a pickle may mention, by "module.name".
struct PickleGlobals {
  std::function<bool(std::string_view name)> allowed;
  std::function<bool(std::string_view name)> callable;
};

// Reads a pickle of protocol 2 with the opcodes torch.save writes. `where`
// names it in messages; text in the result views `data`. Throws Error for every
// other opcode, for a global that is not allowed, a call of what is not
// callable, for truncation, stack underflow, and more than kMaxPickleValues
// values. Memory and time are proportional to the size of `data`.
Pickle ReadPickle(std::span<const std::byte> data, const std::string& where,
                  const PickleGlobals& globals);

constexpr size_t kMaxPickleBytes = 64 << 20;
constexpr size_t kMaxPickleValues = 4 << 20;

// "a tuple"
std::string_view NameOf(PickleValue::Kind kind);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CHECKPOINT_PICKLE_H_
