#include "report/inspect.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/utf8.h"
#include "report/format.h"

namespace verify_tflite {
namespace {

constexpr size_t kColumns = 100;
// The longest text shown of a template, a metadata value and so on.
constexpr size_t kMaxShown = 70;

// Quoted, and cut where long.
std::string Show(std::string_view text) {
  if (text.size() <= kMaxShown) return Quote(text);
  return Quote(ReplaceInvalidUtf8(text.substr(0, kMaxShown))) + "…";
}

// A name from the file that needs no quotes where it is plain.
std::string Plain(std::string_view text) {
  const bool plain =
      !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
        return c > ' ' && c <= '~' && c != '"';
      });
  return plain ? std::string(text) : Quote(text);
}

// A path, whole; in quotes where it needs them.
std::string Path(std::string_view path) {
  const std::string quoted = Quote(path);
  return quoted == fmt::format("\"{}\"", path) ? std::string(path) : quoted;
}

std::string Size(int64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (bytes >= 1'000'000'000) return fmt::format("{:.2f} GB", value / 1e9);
  if (bytes >= 1'000'000) return fmt::format("{:.1f} MB", value / 1e6);
  if (bytes >= 1000) return fmt::format("{:.1f} kB", value / 1e3);
  return fmt::format("{} B", bytes);
}

std::string Count(int64_t count) {
  const auto value = static_cast<double>(count);
  if (count >= 1'000'000'000) return fmt::format("{:.2f} B", value / 1e9);
  if (count >= 1'000'000) return fmt::format("{:.1f} M", value / 1e6);
  return fmt::format("{}", count);
}

// Words after a heading, broken at kColumns.
void Wrapped(std::string& out, std::string_view heading,
             const std::vector<std::string>& words,
             std::string_view separator = ",") {
  const std::string indent(heading.size(), ' ');
  std::string line(heading);
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string word =
        words[i] + std::string(i + 1 < words.size() ? separator : "");
    if (line.size() + 1 + word.size() > kColumns && line != indent) {
      Line(out, "{}", line);
      line = indent;
    }
    line += " " + word;
  }
  Line(out, "{}", line);
}

// A sentence after a heading.
void Sentence(std::string& out, std::string_view heading,
              std::string_view text) {
  std::vector<std::string> words;
  for (std::string_view rest = text; !rest.empty();) {
    const size_t end = std::min(rest.find_first_of(" \n"), rest.size());
    if (end > 0) words.emplace_back(rest.substr(0, end));
    rest.remove_prefix(std::min(rest.size(), end + 1));
  }
  Wrapped(out, heading, words, "");
}

// A value of config.json without its quotes and braces: "factor 8.0,
// rope_type llama3".
std::string Readable(const nlohmann::ordered_json& value) {
  if (value.is_string()) return Plain(value.get<std::string>());
  if (value.is_object() && !value.empty()) {
    std::vector<std::string> parts;
    for (const auto& [key, part] : value.items()) {
      parts.push_back(fmt::format("{} {}", Plain(key), Readable(part)));
    }
    return fmt::format("{}", fmt::join(parts, ", "));
  }
  if (value.is_array()) {
    std::vector<std::string> parts;
    for (const auto& part : value) parts.push_back(Readable(part));
    return fmt::format("[{}]", fmt::join(parts, ", "));
  }
  return value.dump();
}

std::string TokenText(const BundleToken& token) {
  if (token.ids.empty()) return Show(token.text);
  return fmt::format("{}", fmt::join(token.ids, " "));
}

// "kv_cache_k_0" -> "kv_cache_k_" and 0.
std::pair<std::string_view, std::string_view> SplitNumber(
    std::string_view name) {
  const size_t end = name.find_last_not_of("0123456789");
  const size_t size = end == std::string_view::npos ? 0 : end + 1;
  return {name.substr(0, size), name.substr(size)};
}

// "scale 0.0123, zero point -3"; of several, from the smallest to the largest.
// Empty where a tensor has no scale.
std::string Scales(const std::vector<const TensorSpec*>& tensors) {
  std::vector<float> scales;
  std::vector<int64_t> zero_points;
  for (const TensorSpec* t : tensors) {
    if (!t->scale) return "";
    scales.push_back(t->scale->scale);
    zero_points.push_back(t->scale->zero_point);
  }
  const auto [low, high] = std::ranges::minmax(scales);
  const auto [first, last] = std::ranges::minmax(zero_points);
  return fmt::format("scale {}, zero point {}",
                     low == high ? fmt::format("{:.6g}", low)
                                 : fmt::format("{:.6g} to {:.6g}", low, high),
                     first == last ? fmt::format("{}", first)
                                   : fmt::format("{} to {}", first, last));
}

void AppendTensors(const char* direction,
                   const std::vector<TensorSpec>& tensors, std::string& out) {
  // Tensors that differ by their number alone, and by their scales, take one
  // line.
  using Group = std::vector<const TensorSpec*>;
  std::vector<Group> groups;
  for (const TensorSpec& t : tensors) {
    const auto same = [&](const Group& g) {
      const TensorSpec& first = *g.front();
      return SplitNumber(t.name).first == SplitNumber(first.name).first &&
             !SplitNumber(t.name).second.empty() &&
             !SplitNumber(first.name).second.empty() && t.type == first.type &&
             t.dims == first.dims &&
             t.scale.has_value() == first.scale.has_value();
    };
    const auto known = std::find_if(groups.begin(), groups.end(), same);
    if (known == groups.end()) {
      groups.push_back({&t});
    } else {
      known->push_back(&t);
    }
  }
  for (const Group& g : groups) {
    std::string name = Plain(g.front()->name);
    if (g.size() > 1) {
      name = fmt::format("{}… ({} tensors)", name, g.size());
    }
    const std::string scales = Scales(g);
    Line(out, "      {:<4} {:<40} {:<8} [{}]", direction, name,
         NameOf(g.front()->type), fmt::join(g.front()->dims, ", "));
    if (!scales.empty()) Line(out, "             {}", scales);
  }
}

void AppendSignatures(const tflite::Summary& file, std::string& out) {
  Line(out, "  Signatures");
  if (file.signatures.empty()) Line(out, "    none");
  for (const SignatureSpec& s : file.signatures) {
    Line(out, "    {}", Plain(s.name));
    AppendTensors("in", s.inputs, out);
    AppendTensors("out", s.outputs, out);
  }
}

void AppendWeights(const tflite::Summary& file, std::string& out) {
  int64_t elements = 0;
  int64_t bytes = 0;
  for (const auto& [how, w] : file.weights) {
    elements += w.elements;
    bytes += w.bytes;
  }
  Line(out, "  Weights      {}, {} numbers", Size(bytes), Count(elements));
  std::vector<std::pair<std::string, tflite::Weights>> rows(
      file.weights.begin(), file.weights.end());
  std::stable_sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) {
    return a.second.elements > b.second.elements;
  });
  for (const auto& [how, w] : rows) {
    Line(out, "    {:<30} {:>6} tensors {:>10} {:>6.2f} % of numbers", how,
         w.tensors, Size(w.bytes),
         elements == 0 ? 0.0
                       : 100.0 * static_cast<double>(w.elements) /
                             static_cast<double>(elements));
  }
}

