// What is allowed but strange about a cluster's wiring: what `longhaul topology check` warns of.
#pragma once

#include <string>
#include <vector>

#include "sim/topology/cluster.h"

namespace longhaul {

/// `code` is stable: "gpu-far-from-nic", "shared-nic", "narrow-slot", "slow-uplink",
/// "uneven-wiring", "idle-nic", "no-peer-access", "indirect-nvlink", "oversubscribed".
struct Oddity {
  std::string code;
  std::string message;
  std::string help;
};

/// In the order of the codes above; every code at most once.
std::vector<Oddity> find_oddities(const Cluster& cluster);

}  // namespace longhaul
