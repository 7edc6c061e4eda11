#include "checkpoint/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/testing.h"

namespace verify_tflite {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

// A whole file: length, header, `data_bytes` bytes 0, 1, 2, ….
std::string File(const std::string& header, size_t data_bytes) {
  const uint64_t length = header.size();
  std::string file(sizeof(length), '\0');
  std::memcpy(file.data(), &length, sizeof(length));
  file += header;
  for (size_t i = 0; i < data_bytes; ++i) file += static_cast<char>(i);
  return file;
}

const char kTwoTensors[] = R"({"__metadata__":{"format":"pt"},
  "a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},
  "b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]}}   )";

TEST(Safetensors, ViewsTensorsInPlace) {
  const TempDir dir;
  SafetensorsFile opened =
      SafetensorsFile::Open(dir.Write("f", File(kTwoTensors, 32)));
  const SafetensorsFile file = std::move(opened);
  ASSERT_EQ(file.tensors().size(), 2);
  const TensorView& a = file.tensors().at("a");
  EXPECT_EQ(a.dtype, DType::kF32);
  EXPECT_THAT(a.shape, ElementsAre(2, 3));
  EXPECT_EQ(a.data.size(), 24);
  EXPECT_EQ(a.data[23], std::byte{23});
  EXPECT_EQ(a.file, &file.file());
  const TensorView& b = file.tensors().at("b");
  EXPECT_EQ(b.dtype, DType::kBF16);
  EXPECT_EQ(b.data[0], std::byte{24});
  EXPECT_EQ(b.data.data() + 8,
            file.file().bytes().data() + file.file().bytes().size());
}

// One tensor is larger than 4 GiB, the next begins above. The file has holes
// and takes no room.
TEST(Safetensors, FilesAbove4GiB) {
  const TempDir dir;
  const std::string header = R"({
    "a":{"dtype":"F16","shape":[3,1073741824],"data_offsets":[0,6442450944]},
    "b":{"dtype":"F32","shape":[2],"data_offsets":[6442450944,6442450952]}})";
  const std::string path = dir.Write("f", File(header, 0));
  const size_t begin = std::filesystem::file_size(path);
  const size_t end = begin + 6442450952;
  std::filesystem::resize_file(path, end - 1);
  EXPECT_THAT([&] { SafetensorsFile::Open(path); },
              ThrowsMessage<Error>(HasSubstr(path)));
  std::ofstream(path, std::ios::binary | std::ios::in).seekp(end - 1).put('x');
  const auto file = SafetensorsFile::Open(path);
  EXPECT_EQ(file.tensors().at("a").data.size(), 6442450944);
  EXPECT_EQ(file.tensors().at("b").data.data() - file.file().bytes().data(),
            static_cast<ptrdiff_t>(begin + 6442450944));
  EXPECT_EQ(file.tensors().at("b").data.back(), std::byte{'x'});
}

TEST(Safetensors, EmptyTensorsAndScalarsAreTensors) {
  const TempDir dir;
  const auto file = SafetensorsFile::Open(dir.Write(
      "f", File(R"({"s":{"dtype":"F16","shape":[],"data_offsets":[0,2]},
                    "e":{"dtype":"F32","shape":[0,7],"data_offsets":[2,2]},
                    "c":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})",
                2)));
  EXPECT_EQ(file.tensors().size(), 3);
  EXPECT_EQ(file.tensors().at("s").data.size(), 2);
}

TEST(Safetensors, OtherDtypesDoNotKeepAFileFromOpening) {
  const TempDir dir;
  const auto file = SafetensorsFile::Open(dir.Write(
      "f", File(R"({"ids":{"dtype":"I64","shape":[2],"data_offsets":[0,16]},
                    "w":{"dtype":"F32","shape":[1],"data_offsets":[16,20]},
                    "q":{"dtype":"F4","shape":[3],"data_offsets":[20,22]}})",
                22)));
  EXPECT_EQ(file.tensors().size(), 1);
  EXPECT_EQ(file.other_tensors().at("ids"), "I64");
  EXPECT_EQ(file.other_tensors().at("q"), "F4");
}

TEST(Safetensors, EveryTruncationIsAnError) {
  const TempDir dir;
  const std::string whole = File(kTwoTensors, 32);
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::string path = dir.Write("f", whole.substr(0, size));
    EXPECT_THAT([&] { SafetensorsFile::Open(path); },
                ThrowsMessage<Error>(HasSubstr(path)))
        << size << " bytes";
  }
}

TEST(Safetensors, EveryCorruptHeaderByteIsReadOrRefused) {
  const TempDir dir;
  const std::string whole = File(kTwoTensors, 32);
  for (size_t i = 0; i < whole.size() - 32; ++i) {
    for (const int flip : {0x01, 0x80, 0xff}) {
      std::string changed = whole;
      changed[i] = static_cast<char>(changed[i] ^ flip);
      try {
        const auto file = SafetensorsFile::Open(dir.Write("f", changed));
        for (const auto& [name, tensor] : file.tensors()) {
          ASSERT_LE(tensor.data.data() + tensor.data.size(),
                    file.file().bytes().data() + changed.size());
        }
      } catch (const Error&) {
      }
    }
  }
}

