// Layouts, listed NVLinks, path names, bisections, oddities, sizes, threads.
#include <catch2/catch.hpp>
#include <random>
#include <thread>

#include "sim/topology/describe.h"
#include "sim/topology/oddities.h"
#include "tests/sim/topology/clusters.h"

namespace longhaul {

using namespace testing;
using Catch::Matchers::Contains;
using Catch::Matchers::WithinRel;

namespace {

const std::string host =
    "host: {sockets: 2, memory_bandwidth: 200 GB/s, memory_latency: 0.1 us, bus_bandwidth: 100 "
    "GB/s, bus_latency: 0.1 us}";

/// A node with four A100 and this layout; two switches, one below the other.
std::string node_with(const std::string& layout, const std::string& more = "") {
  return "node:\n  device: a100-sxm-80gb\n  gpus: 4\n  " + host +
         "\n  pcie: {switches: 2, switch_uplink: 31.5 GB/s, latency: 0.3 us}\n" + more +
         "  layout:\n    switches: [cpu0, pcie0]\n" + layout;
}

const std::string seats = "    gpus: [pcie1, pcie1, pcie0, cpu1.bridge0]\n";

std::string errors_in(const std::string& text) {
  Diagnostics diagnostics;
  const auto cluster = read_cluster(parse_yaml(text), {}, diagnostics);
  CHECK(cluster.has_value() != diagnostics.has_errors());
  std::string all;
  for (const Diagnostic& error : diagnostics.all()) {
    all += std::to_string(error.place.line) + ":" + std::to_string(error.place.column) + " " +
           error.code + ": " + error.message + "\n";
  }
  return all;
}

std::vector<std::string> codes_of(const std::vector<Oddity>& oddities) {
  std::vector<std::string> codes;
  for (const Oddity& oddity : oddities) {
    codes.push_back(oddity.code);
  }
  return codes;
}

}  // namespace

TEST_CASE("a layout puts every GPU where it says, and paths are named after what lies between") {
  const Cluster cluster = from_text(node_with(seats));
  CHECK(cluster.path_name(GpuId(0), GpuId(0)) == "X");
  CHECK(cluster.path_name(GpuId(0), GpuId(1)) == "PIX");
  CHECK(cluster.path_name(GpuId(0), GpuId(2)) == "PXB");
  CHECK(cluster.path_name(GpuId(2), GpuId(3)) == "SYS");
  CHECK(route_names(cluster, 0, 2) == "node0.gpu0 node0.pcie1 node0.pcie0 node0.gpu2");
  CHECK(cluster.gpus_per_switch() == 3);
  // NCCL's default: peer access ends where the CPU begins.
  CHECK(cluster.has_peer_access(GpuId(0), GpuId(2)));
  CHECK_FALSE(cluster.has_peer_access(GpuId(2), GpuId(3)));
}

TEST_CASE("only seats on one host bridge are PHB; others of a socket are NODE") {
  const Cluster cluster =
      from_text(node_with("    gpus: [cpu1.bridge0, cpu1.bridge0, cpu1.bridge1, cpu1]\n"));
  CHECK(cluster.path_name(GpuId(0), GpuId(1)) == "PHB");
  CHECK(cluster.path_name(GpuId(0), GpuId(2)) == "NODE");
  CHECK(cluster.path_name(GpuId(2), GpuId(3)) == "NODE");
}

TEST_CASE("a uniform node and the same node written as a layout are the same graph") {
  ClusterSpec spec = preset("dgx-a100", 24).spec();
  const Cluster blocks = build_cluster(spec);
  Layout layout;
  for (int i = 0; i < 4; ++i) {
    layout.switches.push_back({{Seat::Kind::socket, i / 2, std::nullopt}, {}});
  }
  for (int i = 0; i < 8; ++i) {
    layout.gpus.push_back({{Seat::Kind::pcie_switch, i / 2, std::nullopt}, {}});
    layout.nics.push_back({"", {Seat::Kind::pcie_switch, i / 2, std::nullopt}, {}, {}, false});
  }
  spec.node.layout = layout;
  const Cluster placed = build_cluster(spec);
  REQUIRE(placed.links().size() == blocks.links().size());
  for (std::size_t i = 0; i < placed.links().size(); ++i) {
    CHECK(placed.links()[i].from == blocks.links()[i].from);
    CHECK(placed.links()[i].to == blocks.links()[i].to);
    CHECK(placed.links()[i].bandwidth == blocks.links()[i].bandwidth);
  }
  for (std::size_t to = 0; to < 24; ++to) {
    CHECK(route_names(placed, 1, to) == route_names(blocks, 1, to));
  }
}

TEST_CASE("adapters with different rates make rails of different rates") {
  const std::string nics =
      "    nics: [{on: pcie1, rate: 200 Gb/s}, {on: pcie1, rate: 100 Gb/s}, {on: pcie0, rate: 400 "
      "Gb/s}, {on: cpu1, rate: 100 Gb/s, storage: true}]\n";
  const Cluster cluster = from_text(node_with(seats + nics, "  nics: {count: 4}\n") +
                                    "nodes: 2\nfabric: infiniband-rails\n");
  // One each for GPUs 0 and 1, one for GPU 2; GPU 3 has none near and shares them all.
  CHECK(gigabytes(cluster, 0, 4) == 25.0);
  CHECK(gigabytes(cluster, 1, 5) == 12.5);
  CHECK(gigabytes(cluster, 2, 6) == 31.5);  // the slot
  CHECK(path_class(cluster, 3, 7) == PathClass::network);
}

TEST_CASE("wrong layouts are refused") {
  CHECK_THAT(errors_in(node_with("    gpus: [pcie1, pcie1, pcie2, cpu1]\n")),
             Contains("no-such-seat: GPU 2 is on pcie2, which is no place for it"));
  CHECK_THAT(errors_in(node_with("    gpus: [pcie1, pcie1, pcie0, cpu2]\n")),
             Contains("no-such-seat: GPU 3 is on cpu2, which is no place for it"));
  CHECK_THAT(errors_in(node_with("    gpus: [pcie1, pcie1, pcie0]\n")),
             Contains("wrong-count: the layout places 3 GPUs, but 'gpus' says 4"));
  CHECK_THAT(errors_in(node_with("    gpus: [pcie1, pcie1, slot3, cpu0.brigde1]\n")),
             Contains("bad-seat: 'slot3' is no place for a part") &&
                 Contains("bad-seat: 'cpu0.brigde1' is no place for a part"));
  std::string circle = node_with(seats);
  circle.replace(circle.find("[cpu0, pcie0]"), 13, "[pcie1, pcie0]");
  CHECK_THAT(errors_in(circle),
             Contains("no-such-seat: pcie0 is on pcie1, which is no place for it"));
}

TEST_CASE("links of no or negative bandwidth are refused") {
  const std::string zero = "    gpus: [{on: pcie1, slot: 0 GB/s}, pcie1, pcie0, cpu1]\n";
  CHECK_THAT(errors_in(node_with(zero)),
             Contains("8:30 bad-value: 'slot' must be above zero, got '0 GB/s'"));
  const std::string negative = "    gpus: [{on: pcie1, slot: -5 GB/s}, pcie1, pcie0, cpu1]\n";
  CHECK_THAT(errors_in(node_with(negative)),
             Contains("8:30 bad-value: 'slot' must not be negative, got '-5 GB/s'"));
}

TEST_CASE("listed NVLinks: loops, repetitions, strangers and too many links are refused") {
  const auto with = [](const std::string& pairs) {
    return errors_in(
        "node: {include: hgx-a100-4, nvlink: {wiring: listed, latency: 0.3 us, pairs: [" + pairs +
        "]}}\n");
  };
  CHECK(with("{gpus: [0, 1], links: 12}").empty());
  CHECK_THAT(with("{gpus: [1, 1], links: 2}"), Contains("bad-pair: GPU 1 is linked to itself"));
  CHECK_THAT(with("{gpus: [0, 4], links: 2}"), Contains("bad-pair: GPUs 0 and 4 are not two GPUs"));
  CHECK_THAT(with("{gpus: [0, 1], links: 2}, {gpus: [0, 1], links: 2}"),
             Contains("repeated-pair: GPUs 0 and 1 are listed twice"));
  CHECK_THAT(with("{gpus: [0, 1], links: 8}, {gpus: [0, 2], links: 5}"),
             Contains("too-many-links: GPU 0 uses 13 NVLinks; 'a100-sxm-80gb' has 12"));
  CHECK_THAT(with("{gpus: [0], links: 1}"), Contains("wrong-type"));
  CHECK_THAT(with("{gpus: [0, 1], links: 0}"), Contains("out-of-range"));
}

TEST_CASE("NVSwitch with fewer links than the GPU has is slower by as much") {
  const Cluster cluster =
      from_text("node: {include: dgx-h100, nvlink: {wiring: switch, links_per_gpu: 9}}\n");
  CHECK_THAT(gigabytes(cluster, 0, 1), WithinRel(225.0, 1e-12));
  CHECK(cluster.path_name(GpuId(0), GpuId(1)) == "NV9");
}

TEST_CASE("without GPUDirect a NIC beside the GPU is used through host memory") {
  const Cluster direct = preset("dgx-h100", 16);
  const Cluster staged = from_text(
      "node: {include: dgx-h100, nics: {gpudirect: false}}\nfabric: infiniband-rails\nnodes: 2\n");
  CHECK(route_names(direct, 0, 8).find("memory") == std::string::npos);
  CHECK(route_names(staged, 0, 8) ==
        "node0.gpu0 node0.pcie0 node0.cpu0 node0.memory0 node0.cpu0 node0.pcie0 node0.nic0 "
        "unit0.leaf0 node1.nic0 node1.pcie0 node1.cpu0 node1.memory0 node1.cpu0 node1.pcie0 "
        "node1.gpu0");
}

TEST_CASE("the four bisections of a cluster are those that one can add up by hand") {
  const Bisections dgx = find_bisections(preset("dgx-h100", 32));
  CHECK(dgx.node->value() == 4 * 450e9);
  CHECK(dgx.domain->value() == 4 * 450e9);
  CHECK(dgx.fabric->value() == 2 * 8 * 50e9);  // two nodes of eight NICs
  CHECK(dgx.cluster->value() == 2 * 8 * 50e9);
  const Bisections rack = find_bisections(preset("gb200-nvl72", 72));
  CHECK(rack.node->value() == 2 * 900e9);
  CHECK(rack.domain->value() == 36 * 900e9);
  const Bisections one = find_bisections(preset("single-gpu", 1));
  CHECK_FALSE((one.node || one.domain || one.fabric || one.cluster));
}

TEST_CASE("the fabric's bisection counts uplinks only where a leaf has no partners") {
  // Two units of 32 nodes: all traffic between the halves goes up, at a third of the leaves' rate.
  const std::string text =
      "node: dgx-h100\nnodes: 64\nfabric: {include: infiniband-rails, oversubscription: 4}\n";
  CHECK_THAT(from_text(text).fabric_bisection()->value(), WithinRel(32 * 8 * 50e9 / 4, 1e-12));
  // One unit: all within leaves, whatever the uplinks.
  const std::string small =
      "node: dgx-h100\nnodes: 32\nfabric: {include: infiniband-rails, oversubscription: 4}\n";
  CHECK_THAT(from_text(small).fabric_bisection()->value(), WithinRel(16 * 8 * 50e9, 1e-12));
}

TEST_CASE("the fabric's bisection is never below the cluster's") {
  for (const char* name : {"dgx-h100", "dgx-a100", "aws-p5", "l40s-pcie", "gb200-nvl72"}) {
    INFO(name);
    const Bisections found = find_bisections(preset(name, 144));
    REQUIRE((found.fabric && found.cluster));
    const bool one_domain = preset(name, 144).nvlink_domain_size() >= 72;
    CHECK((one_domain || found.fabric->value() >= found.cluster->value() * (1 - 1e-12)));
  }
}

TEST_CASE("a path is told link by link, with the one that limits it") {
  const std::string text = describe_path(preset("dgx-h100", 16), GpuId(0), GpuId(13));
  CHECK_THAT(text, Contains("GPU 0 to GPU 13: NET (network), 8 links") &&
                       Contains("limited by node0.nic5 -> unit0.leaf5; latency 2.70 us"));
  CHECK(describe_path(preset("dgx-h100", 8), GpuId(2), GpuId(2)) == "GPU 2 to GPU 2: X (self)\n");
}

TEST_CASE("sound clusters are not odd, and each oddity is found") {
  CHECK(find_oddities(preset("dgx-h100", 16)).empty());
  CHECK(find_oddities(preset("dgx-a100", 16)).empty());
  CHECK(find_oddities(preset("gb200-nvl72", 72)).empty());
  CHECK(codes_of(find_oddities(preset("l40s-pcie", 8))) ==
        std::vector<std::string>{"shared-nic", "no-peer-access"});
  CHECK(codes_of(find_oddities(from_text(node_with(seats)))) ==
        std::vector<std::string>{"uneven-wiring", "no-peer-access"});
  CHECK(
      codes_of(find_oddities(from_text(
          "node: {include: dgx-h100, nics: {rate: 800 Gb/s}}\nfabric: {include: infiniband-rails, "
          "oversubscription: 2}\nnodes: 2\n"))) ==
      std::vector<std::string>{"narrow-slot", "oversubscribed"});
  CHECK(codes_of(find_oddities(
            from_text("node: {include: dgx-h100, pcie: {switch_uplink: 8 GB/s}}\n"))) ==
        std::vector<std::string>{"slow-uplink"});
}

TEST_CASE("routes asked for by several threads at once are the routes of one thread") {
  const Cluster shared = preset("dgx-h100", 256);
  const Cluster alone = preset("dgx-h100", 256);
  std::vector<std::vector<const Route*>> seen(4);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < seen.size(); ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<unsigned>(t / 2));  // pairs of threads ask for the same
      for (int i = 0; i < 20000; ++i) {
        const GpuId from(random() % 256);
        const GpuId to(random() % 256);
        seen[t].push_back(&shared.route(from, to));
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  CHECK(seen[0] == seen[1]);  // the very same routes, never moved
  CHECK(seen[2] == seen[3]);
  std::mt19937 random(0);
  for (std::size_t i = 0; i < seen[0].size(); ++i) {
    const GpuId from(random() % 256);
    const GpuId to(random() % 256);
    REQUIRE(seen[0][i]->links == alone.route(from, to).links);
  }
}

TEST_CASE("a million GPUs are built, their routes found one by one") {
  const Cluster huge = preset("dgx-h100", 1000000);
  CHECK(huge.gpu_count() == 1000000);
  CHECK(huge.route(GpuId(0), GpuId(999999)).network_hops == 3);
  CHECK_THAT(huge.fabric_bisection()->value(), WithinRel(62500.0 * 8 * 50e9, 1e-9));
}

}  // namespace longhaul
