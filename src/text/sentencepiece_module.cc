// SentencePiece as C functions, in a module of its own: libsentencepiece
// exports a protobuf, and so do libtorch and liblitert-lm. The program opens
// this module so that each keeps to its own (sentencepiece_library.cc).
#include <sentencepiece_processor.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

using sentencepiece::SentencePieceProcessor;

namespace {

void* Fail(const std::string& message, char* error, size_t error_size) {
  std::strncpy(error, message.c_str(), error_size - 1);
  error[error_size - 1] = '\0';
  return nullptr;
}

const SentencePieceProcessor& Get(const void* handle) {
  return *static_cast<const SentencePieceProcessor*>(handle);
}

}  // namespace

extern "C" {

void* vtf_sp_open(const char* proto, size_t size, char* error,
                  size_t error_size) {
  auto processor = std::make_unique<SentencePieceProcessor>();
  const auto status = processor->LoadFromSerializedProto({proto, size});
  if (!status.ok()) return Fail(status.ToString(), error, error_size);
  return processor.release();
}

void vtf_sp_close(void* handle) {
  delete static_cast<SentencePieceProcessor*>(handle);
}

int vtf_sp_size(const void* handle) { return Get(handle).GetPieceSize(); }

int vtf_sp_piece_to_id(const void* handle, const char* piece, size_t size) {
  return Get(handle).PieceToId({piece, size});
}

const char* vtf_sp_piece(const void* handle, int id, size_t* size) {
  const std::string& piece = Get(handle).IdToPiece(id);
  *size = piece.size();
  return piece.data();
}

int vtf_sp_is_byte(const void* handle, int id) {
  return Get(handle).IsByte(id);
}

// Calls `take` with the ids; 0 when the library fails.
int vtf_sp_encode(const void* handle, const char* text, size_t size,
                  void (*take)(void* context, const int* ids, size_t count),
                  void* context) {
  std::vector<int> ids;
  if (!Get(handle).Encode({text, size}, &ids).ok()) return 0;
  take(context, ids.data(), ids.size());
  return 1;
}
}
