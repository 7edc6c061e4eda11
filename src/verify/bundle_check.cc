#include "verify/bundle_check.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <future>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/protobuf.h"
#include "base/utf8.h"
#include "text/eos.h"
#include "text/tokenizer_json.h"

namespace verify_tflite {
namespace {

// Where tokenizers are known to part: white space, digits, scripts,
// punctuation, case, combining marks, bytes of several characters, code.
constexpr std::string_view kTexts[] = {
    "Hello, world!",
    " leading and trailing ",
    "two  spaces,   three",
    "line\nline\n\nparagraph\r\n\ttab",
    "1 12 123 1234 12345 3.14159 1,000,000 2026-01-31",
    "don't you're I'll THEY'VE O'Neil's",
    "naïve café Ångström fi ﬁ",
    "e\u0301 a\u0308 n\u0303",
    "Grüße aus Köln, straße STRASSE",
    "Привет, мир! Привіт",
    "你好，世界。今天天气很好",
    "こんにちは カタカナ ﾊﾝｶｸ",
    "안녕하세요 세계",
    "مرحبا بالعالم ١٢٣",
    "שלום עולם",
    "नमस्ते दुनिया",
    "สวัสดีชาวโลก",
    "🙂 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪",
    "def f(x):\n    return x ** 2  # square\n",
    "#include <vector>\nint main() { return a[i]->b != 0x1F; }",
    "{\"key\": [1, 2.5e-3, null], \"k\\\"\": \"\\u00e4\"}",
    "https://example.com/a?b=c&d=%20#frag user@example.org",
    "CamelCase snake_case kebab-case SCREAMING_CASE",
    "\"quoted\" 'single' “curly” ‘curly’ —dash– …",
    "(parentheses) [brackets] {braces} <angles>",
    "a\u00A0b\u200Bc\u2028d\u3000e",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "\u2581metaspace \u0120byte",
    "∑ ∫ √2 ≠ ½ ²",
    "",
};

// What Decode gives for bytes that are no character.
constexpr std::string_view kReplacement = "\uFFFD";

// Stop tokens named in the evidence.
constexpr size_t kMaxShown = 20;

struct Chat {
  std::string_view name;
  std::vector<ChatMessage> messages;
  RenderOptions options = {};
  // One that a template need not take: the bundle's is held to it where the
  // checkpoint's takes it, and only where it is a Jinja template.
  bool special = true;
};

// The bytes of a character above U+007F.
std::string Utf8(uint32_t code) {
  const auto tail = [code](int shift) {
    return static_cast<char>(0x80 | (code >> shift & 0x3F));
  };
  if (code < 0x800) return {static_cast<char>(0xC0 | code >> 6), tail(0)};
  if (code < 0x10000) {
    return {static_cast<char>(0xE0 | code >> 12), tail(6), tail(0)};
  }
  return {static_cast<char>(0xF0 | code >> 18), tail(12), tail(6), tail(0)};
}

// Those of U+0080 to U+D7FF and of the blocks of symbols and emoji, sixteen a
// text: what is not a token of its own is split inside the character.
void AppendCharacters(std::vector<std::string>& texts) {
  constexpr std::pair<uint32_t, uint32_t> kBlocks[] = {{0x80, 0xD800},
                                                       {0x1F000, 0x1FB00}};
  constexpr uint32_t kPerText = 16;
  for (const auto& [begin, end] : kBlocks) {
    for (uint32_t code = begin; code < end; ++code) {
      if (code % kPerText == 0) texts.emplace_back();
      texts.back() += Utf8(code);
    }
  }
}

constexpr const char* kAnswer = "A field of computer science.";

std::vector<Chat> PlainChats() {
  const ChatMessage system = {"system", "You answer briefly."};
  const ChatMessage user = {"user", "What is AI?"};
  const ChatMessage assistant = {"assistant", kAnswer};
  const ChatMessage more = {"user",
                            "Say \"more\", please: 1 < 2 & ü.\nThanks!"};
  return {{"one user turn", {user}, {}, false},
          {"system and user", {system, user}, {}, false},
          {"three turns", {user, assistant, more}, {}, false}};
}

std::vector<Chat> ChatsWithBlanks() {
  const ChatMessage user = {"user", "\n  What is AI? \t\n\n"};
  const ChatMessage assistant = {"assistant", "  A field.\n"};
  return {{"texts with blanks and line breaks at their ends",
           {user, assistant, {"user", " Thanks! \n"}}},
          {"a system turn with blanks and line breaks at its ends",
           {{"system", "\n You answer briefly. \n"}, user}},
          {"an empty system turn", {{"system", ""}, {"user", "What is AI?"}}}};
}

// As Hugging Face's documentation and OpenAI's API write tools and calls.
std::vector<Chat> ChatsWithTools() {
  const ChatMessage system = {"system", "You answer briefly."};
  const ChatMessage user = {"user", "How is the weather in Köln?"};
  const ChatMessage call = {
      "assistant", "",
      R"({"tool_calls": [{"type": "function", "id": "call00001",
          "function": {"name": "get_weather",
                       "arguments": {"city": "Köln", "days": 2}}}]})"};
  const ChatMessage result = {
      "tool", R"({"sky": "clear", "degrees": 21})",
      R"({"name": "get_weather", "tool_call_id": "call00001"})"};
  const RenderOptions tools = {.tools = R"([
      {"type": "function",
       "function": {
         "name": "get_weather",
         "description": "The weather in a city.",
         "parameters": {
           "type": "object",
           "properties": {
             "city": {"type": "string", "description": "Its name"},
             "days": {"type": "integer", "description": "How many"}},
           "required": ["city"]}}}])"};
  return {{"a list of tools", {user}, tools},
          {"a list of tools and a system turn", {system, user}, tools},
          {"a call of a tool", {user, call, result}, tools},
          {"a system turn and a call of a tool",
           {system, user, call, result},
           tools}};
}

