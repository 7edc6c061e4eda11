// SPDX-License-Identifier: Apache-2.0
// .task files: zip archives of MediaPipe. Format: docs/task_format.md.
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/protobuf.h"
#include "base/utf8.h"
#include "base/zip_file.h"
#include "tflite/bundle.h"

namespace verify_tflite {
namespace {

constexpr std::string_view kLocalHeader = "PK\3\4";
// The bundler pads in front of local headers, the first one's too, by at most
// as much (AlignZipFile in model_asset_bundle_utils.py, _ALIGNMENT = 4).
constexpr size_t kAlignment = 4;

// Names of entries (llm_bundler.py, _BundleTags; ModelTypeToString in
// model_resources.h of LiteRT-LM).
constexpr std::string_view kModelPrefix = "TF_LITE_";
constexpr std::string_view kTokenizer = "TOKENIZER_MODEL";
constexpr std::string_view kMetadata = "METADATA";

std::string_view AsText(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

SectionType TypeOf(std::string_view name) {
  if (name.starts_with(kModelPrefix)) return SectionType::kTfliteModel;
  if (name == kTokenizer) return SectionType::kSentencePieceTokenizer;
  if (name == kMetadata) return SectionType::kLlmMetadata;
  return SectionType::kGenericBinaryData;
}

std::string LowerCase(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

BundleSection ReadEntry(const MappedFile& file, const ZipFile& zip,
                        const std::string& name) {
  BundleSection section;
  section.type = TypeOf(name);
  section.bytes = zip.Get(name);
  section.begin =
      static_cast<uint64_t>(section.bytes.data() - file.bytes().data());
  section.end = section.begin + section.bytes.size();
  section.items = {{"name", name}};
  if (section.type == SectionType::kTfliteModel) {
    section.model_type = LowerCase(name.substr(kModelPrefix.size()));
    // The runtime reads words in place.
    if (section.begin % kAlignment != 0) {
      throw Error(
          "{}: {} begins at byte {}, expected a multiple of {}, as MediaPipe's "
          "bundler aligns it. Was the archive packed by another program?",
          file.path(), Quote(name), section.begin, kAlignment);
    }
  }
  return section;
}

// PromptTemplate { session_prefix = 1, prompt_prefix = 2, prompt_suffix = 3 }
struct PromptTemplate {
  std::string session_prefix;
  PromptAffixes affixes;
};

PromptTemplate ReadPromptTemplate(std::string_view proto,
                                  const std::string& what) {
  PromptTemplate result;
  for (ProtoReader reader(proto, what); reader.Next();) {
    if (reader.field() == 1) result.session_prefix = reader.Text();
    if (reader.field() == 2) result.affixes.prefix = reader.Text();
    if (reader.field() == 3) result.affixes.suffix = reader.Text();
  }
  return result;
}

// PromptTemplates { user_template = 1, model_template = 2, system_template = 3
// }
void ReadPromptTemplates(std::string_view proto, const std::string& what,
                         LlmMetadata& metadata) {
  for (ProtoReader reader(proto, what); reader.Next();) {
    std::optional<PromptAffixes>* role = reader.field() == 1   ? &metadata.user
                                         : reader.field() == 2 ? &metadata.model
                                         : reader.field() == 3
                                             ? &metadata.system
                                             : nullptr;
    if (role != nullptr) {
      *role = ReadPromptTemplate(reader.Bytes(), what).affixes;
    }
  }
}

// TransformerParameters { max_seq_length = 2 }
int64_t ReadMaxLength(std::string_view proto, const std::string& what) {
  int64_t length = 0;
  for (ProtoReader reader(proto, what); reader.Next();) {
    if (reader.field() == 2) length = reader.Int();
  }
  return length;
}

// Newer bundlers write the older template as well, saying the same. Where they
// differ LiteRT-LM goes by the older one (measured with litert-lm-api 0.18.1).
void UseTemplate(const std::optional<PromptTemplate>& single,
                 LlmMetadata& metadata) {
  const PromptAffixes user = metadata.user.value_or(PromptAffixes{});
  const PromptAffixes model = metadata.model.value_or(PromptAffixes{});
  const bool roles = metadata.user || metadata.model || metadata.system;
  if (single) metadata.session_prefix = single->session_prefix;
  const PromptAffixes older = single.value_or(PromptTemplate{}).affixes;
  const bool given = !older.prefix.empty() || !older.suffix.empty();
  const bool same =
      older.prefix == user.prefix && older.suffix == user.suffix + model.prefix;
  if (roles && (!given || same)) return;
  metadata.single_turn = older;
  metadata.user = metadata.model = metadata.system = std::nullopt;
}

BundleToken TokenOfId(int64_t id) {
  return {.ids = {static_cast<int32_t>(id)}, .text = ""};
}

}  // namespace

// odml.infra.proto.LlmParameters: llm_params.proto, prompt_template.proto and
// transformer_params.proto of MediaPipe (mediapipe/tasks/cc/genai/inference/
// proto); fields that these lack, by the descriptors in liblitert-lm.so 0.18.1.
LlmMetadata ParseLlmParameters(std::string_view proto,
                               const std::string& what) {
  constexpr int32_t kBytesToUnicode = 1;
  LlmMetadata metadata;
  std::vector<int32_t> stop_ids, normalizations;
  std::optional<PromptTemplate> single;
  for (ProtoReader reader(proto, what); reader.Next();) {
    switch (reader.field()) {
      case 1:
        metadata.max_num_tokens = ReadMaxLength(reader.Bytes(), what);
        break;
      case 4:
        metadata.start_token = TokenOfId(reader.Int());
        break;
      case 5:
        metadata.stop_tokens.push_back({.ids = {}, .text = reader.Text()});
        break;
      case 6:
        metadata.start_token = {.ids = {}, .text = reader.Text()};
        break;
      case 7:
        reader.AppendInts(normalizations);
        break;
      case 8:
        single = ReadPromptTemplate(reader.Bytes(), what);
        break;
      case 17:
        ReadPromptTemplates(reader.Bytes(), what, metadata);
        break;
      case 18:
        reader.AppendInts(stop_ids);
        break;
      default:
        break;
    }
  }
  for (const int32_t id : stop_ids) {
    metadata.stop_tokens.push_back(TokenOfId(id));
  }
  for (const int32_t normalization : normalizations) {
    if (normalization == kBytesToUnicode) {
      metadata.bytes_to_unicode = true;
    } else if (normalization != 0) {
      throw Error("{}: text is normalised in a way that is not known ({})",
                  what, normalization);
    }
  }
  UseTemplate(single, metadata);
  return metadata;
}

// Of LlmParameters 2 and 4 are numbers and 5 a text; of LlmMetadata 2 and 4 are
// messages and 5 is a number. 3 belongs to the latter alone, 17 and 18 to the
// former.
bool IsLlmParameters(std::string_view proto, const std::string& what) {
  for (ProtoReader reader(proto, what); reader.Next();) {
    switch (reader.field()) {
      case 2:
        return !reader.is_bytes();
      case 5:
        return reader.is_bytes();
      case 4:
        return !reader.is_bytes();
      case 3:
        return false;
      case 17:
      case 18:
        return true;
      default:
        break;
    }
  }
  return false;
}

bool Bundle::IsTask(std::span<const std::byte> file) {
  return AsText(file)
             .substr(0, kAlignment + kLocalHeader.size())
             .find(kLocalHeader) != std::string_view::npos;
}

Bundle Bundle::ReadTask(const MappedFile& file) {
  const ZipFile zip(file);
  Bundle bundle;
  bundle.path_ = file.path();
  bundle.format_ = BundleFormat::kTask;
  for (const auto& [name, entry] : zip.entries()) {
    // Of a directory there is nothing to read.
    if (!name.ends_with('/')) {
      bundle.sections_.push_back(ReadEntry(file, zip, name));
    }
  }
  std::ranges::sort(bundle.sections_, {}, &BundleSection::begin);
  return bundle;
}

std::optional<Bundle> Bundle::Open(const MappedFile& file) {
  if (IsBundle(file.bytes())) return Read(file.bytes(), file.path());
  if (IsTask(file.bytes())) return ReadTask(file);
  return std::nullopt;
}

}  // namespace verify_tflite
