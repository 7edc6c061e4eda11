#include "report/json_reader.h"

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json_file.h"
#include "base/mapped_file.h"
#include "base/utf8.h"
#include "report/json.h"

namespace verify_tflite {
namespace {

using Json = nlohmann::json;

// Parsed JSON takes about ten times the file's size in memory; a result of
// 100,000 positions is 50 MB.
constexpr size_t kMaxBytes = size_t{512} << 20;

// Counts and places, of tokens or bytes: far above any that occur, and far
// enough below 2^63 for sums and doublings.
constexpr int64_t kMaxCount = int64_t{1} << 50;
constexpr int64_t kMaxIndex = int64_t{1} << 40;

// A divergence of 0 may come out below it by rounding.
constexpr double kRounding = 1e-6;

// A value with its place, for messages.
class Node {
 public:
  Node(const Json& json, std::string place)
      : json_(&json), place_(std::move(place)) {}

  Node operator[](const char* key) const {
    if (!json_->is_object()) Refuse("an object");
    const auto at = json_->find(key);
    if (at == json_->end()) throw Error("{}: \"{}\" is missing", place_, key);
    return {*at, place_ + "." + key};
  }

  std::optional<Node> Find(const char* key) const {
    if (!json_->is_object()) Refuse("an object");
    if (!json_->contains(key)) return std::nullopt;
    return (*this)[key];
  }

  std::vector<Node> Items() const {
    if (!json_->is_array()) Refuse("a list");
    std::vector<Node> items;
    items.reserve(json_->size());
    for (size_t i = 0; i < json_->size(); ++i) {
      items.emplace_back((*json_)[i], place_ + "[" + std::to_string(i) + "]");
    }
    return items;
  }

  bool IsNull() const { return json_->is_null(); }

  bool Bool() const {
    if (!json_->is_boolean()) Refuse("true or false");
    return json_->get<bool>();
  }

  std::string Text() const {
    if (!json_->is_string()) Refuse("a string");
    return json_->get<std::string>();
  }

  // A whole number from `low` to `high`.
  int64_t Whole(int64_t low = 0, int64_t high = kMaxCount) const {
    const bool fits = json_->is_number_unsigned()
                          ? json_->get<uint64_t>() <= INT64_MAX
                          : json_->is_number_integer();
    const int64_t value = fits ? json_->get<int64_t>() : 0;
    if (!fits || value < low || value > high) {
      Refuse(fmt::format("a whole number from {} to {}", low, high));
    }
    return value;
  }

  double Number() const {
    if (!json_->is_number()) Refuse("a number");
    return json_->get<double>();
  }

  // What does not exist is null in the file.
  double NumberOr(double missing) const {
    return IsNull() ? missing : Number();
  }
  double NumberOrNan() const {
    return NumberOr(std::numeric_limits<double>::quiet_NaN());
  }
  std::optional<double> OptionalNumber() const {
    return IsNull() ? std::nullopt : std::optional(Number());
  }

  [[noreturn]] void Refuse(const std::string& expected) const {
    std::string found =
        json_->dump(-1, ' ', false, Json::error_handler_t::replace);
    constexpr size_t kShown = 40;
    if (found.size() > kShown) {
      found = ReplaceInvalidUtf8(found.substr(0, kShown)) + "…";
    }
    throw Error("{}: expected {}, found {}", place_, expected, found);
  }

  // Adds this value's place to what is wrong with it.
  [[noreturn]] void Fail(const std::string& what) const {
    throw Error("{}: {}", place_, what);
  }

