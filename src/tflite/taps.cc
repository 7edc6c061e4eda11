// SPDX-License-Identifier: Apache-2.0
#include "tflite/taps.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>
#include <span>
#include <string_view>

#include "base/error.h"
#include "base/flatbuffer.h"

namespace verify_tflite::tflite {
namespace {

constexpr size_t kTailAlignment = 16;
// No tensor worth a tap comes near.
constexpr int64_t kMaxElements = int64_t{1} << 31;
// What the runtime takes (LITERT_TENSOR_MAX_RANK).
constexpr size_t kMaxRank = 8;

// The flatbuffer itself: where its fields lie.
class Places {
 public:
  explicit Places(const File& file)
      : buffer_(file.bytes, file.what),
        root_(FlatTable::Root(buffer_)),
        graphs_(root_.Tables(schema::Model::kSubgraphs)),
        signatures_(root_.Tables(schema::Model::kSignatureDefs)) {}

  FlatBuffer& buffer() { return buffer_; }
  FlatTable GraphTable(int32_t index) const {
    return graphs_[static_cast<size_t>(index)];
  }
  FlatTable SignatureTable(size_t index) const { return signatures_[index]; }

  // A 64-bit field that says where in the file something lies.
  struct Offset {
    size_t place;
    uint64_t value;
  };

  // Those of data outside the flatbuffer: buffers' and custom operators'.
  std::vector<Offset> OffsetsOfData() const {
    using schema::Buffer;
    using schema::Operator;
    std::vector<Offset> offsets;
    const FlatTables buffers = root_.Tables(schema::Model::kBuffers);
    for (size_t i = 0; i < buffers.size(); ++i) {
      AddOffset(buffers[i], Buffer::kOffset, Buffer::kSize, offsets);
    }
    for (size_t i = 0; i < graphs_.size(); ++i) {
      const FlatTables ops = graphs_[i].Tables(schema::SubGraph::kOperators);
      for (size_t j = 0; j < ops.size(); ++j) {
        AddOffset(ops[j], Operator::kLargeCustomOptionsOffset,
                  Operator::kLargeCustomOptionsSize, offsets);
      }
    }
    return offsets;
  }

 private:
  // 0 and 1 stand for none.
  void AddOffset(const FlatTable& table, size_t offset, size_t size,
                 std::vector<Offset>& offsets) const {
    const auto place = table.PlaceOf<uint64_t>(offset);
    const auto value = table.Scalar<uint64_t>(offset, 0);
    const auto bytes = table.Scalar<uint64_t>(size, 0);
    if (!place || value <= 1) return;
    if (value > buffer_.bytes().size() ||
        bytes > buffer_.bytes().size() - value) {
      buffer_.Damaged(
          fmt::format("data are said to be {} bytes from {} on", bytes, value));
    }
    if (bytes > 0) offsets.push_back({*place, value});
  }

  FlatBuffer buffer_;
  FlatTable root_;
  FlatTables graphs_, signatures_;
};

// Grows a TapPatch's tail. Offsets in a flatbuffer point forward, so that what
// is pointed to is written after what points.
class TailWriter {
 public:
  explicit TailWriter(TapPatch& patch) : patch_(patch) {}

  size_t end() const { return patch_.tail_begin + patch_.tail.size(); }

  template <typename T>
  size_t Put(T value) {
    const size_t at = end();
    const auto* bytes = reinterpret_cast<const std::byte*>(&value);
    patch_.tail.insert(patch_.tail.end(), bytes, bytes + sizeof(T));
    return at;
  }

  size_t PutString(std::string_view text) {
    const size_t at = Put(static_cast<uint32_t>(text.size()));
    const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
    patch_.tail.insert(patch_.tail.end(), bytes, bytes + text.size());
    patch_.tail.push_back(std::byte{0});
    while (patch_.tail.size() % sizeof(uint32_t) != 0) {
      patch_.tail.push_back(std::byte{0});
    }
    return at;
  }

  // The offset at `place`, in the tail, points to `target`.
  void Point(size_t place, size_t target) {
    const auto distance = static_cast<uint32_t>(target - place);
    std::memcpy(patch_.tail.data() + (place - patch_.tail_begin), &distance,
                sizeof(distance));
  }

  // Likewise, in the model.
  void PointFromModel(size_t place, size_t target) {
    patch_.words.emplace_back(place, static_cast<uint32_t>(target - place));
  }

