// The fields of a result are listed once, here. A visitor that goes through a
// list writes JSON (report/json.cc), reads it (report/json_reader.cc) or
// describes it (report/json_schema.cc). The order is that of the JSON.
//
// A visitor has
//   v(field, value)               a value of any of the types below
//   v.Derived(field, value)       written, but computed: readers pass over it
//   v.Choice(field, flag, a, b)   the word a for false, b for true
//   v.Pairs(field, map, a, b)     a list of objects with the keys a and b
//   v.When(condition)             whether what follows is there; of a
//                                 description it is true, and what follows may
//                                 be left out
//   v.Require(key, holds, text)   what must hold of what was read
// where values are bool, integers, double, std::string, Outcome, Recipe,
// FindingId, structs with a list here, and std::vector and std::optional of
// these.
#ifndef VERIFY_TFLITE_RESULT_FIELDS_H_
#define VERIFY_TFLITE_RESULT_FIELDS_H_

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <limits>
#include <string_view>
#include <type_traits>
#include <utility>

#include "result/verification.h"

namespace verify_tflite {

// It is raised when a field changes its meaning or goes.
inline constexpr int kJsonSchemaVersion = 2;

// Counts and places, of tokens or bytes: far above any that occur, and far
// enough below 2^63 for sums and doublings.
inline constexpr int64_t kMaxCount = int64_t{1} << 50;
inline constexpr int64_t kMaxIndex = int64_t{1} << 40;

// The key of a field, what it means, and what its value may be. Both texts are
// literals.
class Field {
 public:
  Field(std::string_view key, std::string_view meaning)
      : key_(key), meaning_(meaning) {}

  // Says that a whole number is from `low` to `high`. Without this it is from 0
  // to kMaxCount, and one of 32 bits may be any.
  Field Within(int64_t low, int64_t high) const {
    Field field = *this;
    field.low_ = low;
    field.high_ = high;
    field.any_ = false;
    return field;
  }
  // Says that a number is at least `least`.
  Field AtLeast(double least) const {
    Field field = *this;
    field.least_ = least;
    return field;
  }
  // Says that a number is above 0, and not null where it is not optional.
  Field Positive() const {
    Field field = Real();
    field.positive_ = true;
    return field;
  }
  // Says that a number is never null. Without this, null stands for what is no
  // number.
  Field Real() const {
    Field field = *this;
    field.real_ = true;
    return field;
  }
  // Says that an absent value (none, false) is left out. Without this it is
  // null.
  Field LeftOut() const {
    Field field = *this;
    field.left_out_ = true;
    return field;
  }
  // Says that results of older versions lack it. It then keeps the value it
  // has.
  Field Newer(bool newer = true) const {
    Field field = *this;
    field.newer_ = newer;
    return field;
  }

  std::string_view key() const { return key_; }
  std::string_view meaning() const { return meaning_; }
  int64_t low() const { return low_; }
  int64_t high() const { return high_; }
  bool any() const { return any_; }
  double least() const { return least_; }
  bool positive() const { return positive_; }
  bool real() const { return real_; }
  bool left_out() const { return left_out_; }
  bool newer() const { return newer_; }

