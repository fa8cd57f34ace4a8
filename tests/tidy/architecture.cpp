// The rule that keeps the table of rooms in docs/architecture.md true.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <sstream>

#include "tests/tidy/rules.h"

namespace longhaul::tidy {

namespace {

constexpr const char* page_path = "docs/architecture.md";
constexpr const char* table_head = "| room | uses |";

// One row "| room | used used | what it is |".
struct Row {
  std::string room;
  std::set<std::string> uses;
  int line = 0;
};

Row parse_row(const std::string& text, int line) {
  std::istringstream cells(text);
  std::string before, room, uses;
  std::getline(cells, before, '|');
  std::getline(cells, room, '|');
  std::getline(cells, uses, '|');
  Row row{{}, {}, line};
  std::istringstream(room) >> row.room;
  std::istringstream words(uses);
  for (std::string word; words >> word;) row.uses.insert(word);
  return row;
}

// The rows below the head of the table, its rule ("|---|") left out.
std::vector<Row> read_table(const TextFile& page) {
  std::vector<Row> rows;
  bool inside = false;
  for (std::size_t i = 0; i < page.lines.size(); ++i) {
    const std::string& line = page.lines[i];
    const bool head = line.starts_with(table_head);
    inside = head || (inside && line.starts_with("|"));
    if (inside && !head && !line.starts_with("|-")) {
      rows.push_back(parse_row(line, static_cast<int>(i) + 1));
    }
  }
  return rows;
}

void check_row(const Row& row, const Rooms& rooms, std::vector<Finding>& findings) {
  const auto declared = rooms.uses.find(row.room);
  if (declared == rooms.uses.end()) {
    findings.push_back({page_path, row.line, fmt::format("there is no room {}", row.room)});
  } else if (declared->second != row.uses) {
    findings.push_back({page_path, row.line,
                        fmt::format("room {} uses ({}), not ({}): sim/CMakeLists.txt", row.room,
                                    fmt::join(declared->second, " "), fmt::join(row.uses, " "))});
  }
}

}  // namespace

std::vector<Finding> check_architecture(const Tree& tree, const Rooms& rooms) {
  const auto page = std::find_if(tree.begin(), tree.end(),
                                 [](const TextFile& file) { return file.path == page_path; });
  if (page == tree.end()) return {};
  std::vector<Finding> findings;
  std::set<std::string> listed;
  for (const Row& row : read_table(*page)) {
    check_row(row, rooms, findings);
    listed.insert(row.room);
  }
  for (const std::string& room : rooms.names) {
    if (listed.count(room) != 0) continue;
    findings.push_back({page_path, 1, fmt::format("the table of rooms lacks {}", room)});
  }
  return findings;
}

}  // namespace longhaul::tidy
