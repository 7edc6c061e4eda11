#include "text/jinja.h"

#include <jinja/lexer.h>
#include <jinja/parser.h>
#include <jinja/runtime.h>
#include <jinja/value.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string_view>
#include <tuple>
#include <utility>

namespace verify_tflite {
namespace {

jinja::program Parse(const std::string& source) {
  jinja::lexer lexer;
  return jinja::parse_from_tokens(lexer.tokenize(source));
}

// What Python's str.strip() takes away: str.isspace() in Unicode 15.
constexpr std::string_view kPythonSpaces[] = {" ",
                                              "\t",
                                              "\n",
                                              "\v",
                                              "\f",
                                              "\r",
                                              "\x1C",
                                              "\x1D",
                                              "\x1E",
                                              "\x1F",
                                              "\xC2\x85",
                                              "\xC2\xA0",
                                              "\xE1\x9A\x80",
                                              "\xE2\x80\x80",
                                              "\xE2\x80\x81",
                                              "\xE2\x80\x82",
                                              "\xE2\x80\x83",
                                              "\xE2\x80\x84",
                                              "\xE2\x80\x85",
                                              "\xE2\x80\x86",
                                              "\xE2\x80\x87",
                                              "\xE2\x80\x88",
                                              "\xE2\x80\x89",
                                              "\xE2\x80\x8A",
                                              "\xE2\x80\xA8",
                                              "\xE2\x80\xA9",
                                              "\xE2\x80\xAF",
                                              "\xE2\x81\x9F",
                                              "\xE3\x80\x80"};

// Length of the space at the left or right end of `text`, 0 if there is none.
size_t SpaceAt(std::string_view text, bool left) {
  for (const std::string_view space : kPythonSpaces) {
    if (left ? text.starts_with(space) : text.ends_with(space)) {
      return space.size();
    }
  }
  return 0;
}

std::string Strip(std::string_view text, bool left, bool right) {
  while (const size_t size = left ? SpaceAt(text, true) : 0) {
    text.remove_prefix(size);
  }
  while (const size_t size = right ? SpaceAt(text, false) : 0) {
    text.remove_suffix(size);
  }
  return std::string(text);
}

// The engine's own strip(), which is also the filter `trim`, knows the spaces
// of C only. Templates use it on the content of messages. Content for which
// that makes a difference is of this type, which strips as Python does.
class MessageContent : public jinja::value_string_t {
 public:
  using value_string_t::value_string_t;

  const jinja::func_builtins& get_builtins() const override {
    static const jinja::func_builtins builtins =
        WithStrip(value_string_t::get_builtins());
    return builtins;
  }

 protected:
  // The inherited one asks for the very same type, and still does where this
  // stands on the right.
  bool equivalent(const value_t& other) const override {
    return dynamic_cast<const value_string_t*>(&other) != nullptr &&
           val_str.str() == other.val_str.str();
  }

 private:
  static jinja::func_handler StripOr(const jinja::func_handler& general,
                                     bool left, bool right) {
    return [=](const jinja::func_args& args) -> jinja::value {
      if (args.count() > 1) return general(args);  // strip(chars)
      const std::string text = args.get_pos(0)->as_string().str();
      return jinja::mk_val<jinja::value_string>(Strip(text, left, right));
    };
  }

