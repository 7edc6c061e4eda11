// Approval tests compare a report with a file that a person has read.
#ifndef VERIFY_TFLITE_REPORT_APPROVED_H_
#define VERIFY_TFLITE_REPORT_APPROVED_H_

#include <gtest/gtest.h>

#include <string>

#include "base/testing.h"

namespace verify_tflite {

// Expects `received` to be the content of testdata/approved/<name>. To approve
// a change, run the test with VERIFY_TFLITE_APPROVE=1 and read the diff in git.
inline void ExpectApproved(const std::string& name,
                           const std::string& received) {
  const std::string path = TestDataPath("approved") + "/" + name;
  if (getenv("VERIFY_TFLITE_APPROVE") != nullptr) WriteFile(path, received);
  EXPECT_EQ(ReadFile(path), received);
}

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REPORT_APPROVED_H_
