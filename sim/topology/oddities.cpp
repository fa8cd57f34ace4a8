#include "sim/topology/oddities.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "sim/topology/node_wiring.h"
#include "sim/units/format.h"

namespace longhaul {

namespace {

/// "0, 3 and 4", at most eight of them.
std::string listed(const std::vector<int>& numbers) {
  std::string text;
  for (std::size_t i = 0; i < numbers.size() && i < 8; ++i) {
    text += fmt::format("{}{}", i == 0 ? "" : ", ", numbers[i]);
  }
  return numbers.size() > 8 ? text + fmt::format(", ... ({} in all)", numbers.size()) : text;
}

/// Looks at node 0; all nodes are alike.
class Inspector {
 public:
  explicit Inspector(const Cluster& cluster)
      : cluster_(cluster), node_(cluster.spec().node), wiring_(wire_node(node_)) {}

  std::vector<Oddity> inspect() {
    far_nics();
    shared_nics();
    narrow_slots();
    slow_uplinks();
    uneven_wiring();
    idle_nics();
    peer_access();
    indirect_nvlink();
    oversubscription();
    return std::move(found_);
  }

 private:
  void add(const char* code, const std::string& message, const std::string& help = "") {
    found_.push_back({code, message, help});
  }

  [[nodiscard]] std::string relation(const Seat& a, const Seat& b) const {
    return pcie_relation(wiring_.switches, a, b);
  }

  void far_nics() {
    std::vector<int> far;
    for (std::size_t gpu = 0; gpu < wiring_.rail_of_gpu.size(); ++gpu) {
      const Rail& rail = wiring_.rails[static_cast<std::size_t>(wiring_.rail_of_gpu[gpu])];
      const std::string way = relation(wiring_.gpus[gpu].seat, rail.seat);
      const bool direct = way == "PIX" || way == "PXB" || node_.c2c.bandwidth > BytesPerSecond{};
      if (!direct || !node_.nics.gpudirect) {
        far.push_back(static_cast<int>(gpu));
      }
    }
    if (!far.empty()) {
      add("gpu-far-from-nic",
          fmt::format("no NIC under the PCIe switch of GPU {}: network traffic goes through host "
                      "memory, or over NVLink to another GPU",
                      listed(far)),
          "GPUDirect RDMA needs GPU and NIC under one switch");
    }
  }

  void shared_nics() {
    std::map<int, int> users;
    for (const int rail : wiring_.rail_of_gpu) {
      ++users[rail];
    }
    int most = 0;
    for (const auto& [rail, count] : users) {
      most = std::max(most, count);
    }
    if (most > 1) {
      add("shared-nic", fmt::format("up to {} GPUs share a NIC", most),
          "traffic of all GPUs at once gets a part of its rate");
    }
  }

  void narrow_slots() {
    for (std::size_t i = 0; i < wiring_.rails.size(); ++i) {
      const Rail& rail = wiring_.rails[i];
      if (rail.slots < rail.rate) {
        add("narrow-slot",
            fmt::format("NIC {} has a rate of {} in a slot of {}", i, format_rate(rail.rate),
                        format_rate(rail.slots)),
            "the slot limits it; is the rate or the slot wrong?");
        return;
      }
    }
  }

  /// A switch that is narrower towards its socket than one device below it.
  void slow_uplinks() {
    std::vector<int> slow;
    for (std::size_t i = 0; i < wiring_.switches.size(); ++i) {
      const Seat here{Seat::Kind::pcie_switch, static_cast<int>(i), std::nullopt};
      BytesPerSecond widest;
      for (const GpuPlace& gpu : wiring_.gpus) {
        const auto above = seats_above(wiring_.switches, gpu.seat);
        const bool below = std::find(above.begin(), above.end(), here) != above.end();
        widest = below ? std::max(widest, gpu.slot) : widest;
      }
      if (wiring_.switches[i].uplink < widest / 1.5) {  // a narrower generation, not a rounding
        slow.push_back(static_cast<int>(i));
      }
    }
    if (!slow.empty()) {
      add("slow-uplink",
          fmt::format("the uplink of PCIe switch {} is narrower than the slot of a GPU below it",
                      listed(slow)),
          "copies to and from the host are limited by it");
    }
  }

