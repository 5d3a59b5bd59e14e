# CUDA is found, not required. A toolkit of 12.4 or newer that accepts the host compiler turns it
# on; otherwise the build is for the CPU alone and says why in one line.
set(LIQUIDGEMM_CUDA "AUTO" CACHE STRING "Build the Hopper kernels: AUTO, ON (fail without) or OFF")
set(LIQUIDGEMM_HAS_CUDA OFF)

# Why there is no CUDA in this build, or an empty string.
function(liquidgemm_find_cuda reason)
  set(${reason} "" PARENT_SCOPE)
  if(LIQUIDGEMM_CUDA STREQUAL "OFF")
    set(${reason} "LIQUIDGEMM_CUDA is OFF" PARENT_SCOPE)
    return()
  endif()
  if(LIQUIDGEMM_SANITIZE OR LIQUIDGEMM_FUZZ)
    set(${reason} "sanitizers and fuzzing check the host code" PARENT_SCOPE)
    return()
  endif()
  find_program(LIQUIDGEMM_NVCC nvcc HINTS $ENV{CUDA_HOME}/bin /usr/local/cuda/bin)
  mark_as_advanced(LIQUIDGEMM_NVCC)
  if(NOT LIQUIDGEMM_NVCC)
    set(${reason} "no nvcc was found" PARENT_SCOPE)
    return()
  endif()
  execute_process(COMMAND ${LIQUIDGEMM_NVCC} --version OUTPUT_VARIABLE said ERROR_QUIET)
  if(NOT said MATCHES "release ([0-9]+\\.[0-9]+)")
    set(${reason} "${LIQUIDGEMM_NVCC} does not say its version" PARENT_SCOPE)
    return()
  endif()
  if(CMAKE_MATCH_1 VERSION_LESS 12.4)
    set(${reason} "the CUDA toolkit is ${CMAKE_MATCH_1}, 12.4 or newer is needed" PARENT_SCOPE)
    return()
  endif()
  # The host compiler may be newer than the toolkit accepts: one tiny compilation tells.
  set(probe ${PROJECT_BINARY_DIR}/CMakeFiles/liquidgemm_cuda_probe)
  file(WRITE ${probe}.cu "#include <string>\n__global__ void probe() {}\n")
  execute_process(
    COMMAND ${LIQUIDGEMM_NVCC} -ccbin ${CMAKE_CXX_COMPILER} -std=c++20
            -gencode=arch=compute_90a,code=sm_90a -c ${probe}.cu -o ${probe}.o
    RESULT_VARIABLE failed OUTPUT_QUIET ERROR_QUIET)
  if(failed)
    set(${reason} "the CUDA toolkit does not accept the compiler ${CMAKE_CXX_COMPILER}"
        PARENT_SCOPE)
  endif()
endfunction()

liquidgemm_find_cuda(no_cuda)
if(no_cuda)
  if(LIQUIDGEMM_CUDA STREQUAL "ON")
    message(FATAL_ERROR "LIQUIDGEMM_CUDA is ON, but ${no_cuda}")
  endif()
  message(STATUS "CUDA: off, the build is for the CPU alone (${no_cuda})")
else()
  set(CMAKE_CUDA_COMPILER ${LIQUIDGEMM_NVCC})
  set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
  set(CMAKE_CUDA_ARCHITECTURES OFF)  # -gencode below: the kernels are for Hopper alone
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
  set(LIQUIDGEMM_HAS_CUDA ON)
  if(NOT DEFINED CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
    # CMake 3.25 does not know yet that nvcc does.
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  endif()
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  set(CMAKE_CUDA_FLAGS_RELEASE "-O3 -DNDEBUG")
  # -fmad=false: the numeric contract rounds every operation on its own. NDEBUG in every build: a
  # device assert between two wgmma serialises them.
  add_compile_options(
    "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-gencode=arch=compute_90a,code=sm_90a -fmad=false -DNDEBUG>"
    "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-Xcompiler=-Wall,-ffp-contract=off -Xptxas=-v>"
    "$<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr>")
  if(LIQUIDGEMM_WERROR)
    add_compile_options("$<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings>")
  endif()
  # Fails where ptxas reports a spill or serialises wgmma.
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${PROJECT_SOURCE_DIR}/cmake/check_ptxas.sh ${LIQUIDGEMM_CCACHE})
  message(STATUS "CUDA: on, toolkit ${CMAKE_CUDA_COMPILER_VERSION}")
endif()
