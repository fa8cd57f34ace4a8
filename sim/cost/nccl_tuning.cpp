// Equations of NCCL 2.30 (src/graph/tuning.cc), in its terms: bus bandwidth is what the busiest
// GPU passes on, algorithm bandwidth the request's bytes over time.
#include "sim/cost/nccl_tuning.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "sim/units/check.h"

namespace longhaul {

namespace {

std::size_t index_of(NcclAlgorithm algorithm) { return static_cast<std::size_t>(algorithm); }
std::size_t index_of(NcclProtocol protocol) { return static_cast<std::size_t>(protocol); }

// Everything an equation needs, in one place.
struct Case {
  const TuningConstants& constants;
  const ArchitectureTuning& architecture;
  const TuningTopology& topology;
  CollectiveKind kind;
  NcclAlgorithm algorithm;
  NcclProtocol protocol;

  [[nodiscard]] double ranks() const { return topology.ranks; }
  [[nodiscard]] double nodes() const { return topology.nodes; }
  [[nodiscard]] double per_node() const { return ranks() / nodes(); }
  [[nodiscard]] std::size_t scale() const {
    return static_cast<std::size_t>(std::min(topology.nodes, 3) - 1);
  }
  [[nodiscard]] bool one_way() const {
    return kind == CollectiveKind::all_gather || kind == CollectiveKind::reduce_scatter;
  }
  // Steps of a ring.
  [[nodiscard]] double steps() const {
    return kind == CollectiveKind::all_reduce ? 2.0 * (ranks() - 1.0)
           : one_way()                        ? ranks() - 1.0
                                              : ranks();
  }
  [[nodiscard]] double network_steps() const {
    const double turns = kind == CollectiveKind::all_reduce ? 2.0 : 1.0;
    return topology.nodes > 1 ? turns * (nodes() - 1.0) : 0.0;
  }
};

// NCCL has each algorithm for some collectives only; trees and rings exist everywhere.
bool available(const Case& c) {
  const bool reduce = c.kind == CollectiveKind::all_reduce;
  const bool simple = c.protocol == NcclProtocol::simple;
  if (c.protocol == NcclProtocol::ll128 && !c.topology.ll128) {
    return false;
  }
  switch (c.algorithm) {
    case NcclAlgorithm::ring: return true;
    case NcclAlgorithm::tree: return reduce;
    case NcclAlgorithm::nvls:
      return simple && c.topology.in_switch && c.topology.nodes == 1 && (reduce || c.one_way());
    case NcclAlgorithm::nvls_tree:
      return simple && c.topology.in_switch && c.topology.nodes > 1 && reduce;
    case NcclAlgorithm::pat: return simple && c.one_way() && c.topology.ranks == c.topology.nodes;
  }
  return false;
}

double ring_bus(const Case& c) {
  const ChannelGraph& graph = c.topology.ring;
  const double channel = (c.topology.nodes <= 2 ? graph.intra : graph.inter).value();
  const double bus = graph.channels * channel;
  switch (c.protocol) {
    case NcclProtocol::ll: return std::min(c.architecture.ll_limit[c.scale()].value(), 0.5 * bus);
    case NcclProtocol::ll128:
      // One GPU per node sends and receives through the same NIC at once.
      return std::min(bus * (c.per_node() < 2.0 ? 0.7 : 0.92),
                      graph.channels * c.architecture.ring_ll128[c.scale()].value());
    case NcclProtocol::simple: break;
  }
  return bus;
}

double tree_bus(const Case& c) {
  const ChannelGraph& graph = c.topology.tree;
  const double channel = (c.topology.nodes <= 2 ? graph.intra : graph.inter).value();
  const double bus = std::min(0.92 * graph.channels * channel,
                              graph.channels * c.architecture.tree_simple[c.scale()].value());
  switch (c.protocol) {
    case NcclProtocol::ll: return std::min(bus / 3.8, c.architecture.ll_limit[c.scale()].value());
    case NcclProtocol::ll128:
      return std::min(bus * (c.topology.nodes == 1 ? 7.0 / 9.0 : 120.0 / 128.0),
                      graph.channels * c.architecture.tree_ll128[c.scale()].value());
    case NcclProtocol::simple: break;
  }
  return bus;
}

// In-switch: every head (GPU) receives the sum of its share and multicasts it.
double nvls_bus(const Case& c) {
  const ChannelGraph& graph = c.topology.nvls;
  const double heads = graph.channels;
  const double use =
      c.kind == CollectiveKind::all_reduce ? 2.0 : (c.per_node() - 1.0) / c.per_node();
  const double intra =
      graph.intra.value() * c.architecture.nvls_efficiency * (heads - 1.0) / heads * use;
  const double inter = graph.inter.value() *
                       (c.algorithm == NcclAlgorithm::nvls_tree && c.topology.nodes > 2 ? 0.5 : 1);
  return heads * std::min(intra, inter);
}

double algorithm_bandwidth(const Case& c) {
  switch (c.algorithm) {
    case NcclAlgorithm::ring: return ring_bus(c) * c.ranks() / c.steps();
    case NcclAlgorithm::tree: return 0.5 * tree_bus(c);
    case NcclAlgorithm::pat: return 0.75 * ring_bus(c) * c.ranks() / c.steps();
    case NcclAlgorithm::nvls:
    case NcclAlgorithm::nvls_tree: break;
  }
  // All-gather and reduce-scatter count the bus itself.
  return nvls_bus(c) * (c.kind == CollectiveKind::all_reduce ? c.ranks() / c.steps() : 1.0);
}

double ring_latency(const Case& c, double intra, double inter) {
  if (!c.one_way() && c.kind != CollectiveKind::all_reduce) {
    return c.topology.nodes > 1 ? inter : intra;  // a broadcast flows through: one hop
  }
  const double overhead =
      c.topology.nodes > 1
          ? c.constants.network_overhead.value() * (c.protocol == NcclProtocol::simple ? 3.0 : 1.0)
          : 0.0;
  return (c.steps() - c.network_steps()) * std::max(intra, overhead) + c.network_steps() * inter;
}

double latency(const Case& c) {
  const std::size_t p = index_of(c.protocol);
  const AlgorithmLatency& own = c.constants.latency[index_of(c.algorithm)];
  const bool alone_on_node = c.topology.ranks == c.topology.nodes;
  // With one GPU per node a ring's step costs what a tree's does.
  const AlgorithmLatency& net = alone_on_node && c.algorithm == NcclAlgorithm::ring
                                    ? c.constants.latency[index_of(NcclAlgorithm::tree)]
                                    : own;
  const double intra = (c.topology.nvlink ? own.nvlink : own.pcie)[p].value();
  const double flush = c.protocol == NcclProtocol::simple ? 2.0 : 1.0;
  const double inter = net.network[p].value() + flush * c.topology.network_latency.value();
  const double depth = std::floor(std::log2(c.nodes()));
  const double base = own.base[p].value();
  switch (c.algorithm) {
    case NcclAlgorithm::ring: return base + ring_latency(c, intra, inter);
    case NcclAlgorithm::tree:
      return base + 2.0 * ((std::floor(c.per_node()) - 1.0) * intra + depth * inter);
    case NcclAlgorithm::nvls: return intra;
    case NcclAlgorithm::nvls_tree: return base + intra + 2.0 * depth * inter;
    case NcclAlgorithm::pat: break;
  }
  // 2.8 us per rank: local reductions and copies of its many small pieces.
  return base + depth * inter / 3.5 + 2.8e-6 * c.ranks();
}

}  // namespace

const ArchitectureTuning& TuningConstants::architecture(const std::string& name) const {
  const auto by_name = [&](const std::string& wanted) {
    return std::find_if(architectures.begin(), architectures.end(),
                        [&](const ArchitectureTuning& item) { return item.name == wanted; });
  };
  auto found = by_name(name);
  found = found == architectures.end() ? by_name("other") : found;
  check(found != architectures.end(), "a transport profile covers all architectures");
  return *found;
}

TuningEstimate estimate(const TuningConstants& constants, const std::string& architecture,
                        const TuningTopology& topology, CollectiveKind kind,
                        NcclAlgorithm algorithm, NcclProtocol protocol) {
  const Case c{constants, constants.architecture(architecture), topology, kind, algorithm,
               protocol};
  if (topology.ranks < 2 || !available(c)) {
    return {};
  }
  return {Seconds::of(latency(c)), BytesPerSecond::of(algorithm_bandwidth(c))};
}

Seconds expected_time(const TuningConstants& constants, const std::string& architecture,
                      const TuningTopology& topology, CollectiveKind kind, NcclAlgorithm algorithm,
                      NcclProtocol protocol, Bytes bytes) {
  TuningEstimate expected = estimate(constants, architecture, topology, kind, algorithm, protocol);
  check(expected.bandwidth > BytesPerSecond(), "the algorithm is available");
  const std::vector<double>& factors = constants.tree_correction[index_of(protocol)];
  if (algorithm == NcclAlgorithm::tree && bytes.value() >= 64.0) {
    const auto size = static_cast<std::uint64_t>(bytes.value()) >> 6;
    const auto place = static_cast<std::size_t>(std::bit_width(size) - 1);
    expected.bandwidth *= place < factors.size() ? factors[place] : 1.0;
  }
  const double per_channel = bytes.value() / (topology.ring.channels * topology.ranks);
  if (algorithm == NcclAlgorithm::ring && protocol == NcclProtocol::simple && topology.nodes > 1 &&
      kind == CollectiveKind::all_reduce && per_channel >= 64.0) {
    expected.latency *= constants.architecture(architecture).ring_plateau;
  }
  return expected.latency + bytes / expected.bandwidth;
}

}  // namespace longhaul
