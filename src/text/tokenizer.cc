#include "text/tokenizer.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/python_library.h"
#include "base/utf8.h"
#include "text/tokenizer_impl.h"
#include "text/tokenizer_json.h"
#include "text/vocab_merges.h"

namespace verify_tflite {
namespace {

// The functions by which LiteRT-LM reaches the Hugging Face library, as
// github.com/mlc-ai/tokenizers-cpp documents them (include/tokenizers_c.h).
struct EncodeResult {
  int32_t* ids;
  size_t size;
};
using NewFromStr = void*(const char* json, size_t size);
using Encode = void(void* handle, const char* text, size_t size,
                    int add_special_tokens, EncodeResult* result);
using FreeEncodeResults = void(EncodeResult* results, size_t count);
using Decode = void(void* handle, const uint32_t* ids, size_t size,
                    int skip_special_tokens);
using GetDecodeStr = void(void* handle, const char** text, size_t* size);
using TokenToId = void(void* handle, const char* token, size_t size,
                       int32_t* id);
using GetVocabSize = void(void* handle, size_t* size);
using Free = void(void* handle);

struct TokenizersLibrary {
  explicit TokenizersLibrary(const SharedLibrary& so)
      : new_from_str(so.Symbol<NewFromStr>("tokenizers_new_from_str")),
        encode(so.Symbol<Encode>("tokenizers_encode")),
        free_encode_results(
            so.Symbol<FreeEncodeResults>("tokenizers_free_encode_results")),
        decode(so.Symbol<Decode>("tokenizers_decode")),
        get_decode_str(so.Symbol<GetDecodeStr>("tokenizers_get_decode_str")),
        token_to_id(so.Symbol<TokenToId>("tokenizers_token_to_id")),
        get_vocab_size(so.Symbol<GetVocabSize>("tokenizers_get_vocab_size")),
        free(so.Symbol<Free>("tokenizers_free")) {}

  NewFromStr* new_from_str;
  Encode* encode;
  FreeEncodeResults* free_encode_results;
  Decode* decode;
  GetDecodeStr* get_decode_str;
  TokenToId* token_to_id;
  GetVocabSize* get_vocab_size;
  Free* free;
};

constexpr const char* kRequirement = "litert-lm-api==0.18.1";

// These functions are no public interface of the package, so one version is
// asked for, and a library without them is refused.
const TokenizersLibrary& LoadLibrary() {
  static const TokenizersLibrary library = [] {
    const SharedLibrary so(
        FindPythonLibrary({"litert_lm", "liblitert-lm.so",
                           "VERIFY_TFLITE_LITERT_LM", kRequirement}));
    try {
      return TokenizersLibrary(so);
    } catch (const Error& e) {
      throw Error("{}\nInstall the one it needs with\n  pip install '{}'",
                  e.what(), kRequirement);
    }
  }();
  return library;
}

void RequireUtf8(std::string_view text) {
  const size_t fault = FindInvalidUtf8(text);
  if (fault == std::string_view::npos) return;
  throw Error("the text is not UTF-8: byte {} (0x{:02X}) fits no character",
              fault, static_cast<uint8_t>(text[fault]));
}

// The library takes no null pointer, not even with size 0.
}  // namespace

namespace {

class HuggingFaceTokenizer final : public Tokenizer::Impl {
 public:
  HuggingFaceTokenizer(const TokenizersLibrary& library, std::string_view json)
      : library_(library),
        handle_(library.new_from_str(json.data(), json.size())) {
    library_.get_vocab_size(handle_, &count_);
  }
  ~HuggingFaceTokenizer() override { library_.free(handle_); }
  HuggingFaceTokenizer(const HuggingFaceTokenizer&) = delete;
  HuggingFaceTokenizer& operator=(const HuggingFaceTokenizer&) = delete;

  void AtLeast(int64_t vocab_size) {
    vocab_size_ = std::max(vocab_size, static_cast<int64_t>(count_));
  }

