#include "candidate/partial_graph.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/error.h"
#include "candidate/compiled_model.h"
#include "candidate/graph.h"
#include "candidate/host_buffer.h"
#include "candidate/model_impl.h"
#include "tflite/tap_image.h"

namespace verify_tflite {

struct PartialGraph::Impl {
  std::string origin;
  size_t signature = 0;
  std::optional<tflite::TapImage> image;
  // Behind the memory they lie in, so that they go first.
  OwnedModel handle;
  CompiledModel compiled;
  std::vector<TensorSpec> inputs, outputs;
  std::vector<HostBuffer> input_buffers, output_buffers;
};

PartialGraph::PartialGraph(const Model& model, const tflite::GraphPart& part)
    : impl_(std::make_unique<Impl>()) {
  const Model::Impl& of = Model::ImplOf(model);
  const std::string& path = of.path();
  const tflite::File& file = of.file();
  impl_->origin = path + ": a part of signature " + part.signature;
  const auto offset =
      static_cast<size_t>(file.bytes.data() - of.container->bytes().data());
  impl_->image.emplace(path, offset, file.bytes.size(),
                       tflite::PlanPart(file, part));
  impl_->handle = LoadModel(path, impl_->image->bytes());
  const auto signature = std::ranges::find(file.signatures, part.signature,
                                           &tflite::Signature::name);
  if (signature == file.signatures.end()) {
    throw Error("{}: it is gone", impl_->origin);
  }
  impl_->signature = static_cast<size_t>(signature - file.signatures.begin());
  SignatureSpec spec{.name = part.signature, .index = impl_->signature};
  const tflite::Graph& graph = file.graphs[signature->graph];
  const auto add = [&](const std::vector<int32_t>& tensors,
                       std::vector<TensorSpec>& specs) {
    for (const int32_t tensor : tensors) {
      specs.push_back(SpecOf(graph, tensor, graph.tensors.at(tensor).name));
    }
  };
  add(part.inputs, spec.inputs);
  add(part.outputs, spec.outputs);
  impl_->inputs = spec.inputs;
  impl_->outputs = spec.outputs;
  impl_->compiled = CompileOrExplain(impl_->origin, impl_->handle.get(),
                                     {part.signature}, CpuOptions{});
  CheckOutputShapes(impl_->compiled.get(), impl_->origin, spec);
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
    case ElementType::kFloat32:
      return copy(buffer.As<float>());
    case ElementType::kInt32:
      return copy(buffer.As<int32_t>());
    case ElementType::kBool:
      return copy(buffer.As<uint8_t>());
    case ElementType::kInt8:
    case ElementType::kInt16: {
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
      return buffer.type() == ElementType::kInt8
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
