#include "checkpoint/pytorch_file.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <string_view>

#include "base/error.h"
#include "base/no_file.h"
#include "base/utf8.h"
#include "base/zip_file.h"
#include "checkpoint/pickle.h"

namespace verify_tflite {
namespace {

using Kind = PickleValue::Kind;

// A storage class of torch, or a dtype where the storage is untyped.
struct StorageRow {
  std::string_view storage;  // "FloatStorage"; empty: only as dtype
  std::string_view dtype;    // "float32"
  std::string_view name;     // as safetensors calls it
  int bytes;
  std::optional<DType> floats;  // none: not one the reference computes with
};

constexpr StorageRow kStorages[] = {
    {"FloatStorage", "float32", "F32", 4, DType::kF32},
    {"HalfStorage", "float16", "F16", 2, DType::kF16},
    {"BFloat16Storage", "bfloat16", "BF16", 2, DType::kBF16},
    {"DoubleStorage", "float64", "F64", 8, DType::kF64},
    {"LongStorage", "int64", "I64", 8, {}},
    {"IntStorage", "int32", "I32", 4, {}},
    {"ShortStorage", "int16", "I16", 2, {}},
    {"CharStorage", "int8", "I8", 1, {}},
    {"ByteStorage", "uint8", "U8", 1, {}},
    {"UntypedStorage", "", "U8", 1, {}},
    {"BoolStorage", "bool", "BOOL", 1, {}},
    {"ComplexFloatStorage", "complex64", "C64", 8, {}},
    {"ComplexDoubleStorage", "complex128", "C128", 16, {}},
    {"", "uint16", "U16", 2, {}},
    {"", "uint32", "U32", 4, {}},
    {"", "uint64", "U64", 8, {}},
    {"", "float8_e4m3fn", "F8_E4M3", 1, {}},
    {"", "float8_e5m2", "F8_E5M2", 1, {}},
    {"", "float8_e4m3fnuz", "F8_E4M3FNUZ", 1, {}},
    {"", "float8_e5m2fnuz", "F8_E5M2FNUZ", 1, {}},
    {"", "float8_e8m0fnu", "F8_E8M0", 1, {}},
};

constexpr std::string_view kStorageModules[] = {"torch.storage.", "torch.cuda.",
                                                "torch."};

// The functions that make tensors, in torch/_utils.py.
constexpr std::string_view kTensorV2 = "torch._utils._rebuild_tensor_v2";
constexpr std::string_view kTensorV3 = "torch._utils._rebuild_tensor_v3";
constexpr std::string_view kParameter = "torch._utils._rebuild_parameter";
constexpr std::string_view kParameterWithState =
    "torch._utils._rebuild_parameter_with_state";
// These make values that are not looked into.
constexpr std::string_view kDevice = "torch.device";
constexpr std::string_view kSize = "torch.Size";
constexpr std::string_view kCallables[] = {
    kTensorV2, kTensorV3, kParameter, kParameterWithState, kDevice, kSize};

constexpr std::string_view kStateDictKeys[] = {"model", "state_dict",
                                               "model_state_dict"};

constexpr int kMaxDimensions = 64;    // torch's own limit
constexpr size_t kMaxKeyBytes = 256;  // they are decimal numbers

const StorageRow* FindStorage(std::string_view global) {
  for (const std::string_view module : kStorageModules) {
    if (!global.starts_with(module)) continue;
    const std::string_view name = global.substr(module.size());
    for (const StorageRow& row : kStorages) {
      if (!row.storage.empty() && row.storage == name) return &row;
    }
  }
  return nullptr;
}

const StorageRow* FindDType(std::string_view global) {
  constexpr std::string_view kModule = "torch.";
  if (!global.starts_with(kModule)) return nullptr;
  for (const StorageRow& row : kStorages) {
    if (!row.dtype.empty() && row.dtype == global.substr(kModule.size())) {
      return &row;
    }
  }
  return nullptr;
}

bool IsCallable(std::string_view global) {
  return std::ranges::count(kCallables, global) > 0;
}

bool IsAllowed(std::string_view global) {
  return IsCallable(global) || global == "collections.OrderedDict" ||
         FindStorage(global) || FindDType(global);
}

// Where a tensor's numbers lie.
struct Strided {
  const StorageRow* type;
  std::span<const std::byte> storage;
  uint64_t offset;  // in elements, like strides
  std::vector<int64_t> shape;
  std::vector<int64_t> strides;
};

bool IsEmpty(const Strided& tensor) {
  return std::ranges::count(tensor.shape, 0) > 0;
}

// As torch's is_contiguous: the stride of a dimension of size 1 is not used.
bool IsDense(const Strided& tensor) {
  if (IsEmpty(tensor)) return true;
  int64_t expected = 1;
  for (size_t i = tensor.shape.size(); i-- > 0;) {
    if (tensor.shape[i] == 1) continue;
    if (tensor.strides[i] != expected) return false;
    expected *= tensor.shape[i];
  }
  return true;
}

// Reads what the calls of a pickle say about tensors.
class TensorReader {
 public:
  TensorReader(const Pickle& pickle, const ZipFile& zip, std::string folder,
               std::string where)
      : pickle_(pickle),
        zip_(zip),
        folder_(std::move(folder)),
        where_(std::move(where)) {}

