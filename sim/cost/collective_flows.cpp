// Symbols: B bytes of the request, n members, N nodes, k members of a node.
#include "sim/cost/collective_flows.h"

#include <algorithm>
#include <cmath>

#include "sim/units/check.h"

namespace longhaul {

namespace {

void add_flow(const Cluster& cluster, FlowPattern& traffic, GpuId from, GpuId to, double bytes) {
  PlannedFlow flow;
  flow.links = cluster.route(from, to).links;
  flow.bytes = Bytes::of(bytes);
  traffic.flows.push_back(std::move(flow));
}

// Every member passes `bytes` on to the next in the node. Where all pairs have links of their own,
// NCCL's rings and trees take the members in different orders and so use them all alike.
void pass_within(const Cluster& cluster, FlowPattern& traffic, const Placement& placement,
                 const std::vector<GpuId>& members, double bytes, bool closed) {
  const std::size_t k = members.size();
  for (std::size_t i = 0; i < k; ++i) {
    if (placement.direct && closed) {
      for (std::size_t step = 1; step < k; ++step) {
        add_flow(cluster, traffic, members[i], members[(i + step) % k],
                 bytes / static_cast<double>(k - 1));
      }
    } else if (k > 1 && (closed || i + 1 < k)) {
      add_flow(cluster, traffic, members[i], members[(i + 1) % k], bytes);
    }
  }
}

// Every node passes `bytes` on to the next, over the NICs of its members in equal parts.
void pass_between(const Cluster& cluster, FlowPattern& traffic, const Placement& placement,
                  double bytes) {
  const std::size_t nodes = placement.nodes.size();
  for (std::size_t node = 0; node < nodes; ++node) {
    const auto& members = placement.nodes[node];
    const auto& next = placement.nodes[(node + 1) % nodes];
    if (!placement.even) {
      add_flow(cluster, traffic, members.back(), next.front(), bytes);  // a single plain ring
      continue;
    }
    const auto owners = network_members(cluster, members);
    for (const std::size_t owner : owners) {
      add_flow(cluster, traffic, members[owner], next[owner],
               bytes / static_cast<double>(owners.size()));
    }
  }
}

double depth_of(const Placement& placement) {
  return std::floor(std::log2(static_cast<double>(placement.node_count())));
}

}  // namespace

// A GPU passes all but its own piece to its neighbour; with several nodes the ring leaves a node
// once for every k pieces, so that the last of the node passes nothing within it. NCCL has one ring
// per NIC, each leaving from another member.
FlowPattern ring_traffic(const Cluster& cluster, const CollectiveRequest& request,
                     const Placement& placement) {
  const double n = placement.gpus;
  const double nodes = placement.node_count();
  const double k = placement.per_node();
  const double turns = request.kind == CollectiveKind::all_reduce ? 2.0 : 1.0;
  // A broadcast passes the whole buffer on; the others keep the share that a GPU already has.
  const double passed = request.kind == CollectiveKind::broadcast ? 1.0 : turns * (n - 1.0) / n;
  const double carried = request.bytes.value() * passed;
  const bool spread = placement.even;
  FlowPattern traffic;
  for (const auto& members : placement.nodes) {
    const double share = placement.over_network && spread ? (k - 1.0) / k : 1.0;
    pass_within(cluster, traffic, placement, members, carried * share,
                spread || !placement.over_network);
  }
  if (placement.over_network) {
    pass_between(cluster, traffic, placement, carried);
    traffic.network_steps = turns * (nodes - 1.0);
  }
  traffic.steps = turns * (n - 1.0) - traffic.network_steps;
  traffic.own =
      request.kind == CollectiveKind::broadcast ? 0.0 : request.bytes.value() / n / carried;
  return traffic;
}

// Sums go up a chain of the node's members and up a tree of nodes, results come down: 2B (k-1)/k
// per GPU within the node. Two trees share the data, so that a node is a leaf in one of them and
// sends 2B (N-1)/N on average: half of a ring's between two nodes.
FlowPattern tree_traffic(const Cluster& cluster, const CollectiveRequest& request,
                     const Placement& placement) {
  const double k = placement.per_node();
  const double nodes = placement.node_count();
  FlowPattern traffic;
  for (const auto& members : placement.nodes) {
    pass_within(cluster, traffic, placement, members, 2.0 * request.bytes.value() * (k - 1.0) / k,
                true);
  }
  if (placement.over_network) {
    pass_between(cluster, traffic, placement, 2.0 * request.bytes.value() * (nodes - 1.0) / nodes);
    traffic.network_steps = 2.0 * depth_of(placement);
  }
  traffic.steps = 2.0 * (k - 1.0);
  return traffic;
}

// Every GPU sends its buffer to the switch once and receives the sum once.
FlowPattern in_switch_traffic(const Cluster& cluster, const CollectiveRequest& request,
                          const Placement& placement) {
  const double nodes = placement.node_count();
  FlowPattern traffic;
  for (const auto& members : placement.nodes) {
    pass_within(cluster, traffic, placement, members, request.bytes.value(), true);
  }
  if (placement.over_network) {
    pass_between(cluster, traffic, placement, 2.0 * request.bytes.value() * (nodes - 1.0) / nodes);
    traffic.network_steps = 2.0 * depth_of(placement);
  }
  traffic.steps = 1.0;
  return traffic;
}

namespace {

// Peers that the member with most of them sends to, within its node and over the network.
void count_steps(const Cluster& cluster, const CollectiveRequest& request, FlowPattern& traffic) {
  const std::size_t n = request.gpus.size();
  double within = 0.0;
  double network = 0.0;
  for (std::size_t i = 0; i < n; ++i) {
    double near = 0.0;
    double far = 0.0;
    for (std::size_t j = 0; j < n; ++j) {
      if (j != i && request.pieces[i * n + j] > Bytes()) {
        const Route& route = cluster.route(request.gpus[i], request.gpus[j]);
        (route.path_class == PathClass::network ? far : near) += 1.0;
      }
    }
    within = std::max(within, near);
    network = std::max(network, far);
  }
  traffic.steps = within;
  traffic.network_steps = network;
}

}  // namespace

FlowPattern pairwise_traffic(const Cluster& cluster, const CollectiveRequest& request,
                         const Placement& placement) {
  const std::size_t n = request.gpus.size();
  const double equal = request.bytes.value() / static_cast<double>(n);
  check(request.pieces.empty() || request.pieces.size() == n * n,
        "an all-to-all-v has a piece for every pair");
  FlowPattern traffic;
  traffic.flows.reserve(n * (n - 1));
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t step = 1; step < n; ++step) {
      const std::size_t to = (i + step) % n;
      const double piece = request.pieces.empty() ? equal : request.pieces[i * n + to].value();
      if (piece > 0.0) {
        add_flow(cluster, traffic, request.gpus[i], request.gpus[to], piece);
      }
    }
  }
  // With pieces of different sizes the own ones are taken as the others on average.
  traffic.own = 1.0 / static_cast<double>(n - 1);
  traffic.steps = placement.per_node() - 1.0;
  traffic.network_steps = placement.gpus - placement.per_node();
  if (!request.pieces.empty()) {
    count_steps(cluster, request, traffic);
  }
  return traffic;
}

FlowPattern message_traffic(const Cluster& cluster, const CollectiveRequest& request) {
  check(request.gpus.size() == 2, "a message has a sender and a receiver");
  FlowPattern traffic;
  add_flow(cluster, traffic, request.gpus[0], request.gpus[1], request.bytes.value());
  const bool network =
      cluster.route(request.gpus[0], request.gpus[1]).path_class == PathClass::network;
  traffic.steps = network ? 0.0 : 1.0;
  traffic.network_steps = network ? 1.0 : 0.0;
  return traffic;
}

}  // namespace longhaul
