# Flags that every target shares, and the functions that make targets.

# Release keeps assertions out but everything else plain. The numeric contract needs every
# floating-point operation rounded on its own: no contraction, no fast-math (docs/numerics.md).
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")
add_compile_options(
  "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-ffp-contract=off;-fno-math-errno>")
if(LIQUIDGEMM_WERROR)
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-Werror>")
endif()

find_program(LIQUIDGEMM_CCACHE ccache)
if(LIQUIDGEMM_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${LIQUIDGEMM_CCACHE})
endif()

if(LIQUIDGEMM_SANITIZE STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all
                      -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=address,undefined)
elseif(LIQUIDGEMM_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=thread)
  # ThreadSanitizer does not know the bare fences that Asio adds to its locks.
  add_compile_definitions(BOOST_ASIO_DISABLE_FENCED_BLOCK)
elseif(NOT LIQUIDGEMM_SANITIZE STREQUAL "")
  message(FATAL_ERROR "LIQUIDGEMM_SANITIZE is '${LIQUIDGEMM_SANITIZE}', expected address or thread")
endif()

# Fuzzing instruments every file, so that libFuzzer sees the branches of the parsers and not only
# those of the target; address and undefined behaviour are checked with it.
if(LIQUIDGEMM_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "LIQUIDGEMM_FUZZ needs clang (-DCMAKE_CXX_COMPILER=clang++-16); "
                        "the compiler is ${CMAKE_CXX_COMPILER_ID}")
  endif()
  if(NOT LIQUIDGEMM_SANITIZE STREQUAL "")
    message(FATAL_ERROR "LIQUIDGEMM_FUZZ brings its own sanitizers: leave LIQUIDGEMM_SANITIZE empty")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
                      -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=address,undefined)
endif()

# liquidgemm_layer(NAME SOURCES... DEPENDS...): one static library a layer, named liquidgemm_NAME.
# A layer may depend only on layers above it in docs/design.md's list.
function(liquidgemm_layer name)
  cmake_parse_arguments(LAYER "" "" "SOURCES;DEPENDS" ${ARGN})
  if(NOT LAYER_SOURCES)
    add_library(liquidgemm_${name} INTERFACE)
    target_include_directories(liquidgemm_${name} INTERFACE ${PROJECT_SOURCE_DIR}/include
                                                            ${PROJECT_SOURCE_DIR}/src)
    target_link_libraries(liquidgemm_${name} INTERFACE ${LAYER_DEPENDS})
    return()
  endif()
  add_library(liquidgemm_${name} STATIC ${LAYER_SOURCES})
  target_include_directories(liquidgemm_${name} PUBLIC ${PROJECT_SOURCE_DIR}/include
                                                       ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(liquidgemm_${name} PUBLIC ${LAYER_DEPENDS})
endfunction()

# liquidgemm_test(NAME SOURCES... DEPENDS...): one GoogleTest program, one ctest entry.
function(liquidgemm_test name)
  cmake_parse_arguments(TEST "" "" "SOURCES;DEPENDS" ${ARGN})
  add_executable(${name} ${TEST_SOURCES})
  target_link_libraries(${name} PRIVATE ${TEST_DEPENDS} GTest::gtest GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE
    LIQUIDGEMM_TEST_DATA="${PROJECT_SOURCE_DIR}/tests/data")
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  add_test(NAME ${name} COMMAND ${name})
endfunction()
