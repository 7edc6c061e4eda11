#include "candidate/partial_graph.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/flatbuffer.h"
#include "candidate/compiled_model.h"
#include "candidate/graph.h"
#include "candidate/host_buffer.h"
#include "candidate/model_impl.h"
#include "candidate/tap_image.h"
#include "candidate/tflite_schema.h"

namespace verify_tflite {
namespace {

using namespace tflite_schema;

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

FlatTable FindSignature(FlatBuffer& buffer, const std::string& name) {
  const FlatTables tables = FlatTable::Root(buffer).Tables(model::kSignatures);
  for (size_t i = 0; i < tables.size(); ++i) {
    if (tables[i].String(signature::kKey) == name) return tables[i];
  }
  throw Error("PlanPart: no signature {}", name);
}

// Maps whose tensor's index is written out and can be replaced.
std::vector<size_t> Replaceable(const FlatTables& maps) {
  std::vector<size_t> found;
  for (size_t i = 0; i < maps.size(); ++i) {
    if (maps[i].PlaceOfOffset(signature::kTensorIndex)) found.push_back(i);
  }
  return found;
}

}  // namespace

size_t PartialGraph::MaxOutputs(const Model& model,
                                const std::string& signature) {
  const Model::Impl& of = Model::ImplOf(model);
  FlatBuffer buffer(of.bytes, of.file.path());
  return Replaceable(FindSignature(buffer, signature)
                         .Tables(tflite_schema::signature::kOutputs))
      .size();
}

TapPatch PlanPart(std::span<const std::byte> model, const std::string& what,
                  const GraphPart& part) {
  FlatBuffer buffer(model, what);
  const FlatTable sig = FindSignature(buffer, part.signature);
  const FlatTables graphs = FlatTable::Root(buffer).Tables(model::kSubgraphs);
  const FlatTable graph = graphs[sig.Scalar<uint32_t>(signature::kSubgraph, 0)];
  TapPatch patch;
  patch.tail_begin = model.size();
  patch.moved_begin = model.size();  // nothing moves
  const std::vector<size_t> ops(part.ops.begin(), part.ops.end());
  WordVector(buffer, graph, subgraph::kOperators).KeepOffsets(ops, patch);
  WordVector(buffer, graph, subgraph::kInputs).Set(part.inputs, patch);
  WordVector(buffer, graph, subgraph::kOutputs).Set(part.outputs, patch);

  const FlatTables inputs = sig.Tables(signature::kInputs);
  std::vector<size_t> kept;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const auto tensor = static_cast<int32_t>(
        inputs[i].Scalar<uint32_t>(signature::kTensorIndex, 0));
    if (std::ranges::find(part.inputs, tensor) != part.inputs.end()) {
      kept.push_back(i);
    }
  }
  WordVector(buffer, sig, signature::kInputs).KeepOffsets(kept, patch);

  const FlatTables outputs = sig.Tables(signature::kOutputs);
  std::vector<size_t> named = Replaceable(outputs);
  named.resize(std::min(named.size(), part.outputs.size()));
  WordVector(buffer, sig, signature::kOutputs).KeepOffsets(named, patch);
  for (size_t i = 0; i < named.size(); ++i) {
    patch.words.emplace_back(
        *outputs[named[i]].PlaceOfOffset(signature::kTensorIndex),
        static_cast<uint32_t>(part.outputs[i]));
  }
  if (named.size() < part.outputs.size()) {
    throw Error("{}: {} has fewer outputs than its part", what, part.signature);
  }
  return patch;
}

struct PartialGraph::Impl {
  std::string origin;
  size_t signature = 0;
  std::optional<TapImage> image;
  // Behind the memory they lie in, so that they go first.
  OwnedModel handle;
  CompiledModel compiled;
  std::vector<TensorSpec> inputs, outputs;
  std::vector<HostBuffer> input_buffers, output_buffers;
};

PartialGraph::PartialGraph(const Model& model, const GraphPart& part)
    : impl_(std::make_unique<Impl>()) {
  const Model::Impl& of = Model::ImplOf(model);
  const std::string& path = of.file.path();
  impl_->origin = path + ": a part of signature " + part.signature;
  const auto offset =
      static_cast<size_t>(of.bytes.data() - of.file.bytes().data());
  impl_->image.emplace(path, offset, of.bytes.size(),
                       PlanPart(of.bytes, path, part));
  impl_->handle = LoadModel(path, impl_->image->bytes());
  const auto all = ReadSignatures(path, impl_->handle.get());
  const auto spec =
      std::ranges::find(all, part.signature, &SignatureSpec::name);
  if (spec == all.end()) throw Error("{}: it is gone", impl_->origin);
  impl_->signature = spec->index;
  impl_->inputs = spec->inputs;
  impl_->outputs = spec->outputs;
  impl_->compiled = CompileOrExplain(impl_->origin, impl_->handle.get(),
                                     {part.signature}, CpuOptions{});
  CheckOutputShapes(impl_->compiled.get(), impl_->origin, *spec);
  for (const TensorSpec& t : impl_->inputs) {
    impl_->input_buffers.emplace_back(t, impl_->origin);
  }
  for (const TensorSpec& t : impl_->outputs) {
    impl_->output_buffers.emplace_back(t, impl_->origin);
  }
}

PartialGraph::~PartialGraph() = default;
PartialGraph::PartialGraph(PartialGraph&&) noexcept = default;
PartialGraph& PartialGraph::operator=(PartialGraph&&) noexcept = default;

const std::vector<TensorSpec>& PartialGraph::inputs() const {
  return impl_->inputs;
}

const std::vector<TensorSpec>& PartialGraph::outputs() const {
  return impl_->outputs;
}

std::span<std::byte> PartialGraph::InputBytes(size_t index) {
  return impl_->input_buffers.at(index).As<std::byte>();
}

std::vector<double> PartialGraph::Output(size_t index) const {
  const HostBuffer& buffer = impl_->output_buffers.at(index);
  const auto copy = [](auto values) {
    return std::vector<double>(values.begin(), values.end());
  };
  switch (buffer.type()) {
    case kLiteRtElementTypeFloat32:
      return copy(buffer.As<float>());
    case kLiteRtElementTypeInt32:
      return copy(buffer.As<int32_t>());
    case kLiteRtElementTypeBool:
      return copy(buffer.As<uint8_t>());
    case kLiteRtElementTypeInt8:
    case kLiteRtElementTypeInt16: {
      const TensorSpec& spec = impl_->outputs.at(index);
      if (!IsQuantised(spec)) break;
      const auto numbers = [&](auto stored) {
        std::vector<double> values;
        for (const auto x : stored) {
          values.push_back(double{spec.scale->scale} *
                           static_cast<double>(x - spec.scale->zero_point));
        }
        return values;
      };
      return buffer.type() == kLiteRtElementTypeInt8
                 ? numbers(buffer.As<int8_t>())
                 : numbers(buffer.As<int16_t>());
    }
    default:
      break;
  }
  throw Error("{}: {} is of a type not read here", impl_->origin,
              Describe(impl_->outputs.at(index)));
}

void PartialGraph::Run() {
  std::vector<LiteRtTensorBuffer> inputs, outputs;
  for (const HostBuffer& b : impl_->input_buffers) inputs.push_back(b.handle());
  for (const HostBuffer& b : impl_->output_buffers) {
    outputs.push_back(b.handle());
  }
  RunSignature(impl_->compiled.get(), impl_->origin, impl_->signature, inputs,
               outputs);
}

}  // namespace verify_tflite
