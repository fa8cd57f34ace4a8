// Bisection bandwidth: the only place that needs more of a graph than its paths.
#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/push_relabel_max_flow.hpp>
#include <cmath>

#include "sim/topology/cluster_graph.h"

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

std::optional<BytesPerSecond> Cluster::bisection_bandwidth() const {
  const std::size_t count = graph_->gpus.size();
  if (count < 2 || count > bisection_limit) {
    return std::nullopt;
  }
  std::vector<bool> used(graph_->links.size());
  for (std::size_t from = 0; from < count / 2; ++from) {
    for (std::size_t to = count / 2; to < count; ++to) {
      for (const LinkId link : graph_->route_of(graph_->gpu_path(from, to)).links) {
        used[link.index] = true;
      }
    }
  }
  const FlowVertex source = graph_->kinds.size();
  FlowGraph flow(source + 2);
  for (std::size_t link = 0; link < used.size(); ++link) {
    if (used[link]) {
      // Whole bytes per second, so that the flow is exact.
      add_capacity(flow, graph_->ends[link ^ 1U], graph_->ends[link],
                   std::llround(graph_->links[link].bandwidth.value()));
    }
  }
  for (std::size_t gpu = 0; gpu < count; ++gpu) {
    const bool sends = gpu < count / 2;
    const std::int64_t unlimited = std::int64_t{1} << 52;
    const FlowVertex vertex = graph_->gpus[gpu];
    add_capacity(flow, sends ? source : vertex, sends ? vertex : source + 1, unlimited);
  }
  const std::int64_t most = boost::push_relabel_max_flow(flow, source, source + 1);
  return BytesPerSecond::of(static_cast<double>(most));
}

}  // namespace longhaul
