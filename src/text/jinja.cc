#include "text/jinja.h"

#include <jinja/lexer.h>
#include <jinja/parser.h>
#include <jinja/runtime.h>
#include <jinja/value.h>

namespace verify_tflite {
namespace {

jinja::program Parse(const std::string& source) {
  jinja::lexer lexer;
  return jinja::parse_from_tokens(lexer.tokenize(source));
}

jinja::value String(std::string_view text) {
  return jinja::mk_val<jinja::value_string>(std::string(text));
}

jinja::value Messages(std::string_view user_message) {
  auto message = jinja::mk_val<jinja::value_object>();
  message->insert("role", String("user"));
  message->insert("content", String(user_message));
  auto messages = jinja::mk_val<jinja::value_array>();
  messages->push_back(message);
  return messages;
}

}  // namespace

void ParseJinja(const std::string& source) { Parse(source); }

std::string RenderJinja(const std::string& source,
                        const std::map<std::string, std::string>& variables,
                        std::string_view user_message) {
  const jinja::program program = Parse(source);
  jinja::context context(source);
  for (const auto& [name, value] : variables) {
    context.set_val(name, String(value));
  }
  context.set_val("messages", Messages(user_message));
  context.set_val("tools", jinja::mk_val<jinja::value_none>());
  context.set_val("documents", jinja::mk_val<jinja::value_none>());
  context.set_val("add_generation_prompt",
                  jinja::mk_val<jinja::value_bool>(true));
  jinja::runtime runtime(context);
  return jinja::render_string_parts(
      jinja::runtime::gather_string_parts(runtime.execute(program)));
}

}  // namespace verify_tflite
