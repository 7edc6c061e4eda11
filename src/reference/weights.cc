// SPDX-License-Identifier: Apache-2.0
#include "reference/weights.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <string>
#include <utility>

#include "reference/kernels.h"

namespace verify_tflite {
namespace {

class WeightFinder {
 public:
  WeightFinder(const Checkpoint& checkpoint, const FileWeights* others,
               bool quantise_inputs)
      : checkpoint_(checkpoint),
        others_(others),
        quantise_inputs_(quantise_inputs),
        config_(checkpoint.config()),
        names_(checkpoint.names()) {}

  Weights Find() {
    const ModelConfig& c = config_;
    weights_.embedding =
        &Get({Part::kEmbedding}, {c.vocab_size, c.hidden_size});
    if (c.per_layer_size > 0) FindPerLayerInputs();
    FindStreams();
    for (int32_t i = 0; i < static_cast<int32_t>(c.layers.size()); ++i) {
      weights_.layers.push_back(FindLayer(i));
    }
    weights_.norm = FindNorm({Part::kFinalNorm}, c.hidden_size);
    const std::string head = names_.Of({Part::kHead});
    // A head of its own wins over tie_word_embeddings, as in transformers,
    // which ties only when the file has no such tensor or one equal to the
    // embedding.
    const bool tied = c.tie_word_embeddings && !checkpoint_.Has(head) &&
                      Other(head) == nullptr;
    weights_.head = tied ? Linear{weights_.embedding}
                         : FindLinear({Part::kHead}, c.vocab_size,
                                      c.hidden_size, c.head_bias);
    if (tied && c.head_bias) {
      weights_.head.bias = &Get({Part::kHead, -1, true}, {c.vocab_size});
    }
    return std::move(weights_);
  }

 private:
  const FileWeight* Other(const std::string& name) const {
    if (others_ == nullptr) return nullptr;
    const auto found = others_->find(name);
    return found == others_->end() ? nullptr : &found->second;
  }

  const TensorView& Get(const WeightRole& role,
                        std::initializer_list<int64_t> shape) const {
    const std::string name = names_.Of(role);
    const FileWeight* other = Other(name);
    if (other != nullptr &&
        std::equal(shape.begin(), shape.end(), other->view.shape.begin(),
                   other->view.shape.end())) {
      return other->view;
    }
    return checkpoint_.Get(name, shape);
  }

  Linear FindLinear(WeightRole role, int64_t outputs, int64_t inputs,
                    bool bias) {
    const FileWeight* other = Other(names_.Of(role));
    const TensorView& weight = Get(role, {outputs, inputs});
    role.bias = true;
    return {&weight, bias ? &Get(role, {outputs}) : nullptr,
            other != nullptr && other->quantised_input && quantise_inputs_,
            other == nullptr ? nullptr : other->rotation,
            other == nullptr ? nullptr : other->input_scale};
  }

  NormWeights FindNorm(WeightRole role, int64_t size) {
    if (!config_.norm_weight) return {.unscaled = true};
    const TensorView& weight = Get(role, {size});
    role.bias = true;
    const bool bias = config_.layer_norm && config_.norm_bias;
    return {&weight, bias ? &Get(role, {size}) : nullptr};
  }

  // Always the checkpoint's: files hold what follows from them. Alphas are kept
  // as softplus takes them.
  XieluNumbers FindXielu(int32_t index) const {
    const auto number = [&](Part part, bool scalar) {
      const std::string name = names_.Of({part, index});
      const TensorView& tensor =
          scalar ? checkpoint_.Get(name, {}) : checkpoint_.Get(name, {1});
      float value = 0;
      Widen(tensor.dtype, tensor.data.data(), 1, &value);
      return value;
    };
    const float beta = number(Part::kXieluBeta, true);
    return {std::log1p(std::exp(number(Part::kAlphaP, false))),
            beta + std::log1p(std::exp(number(Part::kAlphaN, false))), beta,
            number(Part::kXieluEps, true)};
  }

  // Outputs [begin, begin + count) of a projection without bias, which may be
  // those of all experts.
  Linear Slice(const Linear& fused, int64_t begin, int64_t count) {
    const TensorView& whole = *fused.weight;
    const int64_t inputs = MatrixColumns(whole);
    const size_t row = static_cast<size_t>(inputs) * SizeOf(whole.dtype);
    TensorView& part = weights_.parts.emplace_back(whole);
    part.shape = {count, inputs};
    if (whole.read != nullptr) {
      part.read_first += begin * inputs;
    } else {
      part.data = whole.data.subspan(static_cast<size_t>(begin) * row,
                                     static_cast<size_t>(count) * row);
    }
    return {&part, nullptr, fused.quantised_input, fused.rotation,
            fused.input_scale};
  }

