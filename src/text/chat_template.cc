#include "text/chat_template.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json_file.h"
#include "base/mapped_file.h"
#include "base/utf8.h"
#include "text/jinja.h"
#include "text/limited_child.h"

namespace verify_tflite {
namespace {

using nlohmann::json;

json ReadJsonIfThere(const std::string& path) {
  return std::filesystem::exists(path) ? ReadJsonFile(path) : json::object();
}

// A special token stands as "<s>" or as {"content": "<s>", …}.
const std::string* TokenContent(const json& token) {
  if (token.is_string()) return token.get_ptr<const std::string*>();
  if (!token.is_object()) return nullptr;
  const auto content = token.find("content");
  if (content == token.end()) return nullptr;
  return content->get_ptr<const std::string*>();
}

void AddSpecialTokens(const json& from,
                      std::map<std::string, std::string>& tokens) {
  for (const auto& [name, token] : from.items()) {
    const std::string* content = TokenContent(token);
    if (content != nullptr && name.ends_with("_token")) {
      tokens[name] = *content;
    }
  }
}

// As transformers collects them (PreTrainedTokenizerBase._from_pretrained):
// special_tokens_map.json of older checkpoints counts unless tokenizer_config
// carries the added tokens.
std::map<std::string, std::string> SpecialTokens(const json& config,
                                                 const std::string& directory) {
  std::map<std::string, std::string> tokens;
  AddSpecialTokens(config, tokens);
  const auto extra = config.find("extra_special_tokens");
  if (extra != config.end() && extra->is_object()) {
    for (const auto& [name, token] : extra->items()) {
      const std::string* content = TokenContent(token);
      if (content != nullptr) tokens[name] = *content;
    }
  }
  if (!config.contains("added_tokens_decoder")) {
    AddSpecialTokens(ReadJsonIfThere(directory + "/special_tokens_map.json"),
                     tokens);
  }
  return tokens;
}

// The template named "default" of a list of {"name": …, "template": …}.
std::string DefaultTemplate(const json& list, const std::string& path) {
  std::string names;
  for (const json& entry : list) {
    if (!entry.is_object()) continue;
    const auto name = entry.find("name");
    const auto source = entry.find("template");
    if (name == entry.end() || !name->is_string()) continue;
    if (*name == "default" && source != entry.end() && source->is_string()) {
      return *source;
    }
    names.append(" ").append(Quote(name->get_ref<const std::string&>()));
  }
  throw Error(
      "{}: `chat_template` is a list without a template named \"default\"; "
      "found:{}. Name a template file instead.",
      path, names.empty() ? " none" : names);
}

std::optional<std::string> TemplateOfConfig(const json& config,
                                            const std::string& path) {
  const auto value = config.find("chat_template");
  if (value == config.end() || value->is_null()) return std::nullopt;
  if (value->is_string()) return value->get<std::string>();
  if (value->is_array()) return DefaultTemplate(*value, path);
  throw Error("{}: `chat_template` is {}, expected a string or a list", path,
              value->type_name());
}

// The template file of a checkpoint, as transformers picks it
// (PreTrainedTokenizerBase._from_pretrained): one named "default" among the
// additional ones comes before chat_template.jinja. Any such file hides the
// template of tokenizer_config.json.
std::optional<std::string> TemplateFile(const std::string& directory) {
  namespace fs = std::filesystem;
  const fs::path additional = fs::path(directory) / "additional_chat_templates";
  const fs::path of_default = additional / "default.jinja";
  if (fs::exists(of_default)) return of_default.string();
  const std::string file = directory + "/chat_template.jinja";
  if (fs::exists(file)) return file;
  if (!fs::is_directory(additional)) return std::nullopt;
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(additional)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".jinja")) names.push_back(Quote(name));
  }
  if (names.empty()) return std::nullopt;
  std::sort(names.begin(), names.end());
  throw Error(
      "{}: has no default.jinja, and there is no chat_template.jinja; found: "
      "{}. Name a template file instead.",
      additional.string(), fmt::join(names, " "));
}

std::string ReadTemplate(const std::string& path) {
  const MappedFile file(path);
  const std::string source(reinterpret_cast<const char*>(file.bytes().data()),
                           file.bytes().size());
  const size_t fault = FindInvalidUtf8(source);
  if (fault != std::string::npos) {
    throw Error("{}: is not UTF-8 (byte {}), expected a Jinja template", path,
                fault);
  }
  return source;
}

