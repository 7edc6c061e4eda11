#include "structure/graph_formula.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "mapping/stored.h"

namespace verify_tflite {
namespace {

using Shape = std::vector<int64_t>;

// Operators in a row between what is known: a layer has a few dozen.
constexpr int kMostDepth = 400;
constexpr int kMostBodies = 4;  // composites within composites
// Kernels for int16 have a table of functions of one number, with an entry for
// every 128th integer and straight lines between (RSQRT of LiteRT 2.3.0,
// measured: 1.6e-3 of its size at 829; entries beyond the output's range are
// cut off, and so is what lies next to them). Entries are rounded, too, and
// moved so that errors are of both signs.
constexpr double kTableStep = 128;
constexpr double kTableMargin = 1.5;
constexpr double kTableRounding = 1.5;  // steps, beyond any operator's one
// A number of float32, relative to itself.
constexpr double kFloatRounding = 0x1p-23;

int64_t SizeOf(const Shape& shape) {
  int64_t size = 1;
  for (const int64_t d : shape) size *= d;
  return size;
}

Shape ShapeOf(const tflite::Tensor& tensor) {
  return {tensor.shape.begin(), tensor.shape.end()};
}

Shape StridesOf(const Shape& shape) {
  Shape strides(shape.size());
  int64_t stride = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= shape[i];
  }
  return strides;
}

// Calls fn(i, place) for every element i of `shape`: place is the sum of its
// indices times `strides`.
template <typename Fn>
void ForEach(const Shape& shape, const Shape& strides, const Fn& fn) {
  Shape index(shape.size());
  int64_t place = 0;
  const int64_t size = SizeOf(shape);
  for (int64_t i = 0; i < size; ++i) {
    fn(i, place);
    for (size_t axis = shape.size(); axis-- > 0;) {
      place += strides[axis];
      if (++index[axis] < shape[axis]) break;
      place -= strides[axis] * shape[axis];
      index[axis] = 0;
    }
  }
}

// Elements of `from` in another order or number.
Numbers Pick(const Numbers& from, const Shape& shape, const Shape& strides,
             int64_t offset) {
  Numbers result = {.shape = shape,
                    .opaque = from.opaque,
                    .exact = {},
                    .clipped = {},
                    .error = {},
                    .rounded_table = from.rounded_table};
  result.error.resize(static_cast<size_t>(SizeOf(shape)));
  result.exact.resize(from.opaque ? 0 : result.error.size());
  result.clipped.resize(result.exact.size());
  ForEach(shape, strides, [&](int64_t i, int64_t place) {
    const auto at = static_cast<size_t>(place + offset);
    const auto to = static_cast<size_t>(i);
    result.error[to] = from.error[at];
    if (from.opaque) return;
    result.exact[to] = from.exact[at];
    result.clipped[to] = from.clipped[at];
  });
  return result;
}

double Logistic(double x) { return 1 / (1 + std::exp(-x)); }

double TanhGelu(double x) {
  return 0.5 * x *
         (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) *
                        (x + 0.044715 * x * x * x)));
}

double Gelu(double x) { return 0.5 * x * std::erfc(-x / std::sqrt(2.0)); }

double (*UnaryOf(const tflite::Op& op))(double) {
  switch (op.code) {
    case tflite::kOpLogistic:
      return Logistic;
    case tflite::kOpTanh:
      return [](double x) { return std::tanh(x); };
    case tflite::kOpRsqrt:
      return [](double x) { return 1 / std::sqrt(x); };
    case tflite::kOpSqrt:
      return [](double x) { return std::sqrt(x); };
    case tflite::kOpCos:
      return [](double x) { return std::cos(x); };
    case tflite::kOpSin:
      return [](double x) { return std::sin(x); };
    case tflite::kOpGelu:
      return op.approximate ? TanhGelu : Gelu;
    default:
      return nullptr;
  }
}

// They hand on numbers as they are.
bool PassesOn(int32_t code) {
  return code == tflite::kOpReshape || code == tflite::kOpSqueeze ||
         code == tflite::kOpExpandDims || code == tflite::kOpDequantize ||
         code == tflite::kOpCast || code == tflite::kOpSlice ||
         code == tflite::kOpTranspose || code == tflite::kOpConcatenation ||
         code == tflite::kOpBroadcastTo;
}