 private:
  TapPatch& patch_;
};

// The one vtable of all TensorMaps: sizes of vtable and table, then where name
// and index lie in the table.
struct TensorMapVtable {
  uint16_t size = 8;
  uint16_t table_size = 12;
  uint16_t name = 4;
  uint16_t tensor_index = 8;
};
static_assert(sizeof(TensorMapVtable) == 8);

size_t PutTensorMaps(TailWriter& tail, size_t vtable,
                     const std::vector<NamedTensor>& maps) {
  const size_t vector = tail.Put(static_cast<uint32_t>(maps.size()));
  std::vector<size_t> places;
  for (size_t i = 0; i < maps.size(); ++i) {
    places.push_back(tail.Put(uint32_t{0}));
  }
  std::vector<size_t> names;
  for (size_t i = 0; i < maps.size(); ++i) {
    const size_t table = tail.end();
    tail.Put(static_cast<int32_t>(table - vtable));
    names.push_back(tail.Put(uint32_t{0}));
    tail.Put(maps[i].second);
    tail.Point(places[i], table);
  }
  for (size_t i = 0; i < maps.size(); ++i) {
    tail.Point(names[i], tail.PutString(maps[i].first));
  }
  return vector;
}

std::string TapName(int32_t index) {
  return fmt::format("verify_tflite_tap_{}", index);
}

size_t PlaceOf(const FlatTable& table, size_t field, const std::string& what) {
  if (const auto place = table.PlaceOfOffset(field)) return *place;
  throw Error("{} has a signature or graph without outputs", what);
}

size_t RoundUp(size_t value, size_t unit) {
  return (value + unit - 1) / unit * unit;
}

[[noreturn]] void NoRoom(const std::string& what, size_t bytes, size_t limit) {
  throw Error(
      "{}: intermediate tensors are read by adding outputs to the flatbuffer, "
      "which would then take {} of at most {} bytes. Convert with fewer "
      "signatures or fewer bits, or so that the data of weights lie behind the "
      "flatbuffer, as the converters write files above 2 GB",
      what, bytes, limit);
}

bool IsFixed(const Tensor& tensor) {
  if (tensor.shape.size() > kMaxRank) return false;
  int64_t elements = 1;
  for (const int32_t size : tensor.shape) {
    if (size <= 0 || size > kMaxElements / elements) return false;
    elements *= size;
  }
  return std::ranges::none_of(tensor.any_shape,
                              [](int32_t size) { return size < 0; });
}

// What operators compute, in their order.
std::vector<int32_t> Computed(const Graph& graph) {
  std::set<int32_t> seen(graph.input_tensors.begin(),
                         graph.input_tensors.end());
  std::vector<int32_t> tensors;
  for (const Op& op : graph.ops) {
    for (const int32_t tensor : op.outputs) {
      if (tensor >= 0 && seen.insert(tensor).second) tensors.push_back(tensor);
    }
  }
  return tensors;
}

// Which tensors are taken, and what the graphs' and signatures' new lists of
// outputs are.
class Planner {
 public:
  Planner(const File& file, const TapFilter& filter)
      : file_(file), places_(file) {
    for (const Signature& s : file.signatures) {
      const Graph& graph = file.graphs[s.graph];
      for (const int32_t tensor : Computed(graph)) {
        if (!CanTap(graph, s, tensor)) continue;
        can_tap_[&s].push_back(tensor);
        // Signatures may share a graph, which has one list of outputs.
        if (filter(s.name, tensor)) chosen_[s.graph].insert(tensor);
      }
    }
  }

  // With the tail behind all of the model.
  TapPatch Behind() {
    TapPatch patch;
    patch.moved_begin = file_.bytes.size();
    Fill(patch);
    return patch;
  }

  // With the tail between flatbuffer and data.
  TapPatch Between() {
    TapPatch patch;
    patch.moved_begin = file_.bytes.size();
    const std::vector<Places::Offset> offsets = places_.OffsetsOfData();
    for (const auto& [place, value] : offsets) {
      patch.moved_begin = std::min<size_t>(patch.moved_begin, value);
    }
    Fill(patch);
    if (offsets.empty()) return patch;
    // A unit may begin as much as that before moved_begin.
    patch.shift = RoundUp(patch.tail.size() + kTailAlignment + kTapShiftUnit,
                          kTapShiftUnit);
    for (const auto& [place, value] : offsets) {
      CheckPlace(patch, place + sizeof(value));
      patch.offsets.emplace_back(place, value + patch.shift);
    }
    for (const auto& [place, value] : patch.words) {
      CheckPlace(patch, place + sizeof(value));
    }
    return patch;
  }

