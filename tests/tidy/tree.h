// The text files of a source tree, read once, for the rules of tests/tidy.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace longhaul::tidy {

/// One text file: its path relative to the root, with '/', and its lines without line ends.
struct TextFile {
  std::string path;
  std::vector<std::string> lines;
  /// C++ sources only: the same lines with comments, the insides of string and character literals
  /// and preprocessor directives replaced by spaces. Empty for other files.
  std::vector<std::string> code;
};

/// What a rule found wrong.
struct Finding {
  std::string path;
  int line = 0;  ///< from 1
  std::string message;
};

/// Every source, script, data and document file under `root`, sorted by path. Leaves out build
/// folders, .git, node_modules and files that are not text of a known kind. Throws
/// std::filesystem::filesystem_error where a folder cannot be read.
std::vector<TextFile> read_tree(const std::filesystem::path& root);

/// True if `path` is C++ or CUDA (.h .cpp .cuh .cu).
bool is_cpp(std::string_view path);
/// True if `path` is a header (.h .cuh).
bool is_header(std::string_view path);

/// Blanks comments, literals and preprocessor directives (with their continuation lines) of C++
/// text; line and column of what remains are kept.
std::vector<std::string> blank_to_code(const std::vector<std::string>& lines);

}  // namespace longhaul::tidy
