#include "audit/weight_audit.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <tuple>
#include <utility>

#include "mapping/compare.h"
#include "mapping/stored.h"
#include "tflite/file.h"

namespace verify_tflite {
namespace {

// A constant without a role and without a counterpart is a weight, not a table,
// if it is read by a product or a lookup.
using Status = WeightMatch::Status;

// One use of one constant, or one constant without a use.
struct Job {
  const tflite::Constant* constant = nullptr;
  int32_t input = 0;  // as WeightMatch has them
  int32_t index = -1;
  std::optional<RoleUse> use;
  std::vector<std::string> signatures;
};

std::vector<std::string> TensorsOf(const Original& original) {
  std::vector<std::string> names;
  for (const Rows& rows : original.rows) {
    if (std::find(names.begin(), names.end(), rows.name) == names.end()) {
      names.push_back(rows.name);
    }
  }
  if (original.column_factor != nullptr) {
    names.push_back(original.column_factor->name);
  }
  return names;
}

// Whether transformers makes a place for it.
bool IsUsed(const WeightRole& role, const ModelConfig& config) {
  if (role.part == Part::kStreamScale) return config.stream_scale;
  if (role.layer >= 0 && !IsOfStream(role.part)) {
    const LayerConfig& layer = config.layers[static_cast<size_t>(role.layer)];
    const bool of_keys = role.part == Part::kK || role.part == Part::kV ||
                         role.part == Part::kKNorm;
    if (of_keys && layer.kv_source >= 0) return false;
    if (role.part == Part::kV && layer.keys_are_values) return false;
  }
  switch (role.part) {
    case Part::kQNorm:
    case Part::kKNorm:
      return config.qk_norm;
    case Part::kQ:
    case Part::kK:
    case Part::kV:
    case Part::kQkv:
      return !role.bias || config.qkv_bias;
    case Part::kO:
      return !role.bias || config.o_bias;
    case Part::kGate:
    case Part::kUp:
    case Part::kGateUp:
    case Part::kDown:
      return !role.bias || config.mlp_bias;
    case Part::kHead:
      return !role.bias || config.head_bias;
    default:
      return true;
  }
}

// Of the products of a mixture of experts.
bool ReadsMlpNorm(const WeightRole& product) {
  switch (product.part) {
    case Part::kRouter:
    case Part::kExpertGate:
    case Part::kExpertUp:
    case Part::kExpertGateUp:
    case Part::kSharedGate:
    case Part::kSharedUp:
    case Part::kSharedGateUp:
    case Part::kSharedScale:
      return true;
    default:
      return false;
  }
}

bool IsVector(const tflite::Constant& constant) { return constant.cols() == 1; }

std::string LayoutOf(const Original& original, bool transposed) {
  std::string layout = original.layout;
  const auto append = [&](const std::string& text) {
    layout += layout.empty() ? text : ", " + text;
  };
  if (transposed) append("transposed");
  if (original.input_scale != nullptr) {
    const auto& scale = *original.input_scale;
    const bool ones = std::all_of(scale.begin(), scale.end(),
                                  [](double value) { return value == 1; });
    append(ones ? "input times 1" : "input scaled, inverse in the columns");
  }
  if (original.rotation != nullptr) {
    append(fmt::format("rotated in blocks of {}", original.rotation->size()));
  }
  return layout;
}

constexpr std::string_view kGptq = "GPTQ";

// Who chose the scales, as far as they show it.
std::string QuantiserOf(const Comparison& comparison) {
  const ScaleFigures& s = comparison.scales;
  if (s.scales == 0) return "";
  if (s.min_max == s.scales) return "min-max";
  if (s.mse == s.scales) return "MSE";
  // Nothing was lost: the checkpoint's numbers are multiples of the scales, but
  // for the rounding of both to float32.
  constexpr double kExact = 0.01;
  if (comparison.ok() && comparison.worst <= kExact) return "on a grid";
  if (comparison.cut_off > 0) return "clipped";
  return "other scales";
}

double Percentage(int64_t part, int64_t whole) {
  return 100 * static_cast<double>(part) /
         static_cast<double>(std::max<int64_t>(whole, 1));
}

// From this on a recipe is said to waste range: errors 1.2 times as large.
constexpr double kCoarser = 1.2;

// Squares of the error on real inputs, relative to rounding's.
// docs/weights.md has what sound files reach.
constexpr int64_t kFewInputs = 4;
constexpr double kMostError = 1.1 * 1.1, kFarError = 3 * 3;
constexpr double kMostRowError = 2.5 * 2.5, kFarRowError = 8 * 8;

// Fewer could be equal by chance, or where little was changed.
constexpr int64_t kFewScales = 16;

bool ScalesAreOwn(const ScaleFigures& scales) {
  return scales.scales >= kFewScales && scales.min_max == scales.scales;
}

// Sums over the matches.
void Count(WeightAudit& audit) {
  audit.weight_bytes = audit.verified_bytes = audit.calibrated_bytes =
      audit.by_content_bytes = 0;
  audit.worst = 0;
  // The worst of a constant's uses.
  std::map<std::pair<int32_t, int32_t>, const WeightMatch*> constants;
  for (const WeightMatch& match : audit.matches) {
    const bool bad = match.status == Status::kDiffers ||
                     match.status == Status::kNotCovered ||
                     match.status == Status::kCalibrated;
    const auto [entry, is_new] =
        constants.try_emplace({match.input, match.constant}, &match);
    if (bad) entry->second = &match;
    if (!bad && match.quantiser != kGptq) {
      audit.worst = std::max(audit.worst, match.worst);
    }
  }
  for (const auto& [key, match] : constants) {
    audit.weight_bytes += match->bytes;
    if (match->status == Status::kVerified)
      audit.verified_bytes += match->bytes;
    if (match->status == Status::kCalibrated) {
      audit.calibrated_bytes += match->bytes;
    }
    if (match->status == Status::kByContent) {
      audit.by_content_bytes += match->bytes;
    }
  }
}

class Auditor {
 public:
  explicit Auditor(const ModelMap& map)
      : map_(map), originals_(map.originals()) {}