  // Checks every call and storage, whether the state dict reaches it or not.
  void CheckAll() {
    for (uint32_t i = 0; i < pickle_.values.size(); ++i) {
      const PickleValue& value = pickle_.values[i];
      if (value.kind == Kind::kPersistent) {
        Storage(i, nullptr);
      } else if (value.kind == Kind::kCall && !IsOpaque(value)) {
        Tensor(i);
      }
    }
  }

  bool IsTensor(uint32_t index) const {
    const PickleValue& value = At(index);
    return value.kind == Kind::kCall && !IsOpaque(value);
  }

  Strided Tensor(uint32_t index) const {
    const PickleValue& call = At(index);
    const std::string_view function = At(call.items[0]).text;
    const std::vector<uint32_t>& arguments = At(call.items[1]).items;
    if (function == kTensorV2 || function == kTensorV3) {
      return FromStorage(function, arguments);
    }
    // A parameter: data, requires_grad, backward_hooks[, state]. Its data is
    // made before it, so this does not recurse without end.
    const size_t count = function == kParameter ? 3 : 4;
    if (arguments.size() != count) {
      Fail("{} with {} arguments, expected {}", function, arguments.size(),
           count);
    }
    const PickleValue& data = At(arguments[0]);
    const bool direct = data.kind == Kind::kCall && IsRebuild(data);
    if (!direct) {
      Fail("{} of {}, expected a tensor", function, NameOf(data.kind));
    }
    return Tensor(arguments[0]);
  }

 private:
  template <typename... Args>
  [[noreturn]] void Fail(fmt::format_string<Args...> format,
                         Args&&... args) const {
    throw Error("{}: {}", where_,
                fmt::format(format, std::forward<Args>(args)...));
  }

  const PickleValue& At(uint32_t index) const { return pickle_.values[index]; }

  std::string_view Function(const PickleValue& call) const {
    return At(call.items[0]).text;
  }
  bool IsOpaque(const PickleValue& call) const {
    return Function(call) == kDevice || Function(call) == kSize;
  }
  bool IsRebuild(const PickleValue& call) const {
    return Function(call) == kTensorV2 || Function(call) == kTensorV3;
  }

  const PickleValue& Argument(std::string_view function,
                              const std::vector<uint32_t>& arguments,
                              size_t index, Kind kind) const {
    const PickleValue& value = At(arguments[index]);
    if (value.kind != kind) {
      Fail("argument {} of {} is {}, expected {}", index, function,
           NameOf(value.kind), NameOf(kind));
    }
    return value;
  }

  std::vector<int64_t> Integers(std::string_view function,
                                const PickleValue& tuple) const {
    std::vector<int64_t> values;
    if (tuple.items.size() > kMaxDimensions) {
      Fail("{} of {} dimensions, at most {} are possible", function,
           tuple.items.size(), kMaxDimensions);
    }
    for (const uint32_t item : tuple.items) {
      if (At(item).kind != Kind::kInteger || At(item).integer < 0) {
        Fail("{} with sizes or strides that are not integers from 0", function);
      }
      values.push_back(At(item).integer);
    }
    return values;
  }

