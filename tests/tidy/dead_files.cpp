// The rule on files that nothing uses.
#include <sstream>

#include <fmt/format.h>

#include "tests/tidy/rules.h"

namespace longhaul::tidy {

namespace {

// Words of a CMake file, without its comments; parentheses are words of their own.
std::vector<std::string> cmake_words(const TextFile& file) {
  std::vector<std::string> words;
  for (const std::string& line : file.lines) {
    std::string text;
    for (const char c : line.substr(0, line.find('#'))) {
      text += c == '(' || c == ')' ? std::string{' ', c, ' '} : std::string(1, c == '"' ? ' ' : c);
    }
    std::istringstream stream(text);
    for (std::string word; stream >> word;) words.push_back(word);
  }
  return words;
}

// Paths, from the root, of the .cpp files that a CMakeLists.txt names: relative to its folder, or,
// within sim_room(NAME ...), to the room's.
void add_named_sources(const TextFile& file, std::set<std::string>& sources) {
  const std::string folder = file.path.substr(0, file.path.rfind("CMakeLists.txt"));
  const std::vector<std::string> words = cmake_words(file);
  std::string prefix = folder;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i].ends_with(".cpp")) sources.insert(prefix + words[i]);
    if (words[i] != "(" || i == 0) continue;
    const bool room = words[i - 1] == "sim_room" && i + 1 < words.size();
    prefix = room ? folder + words[i + 1] + "/" : folder;
  }
}

std::set<std::string> named_sources(const Tree& tree) {
  std::set<std::string> sources;
  for (const TextFile& file : tree) {
    if (file.path == "CMakeLists.txt" || file.path.ends_with("/CMakeLists.txt")) {
      add_named_sources(file, sources);
    }
  }
  return sources;
}

std::set<std::string> included_files(const Tree& tree) {
  std::set<std::string> included;
  for (const TextFile& file : tree) {
    if (!is_cpp(file.path)) continue;
    for (const Include& include : includes_of(file)) {
      if (include.target != file.path) included.insert(include.target);
    }
  }
  return included;
}

}  // namespace

std::vector<Finding> check_dead_files(const Tree& tree) {
  const std::set<std::string> sources = named_sources(tree);
  const std::set<std::string> included = included_files(tree);
  std::vector<Finding> findings;
  for (const TextFile& file : tree) {
    if (file.path.ends_with(".cpp") && sources.count(file.path) == 0) {
      findings.push_back({file.path, 1, "no CMakeLists.txt names this file"});
    }
    if (is_header(file.path) && included.count(file.path) == 0) {
      findings.push_back({file.path, 1, "no file includes this header"});
    }
  }
  return findings;
}

}  // namespace longhaul::tidy
