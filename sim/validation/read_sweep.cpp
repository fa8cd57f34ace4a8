// Sweeps in YAML: longhaul-sweep/1.
#include <fmt/format.h>

#include <algorithm>
#include <sstream>

#include "sim/validation/sweep.h"

namespace longhaul {

namespace {

using Field = std::optional<Printed> SweepRow::*;

struct KnownColumn {
  const char* name;
  Field field;  ///< null: the size
};
constexpr KnownColumn known_columns[] = {
    {"bytes", nullptr},
    {"time_us", &SweepRow::time},
    {"algbw_GBps", &SweepRow::algorithm_bandwidth},
    {"busbw_GBps", &SweepRow::bus_bandwidth},
    {"inplace_time_us", &SweepRow::in_place_time},
    {"inplace_algbw_GBps", &SweepRow::in_place_algorithm_bandwidth},
    {"inplace_busbw_GBps", &SweepRow::in_place_bus_bandwidth}};

std::vector<std::string> column_names() {
  std::vector<std::string> names;
  for (const KnownColumn& column : known_columns) {
    names.emplace_back(column.name);
  }
  return names;
}

std::vector<const KnownColumn*> read_columns(MapReader& reader, Diagnostics& diagnostics) {
  std::vector<const KnownColumn*> columns;
  const auto list = reader.require("columns");
  if (!list) {
    return columns;
  }
  bool bytes = false;
  bool time = false;
  for (const YamlValue& item : list->items()) {
    const auto* found =
        std::find_if(std::begin(known_columns), std::end(known_columns),
                     [&](const KnownColumn& column) { return item.scalar() == column.name; });
    if (found == std::end(known_columns)) {
      const std::string near = closest_match(item.scalar(), column_names());
      diagnostics.error(item.place(), "unknown-column",
                        "there is no column '" + item.scalar() + "'",
                        near.empty() ? "columns are bytes, time_us, algbw_GBps, busbw_GBps, and "
                                       "the last three with inplace_ before them"
                                     : "did you mean '" + near + "'?");
      continue;
    }
    if (std::find(columns.begin(), columns.end(), found) != columns.end()) {
      diagnostics.error(item.place(), "repeated-column",
                        "the column '" + item.scalar() + "' is there twice", "name it once");
    }
    bytes = bytes || found->field == nullptr;
    time = time || found->field == &SweepRow::time;
    columns.push_back(found);
  }
  if (!bytes || !time) {
    diagnostics.error(list->place(), "missing-column", "columns need 'bytes' and 'time_us'",
                      "write 'columns: [bytes, time_us]'");
  }
  return columns;
}

// One cell. N/A and null are values that were not measured, except for the size.
void read_cell(const YamlValue& cell, const KnownColumn& column, SweepRow& row,
               Diagnostics& diagnostics) {
  if (column.field == nullptr) {
    const auto size = parse_integer(cell.scalar());
    if (!size.ok() || size.value < 0) {
      diagnostics.error(cell.place(), "bad-size", "a size is a whole number of bytes",
                        "write 1048576");
      return;
    }
    row.bytes = static_cast<double>(size.value);
    return;
  }
  if (cell.is_null() || cell.scalar() == "N/A" || cell.scalar() == "nan") {
    return;
  }
  const auto value = parse_printed(cell.scalar());
  const bool is_time = column.field == &SweepRow::time || column.field == &SweepRow::in_place_time;
  if (!value || value->value < 0.0 || (is_time && !(value->value > 0.0))) {
    diagnostics.error(cell.place(), "bad-cell",
                      fmt::format("'{}' is no {}", cell.scalar(), column.name),
                      "write the number as nccl-tests prints it, or N/A");
    return;
  }
  row.*column.field = value;
}

void read_rows(MapReader& reader, const std::vector<const KnownColumn*>& columns, Sweep& sweep,
               Diagnostics& diagnostics) {
  const auto list = reader.require("rows");
  if (!list) {
    return;
  }
  if (!list->is_sequence()) {
    diagnostics.error(list->place(), "wrong-kind", "'rows' must be a list of rows",
                      "write '- [1048576, 20.1]'");
    return;
  }
  for (const YamlValue& item : list->items()) {
    const std::vector<YamlValue> cells = item.items();
    if (cells.size() != columns.size()) {
      diagnostics.error(
          item.place(), "bad-row",
          fmt::format("the row has {} cells, columns are {}", cells.size(), columns.size()),
          "write N/A for what was not measured");
      continue;
    }
    SweepRow row;
    row.place = item.place();
    for (std::size_t i = 0; i < cells.size(); ++i) {
      read_cell(cells[i], *columns[i], row, diagnostics);
    }
    sweep.rows.push_back(row);
  }
}

void read_group(MapReader& reader, Sweep& sweep, Diagnostics& diagnostics) {
  constexpr IntegerRange range{1, 1 << 20};
  sweep.gpus = static_cast<int>(reader.integer("gpus", range));
  sweep.nodes = static_cast<int>(reader.integer("nodes", range));
  sweep.gpus_per_node = static_cast<int>(reader.integer("gpus_per_node", range));
  if (static_cast<std::int64_t>(sweep.nodes) * sweep.gpus_per_node != sweep.gpus) {
    diagnostics.error(
        reader.place("gpus"), "bad-group",
        fmt::format("{} GPUs are not {} nodes of {}", sweep.gpus, sweep.nodes, sweep.gpus_per_node),
        "gpus = gpus_per_node x nodes");
  }
  const auto named = [&](const char* key) {
    const std::string words = reader.text(key, "");
    return words == "none" ? "" : words;
  };
  sweep.platform = reader.text("platform", "");
  sweep.gpu = reader.text("gpu", "");
  sweep.intra = named("interconnect_intra");
  sweep.inter = named("interconnect_inter");
}

void read_collective(MapReader& reader, Sweep& sweep, Diagnostics& diagnostics) {
  const std::string word = reader.text("collective");
  sweep.collective = collective_name(word);
  sweep.kind = collective_kind(word);
  if (sweep.collective.empty() && !word.empty()) {
    diagnostics.error(reader.place("collective"), "unknown-collective",
                      "there is no collective '" + word + "'",
                      "nccl-tests has all_reduce, all_gather, reduce_scatter, alltoall, broadcast, "
                      "sendrecv, reduce, gather, scatter, hypercube");
  }
}

void read_pins(MapReader& reader, Sweep& sweep, Diagnostics& diagnostics) {
  const auto value = reader.child("pins");
  if (!value) {
    return;
  }
  MapReader pins(*value, "pins", diagnostics);
  if (pins.has("algorithm")) {
    sweep.algorithm =
        static_cast<NcclAlgorithm>(pins.choice("algorithm", {"tree", "ring", "nvls", "nvls_tree"}));
  }
  if (pins.has("protocol")) {
    sweep.protocol = static_cast<NcclProtocol>(pins.choice("protocol", {"LL", "LL128", "Simple"}));
  }
  pins.finish();
}

// "NCCL_ALGO=Ring NCCL_PROTO=Simple" pins both.
void read_environment(const std::string& text, Sweep& sweep) {
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    if (word.starts_with("NCCL_ALGO=")) {
      sweep.algorithm = algorithm_pin(word.substr(10));
    } else if (word.starts_with("NCCL_PROTO=")) {
      sweep.protocol = protocol_pin(word.substr(11));
    } else {
      continue;
    }
    sweep.notes.push_back("pinned by " + word);
  }
}

std::string first_value(const std::string& text, const std::string& key) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(key)) {
      return line;
    }
  }
  return {};
}

}  // namespace