class Evaluation {
 public:
  using OuterFn = std::function<std::optional<Numbers>(int32_t tensor)>;

  Evaluation(const tflite::File& file, const tflite::Graph& graph,
             OuterFn outer, const GraphFormula::RangeFn& on_range, int bodies)
      : file_(file),
        graph_(graph),
        outer_(std::move(outer)),
        on_range_(on_range),
        bodies_(bodies) {}

  std::optional<Numbers> Of(int32_t tensor) {
    if (tensor < 0 || static_cast<size_t>(tensor) >= graph_.tensors.size()) {
      return std::nullopt;
    }
    const auto known = done_.find(tensor);
    if (known != done_.end()) return known->second;
    std::optional<Numbers> result = outer_(tensor);
    if (!result) result = Constant(tensor);
    if (!result && depth_ < kMostDepth) {
      ++depth_;
      result = Produced(tensor);
      --depth_;
    }
    done_[tensor] = result;
    return result;
  }

 private:
  const tflite::Tensor& TensorAt(int32_t index) const {
    return graph_.tensors[static_cast<size_t>(index)];
  }

  std::optional<Numbers> Constant(int32_t index) const {
    const tflite::Tensor& tensor = TensorAt(index);
    if (tensor.constant < 0) return std::nullopt;
    const tflite::Constant& constant =
        file_.constants[static_cast<size_t>(tensor.constant)];
    if (constant.type == ElementType::kUnknown) return std::nullopt;
    Numbers result;
    result.shape = ShapeOf(tensor);
    const StoredReader reader(constant);
    std::vector<float> row(static_cast<size_t>(constant.cols()));
    for (int64_t i = 0; i < constant.rows(); ++i) {
      reader.Read(i, row.data());
      result.exact.insert(result.exact.end(), row.begin(), row.end());
    }
    if (std::ssize(result.exact) != SizeOf(result.shape)) return std::nullopt;
    result.clipped = result.exact;
    result.error.assign(result.exact.size(), 0);
    // Vectors are weights, which whoever asks takes from the file, too.
    result.rounded_table = reader.quantised() && result.shape.size() > 1 &&
                           result.exact.size() > 1 && constant.cols() > 1;
    return result;
  }

  // Of a shape, an axis or a place: INT32.
  std::optional<Shape> Integers(const tflite::Op& op, size_t input) const {
    if (input >= op.inputs.size() || op.inputs[input] < 0) return std::nullopt;
    const tflite::Tensor& tensor = TensorAt(op.inputs[input]);
    if (tensor.constant < 0) return std::nullopt;
    const auto data =
        file_.constants[static_cast<size_t>(tensor.constant)].data;
    const int64_t size = SizeOf(ShapeOf(tensor));
    if (std::ssize(data) != size * static_cast<int64_t>(sizeof(int32_t))) {
      return std::nullopt;
    }
    Shape values;
    for (int64_t i = 0; i < size; ++i) {
      int32_t value;
      std::memcpy(&value, data.data() + i * 4, sizeof(value));
      values.push_back(value);
    }
    return values;
  }

  std::optional<Numbers> Produced(int32_t tensor) {
    const int32_t producer = TensorAt(tensor).producer;
    if (producer < 0) return std::nullopt;
    const tflite::Op& op = graph_.ops[static_cast<size_t>(producer)];
    if (op.activation) return std::nullopt;
    std::optional<Numbers> result = Apply(op, tensor);
    if (!result && RoundsOnce(op, tensor) && IsExactly(op)) {
      result = Opaque(tensor);
    }
    if (!result || result->shape != ShapeOf(TensorAt(tensor))) {
      return std::nullopt;
    }
    Round(op, tensor, *result);
    return result;
  }

  // What is done in float32, and sums whose terms are exact.
  bool RoundsOnce(const tflite::Op& op, int32_t tensor) const {
    return op.code == tflite::kOpFullyConnected ||
           op.code == tflite::kOpBatchMatmul || op.code == tflite::kOpConv2d ||
           op.code == tflite::kOpEmbeddingLookup ||
           op.code == tflite::kOpGather ||
           TensorAt(tensor).type == ElementType::kFloat32;
  }

