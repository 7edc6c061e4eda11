#include "base/python_library.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <string>

#include "base/error.h"
#include "base/testing.h"

namespace verify_tflite {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

const PythonLibrary kLibrary = {"some_package", "libsome.so",
                                "VERIFY_TFLITE_TEST_LIBRARY", "some-pkg==1.2"};

class FindPythonLibraryTest : public ::testing::Test {
 protected:
  FindPythonLibraryTest() {
    unsetenv(kLibrary.env_variable.c_str());
    unsetenv("VIRTUAL_ENV");
  }
  ~FindPythonLibraryTest() override {
    unsetenv(kLibrary.env_variable.c_str());
    unsetenv("VIRTUAL_ENV");
  }

  std::string MakeLibrary(const std::string& python) {
    const std::string folder =
        "lib/" + python + "/site-packages/" + kLibrary.package_dir;
    std::filesystem::create_directories(dir_.File(folder));
    return dir_.Write(folder + "/" + kLibrary.file_name, "");
  }

  TempDir dir_;
};

TEST_F(FindPythonLibraryTest, TakesTheActiveVirtualEnvironment) {
  std::filesystem::create_directories(dir_.File("lib/python3.9"));
  const std::string path = MakeLibrary("python3.11");
  setenv("VIRTUAL_ENV", dir_.path().c_str(), 1);
  EXPECT_EQ(FindPythonLibrary(kLibrary), path);
}

TEST_F(FindPythonLibraryTest, PrefersTheNamedFile) {
  MakeLibrary("python3.11");
  setenv("VIRTUAL_ENV", dir_.path().c_str(), 1);
  const std::string named = dir_.Write("mine.so", "");
  setenv(kLibrary.env_variable.c_str(), named.c_str(), 1);
  EXPECT_EQ(FindPythonLibrary(kLibrary), named);
}

TEST_F(FindPythonLibraryTest, DoesNotPassOverANamedFileThatIsMissing) {
  MakeLibrary("python3.11");
  setenv("VIRTUAL_ENV", dir_.path().c_str(), 1);
  setenv(kLibrary.env_variable.c_str(), "/nowhere/mine.so", 1);
  EXPECT_THAT(
      [] { FindPythonLibrary(kLibrary); },
      ThrowsMessage<Error>(AllOf(HasSubstr("/nowhere/mine.so: no such file"),
                                 HasSubstr(kLibrary.env_variable))));
}

TEST_F(FindPythonLibraryTest, SaysWhereItLookedAndWhatToInstall) {
  setenv("VIRTUAL_ENV", dir_.path().c_str(), 1);
  const std::string place =
      dir_.File("lib/python3.*/site-packages/some_package/libsome.so");
  EXPECT_THAT([] { FindPythonLibrary(kLibrary); },
              ThrowsMessage<Error>(
                  AllOf(HasSubstr("libsome.so not found"),
                        HasSubstr("pip install 'some-pkg==1.2'"),
                        HasSubstr(place), HasSubstr(kLibrary.env_variable))));
}

TEST_F(FindPythonLibraryTest, LooksInTheEnvironmentOfTheBuildLast) {
  // torch is certain to be there: the program links it.
  const PythonLibrary torch = {"torch/lib", "libc10.so", kLibrary.env_variable,
                               "torch"};
  setenv("VIRTUAL_ENV", dir_.path().c_str(), 1);
  EXPECT_THAT(FindPythonLibrary(torch), HasSubstr("/torch/lib/libc10.so"));
}

TEST(SharedLibrary, FindsAFunction) {
  const SharedLibrary library("libm.so.6");
  EXPECT_EQ(library.Symbol<double(double)>("floor")(1.5), 1.0);
}

TEST(SharedLibrary, NamesAMissingFunction) {
  const SharedLibrary library("libm.so.6");
  EXPECT_THAT([&] { library.Symbol<void()>("no_such_function"); },
              ThrowsMessage<Error>(AllOf(HasSubstr("libm.so.6"),
                                         HasSubstr("no_such_function"))));
}

TEST(SharedLibrary, RefusesWhatIsNoLibrary) {
  const TempDir dir;
  const std::string path = dir.Write("libsome.so", "not ELF");
  EXPECT_THAT([&] { SharedLibrary{path}; },
              ThrowsMessage<Error>(AllOf(
                  HasSubstr(path), HasSubstr("cannot be loaded as a shared"))));
}

}  // namespace
}  // namespace verify_tflite
