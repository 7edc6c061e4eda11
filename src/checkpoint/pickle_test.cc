#include "checkpoint/pickle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "base/error.h"

namespace verify_tflite {
namespace {

using namespace std::string_literals;
using Kind = PickleValue::Kind;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

Pickle Read(const std::string& data) {
  return ReadPickle(std::as_bytes(std::span(data)), "data.pkl",
                    {[](std::string_view name) {
                       return name.starts_with("torch.") ||
                              name == "collections.OrderedDict";
                     },
                     [](std::string_view name) { return name == "torch.f"; }});
}

// Python's pickle.dumps(value, protocol=2) of plain values.
TEST(Pickle, ReadsPlainValues) {
  // {'a': [1, -2, 300, 70000, True, None], 'b': (1.5, 'x'), 'n': -2**40}
  const std::string data =
      "\x80\x02}q\x00(X\x01\x00\x00\x00"
      "aq\x01]q\x02(K\x01J\xfe\xff\xff\xffM,\x01Jp\x11\x01\x00\x88NeX\x01\x00"
      "\x00\x00"
      "bq\x03G?\xf8\x00\x00\x00\x00\x00\x00X\x01\x00\x00\x00xq\x04\x86q\x05X"
      "\x01\x00\x00\x00nq\x06\x8a\x06\x00\x00\x00\x00\x00\xffu."s;
  const Pickle pickle = Read(data);
  const auto at = [&](uint32_t index) { return pickle.values.at(index); };
  const PickleValue& root = pickle.values[pickle.root];
  ASSERT_EQ(root.kind, Kind::kDict);
  ASSERT_EQ(root.items.size(), 6);
  EXPECT_EQ(at(root.items[0]).text, "a");
  std::vector<int64_t> numbers;
  for (const uint32_t item : at(root.items[1]).items) {
    numbers.push_back(at(item).integer);
  }
  EXPECT_THAT(numbers, ElementsAre(1, -2, 300, 70000, 1, 0));
  EXPECT_EQ(at(root.items[3]).kind, Kind::kTuple);
  EXPECT_EQ(at(at(root.items[3]).items[1]).text, "x");
  EXPECT_EQ(at(root.items[5]).integer, -(int64_t{1} << 40));
}

TEST(Pickle, KeepsCallsAndStoragesAsTheyAre) {
  const Pickle pickle = Read(
      "\x80\x02"
      "ctorch\nf\nK\x07Q\x85R."s);
  const PickleValue& call = pickle.values[pickle.root];
  ASSERT_EQ(call.kind, Kind::kCall);
  EXPECT_EQ(pickle.values[call.items[0]].text, "torch.f");
  const PickleValue& arguments = pickle.values[call.items[1]];
  EXPECT_EQ(pickle.values[arguments.items[0]].kind, Kind::kPersistent);
}

TEST(Pickle, AnOrderedDictMayHaveAttributes) {
  const Pickle pickle = Read(
      "\x80\x02"
      "ccollections\nOrderedDict\n)RX\x01\x00\x00\x00kNs}b."s);
  EXPECT_EQ(pickle.values[pickle.root].kind, Kind::kDict);
  EXPECT_EQ(pickle.values[pickle.root].items.size(), 2);
}

struct Bad {
  std::string body;  // behind PROTO 2
  std::string message;
};

TEST(Pickle, RefusesEverythingElse) {
  const Bad cases[] = {
      {"cos\nsystem\nX\x02\x00\x00\x00ls\x85R."s, "\"os.system\""},
      {"cposix\nsystem\n."s, "\"posix.system\""},
      {"c__builtin__\neval\nX\x01\x00\x00\x00"
       "1\x85R."s,
       "\"__builtin__.eval\""},
      {"cbuiltins\n__import__\n."s, "\"builtins.__import__\""},
      {"ctorch\nf\nR."s, "stack underflow"},
      {"ctorch\nf\nNR."s, "REDUCE of a global with None"},
      {"X\x01\x00\x00\x00x)R."s, "REDUCE of a string with a tuple"},
      {"ctorch\ng\n)R."s, "REDUCE of \"torch.g\""},
      {"ccollections\nOrderedDict\n]\x85R."s, "OrderedDict with arguments"},
      {"(X\x02\x00\x00\x00lsios\nsystem\n."s, "opcode INST"},
      {"(cos\nsystem\no."s, "\"os.system\""},
      {"(ctorch\nf\no."s, "opcode OBJ"},
      {"ctorch\nf\n)\x81."s, "opcode NEWOBJ"},
      {"X\x02\x00\x00\x00osX\x06\x00\x00\x00system\x93."s,
       "opcode STACK_GLOBAL"},
      {"\x82\x01."s, "opcode EXT1"},
      {"Pkey\n."s, "opcode PERSID"},
      {"\x8b\xff\xff\xff\x7f."s, "opcode LONG4"},
      {"N2."s, "opcode DUP"},
      {"\xff."s, "opcode 0xff"},
      {"\x8a\x09\0\0\0\0\0\0\0\0\1."s, "integer of 9 bytes"},
      {"X\xff\xff\xff\xff."s, "4294967295 bytes expected"},
      {"h\x07."s, "no value is remembered as 7"},
      {"j\xff\xff\xff\xff."s, "no value is remembered as 4294967295"},
      {"q\x01."s, "stack underflow"},
      {"N(q\x01."s, "stack underflow"},
      {"t."s, "no mark"},
      {"N(\x85."s, "stack underflow"},
      {"Nb."s, "stack underflow"},
      {"NNb."s, "BUILD on None"},
      {"]Nb."s, "BUILD on a list"},
      {"NNa."s, "APPEND on None"},
      {"]NNs."s, "SETITEM on a list"},
      {"}(Nu."s, "key without value"},
      {"NN."s, "ends with 2 values"},
      {"(N."s, "ends with"},
      {"."s, "ends with 0 values"},
      {"N.N"s, "1 bytes follow"},
      {"c"s + std::string(300, 'x') + "\n\n.", "no name of less than"},
  };
  for (const Bad& bad : cases) {
    EXPECT_THAT([&] { Read("\x80\x02" + bad.body); },
                ThrowsMessage<Error>(
                    AllOf(HasSubstr("data.pkl: "), HasSubstr(bad.message))))
        << bad.body;
  }
  EXPECT_THAT([] { Read("\x80\x04N."); },
              ThrowsMessage<Error>(HasSubstr("protocol is 4")));
  EXPECT_THAT([] { Read("(dp0\n."); },
              ThrowsMessage<Error>(HasSubstr("does not begin")));
  EXPECT_THAT([] { Read(""); }, ThrowsMessage<Error>(HasSubstr("begin")));
}

TEST(Pickle, NestingAndSharingCostNoMoreThanTheirBytes) {
  // A million tuples, each in the next.
  const std::string deep(1'000'000, '\x85');
  EXPECT_EQ(Read("\x80\x02N" + deep + ".").values.size(), 1'000'001);
  // 60 lists of twice the list before: 2^60 leaves if written out.
  std::string doubled = "\x80\x02]q"s + '\0';
  for (char i = 0; i < 60; ++i) {
    doubled += "](h"s + i + "h" + i + "eq" + static_cast<char>(i + 1);
  }
  doubled = doubled.substr(0, doubled.size());
  // What is below on the stack goes into one tuple.
  std::string all = "\x80\x02(" + doubled.substr(2) + "t.";
  EXPECT_EQ(Read(all).values.size(), 62);
  // A list that contains itself.
  EXPECT_EQ(Read("\x80\x02]q\x00h\x00"s + "a.").values.size(), 1);
}

TEST(Pickle, TooManyValuesAreRefused) {
  const std::string many(kMaxPickleValues + 1, ')');
  EXPECT_THAT([&] { Read("\x80\x02(" + many + "t."); },
              ThrowsMessage<Error>(HasSubstr("more than 4194304 values")));
}

}  // namespace
}  // namespace verify_tflite
