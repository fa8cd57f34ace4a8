// nccl-tests -J (version 3): the same figures as the tables, in full precision.
#include "sim/validation/nccl_tests_log.h"

namespace longhaul {

namespace {

std::string text_at(const YamlValue& map, const std::string& key) {
  const auto value = map.is_map() ? map.find(key) : std::nullopt;
  return value && value->is_scalar() ? value->scalar() : "";
}

std::vector<YamlValue> items_at(const YamlValue& map, const std::string& key) {
  const auto value = map.is_map() ? map.find(key) : std::nullopt;
  return value && value->is_sequence() ? value->items() : std::vector<YamlValue>{};
}

void read_devices(const YamlValue& document, LogFacts& facts) {
  const auto config = document.find("config");
  if (!config) {
    return;
  }
  for (const YamlValue& device : items_at(*config, "devices")) {
    LogRank rank;
    const auto number = parse_integer(text_at(device, "rank"));
    rank.rank = number.ok() && number.value >= 0 && number.value < (1 << 24)
                    ? static_cast<int>(number.value)
                    : -1;
    rank.group = text_at(device, "group");
    rank.host = text_at(device, "hostname");
    rank.device = text_at(device, "device");
    rank.process = text_at(device, "pid");
    rank.gpu = text_at(device, "device_info");
    facts.ranks.push_back(rank);
  }
}

bool read_half(const YamlValue& result, const std::string& key, std::optional<Printed>& time,
               std::optional<Printed>& algorithm, std::optional<Printed>& bus) {
  const auto half = result.is_map() ? result.find(key) : std::nullopt;
  if (!half || !half->is_map()) {
    return true;
  }
  time = parse_printed(text_at(*half, "time"));
  algorithm = parse_printed(text_at(*half, "alg_bw"));
  bus = parse_printed(text_at(*half, "bus_bw"));
  return half->find("cpu_time") == std::nullopt;
}

SweepRow read_result(const YamlValue& result, bool& gpu_times, Diagnostics& diagnostics) {
  SweepRow row;
  row.place = result.place();
  const auto size = parse_integer(text_at(result, "size"));
  if (!size.ok() || size.value < 0) {
    diagnostics.warning(row.place, "unreadable-row", "a result has no size, and is left out",
                        "sizes are whole numbers of bytes");
    return row;
  }
  row.bytes = static_cast<double>(size.value);
  gpu_times =
      read_half(result, "out_of_place", row.time, row.algorithm_bandwidth, row.bus_bandwidth) &&
      gpu_times;
  read_half(result, "in_place", row.in_place_time, row.in_place_algorithm_bandwidth,
            row.in_place_bus_bandwidth);
  return row;
}

}  // namespace

std::vector<Sweep> read_nccl_tests_json(const SourcePtr& source, Diagnostics& diagnostics) {
  const auto document = YamlValue::parse_json(source, diagnostics);
  if (!document) {
    return {};
  }
  LogFacts facts;
  LogTable table;
  table.place = document->place();
  const std::vector<YamlValue> results = items_at(*document, "results");
  if (results.empty()) {
    diagnostics.error(document->place(), "no-results", "not nccl-tests' JSON: no list 'results'",
                      "write it with: all_reduce_perf ... -J file.json");
    return {};
  }
  read_devices(*document, facts);
  for (const YamlValue& word : items_at(*document, "args")) {
    const std::string name = program_collective(word.scalar());
    facts.collective = name.empty() ? facts.collective : name;
  }
  facts.nccl = text_at(*document, "nccl_version");
  bool gpu_times = true;
  for (const YamlValue& result : results) {
    table.rows.push_back(read_result(result, gpu_times, diagnostics));
    table.dtype = text_at(result, "type");
  }
  if (const auto average = document->find("average_bus_bandwidth")) {
    table.average = parse_printed(text_at(*average, "bandwidth"));
  }
  Sweep sweep = sweep_of_table(table, facts, source, 0, diagnostics);
  if (!gpu_times && sweep.skip_reason.empty()) {
    sweep.skip_reason = "it reports times of the CPU (-C 1)";
  }
  return {sweep};
}

}  // namespace longhaul
