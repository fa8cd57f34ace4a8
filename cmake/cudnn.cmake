# cuDNN's header, to compile against, and where its library is, to be found when a program opens it.
# Sets LONGHAUL_HAS_CUDNN; where on, the target cudnn_headers.
find_path(LONGHAUL_CUDNN_INCLUDE cudnn.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
set(LONGHAUL_HAS_CUDNN OFF)
if(NOT LONGHAUL_CUDNN_INCLUDE)
  message(STATUS "waived: no cuDNN header, so the comparison with its attention is left out "
                 "(set LONGHAUL_CUDNN_INCLUDE to the folder of cudnn.h)")
  return()
endif()
file(STRINGS ${LONGHAUL_CUDNN_INCLUDE}/cudnn_version.h versions
  REGEX "#define CUDNN_(MAJOR|MINOR) [0-9]+")
string(REGEX REPLACE "[^0-9]*([0-9]+)[^0-9]+([0-9]+).*" "\\1.\\2" version "${versions}")
if(version VERSION_LESS 9.8)  # the properties of a GPU that is not here
  message(STATUS "waived: cuDNN ${version} is older than 9.8, so the comparison with its attention "
                 "is left out")
  return()
endif()
set(LONGHAUL_HAS_CUDNN ON)
add_library(cudnn_headers INTERFACE)
target_include_directories(cudnn_headers SYSTEM INTERFACE ${LONGHAUL_CUDNN_INCLUDE})
find_library(LONGHAUL_CUDNN_LIBRARY cudnn HINTS ${CUDAToolkit_LIBRARY_DIR})
if(LONGHAUL_CUDNN_LIBRARY)
  get_filename_component(folder ${LONGHAUL_CUDNN_LIBRARY} DIRECTORY)
  target_link_options(cudnn_headers INTERFACE "LINKER:-rpath,${folder}")
endif()
