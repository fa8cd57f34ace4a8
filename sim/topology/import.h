// Topologies as machines print them (NCCL's XML, nvidia-smi topo -m), made into our own cluster
// files. What a file says is kept; what it does not say is guessed and marked, value by value.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "sim/input/diagnostic.h"
#include "sim/topology/cluster_spec.h"

namespace longhaul {

/// nccl_graph and nccl_tests are known in order to be refused with a useful word; cluster_yaml is
/// our own format.
enum class TopologyFormat { nccl_xml, smi_topo, cluster_yaml, nccl_graph, nccl_tests, unknown };

/// By its content, never by its name.
TopologyFormat detect_topology_format(const SourceText& source);

/// What the user adds to a file. Empty or absent: what the file says, or a marked guess.
struct ImportOptions {
  std::string name;    ///< of the cluster; empty: made from the file's name
  std::string device;  ///< a preset or the path of a device file
  std::optional<BytesPerSecond> nic_rate;
  std::optional<NvlinkWiring>
      nvlink;  ///< where the file does not show it: none, switched, mesh, pairs
};

/// A cluster of one node, and a comment for each of its values: where it comes from. Keys are those
/// of the YAML, joined by dots: "host.sockets", "layout.gpus.3".
struct ImportedCluster {
  ClusterSpec spec;
  std::string device;  ///< as the file names it: preset or path
  std::map<std::string, std::string> notes;
  std::vector<std::string> heading;  ///< lines at the top of the file
};

/// Reads nccl_xml or smi_topo. Records every mistake, and as warnings everything that was guessed,
/// left out or contradictory. Returns nothing if there was an error.
std::optional<ImportedCluster> import_topology(const SourcePtr& source, TopologyFormat format,
                                               const ImportOptions& options,
                                               Diagnostics& diagnostics);

/// The cluster as a YAML file (format: topologies/README.md) that reads back as the same
/// specification. Numbers are exact.
std::string write_cluster(const ImportedCluster& cluster);

}  // namespace longhaul
