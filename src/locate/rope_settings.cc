#include "locate/rope_settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <utility>

#include "reference/reference.h"

namespace verify_tflite {
namespace {

// Below this share of what config.json's angles leave, and below what the
// rounding of angles to float32 leaves, nothing more can be told apart.
constexpr double kNothing = 1e-5;
constexpr double kRounding = 1e-10;

struct Setting {
  std::string name;
  FindingId id = {};
  double expected;
  double low, high;
  std::function<void(ModelConfig&, double)> set;
  bool whole = false;  // a number of positions
};

// transformers computes the attention factor from YaRN's factor where
// config.json names none.
double YarnAttention(double factor) { return 0.1 * std::log(factor) + 1; }

std::vector<Setting> SettingsOf(const ModelConfig& config) {
  std::vector<Setting> settings;
  const auto offer =
      [&](std::string name, double expected, double low, double high,
          std::function<void(ModelConfig&, double)> set, bool whole = false) {
        settings.push_back({std::move(name), FindingId::kRopeScaling, expected,
                            low, high, std::move(set), whole});
      };
  if (const auto& s = config.llama3_rope) {
    offer("factor", s->factor, 1, 256,
          [](ModelConfig& c, double x) { c.llama3_rope->factor = x; });
    offer("low_freq_factor", s->low_freq_factor, s->high_freq_factor / 1000,
          s->high_freq_factor * 0.999,
          [](ModelConfig& c, double x) { c.llama3_rope->low_freq_factor = x; });
    offer("high_freq_factor", s->high_freq_factor, s->low_freq_factor * 1.001,
          s->low_freq_factor * 1000, [](ModelConfig& c, double x) {
            c.llama3_rope->high_freq_factor = x;
          });
    offer(
        "original_max_position_embeddings",
        static_cast<double>(s->original_max_position_embeddings), 16, 1 << 20,
        [](ModelConfig& c, double x) {
          c.llama3_rope->original_max_position_embeddings = std::llround(x);
        },
        true);
  }
  if (const auto& s = config.yarn_rope) {
    offer("factor", s->factor, 1, 256,
          [](ModelConfig& c, double x) { c.yarn_rope->factor = x; });
    const double named = YarnAttention(s->factor);
    if (std::abs(config.rope_attention_factor / named - 1) < 1e-9) {
      offer("factor and the attention factor that follows from it", s->factor,
            1, 256, [](ModelConfig& c, double x) {
              c.yarn_rope->factor = x;
              c.rope_attention_factor = YarnAttention(x);
            });
    }
    offer("beta_fast", s->beta_fast, 0.25, 1024,
          [](ModelConfig& c, double x) { c.yarn_rope->beta_fast = x; });
    offer("beta_slow", s->beta_slow, 1.0 / 64, 64,
          [](ModelConfig& c, double x) { c.yarn_rope->beta_slow = x; });
    offer(
        "original_max_position_embeddings",
        static_cast<double>(s->original_max_position_embeddings), 16, 1 << 20,
        [](ModelConfig& c, double x) {
          c.yarn_rope->original_max_position_embeddings = std::llround(x);
        },
        true);
  }
  if (config.rope_linear_factor != 1) {
    offer("factor", config.rope_linear_factor, 1.0 / 64, 256,
          [](ModelConfig& c, double x) { c.rope_linear_factor = x; });
  }
  return settings;
}

double Rounded(double value, int digits) {
  return std::stod(fmt::format("{:.{}g}", value, digits));
}

class RopeExplainer {
 public:
  RopeExplainer(const RopeSample& sample, const ModelConfig& config, bool local)
      : sample_(sample),
        config_(config),
        local_(local),
        expected_(Reference::RopeFrequenciesOf(config, local)),
        now_(RopeResidual(sample, expected_)) {}

