// The two clusters of the reference workloads, as links and routes.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "sim/network/flow_network.h"

namespace longhaul::bench {

/// A route of at most six links.
struct Path {
  std::array<LinkId, 6> links;
  std::uint32_t count = 0;
  double latency = 0.0;  ///< seconds
  [[nodiscard]] std::span<const LinkId> view() const { return {links.data(), count}; }
};

/// RAIL8: nodes of 8 GPUs on NVLink, one NIC per GPU, rail-optimised pods of 32 nodes whose leaves
/// are oversubscribed towards the spine.
class Rail8 {
 public:
  Rail8(std::int64_t gpus, double oversubscription);
  static constexpr std::int64_t node = 8;
  static constexpr std::int64_t pod_nodes = 32;
  static constexpr double nvlink = 450e9;
  static constexpr double nic = 50e9;
  [[nodiscard]] double leaf() const { return pod_nodes * nic / oversubscription_; }
  [[nodiscard]] std::vector<double> capacities() const;
  [[nodiscard]] Path route(std::int64_t from, std::int64_t to) const;
  [[nodiscard]] std::int64_t pods() const { return (gpus_ / node + pod_nodes - 1) / pod_nodes; }

 private:
  [[nodiscard]] LinkId of_gpu(std::int64_t gpu, int which) const;
  [[nodiscard]] LinkId of_leaf(std::int64_t gpu, int which) const;
  std::int64_t gpus_;
  double oversubscription_;
};

/// FATTREE(k, o): three tiers, o times as many hosts per edge switch as it has uplinks.
class FatTree {
 public:
  FatTree(std::int64_t k, std::int64_t oversubscription);
  static constexpr double rate = 50e9;
  [[nodiscard]] std::int64_t hosts() const { return k_ * half_ * hosts_per_edge_; }
  [[nodiscard]] std::vector<double> capacities() const;
  /// `hash` chooses among equal routes.
  [[nodiscard]] Path route(std::int64_t from, std::int64_t to, std::uint64_t hash) const;

 private:
  std::int64_t k_;
  std::int64_t half_;
  std::int64_t hosts_per_edge_;
};

}  // namespace longhaul::bench
