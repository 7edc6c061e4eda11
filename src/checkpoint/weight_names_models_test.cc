// SPDX-License-Identifier: Apache-2.0
// The names of the checkpoints at hand, which transformers has written.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "base/testing.h"
#include "checkpoint/checkpoint.h"

namespace verify_tflite {
namespace {

std::vector<std::string> Checkpoints() {
  std::vector<std::string> names;
  const std::filesystem::path models =
      std::filesystem::path(ModelPath("tiny")).parent_path();
  for (const auto& entry : std::filesystem::directory_iterator(models)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("ref_") && exists(entry.path() / "config.json")) {
      names.push_back(name);
    }
  }
  return names;
}

// Of towers and projections of images and sound.
bool IsOfAnotherPart(const std::string& name) {
  return std::ranges::any_of(
      std::vector<std::string>{"vision", "visual", "audio", "multi_modal",
                               "connector", "image_newline"},
      [&](const std::string& part) {
        return name.find(part) != std::string::npos;
      });
}

TEST(WeightNames, OfEveryCheckpointAreKnown) {
  const std::vector<std::string> checkpoints = Checkpoints();
  EXPECT_GE(checkpoints.size(), 40);
  for (const std::string& each : checkpoints) {
    if (each == "ref_pickles") continue;  // has several
    const Checkpoint checkpoint = Checkpoint::Open(ModelPath(each));
    for (const auto& [name, tensor] : checkpoint.tensors()) {
      if (IsOfAnotherPart(name)) continue;
      const auto role = checkpoint.names().RoleOf(name);
      ASSERT_TRUE(role.has_value()) << each << ": " << name;
      EXPECT_EQ(checkpoint.names().Of(*role), name) << each;
    }
  }
}

}  // namespace
}  // namespace verify_tflite
