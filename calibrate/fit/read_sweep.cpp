// Measurements from a sweep of nccl-tests in YAML.
#include <fmt/format.h>

#include <algorithm>

#include "calibrate/fit/measurement.h"

namespace longhaul {

namespace {

// nccl-tests' and our words; what it calls reduce is not modelled.
const std::vector<std::string> sweep_words = {"all_gather", "reduce_scatter", "all_reduce",
                                              "alltoall",   "broadcast",      "sendrecv",
                                              "all_to_all", "send",           "reduce"};
constexpr std::size_t first_own_word = 6;
constexpr std::size_t reduce_word = 8;

CollectiveKind kind_of(std::size_t word) {
  const std::size_t kind = word == first_own_word ? 3 : word == first_own_word + 1 ? 5 : word;
  return static_cast<CollectiveKind>(kind);
}

struct Columns {
  std::size_t bytes = 0;
  std::size_t time = 0;
  std::size_t count = 0;
};

std::optional<Columns> find_columns(MapReader& reader, Diagnostics& diagnostics) {
  const std::vector<std::string> names = reader.texts("columns");
  const auto bytes = std::find(names.begin(), names.end(), "bytes");
  const auto time = std::find(names.begin(), names.end(), "time_us");
  if (bytes == names.end() || time == names.end()) {
    diagnostics.error(reader.place("columns"), "no-column",
                      "a sweep needs the columns bytes and time_us",
                      "write 'columns: [bytes, time_us]'");
    return std::nullopt;
  }
  return Columns{static_cast<std::size_t>(bytes - names.begin()),
                 static_cast<std::size_t>(time - names.begin()), names.size()};
}

// Appends a row; nothing for rows of zero bytes.
void read_row(const YamlValue& item, const Columns& columns, FitMeasurement row, Measurements& result,
              Diagnostics& diagnostics) {
  const auto cells = item.items();
  if (cells.size() != columns.count) {
    diagnostics.error(item.place(), "ragged-row",
                      fmt::format("{} cells under {} columns", cells.size(), columns.count),
                      "every row needs a cell for each column");
    return;
  }
  const Parsed<double> bytes = parse_number(cells[columns.bytes].scalar());
  const Parsed<double> time = parse_number(cells[columns.time].scalar());
  if (!bytes.ok() || !time.ok() || bytes.value < 0.0 || time.value < 0.0) {
    diagnostics.error(item.place(), "bad-number", "bytes and time_us must be plain numbers",
                      "write [8192, 21.3] without units");
    return;
  }
  row.bytes = Bytes::of(bytes.value);
  row.time = Seconds::of(time.value * 1e-6);
  if (row.bytes > Bytes() && row.time > Seconds()) {
    result.rows.push_back(row);
  }
}

}  // namespace

void read_measured_sweep(const SourcePtr& source, Measurements& result, Diagnostics& diagnostics) {
  const auto document = YamlValue::parse(source, diagnostics);
  if (!document) {
    return;
  }
  MapReader reader(*document, "sweep", diagnostics);
  const std::string id = reader.text("id");
  const std::size_t word = reader.choice("collective", sweep_words);
  FitMeasurement row;
  row.group.gpus = static_cast<int>(reader.integer("gpus", {1, 1 << 20}));
  row.group.nodes = static_cast<int>(reader.integer("nodes", {1, 1 << 20}, 1));
  row.group.gpus_per_node = row.group.gpus / row.group.nodes;
  const auto columns = find_columns(reader, diagnostics);
  const auto rows = reader.require("rows");
  // sendrecv of more than two passes messages around a ring, all at once: no single message.
  const bool ring_of_sends =
      kind_of(word) == CollectiveKind::send && word != reduce_word && row.group.gpus > 2;
  if (word == reduce_word || row.group.gpus < 2 || ring_of_sends) {
    result.left_out.push_back(fmt::format("{}: not modelled", id));
    return;
  }
  if (row.group.gpus_per_node * row.group.nodes != row.group.gpus) {
    diagnostics.error(reader.place("nodes"), "bad-group", "the nodes have no equal parts",
                      "gpus must be a multiple of nodes");
  }
  if (!columns || !rows) {
    return;
  }
  row.kind = kind_of(word);
  row.sweep = result.add_sweep(id);
  for (const YamlValue& item : rows->items()) {
    read_row(item, *columns, row, result, diagnostics);
  }
}

}  // namespace longhaul
