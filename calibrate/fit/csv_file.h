// CSV files of measurements: one header, no quotes, no empty lines within.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "sim/input/yaml.h"

namespace longhaul {

using Cells = std::vector<std::string>;

/// The parts of a text between separators; carriage returns are dropped.
std::vector<std::string> split_text(const std::string& text, char separator);

/// Rows of a file by the names of its columns.
class CsvFile {
 public:
  /// Records an error for every column of `demanded` that the header lacks.
  CsvFile(const SourcePtr& source, const std::vector<std::string>& demanded,
          Diagnostics& diagnostics);

  [[nodiscard]] std::size_t line_count() const { return lines_.size(); }
  [[nodiscard]] Place place(std::size_t line) const {
    return {source_, static_cast<int>(line) + 1, 1};
  }
  /// The cells of a line; empty for a line that is empty or has the wrong number (an error).
  Cells cells(std::size_t line);
  /// The cell of a column; "" where there is no such column.
  [[nodiscard]] std::string text(const Cells& cells, const char* column) const;
  /// A number above zero; records what is wrong and returns 0 otherwise.
  double number(const Cells& cells, std::size_t line, const char* column);

 private:
  SourcePtr source_;
  Diagnostics& diagnostics_;
  std::vector<std::string> lines_;
  std::map<std::string, std::size_t> columns_;
};

}  // namespace longhaul
