#include "checkpoint/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/no_file.h"
#include "base/utf8.h"

namespace verify_tflite {
namespace {

static_assert(std::endian::native == std::endian::little,
              "tensors are viewed in place and stored little-endian");

using nlohmann::json;

constexpr size_t kLengthBytes = 8;
// The limit of the reference implementation.
constexpr uint64_t kMaxHeaderBytes = 100'000'000;

struct DTypeRow {
  std::string_view name;
  int bits;
  std::optional<DType> dtype;  // none: not one the reference computes with
};

constexpr DTypeRow kDTypes[] = {
    {"F32", 32, DType::kF32},
    {"F16", 16, DType::kF16},
    {"BF16", 16, DType::kBF16},
    {"F64", 64, DType::kF64},
    {"C64", 64, {}},
    {"I64", 64, {}},
    {"U64", 64, {}},
    {"I32", 32, {}},
    {"U32", 32, {}},
    {"I16", 16, {}},
    {"U16", 16, {}},
    {"I8", 8, {}},
    {"U8", 8, {}},
    {"BOOL", 8, {}},
    {"F8_E4M3", 8, {}},
    {"F8_E5M2", 8, {}},
    {"F8_E8M0", 8, {}},
    {"F8_E4M3FNUZ", 8, {}},
    {"F8_E5M2FNUZ", 8, {}},
    {"F6_E2M3", 6, {}},
    {"F6_E3M2", 6, {}},
    {"F4", 4, {}},
};

// Where a tensor's bytes lie, from the first byte after the header.
struct Range {
  uint64_t begin;
  uint64_t end;
  std::string name;
};

std::string_view TextOf(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()),
          file.bytes().size()};
}

// The JSON text of the header; all behind it is tensor data.
std::string_view HeaderText(const MappedFile& file) {
  const std::string_view text = TextOf(file);
  if (text.size() < kLengthBytes) {
    throw Error(
        "{}: {} bytes are too short for a safetensors file; copy or download "
        "it again",
        file.path(), text.size());
  }
  uint64_t length;
  std::memcpy(&length, text.data(), kLengthBytes);
  if (length > kMaxHeaderBytes) {
    throw Error(
        "{}: not a safetensors file: its header would have {} bytes, at most "
        "{} are allowed",
        file.path(), length, kMaxHeaderBytes);
  }
  if (length > text.size() - kLengthBytes) {
    throw Error(
        "{}: the file is truncated: the header has {} bytes, {} are left in "
        "the file; copy or download it again",
        file.path(), length, text.size() - kLengthBytes);
  }
  const std::string_view header = text.substr(kLengthBytes, length);
  if (!header.starts_with('{')) {
    throw Error("{}: not a safetensors file: the header does not start with {{",
                file.path());
  }
  return header;
}

// Refuses what the JSON parser would let pass: names given twice (the parser
// would keep the last) and nesting beyond {"name": {"shape": [ … ]}}.
class HeaderRules {
 public:
  explicit HeaderRules(const std::string& path) : path_(path) {}

  bool operator()(int depth, json::parse_event_t event, json& parsed) {
    using Event = json::parse_event_t;
    if (event == Event::object_start || event == Event::array_start) {
      if (depth >= kMaxDepth) {
        throw Error("{}: bad header: nested deeper than {} levels", path_,
                    kMaxDepth);
      }
      keys_[depth].clear();
    } else if (event == Event::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!keys_[depth - 1].insert(key).second) {
        throw Error("{}: bad header: {} is given twice", path_, Quote(key));
      }
    }
    return true;
  }

 private:
  static constexpr int kMaxDepth = 3;
  const std::string& path_;
  std::set<std::string> keys_[kMaxDepth];  // of the open object of each level
};

json ParseHeader(const MappedFile& file) {
  HeaderRules rules(file.path());
  try {
    return json::parse(HeaderText(file), std::ref(rules));
  } catch (const json::exception& e) {
    throw Error("{}: bad header: not valid JSON: {}", file.path(), e.what());
  }
}

// Reads one entry of the header; `where` names file and tensor in messages.
class Entry {
 public:
  Entry(const json& value, std::string where)
      : value_(value), where_(std::move(where)) {
    if (!value.is_object()) {
      throw Error("{}: expected an object, found {}", where_,
                  value.type_name());
    }
  }

  const DTypeRow& DType() const {
    const json& name = Member("dtype", json::value_t::string);
    const auto& text = name.get_ref<const std::string&>();
    for (const DTypeRow& row : kDTypes) {
      if (row.name == text) return row;
    }
    throw Error("{}: unknown dtype {}", where_, Quote(text));
  }

