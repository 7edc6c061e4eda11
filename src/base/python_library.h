// Finds and loads shared libraries that come inside Python packages.
#ifndef VERIFY_TFLITE_BASE_PYTHON_LIBRARY_H_
#define VERIFY_TFLITE_BASE_PYTHON_LIBRARY_H_

#include <memory>
#include <string>

namespace verify_tflite {

struct PythonLibrary {
  std::string package_dir;   // "litert_lm", a folder of site-packages
  std::string file_name;     // "liblitert-lm.so"
  std::string env_variable;  // names a file that is taken instead
  std::string requirement;   // "litert-lm-api==0.18.1", for the message
};

// Returns the path of the library: the file named by `env_variable` if that is
// set; else the one in the active virtual environment ($VIRTUAL_ENV); else the
// one in the virtual environment that the program was built against. Throws
// Error that says where it looked and which pip command installs the library.
std::string FindPythonLibrary(const PythonLibrary& library);

// An open library. Its symbols are not offered to other libraries: these
// packages carry their own C++ run-time parts, protobuf and so on, which must
// not meet ours. Its code stays mapped until the process ends, because such
// libraries leave threads and thread-exit handlers running.
class SharedLibrary {
 public:
  // Throws Error with the loader's reason.
  explicit SharedLibrary(const std::string& path);

  const std::string& path() const { return path_; }

  // Returns the function `name`, e.g. Symbol<int(const char*)>("atoi"). Throws
  // Error when the library does not export it.
  template <typename Function>
  Function* Symbol(const char* name) const {
    return reinterpret_cast<Function*>(Address(name));
  }

 private:
  struct Close {
    void operator()(void* handle) const;
  };

  void* Address(const char* name) const;

  std::string path_;
  std::unique_ptr<void, Close> handle_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_BASE_PYTHON_LIBRARY_H_
