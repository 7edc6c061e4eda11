# What takes longest to parse, parsed once for all rooms and once for all tests.
# Sources include what they use all the same: a build with
# -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON shows it.
set(vtf_common_headers <fmt/format.h> <fmt/ranges.h> <nlohmann/json.hpp>
  <algorithm> <functional> <map> <memory> <optional> <set> <string> <vector>)

# vtf_room(<room> [OWN_HEADERS] SOURCES a.cc … DEPS lib …): the room's library,
# vtf_<room>. OWN_HEADERS: its options are not those of the other rooms, so that
# it cannot use what they have precompiled.
function(vtf_room room)
  cmake_parse_arguments(ARG "OWN_HEADERS" "" "SOURCES;DEPS" ${ARGN})
  add_library(vtf_${room} STATIC ${ARG_SOURCES})
  target_include_directories(vtf_${room} PUBLIC "${CMAKE_SOURCE_DIR}/src")
  target_link_libraries(vtf_${room} PUBLIC ${ARG_DEPS})
  if(NOT ARG_OWN_HEADERS AND NOT room STREQUAL base)
    target_precompile_headers(vtf_${room} REUSE_FROM vtf_base)
  endif()
endfunction()

# Runs a test unless it passed before and nothing that it reads has changed.
set(vtf_remembered "${VERIFY_TFLITE_VENV}/bin/python" -B
  "${CMAKE_SOURCE_DIR}/tools/test_memory.py"
  --memory "${CMAKE_BINARY_DIR}/passed_tests" --build "${CMAKE_BINARY_DIR}"
  --cache "${VERIFY_TFLITE_CACHE}")

# vtf_test(<name> [MODELS] [OPTIMISED] [SHARDS n] SOURCES a_test.cc … DEPS lib …): one test
# program, one ctest test: what its cases share is loaded once. With SHARDS it is
# n tests, so that they can run side by side. Tests are compiled without
# optimisation, which takes half the time; what they test is not theirs. Without
# MODELS it is a unit test: it needs no model, no runtime and no network, carries
# the label `unit`. Where VERIFY_TFLITE_SANITIZED_BUILD names a build that runs
# it under the sanitizers, it is no test of this one, unless OPTIMISED code is
# what it is about. With MODELS it reads what tools/make_models.py and
# tools/record_expectations.py made (base/testing.h finds it).
function(vtf_test name)
  cmake_parse_arguments(ARG "MODELS;OPTIMISED" "SHARDS" "SOURCES;DEPS" ${ARGN})
  if(ARG_MODELS AND VERIFY_TFLITE_SANITIZE)
    return()
  endif()
  set(elsewhere OFF)
  if(VERIFY_TFLITE_SANITIZED_BUILD AND NOT ARG_MODELS AND NOT ARG_OPTIMISED)
    set(elsewhere ON)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  set_target_properties(${name} PROPERTIES EXCLUDE_FROM_ALL ${elsewhere} UNITY_BUILD OFF)
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gmock
                                        GTest::gtest_main)
  target_compile_options(${name} PRIVATE -O0)
  target_precompile_headers(${name} REUSE_FROM vtf_testing)
  set(label unit)
  if(ARG_MODELS)
    set(label models)
  else()
    add_dependencies(unit_tests ${name})
  endif()
  if(elsewhere)
    return()
  endif()
  set(shards 1)
  if(ARG_SHARDS)
    set(shards ${ARG_SHARDS})
  endif()
  math(EXPR last "${shards} - 1")
  foreach(shard RANGE ${last})
    set(test ${name})
    if(ARG_SHARDS)
      set(test ${name}.${shard})
    endif()
    add_test(NAME ${test} COMMAND ${vtf_remembered} ${test} $<TARGET_FILE:${name}>)
    set_tests_properties(${test} PROPERTIES LABELS ${label} TIMEOUT 900
      ENVIRONMENT "OMP_WAIT_POLICY=passive;GTEST_TOTAL_SHARDS=${shards};GTEST_SHARD_INDEX=${shard}")
  endforeach()
endfunction()

add_custom_target(unit_tests)
