// Routes, checked by hand for each kind of node and fabric.
#include <catch2/catch.hpp>

#include "tests/sim/topology/clusters.h"

namespace longhaul {

using namespace testing;
using Catch::Matchers::WithinRel;

// A DGX: NVLink first, although both GPUs also share a PCIe switch.
TEST_CASE("GPUs on one NVSwitch talk over it even if they share a PCIe switch") {
  const Cluster dgx = preset("dgx-a100", 8);
  CHECK(route_names(dgx, 0, 1) == "node0.gpu0 node0.nvswitch node0.gpu1");
  CHECK(path_class(dgx, 0, 1) == PathClass::nvlink);
  CHECK(gigabytes(dgx, 0, 7) == 300.0);
  // Two links of 0.3 us each.
  CHECK_THAT(dgx.route(GpuId(0), GpuId(7)).latency.value(), WithinRel(0.6e-6, 1e-12));
  CHECK(dgx.route(GpuId(0), GpuId(7)).network_hops == 0);
}

TEST_CASE("a GPU reaches itself over no link, at once, and infinitely fast") {
  const Cluster dgx = preset("dgx-h100", 8);
  const Route& route = dgx.route(GpuId(3), GpuId(3));
  CHECK(route.links.empty());
  CHECK(route.latency == Seconds{});
  CHECK(route.path_class == PathClass::self);
  CHECK(std::isinf(dgx.bandwidth(route).value()));
}

TEST_CASE("equal places of two nodes talk over the NIC on their own switch and one leaf") {
  const Cluster dgx = preset("dgx-h100", 16);
  CHECK(route_names(dgx, 3, 11) ==
        "node0.gpu3 node0.pcie3 node0.nic3 unit0.leaf3 node1.nic3 node1.pcie3 node1.gpu3");
  CHECK(path_class(dgx, 3, 11) == PathClass::network);
  CHECK(gigabytes(dgx, 3, 11) == 50.0);
  CHECK(dgx.route(GpuId(3), GpuId(11)).network_hops == 1);
  // Four PCIe links of 0.2 us and two of 0.65 us between NIC and leaf.
  CHECK_THAT(dgx.route(GpuId(3), GpuId(11)).latency.value(), WithinRel(2.1e-6, 1e-12));
}

TEST_CASE("with NVLink, another rail is reached through the local GPU on that rail (PXN)") {
  const Cluster dgx = preset("dgx-h100", 16);
  CHECK(route_names(dgx, 0, 13) ==
        "node0.gpu0 node0.nvswitch node0.gpu5 node0.pcie5 node0.nic5 unit0.leaf5 node1.nic5 "
        "node1.pcie5 node1.gpu5");
  CHECK(dgx.route(GpuId(0), GpuId(13)).network_hops == 1);
}

// DGX A100: two GPUs and two NICs share a switch.
TEST_CASE("a NIC on the sender's own switch needs no PXN") {
  const Cluster dgx = preset("dgx-a100", 16);
  CHECK(route_names(dgx, 0, 9) ==
        "node0.gpu0 node0.pcie0 node0.nic1 unit0.leaf1 node1.nic1 node1.pcie0 node1.gpu1");
  CHECK(route_names(dgx, 0, 10) ==
        "node0.gpu0 node0.nvswitch node0.gpu2 node0.pcie1 node0.nic2 unit0.leaf2 node1.nic2 "
        "node1.pcie1 node1.gpu2");
}

TEST_CASE("one rail of another scalable unit is a leaf, the spine and a leaf away") {
  const Cluster dgx = preset("dgx-h100", 33 * 8);
  const std::size_t last_of_unit = 31 * 8;
  const std::size_t first_of_next = 32 * 8;
  CHECK(dgx.route(GpuId(0), GpuId(last_of_unit)).network_hops == 1);
  CHECK(dgx.route(GpuId(0), GpuId(first_of_next)).network_hops == 3);
  CHECK(route_names(dgx, 0, first_of_next) ==
        "node0.gpu0 node0.pcie0 node0.nic0 unit0.leaf0 spine unit1.leaf0 node32.nic0 "
        "node32.pcie0 node32.gpu0");
  // The spine adds two links of 0.675 us.
  const Seconds further = dgx.route(GpuId(0), GpuId(first_of_next)).latency -
                          dgx.route(GpuId(0), GpuId(last_of_unit)).latency;
  CHECK_THAT(further.value(), WithinRel(1.35e-6, 1e-9));
}

// Four NICs per node fill a leaf of 32 ports with 8 nodes.
TEST_CASE("a fat tree fills leaves with neighbouring nodes") {
  const Cluster servers = preset("a100-pcie", 9 * 8);
  CHECK(servers.route(GpuId(0), GpuId(7 * 8)).network_hops == 1);
  CHECK(servers.route(GpuId(0), GpuId(8 * 8)).network_hops == 3);
}

TEST_CASE("without NVLink, the sender uses its own NIC, whatever the receiver's rail") {
  const Cluster servers = preset("a100-pcie", 16);
  CHECK(route_names(servers, 0, 15) ==
        "node0.gpu0 node0.pcie0 node0.nic0 unit0.leaf0 node1.nic3 node1.pcie3 node1.gpu7");
}

// 2 GPUs per switch, 2 switches per socket: GPU 0-1 | 2-3 || 4-5 | 6-7.
TEST_CASE("without NVLink, GPUs of one switch copy directly and others through host memory") {
  const Cluster servers = preset("l40s-pcie", 8);
  CHECK(route_names(servers, 0, 1) == "node0.gpu0 node0.pcie0 node0.gpu1");
  CHECK(path_class(servers, 0, 1) == PathClass::pcie_switch);
  CHECK(route_names(servers, 0, 2) ==
        "node0.gpu0 node0.pcie0 node0.cpu0 node0.memory0 node0.cpu0 node0.pcie1 node0.gpu2");
  CHECK(path_class(servers, 0, 2) == PathClass::host_staged);
  CHECK(route_names(servers, 0, 7) ==
        "node0.gpu0 node0.pcie0 node0.cpu0 node0.memory0 node0.cpu0 node0.cpu1 node0.pcie3 "
        "node0.gpu7");
  CHECK(path_class(servers, 0, 7) == PathClass::host_staged);
}

TEST_CASE("pcie_p2p: true lets copies pass the host bridge and the bus between sockets") {
  const Cluster servers = from_text("node: {include: l40s-pcie, pcie_p2p: true}\n");
  CHECK(path_class(servers, 0, 1) == PathClass::pcie_switch);
  CHECK(route_names(servers, 0, 2) == "node0.gpu0 node0.pcie0 node0.cpu0 node0.pcie1 node0.gpu2");
  CHECK(path_class(servers, 0, 2) == PathClass::pcie_host);
  CHECK(route_names(servers, 0, 4) ==
        "node0.gpu0 node0.pcie0 node0.cpu0 node0.cpu1 node0.pcie2 node0.gpu4");
  CHECK(path_class(servers, 0, 4) == PathClass::cross_socket);
}

TEST_CASE("pcie_p2p: false stages even copies under one switch") {
  const Cluster servers = from_text("node: {include: l40s-pcie, pcie_p2p: false}\n");
  CHECK(route_names(servers, 0, 1) ==
        "node0.gpu0 node0.pcie0 node0.cpu0 node0.memory0 node0.cpu0 node0.pcie0 node0.gpu1");
  CHECK(path_class(servers, 0, 1) == PathClass::host_staged);
}

// HGX A100 with 4 GPUs: 4 of 12 links of 25 GB/s to each of the three others.
TEST_CASE("in an NVLink mesh, a pair has the links of that pair and no more") {
  const Cluster mesh = from_text("node: hgx-a100-4\n");
  CHECK(route_names(mesh, 1, 3) == "node0.gpu1 node0.gpu3");
  CHECK(gigabytes(mesh, 1, 3) == 100.0);
  CHECK(mesh.nvlink_domain_size() == 4);
  CHECK(mesh.route(GpuId(1), GpuId(3)).links.size() == 1);
}

TEST_CASE("bridged pairs have NVLink within and PCIe between pairs") {
  const Cluster pairs = from_text(
      "node: {include: a100-pcie, nvlink: {wiring: pairs, latency: 0.3 us}, pcie_p2p: true}\n");
  CHECK(path_class(pairs, 2, 3) == PathClass::nvlink);
  CHECK(gigabytes(pairs, 2, 3) == 300.0);
  CHECK(path_class(pairs, 1, 2) == PathClass::pcie_host);
  CHECK(pairs.nvlink_domain_size() == 2);
}

TEST_CASE("an NVL72 rack is one NVLink domain of 18 nodes, and the next rack is a network away") {
  const Cluster racks = preset("gb200-nvl72", 144);
  CHECK(racks.node_count() == 36);
  CHECK(racks.nvlink_domain_size() == 72);
  CHECK(racks.nvlink_domain_of(GpuId(71)) == 0);
  CHECK(racks.nvlink_domain_of(GpuId(72)) == 1);
  CHECK(racks.node_of(GpuId(71)) == 17);
  CHECK(route_names(racks, 0, 71) == "node0.gpu0 domain0.nvswitch node17.gpu3");
  CHECK(path_class(racks, 0, 71) == PathClass::nvlink);
  CHECK(path_class(racks, 0, 72) == PathClass::network);
}

// p4d: one adapter of 100 Gb/s on the switch of two GPUs. p5: four of 100 Gb/s per GPU.
TEST_CASE("GPUs share a NIC where NICs are few and add up NICs where they are many") {
  const Cluster p4d = preset("aws-p4d", 16);
  CHECK(gigabytes(p4d, 0, 8) == 12.5);
  CHECK(route_names(p4d, 1, 9) ==
        "node0.gpu1 node0.pcie0 node0.nic0 unit0.leaf0 node1.nic0 node1.pcie0 node1.gpu1");
  const Cluster p5 = preset("aws-p5", 16);
  CHECK(gigabytes(p5, 0, 8) == 50.0);
  CHECK(p5.nics_per_node() == 32);
  CHECK(p5.nic_bandwidth() == BytesPerSecond::of(12.5e9));
}

// One NIC, on GPU 0's switch. GPU 7 sends through GPU 0 or 1 (PXN) and receives through the host.
TEST_CASE("a GPU far from the only NIC sends by PXN and receives through host memory") {
  const Cluster one_nic = from_text(
      "node: {include: dgx-a100, nics: {count: 1}}\nfabric: infiniband-rails\nnodes: 2\n");
  CHECK(route_names(one_nic, 7, 8) ==
        "node0.gpu7 node0.nvswitch node0.gpu0 node0.pcie0 node0.nic0 unit0.leaf0 node1.nic0 "
        "node1.pcie0 node1.gpu0");
  CHECK(route_names(one_nic, 0, 15) ==
        "node0.gpu0 node0.pcie0 node0.nic0 unit0.leaf0 node1.nic0 node1.pcie0 node1.cpu0 "
        "node1.cpu1 node1.memory1 node1.cpu1 node1.pcie3 node1.gpu7");
}

TEST_CASE("offload goes to the memory of the GPU's own socket and back the same way") {
  const Cluster dgx = preset("dgx-a100", 8);
  CHECK(names(dgx, dgx.host_route(GpuId(5), true)) ==
        "node0.gpu5 node0.pcie2 node0.cpu1 node0.memory1");
  CHECK(names(dgx, dgx.host_route(GpuId(5), false)) ==
        "node0.memory1 node0.cpu1 node0.pcie2 node0.gpu5");
  CHECK(dgx.bandwidth(dgx.host_route(GpuId(5), true)) == BytesPerSecond::of(31.5e9));
  CHECK(dgx.host_route(GpuId(5), true).path_class == PathClass::pcie_host);
}

TEST_CASE("a Grace host is reached over C2C, not over PCIe") {
  const Cluster rack = preset("gb200-nvl72", 4);
  CHECK(names(rack, rack.host_route(GpuId(2), true)) == "node0.gpu2 node0.cpu1 node0.memory1");
  CHECK(rack.bandwidth(rack.host_route(GpuId(2), true)) == BytesPerSecond::of(225e9));
  CHECK(link_between(rack, "node0.gpu2", "node0.cpu1").kind == LinkKind::c2c);
}

/// Every preset, large enough for two leaves where that is cheap.
std::vector<Cluster> all_shapes() {
  std::vector<Cluster> clusters;
  for (const std::string& name : cluster_presets()) {
    clusters.push_back(preset(name, name == "single-gpu" ? 1 : 24));
  }
  clusters.push_back(preset("gb200-nvl72", 80));
  clusters.push_back(from_text("node: hgx-a100-4\nfabric: roce-fat-tree\nnodes: 3\n"));
  clusters.push_back(from_text("node: rtx4090-pcie\nfabric: roce-rails\nnodes: 2\n"));
  clusters.push_back(
      from_text("node: {include: a100-pcie, nvlink: {wiring: pairs, latency: 1 us}}\n"
                "fabric: {include: infiniband-rails, leaf_ports: 1}\nnodes: 3\n"));
  return clusters;
}

TEST_CASE("every GPU reaches every other along links that join end to end") {
  for (const Cluster& cluster : all_shapes()) {
    INFO(cluster.name());
    const auto count = static_cast<std::size_t>(cluster.gpu_count());
    for (std::size_t from = 0; from < count; ++from) {
      for (std::size_t to = 0; to < count; ++to) {
        const Route& route = cluster.route(GpuId(from), GpuId(to));
        REQUIRE(route.links.empty() == (from == to));
        Seconds latency;
        for (std::size_t i = 0; i < route.links.size(); ++i) {
          const Link& link = cluster.links()[route.links[i].index];
          latency += link.latency;
          if (i > 0) {
            REQUIRE(cluster.links()[route.links[i - 1].index].to == link.from);
          }
        }
        REQUIRE(route.latency == latency);
      }
    }
  }
}

// The way back may cross other links (PXN is the sender's choice), but not a worse class or a
// slower link, since every preset gives all its GPUs equal seats.
TEST_CASE("in every preset, the way back is of the same class, bandwidth and hops") {
  for (const Cluster& cluster : all_shapes()) {
    INFO(cluster.name());
    const auto count = static_cast<std::size_t>(cluster.gpu_count());
    for (std::size_t from = 0; from < count; ++from) {
      for (std::size_t to = 0; to < from; ++to) {
        const Route& there = cluster.route(GpuId(from), GpuId(to));
        const Route& back = cluster.route(GpuId(to), GpuId(from));
        REQUIRE(there.path_class == back.path_class);
        REQUIRE(cluster.bandwidth(there) == cluster.bandwidth(back));
        REQUIRE(there.network_hops == back.network_hops);
      }
    }
  }
}

TEST_CASE("a route is the slowest of its links, and slower links never make it faster") {
  const Cluster fast = preset("dgx-h100", 16);
  const Cluster slow = from_text(
      "node: {include: dgx-h100, pcie: {gpu_slot: 20 GB/s}}\nfabric: infiniband-rails\nnodes: 2\n");
  CHECK(gigabytes(fast, 0, 8) == 50.0);
  CHECK(gigabytes(slow, 0, 8) == 20.0);
  CHECK(gigabytes(slow, 0, 1) == 450.0);
}

TEST_CASE("asking for a route twice gives the same object, also after many others") {
  const Cluster dgx = preset("dgx-h100", 64);
  const Route* first = &dgx.route(GpuId(0), GpuId(63));
  for (std::size_t from = 0; from < 64; ++from) {
    for (std::size_t to = 0; to < 64; ++to) {
      (void)dgx.route(GpuId(from), GpuId(to));
    }
  }
  CHECK(first == &dgx.route(GpuId(0), GpuId(63)));
}

TEST_CASE("a route to a GPU that the cluster does not have is a bug, and says so") {
  const Cluster dgx = preset("dgx-h100", 8);
  CHECK_NOTHROW(dgx.route(GpuId(0), GpuId(7)));
  CHECK_THROWS_AS(dgx.route(GpuId(0), GpuId(8)), BugError);
}

}  // namespace longhaul
