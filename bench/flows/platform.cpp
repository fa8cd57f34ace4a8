#include "bench/flows/platform.h"

namespace longhaul::bench {

namespace {

Path path_of(std::initializer_list<LinkId> links, double latency) {
  Path path;
  for (const LinkId link : links) {
    path.links[path.count++] = link;
  }
  path.latency = latency;
  return path;
}

LinkId link_at(std::int64_t index) { return LinkId(static_cast<std::size_t>(index)); }

}  // namespace

Rail8::Rail8(std::int64_t gpus, double oversubscription)
    : gpus_(gpus), oversubscription_(oversubscription) {}

// Per GPU: NVLink up, NVLink down, NIC up, NIC down; then per pod and rail: leaf up, leaf down.
std::vector<double> Rail8::capacities() const {
  std::vector<double> all;
  for (std::int64_t gpu = 0; gpu < gpus_; ++gpu) {
    all.insert(all.end(), {nvlink, nvlink, nic, nic});
  }
  all.insert(all.end(), static_cast<std::size_t>(pods() * node * 2), leaf());
  return all;
}

LinkId Rail8::of_gpu(std::int64_t gpu, int which) const { return link_at(4 * gpu + which); }

LinkId Rail8::of_leaf(std::int64_t gpu, int which) const {
  const std::int64_t pod = gpu / node / pod_nodes;
  return link_at(4 * gpus_ + 2 * (pod * node + gpu % node) + which);
}

Path Rail8::route(std::int64_t from, std::int64_t to) const {
  if (from / node == to / node) {
    return path_of({of_gpu(from, 0), of_gpu(to, 1)}, 1e-6);
  }
  const bool same_pod = from / node / pod_nodes == to / node / pod_nodes;
  if (same_pod && from % node == to % node) {
    return path_of({of_gpu(from, 2), of_gpu(to, 3)}, 2e-6);
  }
  return path_of({of_gpu(from, 2), of_leaf(from, 0), of_leaf(to, 1), of_gpu(to, 3)}, 5e-6);
}

FatTree::FatTree(std::int64_t k, std::int64_t oversubscription)
    : k_(k), half_(k / 2), hosts_per_edge_(oversubscription * (k / 2)) {}

// Up and down links of hosts, then of (edge, aggregation) and of (aggregation, core).
std::vector<double> FatTree::capacities() const {
  const std::int64_t switch_links = 2 * k_ * half_ * half_;
  return std::vector<double>(static_cast<std::size_t>(2 * hosts() + 2 * switch_links), rate);
}

Path FatTree::route(std::int64_t from, std::int64_t to, std::uint64_t hash) const {
  const std::int64_t edge_from = from / hosts_per_edge_;
  const std::int64_t edge_to = to / hosts_per_edge_;
  const LinkId up = link_at(2 * from);
  const LinkId down = link_at(2 * to + 1);
  if (edge_from == edge_to) {
    return path_of({up, down}, 2e-6);
  }
  const std::int64_t a = static_cast<std::int64_t>(hash % static_cast<std::uint64_t>(half_));
  const std::int64_t first = 2 * hosts();
  const LinkId rise = link_at(first + 2 * (edge_from * half_ + a));
  const LinkId fall = link_at(first + 2 * (edge_to * half_ + a) + 1);
  const std::int64_t pod_from = edge_from / half_;
  const std::int64_t pod_to = edge_to / half_;
  if (pod_from == pod_to) {
    return path_of({up, rise, fall, down}, 4e-6);
  }
  const std::int64_t c = static_cast<std::int64_t>(hash / static_cast<std::uint64_t>(half_) %
                                                   static_cast<std::uint64_t>(half_));
  const std::int64_t upper = first + 2 * k_ * half_ * half_;
  const LinkId to_core = link_at(upper + 2 * ((pod_from * half_ + a) * half_ + c));
  const LinkId from_core = link_at(upper + 2 * ((pod_to * half_ + a) * half_ + c) + 1);
  return path_of({up, rise, to_core, from_core, fall, down}, 6e-6);
}

}  // namespace longhaul::bench
