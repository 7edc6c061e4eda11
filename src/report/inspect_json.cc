#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/utf8.h"
#include "report/inspect.h"

namespace verify_tflite {
namespace {

using Json = nlohmann::ordered_json;

// Names in a damaged file may be no UTF-8, on which nlohmann/json throws.
std::string Text(std::string_view text) { return ReplaceInvalidUtf8(text); }

// As a list of pairs: keys may be given twice.
Json ToJson(const std::vector<KeyValue>& items) {
  Json json = Json::array();
  for (const auto& [key, value] : items) {
    json.push_back({{"key", Text(key)}, {"value", Text(value)}});
  }
  return json;
}

Json Counts(const std::map<std::string, int64_t>& counts) {
  Json json = Json::object();
  for (const auto& [name, count] : counts) json[Text(name)] = count;
  return json;
}

Json ToJson(const BundleToken& token) {
  if (token.ids.empty()) return {{"text", Text(token.text)}};
  return {{"ids", token.ids}};
}

Json ToJson(const std::optional<PromptAffixes>& affixes) {
  if (!affixes) return nullptr;
  return {{"prefix", Text(affixes->prefix)}, {"suffix", Text(affixes->suffix)}};
}

Json ToJson(const LlmMetadata& m) {
  Json json = {{"model_type", m.model_type},
               {"max_num_tokens", m.max_num_tokens},
               {"start_token", nullptr},
               {"pad_token", nullptr},
               {"stop_tokens", Json::array()},
               {"jinja_template", nullptr},
               {"user", ToJson(m.user)},
               {"model", ToJson(m.model)},
               {"system", ToJson(m.system)},
               {"single_turn", ToJson(m.single_turn)},
               {"session_prefix", Text(m.session_prefix)},
               {"bytes_to_unicode", m.bytes_to_unicode}};
  if (m.start_token) json["start_token"] = ToJson(*m.start_token);
  if (m.pad_token) json["pad_token"] = ToJson(*m.pad_token);
  for (const BundleToken& token : m.stop_tokens) {
    json["stop_tokens"].push_back(ToJson(token));
  }
  if (m.jinja_template) json["jinja_template"] = Text(*m.jinja_template);
  return json;
}

Json ToJson(const ExecutorMetadata& m) {
  Json json = {{"max_history_size", m.max_history_size},
               {"mask", m.mask},
               {"local_mask", m.local_mask},
               {"sliding_window_size", m.sliding_window_size},
               {"state_buffers", Json::array()}};
  for (const StateBuffer& buffer : m.state_buffers) {
    json["state_buffers"].push_back(
        {{"type", buffer.type},
         {"prefill_input", Text(buffer.prefill_input)},
         {"prefill_output", Text(buffer.prefill_output)},
         {"decode_input", Text(buffer.decode_input)},
         {"decode_output", Text(buffer.decode_output)}});
  }
  return json;
}

Json ToJson(const InspectedBundle& bundle) {
  Json json = {{"version", bundle.version},
               {"system_metadata", ToJson(bundle.system_metadata)},
               {"sections", Json::array()},
               {"llm_metadata", nullptr},
               {"executor_metadata", nullptr},
               {"tokenizer", bundle.tokenizer}};
  for (const InspectedSection& s : bundle.sections) {
    json["sections"].push_back({{"type", s.type},
                                {"begin", s.begin},
                                {"end", s.end},
                                {"items", ToJson(s.items)}});
  }
  if (bundle.llm_metadata) json["llm_metadata"] = ToJson(*bundle.llm_metadata);
  if (bundle.executor_metadata) {
    json["executor_metadata"] = ToJson(*bundle.executor_metadata);
  }
  return json;
}

Json ToJson(const std::vector<TensorSpec>& tensors) {
  Json json = Json::array();
  for (const TensorSpec& t : tensors) {
    json.push_back({{"name", Text(t.name)},
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

Json ToJson(const tflite::Summary& file) {
  Json json = {{"description", Text(file.description)},
               {"version", file.version},
               {"subgraphs", file.subgraphs},
               {"signatures", Json::array()},
               {"weights", Json::array()},
               {"weight_bytes", Counts(file.weight_bytes)},
               {"operators", Counts(file.ops)},
               {"composites", Counts(file.composites)},
               {"metadata", Json::array()}};
  for (const SignatureSpec& s : file.signatures) {
    json["signatures"].push_back({{"name", Text(s.name)},
                                  {"inputs", ToJson(s.inputs)},
                                  {"outputs", ToJson(s.outputs)}});
  }
  for (const auto& [how, w] : file.weights) {
    json["weights"].push_back({{"stored", how},
                               {"tensors", w.tensors},
                               {"bytes", w.bytes},
                               {"elements", w.elements}});
  }
  for (const auto& [name, bytes] : file.metadata) {
    json["metadata"].push_back({{"name", Text(name)}, {"bytes", bytes}});
  }
  return json;
}

Json ToJson(const ModelInfo& m) {
  Json prefills = Json::array();
  for (const PrefillInfo& p : m.prefills) {
    prefills.push_back({{"signature", Text(p.name)},
                        {"length", p.length},
                        {"logit_rows", p.logit_rows}});
  }
  Json ignored = Json::array();
  for (const std::string& name : m.ignored_signatures) {
    ignored.push_back(Text(name));
  }
  return {{"recipe", NameOf(m.recipe)},
          {"num_layers", m.num_layers},
          {"num_states", m.num_states},
          {"pad_token", m.pad_token ? Json(*m.pad_token) : Json(nullptr)},
          {"repeated_positions_are_pads", m.repeated_positions_are_pads},
          {"vocab_size", m.vocab_size},
          {"kv_length", m.kv_length},
          {"kv_bytes", m.kv_bytes},
          {"kv_type", Text(m.kv_type)},
          {"mask_input", m.mask_input},
          {"prefills", prefills},
          {"ignored_signatures", ignored},
          {"recipe_detail", m.recipe_detail},
          {"ring_length", m.ring_length},
          {"decode_batch", m.decode_batch},
          {"embedder", Text(m.embedder_path)},
          {"per_layer_embedder", Text(m.per_layer_embedder_path)},
          {"notes", m.notes}};
}

Json ToJson(const std::vector<InspectedEmbedding>& embeddings) {
  Json json = Json::array();
  for (const InspectedEmbedding& e : embeddings) {
    json.push_back({{"signature", Text(e.signature)},
                    {"tokens", e.tokens},
                    {"shape", e.shape}});
  }
  return json;
}

Json ToJson(const InspectedModel& model) {
  return {{"model_type", Text(model.model_type)},
          {"file", model.file ? ToJson(*model.file) : Json(nullptr)},
          {"damage", Text(model.damage)},
          {"llm", model.llm ? ToJson(*model.llm) : Json(nullptr)},
          {"layers", model.layers},
          {"unsupported", Text(model.unsupported)},
          {"embeddings", ToJson(model.embeddings)}};
}

Json ToJson(const InspectedCheckpoint& c) {
  Json unsupported = Json::array();
  for (const std::string& reason : c.unsupported) {
    unsupported.push_back(Text(reason));
  }
  Json notes = Json::array();
  for (const std::string& note : c.notes) notes.push_back(Text(note));
  Json config = Json::object();
  for (const auto& [key, value] : c.config) config[key] = Json::parse(value);
  return {{"model_type", Text(c.model_type)},
          {"config", config},
          {"parameters", c.parameters},
          {"tensors", c.tensors},
          {"tensor_bytes", Counts(c.tensor_bytes)},
          {"tokenizer", Text(c.tokenizer)},
          {"chat_template", Text(c.chat_template)},
          {"eos_ids", c.eos_ids},
          {"unsupported", unsupported},
          {"notes", notes}};
}

}  // namespace

std::string InspectionJson(const Inspection& inspection) {
  Json json = {{"schema_version", kInspectSchemaVersion},
               {"path", Text(inspection.path)},
               {"kind", inspection.kind},
               {"bytes", inspection.bytes},
               {"bundle", nullptr},
               {"models", Json::array()},
               {"checkpoint", nullptr}};
  if (inspection.bundle) json["bundle"] = ToJson(*inspection.bundle);
  for (const InspectedModel& model : inspection.models) {
    json["models"].push_back(ToJson(model));
  }
  if (inspection.checkpoint) {
    json["checkpoint"] = ToJson(*inspection.checkpoint);
  }
  return json.dump(2) + "\n";
}

}  // namespace verify_tflite