  static jinja::func_builtins WithStrip(jinja::func_builtins builtins) {
    for (const auto& [name, left, right] :
         {std::tuple("strip", true, true), std::tuple("lstrip", true, false),
          std::tuple("rstrip", false, true)}) {
      builtins[name] = StripOr(builtins.at(name), left, right);
    }
    return builtins;
  }
};

jinja::value String(const std::string& text) {
  return jinja::mk_val<jinja::value_string>(text);
}

jinja::value Content(const std::string& text) {
  constexpr const char* kSpacesOfC = " \t\n\v\f\r";
  const size_t begin = text.find_first_not_of(kSpacesOfC);
  if (begin == std::string::npos) return String(text);
  const size_t end = text.find_last_not_of(kSpacesOfC) + 1;
  const std::string_view rest(text.data() + begin, end - begin);
  if (SpaceAt(rest, true) == 0 && SpaceAt(rest, false) == 0) {
    return String(text);
  }
  return std::make_shared<MessageContent>(text);
}

// Put behind the text that is to be continued. The space at its end shows
// whether the template trims.
constexpr std::string_view kTag = "<CONTINUED-HERE> ";

jinja::value Parts(const std::string& text) {
  auto part = jinja::mk_val<jinja::value_object>();
  part->insert("type", String("text"));
  part->insert("text", Content(text));
  auto list = jinja::mk_val<jinja::value_array>();
  list->push_back(part);
  return list;
}

// Objects keep the order of their members, in which `tojson` writes them.
using Json = nlohmann::ordered_json;

jinja::value FromJson(const Json& json) {
  switch (json.type()) {
    case Json::value_t::null:
      return jinja::mk_val<jinja::value_none>();
    case Json::value_t::boolean:
      return jinja::mk_val<jinja::value_bool>(json.get<bool>());
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned:
      return jinja::mk_val<jinja::value_int>(json.get<int64_t>());
    case Json::value_t::number_float:
      return jinja::mk_val<jinja::value_float>(json.get<double>());
    case Json::value_t::string:
      return Content(json.get_ref<const std::string&>());
    case Json::value_t::array: {
      auto list = jinja::mk_val<jinja::value_array>();
      for (const Json& item : json) list->push_back(FromJson(item));
      return list;
    }
    case Json::value_t::object: {
      auto object = jinja::mk_val<jinja::value_object>();
      for (const auto& [key, value] : json.items()) {
        object->insert(key, FromJson(value));
      }
      return object;
    }
    default:
      throw std::logic_error("a JSON value of no JSON type");
  }
}

jinja::value Messages(std::span<const ChatMessage> messages,
                      const RenderOptions& options) {
  auto list = jinja::mk_val<jinja::value_array>();
  for (const ChatMessage& message : messages) {
    auto entry = jinja::mk_val<jinja::value_object>();
    std::string content = message.content;
    if (options.continues && &message == &messages.back()) content += kTag;
    entry->insert("role", String(message.role));
    entry->insert("content", options.form == ContentForm::kParts
                                 ? Parts(content)
                                 : Content(content));
    if (!message.fields.empty()) {
      const Json fields = Json::parse(message.fields);
      for (const auto& [key, value] : fields.items()) {
        entry->insert(key, FromJson(value));
      }
    }
    list->push_back(entry);
  }
  return list;
}

std::string CutBehind(const std::string& content, std::string prompt) {
  const std::string_view tag = kTag.substr(0, kTag.size() - 1);
  const size_t at = prompt.rfind(tag);
  if (at == std::string::npos ||
      prompt.find(Strip(content, true, true)) == std::string::npos) {
    throw std::runtime_error(
        "the message to be continued does not come out as it is");
  }
  const bool keeps_spaces = prompt.compare(at, kTag.size(), kTag) == 0;
  prompt.resize(at);
  return keeps_spaces ? prompt : Strip(prompt, false, true);
}

}  // namespace

void ParseJinja(const std::string& source) { Parse(source); }

std::string RenderJinja(const std::string& source,
                        const std::map<std::string, std::string>& variables,
                        std::span<const ChatMessage> messages,
                        const RenderOptions& options) {
  const jinja::program program = Parse(source);
  jinja::context context(source);
  for (const auto& [name, value] : variables) {
    context.set_val(name, String(value));
  }
  context.set_val("messages", Messages(messages, options));
  context.set_val(
      "tools",
      FromJson(options.tools.empty() ? Json() : Json::parse(options.tools)));
  context.set_val("documents", jinja::mk_val<jinja::value_none>());
  context.set_val("add_generation_prompt",
                  jinja::mk_val<jinja::value_bool>(!options.continues));
  jinja::runtime runtime(context);
  std::string prompt = jinja::render_string_parts(
      jinja::runtime::gather_string_parts(runtime.execute(program)));
  if (!options.continues) return prompt;
  return CutBehind(messages.back().content, std::move(prompt));
}

}  // namespace verify_tflite