std::vector<Chat> Chats() {
  std::vector<Chat> chats = PlainChats();
  for (auto& more : {ChatsWithBlanks(), ChatsWithTools()}) {
    chats.insert(chats.end(), more.begin(), more.end());
  }
  chats.push_back({"an answer to be continued",
                   {{"user", "What is AI?"}, {"assistant", "A field of"}},
                   {.continues = true}});
  return chats;
}

// A tokenizer.json with each merge as a pair, where older ones have a text, and
// without what only other users of the file need.
nlohmann::json Comparable(std::string_view text) {
  auto tokenizer = nlohmann::json::parse(text, nullptr, false);
  if (!tokenizer.is_object()) return nullptr;
  for (const char* name : {"truncation", "padding"}) tokenizer.erase(name);
  const auto model = tokenizer.find("model");
  if (model == tokenizer.end() || !model->is_object()) return nullptr;
  const auto merges = model->find("merges");
  if (merges == model->end() || !merges->is_array()) return tokenizer;
  for (auto& merge : *merges) {
    if (!merge.is_string()) continue;
    const auto& pair = merge.get_ref<const std::string&>();
    const size_t space = pair.find(' ');
    if (space == std::string::npos) return nullptr;
    merge = {pair.substr(0, space), pair.substr(space + 1)};
  }
  return tokenizer;
}

// Saves the seconds that a large vocabulary takes to be run.
bool SameInOtherWords(std::string_view one, std::string_view other) {
  const nlohmann::json comparable = Comparable(one);
  return !comparable.is_null() && comparable == Comparable(other);
}

class BundleChecker {
 public:
  BundleChecker(const BundleCheckInput& input, Verification& v)
      : input_(input),
        v_(v),
        metadata_(input.bundle.ReadLlmMetadata().value_or(LlmMetadata{})) {}

  void Run() {
    OpenTokenizer();
    FindOwnTemplate();
    CheckStopTokens();
    CheckPadToken();
    start_ = {.name = "start_token", .outcome = Outcome::kPass};
    template_ = {.name = "chat_template", .outcome = Outcome::kPass};
    CheckTemplate();
    Add(start_);
    Add(template_);
    if (parts_) Add(*parts_);
    CheckTokenizer();
  }

 private:
  void Add(Check check) {
    v_.checks[CheckGroup::kBundle].push_back(std::move(check));
  }
  // Text, or the error that rendering ended in.
  struct Rendered {
    std::string text;
    std::string error;
  };

