// Tests share this: where models and expectations are, scratch files.
#ifndef VERIFY_TFLITE_BASE_TESTING_H_
#define VERIFY_TFLITE_BASE_TESTING_H_

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

namespace verify_tflite {

// They return the paths of what tools/make_models.py and
// tools/record_expectations.py made, e.g. ModelPath("tiny_f32.tflite"). They
// throw for a missing file, with the command that makes it: a test that cannot
// run fails, it is not skipped.
std::string ModelPath(std::string_view name);
std::string ExpectedPath(std::string_view name);
// They return the paths of a file committed in testdata/ and of a program of
// this build.
std::string TestDataPath(std::string_view name);
std::string BuiltPath(std::string_view name);

// A conversion that is right, as testdata/models.json describes it.
struct SoundModel {
  std::string file;
  std::string checkpoint;
  // How matrices and the embedding are stored: "float32", "float16", "int8",
  // "int4" or, in blocks of 32 with a scale each, "int4_block32".
  std::string weights;
  std::string embedding;
  bool rotated = false;
};
void PrintTo(const SoundModel& model, std::ostream* out);
// Returns those of models.json that this suite reads, in the file's order. The
// mutation suite verifies every one from end to end; a suite of a room reads
// those that show what is special to it. Throws where there is none.
std::vector<SoundModel> SoundModelsOf(std::string_view suite);
// Returns the name of a case on the model of that index.
std::string CaseName(const ::testing::TestParamInfo<SoundModel>& info);

// They return all of a file's bytes, and a raw little-endian float32 file as
// numbers.
std::string ReadFile(const std::string& path);
std::vector<float> ReadFloats(const std::string& path);
void WriteFile(const std::string& path, std::string_view content);

// Hostile input for a reader of files: `read` gets damaged copies of `good`.
using ReadContentFn = std::function<void(const std::string& content)>;
// Expects that each beginning of `good` is an Error that says `message`. Up to
// the last eight bytes may be missing, as nothing may point to them.
void ExpectTruncationsRefused(const std::string& good, std::string_view message,
                              const ReadContentFn& read);
// Changes one to four bytes at random, `rounds` times, the same on each run.
// Returns how often `read` threw Error. Expects that it fails in no other way.
int CountRefusedDamage(const std::string& good, int rounds,
                       const ReadContentFn& read);

// A directory for one test, removed with it.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  std::string path() const { return path_.string(); }
  std::string File(std::string_view name) const { return path_ / name; }
  // Writes a file and returns its path.
  std::string Write(std::string_view name, std::string_view content) const;

 private:
  std::filesystem::path path_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_BASE_TESTING_H_