  // (storage, offset, size, stride, requires_grad, hooks[, dtype][, metadata])
  Strided FromStorage(std::string_view function,
                      const std::vector<uint32_t>& arguments) const {
    const bool v3 = function == kTensorV3;
    const size_t least = v3 ? 7 : 6;
    if (arguments.size() != least && arguments.size() != least + 1) {
      Fail("{} with {} arguments, expected {} or {}", function,
           arguments.size(), least, least + 1);
    }
    Argument(function, arguments, 0, Kind::kPersistent);
    const int64_t offset =
        Argument(function, arguments, 1, Kind::kInteger).integer;
    if (offset < 0) Fail("{} with the offset {}", function, offset);
    if (arguments.size() == least + 1 &&
        !IsEmptyMetadata(At(arguments[least]))) {
      // Conjugate and negative views: the numbers are not what is stored.
      Fail("a tensor with metadata, which change its values");
    }
    const StorageRow* dtype = nullptr;
    if (v3) {
      dtype = FindDType(Argument(function, arguments, 6, Kind::kGlobal).text);
      if (!dtype) Fail("{} with what is no dtype", function);
    }
    Strided tensor = Storage(arguments[0], dtype);
    tensor.offset = static_cast<uint64_t>(offset);
    tensor.shape =
        Integers(function, Argument(function, arguments, 2, Kind::kTuple));
    tensor.strides =
        Integers(function, Argument(function, arguments, 3, Kind::kTuple));
    CheckExtent(tensor);
    return tensor;
  }

  static bool IsEmptyMetadata(const PickleValue& value) {
    return value.kind == Kind::kNone ||
           (value.kind == Kind::kDict && value.items.empty());
  }

  // ("storage", class, key, device, number of elements)
  Strided Storage(uint32_t index, const StorageRow* dtype) const {
    const PickleValue& id = At(At(index).items[0]);
    if (id.kind != Kind::kTuple || id.items.size() != 5 ||
        At(id.items[0]).text != "storage" ||
        At(id.items[1]).kind != Kind::kGlobal ||
        At(id.items[2]).kind != Kind::kText ||
        At(id.items[4]).kind != Kind::kInteger) {
      Fail("a storage is not given as (\"storage\", class, key, device, size)");
    }
    const StorageRow* type = FindStorage(At(id.items[1]).text);
    if (!type) Fail("{} is no storage class", Quote(At(id.items[1]).text));
    const std::string_view key = At(id.items[2]).text;
    if (key.size() > kMaxKeyBytes) {
      Fail("the key of a storage has {} bytes", key.size());
    }
    const auto data = zip_.Get(fmt::format("{}data/{}", folder_, key));
    const int64_t count = At(id.items[4]).integer;
    uint64_t bytes;
    if (count < 0 ||
        __builtin_mul_overflow(static_cast<uint64_t>(count),
                               static_cast<uint64_t>(type->bytes), &bytes) ||
        bytes != data.size()) {
      Fail("storage {} should have {} elements of {}, the archive has {} bytes",
           Quote(key), count, type->name, data.size());
    }
    return {dtype ? dtype : type, data, 0, {}, {}};
  }

  void CheckExtent(const Strided& tensor) const {
    const std::string shape = ShapeToString(tensor.shape);
    if (tensor.strides.size() != tensor.shape.size()) {
      Fail("a tensor of shape {} has {} strides", shape, tensor.strides.size());
    }
    uint64_t last = tensor.offset, count = 1;
    bool overflow = false;
    for (size_t i = 0; i < tensor.shape.size(); ++i) {
      const auto size = static_cast<uint64_t>(tensor.shape[i]);
      const auto stride = static_cast<uint64_t>(tensor.strides[i]);
      uint64_t step = 0;
      overflow |=
          __builtin_mul_overflow(count, std::max<uint64_t>(size, 1), &count) ||
          __builtin_mul_overflow(size == 0 ? 0 : size - 1, stride, &step) ||
          __builtin_add_overflow(last, step, &last);
    }
    // Bytes of the dense tensor must be a number, too.
    overflow |= count > INT64_MAX / 16;
    if (overflow) Fail("the shape {} is too large to be true", shape);
    if (IsEmpty(tensor)) return;
    const uint64_t elements = tensor.storage.size() / tensor.type->bytes;
    if (last >= elements) {
      Fail("a tensor of shape {} reaches element {} of a storage that has {}",
           shape, last, elements);
    }
  }