 private:
  const Json* json_;
  std::string place_;
};

template <typename T, typename Read>
std::vector<T> List(const Node& node, const Read& read) {
  std::vector<T> result;
  for (const Node& item : node.Items()) result.push_back(read(item));
  return result;
}

int32_t ReadToken(const Node& node) {
  return static_cast<int32_t>(node.Whole(INT32_MIN, INT32_MAX));
}

std::vector<int32_t> ReadTokens(const Node& node) {
  return List<int32_t>(node, ReadToken);
}

std::string ReadText(const Node& node) { return node.Text(); }

std::vector<std::string> ReadTexts(const Node& node) {
  return List<std::string>(node, ReadText);
}

Outcome ReadOutcome(const Node& node) {
  const std::string name = node.Text();
  for (const Outcome outcome :
       {Outcome::kNotChecked, Outcome::kPass, Outcome::kInconclusive,
        Outcome::kDegraded, Outcome::kBroken}) {
    if (name == NameOf(outcome)) return outcome;
  }
  node.Refuse("an outcome");
}

Recipe ReadRecipe(const Node& node) {
  const std::string name = node.Text();
  for (const Recipe recipe : kAllRecipes) {
    if (name == NameOf(recipe)) return recipe;
  }
  node.Refuse("a recipe");
}

// A size or distance; null is NaN.
double ReadSize(const Node& node, double low = 0) {
  const double value = node.NumberOrNan();
  if (value < low) node.Refuse("a number that is not negative");
  return value;
}

LogitDifference ReadDifference(const Node& node) {
  LogitDifference l;
  l.finite = node["finite"].Bool();
  l.reference_token = ReadToken(node["reference_token"]);
  l.candidate_token = ReadToken(node["candidate_token"]);
  if (!l.finite) return l;
  l.margin = ReadSize(node["margin"]);
  l.kld = ReadSize(node["kld"], -kRounding);
  l.max_abs = ReadSize(node["max_abs"]);
  l.mean_abs = ReadSize(node["mean_abs"]);
  l.rms = ReadSize(node["rms"]);
  l.nmse = ReadSize(node["nmse"]);
  l.rank = node["rank"].Whole();
  l.text_token = ReadToken(node["text_token"]);
  l.reference_logprob = node["reference_logprob"].NumberOrNan();
  l.candidate_logprob = node["candidate_logprob"].NumberOrNan();
  if (const auto constant = node.Find("constant")) {
    l.constant = constant->Bool();
  }
  return l;
}

Position ReadPosition(const Node& node) {
  Position p;
  p.index = node["index"].Whole(0, kMaxIndex);
  p.logits = ReadDifference(node);
  if (p.logits.reference_token == p.logits.candidate_token) return p;
  p.tie = node["tie"].Bool();
  p.reference_text = node["reference_text"].Text();
  p.candidate_text = node["candidate_text"].Text();
  return p;
}

Interval ReadInterval(const Node& node) {
  const std::vector<Node> ends = node.Items();
  if (ends.size() != 2) node.Refuse("a list of two numbers");
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  return {ends[0].NumberOr(-kInfinity), ends[1].NumberOr(kInfinity)};
}

Check ReadCheck(const Node& node) {
  Check c;
  c.name = node["name"].Text();
  c.outcome = ReadOutcome(node["outcome"]);
  c.value = node["value"].OptionalNumber();
  c.limit = node["limit"].OptionalNumber();
  c.detail = node["detail"].Text();
  if (const auto interval = node.Find("interval")) {
    c.interval = ReadInterval(*interval);
  }
  if (const auto limit = node.Find("broken_limit")) {
    c.broken_limit = limit->NumberOrNan();
  }
  return c;
}

std::vector<Check> ReadChecks(const Node& node) {
  return List<Check>(node, ReadCheck);
}

Distribution ReadDistribution(const Node& node) {
  Distribution d;
  d.count = node["count"].Whole();
  d.mean = node["mean"].NumberOrNan();
  d.standard_error = node["standard_error"].NumberOrNan();
  d.mean_interval = ReadInterval(node["mean_interval"]);
  d.median = node["median"].NumberOrNan();
  d.p90 = node["p90"].NumberOrNan();
  d.p99 = node["p99"].NumberOrNan();
  d.p99_interval = ReadInterval(node["p99_interval"]);
  d.max = node["max"].NumberOrNan();
  return d;
}

Aggregate ReadAggregate(const Node& node) {
  Aggregate a;
  a.positions = node["positions"].Whole();
  a.kld = ReadDistribution(node["kld"]);
  a.logprob = ReadDistribution(node["logprob_difference"]);
  a.flips = node["flips"].Whole();
  a.ties = node["ties"].Whole();
  a.max_abs = node["max_abs"].NumberOrNan();
  a.mean_abs = node["mean_abs"].NumberOrNan();
  a.rms = node["rms"].NumberOrNan();
  a.nmse = node["nmse"].NumberOrNan();
  a.max_rank = node["max_rank"].Whole();
  a.reference_ppl = node["reference_perplexity"].NumberOrNan();
  a.candidate_ppl = node["candidate_perplexity"].NumberOrNan();
  return a;
}

Bucket ReadBucket(const Node& node) {
  return {node["begin"].Whole(), node["end"].Whole(),
          ReadAggregate(node["figures"])};
}

Evaluation ReadEvaluation(const Node& node) {
  Evaluation e;
  e.source = node["source"].Text();
  e.through_prefill = node["through_prefill"].Bool();
  e.ids = ReadTokens(node["ids"]);
  e.figures = ReadAggregate(node["figures"]);
  e.positions = List<Position>(node["positions"], ReadPosition);
  const auto count = static_cast<int64_t>(e.positions.size());
  for (const Node& item : node["passages"].Items()) {
    Passage p;
    p.name = item["name"].Text();
    p.begin = item["begin"].Whole(0, count);
    p.end = item["end"].Whole(p.begin, count);
    p.figures = ReadAggregate(item["figures"]);
    e.passages.push_back(std::move(p));
  }
  return e;
}

PromptResult ReadPrompt(const Node& node) {
  PromptResult r;
  r.prompt = {node["prompt"].Text(), node["rendered_prompt"].Text(),
              ReadTokens(node["prompt_ids"])};
  r.outcome = ReadOutcome(node["outcome"]);
  r.reference_ids = ReadTokens(node["reference_ids"]);
  r.candidate_ids = ReadTokens(node["candidate_ids"]);
  r.reference_text = node["reference_text"].Text();
  r.candidate_text = node["candidate_text"].Text();
  r.shared_text = node["shared_text"].Text();
  r.checks = ReadChecks(node["checks"]);
  const Node prefill = node["prefill_logits"];
  if (!prefill.IsNull()) r.prefill_logits = ReadDifference(prefill);
  const Node positions = node["positions"];
  r.positions = List<Position>(positions, ReadPosition);
  if (r.positions.size() != r.reference_ids.size()) {
    positions.Fail(fmt::format("{} of them for {} reference_ids",
                               r.positions.size(), r.reference_ids.size()));
  }
  return r;
}

Finding ReadFinding(const Node& node) {
  return {node["id"].Text(),       ReadOutcome(node["severity"]),
          node["sentence"].Text(), node["evidence"].Text(),
          node["cause"].Text(),    node["remedy"].Text()};
}

TensorFigures ReadTensor(const Node& node) {
  return {node["nmse"].NumberOrNan(), node["cosine"].NumberOrNan(),
          node["norm_ratio"].NumberOrNan(), node["worst_head"].Whole(),
          node["worst_head_nmse"].NumberOrNan()};
}

LayerKv ReadLayer(const Node& node) {
  return {ReadTensor(node["prefill_k"]), ReadTensor(node["prefill_v"]),
          ReadTensor(node["decode_k"]), ReadTensor(node["decode_v"])};
}

std::optional<KvProfile> ReadProfile(const Node& node) {
  if (node.IsNull()) return std::nullopt;
  return KvProfile{node["prefill_positions"].Whole(),
                   node["decode_positions"].Whole(),
                   List<LayerKv>(node["layers"], ReadLayer)};
}

// Those of no layer have -1.
int64_t ReadLayerIndex(const Node& node) { return node.Whole(-1, kMaxIndex); }

// Results of versions before have no unit.
bool ReadSteps(const Node& node) {
  const auto unit = node.Find("unit");
  return unit && unit->Text() == "steps";
}

StageAgreement ReadStage(const Node& node) {
  StageAgreement a;
  a.stage = node["stage"].Text();
  a.linear = node["linear"].Bool();
  a.rows = node["rows"].Whole();
  a.worst = ReadSize(node["worst"]);
  a.limit = ReadSize(node["limit"]);
  a.layer = ReadLayerIndex(node["layer"]);
  a.position = node["position"].Whole(0, kMaxIndex);
  a.steps = ReadSteps(node);
  return a;
}

StructureFault ReadFault(const Node& node) {
  StructureFault f;
  f.signature = node["signature"].Text();
  f.stage = node["stage"].Text();
  f.layer = ReadLayerIndex(node["layer"]);
  f.position = node["position"].Whole(0, kMaxIndex);
  f.op = node["op"].Text();
  f.tensor = node["tensor"].Text();
  f.error = ReadSize(node["error"]);
  f.limit = ReadSize(node["limit"]);
  f.steps = ReadSteps(node);
  return f;
}

std::pair<int64_t, int64_t> ReadRange(const Node& node) {
  const std::vector<Node> ends = node.Items();
  if (ends.size() != 2) node.Refuse("a list of two numbers");
  const int64_t begin = ends[0].Whole(0, kMaxIndex);
  return {begin, ends[1].Whole(begin, kMaxIndex)};
}

SignatureStructure ReadSignature(const Node& node) {
  SignatureStructure s;
  s.signature = node["signature"].Text();
  s.not_run = node["not_run"].Text();
  s.ops = node["ops"].Whole(0, kMaxIndex);
  s.verified_ops = node["verified_ops"].Whole(0, s.ops);
  s.not_verified = ReadTexts(node["not_verified"]);
  s.positions = List<std::pair<int64_t, int64_t>>(node["positions"], ReadRange);
  s.stages = List<StageAgreement>(node["stages"], ReadStage);
  return s;
}

Structure ReadStructure(const Node& node) {
  Structure s;
  s.not_run = node["not_run"].Text();
  s.same_bits = node["same_bits"].Bool();
  s.signatures = List<SignatureStructure>(node["signatures"], ReadSignature);
  s.faults = List<StructureFault>(node["faults"], ReadFault);
  return s;
}

WeightsCost ReadWeightsCost(const Node& node) {
  return {ReadAggregate(node["figures"]), ReadAggregate(node["rest"])};
}

// What versions before did not write, or what was not measured.
template <typename Read>
auto ReadNewer(const Node& parent, const char* key, const Read& read)
    -> std::optional<decltype(read(parent))> {
  const auto node = parent.Find(key);
  if (!node || node->IsNull()) return std::nullopt;
  return read(*node);
}

bool ReadBool(const Node& node) { return node.Bool(); }
double ReadNumber(const Node& node) { return node.Number(); }
int64_t ReadCount(const Node& node) { return node.Whole(); }

Hypothesis ReadHypothesis(const Node& node) {
  return {node["finding"].Text(), node["change"].Text(),
          node["kld"].NumberOrNan(), node["unchanged_kld"].NumberOrNan(),
          node["explains"].Bool()};
}

ModelInfo ReadModel(const Node& node) {
  ModelInfo m;
  m.recipe = ReadRecipe(node["recipe"]);
  m.recipe_detail = node["recipe_detail"].Text();
  m.notes = ReadTexts(node["notes"]);
  m.num_layers = node["num_layers"].Whole();
  m.vocab_size = node["vocab_size"].Whole();
  m.kv_length = node["kv_length"].Whole();
  m.kv_bytes = node["kv_bytes"].Whole();
  m.kv_type = node["kv_type"].Text();
  m.mask_input = node["mask_input"].Bool();
  m.prefills = List<PrefillInfo>(node["prefills"], [](const Node& p) {
    return PrefillInfo{p["signature"].Text(), p["length"].Whole(),
                       p["logit_rows"].Whole()};
  });
  for (const Node& item : node["weights"].Items()) {
    m.weight_bytes[item["type"].Text()] = item["bytes"].Whole();
  }
  return m;
}

ModelConfig ReadConfig(const Node& node) {
  ModelConfig c;
  c.model_type = node["model_type"].Text();
  c.num_layers = node["num_layers"].Whole();
  c.hidden_size = node["hidden_size"].Whole();
  c.num_heads = node["num_heads"].Whole();
  c.num_kv_heads = node["num_kv_heads"].Whole();
  c.head_dim = node["head_dim"].Whole();
  c.vocab_size = node["vocab_size"].Whole();
  c.rope_theta = node["rope_theta"].NumberOrNan();
  c.rms_norm_eps = node["rms_norm_eps"].NumberOrNan();
  c.tie_word_embeddings = node["tie_word_embeddings"].Bool();
  return c;
}

// Within what the command line takes; the judge relies on it.
double ReadPositive(const Node& node) {
  const double value = node.Number();
  if (!(value > 0)) node.Refuse("a positive number");
  return value;
}

std::optional<double> ReadOptionalPositive(const Node& node) {
  return node.IsNull() ? std::nullopt : std::optional(ReadPositive(node));
}

Settings ReadSettings(const Node& node) {
  Settings s;
  s.max_new_tokens = node["max_new_tokens"].Whole();
  s.match_tokens = node["match_tokens"].Whole(1);
  s.tolerance = ReadPositive(node["tolerance"]);
  // Versions before let nothing explain an excess.
  s.tolerance_given =
      ReadNewer(node, "tolerance_given", ReadBool).value_or(true);
  s.max_kld = ReadOptionalPositive(node["max_kld"]);
  s.max_flips = ReadOptionalPositive(node["max_flips"]);
  s.eval_tokens = node["eval_tokens"].Whole();
  s.structure = ReadNewer(node, "structure", ReadBool).value_or(true);
  s.weights_cost = ReadNewer(node, "weights_cost", ReadBool).value_or(true);
  s.num_threads = static_cast<int>(node["num_threads"].Whole(0, INT32_MAX));
  return s;
}

Limit ReadLimit(const Node& node) {
  return {node["pass"].NumberOrNan(), node["broken"].NumberOrNan()};
}

Limits ReadLimits(const Node& node) {
  Limits limits;
  limits.match_tokens = node["match_tokens"].Whole();
  limits.kld = ReadLimit(node["kld"]);
  limits.kld_p99 = ReadLimit(node["kld_p99"]);
  limits.flips = ReadLimit(node["flips"]);
  limits.differing = node["differing"].OptionalNumber();
  limits.tolerance = node["tolerance"].OptionalNumber();
  return limits;
}

Timing ReadTiming(const Node& node) {
  Timing t;
  t.total = node["total"].Number();
  t.open = node["open"].Number();
  t.compile = node["compile"].Number();
  t.prefill = node["prefill"].Number();
  t.decode = node["decode"].Number();
  t.reference = node["reference"].Number();
  t.weights = node["weights"].Number();
  t.self_check = node["self_check"].Number();
  t.locate = node["locate"].Number();
  t.structure = ReadNewer(node, "structure", ReadNumber).value_or(0);
  t.weights_cost = ReadNewer(node, "weights_cost", ReadNumber).value_or(0);
  t.prefill_tokens = node["prefill_tokens"].Whole();
  t.decode_tokens = node["decode_tokens"].Whole();
  t.reference_passes = node["reference_passes"].Whole();
  t.reference_tokens = node["reference_tokens"].Whole();
  return t;
}

Environment ReadEnvironment(const Node& node) {
  Environment e;
  e.command = node["command"].Text();
  e.date = node["date"].Text();
  e.cpu = node["cpu"].Text();
  e.litert_version = node["litert_version"].Text();
  e.torch_version = node["torch_version"].Text();
  for (const Node& item : node["files"].Items()) {
    e.hashes.emplace_back(item["name"].Text(), item["sha256"].Text());
  }
  return e;
}

void CheckVersion(const Json& json, const std::string& origin) {
  const auto version = json.find("schema_version");
  if (version == json.end()) {
    throw Error(
        "{}: no schema_version in it: this is no result of verify_tflite "
        "--json",
        origin);
  }
  if (*version == kJsonSchemaVersion) return;
  throw Error(
      "{}: schema_version is {}, this program reads {}; verify the model again "
      "with this version",
      origin, version->is_number() ? version->dump() : "no number",
      kJsonSchemaVersion);
}

}  // namespace

Verification ReadJsonReport(std::string_view text, const std::string& origin) {
  if (text.size() > kMaxBytes) {
    throw Error("{}: {} bytes; results are read up to {}", origin, text.size(),
                kMaxBytes);
  }
  const Json json = ParseJsonObject(text, origin);
  CheckVersion(json, origin);
  const Node root(json, origin + ": $");
  Verification v;
  v.tool_version = root["tool_version"].Text();
  v.outcome = ReadOutcome(root["outcome"]);
  v.reason = root["reason"].Text();
  v.tflite_path = root["tflite_path"].Text();
  v.checkpoint_path = root["checkpoint_path"].Text();
  v.chat_template = root["chat_template"].Text();
  v.model = ReadModel(root["model"]);
  v.config = ReadConfig(root["checkpoint"]);
  v.settings = ReadSettings(root["settings"]);
  v.limits = ReadLimits(root["limits"]);
  v.eos_ids = ReadTokens(root["eos_ids"]);
  v.all = ReadAggregate(root["all"]);
  v.buckets = List<Bucket>(root["buckets"], ReadBucket);
  for (const CheckGroupTraits& group : kCheckGroups) {
    const std::string key(group.json_key);
    v.checks[group.group] = group.newer
                                ? ReadNewer(root, key.c_str(), ReadChecks)
                                      .value_or(std::vector<Check>())
                                : ReadChecks(root[key.c_str()]);
  }
  v.findings = List<Finding>(root["findings"], ReadFinding);
  if (const auto notes = ReadNewer(root, "notes", ReadTexts)) v.notes = *notes;
  v.structure = ReadNewer(root, "structure", ReadStructure);
  v.weights_cost = ReadNewer(root, "weights_cost", ReadWeightsCost);
  v.kv_profile = ReadProfile(root["kv_profile"]);
  v.hypotheses = List<Hypothesis>(root["hypotheses"], ReadHypothesis);
  v.timing = ReadTiming(root["timing_seconds"]);
  v.peak_memory_bytes = root["peak_memory_bytes"].Whole();
  v.peak_mapped_bytes = ReadNewer(root, "peak_mapped_bytes", ReadCount);
  v.environment = ReadEnvironment(root["environment"]);
  v.prompts = List<PromptResult>(root["prompts"], ReadPrompt);
  v.evaluation = ReadEvaluation(root["evaluation"]);
  return v;
}

Verification ReadJsonReportFile(const std::string& path) {
  const MappedFile file(path);
  const auto bytes = file.bytes();
  return ReadJsonReport(
      {reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
}

}  // namespace verify_tflite
