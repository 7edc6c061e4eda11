#include "report/json_schema.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "report/json_value.h"
#include "result/fields.h"

namespace verify_tflite {
namespace {

// The name of a struct among the schema's definitions.
template <typename T>
constexpr const char* kName = nullptr;
template <>
constexpr const char* kName<LogitDifference> = "comparison";
template <>
constexpr const char* kName<Position> = "position";
template <>
constexpr const char* kName<Check> = "check";
template <>
constexpr const char* kName<Distribution> = "distribution";
template <>
constexpr const char* kName<Aggregate> = "aggregate";
template <>
constexpr const char* kName<Bucket> = "bucket";
template <>
constexpr const char* kName<Passage> = "passage";
template <>
constexpr const char* kName<Evaluation> = "evaluation";
template <>
constexpr const char* kName<PromptResult> = "prompt";
template <>
constexpr const char* kName<Finding> = "finding";
template <>
constexpr const char* kName<TensorFigures> = "tensor";
template <>
constexpr const char* kName<LayerKv> = "layer";
template <>
constexpr const char* kName<KvProfile> = "kv_profile";
template <>
constexpr const char* kName<Hypothesis> = "hypothesis";
template <>
constexpr const char* kName<StageAgreement> = "stage";
template <>
constexpr const char* kName<StructureFault> = "fault";
template <>
constexpr const char* kName<SignatureStructure> = "signature";
template <>
constexpr const char* kName<Structure> = "structure";
template <>
constexpr const char* kName<WeightsCost> = "weights_cost";
template <>
constexpr const char* kName<Limit> = "limit";
template <>
constexpr const char* kName<PrefillInfo> = "prefill";
template <>
constexpr const char* kName<ModelInfo> = "model";
template <>
constexpr const char* kName<ModelConfig> = "checkpoint";
template <>
constexpr const char* kName<Settings> = "settings";
template <>
constexpr const char* kName<Limits> = "limits";
template <>
constexpr const char* kName<Timing> = "timing";
template <>
constexpr const char* kName<Environment> = "environment";
template <>
constexpr const char* kName<Verification> = "result";

OrderedJson ListOf(OrderedJson items) {
  return {{"type", "array"}, {"items", items}};
}

OrderedJson TwoOf(OrderedJson items) {
  OrderedJson list = ListOf(std::move(items));
  list["minItems"] = list["maxItems"] = 2;
  return list;
}

// A visitor of result/fields.h. All describe into the same `definitions`.
class Describer {
 public:
  explicit Describer(OrderedJson& definitions) : definitions_(definitions) {}

  template <typename T>
  void operator()(const Field& field, const T& value) {
    Add(field, Type(field, value), field.newer() || field.left_out());
  }
  template <typename T>
  void Derived(const Field& field, const T& value) {
    (*this)(field, value);
  }
  void Choice(const Field& field, bool, const char* no, const char* yes) {
    Add(field, {{"enum", {no, yes}}}, field.newer());
  }
  template <typename Map>
  void Pairs(const Field& field, const Map&, const char* key,
             const char* value) {
    typename Map::value_type::second_type second = {};
    OrderedJson item = {
        {"type", "object"},
        {"properties",
         {{key, Type(field, std::string())}, {value, Type(field, second)}}},
        {"required", {key, value}}};
    Add(field, ListOf(std::move(item)), false);
  }
  bool When(bool) {
    optional_ = true;
    return true;
  }
  void Require(std::string_view, bool, std::string_view) {}

  OrderedJson Object() const {
    return {{"type", "object"},
            {"properties", properties_},
            {"required", required_}};
  }

 private:
  void Add(const Field& field, OrderedJson type, bool may_lack) {
    const std::string key(field.key());
    if (!field.meaning().empty()) {
      type["description"] = std::string(field.meaning());
    }
    properties_[key] = std::move(type);
    if (!may_lack && !optional_) required_.push_back(key);
  }

