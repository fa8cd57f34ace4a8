#include "sim/topology/node_wiring.h"

#include <algorithm>
#include <map>

#include "sim/units/check.h"

namespace longhaul {

namespace {

BytesPerSecond either(BytesPerSecond stated, BytesPerSecond otherwise) {
  return stated > BytesPerSecond{} ? stated : otherwise;
}

/// Slots as the node says, or else as the device has them.
struct Slots {
  BytesPerSecond gpu;
  BytesPerSecond nic;
  explicit Slots(const NodeSpec& node)
      : gpu(either(node.pcie.gpu_slot, node.device.pcie_bandwidth)),
        nic(either(node.pcie.nic_slot, node.device.pcie_bandwidth)) {}
};

NodeWiring wire_blocks(const NodeSpec& node) {
  const Slots slots(node);
  NodeWiring wiring;
  for (int i = 0; i < node.pcie.switches; ++i) {
    const int socket = i * node.host.sockets / node.pcie.switches;
    wiring.switches.push_back(
        {{Seat::Kind::socket, socket, std::nullopt}, node.pcie.switch_uplink});
  }
  const auto kind = node.pcie.switches > 0 ? Seat::Kind::pcie_switch : Seat::Kind::socket;
  for (int i = 0; i < node.gpus; ++i) {
    wiring.gpus.push_back({{kind, i / gpus_per_switch(node), std::nullopt}, slots.gpu});
  }
  const int rail_count = std::min(node.nics.count, node.gpus);
  for (int rail = 0; rail < rail_count; ++rail) {
    const int merged = node.nics.count / rail_count;
    // A NIC sits beside the first of its GPUs.
    const Seat& seat = wiring.gpus[static_cast<std::size_t>(rail * (node.gpus / rail_count))].seat;
    wiring.rails.push_back({seat, node.nics.bandwidth * merged, slots.nic * merged});
  }
  for (int i = 0; i < node.gpus && rail_count > 0; ++i) {
    wiring.rail_of_gpu.push_back(i / (node.gpus / rail_count));
  }
  return wiring;
}

/// How far a NIC is from a GPU, by what lies between.
enum class Distance { same_switch, switch_above, same_socket, other_socket };

/// The lowest seat above both; the first one's socket if they share no switch.
Seat meeting_of(const Layout& layout, const Seat& a, const Seat& b) {
  const std::vector<Seat> above = seats_above(layout.switches, b);
  const std::vector<Seat> mine = seats_above(layout.switches, a);
  for (const Seat& seat : mine) {
    if (seat.kind == Seat::Kind::pcie_switch &&
        std::find(above.begin(), above.end(), seat) != above.end()) {
      return seat;
    }
  }
  return mine.back();
}

Distance distance(const Layout& layout, const Seat& gpu, const Seat& nic) {
  if (gpu.kind == Seat::Kind::pcie_switch && gpu == nic) {
    return Distance::same_switch;
  }
  if (meeting_of(layout, gpu, nic).kind == Seat::Kind::pcie_switch) {
    return Distance::switch_above;
  }
  const bool one_socket = seats_above(layout.switches, gpu).back().index ==
                          seats_above(layout.switches, nic).back().index;
  return one_socket ? Distance::same_socket : Distance::other_socket;
}

/// Numbers of the NICs nearest to a GPU, ascending; those for storage do not count.
std::vector<int> nearest(const Layout& layout, const Seat& gpu) {
  std::vector<int> found;
  Distance best = Distance::other_socket;
  for (std::size_t i = 0; i < layout.nics.size(); ++i) {
    if (layout.nics[i].storage) {
      continue;
    }
    const Distance here = distance(layout, gpu, layout.nics[i].seat);
    if (here < best) {
      found.clear();
    }
    if (here <= best) {
      found.push_back(static_cast<int>(i));
      best = here;
    }
  }
  return found;
}

class Wirer {
 public:
  explicit Wirer(const NodeSpec& node) : node_(node), layout_(*node.layout), slots_(node) {}