  // The parts of a fused projection, in the file's order.
  std::vector<Linear> Split(const WeightRole& role, const Linear& fused) {
    std::vector<Linear> parts;
    for (const PartRows& rows :
         names_.RowsOf(role, config_, MatrixRows(*fused.weight))) {
      parts.push_back(Slice(fused, rows.first, rows.count));
    }
    return parts;
  }

  void FindAttention(int32_t index, LayerWeights* layer) {
    const ModelConfig& c = config_;
    const LayerConfig& sizes = c.layers[static_cast<size_t>(index)];
    const int64_t queries = sizes.num_heads * sizes.head_dim;
    const int64_t keys = sizes.num_kv_heads * sizes.head_dim;
    const bool own_keys = sizes.kv_source < 0;
    const auto find = [&](Part part, int64_t outputs) {
      return FindLinear({part, index}, outputs, c.hidden_size, c.qkv_bias);
    };
    if (names_.grouped_qkv()) {
      layer->qkv = find(Part::kQkv, queries + 2 * keys);
    } else if (names_.Has(Part::kQkv)) {
      const auto parts =
          Split({Part::kQkv, index}, find(Part::kQkv, queries + 2 * keys));
      layer->q = parts[0];
      layer->k = parts[1];
      layer->v = parts[2];
    } else {
      layer->q = find(Part::kQ, queries);
      if (own_keys) layer->k = find(Part::kK, keys);
      if (own_keys && !sizes.keys_are_values) {
        layer->v = find(Part::kV, keys);
      }
    }
    layer->o = FindLinear({Part::kO, index}, c.hidden_size, queries, c.o_bias);
    if (c.qk_norm) {
      const bool all = c.qk_norm_of_all_heads;
      layer->q_norm =
          FindNorm({Part::kQNorm, index}, all ? queries : sizes.head_dim);
      if (!own_keys) return;
      layer->k_norm =
          FindNorm({Part::kKNorm, index}, all ? keys : sizes.head_dim);
    }
  }

  void FindConvolution(int32_t index, LayerWeights* layer) {
    const int64_t size = config_.hidden_size;
    const bool bias = config_.conv_bias;
    layer->conv_input =
        FindLinear({Part::kConvInput, index}, 3 * size, size, bias);
    layer->conv_output =
        FindLinear({Part::kConvOutput, index}, size, size, bias);
    layer->conv_taps =
        &Get({Part::kConvTaps, index}, {size, 1, config_.conv_taps});
    const FileWeight* other = Other(names_.Of({Part::kConvTaps, index}));
    layer->conv_quantised_input =
        other != nullptr && other->quantised_input && quantise_inputs_;
    if (bias) {
      layer->conv_bias = &Get({Part::kConvTaps, index, true}, {size});
    }
  }

  void FindMlp(int32_t index, LayerWeights* layer) {
    const ModelConfig& c = config_;
    const int64_t size = c.layers[static_cast<size_t>(index)].intermediate_size;
    const auto find = [&](Part part, int64_t outputs) {
      return FindLinear({part, index}, outputs, c.hidden_size, c.mlp_bias);
    };
    if (!c.gated_mlp) {
      layer->up = find(Part::kUp, size);
    } else if (names_.Has(Part::kGateUp)) {
      const auto parts =
          Split({Part::kGateUp, index}, find(Part::kGateUp, 2 * size));
      layer->gate = parts[0];
      layer->up = parts[1];
    } else {
      layer->gate = find(Part::kGate, size);
      layer->up = find(Part::kUp, size);
    }
    layer->down =
        FindLinear({Part::kDown, index}, c.hidden_size, size, c.mlp_bias);
  }

