#include "cli/memory_watch.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <thread>

namespace verify_tflite {
namespace {

TEST(ReadResident, TellsFilesFromTheRest) {
  const Resident r = ReadResident(
      "Name:\tverify_tflite\nVmRSS:\t  1000 kB\nRssAnon:\t   600 kB\n"
      "RssFile:\t   300 kB\nRssShmem:\t   100 kB\n");
  EXPECT_EQ(r.mapped, 300 * 1024);
  EXPECT_EQ(r.anonymous, 700 * 1024);
  EXPECT_EQ(ReadResident("").all(), 0);
}

TEST(MemoryWatch, SeesWhatWasThereForAWhile) {
  const MemoryWatch watch;
  constexpr size_t kBytes = size_t{64} << 20;
  {
    const auto block = std::make_unique<char[]>(kBytes);
    std::memset(block.get(), 1, kBytes);
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
  const PeakMemory peak = watch.Peak();
  EXPECT_GE(peak.bytes - peak.mapped_bytes, static_cast<int64_t>(kBytes));
  EXPECT_GT(peak.mapped_bytes, 0);
}

}  // namespace
}  // namespace verify_tflite
