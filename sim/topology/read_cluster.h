// Clusters from text: topologies/{devices,nodes,clusters}/*.yaml or the user's own.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sim/input/diagnostic.h"
#include "sim/input/yaml.h"
#include "sim/topology/cluster.h"

namespace longhaul {

/// How many nodes or GPUs the user wants of a cluster that has no fixed size.
struct ClusterSize {
  std::optional<std::int64_t> gpus;  ///< presets such as dgx-h100 grow to hold this many
};

/// Reads a cluster map (format: topologies/README.md): nodes and devices by preset name, path or
/// inline map; refuses cyclic includes, disconnected graphs, more GPUs than a fixed-size cluster
/// has. A scalar is taken for a name or path, as in find_cluster().
std::optional<Cluster> read_cluster(const YamlValue& map, ClusterSize size,
                                    Diagnostics& diagnostics);

/// A cluster by what the user wrote: a preset's name ("dgx-h100"), or a path to a .yaml file.
std::optional<Cluster> find_cluster(const std::string& name_or_path, ClusterSize size,
                                    const Place& place, Diagnostics& diagnostics);

/// A device by preset name or path.
std::optional<Device> find_device(const std::string& name_or_path, const Place& place,
                                  Diagnostics& diagnostics);

std::vector<std::string> cluster_presets();  ///< names, sorted
std::vector<std::string> node_presets();
std::vector<std::string> device_presets();

}  // namespace longhaul