  WeightAudit Audit(int num_threads) {
    const ModelConfig& config = map_.checkpoint().config();
    audit_.layers = config.num_layers;
    audit_.own_head = originals_.has_head();
    audit_.logit_softcap = config.logit_softcap;
    for (size_t input = 0; input < map_.files().size(); ++input) {
      const ModelFile& mapped = map_.files()[input];
      if (audit_.zero_scales.constants == 0) {
        audit_.zero_scales = tflite::FindZeroScales(*mapped.file);
      }
      for (const std::string& reason : mapped.roles.not_understood) {
        audit_.not_understood.push_back(reason);
      }
      const size_t first = jobs_.size();
      MakeJobs(input, mapped);
      Run(first, num_threads);
      PairNorms(first);
    }
    FindMissing();
    Count(audit_);
    return std::move(audit_);
  }

 private:
  void MakeJobs(size_t input, const ModelFile& mapped) {
    const tflite::File& file = *mapped.file;
    const Roles& roles = mapped.roles;
    std::map<std::tuple<int32_t, WeightRole, InputChange>, size_t> known;
    std::set<int32_t> named;
    for (const RoleUse& use : roles.uses) {
      // A vector that the model multiplies or adds, where this family has none:
      // part of the computation, nothing to compare with.
      if (IsVector(map_.ConstantOf(input, use)) &&
          originals_.Of(use.role).empty() && !use.operand) {
        continue;
      }
      named.insert(use.constant);
      if (use.input_scale >= 0) named.insert(use.input_scale);
      const auto [entry, is_new] = known.try_emplace(
          {use.constant, use.role, map_.ChangeOf(input, use)}, jobs_.size());
      if (is_new) AddJob(input, use.constant).use = use;
      auto& signatures = jobs_[entry->second].signatures;
      if (std::find(signatures.begin(), signatures.end(), use.signature) ==
          signatures.end()) {
        signatures.push_back(use.signature);
      }
    }
    const std::set<int32_t> unknown(roles.unknown.begin(), roles.unknown.end());
    for (size_t i = 0; i < file.constants.size(); ++i) {
      const auto index = static_cast<int32_t>(i);
      const tflite::Constant& constant = file.constants[i];
      if (named.count(index) > 0) continue;
      if (unknown.count(index) > 0) {
        AddJob(input, index);
        continue;
      }
      ++audit_.other_constants;
      audit_.other_bytes += static_cast<int64_t>(constant.data.size());
      // A rotation is held to be one where it is read, and compared with the
      // weights behind it.
      if (roles.rotations.count(index) > 0) continue;
      audit_.others.push_back(
          {.input = input,
           .constant = index,
           .name = constant.name,
           .bytes = static_cast<int64_t>(constant.data.size()),
           .elements = constant.elements()});
    }
  }

