// SPDX-License-Identifier: Apache-2.0
#include "tflite/bundle.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/flatbuffer.h"
#include "base/protobuf.h"
#include "base/utf8.h"
#include "tflite/executor_metadata.h"

namespace verify_tflite {
namespace {

// litert_lm_builder/litertlm_core.py, version 1.7.0.
constexpr std::string_view kMagic = "LITERTLM";
constexpr uint32_t kMajorVersion = 1;
constexpr size_t kVersionOffset = 8;
constexpr size_t kHeaderEndOffset = 24;
constexpr size_t kHeaderBegin = 32;

// Headers take some kilobytes. What is far larger is damaged.
constexpr uint64_t kMaxHeaderBytes = 16 << 20;
constexpr size_t kMaxTextBytes = 1 << 20;  // of all keys and values together
// The largest tokenizer.json known (Gemma 3) has 33 MB.
constexpr uint64_t kMaxTokenizerBytes = 256 << 20;
// Of zlib's deflate format (https://zlib.net/zlib_tech.html).
constexpr uint64_t kMaxCompression = 1032;
// Weights in a TFLite flatbuffer are aligned within it (schema.fbs).
constexpr uint64_t kModelAlignment = 16;

constexpr std::string_view kModelTypePrefix = "tf_lite_";
constexpr std::string_view kPrefillDecode = "prefill_decode";
constexpr std::string_view kArtisan = "artisan_text_decoder";

// Fields of the header schema, in the order of their declaration.
// LiteRTLMMetaData
constexpr size_t kSystemMetadata = 0, kSectionMetadata = 1;
// SystemMetadata, SectionMetadata
constexpr size_t kEntries = 0, kObjects = 0;
// SectionObject
constexpr size_t kItems = 0, kBegin = 1, kEnd = 2, kDataType = 3;
// KeyValuePair, whose value is a union of tables with one field
constexpr size_t kKey = 0, kValueType = 1, kValue = 2, kValueField = 0;

enum ValueType : uint8_t {
  kUInt8 = 1,
  kInt8,
  kUInt16,
  kInt16,
  kUInt32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kUInt64,
  kInt64,
  kDouble,
};

std::string_view AsText(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

template <typename T>
T ReadAt(std::span<const std::byte> bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

class HeaderReader {
 public:
  HeaderReader(std::span<const std::byte> header, const std::string& what)
      : buffer_(header, what) {}

  void Read(std::vector<KeyValue>& metadata,
            std::vector<BundleSection>& sections) {
    const FlatTable root = FlatTable::Root(buffer_);
    if (const auto system = root.Table(kSystemMetadata)) {
      metadata = ReadItems(system->Tables(kEntries));
    }
    const auto section_metadata = root.Table(kSectionMetadata);
    if (!section_metadata) return;
    const FlatTables objects = section_metadata->Tables(kObjects);
    for (size_t i = 0; i < objects.size(); ++i) {
      sections.push_back(ReadSection(objects[i]));
    }
  }

 private:
  BundleSection ReadSection(const FlatTable& object) {
    BundleSection section;
    section.type =
        static_cast<SectionType>(object.Scalar<uint8_t>(kDataType, 0));
    section.begin = object.Scalar<uint64_t>(kBegin, 0);
    section.end = object.Scalar<uint64_t>(kEnd, 0);
    section.items = ReadItems(object.Tables(kItems));
    for (const auto& [key, value] : section.items) {
      if (key == "model_type") section.model_type = ModelType(value);
    }
    return section;
  }

  static std::string ModelType(std::string value) {
    for (char& c : value) {
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
    if (value.starts_with(kModelTypePrefix)) {
      value.erase(0, kModelTypePrefix.size());
    }
    return value;
  }

  std::vector<KeyValue> ReadItems(const FlatTables& items) {
    std::vector<KeyValue> result;
    for (size_t i = 0; i < items.size(); ++i) {
      const FlatTable item = items[i];
      result.emplace_back(Keep(item.String(kKey)), ReadValue(item));
    }
    return result;
  }

  std::string ReadValue(const FlatTable& item) {
    const auto type = item.Scalar<uint8_t>(kValueType, 0);
    const auto value = item.Table(kValue);
    if (!value) return "";
    const auto number = [&](auto zero) {
      return fmt::format("{}", value->Scalar(kValueField, zero));
    };
    switch (type) {
      case kUInt8:
        return number(uint8_t{});
      case kInt8:
        return number(int8_t{});
      case kUInt16:
        return number(uint16_t{});
      case kInt16:
        return number(int16_t{});
      case kUInt32:
        return number(uint32_t{});
      case kInt32:
        return number(int32_t{});
      case kFloat32:
        return number(float{});
      case kBool:
        return value->Scalar<uint8_t>(kValueField, 0) != 0 ? "true" : "false";
      case kString:
        return Keep(value->String(kValueField));
      case kUInt64:
        return number(uint64_t{});
      case kInt64:
        return number(int64_t{});
      case kDouble:
        return number(double{});
      default:
        return fmt::format("(a value of type {})", type);
    }
  }

  // Strings may be shared: what is copied of them is limited.
  std::string Keep(std::string_view text) {
    if (text.size() > text_left_) buffer_.Damaged("its texts are too long");
    text_left_ -= text.size();
    return std::string(text);
  }

  FlatBuffer buffer_;
  size_t text_left_ = kMaxTextBytes;
};

// Sections in the order of the file, each within it and behind the one before.
void CheckSections(const std::vector<BundleSection>& sections,
                   uint64_t header_end, uint64_t file_size,
                   const std::string& path) {
  std::vector<size_t> order(sections.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return sections[a].begin < sections[b].begin;
  });
  uint64_t free_from = header_end;
  for (const size_t i : order) {
    const BundleSection& s = sections[i];
    if (s.end < s.begin || s.end > file_size) {
      throw Error(
          "{}: section {} ({}) is said to be bytes {} to {} of a file of {}; "
          "the file is damaged or incomplete",
          path, i, NameOf(s.type), s.begin, s.end, file_size);
    }
    if (s.begin < free_from) {
      throw Error(
          "{}: section {} ({}) begins at byte {}, inside the header or section "
          "before it, which ends at {}; the file is damaged",
          path, i, NameOf(s.type), s.begin, free_from);
    }
    if (s.type == SectionType::kTfliteModel && s.begin % kModelAlignment != 0) {
      throw Error(
          "{}: section {} ({}) begins at byte {}, expected a multiple "
          "of {}",
          path, i, NameOf(s.type), s.begin, kModelAlignment);
    }
    free_from = s.end;
  }
}

// --- LlmMetadata: field numbers of runtime/proto/llm_metadata.proto,
// token.proto and llm_model_type.proto of LiteRT-LM, as in the descriptors of
// litert_lm_builder/runtime/proto/*_pb2.py.

// TokenIds { ids = 1 }
void ReadTokenIds(std::string_view proto, const std::string& what,
                  std::vector<int32_t>& ids) {
  for (ProtoReader reader(proto, what); reader.Next();) {
    if (reader.field() == 1) reader.AppendInts(ids);
  }
}

// TokenUnion { oneof { token_ids = 1, token_str = 2 } }
BundleToken ReadToken(std::string_view proto, const std::string& what) {
  BundleToken token;
  for (ProtoReader reader(proto, what); reader.Next();) {
    if (reader.field() == 1) {
      token.text.clear();
      ReadTokenIds(reader.Bytes(), what, token.ids);
    } else if (reader.field() == 2) {
      token.ids.clear();
      token.text = reader.Text();
    }
  }
  return token;
}

// PromptAffixes { prefix = 1, suffix = 2 }
PromptAffixes ReadAffixes(std::string_view proto, const std::string& what) {
  PromptAffixes affixes;
  for (ProtoReader reader(proto, what); reader.Next();) {
    if (reader.field() == 1) affixes.prefix = reader.Text();
    if (reader.field() == 2) affixes.suffix = reader.Text();
  }
  return affixes;
}

// PromptTemplates { user = 1, model = 2, system = 3 }
void ReadPromptTemplates(std::string_view proto, const std::string& what,
                         LlmMetadata& metadata) {
  for (ProtoReader reader(proto, what); reader.Next();) {
    if (reader.field() == 1) metadata.user = ReadAffixes(reader.Bytes(), what);
    if (reader.field() == 2) metadata.model = ReadAffixes(reader.Bytes(), what);
    if (reader.field() == 3) {
      metadata.system = ReadAffixes(reader.Bytes(), what);
    }
  }
}

// LlmModelType { oneof { … } }
std::string ReadModelType(std::string_view proto, const std::string& what) {
  constexpr std::pair<uint32_t, const char*> kNames[] = {
      {1, "generic_model"}, {2, "gemma3n"},    {3, "function_gemma"},
      {4, "gemma3"},        {5, "qwen3"},      {7, "qwen2p5"},
      {8, "gemma4"},        {9, "fast_vlm"},   {11, "lfm2"},
      {12, "minicpm5"},     {13, "minicpmv4"},
  };
  std::string name;
  for (ProtoReader reader(proto, what); reader.Next();) {
    name = fmt::format("model type {}", reader.field());
    for (const auto& [number, known] : kNames) {
      if (number == reader.field()) name = known;
    }
  }
  return name;
}

}  // namespace

LlmMetadata ParseLlmMetadata(std::string_view proto, const std::string& what) {
  LlmMetadata metadata;
  for (ProtoReader reader(proto, what); reader.Next();) {
    switch (reader.field()) {
      case 1:
        metadata.start_token = ReadToken(reader.Bytes(), what);
        break;
      case 2:
        metadata.stop_tokens.push_back(ReadToken(reader.Bytes(), what));
        break;
      case 3:
        ReadPromptTemplates(reader.Bytes(), what, metadata);
        break;
      case 5:
        metadata.max_num_tokens = reader.Int();
        break;
      case 6:
        metadata.model_type = ReadModelType(reader.Bytes(), what);
        break;
      case 7:
        metadata.jinja_template = reader.Text();
        break;
      case 13:
        metadata.pad_token = ReadToken(reader.Bytes(), what);
        break;
      default:
        break;
    }
  }
  return metadata;
}

std::string NameOf(SectionType type) {
  constexpr const char* kNames[] = {
      "none",
      "GenericBinaryData",
      "Deprecated",
      "TFLiteModel",
      "SP_Tokenizer",
      "LlmMetadata",
      "HF_Tokenizer",
      "TFLiteWeights",
      "EmbeddingMetadata",
      "ExecutorMetadata",
      "TtsMetadata",
      "AsrMetadata",
  };
  const auto index = static_cast<size_t>(type);
  if (index < std::size(kNames)) return kNames[index];
  return fmt::format("type {}", index);
}

bool Bundle::IsBundle(std::span<const std::byte> file) {
  return AsText(file).starts_with(kMagic);
}

Bundle Bundle::Read(std::span<const std::byte> file, const std::string& path) {
  if (!IsBundle(file)) {
    throw Error("{}: is no .litertlm file: expected \"{}\" at its beginning",
                path, kMagic);
  }
  const std::string what = path + ": the header of the bundle";
  if (file.size() < kHeaderBegin) throw Error("{} is incomplete", what);
  Bundle bundle;
  bundle.path_ = path;
  for (size_t i = 0; i < 3; ++i) {
    bundle.version_[i] =
        ReadAt<uint32_t>(file, kVersionOffset + i * sizeof(uint32_t));
  }
  if (bundle.version_[0] != kMajorVersion) {
    throw Error("{}: is a bundle of version {}, expected {}.x", path,
                fmt::join(bundle.version_, "."), kMajorVersion);
  }
  const auto header_end = ReadAt<uint64_t>(file, kHeaderEndOffset);
  if (header_end < kHeaderBegin || header_end > file.size() ||
      header_end > kMaxHeaderBytes) {
    throw Error(
        "{} is said to end at byte {} of {}; the file is damaged or incomplete",
        what, header_end, file.size());
  }
  HeaderReader(file.subspan(kHeaderBegin, header_end - kHeaderBegin), what)
      .Read(bundle.metadata_, bundle.sections_);
  CheckSections(bundle.sections_, header_end, file.size(), path);
  for (BundleSection& s : bundle.sections_) {
    s.bytes = file.subspan(s.begin, s.end - s.begin);
  }
  return bundle;
}

const BundleSection* Bundle::Find(SectionType type,
                                  std::string_view model_type) const {
  const BundleSection* found = nullptr;
  for (const BundleSection& s : sections_) {
    if (s.type != type) continue;
    if (!model_type.empty() && s.model_type != model_type) continue;
    if (found != nullptr) {
      throw Error("{}: has several sections {}{}{}, expected one", path_,
                  NameOf(type), model_type.empty() ? "" : " of model type ",
                  model_type);
    }
    found = &s;
  }
  return found;
}

const BundleSection& Bundle::PrefillDecode() const {
  if (Find(SectionType::kTfliteWeights, kPrefillDecode) != nullptr) {
    throw Error(
        "{}: the weights of the model are in a section of their own, which is "
        "not supported yet. Build the bundle without externalized weights",
        path_);
  }
  if (const auto* model = Find(SectionType::kTfliteModel, kPrefillDecode)) {
    return *model;
  }
  std::vector<std::string> found;
  const BundleSection* unnamed = nullptr;
  for (const BundleSection& s : sections_) {
    if (s.type != SectionType::kTfliteModel) continue;
    found.push_back(s.model_type.empty() ? "one without a model type"
                                         : Quote(s.model_type));
    if (s.model_type.empty()) unnamed = &s;
  }
  if (found.size() == 1 && unnamed != nullptr) return *unnamed;
  throw Error(
      "{}: the bundle holds no TFLite model of type \"{}{}\"; found: {}{}",
      path_, kModelTypePrefix, kPrefillDecode,
      found.empty() ? "none" : fmt::format("{}", fmt::join(found, ", ")),
      Find(SectionType::kTfliteModel, kArtisan) == nullptr
          ? ""
          : ". An artisan decoder is run by LiteRT-LM's own GPU code, not by "
            "the CPU runtime that checks models here");
}

const BundleSection* Bundle::Embedder(std::string_view model_type) const {
  return Find(SectionType::kTfliteModel, model_type);
}

std::optional<LlmMetadata> Bundle::ReadLlmMetadata() const {
  const BundleSection* section = Find(SectionType::kLlmMetadata);
  if (section == nullptr) return std::nullopt;
  const std::string_view proto = AsText(section->bytes);
  if (format_ == BundleFormat::kTask &&
      IsLlmParameters(proto, path_ + ": METADATA")) {
    return ParseLlmParameters(proto, path_ + ": METADATA");
  }
  return ParseLlmMetadata(proto, path_ + ": LlmMetadata");
}

std::optional<ExecutorMetadata> Bundle::ReadExecutorMetadata() const {
  const BundleSection* section = Find(SectionType::kExecutorMetadata);
  if (section == nullptr) return std::nullopt;
  return ParseExecutorMetadata(AsText(section->bytes),
                               path_ + ": ExecutorMetadata");
}

const BundleSection* Bundle::FindTokenizer(SectionType type) const {
  if (const auto* own = Find(type, kPrefillDecode)) return own;
  for (const BundleSection& s : sections_) {
    if (s.type == type && s.model_type.empty()) return &s;
  }
  return nullptr;
}

std::optional<std::string> Bundle::ReadHfTokenizer() const {
  const BundleSection* section = FindTokenizer(SectionType::kHfTokenizerZlib);
  if (section == nullptr) return std::nullopt;
  const std::string what = path_ + ": the tokenizer";
  const auto bytes = section->bytes;
  if (bytes.size() < sizeof(uint64_t)) {
    throw Error("{} is damaged or incomplete: it has no size", what);
  }
  const auto size = ReadAt<uint64_t>(bytes, 0);
  const auto packed = bytes.subspan(sizeof(uint64_t));
  // Before memory is taken: no data of this length inflates to more.
  if (size > kMaxTokenizerBytes || size > packed.size() * kMaxCompression) {
    throw Error("{} is damaged: {} bytes are said to inflate to {}", what,
                packed.size(), size);
  }
  std::string text(size, '\0');
  uLongf inflated = size;
  uLong taken = packed.size();
  const int status =
      uncompress2(reinterpret_cast<Bytef*>(text.data()), &inflated,
                  reinterpret_cast<const Bytef*>(packed.data()), &taken);
  if (status != Z_OK || inflated != size || taken != packed.size()) {
    throw Error("{} is damaged or incomplete: zlib reports {}, {} of {} bytes",
                what, status, inflated, size);
  }
  return text;
}

std::optional<std::string_view> Bundle::SentencePieceModel() const {
  const auto* section = FindTokenizer(SectionType::kSentencePieceTokenizer);
  if (section == nullptr) return std::nullopt;
  return AsText(section->bytes);
}

}  // namespace verify_tflite
