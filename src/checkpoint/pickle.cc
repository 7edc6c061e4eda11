#include "checkpoint/pickle.h"

#include <bit>
#include <cstring>
#include <map>
#include <utility>

#include "base/error.h"
#include "base/utf8.h"

namespace verify_tflite {
namespace {

static_assert(std::endian::native == std::endian::little,
              "numbers are little-endian and read in place");

using Kind = PickleValue::Kind;

// Opcodes by their names in CPython's Lib/pickletools.py. These are the ones of
// torch/_weights_only_unpickler.py without those for sets and objects.
enum Opcode : uint8_t {
  kMark = '(',
  kStop = '.',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kNoneOp = 'N',
  kBinPersId = 'Q',
  kReduce = 'R',
  kShortBinString = 'U',
  kBinUnicode = 'X',
  kAppend = 'a',
  kBuild = 'b',
  kGlobalOp = 'c',
  kAppends = 'e',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kTupleOp = 't',
  kSetItems = 'u',
  kEmptyTuple = ')',
  kEmptyList = ']',
  kEmptyDict = '}',
  kBinFloat = 'G',
  kProto = 0x80,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8a,
};

struct OpcodeName {
  uint8_t code;
  const char* name;
};

// Well-known ones among those refused, for the message.
constexpr OpcodeName kRefused[] = {
    {'i', "INST"},          {'o', "OBJ"},
    {0x81, "NEWOBJ"},       {0x92, "NEWOBJ_EX"},
    {0x93, "STACK_GLOBAL"}, {0x82, "EXT1"},
    {0x83, "EXT2"},         {0x84, "EXT4"},
    {'P', "PERSID"},        {0x8b, "LONG4"},
    {'S', "STRING"},        {'T', "BINSTRING"},
    {'V', "UNICODE"},       {'I', "INT"},
    {'L', "LONG"},          {'F', "FLOAT"},
    {'0', "POP"},           {'1', "POP_MARK"},
    {'2', "DUP"},           {'d', "DICT"},
    {'l', "LIST"},          {'p', "PUT"},
    {'g', "GET"},           {0x95, "FRAME"},
    {0x94, "MEMOIZE"},      {0x8c, "SHORT_BINUNICODE"}};

constexpr size_t kMaxGlobalName = 256;
constexpr std::string_view kOrderedDict = "collections.OrderedDict";

class Machine {
 public:
  Machine(std::span<const std::byte> data, const std::string& where,
          const PickleGlobals& globals)
      : data_(data), where_(where), globals_(globals) {}

  Pickle Run() {
    if (data_.size() > kMaxPickleBytes) {
      Fail("it has {} bytes, at most {} are read", data_.size(),
           kMaxPickleBytes);
    }
    if (data_.empty() || Number<uint8_t>() != kProto) {
      Fail("it does not begin as a pickle of protocol 2");
    }
    if (const auto protocol = Number<uint8_t>(); protocol != 2) {
      Fail("its protocol is {}, expected 2, torch.save's default", protocol);
    }
    while (!Step(Number<uint8_t>())) {
    }
    if (stack_.size() != 1 || !marks_.empty()) {
      Fail("it ends with {} values, expected 1", stack_.size());
    }
    if (at_ != data_.size()) {
      Fail("{} bytes follow its end", data_.size() - at_);
    }
    result_.root = stack_.back();
    return std::move(result_);
  }

 private:
  template <typename... Args>
  [[noreturn]] void Fail(fmt::format_string<Args...> format,
                         Args&&... args) const {
    throw Error("{}: {} (at byte {} of the pickle)", where_,
                fmt::format(format, std::forward<Args>(args)...), at_);
  }

  std::string_view Take(size_t count) {
    if (count > data_.size() - at_) {
      Fail("truncated: {} bytes expected, {} left", count, data_.size() - at_);
    }
    const auto* begin = reinterpret_cast<const char*>(data_.data()) + at_;
    at_ += count;
    return {begin, count};
  }

  template <typename T>
  T Number() {
    T value;
    std::memcpy(&value, Take(sizeof(T)).data(), sizeof(T));
    return value;
  }

  std::string_view Line() {
    const auto* begin = reinterpret_cast<const char*>(data_.data()) + at_;
    const std::string_view rest(begin, data_.size() - at_);
    const size_t length = rest.substr(0, kMaxGlobalName).find('\n');
    if (length == std::string_view::npos) {
      Fail("a global has no name of less than {} bytes", kMaxGlobalName);
    }
    Take(length + 1);
    return rest.substr(0, length);
  }