  void Find(Check& check, FindingId id, std::string sentence,
            std::string evidence) {
    check.outcome = Outcome::kBroken;
    check.detail = sentence;
    v_.findings.push_back(MakeFinding({.id = id,
                                       .evidence = std::move(evidence),
                                       .sentence = std::move(sentence)}));
  }

  void OpenTokenizer();
  void FindOwnTemplate();
  bool IsOwnTokenizer(std::string_view json) const;
  std::map<int32_t, std::string> OtherEnds() const;
  std::optional<int32_t> EndOfTurn() const;
  void CheckStopTokens();
  void CheckPadToken();
  void CheckTemplate();
  bool Holds(const Chat& chat, bool jinja);
  void CheckChat(const Chat& chat, const std::optional<ChatTemplate>& theirs);
  void CompareTexts(std::string_view chat, const std::string& own,
                    const std::string& theirs);
  bool CompareStart(const std::string& own, const std::string& theirs);
  void CheckPlainPrompt(const std::optional<ChatTemplate>& theirs);
  void CheckParts(const std::optional<ChatTemplate>& theirs);
  bool Makes(const Rendered& found, const std::string& own) const;
  void CheckTokenizer();
  // Each describes the first difference and counts them.
  struct Difference {
    int64_t count = 0;
    std::string evidence;
    void Add(const std::string& own, const std::string& theirs) {
      if (++count > 1) return;
      evidence = fmt::format("checkpoint: {}\nbundle: {}", own, theirs);
    }
  };
  std::vector<std::string_view> Texts() const;
  Difference CompareIds() const;
  Difference CompareTokens(int64_t size) const;
  Difference ComparePieces(std::string_view sentencepiece, int64_t& size,
                           std::vector<bool>& is_text) const;
  Difference CompareOwnTexts(int64_t size, const std::vector<bool>& is_text,
                             int64_t& compared) const;

  Rendered RenderTheirs(const std::optional<ChatTemplate>& chat_template,
                        const Chat& chat) const;
  Rendered RenderTheirs(const std::optional<ChatTemplate>& chat_template,
                        Chat chat, ContentForm form) const {
    chat.options.form = form;
    return RenderTheirs(chat_template, chat);
  }

  const Tokenizer& BundleTokenizer() const {
    return tokenizer_ ? *tokenizer_ : input_.tokenizer;
  }
  std::vector<int32_t> Ids(const BundleToken& token) const {
    if (!token.ids.empty()) return token.ids;
    // As LiteRT-LM does (engine_settings.cc).
    if (const auto id = BundleTokenizer().TokenToId(token.text)) return {*id};
    return BundleTokenizer().Encode(token.text, false);
  }
  std::string StartText() const {
    if (!metadata_.start_token) return "";
    const BundleToken& token = *metadata_.start_token;
    if (token.ids.empty()) return token.text;
    return BundleTokenizer().Decode(token.ids, false);
  }
  // "2 \"</s>\""
  std::string Show(std::span<const int32_t> ids,
                   const Tokenizer& tokenizer) const {
    return fmt::format("{} {}", fmt::join(ids, " "),
                       Quote(tokenizer.Decode(ids, false)));
  }

  const BundleCheckInput& input_;
  Verification& v_;
  LlmMetadata metadata_;
  // The bundle's tokenizer.json is the checkpoint's, byte for byte or written
  // in another way.
  bool same_tokenizer_ = false;
  std::optional<Tokenizer> tokenizer_;  // the bundle's, where it is another
  std::optional<ChatTemplate> found_;  // the checkpoint's, where none is in use
  const ChatTemplate* own_ = nullptr;  // what the bundle's is held to, if any
  // What the bundle makes of the first chat that its template takes.
  std::string prompt_;
  Check start_;
  Check template_;
  std::optional<Check> parts_;  // where there is a Jinja template to ask
};

void BundleChecker::OpenTokenizer() {
  const auto json = input_.bundle.ReadHfTokenizer();
  const std::string what = input_.bundle.path() + ": the tokenizer";
  if (json) {
    same_tokenizer_ = IsOwnTokenizer(*json);
    if (!same_tokenizer_) tokenizer_ = Tokenizer::FromJson(*json, what);
  } else if (const auto model = input_.bundle.SentencePieceModel()) {
    tokenizer_ =
        Tokenizer::FromSentencePiece(*model, what, metadata_.bytes_to_unicode);
  }
}