  std::vector<RopeExplanation> Run() {
    Base();
    if (!local_) {
      for (const Setting& setting : SettingsOf(config_)) Fit(setting);
      Truncation();
      LongFactors();
      AttentionFactor();
    }
    // The best, then the roundest of those as good.
    double best = std::numeric_limits<double>::infinity();
    for (const Fitted& f : fitted_) best = std::min(best, f.text.residual);
    std::stable_sort(
        fitted_.begin(), fitted_.end(), [&](const Fitted& a, const Fitted& b) {
          const auto rank = [&](const Fitted& f) {
            return ExplainsAsWell(f.text.residual, best, now_) ? f.digits : 100;
          };
          return rank(a) < rank(b);
        });
    std::vector<RopeExplanation> result;
    for (Fitted& f : fitted_) result.push_back(std::move(f.text));
    result.push_back(Free());
    return result;
  }

 private:
  struct Fitted {
    RopeExplanation text;
    int digits = 0;  // of its value
  };

  RopeModel With(const std::function<void(ModelConfig&)>& change) const {
    ModelConfig changed = config_;
    change(changed);
    return {
        Reference::RopeFrequenciesOf(changed, local_),
        local_ ? 1
               : changed.rope_attention_factor / config_.rope_attention_factor};
  }

  // The simplest value near the fitted one that explains as much: one with few
  // digits, or a power of two. Settings in which the formula is a step function
  // have a range of values.
  std::pair<RopeFit, int> Simplest(
      const RopeFit& fit, const std::function<RopeModel(double)>& model,
      const Setting& setting) const {
    const auto good = [&](RopeFit& value) {
      if (value.value < setting.low || value.value > setting.high) return false;
      if (std::abs(value.value / fit.value - 1) > 0.5) return false;
      value.residual = RopeResidual(sample_, model(value.value));
      return value.residual <= 1.01 * fit.residual + kRounding;
    };
    RopeFit power = {std::exp2(std::round(std::log2(fit.value)))};
    if (power.value >= 1 && good(power)) return {power, 1};
    for (int digits = 1; digits <= 5; ++digits) {
      RopeFit value = {Rounded(fit.value, digits)};
      if (good(value)) return {value, digits};
    }
    return {fit, 6};
  }

  // From a value near it: the residual is the same between two whole numbers,
  // which misleads a search.
  RopeFit BestWhole(const RopeFit& near,
                    const std::function<RopeModel(double)>& model) const {
    const auto at = [&](double value) {
      return RopeFit{value, RopeResidual(sample_, model(value))};
    };
    RopeFit best = at(std::round(near.value));
    for (const double step : {-1.0, 1.0}) {
      for (RopeFit next = at(best.value + step); next.residual < best.residual;
           next = at(best.value + step)) {
        best = next;
      }
    }
    return best;
  }

  void Fit(const Setting& setting) {
    const auto model = [&](double x) {
      return With([&](ModelConfig& c) { setting.set(c, x); });
    };
    RopeFit best = FitRopeParameter(sample_, setting.low, setting.high, model);
    if (setting.whole) best = BestWhole(best, model);
    const auto [fit, digits] = Simplest(best, model, setting);
    fitted_.push_back(
        {{fit.residual, setting.id,
          fmt::format("RoPE is scaled with {} {:.6g}, where config.json says "
                      "{:.10g}",
                      setting.name, fit.value, setting.expected)},
         digits});
  }

  void Base() {
    const double theta = local_ ? config_.local_rope_theta : config_.rope_theta;
    const Setting setting = {.name = "base",
                             .id = FindingId::kRopeBase,
                             .expected = theta,
                             .low = 1e2,
                             .high = 1e9,
                             .set = [this](ModelConfig& c, double x) {
                               (local_ ? c.local_rope_theta : c.rope_theta) = x;
                             }};
    const auto model = [&](double x) {
      return With([&](ModelConfig& c) { setting.set(c, x); });
    };
    RopeFit fit = FitRopeParameter(sample_, setting.low, setting.high, model);
    const auto [simple, digits] = Simplest(fit, model, setting);
    fitted_.push_back(
        {{simple.residual, setting.id,
          fmt::format("RoPE's base is {:.6g}, where config.json says {:g}",
                      simple.value, theta)},
         digits});
  }