  void FindExperts(int32_t index, LayerWeights* layer) {
    const ExpertsConfig& c = config_.experts;
    const int64_t hidden = config_.hidden_size, size = c.intermediate_size;
    const auto find = [&](Part part, int64_t outputs, int64_t inputs,
                          int32_t expert = -1) {
      return FindLinear({part, index, false, expert}, outputs, inputs, false);
    };
    layer->router = find(Part::kRouter, c.count, hidden);
    if (c.choice_bias) layer->choice_bias = FindChoiceBias(index);
    layer->experts.resize(static_cast<size_t>(c.count));
    if (c.shared_size > 0) FindSharedExpert(index, layer);
    if (names_.Has(Part::kExpertGateUp)) return FindFusedExperts(index, layer);
    for (int32_t i = 0; i < static_cast<int32_t>(c.count); ++i) {
      layer->experts[static_cast<size_t>(i)] = {
          find(Part::kExpertGate, size, hidden, i),
          find(Part::kExpertUp, size, hidden, i),
          find(Part::kExpertDown, hidden, size, i)};
    }
  }

  // One tensor for all experts.
  void FindFusedExperts(int32_t index, LayerWeights* layer) {
    const ExpertsConfig& c = config_.experts;
    const int64_t hidden = config_.hidden_size, size = c.intermediate_size;
    const auto split = [&](Part part, int64_t outputs, int64_t inputs) {
      const WeightRole role{part, index};
      const FileWeight* other = Other(names_.Of(role));
      const Linear fused = {
          &Get(role, {c.count, outputs, inputs}), nullptr,
          other != nullptr && other->quantised_input && quantise_inputs_,
          other == nullptr ? nullptr : other->rotation,
          other == nullptr ? nullptr : other->input_scale};
      return Split(role, fused);
    };
    const auto gate_up = split(Part::kExpertGateUp, 2 * size, hidden);
    const auto down = split(Part::kExpertDown, hidden, size);
    for (size_t i = 0; i < layer->experts.size(); ++i) {
      layer->experts[i] = {gate_up[2 * i], gate_up[2 * i + 1], down[i]};
    }
  }

  void FindSharedExpert(int32_t index, LayerWeights* layer) {
    const int64_t hidden = config_.hidden_size;
    const int64_t size = config_.experts.shared_size;
    const auto find = [&](Part part, int64_t outputs, int64_t inputs) {
      return FindLinear({part, index}, outputs, inputs, false);
    };
    if (names_.Has(Part::kSharedGateUp)) {
      const auto parts = Split({Part::kSharedGateUp, index},
                               find(Part::kSharedGateUp, 2 * size, hidden));
      layer->gate = parts[0];
      layer->up = parts[1];
    } else {
      layer->gate = find(Part::kSharedGate, size, hidden);
      layer->up = find(Part::kSharedUp, size, hidden);
    }
    layer->down = find(Part::kSharedDown, hidden, size);
    if (config_.experts.shared_scale) {
      layer->shared_scale = find(Part::kSharedScale, 1, hidden);
    }
  }

  // Some have it as a matrix of one row.
  std::vector<float> FindChoiceBias(int32_t index) const {
    const int64_t count = config_.experts.count;
    const WeightRole role{Part::kRouterBias, index};
    const std::string name = names_.Of(role);
    const auto found = checkpoint_.tensors().find(name);
    const bool one_row =
        found != checkpoint_.tensors().end() && found->second.shape.size() == 2;
    const TensorView& tensor =
        one_row ? Get(role, {1, count}) : Get(role, {count});
    std::vector<float> bias(static_cast<size_t>(count));
    if (tensor.read != nullptr) {
      (*tensor.read)(tensor.read_first, count, bias.data());
    } else {
      Widen(tensor.dtype, tensor.data.data(), count, bias.data());
    }
    return bias;
  }

  void FindSubNorms(int32_t index, LayerWeights* layer) {
    const LayerConfig& sizes = config_.layers[static_cast<size_t>(index)];
    layer->attention_sub_norm = FindNorm({Part::kAttentionSubNorm, index},
                                         sizes.num_heads * config_.head_dim);
    layer->mlp_sub_norm =
        FindNorm({Part::kMlpSubNorm, index}, sizes.intermediate_size);
  }

  void FindPerLayerInputs() {
    const ModelConfig& c = config_;
    const int64_t all = c.num_layers * c.per_layer_size;
    weights_.per_layer_embedding =
        &Get({Part::kPerLayerEmbedding}, {c.per_layer_vocab_size, all});
    weights_.per_layer_model_projection =
        FindLinear({Part::kPerLayerModelProjection}, all, c.hidden_size, false);
    weights_.per_layer_model_norm =
        FindNorm({Part::kPerLayerModelNorm}, c.per_layer_size);
  }

