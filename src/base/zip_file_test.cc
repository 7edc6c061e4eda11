#include "base/zip_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "base/error.h"
#include "base/testing.h"
#include "base/testing_zip.h"

namespace verify_tflite {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

std::string Text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

const std::vector<ZipPart> kParts = {
    {"a/data.pkl", "pickle"}, {"a/data/0", std::string(300, 'x')}, {"b", ""}};

ZipOptions Options(bool zip64, bool sizes_follow, size_t alignment,
                   std::string comment = {}) {
  return {zip64, sizes_follow, alignment, std::move(comment)};
}

const ZipOptions kLayouts[] = {
    Options(false, false, 1),
    Options(true, false, 1),
    Options(false, true, 64),
    Options(true, true, 64),
    Options(true, false, 64, "a comment"),
    Options(false, false, 1, "PK\5\6 in a comment, and more of it")};

void ExpectFails(const TempDir& dir, const std::string& content,
                 const std::string& message) {
  const MappedFile file(dir.Write("bad.zip", content));
  EXPECT_THAT([&] { ZipFile{file}; }, ThrowsMessage<Error>(HasSubstr(message)));
}

// `content` with `to` in place of the first `from` at or behind `start`.
std::string Replaced(std::string content, std::string_view from,
                     std::string_view to, size_t start = 0) {
  const size_t at = content.find(from, start);
  EXPECT_NE(at, std::string::npos);
  return content.replace(at, from.size(), to);
}

std::string WithByte(std::string content, size_t at, int value) {
  content.at(at) = static_cast<char>(value);
  return content;
}

TEST(ZipFile, ViewsStoredEntriesInEveryLayout) {
  const TempDir dir;
  for (const ZipOptions& layout : kLayouts) {
    const MappedFile file(dir.Write("a.zip", MakeZip(kParts, layout)));
    EXPECT_TRUE(ZipFile::IsZip(file));
    const ZipFile zip(file);
    EXPECT_EQ(zip.entries().size(), kParts.size());
    for (const ZipPart& part : kParts) {
      EXPECT_EQ(Text(zip.Get(part.name)), part.data);
      const size_t offset = zip.Get(part.name).data() - file.bytes().data();
      EXPECT_EQ(offset % layout.alignment, 0);
    }
  }
}

TEST(ZipFile, AnArchiveMayBeEmpty) {
  const TempDir dir;
  const MappedFile file(dir.Write("a.zip", MakeZip({})));
  EXPECT_TRUE(ZipFile::IsZip(file));
  EXPECT_TRUE(ZipFile(file).entries().empty());
}

TEST(ZipFile, ListsWhatItCannotView) {
  const TempDir dir;
  const MappedFile file(dir.Write(
      "a.zip",
      MakeZip({{"deflated", "xy", 8}, {"secret", "z", 0, 1}, {"plain", "p"}})));
  const ZipFile zip(file);
  EXPECT_EQ(Text(zip.Get("plain")), "p");
  for (const char* name : {"deflated", "secret"}) {
    EXPECT_TRUE(zip.Has(name));
    EXPECT_TRUE(zip.entries().at(name).data.empty());
    EXPECT_THAT([&] { zip.Get(name); },
                ThrowsMessage<Error>(HasSubstr("compressed or encrypted")));
  }
  EXPECT_THAT([&] { zip.Get("absent"); },
              ThrowsMessage<Error>(HasSubstr("has no \"absent\"")));
}

TEST(ZipFile, RefusesAFileCutAnywhereOrLengthened) {
  const TempDir dir;
  for (const ZipOptions& layout : kLayouts) {
    const std::string whole = MakeZip(kParts, layout);
    for (size_t size = 1; size < whole.size(); ++size) {
      const MappedFile file(dir.Write("cut.zip", whole.substr(0, size)));
      EXPECT_THROW(ZipFile{file}, Error) << size;
    }
    ExpectFails(dir, whole + "x", "no end record");
    ExpectFails(dir, "x" + whole, "damaged zip archive");
  }
  const MappedFile text(dir.Write("t", "PK"));
  EXPECT_FALSE(ZipFile::IsZip(text));
}

TEST(ZipFile, RefusesEntriesThatLie) {
  const TempDir dir;
  ExpectFails(dir, MakeZip({{"a", "1"}, {"a", "2"}}), "is there twice");
  ExpectFails(dir, MakeZip({{std::string("a\0b", 3), "1"}}), "holds a NUL");
  const std::string zip = MakeZip(kParts);
  const size_t central = zip.find("PK\1\2");
  const size_t second = zip.find("PK\1\2", central + 1);
  const size_t end = zip.find("PK\5\6");
  ExpectFails(dir, WithByte(zip, central + 20, 7), "differ");
  ExpectFails(dir, WithByte(WithByte(zip, central + 20, 7), 18, 7),
              "two sizes");
  ExpectFails(dir, Replaced(zip, "a/data.pkl", "a/DATA.pkl"), "differ");
  ExpectFails(dir, WithByte(zip, central + 10, 8), "differ");
  ExpectFails(dir, WithByte(zip, central + 8, 1), "differ");
  ExpectFails(dir, WithByte(zip, central + 42, 1), "no local header at 1");
  ExpectFails(dir, WithByte(zip, central + 45, 1), "a local header would");
  ExpectFails(dir, WithByte(zip, central + 29, 1), "name and extra");
  ExpectFails(dir, WithByte(zip, second, 'Q'), "no directory entry");
  ExpectFails(dir, WithByte(zip, end + 4, 1), "one part of several");
  ExpectFails(dir, WithByte(zip, end + 8, 1), "one part of several");
  ExpectFails(dir, WithByte(WithByte(zip, end + 8, 2), end + 10, 2),
              "has 3 entries, the end record says 2");
  ExpectFails(dir, WithByte(zip, end + 12, 1), "where the end record begins");
  ExpectFails(dir, WithByte(zip, end + 16, 1), "where the end record begins");
}

TEST(ZipFile, RefusesEntriesThatOverlapOrReachIntoTheDirectory) {
  const TempDir dir;
  // Sizes that follow the data are only in the directory.
  const std::string zip = MakeZip(kParts, Options(false, true, 1));
  const size_t central = zip.find("PK\1\2");
  const auto sized = [&](int low, int high) {
    std::string bad = zip;
    for (const size_t field : {20, 24}) {
      bad = WithByte(WithByte(bad, central + field, low), central + field + 1,
                     high);
    }
    return bad;
  };
  ExpectFails(dir, sized(80, 0), "overlap");
  ExpectFails(dir, sized(0, 2), "reach into the directory");
  // An archive inside the data of an entry, listed by the same directory.
  const std::string inner = MakeZip({{"b", "2"}});
  const std::string local = inner.substr(0, inner.find("PK\1\2"));
  std::string nested = MakeZip({{"a", local}, {"b", "2"}});
  const size_t inside = nested.find("PK\3\4", 1);
  const size_t listed = nested.find("PK\1\2", nested.find("PK\1\2") + 1);
  ExpectFails(dir, WithByte(nested, listed + 42, static_cast<int>(inside)),
              "\"a\" and \"b\" overlap");
}

TEST(ZipFile, RefusesZip64RecordsThatLie) {
  const TempDir dir;
  const std::string zip = MakeZip(kParts, Options(true, false, 1));
  const size_t central = zip.find("PK\1\2");
  const size_t end64 = zip.find("PK\6\6");
  const size_t locator = zip.find("PK\6\7");
  const size_t end = zip.find("PK\5\6");
  for (const size_t byte : {end64, end64 + 4, end64 + 11, locator + 8}) {
    ExpectFails(dir, WithByte(zip, byte, 1), "no zip64 end record");
  }
  ExpectFails(dir, WithByte(zip, locator + 15, 0xFF), "zip64 end record would");
  ExpectFails(dir, WithByte(zip, locator + 16, 2), "one part of several");
  ExpectFails(dir, WithByte(zip, end64 + 16, 1), "one part of several");
  ExpectFails(dir, WithByte(zip, end64 + 32, 9), "one part of several");
  ExpectFails(dir, WithByte(zip, end64 + 47, 0xFF), "where the end record");
  ExpectFails(dir, WithByte(zip, end64 + 55, 0xFF), "where the end record");
  ExpectFails(dir, WithByte(WithByte(zip, end + 12, 1), end + 13, 0),
              "two end records differ");
  const size_t extra = central + 46 + kParts[0].name.size();
  ExpectFails(dir, WithByte(zip, extra, 2), "has no zip64 field");
  ExpectFails(dir, WithByte(zip, extra + 2, 8), "zip64 field of");
  ExpectFails(dir, WithByte(zip, extra + 2, 99), "longer than its header");
  // Offset and size near 2^64: sums must not wrap around.
  std::string huge = zip;
  huge.replace(extra + 20, 8, "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF");
  ExpectFails(dir, huge, "a local header would take");
}

TEST(ZipFile, SurvivesRandomDamage) {
  const TempDir dir;
  std::mt19937 random(7);
  int opened = 0;
  for (const ZipOptions& layout : kLayouts) {
    const std::string whole = MakeZip(kParts, layout);
    for (int round = 0; round < 500; ++round) {
      std::string bad = whole;
      for (int i = random() % 4; i >= 0; --i) {
        bad[random() % bad.size()] = static_cast<char>(random());
      }
      const MappedFile file(dir.Write("f.zip", bad));
      try {
        size_t sum = 0;
        const ZipFile zip(file);
        for (const auto& [name, entry] : zip.entries()) {
          for (const std::byte byte : entry.data) sum += size_t(byte);
        }
        EXPECT_GT(sum, 0);
        ++opened;
      } catch (const Error&) {
      }
    }
  }
  EXPECT_GT(opened, 100);  // damage inside data or unread fields
}

}  // namespace
}  // namespace verify_tflite
