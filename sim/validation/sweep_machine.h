// What a sweep ran on: from its own `cluster` or `hardware`, from the user's word, or by careful
// reading of the words that describe the platform.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sim/topology/cluster.h"
#include "sim/validation/sweep.h"

namespace longhaul {

struct SweepMachine {
  std::optional<Cluster> cluster;
  std::vector<GpuId> gpus;         ///< the ranks, in order: the first GPUs of each host
  std::string description;         ///< the cluster or hardware map that was taken
  std::vector<std::string> notes;  ///< what was guessed
  std::string skip_reason;         ///< not empty: there is no cluster
};

/// The sweep's own `cluster` or `hardware` come first, then `cluster` (preset or path; empty: none
/// given), then what gpu, platform and interconnect say. Mistakes in what a user wrote are
/// recorded; what words do not tell becomes a note if there is a usual machine, else a skip_reason.
SweepMachine machine_of(const Sweep& sweep, const std::string& cluster, Diagnostics& diagnostics);

/// The device preset that words such as "NVIDIA H100 80GB HBM3" or "A100-SXM4-40GB" name; empty:
/// none. Adds a note where the words leave a choice.
std::string device_of(const std::string& words, std::vector<std::string>& notes);

}  // namespace longhaul