  void FindStreams() {
    const int64_t size = config_.hidden_size;
    for (int32_t i = 0; i + 1 < config_.num_streams; ++i) {
      weights_.stream_projections.push_back(
          FindLinear({Part::kStreamProjection, i}, size, size, false));
      weights_.stream_outputs.push_back(
          FindLinear({Part::kStreamOutput, i}, size, size, false));
    }
  }

  // One is added to what corrects: a bias that no file has.
  void FindAltUp(int32_t index, LayerWeights* layer) {
    const int64_t size = config_.hidden_size;
    const int64_t count = config_.num_streams;
    layer->stream_router =
        FindLinear({Part::kStreamRouter, index}, count, size, false);
    layer->stream_router_norm =
        FindNorm({Part::kStreamRouterNorm, index}, size);
    layer->prediction =
        FindLinear({Part::kPrediction, index}, count * count, count, false);
    layer->correction =
        FindLinear({Part::kCorrection, index}, count, count, false);
    static const ReadFn kOnes = [](int64_t, int64_t number, float* out) {
      std::fill_n(out, number, 1.0f);
    };
    TensorView& ones = weights_.parts.emplace_back();
    ones.shape = {count};
    ones.read = &kOnes;
    layer->correction.bias = &ones;
    if (config_.stream_scale) {
      layer->stream_scale = &Get({Part::kStreamScale, index}, {size});
    }
  }

  void FindLaurel(int32_t index, LayerWeights* layer) {
    const int64_t size = config_.hidden_size;
    layer->laurel_left = FindLinear({Part::kLaurelLeft, index},
                                    config_.laurel_rank, size, false);
    layer->laurel_right = FindLinear({Part::kLaurelRight, index}, size,
                                     config_.laurel_rank, false);
    layer->laurel_norm = FindNorm({Part::kLaurelNorm, index}, size);
  }

  void FindPerLayer(int32_t index, LayerWeights* layer) {
    const ModelConfig& c = config_;
    layer->per_layer_gate = FindLinear({Part::kPerLayerGate, index},
                                       c.per_layer_size, c.hidden_size, false);
    layer->per_layer_projection =
        FindLinear({Part::kPerLayerProjection, index}, c.hidden_size,
                   c.per_layer_size, false);
    layer->per_layer_norm =
        FindNorm({Part::kPerLayerNorm, index}, c.hidden_size);
  }

  LayerWeights FindLayer(int32_t index) {
    const auto norm = [&](Part part) {
      return FindNorm({part, index}, config_.hidden_size);
    };
    LayerWeights layer;
    if (config_.input_norm) layer.input_norm = norm(Part::kInputNorm);
    if (config_.mlp_norm) layer.mlp_norm = norm(Part::kMlpNorm);
    if (config_.sandwich_norms) {
      layer.attention_norm = norm(Part::kAttentionNorm);
      layer.output_norm = norm(Part::kOutputNorm);
    }
    if (config_.layers[static_cast<size_t>(index)].conv) {
      FindConvolution(index, &layer);
    } else {
      FindAttention(index, &layer);
    }
    if (config_.layers[static_cast<size_t>(index)].experts) {
      FindExperts(index, &layer);
    } else {
      FindMlp(index, &layer);
    }
    if (config_.sub_norms) FindSubNorms(index, &layer);
    if (config_.activation == Activation::kXielu) {
      layer.xielu = FindXielu(index);
    }
    if (config_.per_layer_size > 0) FindPerLayer(index, &layer);
    if (config_.num_streams > 0) FindAltUp(index, &layer);
    if (config_.laurel_rank > 0) FindLaurel(index, &layer);
    if (config_.layer_scalar) {
      layer.scalar = &Get({Part::kLayerScalar, index}, {1});
    }
    return layer;
  }

