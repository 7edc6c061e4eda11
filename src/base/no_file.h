// Recognises what stands in the place of a file that was not downloaded.
#ifndef VERIFY_TFLITE_BASE_NO_FILE_H_
#define VERIFY_TFLITE_BASE_NO_FILE_H_

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace verify_tflite {

// Throws Error, which names it and the remedy, for a Git LFS pointer: the few
// lines that git keeps in the place of a large file
// (https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md).
void RefuseLfsPointer(std::string_view content, const std::string& origin);

// Does what RefuseLfsPointer does, and throws Error for the answers of a server
// that a download kept instead of the file: a page (HTML, XML), Hugging Face's
// "Entry not found", "Access to model … is restricted" and similar ones. It is
// for files that are JSON or binary, which never begin so.
void RefuseNoFile(std::string_view content, const std::string& origin);
void RefuseNoFile(std::span<const std::byte> content,
                  const std::string& origin);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_BASE_NO_FILE_H_
