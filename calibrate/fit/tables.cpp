#include "calibrate/fit/tables.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "calibrate/fit/statistics.h"
#include "sim/cost/collective_table.h"

namespace longhaul {

namespace {

// Nothing is measured better than this, however few repetitions agree.
constexpr double least_spread = 0.01;

using TimesBySize = std::map<double, std::vector<double>>;  // bytes: seconds

// Pool adjacent violators: the ascending sequence that is nearest in the sum of squares.
std::vector<double> ascending(const std::vector<double>& values) {
  struct Block {
    double sum;
    int count;
    [[nodiscard]] double mean() const { return sum / count; }
  };
  std::vector<Block> blocks;
  for (const double value : values) {
    blocks.push_back({value, 1});
    while (blocks.size() > 1 && blocks[blocks.size() - 2].mean() > blocks.back().mean()) {
      const Block last = blocks.back();
      blocks.pop_back();
      blocks.back().sum += last.sum;
      blocks.back().count += last.count;
    }
  }
  std::vector<double> result;
  for (const Block& block : blocks) {
    result.insert(result.end(), static_cast<std::size_t>(block.count), block.mean());
  }
  return result;
}

std::vector<TablePoint> merge(const TimesBySize& times) {
  std::vector<double> logs;
  for (const auto& [bytes, seconds] : times) {
    logs.push_back(std::log(median(seconds)));
  }
  logs = ascending(logs);
  std::vector<TablePoint> points;
  for (const auto& [bytes, seconds] : times) {
    points.push_back({Bytes::of(bytes), Seconds::of(std::exp(logs[points.size()]))});
  }
  return points;
}

// Deviations of all measurements from the table, as fractions.
double spread_around(const CollectiveTable& table, const TimesBySize& times) {
  std::vector<double> deviations;
  for (const auto& [bytes, seconds] : times) {
    const double expected = table_time(table, Bytes::of(bytes)).value();
    for (const double time : seconds) {
      deviations.push_back(std::abs(std::log(time / expected)));
    }
  }
  return std::max(least_spread, std::expm1(quantile(deviations, 0.9)));
}

bool interpolates(const std::vector<TablePoint>& all, std::size_t from, std::size_t to,
                  double tolerance) {
  CollectiveTable line;
  line.points = {all[from], all[to]};
  for (std::size_t i = from + 1; i < to; ++i) {
    if (std::abs(table_time(line, all[i].bytes) / all[i].time - 1.0) > tolerance) {
      return false;
    }
  }
  return true;
}

// From each kept point to the farthest that can be reached within the tolerance. The last two
// points stay: beyond them a table goes on at their bandwidth.
std::vector<TablePoint> thin(const std::vector<TablePoint>& all, double tolerance) {
  std::vector<TablePoint> kept{all.front()};
  std::size_t at = 0;
  while (at + 2 < all.size()) {
    std::size_t next = at + 1;
    while (next + 2 < all.size() && interpolates(all, at, next + 1, tolerance)) {
      ++next;
    }
    kept.push_back(all[next]);
    at = next;
  }
  kept.push_back(all.back());
  return kept;
}

CollectiveTable make_table(const TimesBySize& times) {
  CollectiveTable table;
  table.points = merge(times);
  const double tolerance = std::clamp(spread_around(table, times) / 2.0, least_spread, 0.02);
  table.points = thin(table.points, tolerance);
  table.spread = spread_around(table, times);
  return table;
}

// Four digits or more, never an exponent.
std::string write_time(Seconds time) {
  const double microseconds = time.value() * 1e6;
  return microseconds < 1000.0 ? fmt::format("{:.4g} us", microseconds)
                               : fmt::format("{:.0f} us", microseconds);
}

std::string write_table(const CollectiveTable& table) {
  std::string text = fmt::format("  - collective: {}\n    device: [{}]\n",
                                 collective_words()[static_cast<std::size_t>(table.kind)],
                                 fmt::join(table.devices, ", "));
  text += fmt::format("    gpus: {}\n    gpus_per_node: {}\n    nodes: {}\n", table.gpus,
                      table.gpus_per_node, table.nodes);
  if (table.nodes > 1) {
    text += fmt::format("    fabric: {}\n", table.fabric);
    if (table.nic_rate > BytesPerSecond()) {
      text += fmt::format("    nic_rate: {:.6g} GB/s\n", table.nic_rate.value() / 1e9);
    }
  }
  text +=
      fmt::format("    spread: {:.3f}\n    from: \"{}\"\n    points:\n", table.spread, table.from);
  for (const TablePoint& point : table.points) {
    text += fmt::format("      - [{:.0f} B, {}]\n", point.bytes.value(), write_time(point.time));
  }
  return text;
}

}  // namespace

std::vector<CollectiveTable> make_tables(const Measurements& measurements,
                                         const TableOptions& options) {
  std::map<std::pair<CollectiveKind, GroupShape>, TimesBySize> groups;
  for (const FitMeasurement& row : measurements.rows) {
    groups[{row.kind, row.group}][row.bytes.value()].push_back(row.time.value());
  }
  std::vector<CollectiveTable> tables;
  for (const auto& [key, times] : groups) {
    if (times.size() < 2) {
      continue;
    }
    CollectiveTable table = make_table(times);
    table.kind = key.first;
    table.devices = options.devices;
    table.gpus = key.second.gpus;
    table.gpus_per_node = key.second.gpus_per_node;
    table.nodes = key.second.nodes;
    table.fabric = table.nodes > 1 ? options.fabric : "none";
    table.nic_rate = table.nodes > 1 ? options.nic_rate : BytesPerSecond();
    table.from = options.origin;
    tables.push_back(table);
  }
  return tables;
}

std::string write_tables(const std::vector<CollectiveTable>& tables) {
  std::string text = "format: longhaul-tables/1\ntables:\n";
  for (const CollectiveTable& table : tables) {
    text += write_table(table);
  }
  return text;
}

}  // namespace longhaul