// Runs part of the engine; `what` it was is put before its complaint.
std::string Run(const std::string& origin, std::string_view what,
                const std::function<std::string()>& work) {
  try {
    return RunInLimitedChild(work);
  } catch (const Error& e) {
    std::string reason = ReplaceInvalidUtf8(e.what());
    constexpr std::string_view kBadAlloc = "std::bad_alloc";
    if (const size_t at = reason.find(kBadAlloc); at != std::string::npos) {
      reason.replace(at, kBadAlloc.size(), "it needs too much memory");
    }
    throw Error("{}: the chat template {}: {}", origin, what, reason);
  }
}

}  // namespace

struct ChatTemplate::Impl {
  std::string origin;
  std::string source;
  std::map<std::string, std::string> special_tokens;
  ContentForm form = ContentForm::kText;

  ContentForm FindForm() const;
  bool Reads(ContentForm form_of_content) const;
};

ChatTemplate::ChatTemplate(std::unique_ptr<Impl> impl)
    : impl_(std::move(impl)) {
  Run(impl_->origin, "cannot be parsed", [this] {
    ParseJinja(impl_->source);
    return std::string();
  });
  impl_->form = impl_->FindForm();
}

ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

std::optional<ChatTemplate> ChatTemplate::FromCheckpoint(
    const std::string& directory) {
  if (const auto file = TemplateFile(directory)) {
    return FromFile(*file, directory);
  }
  const std::string tokenizer = directory + "/tokenizer_config.json";
  const json config = ReadJsonIfThere(tokenizer);
  // The latter two are those of transformers' processors, which models of text
  // and images have around their tokenizer.
  for (const std::string& path :
       {tokenizer, directory + "/processor_config.json",
        directory + "/chat_template.json"}) {
    auto source = TemplateOfConfig(ReadJsonIfThere(path), path);
    if (!source) continue;
    return ChatTemplate(std::make_unique<Impl>(
        Impl{path, *std::move(source), SpecialTokens(config, directory)}));
  }
  return std::nullopt;
}

const std::string& ChatTemplate::origin() const { return impl_->origin; }
ContentForm ChatTemplate::form() const { return impl_->form; }

// Whether a message of that form makes a difference to the prompt.
bool ChatTemplate::Impl::Reads(ContentForm form_of_content) const {
  const auto render = [&](const char* text) {
    const ChatMessage message = {"user", text};
    return RenderJinja(source, special_tokens, std::span(&message, 1),
                       {.form = form_of_content});
  };
  try {
    return render("Hello there") != render("Howdy folks");
  } catch (const std::exception&) {
    return false;
  }
}

ContentForm ChatTemplate::Impl::FindForm() const {
  constexpr const char* kOfParts = "parts";
  try {
    const std::string found = RunInLimitedChild([this] {
      const bool parts =
          !Reads(ContentForm::kText) && Reads(ContentForm::kParts);
      return std::string(parts ? kOfParts : "text");
    });
    return found == kOfParts ? ContentForm::kParts : ContentForm::kText;
  } catch (const Error&) {
    return ContentForm::kText;  // it does not end, or crashes
  }
}

ChatTemplate ChatTemplate::FromFile(const std::string& path,
                                    const std::string& directory) {
  const json config = ReadJsonIfThere(directory + "/tokenizer_config.json");
  return ChatTemplate(std::make_unique<Impl>(
      Impl{path, ReadTemplate(path), SpecialTokens(config, directory)}));
}

ChatTemplate ChatTemplate::FromSource(std::string source,
                                      const std::string& origin) {
  const size_t fault = FindInvalidUtf8(source);
  if (fault != std::string::npos) {
    throw Error("{}: the chat template is not UTF-8 (byte {})", origin, fault);
  }
  return ChatTemplate(std::make_unique<Impl>(
      Impl{origin, std::move(source), {{"bos_token", ""}, {"eos_token", ""}}}));
}

std::string ChatTemplate::Render(std::span<const ChatMessage> messages,
                                 const RenderOptions& options) const {
  RenderOptions with_form = options;
  with_form.form = options.form.value_or(impl_->form);
  for (const ChatMessage& message : messages) {
    const size_t fault = FindInvalidUtf8(message.content);
    if (fault != std::string::npos) {
      throw Error("the {} message is not UTF-8: byte {} fits no character",
                  message.role, fault);
    }
  }
  const std::string prompt = Run(impl_->origin, "fails", [&] {
    return RenderJinja(impl_->source, impl_->special_tokens, messages,
                       with_form);
  });
  // The engine cuts strings between bytes where Jinja cuts between characters.
  if (FindInvalidUtf8(prompt) != std::string::npos) {
    throw Error("{}: the chat template cuts text inside a character",
                impl_->origin);
  }
  return prompt;
}

std::string ChatTemplate::Render(std::string_view user_message) const {
  const ChatMessage message = {"user", std::string(user_message)};
  return Render(std::span(&message, 1));
}

}  // namespace verify_tflite