  // Whether parts of another scale are rounded to the output's.
  bool Rescales(const tflite::Op& op, int32_t output) const {
    return op.code == tflite::kOpConcatenation &&
           std::ranges::any_of(op.inputs, [&](int32_t input) {
             return input >= 0 &&
                    TensorAt(input).scale != TensorAt(output).scale;
           });
  }

  // Rounding and the range of the operator's output.
  void Round(const tflite::Op& op, int32_t index, Numbers& numbers) const {
    const tflite::Tensor& tensor = TensorAt(index);
    const auto range = RangeOf(tensor);
    if (!range) {
      if (PassesOn(op.code)) return;
      for (size_t i = 0; i < numbers.exact.size(); ++i) {
        numbers.error[i] += kFloatRounding * std::fabs(numbers.exact[i]);
      }
      return;
    }
    // A composite's last operator has done so.
    const bool rounds =
        Rescales(op, index) ||
        (!PassesOn(op.code) &&
         (op.code != tflite::kOpStablehloComposite || numbers.opaque));
    for (size_t i = 0; i < numbers.error.size(); ++i) {
      if (rounds) numbers.error[i] += range->step;
      if (!numbers.opaque) {
        numbers.clipped[i] =
            std::clamp(numbers.clipped[i], range->low, range->high);
      }
      const double most = range->high - range->low;
      if (!(numbers.error[i] <= most)) numbers.error[i] = most;
    }
    if (!PassesOn(op.code) && !numbers.opaque && on_range_) {
      on_range_(index, numbers);
    }
  }

  Numbers Opaque(int32_t tensor) const {
    Numbers result;
    result.opaque = true;
    result.shape = ShapeOf(TensorAt(tensor));
    result.error.assign(static_cast<size_t>(SizeOf(result.shape)), 0);
    return result;
  }

  // Whether all that the operator reads is what the run had there.
  bool IsExactly(const tflite::Op& op) {
    return std::ranges::all_of(
        op.inputs, [&](int32_t input) { return input < 0 || IsExact(input); });
  }

  bool IsExact(int32_t tensor) {
    for (int i = 0; i < kMostDepth; ++i) {
      const tflite::Tensor& t = TensorAt(tensor);
      const auto same = [&](const tflite::NamedTensor& n) {
        return n.second == tensor;
      };
      if (t.constant >= 0 || t.producer < 0 || outer_(tensor) ||
          std::ranges::any_of(graph_.outputs, same)) {
        return true;
      }
      const tflite::Op& op = graph_.ops[static_cast<size_t>(t.producer)];
      const bool views =
          op.code == tflite::kOpReshape || op.code == tflite::kOpDequantize ||
          op.code == tflite::kOpTranspose || op.code == tflite::kOpCast ||
          op.code == tflite::kOpSqueeze || op.code == tflite::kOpExpandDims;
      if (!views || op.inputs.empty() || op.inputs[0] < 0) return false;
      tensor = op.inputs[0];
    }
    return false;
  }

  std::optional<Numbers> Apply(const tflite::Op& op, int32_t tensor) {
    const Shape shape = ShapeOf(TensorAt(tensor));
    if (op.code == tflite::kOpStablehloComposite) return Body(op, tensor);
    if (op.code == tflite::kOpConcatenation) return Concatenated(op, shape);
    if (op.code == tflite::kOpAdd || op.code == tflite::kOpSub ||
        op.code == tflite::kOpMul) {
      return Binary(op, shape);
    }
    const bool unary = UnaryOf(op) != nullptr;
    if (!unary && !PassesOn(op.code) && op.code != tflite::kOpQuantize &&
        op.code != tflite::kOpMean) {
      return std::nullopt;
    }
    if (op.inputs.empty()) return std::nullopt;
    std::optional<Numbers> x = Of(op.inputs[0]);
    if (!x) return std::nullopt;
    if (unary) return Unary(op, *x, tensor);
    switch (op.code) {
      case tflite::kOpMean:
        return Mean(op, *x, shape);
      case tflite::kOpSlice:
        return Slice(op, *x, shape);
      case tflite::kOpTranspose:
        return Transposed(op, *x);
      case tflite::kOpBroadcastTo:
        return std::nullopt;
      default:
        break;
    }
    if (SizeOf(shape) != SizeOf(x->shape)) return std::nullopt;
    Numbers same = *x;
    same.shape = shape;
    return same;
  }