  std::vector<int64_t> Shape() const {
    std::vector<int64_t> shape;
    for (const json& size : Member("shape", json::value_t::array)) {
      const uint64_t value = Integer("shape", size);
      if (value > INT64_MAX) throw TooLarge();
      shape.push_back(static_cast<int64_t>(value));
    }
    return shape;
  }

  Range Offsets() const {
    const json& pair = Member("data_offsets", json::value_t::array);
    if (pair.size() != 2) {
      throw Error("{}: data_offsets has {} numbers, expected 2", where_,
                  pair.size());
    }
    const Range range{
        Integer("data_offsets", pair[0]), Integer("data_offsets", pair[1]), {}};
    if (range.begin > range.end) {
      throw Error("{}: data_offsets [{}, {}] run backwards", where_,
                  range.begin, range.end);
    }
    return range;
  }

  // Bytes that `shape` takes, packed.
  uint64_t ByteSize(const std::vector<int64_t>& shape, int bits) const {
    uint64_t count = static_cast<uint64_t>(bits);
    for (const int64_t size : shape) {
      if (__builtin_mul_overflow(count, static_cast<uint64_t>(size), &count)) {
        throw TooLarge();
      }
    }
    return count / 8 + (count % 8 != 0);
  }

  Error TooLarge() const {
    return Error("{}: the shape is too large to be true", where_);
  }

 private:
  const json& Member(const char* key, json::value_t type) const {
    const auto found = value_.find(key);
    if (found == value_.end()) throw Error("{}: no {}", where_, key);
    if (found->type() != type) {
      throw Error("{}: {} is a JSON {}, expected {}", where_, key,
                  found->type_name(), json(type).type_name());
    }
    return *found;
  }

  uint64_t Integer(const char* key, const json& number) const {
    if (!number.is_number_unsigned()) {
      throw Error("{}: {} holds {}, expected integers from 0", where_, key,
                  number.dump(-1, ' ', false, json::error_handler_t::replace));
    }
    return number.get<uint64_t>();
  }

  const json& value_;
  std::string where_;
};

// The ranges must cover the `size` bytes of data exactly, without a byte left
// out or used twice.
void CheckCover(const std::string& path, std::vector<Range> ranges,
                uint64_t size) {
  std::ranges::sort(ranges, {}, [](const Range& range) {
    return std::pair(range.begin, range.end);
  });
  uint64_t covered = 0;
  for (const Range& range : ranges) {
    if (range.begin != covered) {
      throw Error("{}: bad header: tensor {} begins at byte {} of the data, {}",
                  path, Quote(range.name), range.begin,
                  range.begin < covered
                      ? "inside another tensor"
                      : "after bytes that belong to no tensor");
    }
    covered = range.end;
  }
  if (covered < size) {
    throw Error("{}: bad header: the last {} bytes belong to no tensor", path,
                size - covered);
  }
}

}  // namespace

SafetensorsFile SafetensorsFile::Open(const std::string& path) {
  SafetensorsFile result(std::make_unique<const MappedFile>(path));
  RefuseNoFile(result.file_->bytes(), path);
  const json header = ParseHeader(*result.file_);
  const auto data = result.file_->bytes().subspan(
      kLengthBytes + HeaderText(*result.file_).size());
  std::vector<Range> ranges;
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") continue;
    const Entry entry(value, fmt::format("{}: tensor {}", path, Quote(name)));
    const DTypeRow& dtype = entry.DType();
    std::vector<int64_t> shape = entry.Shape();
    Range range = entry.Offsets();
    range.name = name;
    if (range.end > data.size()) {
      throw Error(
          "{}: the file is truncated: tensor {} ends at byte {} of the data, "
          "the file has {}; copy or download it again",
          path, Quote(name), range.end, data.size());
    }
    const uint64_t expected = entry.ByteSize(shape, dtype.bits);
    if (range.end - range.begin != expected) {
      throw Error("{}: tensor {}: {} {} takes {} bytes, data_offsets give {}",
                  path, Quote(name), dtype.name, ShapeToString(shape), expected,
                  range.end - range.begin);
    }
    if (dtype.dtype) {
      result.tensors_[name] = {
          *dtype.dtype, std::move(shape),
          data.subspan(range.begin, range.end - range.begin),
          result.file_.get()};
    } else {
      result.other_tensors_[name] = dtype.name;
    }
    ranges.push_back(std::move(range));
  }
  CheckCover(path, std::move(ranges), data.size());
  return result;
}

}  // namespace verify_tflite
