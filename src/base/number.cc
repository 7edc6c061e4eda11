// SPDX-License-Identifier: Apache-2.0
#include "base/number.h"

#include <cstddef>
#include <iterator>

namespace verify_tflite {
namespace {

struct Row {
  std::string_view name;
  int bits;
};

// By the number of ElementType.
constexpr Row kRows[] = {
    {"FLOAT32", 32},      {"FLOAT16", 16},    {"INT32", 32},
    {"UINT8", 8},         {"INT64", 64},      {"STRING", 0},
    {"BOOL", 8},          {"INT16", 16},      {"COMPLEX64", 64},
    {"INT8", 8},          {"FLOAT64", 64},    {"COMPLEX128", 128},
    {"UINT64", 64},       {"RESOURCE", 0},    {"VARIANT", 0},
    {"UINT32", 32},       {"UINT16", 16},     {"INT4", 4},
    {"BFLOAT16", 16},     {"INT2", 2},        {"UINT4", 4},
    {"FLOAT8_E4M3FN", 8}, {"FLOAT8_E5M2", 8}, {"unknown type", 0},
};
static_assert(std::size(kRows) ==
              static_cast<size_t>(ElementType::kUnknown) + 1);

const Row& RowOf(ElementType type) { return kRows[static_cast<size_t>(type)]; }

}  // namespace

std::string_view NameOf(ElementType type) { return RowOf(type).name; }

int BitsOf(ElementType type) { return RowOf(type).bits; }

}  // namespace verify_tflite
