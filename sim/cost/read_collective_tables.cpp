// Measured collectives: the `tables` section of a transport profile.
#include "sim/cost/read_collective_tables.h"

#include <fmt/format.h>

#include "sim/input/presets.h"
#include "sim/units/parse.h"

namespace longhaul {

namespace {

// By CollectiveKind.
const std::vector<std::string> kind_words = {"all_gather", "reduce_scatter", "all_reduce",
                                             "all_to_all", "broadcast",      "send"};

template <class T>
bool read_scalar(const YamlValue& value, const char* what, Parsed<T> (*parse)(std::string_view),
                 T& result, Diagnostics& diagnostics) {
  const Parsed<T> parsed = parse(value.scalar());
  if (!parsed.ok()) {
    diagnostics.error(value.place(), "bad-table-point", std::string(what) + " " + parsed.error,
                      parsed.help);
    return false;
  }
  result = parsed.value;
  return true;
}

std::optional<TablePoint> read_point(const YamlValue& value, Diagnostics& diagnostics) {
  const auto parts = value.items();
  if (parts.size() != 2) {
    diagnostics.error(value.place(), "bad-table-point", "a point is a size and a time",
                      "write [8192 B, 21.3 us]");
    return std::nullopt;
  }
  TablePoint point;
  const bool bytes = read_scalar(parts[0], "the size", &parse_bytes, point.bytes, diagnostics);
  const bool time = read_scalar(parts[1], "the time", &parse_seconds, point.time, diagnostics);
  if (!bytes || !time) {
    return std::nullopt;
  }
  if (!(point.bytes > Bytes()) || !(point.time > Seconds())) {
    diagnostics.error(value.place(), "bad-table-point", "a size and a time must be above zero",
                      "leave out sizes of zero");
    return std::nullopt;
  }
  return point;
}

// Times must not fall where sizes rise: interpolation would predict that more bytes take less time.
void read_points(MapReader& reader, CollectiveTable& table, Diagnostics& diagnostics) {
  const auto list = reader.require("points");
  if (!list) {
    return;
  }
  for (const YamlValue& item : list->items()) {
    const auto point = read_point(item, diagnostics);
    if (!point) {
      continue;
    }
    if (!table.points.empty() && !(table.points.back().bytes < point->bytes)) {
      diagnostics.error(item.place(), "unsorted-table", "the sizes of a table must ascend",
                        "sort the points by size and keep one of each size");
    } else if (!table.points.empty() && point->time < table.points.back().time) {
      diagnostics.error(item.place(), "unsorted-table", "more bytes cannot take less time",
                        "repeat the longest time so far, or measure again");
    }
    table.points.push_back(*point);
  }
  if (table.points.size() < 2) {
    diagnostics.error(list->place(), "short-table", "a table needs two points or more",
                      "measure at least a small and a large size");
  }
}

void read_devices(MapReader& reader, CollectiveTable& table, Diagnostics& diagnostics) {
  const auto value = reader.require("device");
  if (!value) {
    return;
  }
  if (value->is_sequence()) {
    for (const YamlValue& item : value->items()) {
      table.devices.push_back(item.scalar());
    }
  } else {
    table.devices.push_back(value->scalar());
  }
  if (table.devices.empty() || table.devices.front().empty()) {
    diagnostics.error(value->place(), "no-device", "a table needs the device it was measured on",
                      "write 'device: h100-sxm-80gb' or a list of such names");
  }
}

CollectiveTable read_table(const YamlValue& value, Diagnostics& diagnostics) {
  MapReader reader(value, "tables", diagnostics);
  CollectiveTable table;
  table.kind = static_cast<CollectiveKind>(reader.choice("collective", kind_words));
  read_devices(reader, table, diagnostics);
  table.gpus = static_cast<int>(reader.integer("gpus", {2, 1 << 20}));
  table.gpus_per_node = static_cast<int>(reader.integer("gpus_per_node", {1, 1 << 20}));
  table.nodes = static_cast<int>(reader.integer("nodes", {1, 1 << 20}));
  table.fabric = reader.text("fabric", "none");
  table.nic_rate = reader.bytes_per_second("nic_rate", BytesPerSecond());
  table.spread = reader.number("spread", 0.0, 2.0);
  table.from = reader.text("from");
  read_points(reader, table, diagnostics);
  reader.finish();
  if (static_cast<std::int64_t>(table.gpus_per_node) * table.nodes != table.gpus) {
    diagnostics.error(
        reader.place("gpus"), "bad-group",
        fmt::format("{} GPUs are not {} nodes of {}", table.gpus, table.nodes, table.gpus_per_node),
        "gpus = gpus_per_node x nodes");
  }
  if ((table.nodes > 1) == (table.fabric == "none")) {
    diagnostics.error(reader.place("nodes"), "bad-group",
                      "several nodes have a fabric between them, one node has none",
                      "write 'fabric: infiniband', or leave it out for one node");
  }
  return table;
}

constexpr std::string_view built_in = "built-in: ";

// A file beside the profile: built in, if the profile is.
std::optional<SourcePtr> find_table_file(const YamlValue& name, const SourcePtr& profile,
                                         Diagnostics& diagnostics) {
  const std::string folder = profile->name.substr(0, profile->name.rfind('/') + 1);
  const std::string path = folder + name.scalar();
  if (!path.starts_with(built_in)) {
    return read_source(path, diagnostics);
  }
  const auto source = embedded_file(path.substr(built_in.size()));
  if (!source) {
    diagnostics.error(name.place(), "no-table-file", "there is no built-in file " + name.scalar(),
                      "name a file beside the profile");
  }
  return source;
}

}  // namespace

void read_collective_tables(MapReader& root, const SourcePtr& source, TransportProfile& profile,
                            Diagnostics& diagnostics) {
  const auto list = root.child("tables");
  if (!list) {
    return;
  }
  for (const YamlValue& item : list->items()) {
    const auto name = item.find("file");
    if (!name) {
      profile.tables.push_back(read_table(item, diagnostics));
    } else if (const auto file = find_table_file(*name, source, diagnostics)) {
      MapReader reader(item, "tables", diagnostics);
      reader.ignore("file");
      reader.finish();
      read_table_file(*file, profile, diagnostics);
    }
  }
}

void read_table_file(const SourcePtr& source, TransportProfile& profile, Diagnostics& diagnostics) {
  const auto document = YamlValue::parse(source, diagnostics);
  if (!document) {
    return;
  }
  MapReader root(*document, "table file", diagnostics);
  root.choice("format", {"longhaul-tables/1"});
  if (const auto list = root.require("tables")) {
    for (const YamlValue& item : list->items()) {
      profile.tables.push_back(read_table(item, diagnostics));
    }
  }
  root.finish();
  profile.origins.push_back(source->name + " sha256:" + sha256_hex(source->text).substr(0, 16));
}

}  // namespace longhaul