  void Push(PickleValue value) {
    auto& values = result_.values;
    if (values.size() >= kMaxPickleValues) {
      Fail("it has more than {} values", kMaxPickleValues);
    }
    values.push_back(std::move(value));
    stack_.push_back(static_cast<uint32_t>(values.size() - 1));
  }

  void PushItems(Kind kind, std::vector<uint32_t> items = {}) {
    PickleValue value;
    value.kind = kind;
    value.items = std::move(items);
    Push(std::move(value));
  }

  void PushNumber(Kind kind, int64_t number) {
    PickleValue value;
    value.kind = kind;
    value.integer = number;
    Push(std::move(value));
  }

  void PushText(Kind kind, std::string_view text) {
    PickleValue value;
    value.kind = kind;
    value.text = text;
    Push(std::move(value));
  }

  // Values that may be taken without reaching below a mark.
  size_t Available() const {
    return stack_.size() - (marks_.empty() ? 0 : marks_.back());
  }

  void Require(size_t count) const {
    if (Available() < count) {
      Fail("stack underflow: {} values needed, {} there", count, Available());
    }
  }

  std::vector<uint32_t> Pop(size_t count) {
    Require(count);
    std::vector<uint32_t> items(stack_.end() - static_cast<ptrdiff_t>(count),
                                stack_.end());
    stack_.resize(stack_.size() - count);
    return items;
  }

  std::vector<uint32_t> PopToMark() {
    if (marks_.empty()) Fail("stack underflow: no mark");
    std::vector<uint32_t> items = Pop(Available());
    marks_.pop_back();
    return items;
  }

  // The value on top, which `what` changes.
  PickleValue& Top(Kind kind, std::string_view what) {
    Require(1);
    PickleValue& value = result_.values[stack_.back()];
    if (value.kind != kind) {
      Fail("{} on {}, expected {}", what, NameOf(value.kind), NameOf(kind));
    }
    return value;
  }

  void Extend(Kind kind, std::string_view what,
              const std::vector<uint32_t>& items) {
    if (kind == Kind::kDict && items.size() % 2 != 0) {
      Fail("{} with a key without value", what);
    }
    std::vector<uint32_t>& into = Top(kind, what).items;
    into.insert(into.end(), items.begin(), items.end());
  }

  void Put(uint32_t key) {
    Require(1);
    memo_[key] = stack_.back();
  }

  void Get(uint32_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end()) Fail("no value is remembered as {}", key);
    // One opcode, at most one index: memory stays in proportion.
    stack_.push_back(found->second);
  }

  void Long(size_t count) {
    const std::string_view bytes = Take(count);
    if (count > sizeof(int64_t)) {
      Fail("an integer of {} bytes, at most 8 are read", count);
    }
    uint64_t value = 0;
    std::memcpy(&value, bytes.data(), count);
    const bool negative = count > 0 && (bytes.back() & 0x80);
    if (negative && count < sizeof(value)) value |= ~uint64_t{0} << (8 * count);
    PushNumber(Kind::kInteger, static_cast<int64_t>(value));
  }

  void Global() {
    const size_t begin = at_;
    const std::string_view module = Line();
    const std::string_view name = Line();
    const auto [it, is_new] =
        result_.global_names.insert(fmt::format("{}.{}", module, name));
    if (is_new && !globals_.allowed(*it)) {
      at_ = begin;
      Fail(
          "it asks for {}, which tensors do not need, and which would be "
          "imported if Python loaded the file; nothing was run",
          Quote(*it));
    }
    PushText(Kind::kGlobal, *it);
  }

  void Reduce() {
    const std::vector<uint32_t> items = Pop(2);
    const PickleValue& callee = result_.values[items[0]];
    const Kind arguments = result_.values[items[1]].kind;
    if (callee.kind != Kind::kGlobal || arguments != Kind::kTuple) {
      Fail("REDUCE of {} with {}, expected a global with a tuple",
           NameOf(callee.kind), NameOf(arguments));
    }
    if (callee.text == kOrderedDict) {
      if (!result_.values[items[1]].items.empty()) {
        Fail("REDUCE of {} with arguments, expected none", kOrderedDict);
      }
      PushItems(Kind::kDict);
      return;
    }
    if (!globals_.callable(callee.text)) {
      Fail("REDUCE of {}, which is no function that tensors need",
           Quote(callee.text));
    }
    PushItems(Kind::kCall, items);
  }

