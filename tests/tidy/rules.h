// The rules of the house that a machine can keep. Each is a pure function of the tree.
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tests/tidy/tree.h"

namespace longhaul::tidy {

using Tree = std::vector<TextFile>;

/// Rooms of sim/ in their order of declaration, with the rooms each may include.
struct Rooms {
  std::vector<std::string> names;
  std::map<std::string, std::set<std::string>> uses;
};

/// Reads rooms.txt of a build folder: "name: used used" per line, written by cmake/rooms.cmake.
Rooms parse_rooms(std::string_view text);

/// One `#include` of a file.
struct Include {
  std::string target;  ///< what stands between the quotes or angle brackets
  bool quoted = false;
  int line = 0;
};
std::vector<Include> includes_of(const TextFile& file);

/// Limit on the lines of a function, from its first line to its closing brace.
inline constexpr int longest_function = 70;

/// A room includes only itself and its USES list; a room uses only rooms declared before it;
/// every folder of sim/ with C++ is declared; sim never includes kernels, calibrate or tests;
/// calibrate includes only itself and costs and what is below them;
/// a quoted include names a file from the repository root.
std::vector<Finding> check_includes(const Tree& tree, const Rooms& rooms);

/// Third-party libraries stay in their homes (CONTRIBUTING.md lists them).
std::vector<Finding> check_third_party(const Tree& tree);

/// No function is longer than `longest_function` lines.
std::vector<Finding> check_function_length(const Tree& tree);

/// Every .cpp is named in a CMakeLists.txt above it; every header is included by another file.
std::vector<Finding> check_dead_files(const Tree& tree);

/// No two headers define a type of the same name in the same namespace: linked together, the templates
/// made of either would be one (C++20 [basic.def.odr]).
std::vector<Finding> check_type_names(const Tree& tree);

/// No note of unfinished work and no path of somebody's machine is left in any text.
std::vector<Finding> check_words(const Tree& tree);

/// A Markdown document has exactly one title.
std::vector<Finding> check_markdown(const Tree& tree);

/// The table of rooms in docs/architecture.md (if there is such a page) says what CMake says.
std::vector<Finding> check_architecture(const Tree& tree, const Rooms& rooms);

/// All rules, in the order above.
std::vector<Finding> check_all(const Tree& tree, const Rooms& rooms);

/// "path:line: error: message" per finding, as compilers write it.
std::string print_findings(const std::vector<Finding>& findings);

}  // namespace longhaul::tidy