  void uneven_wiring() {
    std::map<std::string, int> seats;
    for (const GpuPlace& gpu : wiring_.gpus) {
      const std::vector<Seat> above = seats_above(wiring_.switches, gpu.seat);
      ++seats[format_seat({Seat::Kind::socket, above.back().index, std::nullopt})];
    }
    std::set<int> counts;
    for (const auto& [seat, count] : seats) {
      counts.insert(count);
    }
    if (counts.size() > 1 || (node_.gpus > 1 && seats.size() == 1 && node_.host.sockets == 2)) {
      std::string text;
      for (const auto& [seat, count] : seats) {
        text += fmt::format("{}{}: {}", text.empty() ? "" : ", ", seat, count);
      }
      add("uneven-wiring",
          fmt::format("the GPUs are not spread evenly over the sockets ({})", text),
          "groups of GPUs perform differently by where they sit");
    }
  }

  void idle_nics() {
    if (!node_.layout) {
      return;
    }
    const auto near = nearest_nics(*node_.layout);
    std::vector<int> idle;
    for (std::size_t i = 0; i < near.size(); ++i) {
      if (!near[i] && !node_.layout->nics[i].storage) {
        idle.push_back(static_cast<int>(i));
      }
    }
    if (!idle.empty()) {
      add("idle-nic", fmt::format("no GPU has NIC {} nearest: unused", listed(idle)),
          "'storage: true' says that this is meant");
    }
  }

  void peer_access() {
    std::size_t staged = 0;
    std::size_t pairs = 0;
    const auto gpus = static_cast<std::size_t>(node_.gpus);
    for (std::size_t a = 0; a < gpus; ++a) {
      for (std::size_t b = a + 1; b < gpus; ++b) {
        ++pairs;
        staged += cluster_.has_peer_access(GpuId(a), GpuId(b)) ? 0 : 1;
      }
    }
    if (staged > 0) {
      add("no-peer-access",
          fmt::format("{} of {} pairs of GPUs in a node copy through host memory", staged, pairs),
          "NCCL_P2P_LEVEL=SYS is 'pcie_p2p: true', if the machine allows it");
    }
  }

  void indirect_nvlink() {
    if (node_.nvlink.wiring != NvlinkWiring::listed) {
      return;
    }
    std::size_t indirect = 0;
    std::set<int> links;
    for (const NvlinkPair& pair : node_.nvlink.listed) {
      links.insert(pair.links);
    }
    const auto gpus = static_cast<std::size_t>(node_.gpus);
    for (std::size_t a = 0; a < gpus; ++a) {
      for (std::size_t b = a + 1; b < gpus; ++b) {
        indirect += cluster_.path_name(GpuId(a), GpuId(b)) == "NVB" ? 1 : 0;
      }
    }
    if (indirect > 0 || links.size() > 1) {
      add("indirect-nvlink",
          fmt::format("NVLink joins the GPUs unevenly: {} pairs through another GPU{}", indirect,
                      links.size() > 1 ? ", pairs with different numbers of links" : ""),
          "bandwidth depends on which GPUs talk");
    }
  }

  void oversubscription() {
    const FabricSpec& fabric = cluster_.spec().fabric;
    if (fabric.wiring != FabricWiring::none && fabric.oversubscription > 1.0) {
      add("oversubscribed",
          fmt::format("the leaves have {} times the bandwidth of their uplinks",
                      format_number(fabric.oversubscription)),
          "traffic between leaves gets a part of its rate");
    }
  }

  const Cluster& cluster_;
  const NodeSpec& node_;
  NodeWiring wiring_;
  std::vector<Oddity> found_;
};

}  // namespace

std::vector<Oddity> find_oddities(const Cluster& cluster) { return Inspector(cluster).inspect(); }

}  // namespace longhaul