  Job& AddJob(size_t input, int32_t constant) {
    Job& job = jobs_.emplace_back();
    job.constant =
        &map_.files()[input].file->constants[static_cast<size_t>(constant)];
    job.input = static_cast<int32_t>(input);
    job.index = constant;
    return job;
  }

  // A norm's weight may be divided by a vector that the columns of the products
  // behind it are multiplied with (SmoothQuant): both are right together. Norms
  // that are not the checkpoint's are tried with what their products hold.
  void PairNorms(size_t first) {
    for (size_t i = first; i < jobs_.size(); ++i) {
      WeightMatch& norm = audit_.matches[i];
      if (norm.status != Status::kDiffers || !IsNorm(norm.role.part) ||
          norm.role.bias || jobs_[i].use->composite) {
        continue;
      }
      const std::vector<double>* inverse = NormRatio(jobs_[i]);
      if (inverse != nullptr) PairNorm(first, i, *inverse);
    }
  }

  // What the file's norm is of the checkpoint's, number by number; null where
  // that cannot be.
  const std::vector<double>* NormRatio(const Job& job) {
    const std::vector<Original> ways = originals_.Plain(job.use->role);
    if (ways.empty() || !SameShape(*job.constant, ways[0], false)) {
      return nullptr;
    }
    RowPair pair(*job.constant, ways[0], false);
    std::vector<double>& ratio = norm_ratios_.emplace_back();
    for (int64_t row = 0; row < pair.rows(); ++row) {
      pair.Load(row);
      ratio.push_back(double{pair.stored()[0]} / pair.original()[0]);
      if (!std::isfinite(ratio.back()) || ratio.back() == 0) return nullptr;
    }
    return &ratio;
  }

  bool IsBehind(const WeightRole& norm, const WeightRole& product) const {
    if (product.layer != norm.layer || product.bias) return false;
    const bool mlp = product.part == Part::kGate || product.part == Part::kUp ||
                     product.part == Part::kGateUp || ReadsMlpNorm(product);
    switch (norm.part) {
      case Part::kInputNorm:
        return IsAttentionInput(product.part) ||
               product.part == Part::kConvInput ||
               (mlp && !originals_.checkpoint().config().mlp_norm);
      case Part::kMlpNorm:
        return mlp;
      case Part::kFinalNorm:
        return product.part == Part::kHead;
      default:
        return false;
    }
  }

  void PairNorm(size_t first, size_t norm, const std::vector<double>& ratio) {
    std::vector<std::pair<size_t, WeightMatch>> paired;
    for (size_t i = first; i < jobs_.size(); ++i) {
      if (!jobs_[i].use ||
          !IsBehind(audit_.matches[norm].role, jobs_[i].use->role)) {
        continue;
      }
      const Job& job = jobs_[i];
      const auto input = static_cast<size_t>(job.input);
      if (map_.ChangeOf(input, *job.use).scale != nullptr) return;
      WeightMatch match = Begin(job);
      MatchUse(job, map_.LayoutsWith(input, *job.use, ratio), match);
      if (match.status != Status::kVerified &&
          match.status != Status::kCalibrated) {
        return;
      }
      match.layout = "inverse of the norm's factors in the columns";
      paired.emplace_back(i, std::move(match));
    }
    if (paired.empty()) return;
    for (auto& [i, match] : paired) audit_.matches[i] = std::move(match);
    WeightMatch& match = audit_.matches[norm];
    match.status = Status::kVerified;
    match.layout = "times factors whose inverse is in the products behind it";
    match.difference.reset();
    match.bad = 0;
    match.worst = 0;
  }

  // Each job fills the match of its number.
  void Run(size_t first, int num_threads) {
    audit_.matches.resize(jobs_.size());
    std::vector<size_t> order;
    for (size_t i = first; i < jobs_.size(); ++i) order.push_back(i);
    // The largest first, so that no thread is left with it at the end.
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return jobs_[a].constant->data.size() > jobs_[b].constant->data.size();
    });
    std::atomic<size_t> next = 0;
    std::exception_ptr error;
    std::mutex error_mutex;
    const auto work = [&] {
      try {
        for (size_t i = next++; i < order.size(); i = next++) {
          audit_.matches[order[i]] = Match(jobs_[order[i]]);
        }
      } catch (...) {
        const std::scoped_lock lock(error_mutex);
        error = std::current_exception();
      }
    };
    std::vector<std::thread> threads;
    for (int i = 1; i < num_threads; ++i) threads.emplace_back(work);
    work();
    for (std::thread& thread : threads) thread.join();
    if (error) std::rethrow_exception(error);
  }

