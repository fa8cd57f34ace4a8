// What `longhaul topology WORD` does, one function per word.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sim/cli/command.h"
#include "sim/topology/import.h"
#include "sim/topology/read_cluster.h"

namespace longhaul {

/// The flags of `longhaul topology`, as given; empty: not given.
struct TopologyFlags {
  std::string gpus;      ///< show: GPUs of a cluster that grows
  std::string from;      ///< show: a path from this GPU ...
  std::string to;        ///< ... to this one
  bool dot = false;      ///< show: for Graphviz
  std::string format;    ///< import: --from-format
  std::string name;      ///< import
  std::string device;    ///< import
  std::string nvlink;    ///< import
  std::string nic_rate;  ///< import
};

/// A whole number of at least `least`, as the value of a flag.
std::int64_t whole_number(const std::string& flag, const std::string& text, std::int64_t least);

/// A cluster by preset name or path. Throws InputError.
Cluster open_cluster(const std::string& word, ClusterSize size, Session& session);

/// Imports NCCL's XML or nvidia-smi's matrix. Throws InputError, also for files of other kinds.
ImportedCluster import_source(const SourcePtr& source, const std::string& file,
                              const TopologyFlags& flags, Session& session);

Outcome show_topology(const std::string& cluster, const TopologyFlags& flags, Session& session);
Outcome check_topology(const std::vector<std::string>& files, const TopologyFlags& flags,
                       Session& session);
Outcome import_topology_file(const std::string& file, const TopologyFlags& flags, Session& session);

}  // namespace longhaul
