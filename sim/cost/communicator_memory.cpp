// Device memory of NCCL's buffers, after its formulas (src/transport/*.cc of NCCL 2.30); the sizes
// are data of the transport profile.
#include <algorithm>

#include "sim/cost/placement.h"
#include "sim/cost/transport.h"

namespace longhaul {

namespace {

// A tree has up to two peers to receive from where the ring has one (its parent may be the ring's
// neighbour, whose connection they share).
double connections(CollectiveKind kind, int gpus) {
  const double tree = gpus > 2 ? 2.0 : 1.0;
  return kind == CollectiveKind::all_reduce ? 1.0 + tree : 1.0;
}

}  // namespace

Bytes TransportCosts::communicator_memory(CollectiveKind kind, std::span<const GpuId> gpus) const {
  if (gpus.size() < 2) {
    return Bytes();
  }
  const TransportProfile& profile = *profile_;
  const Placement placement = place(cluster_, gpus);
  const TuningTopology topology = tuning_topology(cluster_, placement, profile.tuning);
  const int channels = std::min(profile.channel_limit, 2 * topology.ring.channels);
  if (kind == CollectiveKind::send || kind == CollectiveKind::all_to_all) {
    const double peers =
        kind == CollectiveKind::send ? 1.0 : static_cast<double>(placement.per_node() - 1);
    const bool inside = kind == CollectiveKind::all_to_all || !placement.over_network;
    const Bytes within =
        inside && placement.per_node() > 1
            ? profile.peer_chunk * (peers * profile.slots * peer_channels(cluster_, placement))
            : Bytes();
    // Buffers towards the network are shared by all peers: 2 x slots per channel, both directions.
    const Bytes network = placement.over_network
                              ? profile.network_chunk * (2.0 * 2.0 * profile.slots * channels)
                              : Bytes();
    return within + network;
  }
  const bool in_switch = kind == CollectiveKind::all_reduce && topology.in_switch;
  const Bytes heads =
      in_switch ? profile.nvls_memory_per_channel * (16.0 * placement.per_node()) : Bytes();
  return profile.connection_memory * (connections(kind, placement.gpus) * channels) + heads;
}

}  // namespace longhaul
