// The result of a verification is plain data. verify/ fills it, report/ shows
// it.
#ifndef VERIFY_TFLITE_RESULT_VERIFICATION_H_
#define VERIFY_TFLITE_RESULT_VERIFICATION_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/model_config.h"
#include "result/checks.h"
#include "result/finding.h"
#include "result/metrics.h"
#include "result/model_info.h"
#include "result/statistics.h"

namespace verify_tflite {

// How far to go to find out what is wrong.
enum class Locate {
  kOff,
  kKv,    // compare KV caches, and say where they part
  kTaps,  // and stages inside layers: name the operator
  kAuto,  // compute the reference again with changes, too
};

// What the user asked for.
struct Settings {
  int64_t max_new_tokens = 30;
  int64_t match_tokens = 10;        // first tokens that must agree
  double tolerance = 0.01;          // of |logit difference|, float files only
  bool tolerance_given = false;     // by the user: holds whatever was proven
  std::optional<double> max_kld;    // nats; default by recipe
  std::optional<double> max_flips;  // share of positions; default by recipe
  int64_t eval_tokens = 512;        // of the evaluation text; 0: none
  Locate locate = Locate::kAuto;
  bool self_check = true;
  bool structure = true;     // local verification
  bool weights_cost = true;  // PyTorch with the file's weights
  int num_threads = 1;
};

// The limit of a figure. Within `pass` the figure is as it should be. Beyond
// `broken` it says that the model does not work. Between the two it is worse
// than this recipe should be.
struct Limit {
  double pass = 0;
  double broken = 0;
};

struct Limits {
  int64_t match_tokens = 0;
  Limit kld;                        // mean over all positions, nats
  Limit kld_p99;                    // 99th percentile, nats
  Limit flips;                      // share of positions, ties aside
  std::optional<double> differing;  // the same with ties; none: not in force
  std::optional<double> tolerance;  // none: not in force for this recipe
  // How far rounding may take a single position, nats; none where the model
  // does not magnify it.
  std::optional<double> rounding;
};

// A prompt as it is fed to both models.
struct Prompt {
  std::string text;      // as the user gave it
  std::string rendered;  // with the chat template applied; else the same
  std::vector<int32_t> ids;
};

// One position at which both models were given the same tokens. For a prompt
// these are the tokens of PyTorch's own greedy path, for an evaluation those of
// the text.
struct Position {
  int64_t index = 0;  // tokens before the one that is predicted
  LogitDifference logits;
  // The greedy choices differ, but by no more than the noise of this
  // conversion.
  bool tie = false;
  // Text of the two choices, only where they differ.
  std::string reference_text;
  std::string candidate_text;
};

// Figures over many positions.
struct Aggregate {
  Distribution kld;      // nats
  Distribution logprob;  // candidate's minus reference's, of the text's token
  int64_t positions = 0;
  int64_t flips = 0;     // greedy choices that differ, ties aside
  int64_t ties = 0;      // those within the noise
  double max_abs = 0;    // largest |logit difference|
  double mean_abs = 0;   // mean over positions
  double rms = 0;        // mean over positions
  double nmse = 0;       // mean over positions
  int64_t max_rank = 0;  // of the reference's token in the candidate's row
  // Perplexity is exp(-mean log-probability of the text's tokens). It says
  // little for a prompt's positions, whose text is PyTorch's own greedy choice.
  double reference_ppl = 0;
  double candidate_ppl = 0;
};

// Positions [begin, end) of their sequences.
struct Bucket {
  int64_t begin = 0;
  int64_t end = 0;
  Aggregate figures;
};

// One kind of text of the evaluation: [begin, end) of Evaluation::positions.
struct Passage {
  std::string name;  // "prose", "code", …
  int64_t begin = 0;
  int64_t end = 0;
  Aggregate figures;
};

// A teacher-forced run over a fixed text: both models are given it and predict
// each next token.
struct Evaluation {
  std::string source;        // "built-in" or the file's path
  std::vector<int32_t> ids;  // as fed; several sequences one after the other
  std::vector<Position> positions;
  std::vector<Passage> passages;
  Aggregate figures;             // over all positions
  bool through_prefill = false;  // logits are prefill's, else decode's
};

struct PromptResult {
  Prompt prompt;
  // Greedy tokens, EOS included when it ended the text. The candidate's are
  // free-running: from its own choices, as on the phone.
  std::vector<int32_t> reference_ids;
  std::vector<int32_t> candidate_ids;
  std::string reference_text;  // special tokens left out
  std::string candidate_text;
  // Text of the tokens before the first difference (all, if there is none).
  std::string shared_text;
  std::vector<Position> positions;  // one per reference_ids entry
  // Logits of the last prompt token from a prefill signature (as `candidate`)
  // and from decode (as `reference`); none where no signature yields them.
  std::optional<LogitDifference> prefill_logits;
  std::vector<Check> checks;
  Outcome outcome = Outcome::kNotChecked;
};

// Says how near the candidate's tensor is to the reference's, over everything
// that the two have in common.
struct TensorFigures {
  double nmse = 0;         // sum((c - r)^2) / sum(r^2)
  double cosine = 1;       // of the two as vectors
  double norm_ratio = 1;   // |c| / |r|
  int64_t worst_head = 0;  // the KV head with the largest NMSE, and that NMSE
  double worst_head_nmse = 0;
};

// One layer's KV caches. Keys are those after RoPE.
struct LayerKv {
  TensorFigures prefill_k, prefill_v;  // positions written by prefill
  TensorFigures decode_k, decode_v;    // positions written by decode
};

// The KV caches after a text went through prefill and decode.
struct KvProfile {
  int64_t prefill_positions = 0;
  int64_t decode_positions = 0;
  std::vector<LayerKv> layers;
};

// The reference run again with one thing changed, to see whether that explains
// the candidate.
struct Hypothesis {
  FindingId finding = {};    // what it would prove
  std::string change;        // "rope_theta 10000 instead of 100000"
  double kld = 0;            // mean over the positions looked at, nats
  double unchanged_kld = 0;  // the same without the change
  bool explains = false;
};

// Local verification compares what the candidate's graph computes, stage by
// stage, with the reference's computation of that stage from the candidate's
// own tensors. The reference takes the file's dequantised weights and, where
// the runtime quantises a product's input, that quantisation. Nothing adds up
// over layers, so that quantised files are held to float rounding
// (docs/structure.md).

// All comparisons of one kind of stage in one signature.
struct StageAgreement {
  std::string stage;  // NameOf(Stage): "input_norm", "query_projection", …
  bool linear = false;
  int64_t rows = 0;  // compared, over all layers and positions
  double worst = 0;  // |candidate - reference| / |reference| of a row, L2
  double limit = 0;  // of that
  // If true, both are of one number, in steps of the tensor, which holds
  // integers.
  bool steps = false;
  int64_t layer = -1;  // where the worst is; -1: of no layer
  int64_t position = 0;
};

// A stage that is not what the model says.
struct StructureFault {
  std::string signature;
  std::string stage;
  int64_t layer = -1;
  int64_t position = 0;  // the worst one
  std::string op;        // "FULLY_CONNECTED": what computes the tensor
  std::string tensor;    // its name; for the reader alone
  double error = 0;      // as StageAgreement::worst
  double limit = 0;
  bool steps = false;
};

struct SignatureStructure {
  std::string signature;
  // The operators on which the outputs of the signature depend, and those of
  // them that lie between tensors that were compared and agree.
  int64_t ops = 0;
  int64_t verified_ops = 0;
  std::vector<std::string> not_verified;  // "TANH behind FULLY_CONNECTED …"
  std::vector<std::pair<int64_t, int64_t>> positions;  // [begin, end) compared
  std::vector<StageAgreement> stages;  // in the order of computation
  std::string not_run;                 // why nothing was compared; else empty
};

struct Structure {
  std::vector<SignatureStructure> signatures;
  // They are in the order of computation: the first is where the fault lies.
  std::vector<StructureFault> faults;
  // With taps the model gave the same logits, bit for bit, as without: what was
  // verified is what runs.
  bool same_bits = false;
  std::string not_run;  // why there is nothing at all; else empty
};

// The cost of the quantisation of weights alone: PyTorch with its own weights
// against PyTorch with the file's dequantised weights, over the positions of
// the evaluation. What the candidate differs by beyond it comes from
// activations.
struct WeightsCost {
  Aggregate
      figures;  // reference: the checkpoint; candidate: the file's weights
  // The candidate against PyTorch with the file's weights, over the same
  // positions.
  Aggregate rest;
};

// Wall seconds.
struct Timing {
  double open = 0;       // files, tokenizer, signatures
  double compile = 0;    // the candidate's signatures
  double prefill = 0;    // the candidate
  double decode = 0;     // the candidate, drafts included
  double reference = 0;  // PyTorch passes, comparing included
  double weights = 0;
  double self_check = 0;
  double locate = 0;
  double structure = 0;
  double weights_cost = 0;
  double total = 0;
  int64_t prefill_tokens = 0;
  int64_t decode_tokens = 0;
  int64_t reference_passes = 0;
  int64_t reference_tokens = 0;
};

// Enough to run it again and to know whether the run was the same.
struct Environment {
  std::string command;  // as typed
  std::string date;     // UTC, ISO 8601
  std::string cpu;
  std::string litert_version;
  std::string torch_version;
  // Of transformers: whose computation the reference does by itself.
  std::string reference_version;
  // SHA-256 in hexadecimal of the model file and of the checkpoint's files, by
  // name.
  std::vector<std::pair<std::string, std::string>> hashes;
};

struct Verification {
  std::string tool_version;
  std::string tflite_path;
  std::string checkpoint_path;
  std::string chat_template;  // "none", "checkpoint" or the file's path
  ModelInfo model;
  ModelConfig config;
  Settings settings;
  Limits limits;
  std::vector<int32_t> eos_ids;
  std::vector<PromptResult> prompts;
  Evaluation evaluation;
  // Figures over the positions of all prompts and of the evaluation.
  Aggregate all;
  std::vector<Bucket> buckets;
  // The checks that decide, apart from the prompts' own.
  CheckGroups checks;
  std::optional<Structure> structure;
  std::optional<WeightsCost> weights_cost;
  // PyTorch against PyTorch with the last bit of all that it computes moved by
  // chance, over the same positions: what rounding alone does to this model.
  // Measured where a faithful file would fail.
  std::optional<Aggregate> rounding;
  std::vector<Finding> findings;
  // What the reader should know and what decides nothing, a sentence each,
  // about the checkpoint, the bundle and the file.
  std::vector<std::string> notes;
  std::optional<KvProfile> kv_profile;
  std::vector<Hypothesis> hypotheses;
  Outcome outcome = Outcome::kNotChecked;
  std::string reason;  // one sentence, for a newcomer
  Timing timing;
  Environment environment;
  int64_t peak_memory_bytes = 0;  // resident set of the whole run
  // The part of it that is pages of mapped files; not known for results of
  // older versions.
  std::optional<int64_t> peak_mapped_bytes;
};

// Returns the first index at which the two greedy texts differ; none if they
// are equal.
std::optional<size_t> FirstDifference(const PromptResult& result);

// Returns the number of prompts that are degraded or broken.
int64_t NumFailed(const Verification& verification);

bool Passed(const Verification& verification);

// Returns figures over `positions`. Those that are not finite are left out of
// all figures but `positions`.
Aggregate Summarize(std::span<const Position* const> positions);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_RESULT_VERIFICATION_H_
