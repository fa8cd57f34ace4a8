# Rooms of the house: one static library per folder of sim/, with the list of
# rooms it may include. The lists are written to rooms.txt in the build folder,
# where tests/tidy reads them and checks every #include.

add_library(longhaul_options INTERFACE)
target_compile_features(longhaul_options INTERFACE cxx_std_20)
target_include_directories(longhaul_options INTERFACE ${PROJECT_SOURCE_DIR})
set(longhaul_warnings
  -Wall -Wextra -Wpedantic -Wconversion -Wno-sign-conversion -Wshadow -Wnon-virtual-dtor
  # GCC 12 warns of overlapping copies in std::string's operator+ (GCC bug 105651).
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>
  $<$<BOOL:${LONGHAUL_WARNINGS_AS_ERRORS}>:-Werror>)
# CUDA sources have their own (cmake/cuda.cmake): nvcc's own code does not pass these.
target_compile_options(longhaul_options INTERFACE
  "$<$<COMPILE_LANGUAGE:CXX>:${longhaul_warnings}>")

set_property(GLOBAL PROPERTY LONGHAUL_ROOMS "")

# sim_room(NAME [SOURCES files...] [USES rooms...] [LINKS libraries...])
# Declares room NAME (folder sim/NAME). A room without SOURCES is header-only.
function(sim_room name)
  cmake_parse_arguments(ROOM "" "" "SOURCES;USES;LINKS" ${ARGN})
  set(target sim_${name})
  set(scope PUBLIC)
  if(ROOM_SOURCES)
    list(TRANSFORM ROOM_SOURCES PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/${name}/)
    add_library(${target} STATIC ${ROOM_SOURCES})
  else()
    add_library(${target} INTERFACE)
    set(scope INTERFACE)
  endif()
  target_link_libraries(${target} ${scope} longhaul_options)
  foreach(used IN LISTS ROOM_USES)
    target_link_libraries(${target} ${scope} sim_${used})
  endforeach()
  target_link_libraries(${target} ${scope} ${ROOM_LINKS})
  string(JOIN " " uses ${ROOM_USES})
  set_property(GLOBAL APPEND PROPERTY LONGHAUL_ROOMS "${name}: ${uses}")
endfunction()

# Writes rooms.txt once every room is declared.
function(write_room_list)
  get_property(rooms GLOBAL PROPERTY LONGHAUL_ROOMS)
  string(JOIN "\n" text ${rooms})
  file(WRITE ${CMAKE_BINARY_DIR}/rooms.txt "${text}\n")
endfunction()

# sim_test(NAME SOURCES files... USES rooms... [LINKS libraries...])
# One Catch2 executable test_NAME, run by ctest under that name.
function(sim_test name)
  cmake_parse_arguments(TEST "" "" "SOURCES;USES;LINKS" ${ARGN})
  add_executable(test_${name} ${TEST_SOURCES})
  target_link_libraries(test_${name} PRIVATE longhaul_test_main longhaul_options ${TEST_LINKS})
  foreach(used IN LISTS TEST_USES)
    target_link_libraries(test_${name} PRIVATE sim_${used})
  endforeach()
  target_compile_definitions(test_${name} PRIVATE LONGHAUL_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  add_test(NAME ${name} COMMAND test_${name})
endfunction()