bool BundleChecker::IsOwnTokenizer(std::string_view json) const {
  const std::string path = input_.directory + "/tokenizer.json";
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return false;
  const MappedFile file(path);
  const std::string_view own(reinterpret_cast<const char*>(file.bytes().data()),
                             file.bytes().size());
  return json == own || SameInOtherWords(json, own);
}

void BundleChecker::FindOwnTemplate() {
  own_ = input_.chat_template;
  if (own_ != nullptr) return;
  found_ = ChatTemplate::FromCheckpoint(input_.directory);
  if (found_) own_ = &*found_;
}

// The special token that the checkpoint's template writes behind an answer,
// where one comes first.
std::optional<int32_t> BundleChecker::EndOfTurn() const {
  if (own_ == nullptr) return std::nullopt;
  std::string prompt;
  try {
    prompt = own_->Render(PlainChats().back().messages);
  } catch (const Error&) {
    return std::nullopt;
  }
  const size_t at = prompt.rfind(kAnswer);
  if (at == std::string::npos) return std::nullopt;
  const auto ids = input_.tokenizer.Encode(
      prompt.substr(at + std::string_view(kAnswer).size()), false);
  if (ids.empty()) return std::nullopt;
  const std::span<const int32_t> first(ids.data(), 1);
  const bool special = input_.tokenizer.Decode(first, true).empty() &&
                       !input_.tokenizer.Decode(first, false).empty();
  return special ? std::optional(ids.front()) : std::nullopt;
}

// Tokens at which a chat may well end though generation_config.json and
// config.json do not name them, with what they are: Qwen's bundles, and others,
// stop there on purpose.
std::map<int32_t, std::string> BundleChecker::OtherEnds() const {
  std::map<int32_t, std::string> ends;
  if (const auto id = EndOfTurn()) {
    ends[*id] = "with which the checkpoint's chat template ends a turn";
  }
  if (const auto id =
          EosOfTokenizerConfig(input_.directory, input_.tokenizer)) {
    ends[*id] = "the eos_token of the checkpoint's tokenizer_config.json";
  }
  return ends;
}

// The runtime stops where a sequence of token ids is complete
// (stop_token_detector.cc). One that holds an EOS of the checkpoint's can only
// be complete after that EOS has ended the text: converters add many such, for
// templates that write a line end behind it.
void BundleChecker::CheckStopTokens() {
  Check check = {.name = "stop_tokens", .outcome = Outcome::kPass};
  const std::set<int32_t> eos(input_.eos_ids.begin(), input_.eos_ids.end());
  std::set<int32_t> missing = eos;
  const std::map<int32_t, std::string> other_ends = OtherEnds();
  std::set<int32_t> noted;
  std::vector<std::string> extra;
  for (const BundleToken& token : metadata_.stop_tokens) {
    const std::vector<int32_t> ids = Ids(token);
    if (ids.size() == 1) missing.erase(ids.front());
    if (std::any_of(ids.begin(), ids.end(),
                    [&](int32_t id) { return eos.contains(id); })) {
      continue;
    }
    const auto end = std::find_if(ids.begin(), ids.end(), [&](int32_t id) {
      return other_ends.contains(id);
    });
    if (end != ids.end()) {
      noted.insert(*end);
    } else if (extra.size() <= kMaxShown) {
      extra.push_back(Show(ids, BundleTokenizer()));
    }
  }
  if (eos.empty()) {
    check.outcome = Outcome::kNotChecked;
    check.detail = "The checkpoint names no EOS token.";
  } else if (!missing.empty() || !extra.empty()) {
    std::vector<std::string> lacking;
    for (const int32_t id : missing) {
      lacking.push_back(Show(std::span(&id, 1), input_.tokenizer));
    }
    std::string evidence;
    if (!lacking.empty()) {
      evidence += fmt::format("only the checkpoint stops at: {}\n",
                              fmt::join(lacking, ", "));
    }
    if (!extra.empty()) {
      evidence +=
          fmt::format("only the bundle stops at: {}\n", fmt::join(extra, ", "));
    }
    Find(check, FindingId::kStopTokenDiffers,
         missing.empty()
             ? "The bundle ends texts where the checkpoint goes on."
             : "The bundle goes on where the checkpoint ends its text.",
         evidence);
  }
  Add(check);
  if (eos.empty()) return;
  for (const int32_t id : noted) {
    v_.notes.push_back(fmt::format(
        "The bundle also ends texts at {}, {}; the checkpoint's EOS {} {}",
        Show(std::span(&id, 1), input_.tokenizer), other_ends.at(id),
        eos.size() == 1 ? "is" : "are", fmt::join(eos, ", ")));
  }
}

