#include "tests/tidy/tree.h"

#include <algorithm>
#include <array>
#include <fstream>

namespace longhaul::tidy {

namespace {

namespace fs = std::filesystem;

constexpr std::array text_endings = {".h",    ".cpp", ".cuh",  ".cu", ".cmake", ".txt", ".md",
                                     ".yaml", ".yml", ".json", ".sh", ".py",    ".ts",  ".mjs"};
constexpr std::array skipped_folders = {".git", "build", "node_modules"};
constexpr std::array known_names = {".clang-format", ".clang-tidy", ".gitignore", "run"};

template <std::size_t N>
bool holds(const std::array<const char*, N>& list, const std::string& word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

bool is_known_text(const fs::path& path) {
  return holds(text_endings, path.extension().string()) ||
         holds(known_names, path.filename().string());
}

bool is_skipped_folder(const fs::path& relative) {
  return holds(skipped_folders, relative.filename().string());
}

std::vector<std::string> read_lines(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// Where the text stands between two characters of C++.
class Blanker {
 public:
  std::string next_line(const std::string& line);

 private:
  enum class State { code, block_comment, string, character, raw_string };

  // Each reads on from `at` and returns the place after what it read.
  std::size_t read_code(const std::string& line, std::size_t at, std::string& out);
  std::size_t read_block_comment(const std::string& line, std::size_t at);
  std::size_t read_literal(const std::string& line, std::size_t at, std::string& out);
  std::size_t read_raw_string(const std::string& line, std::size_t at, std::string& out);
  std::size_t open_quote(const std::string& line, std::size_t at, std::string& out);
  void end_line(const std::string& line);

  State state_ = State::code;
  std::string raw_end_;        // )delimiter" of the raw string being read
  bool in_directive_ = false;  // in a preprocessor directive, perhaps continued
};

std::string Blanker::next_line(const std::string& line) {
  std::string out(line.size(), ' ');
  const std::size_t first = line.find_first_not_of(" \t");
  if (state_ == State::code && first != std::string::npos && line[first] == '#') {
    in_directive_ = true;
  }
  std::size_t at = 0;
  while (at < line.size()) {
    switch (state_) {
      case State::code: at = read_code(line, at, out); break;
      case State::block_comment: at = read_block_comment(line, at); break;
      case State::string:
      case State::character: at = read_literal(line, at, out); break;
      case State::raw_string: at = read_raw_string(line, at, out); break;
    }
  }
  if (in_directive_) out.assign(line.size(), ' ');
  end_line(line);
  return out;
}

void Blanker::end_line(const std::string& line) {
  const bool continued = !line.empty() && line.back() == '\\';
  if (continued) return;
  in_directive_ = false;
  // An ordinary literal ends with its line at the latest.
  if (state_ == State::string || state_ == State::character) state_ = State::code;
}

std::size_t Blanker::read_code(const std::string& line, std::size_t at, std::string& out) {
  if (line.compare(at, 2, "//") == 0) return line.size();
  if (line.compare(at, 2, "/*") == 0) {
    state_ = State::block_comment;
    return at + 2;
  }
  if (line[at] == '"' || line[at] == '\'') return open_quote(line, at, out);
  out[at] = line[at];
  return at + 1;
}

std::size_t Blanker::open_quote(const std::string& line, std::size_t at, std::string& out) {
  out[at] = line[at];
  if (line[at] == '\'') {
    // 1'000'000 is one number, not a character.
    const bool separator = at > 0 && std::isalnum(static_cast<unsigned char>(line[at - 1])) != 0;
    if (!separator) state_ = State::character;
    return at + 1;
  }
  const std::size_t parenthesis = line.find('(', at);
  if (at > 0 && line[at - 1] == 'R' && parenthesis != std::string::npos) {
    state_ = State::raw_string;
    raw_end_ = ")" + line.substr(at + 1, parenthesis - at - 1) + "\"";
    return parenthesis + 1;
  }
  state_ = State::string;
  return at + 1;
}

std::size_t Blanker::read_block_comment(const std::string& line, std::size_t at) {
  const std::size_t end = line.find("*/", at);
  if (end == std::string::npos) return line.size();
  state_ = State::code;
  return end + 2;
}

std::size_t Blanker::read_literal(const std::string& line, std::size_t at, std::string& out) {
  if (line[at] == '\\') return at + 2;
  const char quote = state_ == State::string ? '"' : '\'';
  if (line[at] == quote) {
    out[at] = quote;
    state_ = State::code;
  }
  return at + 1;
}

std::size_t Blanker::read_raw_string(const std::string& line, std::size_t at, std::string& out) {
  const std::size_t end = line.find(raw_end_, at);
  if (end == std::string::npos) return line.size();
  state_ = State::code;
  const std::size_t after = end + raw_end_.size();
  out[after - 1] = '"';
  return after;
}

}  // namespace

bool is_header(std::string_view path) { return path.ends_with(".h") || path.ends_with(".cuh"); }

bool is_cpp(std::string_view path) {
  return is_header(path) || path.ends_with(".cpp") || path.ends_with(".cu");
}

std::vector<std::string> blank_to_code(const std::vector<std::string>& lines) {
  Blanker blanker;
  std::vector<std::string> code;
  code.reserve(lines.size());
  for (const std::string& line : lines) code.push_back(blanker.next_line(line));
  return code;
}

std::vector<TextFile> read_tree(const fs::path& root) {
  std::vector<TextFile> files;
  for (auto entry = fs::recursive_directory_iterator(root);
       entry != fs::recursive_directory_iterator(); ++entry) {
    const fs::path relative = entry->path().lexically_relative(root);
    if (entry->is_directory() && is_skipped_folder(relative)) entry.disable_recursion_pending();
    if (!entry->is_regular_file() || !is_known_text(relative)) continue;
    TextFile file{relative.generic_string(), read_lines(entry->path()), {}};
    if (is_cpp(file.path)) file.code = blank_to_code(file.lines);
    files.push_back(std::move(file));
  }
  std::sort(files.begin(), files.end(),
            [](const TextFile& a, const TextFile& b) { return a.path < b.path; });
  return files;
}

}  // namespace longhaul::tidy
