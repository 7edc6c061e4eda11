#include "text/sentencepiece_library.h"

#include <dlfcn.h>

#include <filesystem>
#include <system_error>

#include "base/error.h"
#include "text/tokenizer_impl.h"

namespace verify_tflite {
namespace {

using Open = void*(const char* proto, size_t size, char* error,
                   size_t error_size);
using CloseFn = void(void* handle);
using Size = int(const void* handle);
using PieceToIdFn = int(const void* handle, const char* piece, size_t size);
using PieceFn = const char*(const void* handle, int id, size_t* size);
using IsByteFn = int(const void* handle, int id);
using EncodeFn = int(const void* handle, const char* text, size_t size,
                     void (*take)(void* context, const int* ids, size_t count),
                     void* context);

// Beside the program, where it is installed; else where it was built.
std::string FindModule() {
  const std::filesystem::path built(SENTENCEPIECE_MODULE);
  std::error_code failed;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", failed);
  if (!failed) {
    const auto beside = program.parent_path() / built.filename();
    if (std::filesystem::exists(beside, failed)) return beside;
  }
  return built;
}

struct Library {
  Library() : path(FindModule()) {
    // Deep binding: libtorch, which the program is linked to, offers a protobuf
    // of another version under the same names. Never unloaded, for protobuf
    // registers functions that run at exit.
    handle = dlopen(path.c_str(),
                    RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND | RTLD_NODELETE);
    if (!handle) {
      const char* reason = dlerror();
      throw Error("{}: cannot be loaded: {}", path,
                  reason ? reason : "no reason given");
    }
    open = Symbol<Open>("vtf_sp_open");
    close = Symbol<CloseFn>("vtf_sp_close");
    size = Symbol<Size>("vtf_sp_size");
    piece_to_id = Symbol<PieceToIdFn>("vtf_sp_piece_to_id");
    piece = Symbol<PieceFn>("vtf_sp_piece");
    is_byte = Symbol<IsByteFn>("vtf_sp_is_byte");
    encode = Symbol<EncodeFn>("vtf_sp_encode");
  }

  template <typename Function>
  Function* Symbol(const char* name) const {
    void* address = dlsym(handle, name);
    if (!address) throw Error("{}: has no {}: build again", path, name);
    return reinterpret_cast<Function*>(address);
  }

  std::string path;
  void* handle;
  Open* open;
  CloseFn* close;
  Size* size;
  PieceToIdFn* piece_to_id;
  PieceFn* piece;
  IsByteFn* is_byte;
  EncodeFn* encode;
};

const Library& Get() {
  static const Library library;
  return library;
}

// The library takes no null pointer, not even with size 0.
}  // namespace

void SentencePieceModel::Close::operator()(void* handle) const {
  Get().close(handle);
}

SentencePieceModel::SentencePieceModel(std::string_view proto,
                                       const std::string& path) {
  char error[512];
  handle_.reset(Get().open(NotNull(proto), proto.size(), error, sizeof(error)));
  if (!handle_) throw Error("{}: not a SentencePiece model: {}", path, error);
  if (size() <= 0) throw Error("{}: the model has no pieces", path);
}

int32_t SentencePieceModel::size() const { return Get().size(handle_.get()); }

bool SentencePieceModel::IsByte(int32_t id) const {
  return Get().is_byte(handle_.get(), id) != 0;
}

std::string_view SentencePieceModel::Piece(int32_t id) const {
  size_t size = 0;
  const char* text = Get().piece(handle_.get(), id, &size);
  return {text, size};
}

int32_t SentencePieceModel::PieceToId(std::string_view piece) const {
  return Get().piece_to_id(handle_.get(), NotNull(piece), piece.size());
}

std::vector<int32_t> SentencePieceModel::Encode(std::string_view text) const {
  std::vector<int32_t> result;
  const auto take = [](void* context, const int* ids, size_t count) {
    static_cast<std::vector<int32_t>*>(context)->assign(ids, ids + count);
  };
  if (!Get().encode(handle_.get(), NotNull(text), text.size(), take, &result)) {
    throw Error("SentencePiece cannot encode a text of {} bytes", text.size());
  }
  return result;
}

}  // namespace verify_tflite
