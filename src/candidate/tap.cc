#include "candidate/tap.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <string_view>

#include "base/error.h"
#include "base/flatbuffer.h"
#include "candidate/litert_abi.h"
#include "candidate/tflite_file.h"
#include "candidate/tflite_schema.h"

namespace verify_tflite {
namespace {

using namespace tflite_schema;

constexpr size_t kTailAlignment = 16;
// No tensor worth a tap comes near.
constexpr int64_t kMaxElements = int64_t{1} << 31;

struct Signature {
  std::string name;
  FlatTable table;
  uint32_t subgraph;
  std::vector<std::pair<std::string, uint32_t>> outputs;  // name, tensor
};

class Reader {
 public:
  Reader(std::span<const std::byte> model, const std::string& what)
      : buffer_(model, what),
        budget_(model.size()),
        root_(FlatTable::Root(buffer_)),
        subgraphs_(root_.Tables(model::kSubgraphs)) {
    const FlatTables codes = root_.Tables(model::kOperatorCodes);
    for (size_t i = 0; i < codes.size(); ++i) {
      op_names_.push_back(OperatorName(codes[i]));
    }
    ReadSignatures();
  }

  const std::vector<Signature>& signatures() const { return signatures_; }

  FlatTable Subgraph(uint32_t index) const { return subgraphs_[index]; }

  // A 64-bit field that says where in the file something lies.
  struct Offset {
    size_t place;
    uint64_t value;
  };

  // Those of data outside the flatbuffer: buffers' and custom operators'.
  std::vector<Offset> OffsetsOfData() {
    std::vector<Offset> offsets;
    const FlatTables buffers = root_.Tables(model::kBuffers);
    for (size_t i = 0; i < buffers.size(); ++i) {
      AddOffset(buffers[i], buffer::kOffset, buffer::kSize, offsets);
    }
    for (size_t i = 0; i < subgraphs_.size(); ++i) {
      const FlatTables ops = subgraphs_[i].Tables(subgraph::kOperators);
      for (size_t j = 0; j < ops.size(); ++j) {
        AddOffset(ops[j], op::kLargeOptionsOffset, op::kLargeOptionsSize,
                  offsets);
      }
    }
    return offsets;
  }

  // Of a signature, in the order of operators.
  std::vector<GraphTensor> Tensors(const Signature& signature) {
    const FlatTable graph = subgraphs_[signature.subgraph];
    const FlatTables tensors = graph.Tables(subgraph::kTensors);
    const FlatTables ops = graph.Tables(subgraph::kOperators);
    std::map<uint32_t, std::string> outputs;
    for (const auto& [name, tensor] : signature.outputs) {
      outputs.emplace(tensor, name);
    }
    // Graph inputs and what was listed are not listed (again).
    std::set<int32_t> seen;
    const auto inputs = graph.Scalars<int32_t>(subgraph::kInputs);
    for (size_t i = 0; i < inputs.size(); ++i) seen.insert(inputs[i]);
    std::vector<GraphTensor> found;
    for (size_t i = 0; i < ops.size(); ++i) {
      const FlatTable o = ops[i];
      const auto made = o.Scalars<int32_t>(op::kOutputs);
      for (size_t j = 0; j < made.size(); ++j) {
        if (made[j] < 0 || !seen.insert(made[j]).second) continue;
        GraphTensor t = ReadTensor(tensors, made[j]);
        t.signature = signature.name;
        t.op = OpName(o);
        t.order = i;
        t.inputs = ReadInputs(o);
        const auto output = outputs.find(static_cast<uint32_t>(made[j]));
        if (output != outputs.end()) {
          t.output = output->second;
          t.can_tap = false;
        }
        found.push_back(std::move(t));
      }
    }
    return found;
  }

 private:
  // What is copied of the file. A damaged one could have everything lie in the
  // same place; in a sound one it is a small part of the whole.
  void Spend(size_t bytes) {
    if (bytes > budget_) buffer_.Damaged("names or operators overlap");
    budget_ -= bytes;
  }

