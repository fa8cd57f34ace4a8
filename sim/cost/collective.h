// How a collective becomes transfers on the cluster: algorithm, latency, flows, SMs held.
// The behaviour is data (calibrate/profiles/transports/*.yaml); see docs/models/collectives.md.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "sim/input/diagnostic.h"
#include "sim/topology/cluster.h"
#include "sim/units/quantity.h"

namespace longhaul {

enum class CollectiveKind { all_gather, reduce_scatter, all_reduce, all_to_all, broadcast, send };

/// A collective on an ordered group of GPUs. `bytes`, as NCCL counts per rank:
/// all_gather: the gathered output; reduce_scatter: the whole input; all_reduce: the buffer;
/// all_to_all: the whole send buffer (1/n to each peer, own share included);
/// broadcast: the buffer; send: the message from gpus[0] to gpus[1].
struct CollectiveRequest {
  CollectiveKind kind = CollectiveKind::all_gather;
  std::span<const GpuId> gpus;
  Bytes bytes;
};

/// One transfer of a lowered collective.
struct PlannedFlow {
  std::vector<LinkId> links;
  Bytes bytes;
  Seconds latency;
  BytesPerSecond rate_cap;
};

/// What a collective does on the wire. It is over when every flow is.
struct CollectivePlan {
  std::string algorithm;  ///< "ring", "tree", "nvls", "pairwise", "p2p"
  std::vector<PlannedFlow> flows;
  Seconds latency;   ///< paid once before the flows move: base + hops, with launch
  int sms_held = 0;  ///< SMs per GPU while in flight
  double relative_spread = 0.0;
  bool extrapolated = false;
};

struct TransportProfile;
struct TransportProtocol;
struct NvlinkEfficiency;

/// Prices and lowers collectives on one cluster.
class TransportCosts {
 public:
  TransportCosts(Cluster cluster, std::shared_ptr<const TransportProfile> profile);
  [[nodiscard]] CollectivePlan lower(const CollectiveRequest& request) const;
  /// Usable capacity of every link of the cluster (nominal x efficiency by link kind), by LinkId.
  [[nodiscard]] std::vector<BytesPerSecond> link_capacities() const;
  /// Time of the collective alone on an idle cluster: closed form, the uncongested reference.
  [[nodiscard]] Seconds alone(const CollectiveRequest& request) const;
  /// Device memory one communicator of `ranks` GPUs holds per GPU (nccl_memory.yaml).
  [[nodiscard]] Bytes communicator_memory(CollectiveKind kind, std::span<const GpuId> gpus) const;
  [[nodiscard]] bool calibrated() const;
  [[nodiscard]] const std::vector<std::string>& origins() const;

 private:
  [[nodiscard]] double efficiency(LinkKind kind) const;
  [[nodiscard]] BytesPerSecond route_rate(const Route& route) const;
  void add_flow(CollectivePlan& plan, GpuId from, GpuId to, double bytes, double rate_cap) const;
  [[nodiscard]] double protocol_rate(const TransportProtocol& protocol, double simple) const;
  const TransportProtocol& choose(double steps, double network_steps, bool nvlink, double bytes,
                                  double rate, Seconds& latency) const;
  void finish_ring(CollectivePlan& plan, double steps, double network_steps, bool nvlink,
                   double carried) const;
  [[nodiscard]] CollectivePlan ring(const CollectiveRequest& request) const;
  [[nodiscard]] CollectivePlan in_switch(const CollectiveRequest& request) const;
  [[nodiscard]] CollectivePlan two_node_tree(const CollectiveRequest& request) const;
  [[nodiscard]] CollectivePlan pairwise(const CollectiveRequest& request) const;
  [[nodiscard]] CollectivePlan send(const CollectiveRequest& request) const;
  [[nodiscard]] Seconds time_alone(const CollectivePlan& plan) const;

  Cluster cluster_;
  std::shared_ptr<const TransportProfile> profile_;
  std::shared_ptr<const NvlinkEfficiency> nvlink_;
};

/// The transport profile for a cluster (by name in the cluster file, else "nccl").
TransportCosts find_transport_costs(const Cluster& cluster, Diagnostics& diagnostics);

}  // namespace longhaul