  const Pickle& pickle_;
  const ZipFile& zip_;
  std::string folder_;  // "archive/"
  std::string where_;
};

uint64_t ElementCount(const Strided& tensor) {
  uint64_t count = 1;
  for (const int64_t size : tensor.shape) count *= size;
  return count;
}

// Copies the elements in order of their indices; `out` has room for all.
void CopyDense(const Strided& tensor, std::byte* out) {
  const size_t bytes = tensor.type->bytes;
  std::vector<int64_t> shape, strides;
  for (size_t i = 0; i < tensor.shape.size(); ++i) {
    if (tensor.shape[i] == 1) continue;  // its stride may be anything
    shape.push_back(tensor.shape[i]);
    strides.push_back(tensor.strides[i]);
  }
  std::vector<int64_t> index(shape.size(), 0);
  uint64_t element = tensor.offset;
  for (uint64_t left = ElementCount(tensor); left > 0; --left) {
    std::memcpy(out, tensor.storage.data() + element * bytes, bytes);
    out += bytes;
    for (size_t i = shape.size(); i-- > 0;) {
      element += strides[i];
      if (++index[i] < shape[i]) break;
      element -= strides[i] * shape[i];
      index[i] = 0;
    }
  }
}

// The folder of the archive, with its slash: torch.save names it after the
// file or "archive".
std::string FindFolder(const ZipFile& zip, const std::string& path) {
  constexpr std::string_view kPickle = "/data.pkl";
  std::vector<std::string> found;
  for (const auto& [name, entry] : zip.entries()) {
    if (name.ends_with(kPickle) && name.find('/') == name.rfind('/')) {
      found.push_back(name.substr(0, name.rfind('/') + 1));
    }
  }
  if (found.size() != 1) {
    throw Error(
        "{}: a zip archive with {} data.pkl, expected one: not written by "
        "torch.save",
        path, found.size());
  }
  if (zip.Has(found[0] + "constants.pkl")) {
    throw Error(
        "{}: a TorchScript archive, expected a state dict: save "
        "model.state_dict() of the original model",
        path);
  }
  return found[0];
}

constexpr std::string_view kSaveAgain =
    "load it where you trust it and save it again: "
    "torch.save(torch.load(FILE, map_location=\"cpu\"), \"pytorch_model.bin\") "
    "with a torch of 1.6 or newer, or model.save_pretrained(DIR)";

// Says what a file is that is no zip archive.
Error NotAnArchive(const MappedFile& file) {
  const std::string_view text(
      reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  // A pickle of the number 0x1950a86a20f9469cfc6c begins the format of torch
  // before 1.6.
  constexpr std::string_view kLegacy =
      "\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20j\xa8\x50\x19";
  constexpr size_t kTarMagic = 257;
  if (text.starts_with(kLegacy)) {
    return Error("{}: torch.save's format of before torch 1.6; {}", file.path(),
                 kSaveAgain);
  }
  if (text.size() > kTarMagic && text.substr(kTarMagic).starts_with("ustar")) {
    return Error("{}: the tar format of the first torch.save; {}", file.path(),
                 kSaveAgain);
  }
  if (text.starts_with("version https://git-lfs.github.com/spec/")) {
    return Error(
        "{}: a pointer of Git LFS and not the file itself: run git lfs pull",
        file.path());
  }
  return Error(
      "{}: not a file of torch.save (a zip archive was expected); truncated "
      "or another format",
      file.path());
}

Pickle ReadDataPickle(const ZipFile& zip, const std::string& folder,
                      const std::string& where) {
  return ReadPickle(zip.Get(folder + "data.pkl"), where,
                    {IsAllowed, IsCallable});
}

void CheckByteOrder(const ZipFile& zip, const std::string& folder,
                    const std::string& path) {
  if (!zip.Has(folder + "byteorder")) return;  // before torch 2.1: little
  const auto bytes = zip.Get(folder + "byteorder");
  const std::string_view order(reinterpret_cast<const char*>(bytes.data()),
                               bytes.size());
  if (order != "little") {
    throw Error("{}: its byte order is {}, expected \"little\"; {}", path,
                Quote(order), kSaveAgain);
  }
}

bool HoldsFloats(const TensorReader& reader, const PickleValue& dict) {
  for (size_t i = 1; i < dict.items.size(); i += 2) {
    if (reader.IsTensor(dict.items[i]) &&
        reader.Tensor(dict.items[i]).type->floats) {
      return true;
    }
  }
  return false;
}

// The value of the text key `name`, if it is a dict. Throws when the key is
// there twice.
const PickleValue* FindDict(const Pickle& pickle, const PickleValue& root,
                            std::string_view name, const std::string& path) {
  const PickleValue* found = nullptr;
  for (size_t i = 0; i < root.items.size(); i += 2) {
    const PickleValue& key = pickle.values[root.items[i]];
    if (key.kind != Kind::kText || key.text != name) continue;
    if (found) throw Error("{}: key {} is there twice", path, Quote(name));
    found = &pickle.values[root.items[i + 1]];
  }
  return found && found->kind == Kind::kDict ? found : nullptr;
}

// The dict that holds the tensors.
const PickleValue& FindStateDict(const Pickle& pickle,
                                 const TensorReader& reader,
                                 const std::string& path) {
  const PickleValue& root = pickle.values[pickle.root];
  if (root.kind != Kind::kDict) {
    throw Error("{}: holds {}, expected a state dict: save model.state_dict()",
                path, NameOf(root.kind));
  }
  std::vector<std::string> where;
  const PickleValue* found = &root;
  if (HoldsFloats(reader, root)) where.push_back("the top level");
  for (const std::string_view name : kStateDictKeys) {
    const PickleValue* dict = FindDict(pickle, root, name, path);
    if (dict && HoldsFloats(reader, *dict)) {
      where.push_back(Quote(name));
      found = dict;
    }
  }
  if (where.empty()) {
    throw Error(
        "{}: no float tensors at the top level or under {}; expected a state "
        "dict: save model.state_dict()",
        path, fmt::join(kStateDictKeys, ", "));
  }
  if (where.size() > 1) {
    throw Error(
        "{}: tensors in more than one place ({}), it is not clear which are "
        "the model's: save model.state_dict() alone",
        path, fmt::join(where, ", "));
  }
  return *found;
}

// Views the numbers of `tensor` where they lie, if they lie densely; else a
// copy kept in `copies`.
TensorView View(const Strided& tensor, const MappedFile& file,
                std::vector<std::unique_ptr<std::byte[]>>& copies) {
  const size_t bytes = ElementCount(tensor) * tensor.type->bytes;
  TensorView view{*tensor.type->floats, tensor.shape, {}, &file};
  if (bytes == 0) {
    // The offset of an empty tensor may be anything.
    view.data = tensor.storage.first(0);
  } else if (IsDense(tensor)) {
    view.data =
        tensor.storage.subspan(tensor.offset * tensor.type->bytes, bytes);
  } else {
    auto& copy =
        copies.emplace_back(std::make_unique_for_overwrite<std::byte[]>(bytes));
    CopyDense(tensor, copy.get());
    view.data = {copy.get(), bytes};
    view.file = nullptr;
  }
  return view;
}

}  // namespace

PytorchFile PytorchFile::Open(const std::string& path) {
  PytorchFile result(std::make_unique<const MappedFile>(path));
  RefuseNoFile(result.file_->bytes(), path);
  if (!ZipFile::IsZip(*result.file_)) throw NotAnArchive(*result.file_);
  const ZipFile zip(*result.file_);
  const std::string folder = FindFolder(zip, path);
  CheckByteOrder(zip, folder, path);
  const std::string where = fmt::format("{}: data.pkl", path);
  const Pickle pickle = ReadDataPickle(zip, folder, where);
  TensorReader reader(pickle, zip, folder, where);
  reader.CheckAll();

  const PickleValue& dict = FindStateDict(pickle, reader, path);
  uint64_t copied = 0;
  for (size_t i = 0; i < dict.items.size(); i += 2) {
    const PickleValue& key = pickle.values[dict.items[i]];
    if (!reader.IsTensor(dict.items[i + 1])) continue;
    if (key.kind != Kind::kText) {
      throw Error("{}: the name of a tensor is {}, expected a string", where,
                  NameOf(key.kind));
    }
    const std::string name(key.text);
    if (result.tensors_.contains(name) ||
        result.other_tensors_.contains(name)) {
      throw Error("{}: tensor {} is given twice", where, Quote(name));
    }
    const Strided tensor = reader.Tensor(dict.items[i + 1]);
    if (!tensor.type->floats) {
      result.other_tensors_[name] = tensor.type->name;
      continue;
    }
    if (!IsDense(tensor)) {
      const uint64_t bytes = ElementCount(tensor) * tensor.type->bytes;
      if (bytes > kMaxCopiedBytes - copied) {
        throw Error(
            "{}: with {} the tensors that are not stored row by row exceed {} "
            "MiB; save them with .contiguous()",
            where, Quote(name), kMaxCopiedBytes >> 20);
      }
      copied += bytes;
    }
    result.tensors_[name] = View(tensor, *result.file_, result.copies_);
  }
  return result;
}

}  // namespace verify_tflite
