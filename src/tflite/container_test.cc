// SPDX-License-Identifier: Apache-2.0
#include "tflite/container.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/testing.h"

namespace verify_tflite::tflite {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

std::string Small() { return ReadFile(TestDataPath("small.tflite")); }

TEST(FileBeside, AsTheConverterNamesIt) {
  EXPECT_EQ(FileBeside("dir/model_quantized.tflite", kEmbedder),
            "dir/embedder_quantized.tflite");
  EXPECT_EQ(FileBeside("model.tflite", kPerLayerEmbedder),
            "per_layer_embedder.tflite");
  EXPECT_EQ(FileBeside("dir/other.tflite", kEmbedder), "");
}

TEST(Container, ATfliteAndTheEmbedderBesideIt) {
  const TempDir dir;
  const std::string path = dir.Write("model.tflite", Small());
  {
    const Container alone(path);
    EXPECT_EQ(alone.bundle(), nullptr);
    EXPECT_EQ(alone.embedder(kEmbedder), nullptr);
    ASSERT_EQ(alone.model_parts().size(), 1u);
  }
  const std::string beside = dir.Write("embedder.tflite", Small());
  const Container container(path);
  ASSERT_EQ(container.model_parts().size(), 2u);
  EXPECT_EQ(container.model().name(), path);
  const Part* embedder = container.embedder(kEmbedder);
  ASSERT_NE(embedder, nullptr);
  EXPECT_EQ(embedder->name(), beside);
  EXPECT_EQ(embedder->file().description, "small");
  EXPECT_EQ(&embedder->file(), &embedder->file()) << "is parsed once";
  EXPECT_EQ(container.embedder(kPerLayerEmbedder), nullptr);
}

TEST(Container, ADamagedFileIsNamed) {
  const TempDir dir;
  const std::string path = dir.Write("model.tflite", Small().substr(0, 200));
  const Container container(path);
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(
        [&] { container.model().file(); },
        ThrowsMessage<Error>(HasSubstr(path + " is damaged or incomplete")));
  }
}

TEST(Container, OfAnotherKind) {
  const TempDir dir;
  const Container container(dir.Write("model.tflite", "something else"));
  EXPECT_THAT([&] { container.CheckKind(); },
              ThrowsMessage<Error>(HasSubstr("is neither a .tflite nor")));
}

}  // namespace
}  // namespace verify_tflite::tflite