  void Truncation() {
    if (!config_.yarn_rope) return;
    const RopeModel model = With(
        [](ModelConfig& c) { c.yarn_rope->truncate = !c.yarn_rope->truncate; });
    if (model.frequencies == expected_) return;
    fitted_.push_back(
        {{RopeResidual(sample_, model), FindingId::kRopeScaling,
          fmt::format("RoPE is scaled with truncate {}, where config.json says "
                      "{}",
                      !config_.yarn_rope->truncate,
                      config_.yarn_rope->truncate)},
         0});
  }

  void LongFactors() {
    if (!config_.long_rope) return;
    const RopeModel model = With([](ModelConfig& c) {
      c.long_rope->short_factor = c.long_rope->long_factor;
    });
    fitted_.push_back(
        {{RopeResidual(sample_, model), FindingId::kRopeScaling,
          "frequencies are divided by longrope's long factors, "
          "where config.json has short factors for texts as short "
          "as this"},
         0});
  }

  // Of YaRN and longrope: cosine and sine are multiplied by it, and so are
  // keys, at the first position, too.
  void AttentionFactor() {
    const double usual = config_.rope_attention_factor;
    RopeFit best = FitRopeAmplitude(sample_, expected_);
    if (best.value <= 0) return;
    best.value *= usual;
    Setting setting;
    setting.low = best.value / 2;
    setting.high = best.value * 2;
    const auto model = [&](double x) {
      return RopeModel{expected_, x / usual};
    };
    const RopeFit fit = Simplest(best, model, setting).first;
    const bool scaled = config_.yarn_rope || config_.long_rope;
    const double factor = fit.value;
    fitted_.push_back(
        {{fit.residual,
          scaled ? FindingId::kRopeScaling : FindingId::kAttentionScale,
          scaled ? fmt::format("RoPE's attention factor is {:.6g}, where "
                               "config.json has {:.6g}",
                               factor, config_.rope_attention_factor)
                 : fmt::format(
                       "keys are {:.6g} times as large as the checkpoint's",
                       factor)},
         0});
  }

  RopeExplanation Free() const {
    const FreeRopeFit fit = FitEachRopeFrequency(sample_, expected_);
    size_t largest = 0;
    double most = 0;
    for (size_t i = 0; i < expected_.size(); ++i) {
      const double off = std::abs(std::log(
          std::max(fit.frequencies[i], expected_[i] / 64) / expected_[i]));
      if (off > most) {
        most = off;
        largest = i;
      }
    }
    const double found = fit.frequencies[largest];
    const std::string figures =
        config_.long_rope && !local_ && found > 0
            ? fmt::format(
                  "short_factor[{}] is {:.4g}, where config.json says {:.4g}",
                  largest,
                  config_.long_rope->short_factor[largest] *
                      expected_[largest] / found,
                  config_.long_rope->short_factor[largest])
            : fmt::format(
                  "frequency {} of {} is {:.4g}, where config.json has "
                  "{:.4g}",
                  largest, expected_.size(), found, expected_[largest]);
    return {fit.residual, FindingId::kRopeScaling,
            fmt::format("RoPE's frequencies are others than config.json's: {}",
                        figures)};
  }

  const RopeSample& sample_;
  const ModelConfig& config_;
  bool local_;
  std::vector<double> expected_;
  double now_;
  std::vector<Fitted> fitted_;
};

}  // namespace

bool ExplainsAsWell(double residual, double than, double now) {
  const double nothing = std::max(kRounding, kNothing * now);
  return std::max(residual, nothing) <= 2 * std::max(than, nothing);
}

std::vector<RopeExplanation> ExplainRope(const RopeSample& sample,
                                         const ModelConfig& config,
                                         bool local) {
  return RopeExplainer(sample, config, local).Run();
}

}  // namespace verify_tflite