  static WeightMatch Begin(const Job& job) {
    WeightMatch match;
    match.input = job.input;
    match.constant = job.index;
    match.name = job.constant->name;
    match.type = job.constant->type_name;
    match.shape = job.constant->shape;
    match.bytes = static_cast<int64_t>(job.constant->data.size());
    match.elements = job.constant->elements();
    match.signatures = job.signatures;
    if (job.use) match.role = job.use->role;
    return match;
  }

  WeightMatch Match(const Job& job) const {
    WeightMatch match = Begin(job);
    if (job.use) {
      const auto input = static_cast<size_t>(job.input);
      MatchUse(job, map_.LayoutsOf(input, *job.use), match);
    } else {
      MatchContent(*job.constant, match);
    }
    if (IsMapping()) DropPages(job.constant->data);
    return match;
  }

  // Whether bytes of the files are pages of mapped files.
  bool IsMapping() const { return map_.container() != nullptr; }

  void MatchUse(const Job& job, const Layouts& layouts,
                WeightMatch& match) const {
    const tflite::Constant& constant = *job.constant;
    const RoleUse& use = *job.use;
    if (constant.type == ElementType::kUnknown) {
      match.reason = "stored as " + constant.type_name;
      return;
    }
    if (use.rotation >= 0 && use.transposed) {
      match.reason = "transposed, behind a rotation";
      return;
    }
    if (layouts.ways.empty()) return NoLayout(constant, use, match);
    const Original* way = nullptr;
    Comparison comparison;
    for (const Original& each : layouts.ways) {
      const Comparison found =
          Compare(constant, each, use.transposed, IsMapping());
      if (way != nullptr && !found.ok()) continue;
      way = &each;
      comparison = found;
      if (found.ok()) break;
    }
    match.tensors = TensorsOf(*way);
    match.layout = LayoutOf(*way, use.transposed);
    match.worst = comparison.worst;
    match.bad = comparison.bad;
    match.cut_off = comparison.cut_off;
    match.scales = comparison.scales;
    match.quantiser = QuantiserOf(comparison);
    if (!comparison.ok()) {
      match.difference = Diagnose(constant, use, *way, comparison, originals_);
      Settle(constant, *way, match);
    } else if (way->composite_adds_one) {
      match.reason =
          "holds w, where this family scales by 1 + w; whether the composite "
          "that reads it adds 1 is not known";
    } else {
      match.status = Status::kVerified;
    }
    for (const Rows& rows : way->rows) {
      if (rows.tensor->file != nullptr) DropPages(rows.tensor->data);
    }
  }

  // What may be right after all: numbers that a quantiser moved on purpose.
  static void Settle(const tflite::Constant& constant, const Original& original,
                     WeightMatch& match) {
    match.status = Status::kDiffers;
    if (!ScalesAreOwn(match.scales) || !IsUnexplained(match)) return;
    if (const FarNumber far = FindFarNumber(constant, original); far.row >= 0) {
      match.difference->fault = Fault::kPartly;
      match.difference->text = fmt::format(
          "scales are the checkpoint's own, but row {} column {} is {:.3g} "
          "steps off, where the column's others are {:.2g} on average",
          far.row, far.column, far.steps, far.usual);
      return;
    }
    if (match.scales.far_rows > 0 || match.difference->low_rank) return;
    // Compensation moves numbers all over a matrix, 6 % of them in int8.
    constexpr int64_t kLeastShare = 1000;
    if (match.bad * kLeastShare < match.elements) return;
    match.status = Status::kCalibrated;
    match.quantiser = kGptq;
    match.reason = fmt::format(
        "all {} scales are those of the checkpoint's own rows or blocks, to "
        "the bit; {:.2g} % of the numbers are moved, to {:.2g} steps at most",
        match.scales.scales,
        100 * static_cast<double>(match.bad) /
            static_cast<double>(match.elements),
        match.worst);
    match.difference.reset();
  }