void AppendHistogram(const char* heading,
                     const std::map<std::string, int64_t>& counts,
                     std::string& out) {
  if (counts.empty()) return;
  std::vector<std::pair<std::string, int64_t>> rows(counts.begin(),
                                                    counts.end());
  std::stable_sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) {
    return a.second > b.second;
  });
  std::vector<std::string> words;
  for (const auto& [name, count] : rows) {
    words.push_back(fmt::format("{} {}", Plain(name), count));
  }
  Wrapped(out, heading, words);
}

// Decode's first input of which `is` holds.
template <typename Is>
const TensorSpec* FindDecodeInput(const tflite::Summary& file, const Is& is) {
  for (const SignatureSpec& s : file.signatures) {
    if (s.name != "decode") continue;
    const auto found = std::ranges::find_if(
        s.inputs, [&](const TensorSpec& t) { return is(t.name); });
    if (found != s.inputs.end()) return &*found;
  }
  return nullptr;
}

// Shape with the axis of positions, where only one can be.
std::string Layout(const TensorSpec& cache, int64_t kv_length) {
  std::vector<std::string> parts;
  const bool one =
      std::count(cache.dims.begin(), cache.dims.end(), kv_length) == 1;
  for (const int64_t dim : cache.dims) {
    parts.push_back(one && dim == kv_length ? fmt::format("{} positions", dim)
                                            : fmt::format("{}", dim));
  }
  return fmt::format("{} [{}]", NameOf(cache.type), fmt::join(parts, ", "));
}

std::string Layers(const InspectedModel& model) {
  const int64_t cached = model.llm->num_layers;
  if (const int64_t states = model.llm->num_states; states > 0) {
    return fmt::format("{} layers ({} with KV caches, {} with another state)",
                       cached + states, cached, states);
  }
  if (model.layers <= cached) return fmt::format("{} layers", cached);
  return fmt::format("{} layers ({} with KV caches; the others take theirs)",
                     model.layers, cached);
}

