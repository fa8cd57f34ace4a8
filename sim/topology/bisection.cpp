// Bisection bandwidth: the only place that needs more of a graph than its paths.
#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/push_relabel_max_flow.hpp>
#include <cmath>
#include <map>
#include <set>

#include "sim/topology/cluster_graph.h"
#include "sim/units/check.h"

namespace longhaul {

namespace {

using FlowTraits = boost::adjacency_list_traits<boost::vecS, boost::vecS, boost::directedS>;
using FlowVertex = FlowTraits::vertex_descriptor;
using FlowGraph = boost::adjacency_list<
    boost::vecS, boost::vecS, boost::directedS, boost::no_property,
    boost::property<
        boost::edge_capacity_t, std::int64_t,
        boost::property<boost::edge_residual_capacity_t, std::int64_t,
                        boost::property<boost::edge_reverse_t, FlowTraits::edge_descriptor>>>>;

void add_capacity(FlowGraph& flow, FlowVertex from, FlowVertex to, std::int64_t capacity) {
  const auto forth = boost::add_edge(from, to, flow).first;
  const auto back = boost::add_edge(to, from, flow).first;
  boost::put(boost::edge_capacity, flow, forth, capacity);
  boost::put(boost::edge_capacity, flow, back, 0);
  boost::put(boost::edge_reverse, flow, forth, back);
  boost::put(boost::edge_reverse, flow, back, forth);
}

}  // namespace

namespace {

/// Maximum flow over the links of a cluster that are marked as used.
class MaxFlow {
 public:
  explicit MaxFlow(const Cluster::Graph& graph) : graph_(graph) {}

  void use(const Route& route) { used_.insert(route.links.begin(), route.links.end()); }

  BytesPerSecond run(std::span<const GpuId> senders, std::span<const GpuId> receivers) {
    FlowGraph flow(2);
    for (const LinkId link : used_) {
      // Whole bytes per second, so that the flow is exact.
      add_capacity(flow, number(graph_.ends[link.index ^ 1U], flow),
                   number(graph_.ends[link.index], flow),
                   std::llround(graph_.links[link.index].bandwidth.value()));
    }
    const std::int64_t unlimited = std::int64_t{1} << 52;
    for (const GpuId gpu : senders) {
      add_capacity(flow, source, number(graph_.gpus[gpu.index], flow), unlimited);
    }
    for (const GpuId gpu : receivers) {
      add_capacity(flow, number(graph_.gpus[gpu.index], flow), sink, unlimited);
    }
    return BytesPerSecond::of(
        static_cast<double>(boost::push_relabel_max_flow(flow, source, sink)));
  }

 private:
  static constexpr FlowVertex source = 0;
  static constexpr FlowVertex sink = 1;

  /// Only vertices on the way become vertices of the flow.
  FlowVertex number(Vertex vertex, FlowGraph& flow) {
    const auto [entry, fresh] = numbers_.emplace(vertex, 0);
    if (fresh) {
      entry->second = boost::add_vertex(flow);
    }
    return entry->second;
  }

  const Cluster::Graph& graph_;
  std::set<LinkId> used_;
  std::map<Vertex, FlowVertex> numbers_;
};

/// What a leaf has towards one half of the nodes.
struct LeafSides {
  BytesPerSecond first;
  BytesPerSecond second;
};

}  // namespace

BytesPerSecond Cluster::flow_between(std::span<const GpuId> senders,
                                     std::span<const GpuId> receivers) const {
  check(senders.size() + receivers.size() <= static_cast<std::size_t>(bisection_limit),
        "maximum flows are of few GPUs");
  MaxFlow flow(*graph_);
  for (const GpuId from : senders) {
    for (const GpuId to : receivers) {
      check(from != to, "no GPU sends to itself");
      flow.use(graph_->route_of(graph_->gpu_path(from.index, to.index)));
    }
  }
  return flow.run(senders, receivers);
}

std::optional<BytesPerSecond> Cluster::bisection_bandwidth() const {
  const std::size_t count = graph_->gpus.size();
  if (count < 2 || count > bisection_limit) {
    return std::nullopt;
  }
  std::vector<GpuId> gpus;
  for (std::size_t gpu = 0; gpu < count; ++gpu) {
    gpus.emplace_back(gpu);
  }
  return flow_between(std::span(gpus).first(count / 2), std::span(gpus).subspan(count / 2));
}

/// Within a leaf, as much as the weaker side has; what remains of the others goes over the spine,
/// as far as the leaves' uplinks carry it.
std::optional<BytesPerSecond> Cluster::fabric_bisection() const {
  if (graph_->leaf_of_nic.empty() || node_count() < 2) {
    return std::nullopt;
  }
  std::map<Vertex, LeafSides> leaves;
  const std::size_t rails = graph_->node.rails.size();
  const std::size_t half = static_cast<std::size_t>(node_count() / 2) * rails;
  for (std::size_t nic = 0; nic < graph_->nics.size(); ++nic) {
    LeafSides& sides = leaves[graph_->leaf_of_nic[nic]];
    (nic < half ? sides.first : sides.second) += graph_->node.rails[nic % rails].rate;
  }
  BytesPerSecond within;
  BytesPerSecond up;
  BytesPerSecond down;
  for (const auto& [leaf, sides] : leaves) {
    const BytesPerSecond uplink =
        graph_->links[graph_->link_between(leaf, graph_->spine)->index].bandwidth;
    const BytesPerSecond direct = std::min(sides.first, sides.second);
    within += direct;
    up += std::min(sides.first - direct, uplink);
    down += std::min(sides.second - direct, uplink);
  }
  return within + std::min(up, down);
}

}  // namespace longhaul
