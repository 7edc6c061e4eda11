#include "report/json.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "base/utf8.h"

namespace verify_tflite {
namespace {

using Json = nlohmann::ordered_json;

template <typename T>
Json OrNull(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

std::string_view NameOf(Outcome outcome) {
  switch (outcome) {
    case Outcome::kPass:
      return "pass";
    case Outcome::kFail:
      return "fail";
    case Outcome::kNotChecked:
      return "not_checked";
  }
  return "";
}

// nlohmann/json throws on ill-formed UTF-8, and a token may end inside a
// character.
std::string Text(std::string_view text) { return ReplaceInvalidUtf8(text); }

Json ToJson(const LogitDifference& l) {
  Json json = {{"finite", l.finite},
               {"reference_token", l.reference_token},
               {"candidate_token", l.candidate_token}};
  if (!l.finite) return json;
  json["margin"] = l.margin;
  json["kld"] = l.kld;
  json["max_abs"] = l.max_abs;
  json["mean_abs"] = l.mean_abs;
  json["rms"] = l.rms;
  return json;
}

Json ToJson(const Position& p) {
  Json json = ToJson(p.logits);
  if (p.logits.reference_token != p.logits.candidate_token) {
    json["tie"] = p.tie;
    json["reference_text"] = Text(p.reference_text);
    json["candidate_text"] = Text(p.candidate_text);
  }
  return json;
}

Json ToJson(const Check& c) {
  return {{"name", c.name},
          {"outcome", NameOf(c.outcome)},
          {"value", OrNull(c.value)},
          {"limit", OrNull(c.limit)},
          {"detail", c.detail}};
}

Json ToJson(const PromptResult& r) {
  Json json = {{"prompt", Text(r.prompt.text)},
               {"rendered_prompt", Text(r.prompt.rendered)},
               {"passed", r.passed},
               {"prompt_ids", r.prompt.ids},
               {"reference_ids", r.reference_ids},
               {"candidate_ids", r.candidate_ids},
               {"reference_text", Text(r.reference_text)},
               {"candidate_text", Text(r.candidate_text)},
               {"first_difference", OrNull(FirstDifference(r))}};
  json["checks"] = Json::array();
  for (const Check& check : r.checks) json["checks"].push_back(ToJson(check));
  json["prefill_logits"] =
      r.prefill_logits ? ToJson(*r.prefill_logits) : Json(nullptr);
  json["positions"] = Json::array();
  for (const Position& p : r.positions) json["positions"].push_back(ToJson(p));
  return json;
}

Json ToJson(const ModelInfo& m) {
  Json prefills = Json::array();
  for (const PrefillInfo& p : m.prefills) {
    prefills.push_back({{"signature", p.name},
                        {"length", p.length},
                        {"logit_rows", p.logit_rows}});
  }
  return {
      {"recipe", NameOf(m.recipe)}, {"recipe_detail", Text(m.recipe_detail)},
      {"notes", m.notes},           {"num_layers", m.num_layers},
      {"vocab_size", m.vocab_size}, {"kv_length", m.kv_length},
      {"kv_bytes", m.kv_bytes},     {"mask_input", m.mask_input},
      {"prefills", prefills},       {"weight_bytes", m.weight_bytes}};
}

Json ToJson(const ModelConfig& c) {
  return {{"model_type", c.model_type},
          {"num_layers", c.num_layers},
          {"hidden_size", c.hidden_size},
          {"num_heads", c.num_heads},
          {"num_kv_heads", c.num_kv_heads},
          {"head_dim", c.head_dim},
          {"vocab_size", c.vocab_size},
          {"rope_theta", c.rope_theta},
          {"rms_norm_eps", c.rms_norm_eps},
          {"tie_word_embeddings", c.tie_word_embeddings}};
}

Json ToJson(const Timing& t) {
  return {{"total", t.total},
          {"open", t.open},
          {"compile", t.compile},
          {"prefill", t.prefill},
          {"decode", t.decode},
          {"reference", t.reference},
          {"prefill_tokens", t.prefill_tokens},
          {"decode_tokens", t.decode_tokens},
          {"reference_passes", t.reference_passes},
          {"reference_tokens", t.reference_tokens}};
}

}  // namespace

std::string JsonReport(const Verification& v) {
  Json json = {{"schema_version", kJsonSchemaVersion},
               {"tool_version", v.tool_version},
               {"passed", Passed(v)},
               {"num_prompts", v.prompts.size()},
               {"num_failed", NumFailed(v)},
               {"tflite_path", Text(v.tflite_path)},
               {"checkpoint_path", Text(v.checkpoint_path)},
               {"chat_template", Text(v.chat_template)},
               {"model", ToJson(v.model)},
               {"checkpoint", ToJson(v.config)},
               {"settings",
                {{"max_new_tokens", v.settings.max_new_tokens},
                 {"match_tokens", v.settings.match_tokens},
                 {"tolerance", v.settings.tolerance},
                 {"max_kld", OrNull(v.settings.max_kld)},
                 {"num_threads", v.settings.num_threads}}},
               {"limits",
                {{"match_tokens", v.limits.match_tokens},
                 {"max_kld", v.limits.max_kld},
                 {"tolerance", OrNull(v.limits.tolerance)}}},
               {"eos_ids", v.eos_ids},
               {"timing_seconds", ToJson(v.timing)},
               {"peak_memory_bytes", v.peak_memory_bytes}};
  json["bundle_checks"] = Json::array();
  for (const Check& check : v.bundle_checks) {
    json["bundle_checks"].push_back(ToJson(check));
  }
  json["findings"] = Json::array();
  for (const Finding& finding : v.findings) {
    json["findings"].push_back({{"id", finding.id},
                                {"sentence", Text(finding.sentence)},
                                {"evidence", Text(finding.evidence)}});
  }
  json["prompts"] = Json::array();
  for (const PromptResult& r : v.prompts) json["prompts"].push_back(ToJson(r));
  return json.dump(2) + "\n";
}

}  // namespace verify_tflite
