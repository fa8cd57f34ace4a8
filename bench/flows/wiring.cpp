// Rings on rails, whole and folded by symmetry.
#include <numeric>

#include "bench/flows/arguments.h"
#include "bench/flows/phased.h"

namespace longhaul::bench {

RailRings::RailRings(std::int64_t gpus, std::int64_t group, double oversubscription, bool one_ring)
    : gpus_(gpus), group_(group), one_ring_(one_ring), rail_(gpus, oversubscription) {}

Hop RailRings::hop(Ring ring, std::uint32_t gpu) const {
  const std::int64_t from = gpu;
  std::int64_t to = 0;
  if (one_ring_) {
    to = from + 1 == gpus_ ? 0 : from + 1;
  } else if (ring == Ring::inner) {
    to = (from & ~std::int64_t{7}) + ((from + 1) & 7);
  } else {
    const std::int64_t node = from / Rail8::node;
    const std::int64_t group = ring == Ring::all ? gpus_ / Rail8::node : group_;
    const std::int64_t first = ring == Ring::all ? 0 : node - node % group;
    const std::int64_t next = node + 1 == first + group ? first : node + 1;
    to = next * Rail8::node + from % Rail8::node;
  }
  Hop hop;
  hop.to = static_cast<std::uint32_t>(to);
  hop.path = rail_.route(from, to);
  return hop;
}

FoldedRing::FoldedRing(std::int64_t gpus, double oversubscription)
    : gpus_(gpus), rail_(8, oversubscription) {
  const std::int64_t nodes = gpus / Rail8::node;
  if (gpus % Rail8::node != 0 || nodes == 0 ||
      (nodes > Rail8::pod_nodes && nodes % Rail8::pod_nodes != 0)) {
    throw ArgumentError("ringq folds whole nodes, and whole pods (256 GPUs) where there are more");
  }
}

std::int64_t FoldedRing::gpus() const { return Rail8::node; }

std::int64_t FoldedRing::multiplicity() const { return gpus_ / Rail8::node; }

std::vector<double> FoldedRing::capacities() const { return rail_.capacities(); }

// The last GPU of a node sends to the first of the next; on a leaf meet those of all its nodes.
Hop FoldedRing::hop(Ring, std::uint32_t gpu) const {
  Hop hop;
  hop.to = (gpu + 1) % 8;
  if (gpu < 7 || gpus_ == Rail8::node) {
    hop.path = rail_.route(gpu, hop.to);
    return hop;
  }
  const std::uint32_t nodes =
      static_cast<std::uint32_t>(std::min(gpus_ / Rail8::node, Rail8::pod_nodes));
  const std::size_t leaves = 4 * 8;
  hop.path.links = {LinkId(4 * 7 + 2), LinkId(leaves + 2 * 7), LinkId(leaves + 1), LinkId(3)};
  hop.path.count = 4;
  hop.path.latency = 5e-6;
  hop.weights = {1, nodes, nodes, 1};
  hop.folded = true;
  return hop;
}

FoldedRails::FoldedRails(std::int64_t gpus, std::int64_t group, double oversubscription)
    : nodes_(gpus / Rail8::node), group_(group), period_(group), rail_(8, oversubscription) {
  if (nodes_ > Rail8::pod_nodes) {
    period_ = std::lcm(group, Rail8::pod_nodes);
  }
  if (nodes_ % period_ != 0) {
    throw ArgumentError(
        "stepq folds whole pods and groups: the nodes (G/8) must be a multiple of " +
        std::to_string(period_));
  }
}

// Per node: NVLink up, down, NIC up, down of one GPU; per pod: leaf up, down of one rail.
std::vector<double> FoldedRails::capacities() const {
  std::vector<double> all;
  for (std::int64_t node = 0; node < period_; ++node) {
    all.insert(all.end(), {Rail8::nvlink, Rail8::nvlink, Rail8::nic, Rail8::nic});
  }
  const std::int64_t pods = (period_ + Rail8::pod_nodes - 1) / Rail8::pod_nodes;
  all.insert(all.end(), static_cast<std::size_t>(2 * pods), rail_.leaf());
  return all;
}

// `from`, `to`: nodes of the whole cluster.
Path FoldedRails::path(std::int64_t from, std::int64_t to) const {
  const std::int64_t pod_from = from / Rail8::pod_nodes;
  const std::int64_t pod_to = to / Rail8::pod_nodes;
  const std::int64_t pods = (period_ + Rail8::pod_nodes - 1) / Rail8::pod_nodes;
  const auto link = [](std::int64_t index) { return LinkId(static_cast<std::size_t>(index)); };
  Path path;
  path.links[path.count++] = link(4 * (from % period_) + 2);
  if (pod_from != pod_to) {
    path.links[path.count++] = link(4 * period_ + 2 * (pod_from % pods));
    path.links[path.count++] = link(4 * period_ + 2 * (pod_to % pods) + 1);
  }
  path.links[path.count++] = link(4 * (to % period_) + 3);
  path.latency = pod_from == pod_to ? 2e-6 : 5e-6;
  return path;
}

Hop FoldedRails::hop(Ring ring, std::uint32_t gpu) const {
  Hop hop;
  const std::int64_t node = gpu;
  if (ring == Ring::inner) {
    // All 8 GPUs of a node do alike: what one receives it has sent itself.
    hop.to = gpu;
    hop.path.links = {LinkId(4 * std::size_t{gpu}), LinkId(4 * std::size_t{gpu} + 1)};
    hop.path.count = 2;
    hop.path.latency = 1e-6;
    return hop;
  }
  const std::int64_t group = ring == Ring::all ? nodes_ : group_;
  const std::int64_t first = ring == Ring::all ? 0 : node - node % group;
  const std::int64_t next = node + 1 == first + group ? first : node + 1;
  hop.to = static_cast<std::uint32_t>(next % period_);
  hop.path = path(node, next);
  return hop;
}

}  // namespace longhaul::bench
