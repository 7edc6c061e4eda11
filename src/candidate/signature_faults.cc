#include "candidate/signature_faults.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <utility>

#include "base/flatbuffer.h"
#include "base/mapped_file.h"
#include "candidate/bundle.h"
#include "candidate/embedder_file.h"
#include "candidate/tflite_file.h"
#include "candidate/tflite_schema.h"

namespace verify_tflite {
namespace {

using namespace tflite_schema;

constexpr size_t kMaxRank = 16;

class Reader {
 public:
  Reader(std::span<const std::byte> bytes, const std::string& what)
      : what_(what), buffer_(bytes, what), root_(FlatTable::Root(buffer_)) {}

  std::vector<SignatureFault> Find() {
    const FlatTables graphs = root_.Tables(model::kSubgraphs);
    const FlatTables signatures = root_.Tables(model::kSignatures);
    for (size_t i = 0; i < signatures.size(); ++i) {
      const FlatTable s = signatures[i];
      const auto graph = s.Scalar<uint32_t>(signature::kSubgraph, 0);
      if (graph >= graphs.size()) {
        buffer_.Damaged(fmt::format("there is no subgraph {}", graph));
      }
      Compare(s, graphs[graph], false);
      Compare(s, graphs[graph], true);
    }
    return std::move(faults_);
  }

  double AngleStep() {
    const FlatTables graphs = root_.Tables(model::kSubgraphs);
    double largest = 0;
    for (size_t i = 0; i < graphs.size(); ++i) {
      const FlatTable graph = graphs[i];
      const Producers producers = ProducersOf(graph);
      for (const auto& [tensor, made] : producers) {
        if ((made.op != "COS" && made.op != "SIN") || made.inputs.empty()) {
          continue;
        }
        uint32_t angles = made.inputs[0];
        const auto before = producers.find(angles);
        if (before != producers.end() && before->second.op == "DEQUANTIZE" &&
            !before->second.inputs.empty()) {
          angles = before->second.inputs[0];
        }
        const TensorSpec spec = Read(graph, angles);
        if (!IsQuantised(spec)) continue;
        largest = std::max(largest, static_cast<double>(spec.scale->scale));
      }
    }
    return largest;
  }

 private:
  static std::set<uint32_t> EndsOf(const FlatTable& graph, bool outputs) {
    const auto ends = graph.Scalars<int32_t>(outputs ? subgraph::kOutputs
                                                     : subgraph::kInputs);
    std::set<uint32_t> found;
    for (size_t i = 0; i < ends.size(); ++i) {
      found.insert(static_cast<uint32_t>(ends[i]));
    }
    return found;
  }

  void Compare(const FlatTable& s, const FlatTable& graph, bool outputs) {
    const FlatTables names =
        s.Tables(outputs ? signature::kOutputs : signature::kInputs);
    std::set<uint32_t> unnamed = EndsOf(graph, outputs);
    const std::set<uint32_t> ends = unnamed;
    std::vector<SignatureFault> found;
    for (size_t i = 0; i < names.size(); ++i) {
      const FlatTable map = names[i];
      const auto index = map.Scalar<uint32_t>(signature::kTensorIndex, 0);
      unnamed.erase(index);
      if (ends.contains(index)) continue;
      SignatureFault fault;
      fault.file = what_;
      fault.signature = s.String(signature::kKey);
      fault.is_output = outputs;
      fault.named = Read(graph, index);
      fault.named.name = map.String(signature::kName);
      fault.tensor = index;
      found.push_back(std::move(fault));
    }
    if (found.empty()) return;
    const Producers producers = ProducersOf(graph);
    for (SignatureFault& fault : found) {
      Match(graph, producers, unnamed, fault);
      faults_.push_back(std::move(fault));
    }
  }

  // The inputs and the operator that make a tensor.
  struct Producer {
    std::vector<uint32_t> inputs;
    std::string op;
  };
  using Producers = std::map<uint32_t, Producer>;