  std::string Text(std::string_view text) {
    Spend(text.size());
    return std::string(text);
  }

  // 0 and 1 stand for none.
  void AddOffset(const FlatTable& table, size_t offset, size_t size,
                 std::vector<Offset>& offsets) const {
    const auto place = table.PlaceOf<uint64_t>(offset);
    const auto value = table.Scalar<uint64_t>(offset, 0);
    const auto bytes = table.Scalar<uint64_t>(size, 0);
    if (!place || value <= 1) return;
    if (value > buffer_.bytes().size() ||
        bytes > buffer_.bytes().size() - value) {
      buffer_.Damaged(fmt::format("data are said to be {} bytes from {} on",
                                  bytes, value));
    }
    if (bytes > 0) offsets.push_back({*place, value});
  }

  void ReadSignatures() {
    const FlatTables tables = root_.Tables(model::kSignatures);
    for (size_t i = 0; i < tables.size(); ++i) {
      const FlatTable table = tables[i];
      const auto graph = table.Scalar<uint32_t>(signature::kSubgraph, 0);
      if (graph >= subgraphs_.size()) {
        buffer_.Damaged(fmt::format("there is no subgraph {}", graph));
      }
      Signature s{Text(table.String(signature::kKey)), table, graph, {}};
      const FlatTables maps = table.Tables(signature::kOutputs);
      for (size_t j = 0; j < maps.size(); ++j) {
        const FlatTable map = maps[j];
        s.outputs.emplace_back(
            Text(map.String(signature::kName)),
            map.Scalar<uint32_t>(signature::kTensorIndex, 0));
      }
      signatures_.push_back(std::move(s));
    }
  }

  GraphTensor ReadTensor(const FlatTables& tensors, int32_t index) {
    if (static_cast<size_t>(index) >= tensors.size()) {
      buffer_.Damaged(fmt::format("there is no tensor {}", index));
    }
    const FlatTable table = tensors[static_cast<size_t>(index)];
    GraphTensor t;
    t.index = index;
    t.name = Text(table.String(tensor::kName));
    t.type = TensorTypeName(table);
    const auto shape = table.Scalars<int32_t>(tensor::kShape);
    const auto any = table.Scalars<int32_t>(tensor::kShapeSignature);
    if (shape.size() > kLiteRtMaxRank) return t;
    if (t.type == "INT8" || t.type == "INT16") t.scale = ScaleOf(table);
    const bool integers =
        t.scale && std::isfinite(t.scale->scale) && t.scale->scale > 0;
    t.can_tap = t.type == "FLOAT32" || integers;
    int64_t elements = 1;
    for (size_t i = 0; i < shape.size(); ++i) {
      t.shape.push_back(shape[i]);
      t.can_tap =
          t.can_tap && shape[i] > 0 && shape[i] <= kMaxElements / elements;
      if (t.can_tap) elements *= shape[i];
    }
    for (size_t i = 0; i < std::min<size_t>(any.size(), kLiteRtMaxRank); ++i) {
      t.can_tap = t.can_tap && any[i] >= 0;
    }
    return t;
  }

  std::string OpName(const FlatTable& o) {
    if (o.Scalar<uint8_t>(op::kOptions2Type, 0) == op::kCompositeOptions) {
      if (const auto options = o.Table(op::kOptions2)) {
        return Text(options->String(op::kCompositeName));
      }
    }
    const auto code = o.Scalar<uint32_t>(op::kOpcodeIndex, 0);
    if (code >= op_names_.size()) {
      buffer_.Damaged(fmt::format("there is no operator code {}", code));
    }
    return op_names_[code];
  }

  std::vector<int32_t> ReadInputs(const FlatTable& o) {
    const auto inputs = o.Scalars<int32_t>(op::kInputs);
    Spend(inputs.size() * sizeof(int32_t));
    std::vector<int32_t> copy;
    for (size_t i = 0; i < inputs.size(); ++i) copy.push_back(inputs[i]);
    return copy;
  }

