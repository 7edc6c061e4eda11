// SPDX-License-Identifier: Apache-2.0
#include "tflite/executor_metadata.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "base/protobuf.h"
#include "base/utf8.h"

namespace verify_tflite {
namespace {

// A number of an enum by its name; none for 0.
template <size_t kCount>
std::string NameIn(const char* const (&names)[kCount], int64_t number,
                   std::string_view kind) {
  if (number == 0) return "";
  const auto index = static_cast<uint64_t>(number) - 1;
  if (number > 0 && index < kCount) return names[index];
  return fmt::format("{} {}", kind, number);
}

std::string TypeName(int64_t number) {
  constexpr const char* kNames[] = {"global key cache", "global value cache",
                                    "local key cache", "local value cache",
                                    "linear attention"};
  return NameIn(kNames, number, "type");
}

std::string MaskName(int64_t number) {
  constexpr const char* kNames[] = {"causal", "bidirectional",
                                    "vision bidirectional"};
  return NameIn(kNames, number, "mask");
}

StateBuffer ReadStateBuffer(std::string_view proto, const std::string& what) {
  StateBuffer buffer;
  for (ProtoReader reader(proto, what); reader.Next();) {
    switch (reader.field()) {
      case 1:
        buffer.prefill_input = reader.Text();
        break;
      case 2:
        buffer.prefill_output = reader.Text();
        break;
      case 3:
        buffer.decode_input = reader.Text();
        break;
      case 4:
        buffer.decode_output = reader.Text();
        break;
      case 6:
        buffer.type = TypeName(reader.Int());
        break;
      default:
        break;
    }
  }
  return buffer;
}

void ReadMasks(std::string_view proto, const std::string& what,
               ExecutorMetadata& metadata) {
  for (ProtoReader reader(proto, what); reader.Next();) {
    switch (reader.field()) {
      case 1:
        metadata.mask = MaskName(reader.Int());
        break;
      case 2:
        metadata.local_mask = MaskName(reader.Int());
        break;
      case 3:
        metadata.sliding_window_size = reader.Int();
        break;
      default:
        break;
    }
  }
}

void ReadLlm(std::string_view proto, const std::string& what,
             ExecutorMetadata& metadata) {
  for (ProtoReader reader(proto, what); reader.Next();) {
    switch (reader.field()) {
      case 1:
        metadata.max_history_size = reader.Int();
        break;
      case 2:
        metadata.state_buffers.push_back(ReadStateBuffer(reader.Bytes(), what));
        break;
      case 3:
        ReadMasks(reader.Bytes(), what, metadata);
        break;
      default:
        break;
    }
  }
}

bool Has(const std::vector<TensorSpec>& tensors, const std::string& name) {
  return std::ranges::count(tensors, name, &TensorSpec::name) > 0;
}

void CheckNames(const SignatureSpec& signature, const std::string& input,
                const std::string& output, std::vector<std::string>& faults) {
  const auto check = [&](const std::vector<TensorSpec>& tensors,
                         const std::string& name, std::string_view kind) {
    if (name.empty() || Has(tensors, name)) return;
    faults.push_back(
        fmt::format("ExecutorMetadata names {} as state, which is no {} of {}",
                    Quote(name), kind, Quote(signature.name)));
  };
  check(signature.inputs, input, "input");
  check(signature.outputs, output, "output");
}

// Whether what is known of the type fits what the name stands for.
bool FitsName(const StateBuffer& buffer) {
  constexpr std::pair<KvPart, std::string_view> kTypes[] = {
      {KvPart::kKeys, "key cache"},
      {KvPart::kValues, "value cache"},
      {KvPart::kConvState, "linear attention"}};
  const auto name = ParseKvName(buffer.decode_input);
  const auto is = [&](const auto& type) {
    return buffer.type.ends_with(type.second);
  };
  if (!name || std::ranges::none_of(kTypes, is)) return true;
  return std::ranges::any_of(kTypes, [&](const auto& type) {
    return type.first == name->part && is(type);
  });
}

}  // namespace

ExecutorMetadata ParseExecutorMetadata(std::string_view proto,
                                       const std::string& what) {
  ExecutorMetadata metadata;
  for (ProtoReader reader(proto, what); reader.Next();) {
    if (reader.field() == 1) ReadLlm(reader.Bytes(), what, metadata);
  }
  return metadata;
}

std::vector<std::string> CompareState(const ExecutorMetadata& metadata,
                                      const SignatureSpec& decode,
                                      std::span<const SignatureSpec> prefills) {
  std::vector<std::string> faults;
  if (metadata.state_buffers.empty()) return faults;
  std::set<std::string> named;
  for (const StateBuffer& buffer : metadata.state_buffers) {
    named.insert(buffer.decode_input);
    CheckNames(decode, buffer.decode_input, buffer.decode_output, faults);
    if (!FitsName(buffer)) {
      faults.push_back(
          fmt::format("ExecutorMetadata has {} as {}, by its name it is another",
                      Quote(buffer.decode_input), Quote(buffer.type)));
    }
    for (const SignatureSpec& prefill : prefills) {
      CheckNames(prefill, buffer.prefill_input, buffer.prefill_output, faults);
    }
  }
  for (const TensorSpec& input : decode.inputs) {
    if (!ParseKvName(input.name) || named.contains(input.name)) continue;
    faults.push_back(fmt::format(
        "ExecutorMetadata does not name {}, an input of {} that keeps keys or "
        "values",
        Quote(input.name), Quote(decode.name)));
  }
  return faults;
}

}  // namespace verify_tflite
