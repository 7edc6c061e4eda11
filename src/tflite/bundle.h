// SPDX-License-Identifier: Apache-2.0
// What is packed around a converted model: .litertlm files of LiteRT-LM and
// .task files of MediaPipe.
//
// Formats: docs/litertlm_format.md, docs/task_format.md. Pure: calls no
// runtime.
#ifndef VERIFY_TFLITE_TFLITE_BUNDLE_H_
#define VERIFY_TFLITE_TFLITE_BUNDLE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace verify_tflite {

class MappedFile;
struct ExecutorMetadata;

enum class BundleFormat { kLitertlm, kTask };

// Numbers of the header schema's AnySectionDataType.
enum class SectionType : uint8_t {
  kNone = 0,
  kGenericBinaryData = 1,
  kDeprecated = 2,
  kTfliteModel = 3,
  kSentencePieceTokenizer = 4,
  kLlmMetadata = 5,
  kHfTokenizerZlib = 6,
  kTfliteWeights = 7,
  kEmbeddingMetadata = 8,
  kExecutorMetadata = 9,
  kTtsMetadata = 10,
  kAsrMetadata = 11,
};
// "TFLiteModel", …; "type 42" for a number that the schema lacks.
std::string NameOf(SectionType type);

using KeyValue = std::pair<std::string, std::string>;  // values as text

struct BundleSection {
  SectionType type = SectionType::kNone;
  uint64_t begin = 0;  // offset in the file
  uint64_t end = 0;    // one past the last byte
  std::vector<KeyValue> items;
  // Item "model_type" in lower case, without the prefix "tf_lite_" that
  // builders put before it or leave out: "prefill_decode", "embedder". May be
  // empty.
  std::string model_type;
  std::span<const std::byte> bytes;  // of the file's mapping
};

// A token by its ids or by its text, as the metadata gives it.
struct BundleToken {
  std::vector<int32_t> ids;
  std::string text;  // where there are no ids
};

// What stands before and behind each message of a role.
struct PromptAffixes {
  std::string prefix;
  std::string suffix;
};

// The fields of LlmMetadata that decide what the model is fed and where its
// text ends.
struct LlmMetadata {
  std::optional<BundleToken> start_token;
  std::vector<BundleToken> stop_tokens;
  std::optional<std::string> jinja_template;
  std::optional<PromptAffixes> user, model, system;  // the older way
  // Of .task files. What a session begins with, before all messages.
  std::string session_prefix;
  // Before and behind a prompt of the user, with nothing said about other roles
  // and further turns: how .task files did before they knew roles.
  std::optional<PromptAffixes> single_turn;
  // The SentencePiece model has pieces in GPT-2's alphabet: each byte of a text
  // becomes a character before it is split.
  bool bytes_to_unicode = false;
  int64_t max_num_tokens = 0;  // 0: not given
  std::optional<BundleToken> pad_token;  // what fills up a prefill
  std::string model_type;      // "generic_model", "gemma3", …; may be empty
};

// Views into the bytes it was made from, which must outlive it.
class Bundle {
 public:
  // Whether a file that begins so is a .litertlm, or a zip archive as .task
  // files are.
  static bool IsBundle(std::span<const std::byte> file);
  static bool IsTask(std::span<const std::byte> file);

  // Either, by how the file begins; nothing if it is neither.
  static std::optional<Bundle> Open(const MappedFile& file);

  // Reads the header. Throws Error, with `path` in the message, when it is
  // damaged, of another major version, or its sections do not lie within the
  // file, one behind the other.
  static Bundle Read(std::span<const std::byte> file, const std::string& path);

  // Reads the directory of a .task; its entries become sections. Throws Error
  // when the archive is damaged, or an entry is compressed or misaligned.
  static Bundle ReadTask(const MappedFile& file);

  const std::string& path() const { return path_; }
  BundleFormat format() const { return format_; }
  // Of a .litertlm.
  const std::array<uint32_t, 3>& version() const { return version_; }
  const std::vector<KeyValue>& system_metadata() const { return metadata_; }
  const std::vector<BundleSection>& sections() const { return sections_; }

  // The one section of that type, nullptr if there is none. With a
  // `model_type`, only such sections count. Throws Error when there are
  // several.
  const BundleSection* Find(SectionType type,
                            std::string_view model_type = "") const;

  // The model that runs prefill and decode. Throws Error when there is none,
  // or when its weights are in a section of their own.
  const BundleSection& PrefillDecode() const;
  // The model that makes embeddings of tokens, nullptr where that is part of
  // the model above. `model_type` also: "per_layer_embedder".
  const BundleSection* Embedder(std::string_view model_type = "embedder") const;

  // Absent where there is no such section. Throws Error for a damaged one.
  std::optional<LlmMetadata> ReadLlmMetadata() const;
  std::optional<ExecutorMetadata> ReadExecutorMetadata() const;
  // tokenizer.json, inflated.
  std::optional<std::string> ReadHfTokenizer() const;
  // SentencePiece's ModelProto, as it is.
  std::optional<std::string_view> SentencePieceModel() const;

 private:
  // The section of the text model's tokenizer: the one without model_type, or
  // with that of the text model.
  const BundleSection* FindTokenizer(SectionType type) const;

  std::string path_;
  BundleFormat format_ = BundleFormat::kLitertlm;
  std::array<uint32_t, 3> version_ = {};
  std::vector<KeyValue> metadata_;
  std::vector<BundleSection> sections_;
};

// The two messages that hold such metadata. A .task has either, which this
// tells apart.
LlmMetadata ParseLlmMetadata(std::string_view proto, const std::string& what);
LlmMetadata ParseLlmParameters(std::string_view proto, const std::string& what);
bool IsLlmParameters(std::string_view proto, const std::string& what);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_TFLITE_BUNDLE_H_