struct Lie {
  const char* header;
  size_t data_bytes;
  const char* message;
};

TEST(Safetensors, HeadersThatLieAreErrors) {
  const Lie lies[] = {
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 4,
       "truncated"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 9,
       "the last 1 bytes belong to no tensor"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8,
       "after bytes that belong to no tensor"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
           "b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
       8, "inside another tensor"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
           "b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
       12, "after bytes that belong to no tensor"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
           "a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}})",
       4, R"("a" is given twice)"},
      {R"({"a":{"dtype":"F32","dtype":"F16","shape":[1],
           "data_offsets":[0,4]}})",
       4, R"("dtype" is given twice)"},
      {R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8,
       "F32 [3] takes 12 bytes, data_offsets give 8"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8,
       "run backwards"},
      {R"({"a":{"dtype":"F32","shape":[2],
           "data_offsets":[0,18446744073709551615]}})",
       8, "truncated"},
      {R"({"a":{"dtype":"F32","shape":[2],
           "data_offsets":[0,99999999999999999999999]}})",
       8, "expected integers from 0"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}})", 8,
       "expected integers from 0"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0.0,8.0]}})", 8,
       "expected integers from 0"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}})", 8,
       "expected 2"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":{"0":8}}})", 8,
       "expected array"},
      {R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8,
       "expected integers from 0"},
      {R"({"a":{"dtype":"F32","shape":["2"],"data_offsets":[0,8]}})", 8,
       "expected integers from 0"},
      // 2^62 * 4 elements of 4 bytes are 2^66, which is 0 in 64 bits.
      {R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],
           "data_offsets":[0,0]}})",
       0, "too large to be true"},
      {R"({"a":{"dtype":"F32","shape":[0,9223372036854775808],
           "data_offsets":[0,0]}})",
       0, "too large to be true"},
      {R"({"a":{"dtype":"F32","shape":[9223372036854775808],
           "data_offsets":[0,0]}})",
       0, "too large to be true"},
      {R"({"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}})", 8,
       R"(unknown dtype "F31")"},
      {R"({"a":{"shape":[2],"data_offsets":[0,8]}})", 8, "no dtype"},
      {R"({"a":{"dtype":"F32","data_offsets":[0,8]}})", 8, "no shape"},
      {R"({"a":{"dtype":"F32","shape":[2]}})", 8, "no data_offsets"},
      {R"({"a":{"dtype":4,"shape":[2],"data_offsets":[0,8]}})", 8,
       "dtype is a JSON number, expected string"},
      {R"({"a":[1,2]})", 8, "expected an object"},
      {R"({"a":{"dtype":"F32","shape":[[2]],"data_offsets":[0,8]}})", 8,
       "nested deeper"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})", 8,
       "not valid JSON"},
      {R"([1])", 0, "does not start with {"},
      {R"( {})", 0, "does not start with {"},
      {"{\"\xff\":{}}", 0, "not valid JSON"},
      {"", 8, "does not start with {"},
  };
  const TempDir dir;
  for (const Lie& lie : lies) {
    const std::string path = dir.Write("f", File(lie.header, lie.data_bytes));
    EXPECT_THAT(
        [&] { SafetensorsFile::Open(path); },
        ThrowsMessage<Error>(AllOf(HasSubstr(path), HasSubstr(lie.message))))
        << lie.header;
  }
}

TEST(Safetensors, HeaderLengthIsCheckedBeforeUse) {
  const TempDir dir;
  const auto with_length = [&](uint64_t length) {
    std::string file = File("{}", 0);
    std::memcpy(file.data(), &length, sizeof(length));
    return dir.Write("f", file);
  };
  EXPECT_THAT([&] { SafetensorsFile::Open(with_length(3)); },
              ThrowsMessage<Error>(HasSubstr("truncated")));
  for (const uint64_t length : {uint64_t{100'000'001}, ~uint64_t{0}}) {
    EXPECT_THAT([&] { SafetensorsFile::Open(with_length(length)); },
                ThrowsMessage<Error>(HasSubstr("not a safetensors file")));
  }
}

TEST(Safetensors, DeepNestingIsRefusedWithoutRecursion) {
  const TempDir dir;
  const std::string path =
      dir.Write("f", File("{\"a\":" + std::string(1'000'000, '['), 0));
  EXPECT_THAT([&] { SafetensorsFile::Open(path); },
              ThrowsMessage<Error>(HasSubstr("nested deeper")));
}

TEST(Tensor, NamesAndShapes) {
  EXPECT_EQ(NameOf(DType::kBF16), "BF16");
  EXPECT_EQ(SizeOf(DType::kF32), 4);
  EXPECT_EQ(SizeOf(DType::kF16), 2);
  const int64_t shape[] = {2048, 64};
  EXPECT_EQ(ShapeToString(shape), "[2048, 64]");
}

}  // namespace
}  // namespace verify_tflite