  static OrderedJson Whole(int64_t low) {
    return {{"type", "integer"}, {"minimum", low}};
  }
  OrderedJson Type(const Field&, bool) { return {{"type", "boolean"}}; }
  OrderedJson Type(const Field& field, int64_t) { return Whole(field.low()); }
  OrderedJson Type(const Field& field, size_t) { return Whole(field.low()); }
  OrderedJson Type(const Field& field, int32_t) {
    return field.any() ? OrderedJson{{"type", "integer"}} : Whole(field.low());
  }
  OrderedJson Type(const Field& field, double) {
    if (field.real()) return {{"type", "number"}};
    return {{"type", {"number", "null"}}};
  }
  OrderedJson Type(const Field&, const std::string&) {
    return {{"type", "string"}};
  }
  // Later versions may have more.
  OrderedJson Type(const Field&, FindingId) { return {{"type", "string"}}; }
  OrderedJson Type(const Field&, Recipe) {
    OrderedJson names = OrderedJson::array();
    for (const Recipe recipe : kAllRecipes) {
      names.push_back(std::string(NameOf(recipe)));
    }
    return {{"enum", names}};
  }
  OrderedJson Type(const Field&, Outcome) {
    OrderedJson names = OrderedJson::array();
    for (const Outcome outcome : kAllOutcomes) {
      names.push_back(std::string(NameOf(outcome)));
    }
    definitions_["outcome"] = {{"enum", names}};
    return Reference("outcome");
  }
  OrderedJson Type(const Field&, const Interval&) {
    definitions_["interval"] = TwoOf({{"type", {"number", "null"}}});
    return Reference("interval");
  }
  OrderedJson Type(const Field& field, const std::pair<int64_t, int64_t>&) {
    return TwoOf(Whole(field.low()));
  }
  template <typename T>
  OrderedJson Type(const Field& field, const std::vector<T>&) {
    return ListOf(Type(field, T()));
  }
  template <typename T>
  OrderedJson Type(const Field& field, const std::optional<T>&) {
    OrderedJson type = Type(field, T());
    if (field.left_out()) return type;
    if (type.contains("$ref")) {
      return {{"anyOf", {type, {{"type", "null"}}}}};
    }
    if (type["type"].is_string()) type["type"] = {type["type"], "null"};
    return type;
  }
  template <typename T>
  OrderedJson Type(const Field&, const T&) {
    Describe<T>(definitions_);
    return Reference(kName<T>);
  }

  static OrderedJson Reference(const std::string& name) {
    return {{"$ref", "#/$defs/" + name}};
  }

  template <typename T>
  static void Describe(OrderedJson& definitions) {
    if (definitions.contains(kName<T>)) return;
    Describer describer(definitions);
    const T value = {};
    VisitFields(describer, value);
    definitions[kName<T>] = describer.Object();
  }

  OrderedJson& definitions_;
  OrderedJson properties_ = OrderedJson::object();
  OrderedJson required_ = OrderedJson::array();
  bool optional_ = false;
};

}  // namespace

std::string JsonSchema() {
  OrderedJson definitions = OrderedJson::object();
  Describer describer(definitions);
  const Verification result;
  VisitFields(describer, result);
  OrderedJson root = describer.Object();
  OrderedJson properties = {
      {"schema_version",
       {{"const", kJsonSchemaVersion},
        {"description", "rises when a field changes its meaning or goes"}}}};
  properties.update(root["properties"]);
  OrderedJson required = {"schema_version"};
  required.insert(required.end(), root["required"].begin(),
                  root["required"].end());
  const OrderedJson schema = {
      {"$schema", "https://json-schema.org/draft/2020-12/schema"},
      {"title", "The result file of verify_tflite (--json)"},
      {"description", "More in words: json_format.md"},
      {"type", "object"},
      {"properties", properties},
      {"required", required},
      {"$defs", definitions}};
  return schema.dump(1) + "\n";
}

}  // namespace verify_tflite
