#include "report/json.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <vector>

#include "base/utf8.h"

namespace verify_tflite {
namespace {

using Json = nlohmann::ordered_json;

// JSON has no NaN and no infinity.
Json Number(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}

template <typename T>
Json OrNull(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

// nlohmann/json throws on ill-formed UTF-8, and a token may end inside a
// character.
std::string Text(std::string_view text) { return ReplaceInvalidUtf8(text); }

Json Texts(const std::vector<std::string>& texts) {
  Json json = Json::array();
  for (const std::string& text : texts) json.push_back(Text(text));
  return json;
}

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
  json["nmse"] = l.nmse;
  json["rank"] = l.rank;
  json["text_token"] = l.text_token;
  json["reference_logprob"] = l.reference_logprob;
  json["candidate_logprob"] = l.candidate_logprob;
  if (l.constant) json["constant"] = true;
  return json;
}

Json ToJson(const Position& p) {
  Json json = {{"index", p.index}};
  json.update(ToJson(p.logits));
  if (p.logits.reference_token != p.logits.candidate_token) {
    json["tie"] = p.tie;
    json["reference_text"] = Text(p.reference_text);
    json["candidate_text"] = Text(p.candidate_text);
  }
  return json;
}

Json ToJson(const Interval& i) { return {Number(i.low), Number(i.high)}; }

Json ToJson(const Check& c) {
  Json json = {{"name", c.name},
               {"outcome", NameOf(c.outcome)},
               {"value", OrNull(c.value)},
               {"limit", OrNull(c.limit)},
               {"detail", Text(c.detail)}};
  if (c.interval) json["interval"] = ToJson(*c.interval);
  if (c.broken_limit) json["broken_limit"] = Number(*c.broken_limit);
  return json;
}

Json ToJson(const Bucket& b);
Json ToJson(const Passage& p);
Json ToJson(const PromptResult& r);
Json ToJson(const Finding& f);
Json ToJson(const LayerKv& l);
Json ToJson(const Hypothesis& h);
Json ToJson(const StageAgreement& a);
Json ToJson(const StructureFault& f);
Json ToJson(const SignatureStructure& s);

template <typename T>
Json ToJson(const std::vector<T>& values) {
  Json json = Json::array();
  for (const T& value : values) json.push_back(ToJson(value));
  return json;
}

Json ToJson(const Distribution& d) {
  return {{"count", d.count},
          {"mean", Number(d.mean)},
          {"standard_error", Number(d.standard_error)},
          {"mean_interval", ToJson(d.mean_interval)},
          {"median", Number(d.median)},
          {"p90", Number(d.p90)},
          {"p99", Number(d.p99)},
          {"p99_interval", ToJson(d.p99_interval)},
          {"max", Number(d.max)}};
}

Json ToJson(const Aggregate& a) {
  return {{"positions", a.positions},
          {"kld", ToJson(a.kld)},
          {"logprob_difference", ToJson(a.logprob)},
          {"flips", a.flips},
          {"ties", a.ties},
          {"max_abs", a.max_abs},
          {"mean_abs", a.mean_abs},
          {"rms", a.rms},
          {"nmse", Number(a.nmse)},
          {"max_rank", a.max_rank},
          {"reference_perplexity", Number(a.reference_ppl)},
          {"candidate_perplexity", Number(a.candidate_ppl)}};
}

Json ToJson(const Bucket& b) {
  return {{"begin", b.begin}, {"end", b.end}, {"figures", ToJson(b.figures)}};
}

Json ToJson(const Passage& p) {
  return {{"name", p.name},
          {"begin", p.begin},
          {"end", p.end},
          {"figures", ToJson(p.figures)}};
}

Json ToJson(const Evaluation& e) {
  return {{"source", Text(e.source)},
          {"through_prefill", e.through_prefill},
          {"ids", e.ids},
          {"figures", ToJson(e.figures)},
          {"passages", ToJson(e.passages)},
          {"positions", ToJson(e.positions)}};
}

Json ToJson(const PromptResult& r) {
  return {{"prompt", Text(r.prompt.text)},
          {"rendered_prompt", Text(r.prompt.rendered)},
          {"outcome", NameOf(r.outcome)},
          {"prompt_ids", r.prompt.ids},
          {"reference_ids", r.reference_ids},
          {"candidate_ids", r.candidate_ids},
          {"reference_text", Text(r.reference_text)},
          {"candidate_text", Text(r.candidate_text)},
          {"shared_text", Text(r.shared_text)},
          {"first_difference", OrNull(FirstDifference(r))},
          {"checks", ToJson(r.checks)},
          {"prefill_logits",
           r.prefill_logits ? ToJson(*r.prefill_logits) : Json(nullptr)},
          {"positions", ToJson(r.positions)}};
}

Json ToJson(const Finding& f) {
  return {{"id", f.id},
          {"severity", NameOf(f.severity)},
          {"sentence", Text(f.sentence)},
          {"evidence", Text(f.evidence)},
          {"cause", Text(f.cause)},
          {"remedy", Text(f.remedy)}};
}

Json ToJson(const TensorFigures& f) {
  return {{"nmse", Number(f.nmse)},
          {"cosine", Number(f.cosine)},
          {"norm_ratio", Number(f.norm_ratio)},
          {"worst_head", f.worst_head},
          {"worst_head_nmse", Number(f.worst_head_nmse)}};
}

Json ToJson(const LayerKv& l) {
  return {{"prefill_k", ToJson(l.prefill_k)},
          {"prefill_v", ToJson(l.prefill_v)},
          {"decode_k", ToJson(l.decode_k)},
          {"decode_v", ToJson(l.decode_v)}};
}

Json ToJson(const KvProfile& p) {
  return {{"prefill_positions", p.prefill_positions},
          {"decode_positions", p.decode_positions},
          {"layers", ToJson(p.layers)}};
}

Json ToJson(const Hypothesis& h) {
  return {{"finding", h.finding},
          {"change", h.change},
          {"kld", Number(h.kld)},
          {"unchanged_kld", Number(h.unchanged_kld)},
          {"explains", h.explains}};
}

const char* UnitOf(bool steps) { return steps ? "steps" : "relative"; }

Json ToJson(const StageAgreement& a) {
  return {{"stage", Text(a.stage)},   {"linear", a.linear},
          {"rows", a.rows},           {"worst", Number(a.worst)},
          {"limit", Number(a.limit)}, {"layer", a.layer},
          {"position", a.position},   {"unit", UnitOf(a.steps)}};
}

Json ToJson(const StructureFault& f) {
  return {{"signature", Text(f.signature)},
          {"stage", Text(f.stage)},
          {"layer", f.layer},
          {"position", f.position},
          {"op", Text(f.op)},
          {"tensor", Text(f.tensor)},
          {"error", Number(f.error)},
          {"limit", Number(f.limit)},
          {"unit", UnitOf(f.steps)}};
}

Json ToJson(const SignatureStructure& s) {
  Json positions = Json::array();
  for (const auto& [begin, end] : s.positions)
    positions.push_back({begin, end});
  return {{"signature", Text(s.signature)},
          {"not_run", Text(s.not_run)},
          {"ops", s.ops},
          {"verified_ops", s.verified_ops},
          {"not_verified", Texts(s.not_verified)},
          {"positions", positions},
          {"stages", ToJson(s.stages)}};
}

Json ToJson(const Structure& s) {
  return {{"not_run", Text(s.not_run)},
          {"same_bits", s.same_bits},
          {"signatures", ToJson(s.signatures)},
          {"faults", ToJson(s.faults)}};
}

Json ToJson(const WeightsCost& c) {
  return {{"figures", ToJson(c.figures)}, {"rest", ToJson(c.rest)}};
}

Json ToJson(const Limit& l) { return {{"pass", l.pass}, {"broken", l.broken}}; }

Json ToJson(const Environment& e) {
  Json files = Json::array();
  for (const auto& [name, hash] : e.hashes) {
    files.push_back({{"name", Text(name)}, {"sha256", hash}});
  }
  return {{"command", Text(e.command)},
          {"date", e.date},
          {"cpu", Text(e.cpu)},
          {"litert_version", Text(e.litert_version)},
          {"torch_version", Text(e.torch_version)},
          {"files", files}};
}

Json ToJson(const ModelInfo& m) {
  Json prefills = Json::array();
  for (const PrefillInfo& p : m.prefills) {
    prefills.push_back({{"signature", Text(p.name)},
                        {"length", p.length},
                        {"logit_rows", p.logit_rows}});
  }
  Json weights = Json::array();
  for (const auto& [type, bytes] : m.weight_bytes) {
    weights.push_back({{"type", Text(type)}, {"bytes", bytes}});
  }
  return {
      {"recipe", NameOf(m.recipe)}, {"recipe_detail", Text(m.recipe_detail)},
      {"notes", Texts(m.notes)},    {"num_layers", m.num_layers},
      {"vocab_size", m.vocab_size}, {"kv_length", m.kv_length},
      {"kv_bytes", m.kv_bytes},     {"kv_type", Text(m.kv_type)},
      {"mask_input", m.mask_input}, {"prefills", prefills},
      {"weights", weights}};
}

Json ToJson(const ModelConfig& c) {
  return {{"model_type", Text(c.model_type)},
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
          {"weights", t.weights},
          {"self_check", t.self_check},
          {"locate", t.locate},
          {"structure", t.structure},
          {"weights_cost", t.weights_cost},
          {"prefill_tokens", t.prefill_tokens},
          {"decode_tokens", t.decode_tokens},
          {"reference_passes", t.reference_passes},
          {"reference_tokens", t.reference_tokens}};
}

}  // namespace

std::string JsonReport(const Verification& v) {
  const Json json = {{"schema_version", kJsonSchemaVersion},
                     {"tool_version", v.tool_version},
                     {"outcome", NameOf(v.outcome)},
                     {"reason", Text(v.reason)},
                     {"passed", Passed(v)},
                     {"tflite_path", Text(v.tflite_path)},
                     {"checkpoint_path", Text(v.checkpoint_path)},
                     {"chat_template", Text(v.chat_template)},
                     {"model", ToJson(v.model)},
                     {"checkpoint", ToJson(v.config)},
                     {"settings",
                      {{"max_new_tokens", v.settings.max_new_tokens},
                       {"match_tokens", v.settings.match_tokens},
                       {"tolerance", v.settings.tolerance},
                       {"tolerance_given", v.settings.tolerance_given},
                       {"max_kld", OrNull(v.settings.max_kld)},
                       {"max_flips", OrNull(v.settings.max_flips)},
                       {"eval_tokens", v.settings.eval_tokens},
                       {"structure", v.settings.structure},
                       {"weights_cost", v.settings.weights_cost},
                       {"num_threads", v.settings.num_threads}}},
                     {"limits",
                      {{"match_tokens", v.limits.match_tokens},
                       {"kld", ToJson(v.limits.kld)},
                       {"kld_p99", ToJson(v.limits.kld_p99)},
                       {"flips", ToJson(v.limits.flips)},
                       {"differing", OrNull(v.limits.differing)},
                       {"tolerance", OrNull(v.limits.tolerance)}}},
                     {"eos_ids", v.eos_ids},
                     {"num_prompts", v.prompts.size()},
                     {"num_failed", NumFailed(v)},
                     {"all", ToJson(v.all)},
                     {"buckets", ToJson(v.buckets)}};
  for (const CheckGroupTraits& group : kCheckGroups) {
    json[group.json_key] = ToJson(v.checks[group.group]);
  }
  json.update(
      {{"findings", ToJson(v.findings)},
       {"notes", Texts(v.notes)},
       {"structure", v.structure ? ToJson(*v.structure) : Json(nullptr)},
       {"weights_cost",
        v.weights_cost ? ToJson(*v.weights_cost) : Json(nullptr)},
       {"kv_profile", v.kv_profile ? ToJson(*v.kv_profile) : Json(nullptr)},
       {"hypotheses", ToJson(v.hypotheses)},
       {"timing_seconds", ToJson(v.timing)},
       {"peak_memory_bytes", v.peak_memory_bytes},
       {"peak_mapped_bytes", OrNull(v.peak_mapped_bytes)},
       {"environment", ToJson(v.environment)},
       {"prompts", ToJson(v.prompts)},
       {"evaluation", ToJson(v.evaluation)}});
  return json.dump(2) + "\n";
}

}  // namespace verify_tflite