  // Numbers that were moved without a reason of their own.
  static bool IsUnexplained(const WeightMatch& match) {
    const Difference& difference = *match.difference;
    return difference.fault == Fault::kDiffers ||
           difference.fault == Fault::kPartly ||
           (difference.fault == Fault::kRounding && !difference.one_sided);
  }

  void NoLayout(const tflite::Constant& constant, const RoleUse& use,
                WeightMatch& match) const {
    const std::vector<Original> ways = originals_.Of(use.role);
    if (ways.empty()) return NoOriginal(constant, use, match);
    match.reason = fmt::format("has the shape {}, the checkpoint's {}",
                               ShapeToString(constant.shape),
                               ShapeToString(ways[0].rows[0].tensor->shape));
    match.tensors = TensorsOf(ways[0]);
  }

  // A bias of zeros is none; else the checkpoint has nothing to compare with.
  void NoOriginal(const tflite::Constant& constant, const RoleUse& use,
                  WeightMatch& match) const {
    if (use.role.bias && constant.type == ElementType::kFloat32) {
      const StoredReader reader(constant);
      std::vector<float> row(constant.cols());
      bool zero = true;
      for (int64_t r = 0; r < constant.rows() && zero; ++r) {
        reader.Read(r, row.data());
        zero = std::all_of(row.begin(), row.end(),
                           [](float value) { return value == 0; });
      }
      if (zero) {
        match.status = Status::kVerified;
        match.layout = "zeros; the checkpoint has none";
        return;
      }
    }
    match.reason = "the checkpoint has no such tensor";
  }

  void MatchContent(const tflite::Constant& constant,
                    WeightMatch& match) const {
    if (constant.type == ElementType::kUnknown) {
      match.reason = "stored as " + constant.type_name;
      return;
    }
    bool transposed = false;
    const auto role = FindByContent(constant, originals_, &transposed);
    if (!role) {
      match.reason = "what it is for is not known, and no tensor equals it";
      return;
    }
    match.status = Status::kByContent;
    match.role = *role;
    const std::vector<Original> ways = originals_.Plain(*role);
    match.tensors = TensorsOf(ways[0]);
    match.layout = transposed ? "transposed" : "";
    match.worst = Compare(constant, ways[0], transposed).worst;
  }

  // It scales by 1 or adds 0: a converter leaves such an operator out.
  bool ChangesNothing(const WeightRole& role, const TensorView& tensor) const {
    if (!role.bias && !IsNorm(role.part) && role.part != Part::kLayerScalar) {
      return false;
    }
    if (tensor.shape.size() != 1) return false;
    const bool adds =
        role.bias ||
        (IsNorm(role.part) && originals_.checkpoint().config().norm_adds_one);
    std::vector<float> values(static_cast<size_t>(tensor.shape[0]));
    ToFloats(tensor, 0, std::ssize(values), values.data());
    return std::ranges::all_of(
        values, [&](float value) { return value == (adds ? 0.0F : 1.0F); });
  }

  void FindMissing() {
    std::set<std::string> used;
    std::set<Part> tables;
    bool covered = audit_.not_understood.empty();
    for (const WeightMatch& match : audit_.matches) {
      used.insert(match.tensors.begin(), match.tensors.end());
      tables.insert(match.role.part);
      covered &= match.status != Status::kNotCovered;
    }
    std::set<std::string> known;
    for (const auto& [role, rows] : originals_.all()) {
      if (used.count(rows.name) > 0 || !known.insert(rows.name).second) {
        continue;
      }
      MissingTensor missing{rows.name, "", true};
      if (IsTable(role.part) && !tables.contains(role.part)) {
        missing.reason = "the embedding is a file of its own";
      } else if (ChangesNothing(role, *rows.tensor)) {
        missing.reason = "scales by 1 or adds 0, which changes nothing";
      } else if (!IsUsed(role, originals_.checkpoint().config())) {
        missing.reason = std::string(kNotUsed);
      } else if (IsParameter(role.part)) {
        missing.reason = "operators compute with what follows from it";
      } else if (!covered) {
        missing.reason = "may be among what was not covered";
      } else {
        missing.reason = "is nowhere in the file";
        missing.explained = false;
      }
      audit_.missing.push_back(std::move(missing));
    }
    for (const std::string& name : originals_.others()) {
      audit_.missing.push_back(
          {name, "no part of the text model that is known here", true});
    }
  }

  const ModelMap& map_;
  const Originals& originals_;
  std::deque<std::vector<double>> norm_ratios_;
  std::vector<Job> jobs_;
  WeightAudit audit_;
};

}  // namespace

