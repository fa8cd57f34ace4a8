#include "bench/flows/reference.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>
#include <stdexcept>

namespace longhaul::bench {

namespace {

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) {
    parts.push_back(part);
  }
  return parts;
}

double difference(double mine, double wanted) { return std::abs(mine / wanted - 1.0); }

}  // namespace

std::vector<ReferenceRow> read_reference(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) {
    throw std::runtime_error("cannot read " + path);
  }
  std::vector<ReferenceRow> rows;
  while (std::getline(file, line)) {
    const std::vector<std::string> cells = split(line, ',');
    if (cells.size() < 11) {
      throw std::runtime_error(path + ": a row of " + std::to_string(cells.size()) + " cells");
    }
    ReferenceRow row;
    row.name = cells[0];
    row.words = split(cells[1], ' ');
    row.flows = std::stoll(cells[2]);
    row.events = std::stoll(cells[3]);
    row.makespan = std::stod(cells[4]);
    row.sum_fct = std::stod(cells[5]);
    row.sum_end = std::stod(cells[6]);
    row.max_fct = std::stod(cells[7]);
    for (int i = 8; i < 11 && !cells[8].empty(); ++i) {
      row.percentiles.push_back(std::stod(cells[static_cast<std::size_t>(i)]));
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

Difference compare(const ReferenceRow& row, const Outcome& outcome) {
  if (row.flows != outcome.flows || row.events != outcome.events) {
    return {std::numeric_limits<double>::infinity(), 0.0};
  }
  Difference worst;
  worst.times = std::max(
      {difference(outcome.makespan, row.makespan), difference(outcome.sum_fct, row.sum_fct),
       difference(outcome.sum_end, row.sum_end), difference(outcome.max_fct, row.max_fct)});
  for (std::size_t i = 0; i < row.percentiles.size(); ++i) {
    worst.percentiles =
        std::max(worst.percentiles, difference(outcome.percentiles.at(i), row.percentiles[i]));
  }
  return worst;
}

}  // namespace longhaul::bench