 private:
  std::string_view key_;
  std::string_view meaning_;
  int64_t low_ = 0;
  int64_t high_ = kMaxCount;
  double least_ = -std::numeric_limits<double>::infinity();
  bool any_ = true;
  bool positive_ = false;
  bool real_ = false;
  bool left_out_ = false;
  bool newer_ = false;
};

// A struct or the same struct as const, so that one list serves writers and
// readers.
template <typename T, typename Struct>
concept Like = std::same_as<std::remove_const_t<T>, Struct>;

// A divergence of 0 may be computed as less than 0 by rounding.
inline constexpr double kLeastDivergence = -1e-6;

inline void VisitFields(auto& v, Like<LogitDifference> auto& l) {
  v(Field("finite",
          "false when either row holds NaN or an infinity; all but the two "
          "tokens is then left out"),
    l.finite);
  v(Field("reference_token", "PyTorch's greedy choice"), l.reference_token);
  v(Field("candidate_token", "the TFLite model's"), l.candidate_token);
  if (!v.When(l.finite)) return;
  v(Field("margin",
          "PyTorch's logit of its own choice minus that of the candidate's; 0 "
          "where they are equal")
        .AtLeast(0),
    l.margin);
  v(Field("kld", "KL(PyTorch || TFLite), nats").AtLeast(kLeastDivergence),
    l.kld);
  v(Field("max_abs", "largest |TFLite - PyTorch| over the vocabulary")
        .AtLeast(0),
    l.max_abs);
  v(Field("mean_abs", "mean of the same").AtLeast(0), l.mean_abs);
  v(Field("rms", "root mean square of the same, its mean removed").AtLeast(0),
    l.rms);
  v(Field("nmse",
          "squared difference relative to the reference's logits, means "
          "removed")
        .AtLeast(0),
    l.nmse);
  v(Field("rank", "entries of TFLite's row that come before PyTorch's choice"),
    l.rank);
  v(Field("text_token", "the token that follows in the text"), l.text_token);
  v(Field("reference_logprob", "its log-probability by PyTorch, nats"),
    l.reference_logprob);
  v(Field("candidate_logprob", "the same by the TFLite model"),
    l.candidate_logprob);
  v(Field("constant", "true where all of TFLite's logits are equal").LeftOut(),
    l.constant);
}

inline void VisitFields(auto& v, Like<Position> auto& p) {
  v(Field("index", "tokens before the one that is predicted")
        .Within(0, kMaxIndex),
    p.index);
  VisitFields(v, p.logits);
  if (!v.When(p.logits.reference_token != p.logits.candidate_token)) return;
  v(Field("tie", "the choices differ within the conversion's noise"), p.tie);
  v(Field("reference_text", "text of PyTorch's choice"), p.reference_text);
  v(Field("candidate_text", "text of the TFLite model's"), p.candidate_text);
}

inline void VisitFields(auto& v, Like<Check> auto& c) {
  v(Field("name", "what was checked"), c.name);
  v(Field("outcome", "the answer"), c.outcome);
  v(Field("value", "the figure; null where there is none"), c.value);
  v(Field("limit", "what it is held against; null where there is none"),
    c.limit);
  v(Field("detail", "a sentence; where it was not checked, why"), c.detail);
  v(Field("interval", "of the value where it is an estimate: 95 %").LeftOut(),
    c.interval);
  v(Field("broken_limit", "beyond it the outcome is broken").LeftOut(),
    c.broken_limit);
}

inline void VisitFields(auto& v, Like<Distribution> auto& d) {
  v(Field("count", "how many numbers"), d.count);
  v(Field("mean", "mean"), d.mean);
  v(Field("standard_error", "of the mean"), d.standard_error);
  v(Field("mean_interval", "of the mean, 95 %"), d.mean_interval);
  v(Field("median", "median"), d.median);
  v(Field("p90", "90th percentile"), d.p90);
  v(Field("p99", "99th percentile"), d.p99);
  v(Field("p99_interval", "of the 99th percentile, 95 %"), d.p99_interval);
  v(Field("max", "largest"), d.max);
}

inline void VisitFields(auto& v, Like<Aggregate> auto& a) {
  v(Field("positions",
          "how many; those that are not finite are left out of all that "
          "follows"),
    a.positions);
  v(Field("kld", "KL(PyTorch || TFLite), nats"), a.kld);
  v(Field("logprob_difference",
          "log-probability of the text's token, TFLite minus PyTorch, nats"),
    a.logprob);
  v(Field("flips", "greedy choices that differ beyond the noise"), a.flips);
  v(Field("ties", "greedy choices that differ within the noise"), a.ties);
  v(Field("max_abs", "largest of all positions"), a.max_abs);
  v(Field("mean_abs", "mean over positions"), a.mean_abs);
  v(Field("rms", "mean over positions"), a.rms);
  v(Field("nmse", "mean over positions"), a.nmse);
  v(Field("max_rank", "largest rank"), a.max_rank);
  v(Field("reference_perplexity", "PyTorch's, of the text's tokens"),
    a.reference_ppl);
  v(Field("candidate_perplexity", "the TFLite model's"), a.candidate_ppl);
}

inline void VisitFields(auto& v, Like<Bucket> auto& b) {
  v(Field("begin", "first place in the sequence"), b.begin);
  v(Field("end", "the first place that is not in it"), b.end);
  v(Field("figures", "over the positions at these places"), b.figures);
}

inline void VisitFields(auto& v, Like<Passage> auto& p) {
  v(Field("name", "the kind of text"), p.name);
  v(Field("begin", "its first position"), p.begin);
  v(Field("end", "the first position that is not in it"), p.end);
  v(Field("figures", "over these positions"), p.figures);
}

inline void VisitFields(auto& v, Like<Evaluation> auto& e) {
  v(Field("source", "\"built-in\" or the file's path; empty: none"), e.source);
  v(Field("through_prefill", "logits are prefill's, else decode's"),
    e.through_prefill);
  v(Field("ids", "as fed; several sequences one after the other"), e.ids);
  v(Field("figures", "over all positions"), e.figures);
  v(Field("passages", "the kinds of text"), e.passages);
  v(Field("positions", "both models given the text before each"), e.positions);
  const auto count = static_cast<int64_t>(e.positions.size());
  v.Require("passages",
            std::ranges::all_of(e.passages,
                                [&](const Passage& p) {
                                  return p.begin <= p.end && p.end <= count;
                                }),
            "positions that are not there");
}

inline void VisitFields(auto& v, Like<PromptResult> auto& r) {
  v(Field("prompt", "as given"), r.prompt.text);
  v(Field("rendered_prompt", "with the chat template applied"),
    r.prompt.rendered);
  v(Field("outcome", "the worst of its checks"), r.outcome);
  v(Field("prompt_ids", "as fed"), r.prompt.ids);
  v(Field("reference_ids", "PyTorch's greedy tokens, EOS included"),
    r.reference_ids);
  v(Field("candidate_ids",
          "the TFLite model's, running freely on its own choices"),
    r.candidate_ids);
  v(Field("reference_text", "their text, special tokens left out"),
    r.reference_text);
  v(Field("candidate_text", "the same of the TFLite model's"),
    r.candidate_text);
  v(Field("shared_text", "text of the tokens before the first difference"),
    r.shared_text);
  v.Derived(Field("first_difference",
                  "index at which the two token lists part, or null"),
            FirstDifference(r));
  v(Field("checks", "of this prompt"), r.checks);
  v(Field("prefill_logits",
          "prefill's logits (candidate) against decode's (reference) for the "
          "last prompt token, or null"),
    r.prefill_logits);
  v(Field("positions",
          "one per entry of reference_ids: both models given the prompt and "
          "PyTorch's text before it"),
    r.positions);
  v.Require("positions", r.positions.size() == r.reference_ids.size(),
            "not one for each of reference_ids");
}

inline void VisitFields(auto& v, Like<Finding> auto& f) {
  v(Field("id", "its name: findings.md has a page on each"), f.id);
  v(Field("severity", "how bad it is"), f.severity);
  v(Field("sentence", "what it means for who runs the file"), f.sentence);
  v(Field("evidence", "what was found on both sides; may have lines"),
    f.evidence);
  v(Field("cause", "likely causes; may be empty"), f.cause);
  v(Field("remedy", "what to do; may be empty"), f.remedy);
}

inline void VisitFields(auto& v, Like<TensorFigures> auto& f) {
  v(Field("nmse", "sum((c - r)^2) / sum(r^2)"), f.nmse);
  v(Field("cosine", "of the two as vectors"), f.cosine);
  v(Field("norm_ratio", "|c| / |r|"), f.norm_ratio);
  v(Field("worst_head", "the KV head with the largest NMSE"), f.worst_head);
  v(Field("worst_head_nmse", "its NMSE"), f.worst_head_nmse);
}

inline void VisitFields(auto& v, Like<LayerKv> auto& l) {
  v(Field("prefill_k", "keys, after RoPE, that prefill wrote"), l.prefill_k);
  v(Field("prefill_v", "values that prefill wrote"), l.prefill_v);
  v(Field("decode_k", "keys that decode wrote"), l.decode_k);
  v(Field("decode_v", "values that decode wrote"), l.decode_v);
}

inline void VisitFields(auto& v, Like<KvProfile> auto& p) {
  v(Field("prefill_positions", "how many prefill wrote"), p.prefill_positions);
  v(Field("decode_positions", "how many decode wrote"), p.decode_positions);
  v(Field("layers", "one entry a layer"), p.layers);
}

inline void VisitFields(auto& v, Like<Hypothesis> auto& h) {
  v(Field("finding", "the id of what it would prove"), h.finding);
  v(Field("change", "what was changed in PyTorch's model"), h.change);
  v(Field("kld", "mean with the change, nats"), h.kld);
  v(Field("unchanged_kld", "mean without it, nats"), h.unchanged_kld);
  v(Field("explains", "whether it explains the TFLite model"), h.explains);
}

// Returns the field for the layer of a stage; -1 stands for no layer.
inline Field LayerField() {
  return Field("layer", "-1: of no layer").Within(-1, kMaxIndex);
}

inline Field UnitField() {
  return Field("unit",
               "relative: |TFLite - PyTorch| / |PyTorch| of a row, as "
               "vectors; steps: of one number of a tensor of integers, in "
               "steps of its scale. Results of versions before have none: "
               "relative")
      .Newer();
}

inline void VisitFields(auto& v, Like<StageAgreement> auto& a) {
  v(Field("stage", "\"input_norm\", \"query_projection\", ..."), a.stage);
  v(Field("linear", "a product with weights"), a.linear);
  v(Field("rows", "compared, over all layers and positions"), a.rows);
  v(Field("worst", "the largest error").AtLeast(0), a.worst);
  v(Field("limit", "what it is held against").AtLeast(0), a.limit);
  v(LayerField(), a.layer);
  v(Field("position", "where the worst is").Within(0, kMaxIndex), a.position);
  v.Choice(UnitField(), a.steps, "relative", "steps");
}

inline void VisitFields(auto& v, Like<StructureFault> auto& f) {
  v(Field("signature", "where it is"), f.signature);
  v(Field("stage", "what is not as the model says"), f.stage);
  v(LayerField(), f.layer);
  v(Field("position", "where the worst is").Within(0, kMaxIndex), f.position);
  v(Field("op", "the operator that computes the tensor"), f.op);
  v(Field("tensor", "its name"), f.tensor);
  v(Field("error", "the largest").AtLeast(0), f.error);
  v(Field("limit", "what it is held against").AtLeast(0), f.limit);
  v.Choice(UnitField(), f.steps, "relative", "steps");
}

inline void VisitFields(auto& v, Like<SignatureStructure> auto& s) {
  v(Field("signature", "its name"), s.signature);
  v(Field("not_run", "why nothing of it was compared; else empty"), s.not_run);
  v(Field("ops", "operators that what it yields depends on")
        .Within(0, kMaxIndex),
    s.ops);
  v(Field("verified_ops", "of these, those that are verified").Within(0, s.ops),
    s.verified_ops);
  v(Field("not_verified", "what was not covered, in words"), s.not_verified);
  v(Field("positions", "pairs: the first compared, and the first behind them")
        .Within(0, kMaxIndex),
    s.positions);
  v.Require("positions",
            std::ranges::all_of(
                s.positions,
                [](const auto& range) { return range.first <= range.second; }),
            "a pair in the wrong order");
  v(Field("stages", "in the order of computation"), s.stages);
}

inline void VisitFields(auto& v, Like<Structure> auto& s) {
  v(Field("not_run", "why there is nothing at all; else empty"), s.not_run);
  v(Field("same_bits",
          "the model that was looked into gave the same logits as the file, "
          "bit for bit"),
    s.same_bits);
  v(Field("signatures", "one entry a signature"), s.signatures);
  v(Field("faults", "what is beyond its limit, in the order of computation"),
    s.faults);
}

inline void VisitFields(auto& v, Like<WeightsCost> auto& c) {
  v(Field("figures",
          "PyTorch with the file's dequantised weights (as candidate) against "
          "PyTorch with the checkpoint's"),
    c.figures);
  v(Field("rest", "the TFLite model against PyTorch with the file's weights"),
    c.rest);
}

inline void VisitFields(auto& v, Like<Limit> auto& l) {
  v(Field("pass", "within it, all is as it should be"), l.pass);
  v(Field("broken", "beyond it, the model does not work; between, degraded"),
    l.broken);
}

inline void VisitFields(auto& v, Like<PrefillInfo> auto& p) {
  v(Field("signature", "its name"), p.name);
  v(Field("length", "tokens it takes"), p.length);
  v(Field("logit_rows", "0: no logits; else one row a token, or the last"),
    p.logit_rows);
}

inline void VisitFields(auto& v, Like<ModelInfo> auto& m) {
  v(Field("recipe", "how the weights are stored, by what it costs"), m.recipe);
  v(Field("recipe_detail", "the same in more words"), m.recipe_detail);
  v(Field("notes", "where running this file differs from running others"),
    m.notes);
  v(Field(
        "converted_by",
        "the converter and the class, as names of tensors tell; \"\": unknown")
        .Newer(),
    m.converted_by);
  v(Field("min_runtime_version",
          "the oldest runtime that the file says runs it")
        .Newer(),
    m.min_runtime_version);
  v(Field("num_layers", "layers with KV caches"), m.num_layers);
  v(Field("num_states", "states beside KV caches, of other layers").Newer(),
    m.num_states);
  v(Field("pad_token", "the token that changes none of them, in the graph")
        .Newer(),
    m.pad_token);
  v(Field("vocab_size", "entries of a row of logits"), m.vocab_size);
  v(Field("kv_length", "positions that a KV cache holds"), m.kv_length);
  v(Field("kv_bytes", "bytes of one set of KV caches"), m.kv_bytes);
  v(Field("kv_type", "type of their elements"), m.kv_type);
  v(Field("mask_input", "whether the mask is an input"), m.mask_input);
  v(Field("prefills", "the prefill signatures"), m.prefills);
  v.Pairs(Field("weights", "bytes of constants, by type of their elements"),
          m.weight_bytes, "type", "bytes");
}

inline void VisitFields(auto& v, Like<ModelConfig> auto& c) {
  v(Field("model_type", "as in config.json"), c.model_type);
  v(Field("text_type", "model_type of text_config, which was verified").Newer(),
    c.text_type);
  v(Field("transformers_version", "that saved the checkpoint, as it says")
        .Newer(),
    c.transformers_version);
  v(Field("num_layers", "num_hidden_layers"), c.num_layers);
  v(Field("hidden_size", "as in config.json"), c.hidden_size);
  v(Field("num_heads", "num_attention_heads"), c.num_heads);
  v(Field("num_kv_heads", "num_key_value_heads"), c.num_kv_heads);
  v(Field("head_dim", "as in config.json, or by the family"), c.head_dim);
  v(Field("vocab_size", "as in config.json"), c.vocab_size);
  v(Field("rope_theta", "base of RoPE"), c.rope_theta);
  v(Field("rms_norm_eps", "epsilon of the norms"), c.rms_norm_eps);
  v(Field("tie_word_embeddings", "whether the embedding is the LM head"),
    c.tie_word_embeddings);
}

inline void VisitFields(auto& v, Like<Settings> auto& s) {
  v(Field("max_new_tokens", "--max_new_tokens"), s.max_new_tokens);
  v(Field("match_tokens", "--match_tokens").Within(1, kMaxCount),
    s.match_tokens);
  v(Field("tolerance", "--tolerance").Positive(), s.tolerance);
  v(Field("tolerance_given", "it was given, not the default").Newer(),
    s.tolerance_given);
  v(Field("max_kld", "--max_kld; null: the recipe's own").Positive(),
    s.max_kld);
  v(Field("max_flips", "--max_flips; null: the recipe's own").Positive(),
    s.max_flips);
  v(Field("eval_tokens", "--eval_tokens"), s.eval_tokens);
  v(Field("structure", "--structure").Newer(), s.structure);
  v(Field("weights_cost", "--weights_cost").Newer(), s.weights_cost);
  v(Field("num_threads", "--num_threads")
        .Within(0, std::numeric_limits<int32_t>::max()),
    s.num_threads);
}

inline void VisitFields(auto& v, Like<Limits> auto& l) {
  v(Field("match_tokens", "first tokens that must agree"), l.match_tokens);
  v(Field("kld", "of the mean divergence, nats"), l.kld);
  v(Field("kld_p99", "of its 99th percentile, nats"), l.kld_p99);
  v(Field("flips", "of the share of choices that differ beyond ties"), l.flips);
  v(Field("differing", "of the same with ties; null: not in force"),
    l.differing);
  v(Field("tolerance", "of |logit difference|; null: not in force"),
    l.tolerance);
  v(Field("rounding",
          "of the divergence that rounding may make at one position, nats; "
          "left out where the model does not magnify it")
        .LeftOut()
        .Newer(),
    l.rounding);
}

inline void VisitFields(auto& v, Like<Timing> auto& t) {
  v(Field("total", "seconds of everything").Real(), t.total);
  v(Field("open", "seconds: files, tokenizer, signatures").Real(), t.open);
  v(Field("compile", "seconds of the TFLite model").Real(), t.compile);
  v(Field("prefill", "seconds of the TFLite model").Real(), t.prefill);
  v(Field("decode", "seconds of the TFLite model, drafts included").Real(),
    t.decode);
  v(Field("reference", "seconds of PyTorch, comparing included").Real(),
    t.reference);
  v(Field("weights", "seconds").Real(), t.weights);
  v(Field("self_check", "seconds").Real(), t.self_check);
  v(Field("locate", "seconds").Real(), t.locate);
  v(Field("structure", "seconds").Real().Newer(), t.structure);
  v(Field("weights_cost", "seconds").Real().Newer(), t.weights_cost);
  v(Field("prefill_tokens", "how many were prefilled"), t.prefill_tokens);
  v(Field("decode_tokens", "how many were decoded"), t.decode_tokens);
  v(Field("reference_passes", "passes of PyTorch"), t.reference_passes);
  v(Field("reference_tokens", "tokens in them"), t.reference_tokens);
}

inline void VisitFields(auto& v, Like<Environment> auto& e) {
  v(Field("command", "as typed"), e.command);
  v(Field("date", "UTC, ISO 8601"), e.date);
  v(Field("cpu", "its model"), e.cpu);
  v(Field("litert_version", "of ai-edge-litert"), e.litert_version);
  v(Field("torch_version", "of libtorch"), e.torch_version);
  v(Field("reference_version",
          "of transformers, whose computation the reference does by itself")
        .Newer(),
    e.reference_version);
  v.Pairs(Field("files", "the model and each of the checkpoint's files"),
          e.hashes, "name", "sha256");
}

inline void VisitFields(auto& v, Like<Verification> auto& r) {
  v(Field("tool_version", "of verify_tflite"), r.tool_version);
  v(Field("outcome", "the verdict: pass_rule.md"), r.outcome);
  v(Field("reason", "why, in one sentence"), r.reason);
  v.Derived(Field("passed", "whether `outcome` is \"pass\""), Passed(r));
  v(Field("tflite_path", "as given"), r.tflite_path);
  v(Field("checkpoint_path", "as given"), r.checkpoint_path);
  v(Field("chat_template", "\"none\", or whose it is"), r.chat_template);
  v(Field("model", "what the model file says"), r.model);
  v(Field("checkpoint", "what config.json says"), r.config);
  v(Field("settings", "the flags in force"), r.settings);
  v(Field("limits", "what figures were held against"), r.limits);
  v(Field("eos_ids", "tokens that end a text"), r.eos_ids);
  v.Derived(Field("num_prompts", "how many prompts"),
            static_cast<int64_t>(r.prompts.size()));
  v.Derived(Field("num_failed", "those that are degraded or broken"),
            NumFailed(r));
  v(Field("all", "over the positions of the evaluation and of all prompts"),
    r.all);
  v(Field("buckets", "the same by place in the sequence"), r.buckets);
  for (const CheckGroupTraits& group : kCheckGroups) {
    v(Field(group.json_key, group.meaning).Newer(group.newer),
      r.checks[group.group]);
  }
  v(Field("findings", "what is wrong, by name"), r.findings);
  v(Field("notes",
          "what the reader should know and what decides nothing, a sentence "
          "each")
        .Newer(),
    r.notes);
  v(Field("structure", "what local verification found, or null").Newer(),
    r.structure);
  v(Field("weights_cost",
          "what the quantisation of weights costs alone, over the positions of "
          "the evaluation, or null")
        .Newer(),
    r.weights_cost);
  v(Field("rounding",
          "what the last bit of all that PyTorch computes does to its logits; "
          "left out where it was not measured")
        .LeftOut()
        .Newer(),
    r.rounding);
  v(Field("kv_profile", "the KV caches against PyTorch's, or null"),
    r.kv_profile);
  v(Field("hypotheses", "PyTorch run again with one thing changed"),
    r.hypotheses);
  v(Field("timing_seconds", "wall seconds, and counts"), r.timing);
  v(Field("peak_memory_bytes",
          "largest resident set of the process, as the system counts it"),
    r.peak_memory_bytes);
  v(Field("peak_mapped_bytes",
          "of it pages of mapped files, which the system can drop; null where "
          "not known")
        .Newer(),
    r.peak_mapped_bytes);
  v(Field("environment", "enough to run it again"), r.environment);
  v(Field("prompts", "one entry a prompt, in order"), r.prompts);
  v(Field("evaluation", "both models over a fixed text"), r.evaluation);
}

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_RESULT_FIELDS_H_