  Producers ProducersOf(const FlatTable& graph) {
    const FlatTables codes = root_.Tables(model::kOperatorCodes);
    const FlatTables ops = graph.Tables(subgraph::kOperators);
    Producers producers;
    for (size_t i = 0; i < ops.size(); ++i) {
      const FlatTable o = ops[i];
      const auto code = o.Scalar<uint32_t>(op::kOpcodeIndex, 0);
      if (code >= codes.size()) {
        buffer_.Damaged(fmt::format("there is no operator code {}", code));
      }
      Producer producer{.inputs = {}, .op = OperatorName(codes[code])};
      const auto inputs = o.Scalars<int32_t>(op::kInputs);
      for (size_t j = 0; j < inputs.size(); ++j) {
        if (inputs[j] < 0) continue;  // an optional input left out
        producer.inputs.push_back(static_cast<uint32_t>(inputs[j]));
      }
      const auto outputs = o.Scalars<int32_t>(op::kOutputs);
      for (size_t j = 0; j < outputs.size(); ++j) {
        producers[static_cast<uint32_t>(outputs[j])] = producer;
      }
    }
    return producers;
  }

  // The nearest of `unnamed` that is computed from the tensor named: a writer
  // that puts operators behind an output makes short ways.
  void Match(const FlatTable& graph, const Producers& producers,
             const std::set<uint32_t>& unnamed, SignatureFault& fault) {
    constexpr int kMaxSteps = 8;
    int nearest = kMaxSteps;
    for (const uint32_t end : unnamed) {
      std::vector<uint32_t> reached = {end};
      for (int step = 1; step < nearest; ++step) {
        std::vector<uint32_t> next;
        for (const uint32_t tensor : reached) {
          const auto made = producers.find(tensor);
          if (made == producers.end()) continue;
          next.insert(next.end(), made->second.inputs.begin(),
                      made->second.inputs.end());
        }
        std::ranges::sort(next);
        next.erase(std::ranges::unique(next).begin(), next.end());
        reached = std::move(next);
        if (std::ranges::find(reached, fault.tensor) == reached.end()) {
          continue;
        }
        nearest = step;
        fault.graphs = Read(graph, end);
        fault.graphs_tensor = end;
        fault.made_by = producers.at(end).op;
        break;
      }
    }
  }

  TensorSpec Read(const FlatTable& graph, uint32_t index) {
    const FlatTables tensors = graph.Tables(subgraph::kTensors);
    if (index >= tensors.size()) {
      buffer_.Damaged(fmt::format("there is no tensor {}", index));
    }
    const FlatTable t = tensors[index];
    TensorSpec spec;
    spec.name = t.String(tensor::kName);
    spec.type = ElementTypeOf(t);
    spec.scale = ScaleOf(t);
    const auto shape = t.Scalars<int32_t>(tensor::kShape);
    if (shape.size() > kMaxRank) {
      buffer_.Damaged(fmt::format("a tensor of {} dimensions", shape.size()));
    }
    for (size_t i = 0; i < shape.size(); ++i) spec.dims.push_back(shape[i]);
    return spec;
  }

  std::string what_;
  FlatBuffer buffer_;
  FlatTable root_;
  std::vector<SignatureFault> faults_;
};

void Append(std::vector<SignatureFault> more,
            std::vector<SignatureFault>& faults) {
  faults.insert(faults.end(), std::make_move_iterator(more.begin()),
                std::make_move_iterator(more.end()));
}

}  // namespace

std::vector<SignatureFault> FindSignatureFaults(
    std::span<const std::byte> bytes, const std::string& what) {
  return Reader(bytes, what).Find();
}

double AngleStep(std::span<const std::byte> bytes, const std::string& what) {
  return Reader(bytes, what).AngleStep();
}

std::vector<SignatureFault> FindSignatureFaults(const std::string& path) {
  const MappedFile file(path);
  std::vector<SignatureFault> faults;
  if (const auto bundle = Bundle::Open(file)) {
    for (const BundleSection& s : bundle->sections()) {
      if (s.type != SectionType::kTfliteModel || !IsTflite(s.bytes)) continue;
      Append(FindSignatureFaults(
                 s.bytes, s.model_type.empty()
                              ? path
                              : fmt::format("{}: {}", path, s.model_type)),
             faults);
    }
    return faults;
  }
  if (!IsTflite(file.bytes())) return faults;
  Append(FindSignatureFaults(file.bytes(), path), faults);
  for (const std::string_view name : {kEmbedderName, kPerLayerEmbedderName}) {
    const std::string beside = FileBeside(path, name);
    std::error_code error;
    if (beside.empty() || !std::filesystem::exists(beside, error)) continue;
    const MappedFile embedder(beside);
    if (!IsTflite(embedder.bytes())) continue;
    Append(FindSignatureFaults(embedder.bytes(), beside), faults);
  }
  return faults;
}

}  // namespace verify_tflite
