// llama.cpp's JSON wrapper names this function of ggml for its failed
// assertions. Nothing here reaches it; the linker asks for it.
#include <cstdlib>

extern "C" [[noreturn]] void ggml_abort(const char*, int, const char*, ...) {
  std::abort();
}
