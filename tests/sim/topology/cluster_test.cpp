// Sizes, presets, fabrics, bisection, descriptions.
#include <catch2/catch.hpp>

#include <algorithm>

#include "sim/input/presets.h"
#include "sim/topology/describe.h"
#include "tests/sim/topology/clusters.h"

namespace longhaul {

using namespace testing;

TEST_CASE("a preset grows to hold the GPUs asked for, in whole nodes") {
  CHECK(preset("dgx-h100", 1).gpu_count() == 8);
  CHECK(preset("dgx-h100", 8).node_count() == 1);
  CHECK(preset("dgx-h100", 9).node_count() == 2);
  CHECK(preset("dgx-h100", 4096).gpu_count() == 4096);
  Diagnostics diagnostics;
  CHECK(find_cluster("gb200-nvl72", {}, Place{}, diagnostics)->gpu_count() == 72);
  CHECK(find_cluster("dgx-b200", {}, Place{}, diagnostics)->gpu_count() == 8);
  CHECK_FALSE(diagnostics.has_errors());
}

TEST_CASE("GPUs are numbered node by node") {
  const Cluster dgx = preset("dgx-h100", 24);
  CHECK(dgx.gpus_per_node() == 8);
  CHECK(dgx.node_of(GpuId(7)) == 0);
  CHECK(dgx.node_of(GpuId(8)) == 1);
  CHECK(dgx.local_index(GpuId(15)) == 7);
  CHECK(dgx.local_index(GpuId(16)) == 0);
  CHECK(dgx.nvlink_domain_of(GpuId(16)) == 2);
}

TEST_CASE("without NVLink, every GPU is a domain of its own") {
  const Cluster servers = preset("l20-pcie", 8);
  CHECK(servers.nvlink_domain_size() == 1);
  CHECK(servers.nvlink_domain_of(GpuId(5)) == 5);
}

TEST_CASE("a part of an NVL72 rack is a domain of the GPUs that there are") {
  CHECK(preset("gb200-nvl72", 8).nvlink_domain_size() == 8);
}

TEST_CASE("a cluster of one GPU has a host and nothing else") {
  const Cluster one = preset("single-gpu", 1);
  CHECK(one.gpu_count() == 1);
  CHECK(one.nvlink_domain_size() == 1);
  CHECK(one.nics_per_node() == 0);
  CHECK(one.nic_bandwidth() == BytesPerSecond{});
  CHECK(names(one, one.host_route(GpuId(0), true)) == "node0.gpu0 node0.cpu0 node0.memory0");
  CHECK_FALSE(one.bisection_bandwidth());
  CHECK(from_text("device: l40s\ngpus: 1\n").device().name == "l40s");
}

TEST_CASE("every cluster, node and device that comes along can be read") {
  for (const std::string& name : cluster_presets()) {
    INFO(name);
    CHECK(preset(name, 1).name() == name);
  }
  for (const std::string& name : node_presets()) {
    INFO(name);
    CHECK(from_text("node: " + name + "\n").spec().node.name == name);
  }
  for (const std::string& name : device_presets()) {
    INFO(name);
    Diagnostics diagnostics;
    const auto device = find_device(name, Place{}, diagnostics);
    REQUIRE(device);
    CHECK(device->name == name);
    CHECK(device->l2_cache < device->memory);
    CHECK(device->peak_fp32 < device->peak_bf16);
    // All rates per SM and cycle of the tensor cores are powers of two, so a peak that does not fit
    // its clock shows here. 2 %: what rounding of the published figures leaves.
    const double per_cycle = device->peak_bf16.value() / device->sms / device->boost_clock.value();
    const double nearest = std::exp2(std::round(std::log2(per_cycle)));
    CHECK(std::abs(per_cycle / nearest - 1.0) <= 0.02);
  }
}

TEST_CASE("the presets that the documentation names are there") {
  const std::vector<std::string> wanted{
      "a100-pcie",   "alps-gh200",   "aws-p4d",      "aws-p4de",    "aws-p5",
      "dgx-a100",    "dgx-b200",     "dgx-b300",     "dgx-h100",    "gb200-nvl72",
      "gb300-nvl72", "gcp-a3-mega",  "gcp-a3-ultra", "hgx-h100-4",  "hgx-h200",
      "l20-pcie",    "l40s-pcie",    "polaris",      "rtx4090-pcie", "single-gpu"};
  CHECK(cluster_presets() == wanted);
  const std::vector<std::string> devices = device_presets();
  for (const char* name : {"a100-sxm-40gb", "a100-sxm-80gb", "a100-pcie-80gb", "a800-sxm-80gb",
                           "h100-sxm-80gb", "h100-sxm-96gb", "h800-sxm-80gb", "h200-sxm", "b200", "b300",
                           "gb200", "l40s", "l20", "v100-sxm-32gb", "rtx4090"}) {
    INFO(name);
    CHECK(std::count(devices.begin(), devices.end(), name) == 1);
  }
}

// Figures from NVIDIA's data sheets, typed again here.
TEST_CASE("the H100 preset is the H100 of the data sheet") {
  Diagnostics diagnostics;
  const auto h100 = find_device("h100-sxm-80gb", Place{}, diagnostics);
  REQUIRE(h100);
  CHECK(h100->sms == 132);
  CHECK(h100->peak_bf16 == FlopsPerSecond::of(989e12));
  CHECK(h100->peak_fp8 == FlopsPerSecond::of(1979e12));
  CHECK(h100->memory_bandwidth == BytesPerSecond::of(3350e9));
  CHECK(h100->memory == Bytes::of(85045477376.0));
  CHECK(h100->nvlink_bandwidth == BytesPerSecond::of(450e9));
  CHECK(h100->architecture == "hopper");
}

TEST_CASE("a device without NVLink or fp8 has zero there") {
  Diagnostics diagnostics;
  CHECK(find_device("l40s", Place{}, diagnostics)->nvlink_bandwidth == BytesPerSecond{});
  CHECK(find_device("a100-sxm-80gb", Place{}, diagnostics)->peak_fp8 == FlopsPerSecond{});
}

TEST_CASE("origins name every file that was read, with its hash") {
  const Cluster h200 = preset("hgx-h200", 8);
  const std::vector<std::string> paths{
      "topologies/clusters/hgx-h200.yaml", "topologies/nodes/hgx-h200.yaml",
      "topologies/nodes/dgx-h100.yaml",    "topologies/devices/h100-sxm-80gb.yaml",
      "topologies/devices/h200-sxm.yaml",  "topologies/fabrics/infiniband-rails.yaml"};
  REQUIRE(h200.origins().size() == paths.size());
  for (std::size_t i = 0; i < paths.size(); ++i) {
    const auto source = embedded_file(paths[i]);
    REQUIRE(source);
    CHECK(h200.origins()[i] == "built-in: " + paths[i] + " " + sha256_hex((*source)->text));
  }
}

TEST_CASE("a leaf has as much bandwidth up as down, or less by the oversubscription") {
  const auto uplink = [](const std::string& factor) {
    const Cluster cluster = from_text(
        "node: dgx-h100\nfabric: {include: infiniband-rails, oversubscription: " + factor +
        "}\nnodes: 2\n");
    return link_between(cluster, "unit0.leaf0", "spine").bandwidth.value();
  };
  CHECK(uplink("1") == 32 * 50e9);
  CHECK(uplink("2") == 16 * 50e9);
  CHECK(uplink("4") == 8 * 50e9);
}

TEST_CASE("overriding one key of an included node leaves the others") {
  const Cluster cluster = from_text(
      "node: {include: dgx-h100, nics: {rate: 200 Gb/s}}\nfabric: infiniband-rails\nnodes: 2\n");
  CHECK(cluster.nic_bandwidth() == BytesPerSecond::of(25e9));
  CHECK(cluster.nics_per_node() == 8);
  CHECK(cluster.device().name == "h100-sxm-80gb");
}

TEST_CASE("a cluster names its transport profile, nccl unless it says otherwise") {
  CHECK(preset("dgx-h100", 8).transport() == "nccl");
  CHECK(from_text("node: dgx-h100\ntransport: tuned\n").transport() == "tuned");
}

TEST_CASE("links come in pairs of equal bandwidth, and no GPU has two links to one vertex") {
  const Cluster cluster = preset("dgx-a100", 16);
  const auto links = cluster.links();
  for (std::size_t i = 0; i < links.size(); i += 2) {
    REQUIRE(links[i].id == LinkId(i));
    REQUIRE(links[i].from == links[i + 1].to);
    REQUIRE(links[i].to == links[i + 1].from);
    REQUIRE(links[i].bandwidth == links[i + 1].bandwidth);
  }
  // Per node: 8 GPUs to NVSwitch, 8 to PCIe, 8 NICs to PCIe, 8 to leaves, 4 switches and 2 memories
  // to sockets, 1 bus; and 8 leaves to the spine.
  CHECK(links.size() == 2 * (2 * (8 + 8 + 8 + 8 + 4 + 2 + 1) + 8));
}

// In a node: 4 GPUs x 450. Two nodes: 8 NICs x 50. With 32-to-1 uplinks and a unit of one node, all
// that leaves a node passes 8 leaves with uplinks of 50 / 32 each.
TEST_CASE("bisection bandwidth is what the narrowest cut between the halves lets through") {
  CHECK(preset("dgx-h100", 8).bisection_bandwidth() == BytesPerSecond::of(4 * 450e9));
  CHECK(preset("dgx-h100", 16).bisection_bandwidth() == BytesPerSecond::of(8 * 50e9));
  CHECK(preset("dgx-h100", 32).bisection_bandwidth() == BytesPerSecond::of(16 * 50e9));
  const Cluster narrow = from_text(
      "node: dgx-h100\nnodes: 2\n"
      "fabric: {include: infiniband-rails, leaf_ports: 1, oversubscription: 32}\n");
  CHECK(narrow.bisection_bandwidth() == BytesPerSecond::of(8 * 50e9 / 32));
  CHECK(preset("dgx-h100", 512).bisection_bandwidth());
  CHECK_FALSE(preset("dgx-h100", 520).bisection_bandwidth());
}

// Staged copies of both sockets' GPUs: each socket's two uplinks of 31.5.
TEST_CASE("bisection of a PCIe server is that of its uplinks") {
  CHECK(preset("l40s-pcie", 8).bisection_bandwidth() == BytesPerSecond::of(2 * 31.5e9));
}

TEST_CASE("equal specifications give equal links") {
  const Cluster one = preset("aws-p5", 32);
  const Cluster two = preset("aws-p5", 32);
  REQUIRE(one.links().size() == two.links().size());
  for (std::size_t i = 0; i < one.links().size(); ++i) {
    REQUIRE(one.links()[i].from == two.links()[i].from);
    REQUIRE(one.links()[i].to == two.links()[i].to);
  }
}

TEST_CASE("the description shows the node, the fabric, the matrix and a route") {
  const std::string text = describe_cluster(preset("dgx-h100", 16));
  for (const char* line :
       {"dgx-h100: 16 GPUs, NVIDIA H100 SXM5 80 GB\n  2 x dgx-h100 (NVIDIA DGX H100)\n",
        "    pcie0  PCIe 63.0 GB/s\n      gpu0  PCIe 63.0 GB/s; to nvswitch NVLink 450 GB/s\n",
        "fabric: infiniband, rail-optimised", "   gpu0          X   NV18 450   NV18 450",
        "  node0.gpu0 -> node0.pcie0 -> node0.nic0 -> unit0.leaf0 -> node1.nic0",
        "  GPUs of the cluster:                        400 GB/s\n"}) {
    INFO(text);
    CHECK(text.find(line) != text.npos);
  }
}

TEST_CASE("the description of one GPU says no more than there is") {
  const std::string text = describe_cluster(preset("single-gpu", 1));
  CHECK(text.find("fabric: none") != text.npos);
  CHECK(text.find("bisection") == text.npos);
  CHECK(text.find("between GPUs") == text.npos);
}

TEST_CASE("the picture draws every link once") {
  const Cluster cluster = preset("dgx-a100", 16);
  const std::string dot = cluster_to_dot(cluster);
  std::size_t edges = 0;
  for (std::size_t at = dot.find(" -- "); at != dot.npos; at = dot.find(" -- ", at + 1)) {
    ++edges;
  }
  CHECK(edges == cluster.links().size() / 2);
  CHECK(dot.starts_with("graph \"dgx-a100\" {\n"));
  CHECK(dot.find("\"node1.gpu7\" -- \"node1.nvswitch\" [label=\"NVLink 300 GB/s\"];") != dot.npos);
}

}  // namespace longhaul