bool looks_like_sweep(const SourceText& source) {
  const std::string format = first_value(source.text, "format:");
  if (!format.empty()) {
    return format.find("longhaul-sweep/") != std::string::npos;
  }
  return !first_value(source.text, "collective:").empty() &&
         !first_value(source.text, "rows:").empty();
}

std::optional<Sweep> read_sweep(const SourcePtr& source, Diagnostics& diagnostics) {
  Diagnostics own;
  Sweep sweep;
  if (const auto document = YamlValue::parse(source, own)) {
    MapReader reader(*document, "sweep", own);
    if (reader.has("format")) {
      reader.choice("format", {"longhaul-sweep/1"});
    }
    sweep.id = reader.text("id");
    sweep.file = source->name;
    sweep.place = document->place();
    read_group(reader, sweep, own);
    read_collective(reader, sweep, own);
    sweep.nccl = reader.text("nccl", "");
    sweep.dtype = reader.text("dtype", "");
    sweep.cluster = reader.child("cluster");
    sweep.hardware = reader.child("hardware");
    read_environment(reader.text("env", ""), sweep);
    read_pins(reader, sweep, own);
    read_rows(reader, read_columns(reader, own), sweep, own);
    reader.ignore("source");
    reader.ignore("notes");
    reader.finish();
    if (sweep.cluster && sweep.hardware) {
      own.error(reader.place("hardware"), "two-machines",
                "a sweep has either 'cluster' or 'hardware'", "remove one of them");
    }
    if (!own.has_errors()) {
      check_sweep(sweep, own);
    }
  }
  diagnostics.append(own);
  return own.has_errors() ? std::nullopt : std::optional(std::move(sweep));
}

}  // namespace longhaul
