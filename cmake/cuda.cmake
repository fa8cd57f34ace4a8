# CUDA sources (*.cu under kernels/ and calibrate/), compiled where there is a CUDA compiler.
# The simulator never needs them: without a compiler this says so and everything else builds.

include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  message(WARNING "no CUDA compiler found: the CUDA sources are left out "
                  "(put nvcc on PATH, or set CUDACXX to it)")
  return()
endif()
if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80 90)  # A100 (sm_80) and H100/H200 (sm_90)
endif()
enable_language(CUDA)

file(GLOB_RECURSE cuda_sources CONFIGURE_DEPENDS
     ${PROJECT_SOURCE_DIR}/kernels/*.cu ${PROJECT_SOURCE_DIR}/calibrate/*.cu)
if(cuda_sources)
  add_library(longhaul_cuda OBJECT ${cuda_sources})
  target_include_directories(longhaul_cuda PRIVATE ${PROJECT_SOURCE_DIR})
  set_target_properties(longhaul_cuda PROPERTIES CUDA_STANDARD 17)
endif()
