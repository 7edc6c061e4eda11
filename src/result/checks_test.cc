#include "result/checks.h"

#include <gtest/gtest.h>

#include <set>
#include <string_view>

namespace verify_tflite {
namespace {

TEST(Outcome, HasOneNameWordAndSign) {
  EXPECT_EQ(NameOf(Outcome::kNotChecked), "not_checked");
  EXPECT_EQ(WordOf(Outcome::kNotChecked), "not checked");
  EXPECT_EQ(NameOf(Outcome::kPass), "pass");
  EXPECT_EQ(WordOf(Outcome::kPass), "passed");
  EXPECT_EQ(SignOf(Outcome::kPass), "✓");
  EXPECT_EQ(SignOf(Outcome::kInconclusive), "?");
  EXPECT_EQ(NameOf(Outcome::kBroken), "broken");
  EXPECT_EQ(SignOf(Outcome::kBroken), "✗");
  std::set<std::string_view> names;
  for (const Outcome outcome : kAllOutcomes) names.insert(NameOf(outcome));
  EXPECT_EQ(names.size(), std::size(kAllOutcomes));
}

TEST(CheckGroups, KeepTheirChecksApartUnderKeysOfTheirOwn) {
  CheckGroups groups;
  std::set<std::string_view> keys;
  for (const CheckGroupTraits& traits : kCheckGroups) {
    groups[traits.group].push_back({.name = std::string(traits.json_key)});
    keys.insert(traits.json_key);
  }
  EXPECT_EQ(keys.size(), std::size(kCheckGroups));
  for (const CheckGroupTraits& traits : kCheckGroups) {
    ASSERT_EQ(groups[traits.group].size(), 1u);
    EXPECT_EQ(groups[traits.group][0].name, traits.json_key);
  }
}

TEST(FindCheck, FindsByName) {
  const std::vector<Check> checks = {
      {.name = "kld"}, {.name = "flips", .outcome = Outcome::kBroken}};
  EXPECT_EQ(FindCheck(checks, "flips"), &checks[1]);
  EXPECT_EQ(FindCheck(checks, "tables"), nullptr);
  EXPECT_TRUE(AnyAt(checks, Outcome::kBroken));
  EXPECT_FALSE(AnyAt(checks, Outcome::kPass));
}

}  // namespace
}  // namespace verify_tflite
