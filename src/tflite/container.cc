// SPDX-License-Identifier: Apache-2.0
#include "tflite/container.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "base/error.h"
#include "base/no_file.h"

namespace verify_tflite::tflite {
namespace {

std::string WhatOf(const std::string& path, const BundleSection& section,
                   const std::string& name) {
  if (section.model_type == kEmbedder ||
      section.model_type == kPerLayerEmbedder) {
    return path + ": the embedder's section";
  }
  const bool model =
      section.model_type.empty() || section.model_type == "prefill_decode";
  return model ? path + ": the model's section" : name;
}

}  // namespace

std::string FileBeside(const std::string& path, std::string_view name) {
  constexpr std::string_view kModel = "model";
  const std::filesystem::path file(path);
  const std::string own = file.filename().string();
  if (!own.starts_with(kModel)) return "";
  return file.parent_path() / (std::string(name) + own.substr(kModel.size()));
}

Part::Part(std::string path, std::string model_type)
    : name_(std::move(path)),
      what_(name_),
      model_type_(std::move(model_type)) {}

Part::Part(std::span<const std::byte> bytes, std::string name, std::string what,
           std::string model_type)
    : name_(std::move(name)),
      what_(std::move(what)),
      model_type_(std::move(model_type)),
      bytes_(bytes) {}

std::span<const std::byte> Part::bytes() const {
  if (bytes_.data() == nullptr) bytes_ = mapping_.emplace(name_).bytes();
  return bytes_;
}

const File& Part::file() const {
  if (!file_) file_ = File::Read(bytes(), what_);
  return *file_;
}

Container::Container(const std::string& path) : file_(path) {
  RefuseNoFile(file_.bytes(), path);
  bundle_ = Bundle::Open(file_);
  if (bundle_) {
    for (const BundleSection& s : bundle_->sections()) {
      if (s.type != SectionType::kTfliteModel) continue;
      const std::string name = s.model_type.empty()
                                   ? path
                                   : fmt::format("{}: {}", path, s.model_type);
      parts_.emplace_back(s.bytes, name, WhatOf(path, s, name), s.model_type);
    }
    return;
  }
  parts_.emplace_back(file_.bytes(), path, path, "");
  for (const std::string_view name : {kEmbedder, kPerLayerEmbedder}) {
    const std::string beside = FileBeside(path, name);
    std::error_code ignored;
    if (!beside.empty() && std::filesystem::exists(beside, ignored)) {
      parts_.emplace_back(beside, std::string(name));
    }
  }
}

const Part& Container::PartOf(const BundleSection& section) const {
  const auto found = std::ranges::find_if(parts_, [&](const Part& part) {
    return part.bytes().data() == section.bytes.data() &&
           part.bytes().size() == section.bytes.size();
  });
  if (found == parts_.end()) throw Error("{}: a section is gone", path());
  return *found;
}

const Part& Container::model() const {
  return bundle_ ? PartOf(bundle_->PrefillDecode()) : parts_.front();
}

const Part* Container::embedder(std::string_view name) const {
  if (bundle_) {
    const BundleSection* section = bundle_->Embedder(name);
    return section == nullptr ? nullptr : &PartOf(*section);
  }
  const auto found = std::ranges::find(parts_, name, &Part::model_type);
  return found == parts_.end() ? nullptr : &*found;
}

std::vector<const Part*> Container::model_parts() const {
  std::vector<const Part*> found = {&model()};
  for (const std::string_view name : {kEmbedder, kPerLayerEmbedder}) {
    if (const Part* part = embedder(name)) found.push_back(part);
  }
  return found;
}

void Container::CheckKind() const {
  if (!bundle_ && !IsTflite(bytes())) {
    throw Error("{}: is neither a .tflite nor a .litertlm or .task file",
                path());
  }
}

}  // namespace verify_tflite::tflite
