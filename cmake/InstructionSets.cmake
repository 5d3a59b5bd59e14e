# Files that are compiled for an instruction set of x86, named *_avx2.cc, *_avx512.cc and *_amx.cc:
# each gets that set's flags, which nothing else sees. Where the target is another architecture they
# are taken out of the list. AMX has AVX-512's flags: its own instructions are written in assembly.
#
#   liquidgemm_instruction_sets(<list of sources> <result> [EVERY flags...] [AVX512 flags...])
#
# <result> is ON where they are compiled. EVERY: more flags for all of them; AVX512: for those.
function(liquidgemm_instruction_sets list_name result)
  cmake_parse_arguments(more "" "" "EVERY;AVX512" ${ARGN})
  set(files ${${list_name}})
  list(FILTER files INCLUDE REGEX "_(avx2|avx512|amx)\\.cc$")
  if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    list(FILTER ${list_name} EXCLUDE REGEX "_(avx2|avx512|amx)\\.cc$")
    set(${list_name} ${${list_name}} PARENT_SCOPE)
    set(${result} OFF PARENT_SCOPE)
    return()
  endif()
  foreach(file ${files})
    if(file MATCHES "_avx2\\.cc$")
      set(flags -mavx2 -mfma)
    else()
      set(flags -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mfma ${more_AVX512})
      if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
        # GCC 12 warns about its own intrinsics, whose "undefined" operands are meant to be so.
        list(APPEND flags -Wno-uninitialized -Wno-maybe-uninitialized)
      endif()
    endif()
    list(APPEND flags ${more_EVERY})
    set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS "${flags}")
  endforeach()
  set(${result} ON PARENT_SCOPE)
endfunction()
