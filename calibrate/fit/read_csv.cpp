// Measurements from CSV files: one header, no quotes, no empty lines within.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "calibrate/fit/csv_file.h"
#include "calibrate/fit/measurement.h"

namespace longhaul {

namespace {

// nccl-tests' names of collectives.
constexpr std::array operations = {
    std::pair{"all_gather", CollectiveKind::all_gather},
    std::pair{"reduce_scatter", CollectiveKind::reduce_scatter},
    std::pair{"all_reduce", CollectiveKind::all_reduce},
    std::pair{"alltoall", CollectiveKind::all_to_all},
    std::pair{"broadcast", CollectiveKind::broadcast},
    std::pair{"sendrecv", CollectiveKind::send},
};

// nccl-tests doc/PERFORMANCE.md: bus bandwidth over algorithm bandwidth.
double bus_factor(CollectiveKind kind, int gpus) {
  const double n = gpus;
  switch (kind) {
    case CollectiveKind::all_reduce: return 2.0 * (n - 1.0) / n;
    case CollectiveKind::broadcast:
    case CollectiveKind::send: return 1.0;
    default: return (n - 1.0) / n;
  }
}

// "2.29.2" as numbers, so that 2.9 is older than 2.29.
std::vector<std::int64_t> version_numbers(const std::string& version) {
  std::vector<std::int64_t> numbers;
  for (const std::string& part : split_text(version, '.')) {
    numbers.push_back(parse_integer(part).value);
  }
  return numbers;
}

std::string newest_version(CsvFile& file) {
  std::string newest;
  for (std::size_t line = 1; line < file.line_count(); ++line) {
    const Cells cells = file.cells(line);
    const std::string stamp = cells.empty() ? "" : file.text(cells, "nccl_version_stamp");
    if (!stamp.empty() && (newest.empty() || version_numbers(newest) < version_numbers(stamp))) {
      newest = stamp;
    }
  }
  return newest;
}

std::optional<CollectiveKind> find_operation(const std::string& word) {
  for (const auto& [name, kind] : operations) {
    if (word == name) {
      return kind;
    }
  }
  return std::nullopt;
}

// The printed bus bandwidth has few digits for small sizes: what it says only counts above 1 GB/s.
bool bus_bandwidth_agrees(const CsvFile& file, const Cells& cells, const FitMeasurement& row) {
  const Parsed<double> printed = parse_number(file.text(cells, "bus_bandwidth_gb_per_s"));
  if (!printed.ok() || printed.value < 1.0) {
    return true;
  }
  const double expected =
      (row.bytes / row.time).value() * bus_factor(row.kind, row.group.gpus) / 1e9;
  return std::abs(printed.value / expected - 1.0) < 0.02;
}

GroupShape shape_of(int gpus, int per_node) {
  const bool one = per_node == 0 || gpus <= per_node;
  return one ? GroupShape{gpus, gpus, 1} : GroupShape{gpus, per_node, gpus / per_node};
}

std::optional<FitMeasurement> read_row(CsvFile& file, std::size_t line, const Cells& cells,
                                    const CsvOptions& options, Diagnostics& diagnostics) {
  const auto kind = find_operation(file.text(cells, "operation"));
  const double count = file.number(cells, line, "gpus");
  if (count != std::floor(count) || count > 1e6) {
    diagnostics.error(file.place(line), "bad-number",
                      fmt::format("gpus is '{}'", file.text(cells, "gpus")),
                      "write a whole number of GPUs");
    return std::nullopt;
  }
  const int gpus = static_cast<int>(count);
  FitMeasurement row{kind.value_or(CollectiveKind::all_gather), shape_of(gpus, options.gpus_per_node),
                  Bytes::of(file.number(cells, line, "message_bytes")),
                  Seconds::of(file.number(cells, line, "latency_us") * 1e-6)};
  if (!kind) {
    diagnostics.error(file.place(line), "unknown-collective",
                      fmt::format("there is no collective '{}'", file.text(cells, "operation")),
                      "all_gather, reduce_scatter, all_reduce, alltoall, broadcast or sendrecv");
    return std::nullopt;
  }
  if (gpus < 2 || row.group.gpus_per_node * row.group.nodes != gpus) {
    diagnostics.error(
        file.place(line), "bad-group",
        fmt::format("{} GPUs are no whole number of nodes of {}", gpus, options.gpus_per_node),
        "give the GPUs per node that the groups had");
    return std::nullopt;
  }
  if (!(row.bytes > Bytes()) || !(row.time > Seconds())) {
    return std::nullopt;
  }
  if (!bus_bandwidth_agrees(file, cells, row)) {
    diagnostics.error(file.place(line), "bus-bandwidth",
                      "the bus bandwidth is not that of message_bytes and latency_us",
                      "message_bytes is nccl-tests' size: the gathered output, the whole input");
    return std::nullopt;
  }
  return row;
}

// "h100/nccl.csv": tells files of one name apart without naming anybody's folders.
std::string short_name(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const std::size_t before =
      slash == std::string::npos || slash == 0 ? std::string::npos : path.rfind('/', slash - 1);
  return before == std::string::npos ? path : path.substr(before + 1);
}

void note_left_out(int flagged, int versions, const std::string& file, const std::string& taken,
                   Measurements& result) {
  if (flagged > 0) {
    result.left_out.push_back(fmt::format("{}: {} rows with a flag", file, flagged));
  }
  if (versions > 0) {
    result.left_out.push_back(fmt::format("{}: {} rows not of {}", file, versions, taken));
  }
}

}  // namespace

void read_measured_csv(const SourcePtr& source, const CsvOptions& options, Measurements& result,
                       Diagnostics& diagnostics) {
  CsvFile file(source, {"operation", "gpus", "message_bytes", "latency_us"}, diagnostics);
  if (diagnostics.has_errors()) {
    return;
  }
  const bool chosen = !options.column.empty();
  const std::string column = chosen ? options.column : "nccl_version_stamp";
  const std::string wanted = chosen ? options.value : newest_version(file);
  const std::string name = short_name(source->name);
  int flagged = 0;
  int versions = 0;
  for (std::size_t line = 1; line < file.line_count(); ++line) {
    const Cells cells = file.cells(line);
    if (cells.empty()) {
      continue;
    }
    const bool flag = !file.text(cells, "flag").empty();
    const bool other = (chosen || !wanted.empty()) && file.text(cells, column.c_str()) != wanted;
    flagged += flag ? 1 : 0;
    versions += other && !flag ? 1 : 0;
    auto row = read_row(file, line, cells, options, diagnostics);
    if (flag || other || !row) {
      continue;
    }
    row->sweep = result.add_sweep(
        fmt::format("{} {} x{}", name, file.text(cells, "operation"), row->group.gpus));
    result.rows.push_back(*row);
  }
  note_left_out(flagged, versions, name, column + " " + wanted, result);
}

}  // namespace longhaul