  std::optional<Numbers> Body(const tflite::Op& op, int32_t tensor) {
    if (op.body < 0 || static_cast<size_t>(op.body) >= file_.graphs.size() ||
        bodies_ >= kMostBodies) {
      return std::nullopt;
    }
    const tflite::Graph& body = file_.graphs[static_cast<size_t>(op.body)];
    const auto place = std::ranges::find(op.outputs, tensor);
    const auto output = static_cast<size_t>(place - op.outputs.begin());
    if (output >= body.output_tensors.size() ||
        body.input_tensors.size() != op.inputs.size()) {
      return std::nullopt;
    }
    const auto outer = [&](int32_t inner) -> std::optional<Numbers> {
      const auto at = std::ranges::find(body.input_tensors, inner);
      if (at == body.input_tensors.end()) return std::nullopt;
      const size_t input = static_cast<size_t>(at - body.input_tensors.begin());
      auto numbers = Of(op.inputs[input]);
      // What a composite does to it is not what an operator gives.
      if (numbers && numbers->opaque) return std::nullopt;
      return numbers;
    };
    return Evaluation(file_, body, outer, nullptr, bodies_ + 1)
        .Computed(body.output_tensors[output]);
  }

  // Not where an operator of the body is not known: its inputs are not what a
  // run had.
  std::optional<Numbers> Computed(int32_t tensor) {
    auto numbers = Of(tensor);
    if (numbers && numbers->opaque) return std::nullopt;
    return numbers;
  }

  std::optional<Numbers> Concatenated(const tflite::Op& op,
                                      const Shape& shape) {
    std::vector<Numbers> parts;
    for (const int32_t input : op.inputs) {
      auto part = Of(input);
      if (!part || part->opaque || part->shape.size() != shape.size()) {
        return std::nullopt;
      }
      parts.push_back(*std::move(part));
    }
    if (parts.empty()) return std::nullopt;
    size_t axis = shape.size();
    for (size_t i = 0; i < shape.size(); ++i) {
      if (parts[0].shape[i] != shape[i]) axis = i;
    }
    if (axis == shape.size()) return std::nullopt;
    Numbers result;
    result.shape = shape;
    result.error.resize(static_cast<size_t>(SizeOf(shape)));
    result.exact.resize(result.error.size());
    result.clipped.resize(result.error.size());
    const Shape strides = StridesOf(shape);
    int64_t begin = 0;
    for (const Numbers& part : parts) {
      for (size_t i = 0; i < shape.size(); ++i) {
        if (i != axis && part.shape[i] != shape[i]) return std::nullopt;
      }
      const int64_t offset = begin * strides[axis];
      begin += part.shape[axis];
      if (begin > shape[axis]) return std::nullopt;
      result.rounded_table |= part.rounded_table;
      ForEach(part.shape, strides, [&](int64_t i, int64_t place) {
        const auto from = static_cast<size_t>(i);
        const auto to = static_cast<size_t>(place + offset);
        result.exact[to] = part.exact[from];
        result.clipped[to] = part.clipped[from];
        result.error[to] = part.error[from];
      });
    }
    if (begin != shape[axis]) return std::nullopt;
    return result;
  }

  // As a tensor of `shape` that the numbers are broadcast to.
  static std::optional<Shape> BroadcastStrides(const Shape& from,
                                               const Shape& shape) {
    if (from.size() > shape.size()) return std::nullopt;
    const Shape own = StridesOf(from);
    Shape strides(shape.size());
    const size_t before = shape.size() - from.size();
    for (size_t i = 0; i < from.size(); ++i) {
      if (from[i] != 1 && from[i] != shape[before + i]) return std::nullopt;
      strides[before + i] = from[i] == 1 ? 0 : own[i];
    }
    return strides;
  }

