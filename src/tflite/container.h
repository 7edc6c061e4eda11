// SPDX-License-Identifier: Apache-2.0
// The files of one converted model: a .tflite, a .litertlm or a .task, and the
// embedder that belongs to it. Each is mapped and parsed once.
#ifndef VERIFY_TFLITE_TFLITE_CONTAINER_H_
#define VERIFY_TFLITE_TFLITE_CONTAINER_H_

#include <cstddef>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "tflite/bundle.h"
#include "tflite/file.h"

namespace verify_tflite::tflite {

// As the converter names files and sections of bundles.
inline constexpr std::string_view kEmbedder = "embedder";
inline constexpr std::string_view kPerLayerEmbedder = "per_layer_embedder";

// Returns the file that the converter writes beside `path`:
// "dir/model_quantized.tflite" -> "dir/embedder_quantized.tflite". Empty for a
// file of another name than "model…".
std::string FileBeside(const std::string& path, std::string_view name);

// A .tflite: a file of its own, or part of one. It is mapped and parsed when it
// is first asked for; two threads must not do so at the same time.
class Part {
 public:
  explicit Part(std::string path, std::string model_type = "");
  // `bytes` must outlive the part. `what` begins messages about damage.
  Part(std::span<const std::byte> bytes, std::string name, std::string what,
       std::string model_type);

  // Returns a path, or "<path>: embedder" in a bundle.
  const std::string& name() const { return name_; }
  // Returns "embedder", …; empty for a .tflite that is not beside another.
  const std::string& model_type() const { return model_type_; }
  // Throws Error when the file cannot be mapped.
  std::span<const std::byte> bytes() const;
  // Throws Error, here and at later calls, when the file is damaged.
  const File& file() const;

 private:
  std::string name_, what_, model_type_;
  mutable std::optional<MappedFile> mapping_;  // of a file of its own
  mutable std::span<const std::byte> bytes_;
  mutable std::optional<File> file_;
};

class Container {
 public:
  // Maps `path` and reads what is packed around models. Throws Error when it
  // cannot be read, stands for a file that was not downloaded, or is a damaged
  // bundle. Whether it is a .tflite otherwise is not asked.
  explicit Container(const std::string& path);
  Container(const Container&) = delete;
  Container& operator=(const Container&) = delete;

  const std::string& path() const { return file_.path(); }
  std::span<const std::byte> bytes() const { return file_.bytes(); }
  // Returns what is packed around the model, nullptr for a .tflite alone.
  const Bundle* bundle() const { return bundle_ ? &*bundle_ : nullptr; }

  // Returns every .tflite of a bundle, or a .tflite and the embedders that lie
  // beside it.
  const std::deque<Part>& parts() const { return parts_; }
  // Returns the model that runs prefill and decode. Throws Error when a bundle
  // has none.
  const Part& model() const;
  // Returns the model that makes embeddings of tokens, kEmbedder or
  // kPerLayerEmbedder; nullptr where there is none. Throws Error when a bundle
  // has several.
  const Part* embedder(std::string_view name) const;
  // Returns model() and the embedders there are.
  std::vector<const Part*> model_parts() const;
  // Throws Error where the file is no container of a .tflite at all.
  void CheckKind() const;

 private:
  const Part& PartOf(const BundleSection& section) const;

  MappedFile file_;
  std::optional<Bundle> bundle_;
  std::deque<Part> parts_;
};

}  // namespace verify_tflite::tflite

#endif  // VERIFY_TFLITE_TFLITE_CONTAINER_H_
