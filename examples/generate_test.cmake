# Runs the example on the prompt of a recording and compares its tokens:
#   cmake -DGENERATE=<program> -DCACHE=<models and expectations>
#         -P generate_test.cmake
cmake_minimum_required(VERSION 3.22)

# ids(<json> <key> <variable>): the array `key` of the first case as a list.
function(ids json key variable)
  string(JSON count LENGTH "${json}" cases 0 ${key})
  math(EXPR last "${count} - 1")
  set(list "")
  foreach(i RANGE ${last})
    string(JSON id GET "${json}" cases 0 ${key} ${i})
    list(APPEND list ${id})
  endforeach()
  set(${variable} "${list}" PARENT_SCOPE)
endfunction()

file(READ "${CACHE}/expected/candidate/tiny_f32.json" json)
ids("${json}" prompt_ids prompt)
ids("${json}" chosen_ids expected)
list(LENGTH expected count)
execute_process(
  COMMAND "${GENERATE}" "${CACHE}/models/tiny_f32.tflite" ${count} ${prompt}
  OUTPUT_VARIABLE output ERROR_VARIABLE error RESULT_VARIABLE result
  OUTPUT_STRIP_TRAILING_WHITESPACE)
list(JOIN expected " " expected)
if(NOT result EQUAL 0 OR NOT error STREQUAL "" OR
   NOT output STREQUAL expected)
  message(FATAL_ERROR "exit code ${result}\nexpected ${expected}\n"
                      "found    ${output}\n${error}")
endif()