// LiteRT-LM fills up a prefill with the bundle's pad token and, where there is
// none, with token 0. In a model with states beside keys and values any other
// than the graph's own changes these.
void BundleChecker::CheckPadToken() {
  if (v_.model.num_states == 0 || !v_.model.pad_token) return;
  Check check = {.name = "pad_token", .outcome = Outcome::kPass};
  const std::vector<int32_t> own = {*v_.model.pad_token};
  const auto& named = metadata_.pad_token;
  const std::vector<int32_t> fed =
      named ? Ids(*named) : std::vector<int32_t>{0};
  if (fed != own) {
    Find(check, FindingId::kPadTokenDiffers,
         "A prompt that does not fill its chunk is filled up with tokens that "
         "the model takes for text.",
         fmt::format("the model's graph: {}\nbundle: {}{}",
                     Show(own, input_.tokenizer), Show(fed, BundleTokenizer()),
                     named ? "" : ", as it names no pad token"));
  }
  Add(check);
}

BundleChecker::Rendered BundleChecker::RenderTheirs(
    const std::optional<ChatTemplate>& chat_template, const Chat& chat) const {
  const std::vector<ChatMessage>& messages = chat.messages;
  if (chat_template) {
    try {
      return {chat_template->Render(messages, chat.options), ""};
    } catch (const Error& e) {
      return {"", e.what()};
    }
  }
  std::string text = metadata_.session_prefix;
  if (metadata_.single_turn) {
    text += metadata_.single_turn->prefix + messages.back().content +
            metadata_.single_turn->suffix;
    return {text, ""};
  }
  // As LiteRT-LM's default template does (prompt_template_utils.cc).
  for (const ChatMessage& message : messages) {
    const auto& affixes = message.role == "user"     ? metadata_.user
                          : message.role == "system" ? metadata_.system
                                                     : metadata_.model;
    const PromptAffixes around = affixes.value_or(PromptAffixes{});
    text += around.prefix + message.content + around.suffix;
  }
  if (metadata_.model) text += metadata_.model->prefix;
  return {text, ""};
}

void BundleChecker::CheckTemplate() {
  std::optional<ChatTemplate> theirs;
  if (metadata_.jinja_template) {
    try {
      theirs = ChatTemplate::FromSource(*metadata_.jinja_template,
                                        input_.bundle.path());
    } catch (const Error& e) {
      Find(template_, FindingId::kTemplateDiffers,
           "The bundle's chat template cannot be parsed.", e.what());
      return;
    }
  }
  if (own_ == nullptr) {
    CheckPlainPrompt(theirs);
    return;
  }
  for (const Chat& chat : Chats()) {
    if (Holds(chat, theirs.has_value())) CheckChat(chat, theirs);
  }
  if (theirs && template_.outcome != Outcome::kBroken) CheckParts(theirs);
}

// Whether the bundle's template is held to `chat`. Prefixes and suffixes cannot
// do what a Jinja template can; what is left out is said.
bool BundleChecker::Holds(const Chat& chat, bool jinja) {
  const bool further_turn = metadata_.single_turn && chat.messages.size() > 1;
  if (jinja || (!further_turn && !chat.special)) return true;
  if (template_.outcome == Outcome::kPass) {
    template_.detail =
        metadata_.single_turn
            ? "One turn of the user: the bundle says nothing of others."
            : "Plain turns: prefixes and suffixes can neither trim texts nor "
              "write tools.";
  }
  return false;
}

