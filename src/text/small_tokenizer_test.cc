// The tokenizer library on small files, sound and broken.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/testing.h"
#include "text/limited_child.h"
#include "text/testing_tokenizer.h"
#include "text/tokenizer.h"

namespace verify_tflite {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::ThrowsMessage;

using nlohmann::json;

Tokenizer OpenText(std::string_view text) {
  const TempDir dir;
  dir.Write("tokenizer.json", text);
  return Tokenizer::Open(dir.path());
}

TEST(SmallTokenizer, EncodesAndDecodes) {
  const auto tokenizer = OpenText(kSmallTokenizer);
  EXPECT_EQ(tokenizer.vocab_size(), 4);
  EXPECT_THAT(tokenizer.Encode("ab a c", true), ElementsAre(3, 1, 0));
  EXPECT_THAT(tokenizer.Encode("", true), IsEmpty());
  EXPECT_EQ(tokenizer.Decode(std::vector<int32_t>{3, 0, 1}, false), "ab<unk>a");
  EXPECT_EQ(tokenizer.Decode(std::vector<int32_t>{3, 0, 1}, true), "aba");
  EXPECT_EQ(tokenizer.Decode({}, false), "");
}

TEST(SmallTokenizer, DecodesNothingForAnIdThatIsNoToken) {
  const auto tokenizer = OpenText(kSmallTokenizer);
  EXPECT_EQ(
      tokenizer.Decode(std::vector<int32_t>{1, 4, 2147483647, -1, 2}, false),
      "ab");
}

TEST(SmallTokenizer, RefusesTextThatIsNotUtf8) {
  const auto tokenizer = OpenText(kSmallTokenizer);
  EXPECT_THAT([&] { tokenizer.Encode("ab\xFF", false); },
              ThrowsMessage<Error>(HasSubstr("byte 2 (0xFF)")));
}

TEST(SmallTokenizer, CanBeMoved) {
  auto tokenizer = OpenText(kSmallTokenizer);
  auto other = std::move(tokenizer);
  tokenizer = std::move(other);
  EXPECT_THAT(tokenizer.Encode("b", false), ElementsAre(2));
}

TEST(SmallTokenizer, NeitherTruncatesNorPads) {
  json value = json::parse(kSmallTokenizer);
  value["truncation"] = {{"direction", "Right"},
                         {"max_length", 2},
                         {"strategy", "LongestFirst"},
                         {"stride", 0}};
  value["padding"] = {{"strategy", {{"Fixed", 9}}},
                      {"direction", "Right"},
                      {"pad_to_multiple_of", nullptr},
                      {"pad_id", 0},
                      {"pad_type_id", 0},
                      {"pad_token", "<unk>"}};
  EXPECT_THAT(OpenText(value.dump()).Encode("a b a b", true),
              ElementsAre(1, 2, 1, 2));
}

TEST(SmallTokenizer, CountsIdsBeyondAGap) {
  json value = json::parse(kSmallTokenizer);
  value["model"]["vocab"]["ab"] = 300;
  EXPECT_EQ(OpenText(value.dump()).vocab_size(), 301);
}

TEST(SmallTokenizer, RefusesAnUnknownTokenThatIsNoToken) {
  json value = json::parse(kSmallTokenizer);
  value["model"]["unk_token"] = "<none>";
  EXPECT_THAT([&] { OpenText(value.dump()); },
              ThrowsMessage<Error>(HasSubstr("`unk_token` is \"<none>\"")));
}

// "" when the library takes the file, else the message of the Error or of the
// crash. Rust reports a panic on standard error.
std::string Try(const std::string& text) {
  try {
    RunInLimitedChild([&text] {
      dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
      OpenText(text).Encode("ab a c <unk>", true);
      return std::string();
    });
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

// Every place of `value` as a JSON pointer.
void CollectPlaces(const json& value, const json::json_pointer& at,
                   std::vector<json::json_pointer>& places) {
  if (!at.empty()) places.push_back(at);
  if (value.is_object()) {
    for (const auto& [key, child] : value.items()) {
      CollectPlaces(child, at / key, places);
    }
  } else if (value.is_array()) {
    for (size_t i = 0; i < value.size(); ++i) {
      CollectPlaces(value[i], at / i, places);
    }
  }
}

// What tokenizer_json.h declares unchecked.
bool MayAbort(const std::string& place) {
  for (const char* prefix :
       {"/normalizer", "/pre_tokenizer", "/post_processor", "/decoder",
        "/model/dropout", "/model/continuing_subword_prefix",
        "/model/end_of_word_suffix", "/model/merges", "/model/vocab"}) {
    if (place.starts_with(prefix)) return true;
  }
  return false;
}

TEST(BrokenTokenizer, IsRefusedInsteadOfAborting) {
  OpenText(kSmallTokenizer);  // so that children need not load the library
  const json sound = json::parse(kSmallTokenizer);
  std::vector<json::json_pointer> places;
  CollectPlaces(sound, json::json_pointer(), places);
  const std::vector<json> replacements = {
      nullptr, true, 0, -1, 1.5, "x", json::array(), json::object()};
  int taken = 0;
  int refused = 0;
  std::set<std::string> aborts;
  for (const auto& place : places) {
    for (const auto& replacement : replacements) {
      json broken = sound;
      broken[place] = replacement;
      const std::string message = Try(broken.dump());
      if (message.find("it crashed") != std::string::npos) {
        aborts.insert(place.to_string());
      } else {
        ++(message.empty() ? taken : refused);
      }
    }
    const json removal = {{"op", "remove"}, {"path", place.to_string()}};
    const json without = sound.patch(json::array({removal}));
    if (Try(without.dump()).find("it crashed") != std::string::npos) {
      aborts.insert(place.to_string() + " removed");
    }
  }
  for (const std::string& place : aborts) {
    EXPECT_TRUE(MayAbort(place)) << place;
  }
  EXPECT_GT(taken, 20);
  EXPECT_GT(refused, 100);
}

TEST(BrokenTokenizer, NeverAbortsWhenCutShort) {
  for (size_t size = 0; size < kSmallTokenizer.size(); size += 7) {
    EXPECT_THAT([&] { OpenText(kSmallTokenizer.substr(0, size)); },
                ThrowsMessage<Error>(HasSubstr("tokenizer.json")));
  }
}

}  // namespace
}  // namespace verify_tflite