  // Sets attributes. state_dict() gives its OrderedDict a `_metadata`, which
  // says nothing about tensors; nothing else may have any.
  void Build() {
    Pop(1);
    Top(Kind::kDict, "BUILD");
  }

  // Runs one instruction; true at the end.
  bool Step(uint8_t opcode) {
    switch (opcode) {
      case kStop:
        return true;
      case kMark:
        marks_.push_back(stack_.size());
        break;
      case kNoneOp:
        PushItems(Kind::kNone);
        break;
      case kNewTrue:
      case kNewFalse:
        PushNumber(Kind::kBool, opcode == kNewTrue);
        break;
      case kBinInt:
        PushNumber(Kind::kInteger, Number<int32_t>());
        break;
      case kBinInt1:
        PushNumber(Kind::kInteger, Number<uint8_t>());
        break;
      case kBinInt2:
        PushNumber(Kind::kInteger, Number<uint16_t>());
        break;
      case kLong1:
        Long(Number<uint8_t>());
        break;
      case kBinFloat:
        Take(sizeof(double));
        PushItems(Kind::kFloat);
        break;
      case kShortBinString:
        PushText(Kind::kText, Take(Number<uint8_t>()));
        break;
      case kBinUnicode:
        PushText(Kind::kText, Take(Number<uint32_t>()));
        break;
      case kEmptyTuple:
        PushItems(Kind::kTuple);
        break;
      case kEmptyList:
        PushItems(Kind::kList);
        break;
      case kEmptyDict:
        PushItems(Kind::kDict);
        break;
      case kTuple1:
      case kTuple2:
      case kTuple3:
        PushItems(Kind::kTuple, Pop(opcode - kTuple1 + 1));
        break;
      case kTupleOp:
        PushItems(Kind::kTuple, PopToMark());
        break;
      case kAppend:
        Extend(Kind::kList, "APPEND", Pop(1));
        break;
      case kAppends:
        Extend(Kind::kList, "APPENDS", PopToMark());
        break;
      case kSetItem:
        Extend(Kind::kDict, "SETITEM", Pop(2));
        break;
      case kSetItems:
        Extend(Kind::kDict, "SETITEMS", PopToMark());
        break;
      case kBinPut:
        Put(Number<uint8_t>());
        break;
      case kLongBinPut:
        Put(Number<uint32_t>());
        break;
      case kBinGet:
        Get(Number<uint8_t>());
        break;
      case kLongBinGet:
        Get(Number<uint32_t>());
        break;
      case kBinPersId:
        PushItems(Kind::kPersistent, Pop(1));
        break;
      case kGlobalOp:
        Global();
        break;
      case kReduce:
        Reduce();
        break;
      case kBuild:
        Build();
        break;
      default:
        Refuse(opcode);
    }
    return false;
  }

  [[noreturn]] void Refuse(uint8_t opcode) const {
    for (const OpcodeName& refused : kRefused) {
      if (refused.code == opcode) {
        Fail("opcode {}, which torch.save does not write for tensors",
             refused.name);
      }
    }
    Fail("opcode 0x{:02x}, which torch.save does not write for tensors",
         opcode);
  }

  std::span<const std::byte> data_;
  const std::string& where_;
  const PickleGlobals& globals_;
  size_t at_ = 0;
  Pickle result_;
  std::vector<uint32_t> stack_;
  std::vector<size_t> marks_;  // heights of stack_
  std::map<uint32_t, uint32_t> memo_;
};

}  // namespace

Pickle ReadPickle(std::span<const std::byte> data, const std::string& where,
                  const PickleGlobals& globals) {
  return Machine(data, where, globals).Run();
}

std::string_view NameOf(PickleValue::Kind kind) {
  switch (kind) {
    case Kind::kNone:
      return "None";
    case Kind::kBool:
      return "a bool";
    case Kind::kInteger:
      return "an integer";
    case Kind::kFloat:
      return "a float";
    case Kind::kText:
      return "a string";
    case Kind::kTuple:
      return "a tuple";
    case Kind::kList:
      return "a list";
    case Kind::kDict:
      return "a dict";
    case Kind::kGlobal:
      return "a global";
    case Kind::kPersistent:
      return "a storage";
    case Kind::kCall:
      return "a call";
  }
  return "?";
}

}  // namespace verify_tflite