void BundleChecker::CheckChat(const Chat& chat,
                              const std::optional<ChatTemplate>& theirs) {
  Rendered expected;
  try {
    expected.text = own_->Render(chat.messages, chat.options);
  } catch (const Error& e) {
    if (chat.special) return;
    expected.error = e.what();  // "roles must alternate"
  }
  Rendered found = RenderTheirs(theirs, chat);
  if (theirs && !Makes(found, expected.text)) {
    // Some templates make the prompt of parts alone.
    Rendered of_parts = RenderTheirs(theirs, chat, ContentForm::kParts);
    if (Makes(of_parts, expected.text)) found = std::move(of_parts);
  }
  if (prompt_.empty()) prompt_ = found.text;
  if (!expected.error.empty() && !found.error.empty()) return;
  if (expected.error.empty() && found.error.empty()) {
    CompareTexts(chat.name, expected.text, found.text);
    return;
  }
  if (template_.outcome == Outcome::kBroken) return;
  const bool ours = !expected.error.empty();
  Find(template_, FindingId::kTemplateDiffers,
       fmt::format("Only the {}'s chat template refuses {}.",
                   ours ? "checkpoint" : "bundle", chat.name),
       ours ? expected.error : found.error);
}

// Whether that is the prompt `own`, but for start tokens.
bool BundleChecker::Makes(const Rendered& found, const std::string& own) const {
  if (!found.error.empty() || found.text.empty()) return false;
  return own.ends_with(found.text) || StartText() + found.text == own;
}

// LiteRT-LM 0.18.1 hands templates the content of every message as a list of
// parts, whatever the model type (tools/record_litert_lm.py). Few checkpoints'
// templates can do with that; older versions made text of it for them. As the
// version on the phone is not known, this is no finding.
void BundleChecker::CheckParts(const std::optional<ChatTemplate>& theirs) {
  parts_ = {.name = "message_parts", .outcome = Outcome::kPass};
  for (const Chat& chat : PlainChats()) {
    std::string expected;
    try {
      expected = own_->Render(chat.messages);
    } catch (const Error&) {
      continue;
    }
    const Rendered found = RenderTheirs(theirs, chat, ContentForm::kParts);
    if (Makes(found, expected)) continue;
    parts_->outcome = Outcome::kNotChecked;
    parts_->detail = fmt::format(
        "LiteRT-LM 0.18.1 gives templates a message's content as a list of "
        "parts; of that, the bundle's makes {} for {}: that version {}. "
        "Others may give plain text, by which it was compared. A template that "
        "takes both serves everywhere: message.content where that is a string, "
        "else message.content[0].text.",
        found.error.empty() ? "another prompt, or none," : "no prompt",
        chat.name,
        found.error.empty() ? "feeds the model something else"
                            : "cannot chat with this bundle");
    return;
  }
}

// Finds out whether the texts differ by a start token alone. True when that
// explains the difference.
bool BundleChecker::CompareStart(const std::string& own,
                                 const std::string& theirs) {
  const std::string start = StartText();
  if (!own.ends_with(theirs)) return false;
  const std::string before = own.substr(0, own.size() - theirs.size());
  const auto ids = input_.tokenizer.Encode(before, false);
  if (ids.size() > 1) return false;  // not a start token, but text
  if (start_.outcome == Outcome::kBroken) return true;
  const std::string evidence = fmt::format(
      "checkpoint: the prompt begins {}\n"
      "bundle: start token {}, then the template's text {}",
      Quote(own.substr(0, 40)), start.empty() ? "none" : Quote(start),
      Quote(theirs.substr(0, 40)));
  if (start.empty()) {
    Find(start_, FindingId::kBosMissing,
         fmt::format("The checkpoint's prompts begin with {}, the bundle's do "
                     "not.",
                     Quote(before)),
         evidence);
  } else if (before.empty()) {
    Find(start_, FindingId::kStartTokenDiffers,
         "The bundle's start token comes on top of what its template writes.",
         evidence);
  } else {
    Find(start_, FindingId::kStartTokenDiffers,
         "The bundle's prompts begin with another start token.", evidence);
  }
  return true;
}

