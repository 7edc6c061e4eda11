// SPDX-License-Identifier: Apache-2.0
#include "tflite/interface.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/utf8.h"

namespace verify_tflite {
namespace {

// No tensor comes near; products of dimensions below this do not overflow.
constexpr int64_t kMaxTensorBytes = int64_t{1} << 40;
// What the runtime takes (LITERT_TENSOR_MAX_RANK).
constexpr size_t kMaxRank = 8;
// Decompositions of composites within composites; none known is deeper than 2.
constexpr int kMaxDepth = 8;

using tflite::Graph;
using tflite::Op;
using tflite::Tensor;

const std::vector<int32_t>& ShapeOf(const Tensor& tensor) {
  return tensor.any_shape.empty() ? tensor.shape : tensor.any_shape;
}

class SignatureReader {
 public:
  SignatureReader(const std::string& path, const tflite::File& file)
      : what_(path + ": cannot read the model"), file_(file) {}

  SignatureSpec Read(size_t index) const {
    const tflite::Signature& signature = file_.signatures[index];
    const Graph& graph = file_.graphs[signature.graph];
    SignatureSpec spec;
    spec.name = signature.name;
    spec.index = index;
    spec.custom_ops = CustomOps(graph);
    spec.inputs =
        Ends(signature, "inputs", graph, graph.input_tensors, signature.inputs);
    spec.outputs = Ends(signature, "outputs", graph, graph.output_tensors,
                        signature.outputs);
    for (TensorSpec& output : spec.outputs) {
      output.sequence_axis =
          SequenceAxis(graph, static_cast<int32_t>(output.index), kMaxDepth);
    }
    FindPads(graph, spec);
    return spec;
  }

 private:
  std::vector<TensorSpec> Ends(const tflite::Signature& signature,
                               const char* direction, const Graph& graph,
                               const std::vector<int32_t>& ends,
                               std::vector<tflite::NamedTensor> names) const {
    if (names.size() != ends.size()) {
      throw Error("{}: signature {} names {} {}, its graph has {}", what_,
                  Quote(signature.name), names.size(), direction, ends.size());
    }
    std::vector<TensorSpec> specs;
    for (const int32_t end : ends) {
      if (end < 0) {
        throw Error("{}: signature {} has a graph with {} left out", what_,
                    Quote(signature.name), direction);
      }
      const auto named =
          std::ranges::find(names, end, &tflite::NamedTensor::second);
      const bool found = named != names.end();
      specs.push_back(
          SpecOf(graph, end, found ? named->first : graph.tensors[end].name));
      if (found) names.erase(named);
      Check(graph.tensors[end], specs.back().name);
    }
    return specs;
  }

  void Check(const Tensor& tensor, const std::string& name) const {
    if (!tensor.has_rank) {
      throw Error("{}: tensor {} has no fixed rank", what_, Quote(name));
    }
    if (ShapeOf(tensor).size() > kMaxRank) {
      throw Error("{}: tensor {} has {} dimensions, expected at most {}", what_,
                  Quote(name), ShapeOf(tensor).size(), kMaxRank);
    }
  }

  // The axis in which what is written is shorter than the cache, where a
  // DYNAMIC_UPDATE_SLICE makes `tensor`: layouts differ between converters and
  // their options ([1,S,KV,D], [1,KV,S,D], [1,KV,D,S]), and no name tells.
  std::optional<size_t> SequenceAxis(const Graph& graph, int32_t tensor,
                                     int depth) const {
    if (tensor < 0 || graph.tensors[tensor].producer < 0 || depth == 0) {
      return std::nullopt;
    }
    const Op& op = graph.ops[graph.tensors[tensor].producer];
    switch (op.code) {
      case tflite::kOpDynamicUpdateSlice:
        return DifferingAxis(graph, op);
      case tflite::kOpCast:
      case tflite::kOpQuantize:
      case tflite::kOpDequantize:
        // A cache that is stored in another type than it is computed in.
        if (op.inputs.size() != 1) return std::nullopt;
        return SequenceAxis(graph, op.inputs[0], depth - 1);
      case tflite::kOpStablehloComposite:
        break;
      default:
        return std::nullopt;
    }
    if (op.body < 0 || static_cast<size_t>(op.body) >= file_.graphs.size()) {
      return std::nullopt;
    }
    const Graph& body = file_.graphs[op.body];
    const auto output = static_cast<size_t>(
        std::ranges::find(op.outputs, tensor) - op.outputs.begin());
    if (output >= body.output_tensors.size()) return std::nullopt;
    return SequenceAxis(body, body.output_tensors[output], depth - 1);
  }

  static std::optional<size_t> DifferingAxis(const Graph& graph,
                                             const Op& update_slice) {
    if (update_slice.inputs.size() < 2 || update_slice.inputs[0] < 0 ||
        update_slice.inputs[1] < 0) {
      return std::nullopt;
    }
    const auto& operand = ShapeOf(graph.tensors[update_slice.inputs[0]]);
    const auto& update = ShapeOf(graph.tensors[update_slice.inputs[1]]);
    if (operand.size() != update.size()) return std::nullopt;
    std::optional<size_t> axis;
    for (size_t i = 0; i < operand.size(); ++i) {
      if (operand[i] == update[i]) continue;
      if (axis) return std::nullopt;
      axis = i;
    }
    return axis;
  }