 private:
  void CheckPlace(const TapPatch& patch, size_t end) const {
    if (end <= patch.moved_begin) return;
    throw Error(
        "{}: intermediate tensors cannot be read: data of weights begin at "
        "byte {}, and the flatbuffer goes on behind them",
        file_.what, patch.moved_begin);
  }

  void Fill(TapPatch& patch) const {
    patch.tail_begin = RoundUp(patch.moved_begin, kTailAlignment);
    TailWriter tail(patch);
    const size_t vtable = tail.Put(TensorMapVtable{});
    for (const auto& [graph, tensors] : chosen_) {
      const auto& outputs = file_.graphs[graph].output_tensors;
      const size_t vector =
          tail.Put(static_cast<uint32_t>(outputs.size() + tensors.size()));
      for (const int32_t tensor : outputs) tail.Put(tensor);
      for (const int32_t tensor : tensors) tail.Put(tensor);
      tail.PointFromModel(PlaceOf(places_.GraphTable(graph),
                                  schema::SubGraph::kOutputs, file_.what),
                          vector);
    }
    for (size_t i = 0; i < file_.signatures.size(); ++i) {
      const Signature& s = file_.signatures[i];
      const auto taken = chosen_.find(s.graph);
      if (taken == chosen_.end()) continue;
      auto maps = s.outputs;
      for (const int32_t tensor : taken->second) {
        maps.emplace_back(TapName(tensor), tensor);
      }
      tail.PointFromModel(PlaceOf(places_.SignatureTable(i),
                                  schema::SignatureDef::kOutputs, file_.what),
                          PutTensorMaps(tail, vtable, maps));
      AddTaps(s, taken->second, patch);
    }
  }

  void AddTaps(const Signature& signature, const std::set<int32_t>& taken,
               TapPatch& patch) const {
    const auto tensors = can_tap_.find(&signature);
    if (tensors == can_tap_.end()) return;
    for (const int32_t tensor : tensors->second) {
      if (!taken.contains(tensor)) continue;
      patch.taps.push_back({signature.name, tensor, TapName(tensor)});
    }
  }

  const File& file_;
  Places places_;
  std::map<int32_t, std::set<int32_t>> chosen_;  // by graph
  // In the order of operators.
  std::map<const Signature*, std::vector<int32_t>> can_tap_;
};

// A vector of 32-bit words in the model, which can be shortened and rewritten.
class WordVector {
 public:
  WordVector(const FlatBuffer& buffer, const FlatTable& table, size_t field)
      : buffer_(buffer) {
    const auto place = table.PlaceOfOffset(field);
    if (!place) buffer.Damaged("a signature or graph lacks a list");
    at_ = *place + buffer.Read<uint32_t>(*place);
    size_ = buffer.Read<uint32_t>(at_);
  }

  size_t size() const { return size_; }

  // Keeps the offsets with these numbers, ascending: an offset counts from
  // where it stands and points forward, so that it can move to the front.
  void KeepOffsets(std::span<const size_t> kept, TapPatch& patch) const {
    SetSize(kept.size(), patch);
    for (size_t i = 0; i < kept.size(); ++i) {
      const size_t from = Place(kept[i]);
      const size_t target = from + buffer_.Read<uint32_t>(from);
      patch.words.emplace_back(Place(i),
                               static_cast<uint32_t>(target - Place(i)));
    }
  }

  void Set(std::span<const int32_t> values, TapPatch& patch) const {
    SetSize(values.size(), patch);
    for (size_t i = 0; i < values.size(); ++i) {
      patch.words.emplace_back(Place(i), static_cast<uint32_t>(values[i]));
    }
  }

 private:
  size_t Place(size_t index) const {
    if (index >= size_) {
      throw Error("PlanPart: number {} of {}", index, size_);
    }
    return at_ + sizeof(uint32_t) * (index + 1);
  }
  void SetSize(size_t size, TapPatch& patch) const {
    if (size > size_) {
      throw Error("PlanPart: {} where the file has {}", size, size_);
    }
    patch.words.emplace_back(at_, static_cast<uint32_t>(size));
  }