void AppendLlm(const InspectedModel& model, std::string& out) {
  if (!model.unsupported.empty()) {
    Sentence(out, "  Verifiable   no:", model.unsupported);
    return;
  }
  if (!model.llm) return;
  const ModelInfo& info = *model.llm;
  std::vector<std::string> prefills;
  for (const PrefillInfo& p : info.prefills) {
    prefills.push_back(fmt::format(
        "{}{}", p.length,
        p.logit_rows == 0 ? ""
                          : fmt::format(" ({} logit rows)", p.logit_rows)));
  }
  Sentence(out, "  Verifiable   yes:",
           fmt::format("{}, {}, vocabulary {}",
                       info.recipe_detail.empty() ? NameOf(info.recipe)
                                                  : info.recipe_detail,
                       Layers(model), info.vocab_size));
  Line(out, "    prefill    {}", fmt::join(prefills, ", "));
  Line(out, "    KV cache   {} positions, {}, {}", info.kv_length, info.kv_type,
       Size(info.kv_bytes));
  for (const std::string& embedder :
       {info.embedder_path, info.per_layer_embedder_path}) {
    if (!embedder.empty()) Line(out, "    embedder   {}", Path(embedder));
  }
  for (const std::string& note : info.notes) {
    Sentence(out, "    note      ", note);
  }
  if (!model.file) return;
  for (const KvPart part :
       {KvPart::kKeys, KvPart::kValues, KvPart::kConvState}) {
    const auto* cache =
        FindDecodeInput(*model.file, [&](const std::string& name) {
          const auto kv = ParseKvName(name);
          return kv && kv->part == part;
        });
    if (cache != nullptr) {
      Line(out, "      {:<16} {}", Plain(cache->name),
           Layout(*cache, info.kv_length));
    }
  }
  const TensorSpec* mask = nullptr;
  for (const char* prefix : {"mask", "attn_mask"}) {
    if (mask != nullptr) break;
    mask = FindDecodeInput(*model.file, [&](const std::string& name) {
      return name.starts_with(prefix);
    });
  }
  if (mask != nullptr) {
    Line(out, "    mask       input {} {} [{}]", Plain(mask->name),
         NameOf(mask->type), fmt::join(mask->dims, ", "));
  } else {
    Line(out, "    mask       made by the graph");
  }
  if (!info.ignored_signatures.empty()) {
    std::vector<std::string> names;
    for (const std::string& name : info.ignored_signatures) {
      names.push_back(Plain(name));
    }
    Wrapped(out, "    not used  ", names);
  }
}

void AppendEmbeddings(const InspectedModel& model, std::string& out) {
  for (const InspectedEmbedding& e : model.embeddings) {
    Line(out, "  Embeds       {} token{}, [{}] numbers each, by {}", e.tokens,
         e.tokens == 1 ? "" : "s", fmt::join(e.shape, ", "),
         Plain(e.signature));
  }
}

void AppendModel(const InspectedModel& model, std::string& out) {
  Line(out, "");
  Line(out, "Model{}{}", model.model_type.empty() ? "" : " ",
       model.model_type.empty() ? "" : Plain(model.model_type));
  if (!model.damage.empty()) Sentence(out, "  Damaged     ", model.damage);
  AppendLlm(model, out);
  AppendEmbeddings(model, out);
  if (!model.file) return;
  const tflite::Summary& file = *model.file;
  if (!file.description.empty()) {
    Line(out, "  Description  {}", Show(file.description));
  }
  AppendWeights(file, out);
  AppendSignatures(file, out);
  Line(out, "  Graph        {} subgraphs", file.subgraphs);
  AppendHistogram("    operators ", file.ops, out);
  AppendHistogram("    composites", file.composites, out);
  if (file.metadata.empty()) return;
  Line(out, "  Metadata");
  for (const auto& [name, bytes] : file.metadata) {
    Line(out, "    {:<40} {:>10}", Plain(name), Size(bytes));
  }
}

void AppendAffixes(const char* role,
                   const std::optional<PromptAffixes>& affixes,
                   std::string& out) {
  if (!affixes) return;
  Line(out, "    {:<14} {} … {}", role, Show(affixes->prefix),
       Show(affixes->suffix));
}