void BundleChecker::CompareTexts(std::string_view chat, const std::string& own,
                                 const std::string& theirs) {
  const std::string fed = StartText() + theirs;
  if (fed == own || CompareStart(own, theirs)) return;
  if (template_.outcome == Outcome::kBroken) return;  // one chat shows it
  const size_t at =
      std::mismatch(own.begin(), own.end(), fed.begin(), fed.end()).first -
      own.begin();
  constexpr size_t kBefore = 20, kShown = 80;
  const size_t from = at > kBefore ? at - kBefore : 0;
  const auto show = [&](const std::string& text) {
    return Quote(
        ReplaceInvalidUtf8(text.substr(std::min(from, text.size()), kShown)));
  };
  Find(template_, FindingId::kTemplateDiffers,
       fmt::format("The bundle's chat template renders another prompt for {}.",
                   chat),
       fmt::format("from byte {}:\ncheckpoint: {}\nbundle: {}", from, show(own),
                   show(fed)));
}

// The checkpoint has no template: its prompts are plain text.
void BundleChecker::CheckPlainPrompt(
    const std::optional<ChatTemplate>& theirs) {
  const Chat chat = PlainChats().front();
  const std::string& plain = chat.messages.front().content;
  const Rendered found = RenderTheirs(theirs, chat);
  prompt_ = found.text;
  if (found.text != plain) {
    Find(template_, FindingId::kTemplateDiffers,
         "The bundle has a chat template, the checkpoint has none.",
         fmt::format("checkpoint: {}\nbundle: {}", Quote(plain),
                     found.error.empty() ? Quote(found.text) : found.error));
  }
  const auto own = input_.tokenizer.Encode(plain, true);
  auto fed = input_.tokenizer.Encode(plain, false);
  if (metadata_.start_token) {
    const auto start = Ids(*metadata_.start_token);
    fed.insert(fed.begin(), start.begin(), start.end());
  }
  if (own == fed) return;
  const bool missing = !metadata_.start_token;
  Find(start_, missing ? FindingId::kBosMissing : FindingId::kStartTokenDiffers,
       missing ? "The checkpoint's tokenizer adds tokens to a prompt that the "
                 "bundle does not."
               : "The bundle's prompts begin with other tokens.",
       fmt::format("checkpoint: {}\nbundle: {}", Show(own, input_.tokenizer),
                   Show(fed, BundleTokenizer())));
}

void BundleChecker::CheckTokenizer() {
  Check check = {.name = "tokenizer", .outcome = Outcome::kPass};
  if (tokenizer_) {
    int64_t size =
        std::max(input_.tokenizer.vocab_size(), tokenizer_->vocab_size());
    const auto model = input_.bundle.SentencePieceModel();
    const bool pieces = !input_.bundle.ReadHfTokenizer() && model;
    const Difference ids = CompareIds();
    std::vector<bool> is_text;
    const Difference tokens =
        pieces ? ComparePieces(*model, size, is_text) : CompareTokens(size);
    int64_t compared = 0;
    const Difference own_texts = CompareOwnTexts(size, is_text, compared);
    if (ids.count + tokens.count + own_texts.count > 0) {
      Find(
          check, FindingId::kTokenizerDiffers,
          fmt::format(
              "The bundle's tokenizer differs for {} of {} texts, "
              "{} of {} {} and {} of {} texts of single tokens and characters.",
              ids.count, Texts().size(), tokens.count, size,
              pieces ? "pieces" : "tokens", own_texts.count, compared),
          ids.count > 0      ? ids.evidence
          : tokens.count > 0 ? tokens.evidence
                             : own_texts.evidence);
    }
  } else if (!same_tokenizer_) {
    Find(check, FindingId::kTokenizerDiffers, "The bundle has no tokenizer.",
         "");
  }
  Add(check);
}

std::vector<std::string_view> BundleChecker::Texts() const {
  std::vector<std::string_view> texts(std::begin(kTexts), std::end(kTexts));
  // Names of special tokens in a prompt are tokens to one library and text to
  // the other.
  if (!prompt_.empty()) texts.push_back(prompt_);
  return texts;
}

BundleChecker::Difference BundleChecker::CompareIds() const {
  Difference difference;
  for (const std::string_view text : Texts()) {
    const auto own = input_.tokenizer.Encode(text, false);
    const auto theirs = tokenizer_->Encode(text, false);
    if (own == theirs) continue;
    difference.Add(fmt::format("{} is {}", Quote(text), fmt::join(own, " ")),
                   fmt::format("{}", fmt::join(theirs, " ")));
  }
  return difference;
}