  const FlatBuffer& buffer_;
  size_t at_ = 0;
  size_t size_ = 0;
};

size_t IndexOf(const File& file, const std::string& signature) {
  const auto found =
      std::ranges::find(file.signatures, signature, &Signature::name);
  if (found != file.signatures.end()) {
    return static_cast<size_t>(found - file.signatures.begin());
  }
  throw Error("PlanPart: no signature {}", signature);
}

// Maps whose tensor's index is written out and can be replaced.
std::vector<size_t> Replaceable(const FlatTables& maps) {
  std::vector<size_t> found;
  for (size_t i = 0; i < maps.size(); ++i) {
    if (maps[i].PlaceOfOffset(schema::TensorMap::kTensorIndex)) {
      found.push_back(i);
    }
  }
  return found;
}

}  // namespace

bool CanTap(const Graph& graph, const Signature& signature, int32_t tensor) {
  const Tensor& t = graph.tensors[static_cast<size_t>(tensor)];
  const bool integers =
      t.scale && std::isfinite(t.scale->scale) && t.scale->scale > 0;
  const bool is_input = std::ranges::find(graph.input_tensors, tensor) !=
                        graph.input_tensors.end();
  return t.producer >= 0 && !is_input && IsFixed(t) &&
         (t.type == ElementType::kFloat32 || integers) &&
         std::ranges::find(signature.outputs, tensor, &NamedTensor::second) ==
             signature.outputs.end();
}

TapPatch PlanTaps(const File& file, const TapFilter& filter, size_t limit) {
  const auto end = [](const TapPatch& patch) {
    return patch.tail_begin + patch.tail.size();
  };
  Planner planner(file, filter);
  TapPatch patch = planner.Behind();
  if (end(patch) <= limit) return patch;
  patch = planner.Between();
  if (end(patch) > limit) NoRoom(file.what, end(patch), limit);
  return patch;
}

size_t MaxOutputs(const File& file, const std::string& signature) {
  const Places places(file);
  return Replaceable(places.SignatureTable(IndexOf(file, signature))
                         .Tables(schema::SignatureDef::kOutputs))
      .size();
}

TapPatch PlanPart(const File& file, const GraphPart& part) {
  using schema::SignatureDef;
  using schema::SubGraph;
  using schema::TensorMap;
  const size_t index = IndexOf(file, part.signature);
  const Signature& signature = file.signatures[index];
  Places places(file);
  const FlatBuffer& buffer = places.buffer();
  const FlatTable graph = places.GraphTable(signature.graph);
  const FlatTable sig = places.SignatureTable(index);
  TapPatch patch;
  patch.tail_begin = file.bytes.size();
  patch.moved_begin = file.bytes.size();  // nothing moves
  const std::vector<size_t> ops(part.ops.begin(), part.ops.end());
  WordVector(buffer, graph, SubGraph::kOperators).KeepOffsets(ops, patch);
  WordVector(buffer, graph, SubGraph::kInputs).Set(part.inputs, patch);
  WordVector(buffer, graph, SubGraph::kOutputs).Set(part.outputs, patch);

  std::vector<size_t> kept;
  for (size_t i = 0; i < signature.inputs.size(); ++i) {
    if (std::ranges::find(part.inputs, signature.inputs[i].second) !=
        part.inputs.end()) {
      kept.push_back(i);
    }
  }
  WordVector(buffer, sig, SignatureDef::kInputs).KeepOffsets(kept, patch);

  const FlatTables outputs = sig.Tables(SignatureDef::kOutputs);
  std::vector<size_t> named = Replaceable(outputs);
  named.resize(std::min(named.size(), part.outputs.size()));
  WordVector(buffer, sig, SignatureDef::kOutputs).KeepOffsets(named, patch);
  for (size_t i = 0; i < named.size(); ++i) {
    patch.words.emplace_back(
        *outputs[named[i]].PlaceOfOffset(TensorMap::kTensorIndex),
        static_cast<uint32_t>(part.outputs[i]));
  }
  if (named.size() < part.outputs.size()) {
    throw Error("{}: {} has fewer outputs than its part", file.what,
                part.signature);
  }
  return patch;
}

}  // namespace verify_tflite::tflite