  std::vector<int32_t> Encode(std::string_view text,
                              bool add_special_tokens) const override {
    EncodeResult result = {nullptr, 0};
    library_.encode(handle_, NotNull(text), text.size(), add_special_tokens,
                    &result);
    std::vector<int32_t> ids(result.ids, result.ids + result.size);
    library_.free_encode_results(&result, 1);
    return ids;
  }

  std::string Decode(std::span<const int32_t> ids,
                     bool skip_special_tokens) const override {
    std::vector<uint32_t> unsigned_ids(ids.begin(), ids.end());
    library_.decode(handle_, unsigned_ids.data(), unsigned_ids.size(),
                    skip_special_tokens);
    const char* text = nullptr;
    size_t size = 0;
    library_.get_decode_str(handle_, &text, &size);
    return {text, size};
  }

  std::optional<int32_t> TokenToId(std::string_view token) const override {
    int32_t id = -1;
    library_.token_to_id(handle_, NotNull(token), token.size(), &id);
    return id < 0 ? std::nullopt : std::optional(id);
  }

  int64_t vocab_size() const override { return vocab_size_; }

 private:
  const TokenizersLibrary& library_;
  void* handle_;
  size_t count_ = 0;
  int64_t vocab_size_ = 0;
};

}  // namespace

std::unique_ptr<Tokenizer::Impl> Tokenizer::Impl::OpenHuggingFace(
    std::string_view text, const std::string& origin) {
  const TokenizerJson facts = CheckTokenizerJson(text, origin);
  const TokenizersLibrary& library = LoadLibrary();
  auto impl = facts.truncates || facts.pads
                  ? std::make_unique<HuggingFaceTokenizer>(
                        library, WithoutTruncationAndPadding(text))
                  : std::make_unique<HuggingFaceTokenizer>(library, text);
  impl->AtLeast(facts.max_id + 1);
  if (!facts.unk_token.empty() && !impl->TokenToId(facts.unk_token)) {
    // Encode would end the process at the first unknown character.
    throw Error("{}: `unk_token` is {}, which is not in the vocabulary", origin,
                Quote(facts.unk_token));
  }
  return impl;
}

Tokenizer Tokenizer::FromJson(std::string_view text,
                              const std::string& origin) {
  return Tokenizer(Impl::OpenHuggingFace(text, origin));
}

Tokenizer Tokenizer::FromSentencePiece(std::string_view model,
                                       const std::string& origin,
                                       bool bytes_to_unicode) {
  return Tokenizer(
      Impl::OpenPlainSentencePiece(model, origin, bytes_to_unicode));
}

Tokenizer Tokenizer::Open(const std::string& directory) {
  std::error_code ignored;
  const std::string json = directory + "/tokenizer.json";
  if (!std::filesystem::exists(json, ignored)) {
    if (std::filesystem::exists(directory + "/tokenizer.model", ignored)) {
      return Tokenizer(Impl::OpenSentencePiece(directory));
    }
    if (HasVocabOrMerges(directory)) {
      return FromJson(TokenizerJsonOfVocabAndMerges(directory),
                      directory + "/vocab.json");
    }
  }
  const MappedFile file(json);
  return FromJson(
      {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()},
      json);
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

std::vector<int32_t> Tokenizer::Encode(std::string_view text,
                                       bool add_special_tokens) const {
  RequireUtf8(text);
  return impl_->Encode(text, add_special_tokens);
}

std::vector<std::vector<int32_t>> Tokenizer::EncodeAll(
    std::span<const std::string> texts) const {
  std::vector<std::vector<int32_t>> ids;
  ids.reserve(texts.size());
  for (const std::string& text : texts) ids.push_back(Encode(text, false));
  return ids;
}

std::string Tokenizer::Decode(std::span<const int32_t> ids,
                              bool skip_special_tokens) const {
  if (ids.empty()) return {};
  return impl_->Decode(ids, skip_special_tokens);
}

std::optional<int32_t> Tokenizer::TokenToId(std::string_view token) const {
  if (FindInvalidUtf8(token) != std::string_view::npos) return std::nullopt;
  return impl_->TokenToId(token);
}

int64_t Tokenizer::vocab_size() const { return impl_->vocab_size(); }

}  // namespace verify_tflite