  const Checkpoint& checkpoint_;
  const FileWeights* others_;
  bool quantise_inputs_;
  const ModelConfig& config_;
  const WeightNames& names_;
  Weights weights_;
};

// What the alternative's settings leave out of a layer.
void LeaveOut(const ModelConfig& config, LayerWeights& layer) {
  if (!config.qkv_bias) {
    for (Linear* linear : {&layer.q, &layer.k, &layer.v, &layer.qkv}) {
      linear->bias = nullptr;
    }
  }
  if (!config.o_bias) layer.o.bias = nullptr;
  if (!config.experts.shared_scale) layer.shared_scale = {};
  if (!config.qk_norm) layer.q_norm = layer.k_norm = {};
}

}  // namespace

Weights FindWeights(const Checkpoint& checkpoint, const FileWeights* others,
                    bool quantise_inputs) {
  return WeightFinder(checkpoint, others, quantise_inputs).Find();
}

void Apply(const Alternative& alternative, ModelConfig& config,
           Weights& weights) {
  if (alternative.config) config = *alternative.config;
  if (!alternative.layers.empty()) {
    const std::vector<LayerWeights> layers = std::exchange(weights.layers, {});
    const std::vector<LayerConfig> settings = std::exchange(config.layers, {});
    for (const int64_t i : alternative.layers) {
      weights.layers.push_back(layers.at(static_cast<size_t>(i)));
      config.layers.push_back(settings.at(static_cast<size_t>(i)));
    }
    config.num_layers = static_cast<int64_t>(config.layers.size());
  }
  for (LayerWeights& layer : weights.layers) {
    LeaveOut(config, layer);
    if (alternative.gate_up_swapped) std::swap(layer.gate, layer.up);
  }
  if (alternative.tied_head) weights.head = Linear{weights.embedding};
}

const Linear* LinearOf(const Weights& weights, Stage stage, int64_t index,
                       int64_t expert) {
  if (stage == Stage::kHead || stage == Stage::kRotatedFinalNorm) {
    return &weights.head;
  }
  if (stage == Stage::kPerLayerModelProjection) {
    return &weights.per_layer_model_projection;
  }
  if (IsOfStream(stage)) {
    const std::vector<Linear>& all = stage == Stage::kStreamProjection
                                         ? weights.stream_projections
                                         : weights.stream_outputs;
    const bool is_there =
        stage != Stage::kStreamInput && index >= 0 && index < std::ssize(all);
    return is_there ? &all[static_cast<size_t>(index)] : nullptr;
  }
  if (index < 0 || index >= std::ssize(weights.layers)) return nullptr;
  const LayerWeights& layer = weights.layers[static_cast<size_t>(index)];
  const bool of_expert = expert >= 0 && expert < std::ssize(layer.experts);
  const ExpertWeights* one =
      of_expert ? &layer.experts[static_cast<size_t>(expert)] : nullptr;
  switch (stage) {
    case Stage::kExpertGate:
      return one == nullptr ? nullptr : &one->gate;
    case Stage::kExpertUp:
      return one == nullptr ? nullptr : &one->up;
    case Stage::kExpertOutput:
      return one == nullptr ? nullptr : &one->down;
    case Stage::kRouter:
      return &layer.router;
    case Stage::kSharedScale:
      return &layer.shared_scale;
    case Stage::kConvProjection:
      return &layer.conv_input;
    case Stage::kRotatedInputNorm:
      if (layer.conv_input.weight != nullptr) return &layer.conv_input;
      return layer.qkv.weight == nullptr ? &layer.q : &layer.qkv;
    case Stage::kQueryProjection:
      return &layer.q;
    case Stage::kKeyProjection:
      return &layer.k;
    case Stage::kValueProjection:
      return &layer.v;
    case Stage::kRotatedAttention:
      return &layer.o;
    case Stage::kAttentionOutput:
      return layer.conv_output.weight != nullptr ? &layer.conv_output
                                                 : &layer.o;
    case Stage::kGateProjection:
      return &layer.gate;
    case Stage::kRotatedMlpNorm:
      return layer.experts.empty() ? &layer.up : &layer.router;
    case Stage::kUpProjection:
      return &layer.up;
    case Stage::kRotatedMlpInner:
    case Stage::kMlpOutput:
      return &layer.down;
    case Stage::kPerLayerGate:
      return &layer.per_layer_gate;
    case Stage::kPerLayerOutput:
      return &layer.per_layer_projection;
    case Stage::kPredictionRouter:
    case Stage::kCorrectionRouter:
      return &layer.stream_router;
    case Stage::kPredictionCoefficients:
      return &layer.prediction;
    case Stage::kCorrectionCoefficients:
      return &layer.correction;
    case Stage::kLaurelLeft:
      return &layer.laurel_left;
    case Stage::kLaurelRight:
      return &layer.laurel_right;
    default:
      return nullptr;
  }
}

}  // namespace verify_tflite