  NodeWiring wire() {
    wiring_.switches = layout_.switches;
    for (SwitchPlace& place : wiring_.switches) {
      place.uplink = either(place.uplink, node_.pcie.switch_uplink);
    }
    wiring_.gpus = layout_.gpus;
    for (GpuPlace& place : wiring_.gpus) {
      place.slot = either(place.slot, slots_.gpu);
    }
    deal_nics();
    return std::move(wiring_);
  }

 private:
  void deal_nics() {
    std::map<std::vector<int>, std::vector<int>> users;  // of each set of nearest NICs
    for (std::size_t gpu = 0; gpu < layout_.gpus.size(); ++gpu) {
      users[nearest(layout_, layout_.gpus[gpu].seat)].push_back(static_cast<int>(gpu));
    }
    if (users.begin()->first.empty()) {
      return;
    }
    std::map<std::vector<int>, std::vector<int>> sharers;  // of each logical NIC
    for (const auto& [nics, gpus] : users) {
      for (std::size_t i = 0; i < gpus.size(); ++i) {
        sharers[share(nics, gpus.size(), i)].push_back(gpus[i]);
      }
    }
    wiring_.rail_of_gpu.resize(layout_.gpus.size());
    for (const auto& [nics, gpus] : sharers) {
      for (const int gpu : gpus) {
        wiring_.rail_of_gpu[static_cast<std::size_t>(gpu)] = static_cast<int>(wiring_.rails.size());
      }
      wiring_.rails.push_back(merge(nics));
    }
  }

  /// What user `i` of `users` gets of `nics`: an equal block of them, or one with others.
  [[nodiscard]] static std::vector<int> share(const std::vector<int>& nics, std::size_t users,
                                              std::size_t i) {
    const std::size_t first = i * nics.size() / users;
    const std::size_t last = std::max((i + 1) * nics.size() / users, first + 1);
    return {nics.begin() + static_cast<std::ptrdiff_t>(first),
            nics.begin() + static_cast<std::ptrdiff_t>(last)};
  }

  [[nodiscard]] Rail merge(const std::vector<int>& nics) const {
    Rail rail{layout_.nics[static_cast<std::size_t>(nics.front())].seat, {}, {}};
    for (const int i : nics) {
      const NicPlace& nic = layout_.nics[static_cast<std::size_t>(i)];
      rail.seat = rail.seat == nic.seat ? rail.seat : meeting_of(layout_, rail.seat, nic.seat);
      rail.rate += either(nic.rate, node_.nics.bandwidth);
      rail.slots += either(nic.slot, slots_.nic);
    }
    return rail;
  }

  const NodeSpec& node_;
  const Layout& layout_;
  Slots slots_;
  NodeWiring wiring_;
};

}  // namespace

std::vector<Seat> seats_above(const std::vector<SwitchPlace>& switches, Seat seat) {
  std::vector<Seat> path{seat};
  while (path.back().kind == Seat::Kind::pcie_switch) {
    const SwitchPlace& place = switches.at(static_cast<std::size_t>(path.back().index));
    check(place.seat.kind == Seat::Kind::socket || place.seat.index < path.back().index,
          "a switch hangs on a socket or on a switch of a lower number");
    path.push_back(place.seat);
  }
  return path;
}

std::vector<bool> nearest_nics(const Layout& layout) {
  std::vector<bool> near(layout.nics.size());
  for (const GpuPlace& gpu : layout.gpus) {
    for (const int nic : nearest(layout, gpu.seat)) {
      near[static_cast<std::size_t>(nic)] = true;
    }
  }
  return near;
}

std::string pcie_relation(const std::vector<SwitchPlace>& switches, const Seat& a, const Seat& b) {
  const std::vector<Seat> from = seats_above(switches, a);
  const std::vector<Seat> to = seats_above(switches, b);
  for (const Seat& seat : from) {
    if (seat.kind == Seat::Kind::pcie_switch && std::find(to.begin(), to.end(), seat) != to.end()) {
      return a == b ? "PIX" : "PXB";
    }
  }
  if (from.back().index != to.back().index) {
    return "SYS";
  }
  return from.back().bridge && from.back().bridge == to.back().bridge ? "PHB" : "NODE";
}

NodeWiring wire_node(const NodeSpec& node) {
  return node.layout ? Wirer(node).wire() : wire_blocks(node);
}

}  // namespace longhaul
