// Aligned columns of plain text. Widths count characters (UTF-8 code points), not bytes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace longhaul {

enum class Align { left, right };

struct Column {
  std::string title;
  Align align = Align::left;
};

/// A table under construction. Cells beyond the columns are a bug of ours (check()); missing ones
/// are empty.
class TextTable {
 public:
  explicit TextTable(std::vector<Column> columns);
  void add(std::vector<std::string> cells);
  /// Titles (unless all are empty), a line of dashes, the rows; two spaces between columns, no
  /// spaces at the ends of lines. Every line ends in a newline and starts with `indent`.
  [[nodiscard]] std::string text(const std::string& indent = "") const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

/// "1,234,567": digits in groups of three.
std::string grouped(std::int64_t number);

}  // namespace longhaul
