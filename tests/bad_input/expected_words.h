// Words that wrong files are answered with, as tests keep them.
#pragma once

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace longhaul::test {

/// A file's text; empty if it is not there.
inline std::string content(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

/// `words` without the folder that this checkout happens to lie in.
inline std::string without_folder(std::string words, const std::filesystem::path& folder) {
  const std::string hidden = folder.string() + "/";
  for (std::size_t at = words.find(hidden); at != std::string::npos; at = words.find(hidden)) {
    words.erase(at, hidden.size());
  }
  return words;
}

}  // namespace longhaul::test
