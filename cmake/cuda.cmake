# CUDA sources (*.cu of kernels/, calibrate/ and tests/kernels/), compiled where there is a CUDA
# compiler. The simulator never needs them: without a compiler everything else builds.
# Sets LONGHAUL_HAS_CUDA.

set(LONGHAUL_HAS_CUDA OFF)
if(NOT LONGHAUL_CUDA)
  return()
endif()
include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  message(STATUS "waived: no CUDA compiler, so the CUDA sources are left out "
                 "(put nvcc on PATH, or set CUDACXX to it)")
  return()
endif()
# Each target names its own architectures, as code for sm_90a runs nowhere else.
set(CMAKE_CUDA_ARCHITECTURES OFF)
enable_language(CUDA)
if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.0)
  message(STATUS "waived: CUDA ${CMAKE_CUDA_COMPILER_VERSION} knows no sm_90a and no C++20; "
                 "the CUDA sources need 12.0 or newer and are left out")
  return()
endif()
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25.1 is older than nvcc's C++20
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  list(APPEND CMAKE_CUDA_COMPILE_FEATURES cuda_std_20)
endif()
find_package(CUDAToolkit REQUIRED)
set(LONGHAUL_HAS_CUDA ON)

# Without ccache (4.7): it looks at the host's preprocessed text and takes a change that only
# __CUDA_ARCH__ shows for none.
# For each architecture code for that GPU alone: programs for a farther one are compiled then.
function(cuda_target target)
  cmake_parse_arguments(TARGET "" "" "ARCHITECTURES" ${ARGN})
  set(flags -Xptxas=-v --expt-relaxed-constexpr -lineinfo
      -Xcompiler=-Wall,-Wextra,-Wno-unused-function)
  if(LONGHAUL_WARNINGS_AS_ERRORS)
    list(APPEND flags -Werror=all-warnings -Xcompiler=-Werror)
  endif()
  foreach(architecture IN LISTS TARGET_ARCHITECTURES)
    list(APPEND flags -gencode=arch=compute_${architecture},code=sm_${architecture})
  endforeach()
  set_target_properties(${target} PROPERTIES
    CUDA_STANDARD 20 CUDA_STANDARD_REQUIRED ON CUDA_ARCHITECTURES OFF
    CUDA_RUNTIME_LIBRARY Static
    CUDA_COMPILER_LAUNCHER "${PROJECT_SOURCE_DIR}/cmake/keep_ptxas_report.sh")
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:${flags}>")
endfunction()