  // Of each tensor, whether a state beside keys and values depends on it.
  static std::vector<bool> LeadToStates(const Graph& graph,
                                        const SignatureSpec& spec) {
    std::vector<bool> leads(graph.tensors.size());
    for (const TensorSpec& output : spec.outputs) {
      const auto name = ParseKvName(output.name);
      leads[output.index] = name && name->part == KvPart::kConvState;
    }
    const auto does = [&](int32_t t) {
      return t >= 0 && leads[static_cast<size_t>(t)];
    };
    for (size_t i = graph.ops.size(); i-- > 0;) {  // against the execution
      if (!std::ranges::any_of(graph.ops[i].outputs, does)) continue;
      for (const int32_t input : graph.ops[i].inputs) {
        if (input >= 0) leads[static_cast<size_t>(input)] = true;
      }
    }
    return leads;
  }

  static bool IsSliceOf(const Graph& graph, int32_t tensor, int32_t whole) {
    if (tensor < 0) return false;
    const int32_t producer =
        graph.tensors[static_cast<size_t>(tensor)].producer;
    if (producer < 0) return false;
    const Op& op = graph.ops[static_cast<size_t>(producer)];
    return (op.code == tflite::kOpSlice ||
            op.code == tflite::kOpStridedSlice) &&
           !op.inputs.empty() && op.inputs[0] == whole;
  }

  static bool ComparesPositions(const Graph& graph, const Op& op,
                                int32_t positions) {
    return op.inputs.size() == 2 && IsSliceOf(graph, op.inputs[0], positions) &&
           IsSliceOf(graph, op.inputs[1], positions);
  }

  // As exportable_module.py of export_hf marks them (valid_mask).
  static void FindPads(const Graph& graph, SignatureSpec& spec) {
    const std::vector<bool> leads = LeadToStates(graph, spec);
    for (const Op& op : graph.ops) {
      if ((op.code != tflite::kOpNotEqual && op.code != tflite::kOpGreater) ||
          op.outputs.size() != 1 || op.outputs[0] < 0 ||
          !leads[static_cast<size_t>(op.outputs[0])]) {
        continue;
      }
      for (const TensorSpec& input : spec.inputs) {
        const auto tensor = static_cast<int32_t>(input.index);
        if (op.code == tflite::kOpGreater) {
          spec.repeated_positions_are_pads |=
              ComparesPositions(graph, op, tensor);
        } else if (const auto token = ComparedToken(graph, op, tensor)) {
          spec.pad_token = token;
        }
      }
    }
  }

  static std::vector<std::string> CustomOps(const Graph& graph) {
    std::vector<std::string> names;
    for (const Op& op : graph.ops) {
      if (op.code == tflite::kOpCustom &&
          std::ranges::find(names, op.custom) == names.end()) {
        names.push_back(op.custom);
      }
    }
    return names;
  }

  std::string what_;
  const tflite::File& file_;
};

}  // namespace

int64_t ByteSize(const TensorSpec& tensor) {
  const int bits = BitsOf(tensor.type);
  if (bits < 8) {
    throw Error("{}: element type not supported as input or output",
                Describe(tensor));
  }
  int64_t bytes = bits / 8;
  for (const int64_t dim : tensor.dims) {
    if (dim <= 0) {
      throw Error("{}: dynamic shapes are not supported yet", Describe(tensor));
    }
    if (dim > kMaxTensorBytes / bytes) {
      throw Error("{}: too large; the file is damaged", Describe(tensor));
    }
    bytes *= dim;
  }
  return bytes;
}

bool IsQuantised(const TensorSpec& tensor) {
  return (tensor.type == ElementType::kInt8 ||
          tensor.type == ElementType::kInt16) &&
         tensor.scale && std::isfinite(tensor.scale->scale) &&
         tensor.scale->scale > 0;
}

std::string Describe(const TensorSpec& tensor) {
  return fmt::format("{} {} [{}]", Quote(tensor.name), NameOf(tensor.type),
                     fmt::join(tensor.dims, ", "));
}

TensorSpec SpecOf(const Graph& graph, int32_t tensor, const std::string& name) {
  const Tensor& t = graph.tensors[static_cast<size_t>(tensor)];
  const std::vector<int32_t>& shape = ShapeOf(t);
  return {.name = name,
          .type = t.type,
          .dims = {shape.begin(), shape.end()},
          .scale = tflite::ScaleOf(t),
          .index = static_cast<size_t>(tensor)};
}

std::vector<SignatureSpec> ReadSignatures(const std::string& path,
                                          const tflite::File& file) {
  const SignatureReader reader(path, file);
  std::vector<SignatureSpec> signatures;
  for (size_t i = 0; i < file.signatures.size(); ++i) {
    signatures.push_back(reader.Read(i));
  }
  return signatures;
}

std::optional<int32_t> ComparedToken(const Graph& graph, const Op& op,
                                     int32_t tokens) {
  if (op.code != tflite::kOpNotEqual || op.inputs.size() != 2)
    return std::nullopt;
  for (const size_t i : {size_t{0}, size_t{1}}) {
    if (op.inputs[i] != tokens || op.inputs[1 - i] < 0) continue;
    const Tensor& other = graph.tensors[static_cast<size_t>(op.inputs[1 - i])];
    int32_t token = 0;
    if (other.type != ElementType::kInt32 ||
        other.data.size() != sizeof(token)) {
      continue;
    }
    std::memcpy(&token, other.data.data(), sizeof(token));
    return token;
  }
  return std::nullopt;
}

std::optional<KvName> ParseKvName(std::string_view name) {
  constexpr std::pair<std::string_view, KvPart> kRoots[] = {
      {"kv_cache_k_", KvPart::kKeys},      {"k_cache_", KvPart::kKeys},
      {"kv_cache_v_", KvPart::kValues},    {"v_cache_", KvPart::kValues},
      {"kv_cache_c_", KvPart::kConvState},
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

bool IsDecode(std::string_view signature) {
  return signature.starts_with("decode");
}

}  // namespace verify_tflite
