// longhaul topology import: what machines print about their wiring, made into a cluster file.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "sim/cli/topology_words.h"
#include "sim/topology/import.h"

namespace longhaul {

namespace {

/// Words of --from, in the order of TopologyFormat.
constexpr std::array format_words{"nccl-xml", "smi-topo", "longhaul", "nccl-graph", "nccl-tests"};

TopologyFormat format_of(const SourceText& source, const std::string& forced) {
  if (forced.empty()) {
    return detect_topology_format(source);
  }
  const auto* found = std::find(format_words.begin(), format_words.end(), forced);
  if (found == format_words.end()) {
    fail_usage("--from knows no format '" + forced + "'",
               fmt::format("formats: {}", fmt::join(format_words, ", ")));
  }
  return static_cast<TopologyFormat>(found - format_words.begin());
}

ImportOptions options_of(const TopologyFlags& flags) {
  ImportOptions options;
  options.name = flags.name;
  options.device = flags.device;
  if (!flags.nic_rate.empty()) {
    const Parsed<BytesPerSecond> rate = parse_bytes_per_second(flags.nic_rate);
    if (!rate.ok() || rate.value <= BytesPerSecond{}) {
      fail_usage("--nic-rate wants a rate such as '400 Gb/s', got '" + flags.nic_rate + "'");
    }
    options.nic_rate = rate.value;
  }
  if (!flags.nvlink.empty()) {
    constexpr std::array words{"none", "switch", "mesh", "pairs"};
    const auto* found = std::find(words.begin(), words.end(), flags.nvlink);
    if (found == words.end()) {
      fail_usage("--nvlink wants none, switch, mesh or pairs, got '" + flags.nvlink + "'");
    }
    options.nvlink = static_cast<NvlinkWiring>(found - words.begin());
  }
  return options;
}

/// Files that are something else, with the command that takes them.
void refuse(TopologyFormat format, const SourcePtr& source, const std::string& file) {
  Diagnostics diagnostics;
  const Place whole{source, 0, 0, 1};
  if (format == TopologyFormat::nccl_tests) {
    diagnostics.error(whole, "measurements", "these are measurements of nccl-tests, not a topology",
                      fmt::format("longhaul validate {} --cluster CLUSTER compares them with "
                                  "predictions",
                                  file));
  } else if (format == TopologyFormat::nccl_graph) {
    diagnostics.error(whole, "graph-file",
                      "this is a graph file of NCCL (the rings and trees it chose), not a topology",
                      "import the file of NCCL_TOPO_DUMP_FILE, not that of NCCL_GRAPH_DUMP_FILE");
  } else {
    diagnostics.error(whole, "unknown-format", "this is no topology that longhaul knows",
                      "it knows NCCL's topology XML (NCCL_TOPO_DUMP_FILE), the text of "
                      "nvidia-smi topo -m, and its own cluster files; --from forces one");
  }
  diagnostics.throw_if_errors();
}

JsonValue import_json(const char* format, const std::string& text, const ClusterSpec* spec) {
  JsonValue json = JsonValue::object().set("format", format).set("yaml", text);
  if (spec != nullptr) {
    json.set("name", spec->name)
        .set("device", spec->node.device.name)
        .set("gpus", spec->node.gpus)
        .set("sockets", spec->node.host.sockets)
        .set("pcie_switches", spec->node.pcie.switches)
        .set("nics", spec->node.nics.count)
        .set("rails", rails(spec->node));
  }
  return json;
}

/// Our own files are read, judged and written as they are, comments and all.
Outcome keep(const SourcePtr& source, const std::string& file, Session& session) {
  open_cluster(file, {}, session);
  Outcome out;
  out.text = source->text;
  out.json = import_json("longhaul", source->text, nullptr);
  return out;
}

}  // namespace

ImportedCluster import_source(const SourcePtr& source, const std::string& file,
                              const TopologyFlags& flags, Session& session) {
  const ImportOptions options = options_of(flags);
  const TopologyFormat format = format_of(*source, flags.format);
  if (format != TopologyFormat::nccl_xml && format != TopologyFormat::smi_topo) {
    refuse(format, source, file);
  }
  const auto imported = import_topology(source, format, options, session.diagnostics);
  session.diagnostics.throw_if_errors();
  return *imported;
}

Outcome import_topology_file(const std::string& file, const TopologyFlags& flags,
                             Session& session) {
  options_of(flags);  // wrong flags are told before the file is opened
  const auto source = read_source(file == "-" ? "/dev/stdin" : file, session.diagnostics);
  session.diagnostics.throw_if_errors();
  const TopologyFormat format = format_of(**source, flags.format);
  if (format == TopologyFormat::cluster_yaml) {
    return keep(*source, file, session);
  }
  const ImportedCluster imported = import_source(*source, file, flags, session);
  Outcome out;
  out.text = write_cluster(imported);
  out.json =
      import_json(format_words.at(static_cast<std::size_t>(format)), out.text, &imported.spec);
  return out;
}

}  // namespace longhaul
