#include "sim/report/text_table.h"

#include <algorithm>

#include "sim/units/check.h"

namespace longhaul {

namespace {

std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

std::string padded(const std::string& text, std::size_t width, Align align) {
  const std::string space(width - std::min(width, width_of(text)), ' ');
  return align == Align::left ? text + space : space + text;
}

std::string line(const std::string& indent, const std::vector<std::string>& cells,
                 const std::vector<std::size_t>& widths, const std::vector<Column>& columns) {
  std::string out = indent;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    out += (i == 0 ? "" : "  ") + padded(cells[i], widths[i], columns[i].align);
  }
  out.erase(out.find_last_not_of(' ') + 1);
  return out + "\n";
}

}  // namespace

TextTable::TextTable(std::vector<Column> columns) : columns_(std::move(columns)) {}

void TextTable::add(std::vector<std::string> cells) {
  check(cells.size() <= columns_.size(), "a row has no more cells than the table has columns");
  cells.resize(columns_.size());
  rows_.push_back(std::move(cells));
}

std::string TextTable::text(const std::string& indent) const {
  std::vector<std::string> titles;
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    titles.push_back(columns_[i].title);
    std::size_t width = width_of(columns_[i].title);
    for (const auto& row : rows_) {
      width = std::max(width, width_of(row[i]));
    }
    widths.push_back(width);
  }
  std::string out;
  const bool titled = std::any_of(titles.begin(), titles.end(),
                                  [](const std::string& title) { return !title.empty(); });
  if (titled) {
    std::vector<std::string> dashes;
    for (const std::size_t width : widths) {
      dashes.emplace_back(width, '-');
    }
    out += line(indent, titles, widths, columns_) + line(indent, dashes, widths, columns_);
  }
  for (const auto& row : rows_) {
    out += line(indent, row, widths, columns_);
  }
  return out;
}

std::string grouped(std::int64_t number) {
  std::string digits = std::to_string(number);
  const std::size_t first = number < 0 ? 1 : 0;
  for (std::size_t end = digits.size(); end > first + 3; end -= 3) {
    digits.insert(end - 3, ",");
  }
  return digits;
}

}  // namespace longhaul
