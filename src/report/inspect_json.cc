#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/utf8.h"
#include "report/inspect.h"
#include "report/json_value.h"

namespace verify_tflite {
namespace {

// Names in a damaged file may be no UTF-8, on which nlohmann/json throws:
// ReplaceInvalidUtf8 mends them.

// As a list of pairs: keys may be given twice.
OrderedJson InspectToJson(const std::vector<KeyValue>& items) {
  OrderedJson json = OrderedJson::array();
  for (const auto& [key, value] : items) {
    json.push_back({{"key", ReplaceInvalidUtf8(key)},
                    {"value", ReplaceInvalidUtf8(value)}});
  }
  return json;
}

OrderedJson Counts(const std::map<std::string, int64_t>& counts) {
  OrderedJson json = OrderedJson::object();
  for (const auto& [name, count] : counts)
    json[ReplaceInvalidUtf8(name)] = count;
  return json;
}

OrderedJson InspectToJson(const BundleToken& token) {
  if (token.ids.empty()) return {{"text", ReplaceInvalidUtf8(token.text)}};
  return {{"ids", token.ids}};
}

OrderedJson InspectToJson(const std::optional<PromptAffixes>& affixes) {
  if (!affixes) return nullptr;
  return {{"prefix", ReplaceInvalidUtf8(affixes->prefix)},
          {"suffix", ReplaceInvalidUtf8(affixes->suffix)}};
}

OrderedJson InspectToJson(const LlmMetadata& m) {
  OrderedJson json = {{"model_type", m.model_type},
                      {"max_num_tokens", m.max_num_tokens},
                      {"start_token", nullptr},
                      {"pad_token", nullptr},
                      {"stop_tokens", OrderedJson::array()},
                      {"jinja_template", nullptr},
                      {"user", InspectToJson(m.user)},
                      {"model", InspectToJson(m.model)},
                      {"system", InspectToJson(m.system)},
                      {"single_turn", InspectToJson(m.single_turn)},
                      {"session_prefix", ReplaceInvalidUtf8(m.session_prefix)},
                      {"bytes_to_unicode", m.bytes_to_unicode}};
  if (m.start_token) json["start_token"] = InspectToJson(*m.start_token);
  if (m.pad_token) json["pad_token"] = InspectToJson(*m.pad_token);
  for (const BundleToken& token : m.stop_tokens) {
    json["stop_tokens"].push_back(InspectToJson(token));
  }
  if (m.jinja_template)
    json["jinja_template"] = ReplaceInvalidUtf8(*m.jinja_template);
  return json;
}

OrderedJson InspectToJson(const ExecutorMetadata& m) {
  OrderedJson json = {{"max_history_size", m.max_history_size},
                      {"mask", m.mask},
                      {"local_mask", m.local_mask},
                      {"sliding_window_size", m.sliding_window_size},
                      {"state_buffers", OrderedJson::array()}};
  for (const StateBuffer& buffer : m.state_buffers) {
    json["state_buffers"].push_back(
        {{"type", buffer.type},
         {"prefill_input", ReplaceInvalidUtf8(buffer.prefill_input)},
         {"prefill_output", ReplaceInvalidUtf8(buffer.prefill_output)},
         {"decode_input", ReplaceInvalidUtf8(buffer.decode_input)},
         {"decode_output", ReplaceInvalidUtf8(buffer.decode_output)}});
  }
  return json;
}

OrderedJson InspectToJson(const InspectedBundle& bundle) {
  OrderedJson json = {
      {"version", bundle.version},
      {"system_metadata", InspectToJson(bundle.system_metadata)},
      {"sections", OrderedJson::array()},
      {"llm_metadata", nullptr},
      {"executor_metadata", nullptr},
      {"tokenizer", bundle.tokenizer}};
  for (const InspectedSection& s : bundle.sections) {
    json["sections"].push_back({{"type", s.type},
                                {"begin", s.begin},
                                {"end", s.end},
                                {"items", InspectToJson(s.items)}});
  }
  if (bundle.llm_metadata)
    json["llm_metadata"] = InspectToJson(*bundle.llm_metadata);
  if (bundle.executor_metadata) {
    json["executor_metadata"] = InspectToJson(*bundle.executor_metadata);
  }
  return json;
}

OrderedJson InspectToJson(const std::vector<TensorSpec>& tensors) {
  OrderedJson json = OrderedJson::array();
  for (const TensorSpec& t : tensors) {
    json.push_back({{"name", ReplaceInvalidUtf8(t.name)},
                    {"type", NameOf(t.type)},
                    {"shape", t.dims},
                    {"scale", nullptr},
                    {"zero_point", nullptr}});
    if (!t.scale) continue;
    // A damaged file's may be no number.
    if (std::isfinite(t.scale->scale)) json.back()["scale"] = t.scale->scale;
    json.back()["zero_point"] = t.scale->zero_point;
  }
  return json;
}

OrderedJson InspectToJson(const tflite::Summary& file) {
  OrderedJson json = {{"description", ReplaceInvalidUtf8(file.description)},
                      {"version", file.version},
                      {"subgraphs", file.subgraphs},
                      {"signatures", OrderedJson::array()},
                      {"weights", OrderedJson::array()},
                      {"weight_bytes", Counts(file.weight_bytes)},
                      {"operators", Counts(file.ops)},
                      {"composites", Counts(file.composites)},
                      {"metadata", OrderedJson::array()}};
  for (const SignatureSpec& s : file.signatures) {
    json["signatures"].push_back({{"name", ReplaceInvalidUtf8(s.name)},
                                  {"inputs", InspectToJson(s.inputs)},
                                  {"outputs", InspectToJson(s.outputs)}});
  }
  for (const auto& [how, w] : file.weights) {
    json["weights"].push_back({{"stored", how},
                               {"tensors", w.tensors},
                               {"bytes", w.bytes},
                               {"elements", w.elements}});
  }
  for (const auto& [name, bytes] : file.metadata) {
    json["metadata"].push_back(
        {{"name", ReplaceInvalidUtf8(name)}, {"bytes", bytes}});
  }
  return json;
}

OrderedJson InspectToJson(const ModelInfo& m) {
  OrderedJson prefills = OrderedJson::array();
  for (const PrefillInfo& p : m.prefills) {
    prefills.push_back({{"signature", ReplaceInvalidUtf8(p.name)},
                        {"length", p.length},
                        {"logit_rows", p.logit_rows}});
  }
  OrderedJson ignored = OrderedJson::array();
  for (const std::string& name : m.ignored_signatures) {
    ignored.push_back(ReplaceInvalidUtf8(name));
  }
  return {{"recipe", NameOf(m.recipe)},
          {"num_layers", m.num_layers},
          {"num_states", m.num_states},
          {"pad_token",
           m.pad_token ? OrderedJson(*m.pad_token) : OrderedJson(nullptr)},
          {"repeated_positions_are_pads", m.repeated_positions_are_pads},
          {"vocab_size", m.vocab_size},
          {"kv_length", m.kv_length},
          {"kv_bytes", m.kv_bytes},
          {"kv_type", ReplaceInvalidUtf8(m.kv_type)},
          {"mask_input", m.mask_input},
          {"prefills", prefills},
          {"ignored_signatures", ignored},
          {"recipe_detail", m.recipe_detail},
          {"ring_length", m.ring_length},
          {"decode_batch", m.decode_batch},
          {"embedder", ReplaceInvalidUtf8(m.embedder_path)},
          {"per_layer_embedder", ReplaceInvalidUtf8(m.per_layer_embedder_path)},
          {"notes", m.notes}};
}

OrderedJson InspectToJson(const std::vector<InspectedEmbedding>& embeddings) {
  OrderedJson json = OrderedJson::array();
  for (const InspectedEmbedding& e : embeddings) {
    json.push_back({{"signature", ReplaceInvalidUtf8(e.signature)},
                    {"tokens", e.tokens},
                    {"shape", e.shape}});
  }
  return json;
}

OrderedJson InspectToJson(const InspectedModel& model) {
  return {
      {"model_type", ReplaceInvalidUtf8(model.model_type)},
      {"file", model.file ? InspectToJson(*model.file) : OrderedJson(nullptr)},
      {"damage", ReplaceInvalidUtf8(model.damage)},
      {"llm", model.llm ? InspectToJson(*model.llm) : OrderedJson(nullptr)},
      {"layers", model.layers},
      {"unsupported", ReplaceInvalidUtf8(model.unsupported)},
      {"embeddings", InspectToJson(model.embeddings)}};
}

OrderedJson InspectToJson(const InspectedCheckpoint& c) {
  OrderedJson unsupported = OrderedJson::array();
  for (const std::string& reason : c.unsupported) {
    unsupported.push_back(ReplaceInvalidUtf8(reason));
  }
  OrderedJson notes = OrderedJson::array();
  for (const std::string& note : c.notes)
    notes.push_back(ReplaceInvalidUtf8(note));
  OrderedJson config = OrderedJson::object();
  for (const auto& [key, value] : c.config)
    config[key] = OrderedJson::parse(value);
  return {{"model_type", ReplaceInvalidUtf8(c.model_type)},
          {"config", config},
          {"parameters", c.parameters},
          {"tensors", c.tensors},
          {"tensor_bytes", Counts(c.tensor_bytes)},
          {"tokenizer", ReplaceInvalidUtf8(c.tokenizer)},
          {"chat_template", ReplaceInvalidUtf8(c.chat_template)},
          {"eos_ids", c.eos_ids},
          {"unsupported", unsupported},
          {"notes", notes}};
}

}  // namespace

std::string InspectionJson(const Inspection& inspection) {
  OrderedJson json = {{"schema_version", kInspectSchemaVersion},
                      {"path", ReplaceInvalidUtf8(inspection.path)},
                      {"kind", inspection.kind},
                      {"bytes", inspection.bytes},
                      {"bundle", nullptr},
                      {"models", OrderedJson::array()},
                      {"checkpoint", nullptr}};
  if (inspection.bundle) json["bundle"] = InspectToJson(*inspection.bundle);
  for (const InspectedModel& model : inspection.models) {
    json["models"].push_back(InspectToJson(model));
  }
  if (inspection.checkpoint) {
    json["checkpoint"] = InspectToJson(*inspection.checkpoint);
  }
  return json.dump(2) + "\n";
}

}  // namespace verify_tflite