  std::optional<Numbers> Binary(const tflite::Op& op, const Shape& shape) {
    if (op.inputs.size() != 2) return std::nullopt;
    const auto a_numbers = Of(op.inputs[0]), b_numbers = Of(op.inputs[1]);
    if (!a_numbers || !b_numbers) return std::nullopt;
    const auto a_strides = BroadcastStrides(a_numbers->shape, shape);
    const auto b_strides = BroadcastStrides(b_numbers->shape, shape);
    if (!a_strides || !b_strides) return std::nullopt;
    const Numbers a = Pick(*a_numbers, shape, *a_strides, 0);
    const Numbers b = Pick(*b_numbers, shape, *b_strides, 0);
    if (a.opaque || b.opaque) return OpaqueSum(op, a, b);
    Numbers result = a;
    result.rounded_table |= b.rounded_table;
    for (size_t i = 0; i < result.error.size(); ++i) {
      if (op.code == tflite::kOpMul) {
        result.error[i] = std::fabs(a.clipped[i]) * b.error[i] +
                          std::fabs(b.clipped[i]) * a.error[i] +
                          a.error[i] * b.error[i];
        result.exact[i] *= b.exact[i];
        result.clipped[i] *= b.clipped[i];
        continue;
      }
      const double sign = op.code == tflite::kOpSub ? -1 : 1;
      result.error[i] += b.error[i];
      result.exact[i] += sign * b.exact[i];
      result.clipped[i] += sign * b.clipped[i];
    }
    return result;
  }

  // A bias behind a product belongs to what the product is for.
  std::optional<Numbers> OpaqueSum(const tflite::Op& op, const Numbers& a,
                                   const Numbers& b) const {
    const bool constant = TensorAt(op.inputs[a.opaque ? 1 : 0]).constant >= 0;
    if (op.code == tflite::kOpMul || !constant || (a.opaque && b.opaque)) {
      return std::nullopt;
    }
    return a.opaque ? a : b;
  }

  // How far the straight line between the two entries of a kernel's table that
  // `x` lies between is from f, there or in the middle. Entries are numbers
  // that `out` can hold.
  static double TableError(double (*f)(double), double x, const TensorRange& in,
                           const TensorRange& out) {
    const auto entry = [&](double at) {
      return std::clamp(f(at), out.low, out.high);
    };
    const double segment = kTableStep * in.step;
    const double part = (x - in.low) / segment;
    const double left = in.low + std::floor(part) * segment;
    const double low = entry(left), high = entry(left + segment);
    const auto bend = [&](double weight) {
      const double line = (1 - weight) * low + weight * high;
      return std::fabs(line - entry(left + weight * segment));
    };
    return kTableMargin * std::max(bend(part - std::floor(part)), bend(0.5)) +
           kTableRounding * out.step;
  }

  std::optional<Numbers> Unary(const tflite::Op& op, const Numbers& x,
                               int32_t output) const {
    if (x.opaque) return std::nullopt;
    const auto f = UnaryOf(op);
    const tflite::Tensor& input = TensorAt(op.inputs[0]);
    const bool table = input.type == ElementType::kInt16;
    const auto in = RangeOf(input), out = RangeOf(TensorAt(output));
    Numbers result = x;
    for (size_t i = 0; i < x.error.size(); ++i) {
      const double value = f(x.clipped[i]);
      result.exact[i] = f(x.exact[i]);
      result.clipped[i] = value;
      const double above = std::fabs(f(x.clipped[i] + x.error[i]) - value);
      const double below = std::fabs(f(x.clipped[i] - x.error[i]) - value);
      // Below 0 there is no root: anything may come out.
      result.error[i] = std::isnan(above) || std::isnan(below)
                            ? std::numeric_limits<double>::infinity()
                            : std::max(above, below);
      if (table && in && out) {
        result.error[i] += TableError(f, x.clipped[i], *in, *out);
      }
      if (std::isnan(result.error[i])) {
        result.error[i] = std::numeric_limits<double>::infinity();
      }
    }
    return result;
  }

