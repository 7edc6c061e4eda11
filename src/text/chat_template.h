// Renders chat templates (Jinja) with llama.cpp's engine.
#ifndef VERIFY_TFLITE_TEXT_CHAT_TEMPLATE_H_
#define VERIFY_TFLITE_TEXT_CHAT_TEMPLATE_H_

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace verify_tflite {

struct ChatMessage {
  std::string role;  // "user", "system", "assistant", "tool"
  std::string content;
  // Its other members ("tool_calls", "tool_call_id", "name"), as the JSON text
  // of an object; empty for none.
  std::string fields = "";
};

// The form in which a template gets a message's `content`.
enum class ContentForm {
  kText,   // "…", as transformers hands it over
  kParts,  // [{"type": "text", "text": "…"}], as LiteRT-LM 0.18.1 does
};

struct RenderOptions {
  std::optional<ContentForm> form = std::nullopt;  // none: the template's own
  // The list of tools that the model may call, as JSON text; empty for none.
  std::string tools = "";
  // The last message is the beginning of the model's answer: the prompt ends
  // with its content, without a generation prompt.
  bool continues = false;
};

// A template is a stranger's program. It is parsed and rendered in a child
// process. One that takes more than 2 s of processor time or 512 MB, or
// crashes, is an Error.
class ChatTemplate {
 public:
  // Returns the template of the checkpoint in `directory`, the first of:
  // additional_chat_templates/default.jinja, chat_template.jinja,
  // `chat_template` in tokenizer_config.json (a string, or a list of named ones
  // of which "default" is taken), in processor_config.json, in
  // chat_template.json. Returns no value when there is none. Throws Error when
  // there is one that cannot be parsed, or several without a "default".
  static std::optional<ChatTemplate> FromCheckpoint(
      const std::string& directory);

  // Returns the template in the file `path`, with the special tokens
  // (bos_token, …) of the tokenizer_config.json in `directory`.
  static ChatTemplate FromFile(const std::string& path,
                               const std::string& directory);

  // Returns a template that stands in no file of its own; `origin` names it in
  // messages. bos_token and eos_token are empty texts in it, as in LiteRT-LM.
  static ChatTemplate FromSource(std::string source, const std::string& origin);

  // Returns the file it stands in, or what FromSource was told.
  const std::string& origin() const;

  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;

  // Returns what it takes: parts, where the text of a message makes no
  // difference to the prompt (or no prompt can be made) and the text of a part
  // does; else text.
  ContentForm form() const;

  // Returns the prompt for a chat, with the generation prompt added, as
  // transformers' apply_chat_template(tools=…, add_generation_prompt=True) or
  // continue_final_message=True does. Encode it without special tokens:
  // templates write BOS themselves. Throws Error when the template itself
  // raises one ("unknown role"), when a message to be continued does not come
  // out as it is, and for text that is not UTF-8. A template may ask for
  // today's date.
  std::string Render(std::span<const ChatMessage> messages,
                     const RenderOptions& options = {}) const;

  // Returns the prompt for one user message.
  std::string Render(std::string_view user_message) const;

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_TEXT_CHAT_TEMPLATE_H_
