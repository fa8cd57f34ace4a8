// Rules on texts: notes of unfinished work, paths of a machine, titles.
#include <array>
#include <cctype>
#include <map>
#include <string_view>

#include <fmt/format.h>

#include "tests/tidy/rules.h"

namespace longhaul::tidy {

namespace {

// Written in two halves, so that this file keeps its own rule.
constexpr const char* banned_words[] = {
    "TO"
    "DO",
    "FIX"
    "ME",
    "XX"
    "X",
    "HA"
    "CK"};
constexpr const char* machine_folders[] = {
    "/ho"
    "me/",
    "/ro"
    "ot/",
    "/wo"
    "rk/",
    "/Us"
    "ers/",
    "/mn"
    "t/",
    "/tm"
    "p/"};

bool is_word_character(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

// Is there a `word` in `line` that is not part of a longer one?
bool holds_word(std::string_view line, std::string_view word) {
  for (std::size_t at = line.find(word); at != std::string_view::npos;
       at = line.find(word, at + 1)) {
    const std::size_t after = at + word.size();
    const bool starts = at == 0 || !is_word_character(line[at - 1]);
    const bool ends = after == line.size() || !is_word_character(line[after]);
    if (starts && ends) return true;
  }
  return false;
}

// Is there an absolute path into `folder`? Not one that goes on from a name ("../tmp/", "$X/tmp/").
bool holds_absolute(std::string_view line, std::string_view folder) {
  for (std::size_t at = line.find(folder); at != std::string_view::npos;
       at = line.find(folder, at + 1)) {
    const char before = at == 0 ? ' ' : line[at - 1];
    if (!is_word_character(before) && before != '.' && before != '-' && before != '}') return true;
  }
  return false;
}

void check_line(const TextFile& file, std::size_t index, std::vector<Finding>& findings) {
  const std::string& line = file.lines[index];
  const int number = static_cast<int>(index) + 1;
  for (const char* word : banned_words) {
    if (!holds_word(line, word)) continue;
    findings.push_back({file.path, number,
                        fmt::format("{}: finish it, or write the limit down in the docs", word)});
  }
  for (const char* folder : machine_folders) {
    if (!holds_absolute(line, folder)) continue;
    findings.push_back(
        {file.path, number, fmt::format("{}... is a path of one machine only", folder)});
  }
}

// Lines of the titles ("# ...") outside fenced code.
std::vector<int> titles_of(const TextFile& file) {
  std::vector<int> titles;
  bool fenced = false;
  for (std::size_t i = 0; i < file.lines.size(); ++i) {
    const std::string& line = file.lines[i];
    if (line.starts_with("```")) fenced = !fenced;
    if (!fenced && line.starts_with("# ")) titles.push_back(static_cast<int>(i) + 1);
  }
  return titles;
}

// The number in the name of a decision page (docs/decisions/0012-rooms.md), empty for other files.
std::string decision_number(const std::string& path) {
  constexpr std::string_view folder = "docs/decisions/";
  return path.starts_with(folder) ? path.substr(folder.size(), 4) : std::string();
}

// People who work side by side take the same next number.
void check_decision_numbers(const Tree& tree, std::vector<Finding>& findings) {
  std::map<std::string, std::string> taken;
  for (const TextFile& file : tree) {
    const std::string number = decision_number(file.path);
    if (number.empty()) continue;
    const auto [first, fresh] = taken.emplace(number, file.path);
    if (fresh) continue;
    findings.push_back(
        {file.path, 1, fmt::format("decision {} is {} already: take the next", number, first->second)});
  }
}

}  // namespace

std::vector<Finding> check_words(const Tree& tree) {
  std::vector<Finding> findings;
  for (const TextFile& file : tree) {
    for (std::size_t i = 0; i < file.lines.size(); ++i) check_line(file, i, findings);
  }
  return findings;
}

std::vector<Finding> check_markdown(const Tree& tree) {
  std::vector<Finding> findings;
  for (const TextFile& file : tree) {
    if (!file.path.ends_with(".md")) continue;
    const std::vector<int> titles = titles_of(file);
    if (titles.empty())
      findings.push_back({file.path, 1, "a document without a title (\"# ...\")"});
    for (std::size_t i = 1; i < titles.size(); ++i) {
      findings.push_back({file.path, titles[i], "a second title: use \"## ...\""});
    }
  }
  check_decision_numbers(tree, findings);
  return findings;
}

}  // namespace longhaul::tidy
