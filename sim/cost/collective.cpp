// Collectives as NCCL runs them: algorithm and protocol by size, flows over the links; equations
// and symbols: docs/models/collectives.md.
#include "sim/cost/collective.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "sim/cost/transport.h"
#include "sim/topology/cluster_spec.h"
#include "sim/units/check.h"

namespace longhaul {

namespace {

constexpr double unlimited = 1e30;

// How a group lies on the cluster.
struct Placement {
  std::vector<std::vector<GpuId>> nodes;  ///< members by NVLink domain
  bool even = true;                       ///< every node has as many members
  bool nvlink = false;                    ///< neighbours in a node are joined by NVLink
  bool over_network = false;
  [[nodiscard]] std::size_t per_node() const { return nodes.front().size(); }
};

Placement place(const Cluster& cluster, std::span<const GpuId> gpus) {
  std::map<int, std::vector<GpuId>> by_domain;
  const bool domains = cluster.nvlink_domain_size() > 1;
  for (const GpuId gpu : gpus) {
    // Without NVLink the node is the unit.
    by_domain[domains ? cluster.nvlink_domain_of(gpu) : cluster.node_of(gpu)].push_back(gpu);
  }
  Placement placement;
  for (auto& [domain, members] : by_domain) {
    // NCCL lays its rings by the wiring, whatever the ranks' order; GPUs are numbered by wiring.
    std::sort(members.begin(), members.end());
    placement.nodes.push_back(std::move(members));
  }
  for (const auto& members : placement.nodes) {
    placement.even = placement.even && members.size() == placement.nodes.front().size();
  }
  placement.over_network = placement.nodes.size() > 1;
  const auto& first = placement.nodes.front();
  placement.nvlink = first.size() < 2
                         ? domains
                         : cluster.route(first[0], first[1]).path_class == PathClass::nvlink;
  return placement;
}

bool is_network(const Route& route) { return route.path_class == PathClass::network; }

// Steps of a ring, and how many of them cross the network.
struct Steps {
  double all = 0.0;
  double network = 0.0;
};

Steps steps_of(CollectiveKind kind, std::size_t members, std::size_t nodes) {
  const double n = static_cast<double>(members);
  const double crossings = nodes > 1 ? static_cast<double>(nodes) : 0.0;
  const double turns = kind == CollectiveKind::all_reduce ? 2.0 : 1.0;
  return {turns * (n - 1.0), crossings > 0.0 ? turns * (crossings - 1.0) : 0.0};
}

}  // namespace

TransportCosts::TransportCosts(Cluster cluster, std::shared_ptr<const TransportProfile> profile)
    : cluster_(std::move(cluster)), profile_(std::move(profile)) {
  const auto found = profile_->nvlink.find(cluster_.device().architecture);
  const auto other = profile_->nvlink.find("other");
  check(found != profile_->nvlink.end() || other != profile_->nvlink.end(),
        "a transport profile covers all architectures");
  nvlink_ = std::make_shared<const NvlinkEfficiency>(
      found != profile_->nvlink.end() ? found->second : other->second);
}

double TransportCosts::efficiency(LinkKind kind) const {
  switch (kind) {
    case LinkKind::nvlink: return nvlink_->ring;
    case LinkKind::pcie: return profile_->pcie;
    case LinkKind::network: return profile_->network;
    case LinkKind::c2c: return profile_->c2c;
    case LinkKind::host_memory: return profile_->host_memory;
    case LinkKind::cpu_bus: break;
  }
  return profile_->cpu_bus;
}

std::vector<BytesPerSecond> TransportCosts::link_capacities() const {
  std::vector<BytesPerSecond> capacities;
  for (const Link& link : cluster_.links()) {
    capacities.push_back(link.bandwidth * efficiency(link.kind));
  }
  return capacities;
}

// What a flow alone on its route reaches: the slowest link at its efficiency; less where the route
// is staged through host memory.
BytesPerSecond TransportCosts::route_rate(const Route& route) const {
  double rate = unlimited;
  for (const LinkId id : route.links) {
    const Link& link = cluster_.links()[id.index];
    double reached = link.bandwidth.value() * efficiency(link.kind);
    if (link.kind == LinkKind::pcie && route.path_class == PathClass::host_staged) {
      reached = std::min(reached, link.bandwidth.value() * profile_->host_staged);
    }
    rate = std::min(rate, reached);
  }
  return BytesPerSecond::of(rate);
}

void TransportCosts::add_flow(CollectivePlan& plan, GpuId from, GpuId to, double bytes,
                              double rate_cap) const {
  const Route& route = cluster_.route(from, to);
  PlannedFlow flow;
  flow.links = route.links;
  flow.bytes = Bytes::of(bytes);
  flow.latency = route.latency;
  flow.rate_cap = BytesPerSecond::of(std::min(rate_cap, route_rate(route).value()));
  plan.flows.push_back(std::move(flow));
}

double TransportCosts::protocol_rate(const TransportProtocol& protocol, double simple) const {
  const double share = simple * protocol.bandwidth;
  return protocol.limit.value() > 0.0 ? std::min(share, protocol.limit.value()) : share;
}

// The protocol that is fastest for a ring of these steps and a bottleneck of this rate.
const TransportProtocol& TransportCosts::choose(double steps, double network_steps, bool nvlink,
                                                double bytes, double rate, Seconds& latency) const {
  const TransportProtocol* best = nullptr;
  double least = std::numeric_limits<double>::infinity();
  for (const TransportProtocol& protocol : profile_->protocols) {
    const double hop = (nvlink ? protocol.nvlink_hop : protocol.pcie_hop).value();
    const double waiting = protocol.base.value() + (steps - network_steps) * hop +
                           network_steps * protocol.network_hop.value();
    const double time = waiting + bytes / protocol_rate(protocol, rate);
    if (time < least) {
      least = time;
      best = &protocol;
      latency = profile_->launch + Seconds::of(waiting);
    }
  }
  check(best != nullptr, "a transport profile has protocols");
  return *best;
}

// All channels of a ring collective at once, as fluid flows: every GPU passes `share` of the data
// to its neighbour in the node, and each of a node's k GPUs passes 1/k of it over its own NIC to
// the same member of the next node (NCCL builds one ring per NIC).
CollectivePlan TransportCosts::ring(const CollectiveRequest& request) const {
  const Placement placement = place(cluster_, request.gpus);
  const std::size_t n = request.gpus.size();
  const std::size_t k = placement.per_node();
  const std::size_t nodes = placement.nodes.size();
  const double turns = request.kind == CollectiveKind::all_reduce ? 2.0 : 1.0;
  // A broadcast passes the whole buffer on; the others keep the share that a GPU already has.
  const double passed = request.kind == CollectiveKind::broadcast
                            ? 1.0
                            : static_cast<double>(n - 1) / static_cast<double>(n);
  const double carried = turns * request.bytes.value() * passed;
  const Steps steps = steps_of(request.kind, n, nodes);
  CollectivePlan plan;
  plan.algorithm = "ring";
  const bool rails = placement.over_network && placement.even && k > 1;
  const double inside = placement.over_network
                            ? (rails ? static_cast<double>(k - 1) / static_cast<double>(k) : 1.0)
                            : 1.0;
  const double across = rails ? 1.0 / static_cast<double>(k) : 1.0;
  for (std::size_t node = 0; node < nodes; ++node) {
    const auto& members = placement.nodes[node];
    const auto& next = placement.nodes[(node + 1) % nodes];
    for (std::size_t i = 0; i < members.size(); ++i) {
      const bool last = i + 1 == members.size();
      const bool closes = !placement.over_network || rails;
      if (members.size() > 1 && (!last || closes)) {
        add_flow(plan, members[i], members[(i + 1) % members.size()], carried * inside, unlimited);
      }
      if (placement.over_network && (rails || last)) {
        add_flow(plan, members[i], next[rails ? i : 0], carried * across, unlimited);
      }
    }
  }
  finish_ring(plan, steps.all, steps.network, placement.nvlink, carried);
  plan.sms_held = placement.over_network ? profile_->sms_many_nodes : profile_->sms_one_node;
  return plan;
}

// Latency and rate by the protocol that suits the size.
void TransportCosts::finish_ring(CollectivePlan& plan, double steps, double network_steps,
                                 bool nvlink, double carried) const {
  double slowest = 0.0;
  for (const PlannedFlow& flow : plan.flows) {
    slowest = std::max(slowest, flow.bytes.value() / flow.rate_cap.value());
  }
  const double rate = slowest > 0.0 ? carried / slowest : unlimited;
  const TransportProtocol& protocol =
      choose(steps, network_steps, nvlink, carried, rate, plan.latency);
  const double factor = protocol_rate(protocol, rate) / rate;
  for (PlannedFlow& flow : plan.flows) {
    flow.rate_cap *= factor;
  }
  plan.relative_spread = profile_->spread;
}

// In-switch all-reduce: every GPU sends its buffer to the switch once and receives the sum once.
CollectivePlan TransportCosts::in_switch(const CollectiveRequest& request) const {
  CollectivePlan plan;
  plan.algorithm = "nvls";
  const std::size_t n = request.gpus.size();
  for (std::size_t i = 0; i < n; ++i) {
    add_flow(plan, request.gpus[i], request.gpus[(i + 1) % n], request.bytes.value(),
             cluster_.device().nvlink_bandwidth.value() * nvlink_->nvls);
  }
  plan.latency = profile_->launch + profile_->nvls_latency;
  plan.relative_spread = profile_->spread;
  plan.sms_held = profile_->sms_nvls;
  return plan;
}

// Two nodes: a double binary tree sends every byte over the NICs once each way.
CollectivePlan TransportCosts::two_node_tree(const CollectiveRequest& request) const {
  const Placement placement = place(cluster_, request.gpus);
  const double k = static_cast<double>(placement.per_node());
  CollectivePlan plan;
  plan.algorithm = "tree";
  for (std::size_t node = 0; node < 2; ++node) {
    const auto& members = placement.nodes[node];
    for (std::size_t i = 0; i < members.size(); ++i) {
      const GpuId peer = placement.nodes[1 - node][i];
      add_flow(plan, members[i], peer, request.bytes.value() / k,
               rail_bandwidth(cluster_.spec().node).value() * profile_->network_tree);
      if (members.size() > 1) {
        add_flow(plan, members[i], members[(i + 1) % members.size()],
                 2.0 * request.bytes.value() * (k - 1.0) / k, unlimited);
      }
    }
  }
  finish_ring(plan, 2.0 * k, 2.0, placement.nvlink, request.bytes.value());
  plan.sms_held = profile_->sms_many_nodes;
  return plan;
}

// All pairs at once.
CollectivePlan TransportCosts::pairwise(const CollectiveRequest& request) const {
  CollectivePlan plan;
  plan.algorithm = "pairwise";
  const std::size_t n = request.gpus.size();
  const double piece = request.bytes.value() / static_cast<double>(n);
  bool network = false;
  for (std::size_t i = 0; i < n; ++i) {
    std::size_t remote = 0;
    for (std::size_t j = 0; j < n; ++j) {
      remote += i != j && is_network(cluster_.route(request.gpus[i], request.gpus[j])) ? 1 : 0;
    }
    network = network || remote > 0;
    for (std::size_t step = 1; step < n; ++step) {
      const GpuId to = request.gpus[(i + step) % n];
      const Route& route = cluster_.route(request.gpus[i], to);
      double cap = unlimited;
      if (is_network(route)) {
        cap = rail_bandwidth(cluster_.spec().node).value() * profile_->network_all_to_all /
              static_cast<double>(remote);
      } else if (route.path_class == PathClass::nvlink) {
        cap = cluster_.device().nvlink_bandwidth.value() * nvlink_->all_to_all /
              static_cast<double>(n - 1 - remote);
      }
      add_flow(plan, request.gpus[i], to, piece, cap);
    }
  }
  const TransportProtocol& simple = profile_->protocols.back();
  plan.latency = profile_->launch + simple.base +
                 profile_->peer_latency * static_cast<double>(n - 1) +
                 (network ? simple.network_hop : Seconds());
  plan.relative_spread = profile_->spread;
  plan.sms_held = network ? profile_->sms_many_nodes : profile_->sms_one_node;
  return plan;
}

CollectivePlan TransportCosts::send(const CollectiveRequest& request) const {
  check(request.gpus.size() == 2, "a message has a sender and a receiver");
  CollectivePlan plan;
  plan.algorithm = "p2p";
  const Route& route = cluster_.route(request.gpus[0], request.gpus[1]);
  const bool nvlink = route.path_class == PathClass::nvlink;
  const double cap =
      nvlink ? cluster_.device().nvlink_bandwidth.value() * nvlink_->send : unlimited;
  add_flow(plan, request.gpus[0], request.gpus[1], request.bytes.value(), cap);
  const TransportProtocol& simple = profile_->protocols.back();
  plan.latency = profile_->launch + simple.base +
                 (is_network(route) ? simple.network_hop
                  : nvlink          ? simple.nvlink_hop
                                    : simple.pcie_hop);
  plan.relative_spread = profile_->spread;
  plan.sms_held = is_network(route) ? profile_->sms_send_many_nodes : profile_->sms_send_one_node;
  return plan;
}

CollectivePlan TransportCosts::lower(const CollectiveRequest& request) const {
  check(!request.gpus.empty(), "a collective has members");
  if (request.gpus.size() == 1 || request.bytes.value() <= 0.0) {
    CollectivePlan nothing;
    nothing.algorithm = "none";
    return nothing;
  }
  switch (request.kind) {
    case CollectiveKind::all_to_all: return pairwise(request);
    case CollectiveKind::send: return send(request);
    case CollectiveKind::all_reduce: break;
    default: return ring(request);
  }
  const Placement placement = place(cluster_, request.gpus);
  const bool switched = !placement.over_network && placement.nvlink && nvlink_->nvls > 0.0 &&
                        static_cast<int>(request.gpus.size()) >= profile_->nvls_from_gpus;
  std::vector<CollectivePlan> plans{ring(request)};
  if (switched) {
    plans.push_back(in_switch(request));
  }
  if (placement.over_network && placement.nodes.size() == 2 && placement.even) {
    plans.push_back(two_node_tree(request));
  }
  return *std::min_element(plans.begin(), plans.end(),
                           [&](const CollectivePlan& a, const CollectivePlan& b) {
                             return time_alone(a) < time_alone(b);
                           });
}

// On an idle cluster a plan ends with the link, or the capped flow, that has most to do.
Seconds TransportCosts::time_alone(const CollectivePlan& plan) const {
  std::map<LinkId, double> load;
  double longest = 0.0;
  double first_latency = 0.0;
  for (const PlannedFlow& flow : plan.flows) {
    for (const LinkId link : flow.links) {
      load[link] += flow.bytes.value();
    }
    longest = std::max(longest, flow.bytes.value() / flow.rate_cap.value());
    first_latency = std::max(first_latency, flow.latency.value());
  }
  for (const auto& [link, bytes] : load) {
    const Link& facts = cluster_.links()[link.index];
    longest = std::max(longest, bytes / (facts.bandwidth.value() * efficiency(facts.kind)));
  }
  return plan.latency + Seconds::of(first_latency + longest);
}

Seconds TransportCosts::alone(const CollectiveRequest& request) const {
  return time_alone(lower(request));
}

Bytes TransportCosts::communicator_memory(CollectiveKind kind, std::span<const GpuId> gpus) const {
  if (gpus.size() < 2) {
    return Bytes();
  }
  const bool network = place(cluster_, gpus).over_network;
  if (kind == CollectiveKind::send) {
    return profile_->peer_memory * 2.0;
  }
  if (kind == CollectiveKind::all_to_all) {
    return profile_->peer_memory * static_cast<double>(gpus.size() - 1);
  }
  return profile_->ring_memory *
         static_cast<double>(network ? profile_->sms_many_nodes : profile_->sms_one_node);
}

bool TransportCosts::calibrated() const { return profile_->calibrated; }

const std::vector<std::string>& TransportCosts::origins() const { return profile_->origins; }

}  // namespace longhaul