BundleChecker::Difference BundleChecker::CompareTokens(int64_t size) const {
  Difference difference;
  for (int32_t id = 0; id < size; ++id) {
    const std::span<const int32_t> one(&id, 1);
    const std::string own = input_.tokenizer.Decode(one, false);
    const std::string theirs = tokenizer_->Decode(one, false);
    if (own == theirs) continue;
    difference.Add(fmt::format("token {} is {}", id, Quote(own)),
                   Quote(theirs));
  }
  return difference;
}

// What each token's own text and, of two Hugging Face tokenizers, each
// character is split into by both: a merge or a piece that one of them lacks
// shows there, and in few other texts. Left out are tokens that end inside a
// character, which no text gives alone, and those that `is_text` says are none
// (empty: all are).
BundleChecker::Difference BundleChecker::CompareOwnTexts(
    int64_t size, const std::vector<bool>& is_text, int64_t& compared) const {
  std::vector<std::string> texts;
  const auto json = input_.bundle.ReadHfTokenizer();
  const bool doubled =
      json && CheckTokenizerJson(*json, input_.bundle.path()).ignores_merges;
  for (int32_t id = 0; id < size; ++id) {
    if (!is_text.empty() && !is_text[static_cast<size_t>(id)]) continue;
    std::string text = input_.tokenizer.Decode({&id, 1}, false);
    if (text.empty() || text.find(kReplacement) != std::string::npos) continue;
    // Merges are not asked for a word that is a token, but for twice that word.
    if (doubled) texts.push_back(text + text.substr(text.starts_with(' ')));
    texts.push_back(std::move(text));
  }
  if (json) AppendCharacters(texts);
  auto other = std::async(std::launch::async,
                          [&] { return tokenizer_->EncodeAll(texts); });
  const auto own = input_.tokenizer.EncodeAll(texts);
  const auto theirs = other.get();
  Difference difference;
  for (size_t i = 0; i < texts.size(); ++i) {
    if (own[i] == theirs[i]) continue;
    difference.Add(
        fmt::format("{} is {}", Quote(texts[i]), fmt::join(own[i], " ")),
        fmt::format("{}", fmt::join(theirs[i], " ")));
  }
  compared = static_cast<int64_t>(texts.size());
  return difference;
}

// SentencePiece's ModelProto { pieces = 1 { piece = 1, type = 3 } }
// (sentencepiece_model.proto): the pieces must be the checkpoint's tokens.
// `size` becomes their number, and `is_text` says of each whether it stands for
// text: others (control, unknown, bytes) are never found in a text.
BundleChecker::Difference BundleChecker::ComparePieces(
    std::string_view sentencepiece, int64_t& size,
    std::vector<bool>& is_text) const {
  constexpr int64_t kNormal = 1, kUserDefined = 4, kUnused = 5;
  const std::string what = input_.bundle.path() + ": the SentencePiece model";
  Difference difference;
  size = 0;
  for (ProtoReader model(sentencepiece, what); model.Next();) {
    if (model.field() != 1) continue;
    std::string_view piece;
    int64_t type = kNormal;  // what a piece is that says nothing
    for (ProtoReader reader(model.Bytes(), what); reader.Next();) {
      if (reader.field() == 1) piece = reader.Bytes();
      if (reader.field() == 3) type = reader.Int();
    }
    const int64_t id = size++;
    is_text.push_back(type == kNormal || type == kUserDefined);
    if (type == kUnused) continue;
    if (input_.tokenizer.TokenToId(piece) == id) continue;
    // litert-torch's tokenizer_to_sentencepiece makes pieces of tokens' texts.
    const auto one = static_cast<int32_t>(id);
    const std::string own = input_.tokenizer.Decode({&one, 1}, false);
    if (own == tokenizer_->Decode({&one, 1}, false)) continue;
    difference.Add(fmt::format("token {} is {}", id, Quote(own)),
                   fmt::format("piece {} is {}", id, Quote(piece)));
  }
  return difference;
}

}  // namespace

void CheckBundle(const BundleCheckInput& input, Verification& verification) {
  BundleChecker(input, verification).Run();
}

}  // namespace verify_tflite