void AppendLlmMetadata(const LlmMetadata& m, std::string& out) {
  Line(out, "  LLM metadata");
  if (!m.model_type.empty()) Line(out, "    model type     {}", m.model_type);
  Line(out, "    start token    {}",
       m.start_token ? TokenText(*m.start_token) : "none");
  std::vector<std::string> stops;
  for (const BundleToken& token : m.stop_tokens) {
    stops.push_back(TokenText(token));
  }
  if (stops.empty()) stops.push_back("none");
  Wrapped(out, "    stop tokens   ", stops);
  if (m.pad_token) {
    Line(out, "    pad token      {}", TokenText(*m.pad_token));
  }
  if (m.max_num_tokens > 0) {
    Line(out, "    max tokens     {}", m.max_num_tokens);
  }
  if (m.jinja_template) {
    Line(out, "    chat template  {} bytes", m.jinja_template->size());
    Line(out, "      {}", Show(*m.jinja_template));
  }
  AppendAffixes("user", m.user, out);
  AppendAffixes("model", m.model, out);
  AppendAffixes("system", m.system, out);
  AppendAffixes("prompt", m.single_turn, out);
  if (!m.session_prefix.empty()) {
    Line(out, "    session begins {}", Show(m.session_prefix));
  }
  if (m.bytes_to_unicode) {
    Line(out, "    text           in GPT-2's alphabet, one character a byte");
  }
}

void AppendExecutorMetadata(const ExecutorMetadata& m, std::string& out) {
  Line(out, "  Executor metadata");
  std::map<std::string, int> types;
  for (const StateBuffer& buffer : m.state_buffers) ++types[buffer.type];
  std::vector<std::string> states;
  for (const auto& [type, count] : types) {
    states.push_back(fmt::format("{} {}", count,
                                 type.empty() ? "unspecified" : type));
  }
  if (states.empty()) states.push_back("none");
  Wrapped(out, "    state buffers ", states);
  if (!m.mask.empty()) Line(out, "    mask           {}", m.mask);
  if (!m.local_mask.empty()) {
    Line(out, "    local mask     {}", m.local_mask);
  }
  if (m.sliding_window_size > 0) {
    Line(out, "    sliding window {}", m.sliding_window_size);
  }
  if (m.max_history_size > 0) {
    Line(out, "    history        {}", m.max_history_size);
  }
}

void AppendBundle(const InspectedBundle& bundle, std::string& out) {
  Line(out, "");
  Line(out, "Bundle {}",
       bundle.version.empty() ? "in a zip archive" : bundle.version);
  for (const auto& [key, value] : bundle.system_metadata) {
    Line(out, "  {:<24} {}", Plain(key), Show(value));
  }
  Line(out, "  Sections");
  for (size_t i = 0; i < bundle.sections.size(); ++i) {
    const InspectedSection& s = bundle.sections[i];
    Line(out, "    {:<3} {:<18} {:>10}  from byte {}", i, s.type,
         Size(static_cast<int64_t>(s.end - s.begin)), s.begin);
    for (const auto& [key, value] : s.items) {
      Line(out, "        {} = {}", Plain(key), Show(value));
    }
  }
  if (bundle.llm_metadata) AppendLlmMetadata(*bundle.llm_metadata, out);
  if (bundle.executor_metadata) {
    AppendExecutorMetadata(*bundle.executor_metadata, out);
  }
  Sentence(out, "  Tokenizer   ", bundle.tokenizer);
}

void AppendCheckpoint(const InspectedCheckpoint& c, std::string& out) {
  Line(out, "");
  Line(out, "Checkpoint");
  Line(out, "  Architecture {}", Plain(c.model_type));
  for (const auto& [key, value] : c.config) {
    Sentence(out, fmt::format("    {:<26}", Plain(key)),
             Readable(nlohmann::ordered_json::parse(value)));
  }
  Line(out, "  Parameters   {} in {} tensors", Count(c.parameters), c.tensors);
  for (const auto& [dtype, bytes] : c.tensor_bytes) {
    Line(out, "    {:<26} {:>10}", dtype, Size(bytes));
  }
  Line(out, "  Tokenizer    {}", c.tokenizer);
  Line(out, "  Template     {}", c.chat_template);
  Line(out, "  EOS ids      {}",
       c.eos_ids.empty() ? "none"
                         : fmt::format("{}", fmt::join(c.eos_ids, ", ")));
  for (const std::string& note : c.notes) Sentence(out, "  Note        ", note);
  if (c.unsupported.empty()) {
    Line(out, "  Verifiable   yes");
    return;
  }
  for (const std::string& reason : c.unsupported) {
    Sentence(out, "  Verifiable   no:", reason);
  }
}

}  // namespace

std::string InspectionReport(const Inspection& inspection) {
  std::string out;
  Line(out, "{}", inspection.path);
  if (inspection.bytes > 0) {
    Line(out, "  {}, {}", inspection.kind, Size(inspection.bytes));
  } else {
    Line(out, "  {}", inspection.kind);
  }
  if (inspection.bundle) AppendBundle(*inspection.bundle, out);
  for (const InspectedModel& model : inspection.models) {
    AppendModel(model, out);
  }
  if (inspection.checkpoint) AppendCheckpoint(*inspection.checkpoint, out);
  return out;
}

}  // namespace verify_tflite