std::string_view NameOf(WeightMatch::Status status) {
  switch (status) {
    case Status::kVerified:
      return "verified";
    case Status::kDiffers:
      return "differs";
    case Status::kCalibrated:
      return "calibrated";
    case Status::kByContent:
      return "by content";
    case Status::kNotCovered:
      break;
  }
  return "not covered";
}

std::string DescribeQuantisers(const WeightAudit& audit) {
  std::vector<std::string> texts;
  int64_t bytes = 0, moved = 0, elements = 0;
  double error = 0, bits = 0, most_bits = 0, coarse = 0, cut_off_by = 0;
  int64_t coarse_elements = 0, cut_off = 0, all = 0;
  bool measured = true;
  for (const WeightMatch& match : audit.matches) {
    if (match.scales.scales == 0) continue;
    all += match.elements;
    if (match.quantiser == kGptq) {
      bytes += match.bytes;
      moved += match.scales.moved;
      elements += match.elements;
      measured &= match.activation_error.has_value();
      error = std::max(error, match.activation_error.value_or(0));
    }
    cut_off += match.cut_off;
    cut_off_by = std::max(cut_off_by, match.scales.cut_off_by);
    const double coarser = CoarserBy(match.scales);
    if (coarser < kCoarser) continue;
    const auto count = static_cast<double>(match.elements);
    coarse_elements += match.elements;
    bits += match.scales.bits * count;
    most_bits += match.scales.most_bits * count;
    coarse += coarser * count;
  }
  if (bytes > 0) {
    std::string text = fmt::format(
        "{} bytes by GPTQ, error-compensated with scales that are this "
        "checkpoint's own to the bit, {:.2g} % of the numbers moved",
        bytes, Percentage(moved, elements));
    if (measured) {
      text += fmt::format(
          ": on real inputs at most {:.2g} times rounding's "
          "error",
          error);
    }
    texts.push_back(std::move(text));
  }
  if (coarse_elements > 0) {
    const auto count = static_cast<double>(coarse_elements);
    texts.push_back(fmt::format(
        "{:.3g} % of the numbers use {:.1f} of {:.0f} bits: rounding {:.2g} "
        "times as coarse as needed",
        Percentage(coarse_elements, all), bits / count,
        std::ceil(most_bits / count), coarse / count));
  }
  if (cut_off > 0) {
    texts.push_back(fmt::format("{:.2g} % are cut off, by {:.3g} steps at most",
                                Percentage(cut_off, all), cut_off_by));
  }
  return fmt::format("{}", fmt::join(texts, "; "));
}

std::string DescribeProof(const WeightAudit& audit) {
  std::string text = fmt::format(
      "{} of {} bytes are the checkpoint's (worst {:.4f} steps of rounding)",
      audit.verified_bytes, audit.weight_bytes, audit.worst);
  const std::string quantisers = DescribeQuantisers(audit);
  return quantisers.empty() ? text : text + "; " + quantisers;
}

void SettleCalibrated(std::span<const ActivationError> errors,
                      WeightAudit& audit) {
  for (WeightMatch& match : audit.matches) {
    if (match.status != Status::kCalibrated || match.input != 0) continue;
    const auto error = std::find_if(
        errors.begin(), errors.end(), [&](const ActivationError& e) {
          return e.constant == match.constant && e.samples >= kFewInputs;
        });
    if (error == errors.end()) continue;
    match.reason += fmt::format(
        "; on {} real inputs its error is {:.2g} times that of rounding, "
        "{:.2g} "
        "times in row {}",
        error->samples, std::sqrt(error->ratio), std::sqrt(error->worst_ratio),
        error->worst_row);
    match.activation_error = std::sqrt(error->ratio);
    if (error->ratio <= kMostError && error->worst_ratio <= kMostRowError) {
      match.status = Status::kVerified;
    } else if (error->ratio > kFarError || error->worst_ratio > kFarRowError) {
      match.status = Status::kDiffers;
      match.quantiser.clear();
      match.difference.emplace();
      match.difference->fault = Fault::kPartly;
      match.difference->text = std::exchange(match.reason, "");
    }
  }
  Count(audit);
}

WeightAudit AuditWeights(const ModelMap& map, int num_threads) {
  return Auditor(map).Audit(num_threads);
}

}  // namespace verify_tflite
