// NCCL's constants from YAML: the `tuning` section of a transport profile.
#include "sim/cost/read_tuning.h"

#include <fmt/format.h>

namespace longhaul {

namespace {

// By NcclAlgorithm.
const std::vector<std::string> algorithm_words = {"tree", "ring", "nvls", "nvls_tree", "pat"};

// The quantities of a list; `count` zero: any number above zero.
template <class T>
std::vector<T> read_list(MapReader& reader, const std::string& key,
                         Parsed<T> (*parse)(std::string_view), std::size_t count) {
  std::vector<T> values;
  const auto list = reader.require(key);
  if (!list) {
    return std::vector<T>(count == 0 ? 1 : count);
  }
  for (const YamlValue& item : list->items()) {
    const Parsed<T> parsed = parse(item.scalar());
    if (!parsed.ok()) {
      reader.diagnostics().error(item.place(), "bad-value", key + " " + parsed.error, parsed.help);
    }
    values.push_back(parsed.value);
  }
  if (values.empty() || (count > 0 && values.size() != count)) {
    reader.diagnostics().error(list->place(), "bad-list",
                               fmt::format("{} has {} values, not {}", key, values.size(),
                                           count == 0 ? "one or more" : std::to_string(count)),
                               "see docs/models/collectives.md");
    values.resize(count == 0 ? 1 : count);
  }
  return values;
}

template <class T, std::size_t N>
void read_array(MapReader& reader, const std::string& key, Parsed<T> (*parse)(std::string_view),
                std::array<T, N>& array) {
  const std::vector<T> values = read_list(reader, key, parse, N);
  std::copy(values.begin(), values.end(), array.begin());
}

void read_latencies(MapReader& tuning, TuningConstants& constants, Diagnostics& diagnostics) {
  const auto list = tuning.require("latencies");
  if (!list) {
    return;
  }
  for (const YamlValue& item : list->items()) {
    MapReader reader(item, "latencies", diagnostics);
    AlgorithmLatency latency;
    const std::size_t algorithm = reader.choice("algorithm", algorithm_words);
    read_array(reader, "base", &parse_seconds, latency.base);
    read_array(reader, "nvlink", &parse_seconds, latency.nvlink);
    read_array(reader, "pcie", &parse_seconds, latency.pcie);
    read_array(reader, "network", &parse_seconds, latency.network);
    reader.finish();
    constants.latency[algorithm] = latency;
  }
}

void read_architectures(MapReader& tuning, TuningConstants& constants, Diagnostics& diagnostics) {
  const auto list = tuning.require("architectures");
  if (!list) {
    return;
  }
  for (const YamlValue& item : list->items()) {
    MapReader reader(item, "architectures", diagnostics);
    ArchitectureTuning architecture;
    architecture.name = reader.text("name");
    architecture.nvlink_link = reader.bytes_per_second("nvlink_link");
    architecture.nvls_efficiency = reader.number("nvls_efficiency", 0.0, 1.0, 0.0);
    architecture.ring_plateau = reader.number("ring_plateau", 1.0, 10.0);
    read_array(reader, "ll_limit", &parse_bytes_per_second, architecture.ll_limit);
    read_array(reader, "ring_ll128", &parse_bytes_per_second, architecture.ring_ll128);
    read_array(reader, "tree_ll128", &parse_bytes_per_second, architecture.tree_ll128);
    read_array(reader, "tree_simple", &parse_bytes_per_second, architecture.tree_simple);
    architecture.one_node = read_list(reader, "one_node", &parse_bytes_per_second, 0);
    architecture.many_nodes = read_list(reader, "many_nodes", &parse_bytes_per_second, 0);
    reader.finish();
    constants.architectures.push_back(architecture);
  }
}

}  // namespace

TuningConstants read_tuning(MapReader& root, Diagnostics& diagnostics) {
  TuningConstants constants;
  const auto value = root.require("tuning");
  if (!value) {
    return constants;
  }
  MapReader tuning(*value, "tuning", diagnostics);
  read_latencies(tuning, constants, diagnostics);
  read_architectures(tuning, constants, diagnostics);
  constants.network_overhead = tuning.seconds("network_overhead");
  constants.duplicate_from = tuning.bytes_per_second("duplicate_from");
  if (const auto corrections = tuning.require("tree_correction")) {
    MapReader reader(*corrections, "tree_correction", diagnostics);
    constants.tree_correction = {read_list(reader, "LL", &parse_number, 0),
                                 read_list(reader, "LL128", &parse_number, 0),
                                 read_list(reader, "Simple", &parse_number, 0)};
    reader.finish();
  }
  tuning.text("source");
  tuning.finish();
  return constants;
}

}  // namespace longhaul