  std::optional<Numbers> Mean(const tflite::Op& op, const Numbers& x,
                              const Shape& shape) const {
    const auto axes = Integers(op, 1);
    if (!axes || x.opaque) return std::nullopt;
    Shape kept = x.shape;
    for (int64_t axis : *axes) {
      if (axis < 0) axis += std::ssize(kept);
      if (axis < 0 || axis >= std::ssize(kept)) return std::nullopt;
      kept[static_cast<size_t>(axis)] = 1;
    }
    Shape strides = StridesOf(kept);
    for (size_t i = 0; i < kept.size(); ++i) {
      if (kept[i] == 1) strides[i] = 0;
    }
    const int64_t size = SizeOf(kept);
    if (size == 0 || SizeOf(shape) != size) return std::nullopt;
    const double share =
        static_cast<double>(size) / static_cast<double>(SizeOf(x.shape));
    Numbers result;
    result.shape = shape;
    result.rounded_table = x.rounded_table;
    result.exact.resize(static_cast<size_t>(size));
    result.clipped.resize(result.exact.size());
    result.error.resize(result.exact.size());
    ForEach(x.shape, strides, [&](int64_t i, int64_t place) {
      const auto from = static_cast<size_t>(i);
      const auto to = static_cast<size_t>(place);
      result.exact[to] += x.exact[from] * share;
      result.clipped[to] += x.clipped[from] * share;
      result.error[to] += x.error[from] * share;
    });
    return result;
  }

  std::optional<Numbers> Slice(const tflite::Op& op, const Numbers& x,
                               const Shape& shape) const {
    const auto begin = Integers(op, 1);
    if (!begin || begin->size() != x.shape.size() ||
        shape.size() != x.shape.size()) {
      return std::nullopt;
    }
    const Shape strides = StridesOf(x.shape);
    int64_t offset = 0;
    for (size_t i = 0; i < shape.size(); ++i) {
      if ((*begin)[i] < 0 || (*begin)[i] + shape[i] > x.shape[i]) {
        return std::nullopt;
      }
      offset += (*begin)[i] * strides[i];
    }
    return Pick(x, shape, strides, offset);
  }

  std::optional<Numbers> Transposed(const tflite::Op& op,
                                    const Numbers& x) const {
    const auto order = Integers(op, 1);
    if (!order || order->size() != x.shape.size()) return std::nullopt;
    const Shape own = StridesOf(x.shape);
    Shape shape, strides;
    for (const int64_t axis : *order) {
      if (axis < 0 || axis >= std::ssize(own)) return std::nullopt;
      shape.push_back(x.shape[static_cast<size_t>(axis)]);
      strides.push_back(own[static_cast<size_t>(axis)]);
    }
    if (SizeOf(shape) != SizeOf(x.shape)) return std::nullopt;
    return Pick(x, shape, strides, 0);
  }

  const tflite::File& file_;
  const tflite::Graph& graph_;
  OuterFn outer_;
  const GraphFormula::RangeFn& on_range_;
  int bodies_;
  int depth_ = 0;
  std::map<int32_t, std::optional<Numbers>> done_;
};

}  // namespace

std::optional<TensorRange> RangeOf(const tflite::Tensor& tensor) {
  if (!tensor.scale || tensor.constant >= 0) return std::nullopt;
  const double step = tensor.scale->scale;
  if (!(step > 0) || !std::isfinite(step)) return std::nullopt;
  const auto zero = static_cast<double>(tensor.scale->zero_point);
  const bool wide = tensor.type == ElementType::kInt16;
  return TensorRange{.step = step,
                     .low = step * ((wide ? -32768 : -128) - zero),
                     .high = step * ((wide ? 32767 : 127) - zero)};
}

std::optional<Numbers> GraphFormula::Evaluate(int32_t tensor,
                                              const KnownFn& known,
                                              const RangeFn& on_range) const {
  const auto outer = [&](int32_t index) -> std::optional<Numbers> {
    if (index == tensor) return std::nullopt;
    const std::vector<float>* values = known(index);
    if (values == nullptr) return std::nullopt;
    Numbers result;
    result.shape = ShapeOf(graph_.tensors[static_cast<size_t>(index)]);
    if (std::ssize(*values) != SizeOf(result.shape)) return std::nullopt;
    result.exact.assign(values->begin(), values->end());
    result.clipped = result.exact;
    result.error.assign(result.exact.size(), 0);
    return result;
  };
  return Evaluation(file_, graph_, outer, on_range, 0).Of(tensor);
}

}  // namespace verify_tflite
