#include "sim/cost/link_loads.h"

#include <algorithm>

namespace longhaul {

namespace {

// What a link is to a collective: one within nodes, or part of the way to and over the network.
enum class Role : std::uint8_t { within, network, to_nic, to_nic_through_host };

struct LinkLoad {
  std::uint32_t link = 0;
  Role role = Role::within;
  double bytes = 0.0;
};

Role role_of(LinkKind kind, bool network, bool host) {
  if (kind == LinkKind::network) {
    return Role::network;
  }
  if (network && kind == LinkKind::pcie) {
    return host ? Role::to_nic_through_host : Role::to_nic;
  }
  return Role::within;
}

// One entry for every link of every flow, in the order of the flows.
std::vector<LinkLoad> all_crossings(const Cluster& cluster, const FlowPattern& traffic) {
  const auto links = cluster.links();
  std::vector<LinkLoad> crossings;
  for (const PlannedFlow& flow : traffic.flows) {
    bool host = false;
    bool network = false;
    for (const LinkId link : flow.links) {
      host = host || links[link.index].kind == LinkKind::host_memory;
      network = network || links[link.index].kind == LinkKind::network;
    }
    for (const LinkId link : flow.links) {
      crossings.push_back(
          {link.index, role_of(links[link.index].kind, network, host), flow.bytes.value()});
    }
  }
  return crossings;
}

// Sums over the entries of each link. A message crosses few of many links, an all-to-all each of
// them often: the one is sorted, the other counted.
std::vector<LinkLoad> summed(std::vector<LinkLoad> crossings, std::size_t links) {
  std::vector<LinkLoad> sums;
  if (crossings.size() < links) {
    std::stable_sort(crossings.begin(), crossings.end(),
                     [](const LinkLoad& a, const LinkLoad& b) { return a.link < b.link; });
    for (const LinkLoad& crossing : crossings) {
      if (sums.empty() || sums.back().link != crossing.link) {
        sums.push_back({crossing.link, crossing.role, 0.0});
      }
      sums.back().bytes += crossing.bytes;
      sums.back().role = std::max(sums.back().role, crossing.role);
    }
    return sums;
  }
  sums.resize(links);
  for (const LinkLoad& crossing : crossings) {
    LinkLoad& sum = sums[crossing.link];
    sum.link = crossing.link;
    sum.bytes += crossing.bytes;
    sum.role = std::max(sum.role, crossing.role);
  }
  return sums;
}

double share_of(const Reach& reach, LinkKind kind, Role role) {
  switch (role) {
    case Role::network: return reach.network;
    case Role::to_nic: return 1.0;
    case Role::to_nic_through_host: return reach.through_host;
    case Role::within: break;
  }
  return kind == LinkKind::nvlink || kind == LinkKind::pcie ? reach.within.share : 1.0;
}

}  // namespace

double usable_share(const TransportProfile& profile, LinkKind kind) {
  switch (kind) {
    case LinkKind::nvlink: return profile.links.nvlink;
    case LinkKind::pcie: return profile.links.pcie;
    case LinkKind::network: return profile.links.network;
    case LinkKind::c2c: return profile.links.c2c;
    case LinkKind::host_memory: return profile.links.host_memory;
    case LinkKind::cpu_bus: break;
  }
  return profile.links.cpu_bus;
}

Loads loads_of(const TransportProfile& profile, const Cluster& cluster, const FlowPattern& traffic,
               const Reach& reach) {
  const auto links = cluster.links();
  // Copying its own piece takes a GPU the time of as many bytes more.
  const double copied = 1.0 + reach.within.own * traffic.own;
  Loads loads;
  for (const LinkLoad& load : summed(all_crossings(cluster, traffic), links.size())) {
    if (load.bytes <= 0.0) {
      continue;
    }
    const Link& link = links[load.link];
    const double usable = usable_share(profile, link.kind);
    const double time = load.bytes / link.bandwidth.value();
    const double share = std::min(usable, share_of(reach, link.kind, load.role));
    loads.least = std::max(loads.least, time / usable);
    double& longest = load.role == Role::within ? loads.inside : loads.network;
    longest = std::max(longest, time / share * (load.role == Role::within ? copied : 1.0));
  }
  return loads;
}

double wire_latency(const Cluster& cluster, const FlowPattern& traffic) {
  double longest = 0.0;
  for (const PlannedFlow& flow : traffic.flows) {
    double sum = 0.0;
    for (const LinkId link : flow.links) {
      const Link& facts = cluster.links()[link.index];
      sum += facts.kind == LinkKind::network ? facts.latency.value() : 0.0;
    }
    longest = std::max(longest, sum);
  }
  return longest;
}

}  // namespace longhaul
