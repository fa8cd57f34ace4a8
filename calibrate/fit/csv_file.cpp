#include "calibrate/fit/csv_file.h"

#include <fmt/format.h>

namespace longhaul {

std::vector<std::string> split_text(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == separator) {
      parts.emplace_back();
    } else if (c != '\r') {
      parts.back() += c;
    }
  }
  return parts;
}

CsvFile::CsvFile(const SourcePtr& source, const std::vector<std::string>& demanded,
                 Diagnostics& diagnostics)
    : source_(source), diagnostics_(diagnostics), lines_(split_text(source->text, '\n')) {
  const Cells names = split_text(lines_.front(), ',');
  for (std::size_t i = 0; i < names.size(); ++i) {
    columns_[names[i]] = i;
  }
  for (const std::string& name : demanded) {
    if (columns_.count(name) == 0) {
      diagnostics_.error({source_, 1, 1}, "no-column", fmt::format("there is no column {}", name),
                         "the first line names the columns; see calibrate/README.md");
    }
  }
}

Cells CsvFile::cells(std::size_t line) {
  if (lines_[line].empty() || lines_[line] == "\r") {
    return {};
  }
  Cells cells = split_text(lines_[line], ',');
  if (cells.size() != columns_.size()) {
    diagnostics_.error(
        place(line), "ragged-row",
        fmt::format("{} cells under {} column names", cells.size(), columns_.size()),
        "every row needs a cell for each column; quoted commas are not read");
    return {};
  }
  return cells;
}

std::string CsvFile::text(const Cells& cells, const char* column) const {
  const auto found = columns_.find(column);
  return found == columns_.end() ? std::string() : cells[found->second];
}

double CsvFile::number(const Cells& cells, std::size_t line, const char* column) {
  const Parsed<double> parsed = parse_number(text(cells, column));
  if (!parsed.ok() || parsed.value < 0.0) {
    diagnostics_.error(place(line), "bad-number",
                       fmt::format("{} is '{}'", column, text(cells, column)),
                       "write a plain number, not below zero");
    return 0.0;
  }
  return parsed.value;
}

}  // namespace longhaul