  FlatBuffer buffer_;
  size_t budget_;
  FlatTable root_;
  FlatTables subgraphs_;
  std::vector<std::string> op_names_;
  std::vector<Signature> signatures_;
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

size_t PutTensorMaps(
    TailWriter& tail, size_t vtable,
    const std::vector<std::pair<std::string, uint32_t>>& maps) {
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

// Which tensors are taken, and what the graphs' and signatures' new lists of
// outputs are.
class Planner {
 public:
  Planner(std::span<const std::byte> model, const std::string& what,
          const TapFilter& filter)
      : size_(model.size()), what_(what), reader_(model, what) {
    for (const Signature& s : reader_.signatures()) {
      for (GraphTensor& t : reader_.Tensors(s)) {
        if (!t.can_tap) continue;
        // Signatures may share a graph, which has one list of outputs.
        if (filter(t)) chosen_[s.subgraph].insert(t.index);
        all_.push_back(std::move(t));
      }
    }
  }

  // With the tail behind all of the model.
  TapPatch Behind() {
    TapPatch patch;
    patch.moved_begin = size_;
    Fill(patch);
    return patch;
  }

  // With the tail between flatbuffer and data.
  TapPatch Between() {
    TapPatch patch;
    patch.moved_begin = size_;
    const std::vector<Reader::Offset> offsets = reader_.OffsetsOfData();
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
        what_, patch.moved_begin);
  }

  void Fill(TapPatch& patch) const {
    patch.tail_begin = RoundUp(patch.moved_begin, kTailAlignment);
    TailWriter tail(patch);
    const size_t vtable = tail.Put(TensorMapVtable{});
    for (const auto& [graph, tensors] : chosen_) {
      const FlatTable table = reader_.Subgraph(graph);
      const auto outputs = table.Scalars<int32_t>(subgraph::kOutputs);
      const size_t vector =
          tail.Put(static_cast<uint32_t>(outputs.size() + tensors.size()));
      for (size_t i = 0; i < outputs.size(); ++i) tail.Put(outputs[i]);
      for (const int32_t tensor : tensors) tail.Put(tensor);
      tail.PointFromModel(PlaceOf(table, subgraph::kOutputs, what_), vector);
    }
    for (const Signature& s : reader_.signatures()) {
      const auto taken = chosen_.find(s.subgraph);
      if (taken == chosen_.end()) continue;
      auto maps = s.outputs;
      for (const int32_t tensor : taken->second) {
        maps.emplace_back(TapName(tensor), static_cast<uint32_t>(tensor));
      }
      tail.PointFromModel(PlaceOf(s.table, signature::kOutputs, what_),
                          PutTensorMaps(tail, vtable, maps));
      for (const GraphTensor& t : all_) {
        if (t.signature != s.name || !taken->second.contains(t.index)) continue;
        patch.taps.push_back(t);
        patch.taps.back().output = TapName(t.index);
      }
    }
  }

  size_t size_;
  const std::string& what_;
  Reader reader_;
  std::map<uint32_t, std::set<int32_t>> chosen_;
  std::vector<GraphTensor> all_;
};

}  // namespace

std::vector<GraphTensor> ListTensors(std::span<const std::byte> model,
                                     const std::string& what) {
  Reader reader(model, what);
  std::vector<GraphTensor> all;
  for (const Signature& s : reader.signatures()) {
    for (GraphTensor& t : reader.Tensors(s)) all.push_back(std::move(t));
  }
  return all;
}

TapPatch PlanTaps(std::span<const std::byte> model, const std::string& what,
                  const TapFilter& filter, size_t limit) {
  const auto end = [](const TapPatch& patch) {
    return patch.tail_begin + patch.tail.size();
  };
  Planner planner(model, what, filter);
  TapPatch patch = planner.Behind();
  if (end(patch) <= limit) return patch;
  patch = planner.Between();
  if (end(patch) > limit) NoRoom(what, end(patch), limit);
  return patch;
}

}  // namespace verify_tflite
