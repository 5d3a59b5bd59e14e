# Structured output needs xgrammar's source, which the scripts fetch (scripts/lib.sh). Without it the
# build goes on, says so in one line, and GrammarCompiler::create returns an error.
set(LIQUIDGEMM_XGRAMMAR_SOURCE "" CACHE PATH
    "Folder of xgrammar's unpacked source archive; empty: no structured output")
set(LIQUIDGEMM_HAS_XGRAMMAR OFF)

if(NOT LIQUIDGEMM_XGRAMMAR_SOURCE)
  message(STATUS "Structured output: off (LIQUIDGEMM_XGRAMMAR_SOURCE is not set)")
  return()
endif()
if(NOT EXISTS ${LIQUIDGEMM_XGRAMMAR_SOURCE}/cpp/grammar_matcher.cc)
  message(STATUS "Structured output: off (${LIQUIDGEMM_XGRAMMAR_SOURCE} is not xgrammar's source)")
  return()
endif()

# Its engine only: what reads schemas, regular expressions and other notations stays out, and
# xgrammar/left_out.cc stands in for it.
set(xgrammar_sources
    compiled_grammar config earley_parser fsm fsm_builder grammar grammar_builder grammar_compiler
    grammar_functor grammar_matcher grammar_parser grammar_printer suffix_automata
    support/logging support/recursion_guard testing tokenizer_info)
list(TRANSFORM xgrammar_sources PREPEND ${LIQUIDGEMM_XGRAMMAR_SOURCE}/cpp/)
list(TRANSFORM xgrammar_sources APPEND .cc)
add_library(xgrammar STATIC ${xgrammar_sources}
                            ${PROJECT_SOURCE_DIR}/src/engine/xgrammar/left_out.cc)
set_target_properties(xgrammar PROPERTIES CXX_STANDARD 17)
target_compile_options(xgrammar PRIVATE -w -O2)
target_compile_definitions(xgrammar PRIVATE XGRAMMAR_ENABLE_CPPTRACE=0 XGRAMMAR_LOG_CUSTOMIZE=1
                                            XGRAMMAR_ENABLE_INTERNAL_CHECK=0)
target_include_directories(xgrammar SYSTEM
  PUBLIC ${LIQUIDGEMM_XGRAMMAR_SOURCE}/include ${LIQUIDGEMM_XGRAMMAR_SOURCE}/3rdparty/dlpack/include
  PRIVATE ${LIQUIDGEMM_XGRAMMAR_SOURCE}/cpp ${LIQUIDGEMM_XGRAMMAR_SOURCE}/3rdparty/picojson)
target_link_libraries(xgrammar PUBLIC Threads::Threads)
set(LIQUIDGEMM_HAS_XGRAMMAR ON)
message(STATUS "Structured output: on")
