// Wrong topologies and wrong hardware maps: what users are told, and where.
#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "sim/topology/hardware_map.h"
#include "tests/sim/topology/clusters.h"

namespace longhaul {

using namespace testing;

namespace {

/// "line:column code: message | help" of every error, one a line.
std::string errors_of(const Diagnostics& diagnostics) {
  std::string text;
  for (const Diagnostic& error : diagnostics.all()) {
    text += std::to_string(error.place.line) + ":" + std::to_string(error.place.column) + " " +
            error.code + ": " + error.message + (error.help.empty() ? "" : " | ") + error.help +
            "\n";
  }
  return text;
}

std::string errors_in(const std::string& text, ClusterSize size = {}) {
  Diagnostics diagnostics;
  const auto cluster = read_cluster(parse_yaml(text), size, diagnostics);
  CHECK(cluster.has_value() != diagnostics.has_errors());
  return errors_of(diagnostics);
}

/// A folder of files that goes away with the test.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "longhaul_XXXXXX").string();
    check(mkdtemp(name.data()) != nullptr, "a temporary folder can be made");
    path_ = name;
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::string write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name) << text;
    return (path_ / name).string();
  }

 private:
  std::filesystem::path path_;
};

}  // namespace

TEST_CASE("an unknown cluster, node, device or fabric is named, with the nearest that exists") {
  Diagnostics diagnostics;
  CHECK_FALSE(find_cluster("dgx-h10", {}, Place{}, diagnostics));
  CHECK(errors_of(diagnostics) ==
        "0:0 unknown-cluster: no cluster is called 'dgx-h10' | did you mean 'dgx-h100'? presets: "
        "a100-pcie, alps-gh200, aws-p4d, aws-p4de, aws-p5, dgx-a100, dgx-b200, dgx-b300, dgx-h100, "
        "gb200-nvl72, gb300-nvl72, gcp-a3-mega, gcp-a3-ultra, hgx-h100-4, hgx-h200, l20-pcie, "
        "l40s-pcie, "
        "polaris, rtx4090-pcie, single-gpu; or give the path of a .yaml file\n");
  CHECK(errors_in("node: dgx-h101\n")
            .starts_with(
                "1:7 unknown-node: no node is called 'dgx-h101' | did you mean 'dgx-h100'?"));
  CHECK(errors_in("device: h200\ngpus: 1\n")
            .starts_with("1:9 unknown-device: no device is called 'h200' | did you mean "));
  CHECK(errors_in("node: dgx-h100\nfabric: ef\n")
            .starts_with("2:9 unknown-fabric: no fabric is called 'ef' | "));
}

TEST_CASE("nodes without a fabric, or without NICs, are disconnected") {
  CHECK(errors_in("node: dgx-h100\nnodes: 2\n") ==
        "2:8 disconnected-topology: 2 nodes, but no fabric joins them | add 'fabric:', or use a "
        "single node\n");
  CHECK(errors_in("node: dgx-h100\nnodes: 1\n").empty());
  CHECK(errors_in("node: {include: dgx-h100, nics: {count: 0}}\nfabric: efa\nnodes: 2\n") ==
        "2:9 disconnected-topology: 2 nodes, but node 'dgx-h100' has no NICs | add 'nics:' to the "
        "node, or use a single node\n");
  // One NVLink domain joins 18 trays without any fabric, but not 19.
  CHECK(errors_in("node: gb200-tray\nnodes: 18\n").empty());
  CHECK(errors_in("node: gb200-tray\nnodes: 19\n").starts_with("2:8 disconnected-topology: 19"));
}

TEST_CASE("a cluster of fixed size refuses more GPUs than it has") {
  const std::string four = "name: ours\nnode: dgx-h100\nfabric: infiniband-rails\nnodes: 4\n";
  CHECK(errors_in(four, ClusterSize{32}).empty());
  CHECK(errors_in(four, ClusterSize{33}) ==
        "4:8 too-many-gpus: cluster 'ours' has 32 GPUs, but 33 are asked for | ask for at most "
        "32, or write 'nodes: 5'\n");
  CHECK(errors_in("node: dgx-h100\nfabric: efa\n", ClusterSize{std::int64_t{1} << 40})
            .find("has at most 1048576 GPUs, but 1099511627776 are asked for") !=
        std::string::npos);
}

TEST_CASE("all mistakes of a cluster are told at once, at their places") {
  CHECK(errors_in("node: {include: dgx-h100, pcie: {latency: 2}, nvlink: {wiring: swich}}\n"
                  "fabric: {include: efa, oversubscription: 0.5}\n"
                  "nodse: 3\n") ==
        "1:64 unknown-word: 'wiring' must be none, switch, mesh, pairs or listed, got 'swich' | "
        "did you "
        "mean 'switch'?\n"
        "1:43 bad-value: 'latency' needs a unit, got '2' | write a time such as \"2 us\"; units: "
        "s, ms, us, ns, min, h\n"
        "2:42 out-of-range: 'oversubscription' must be between 1 and 1000, got 0.5\n"
        "3:1 unknown-key: unknown key 'nodse' in cluster | did you mean 'node'?\n");
}

TEST_CASE("what cannot be dealt evenly is refused") {
  CHECK(errors_in("node: {include: dgx-h100, nics: {count: 3}}\n") ==
        "1:33 not-divisible: 3 NICs and 8 GPUs cannot be dealt evenly | one must be a multiple of "
        "the other; leave out storage adapters\n");
  CHECK(errors_in("node: {include: dgx-h100, nics: {count: 4}}\n").empty());
  CHECK(errors_in("node: {include: dgx-h100, nics: {count: 16}}\n").empty());
  CHECK(errors_in("node: {include: dgx-h100, pcie: {switches: 3}}\n") ==
        "1:33 not-divisible: 3 PCIe switches cannot be dealt evenly to 2 sockets | use a multiple "
        "of the sockets, or 0 for GPUs that sit on the sockets\n");
  CHECK(errors_in("node: {include: dgx-h100, gpus: 6}\n")
            .find("6 GPUs cannot be dealt evenly to "
                  "8 PCIe switches") != std::string::npos);
}

TEST_CASE("NVLink needs a device that has it, and links enough") {
  CHECK(errors_in("node: {include: l40s-pcie, nvlink: {wiring: switch, latency: 1 us}}\n") ==
        "1:36 no-nvlink: device 'l40s' has no NVLink | use a device that has it, or "
        "join its GPUs over PCIe alone\n");
  CHECK(errors_in("node: {include: hgx-a100-4, nvlink: {links_per_pair: 5}}\n") ==
        "1:37 too-many-links: a mesh of 4 GPUs with 5 links per pair needs 15 links per GPU; "
        "'a100-sxm-80gb' has 12 | links_per_pair is at most 4\n");
}

TEST_CASE("a device must say where each number comes from") {
  const std::string sources = "sources: {sheet: data sheet}";
  CHECK(errors_in("device: {include: l40s, sms: 100}\ngpus: 1\n") ==
        "1:30 no-source: 'sms' does not say where it comes from | write 'sms: {value: ..., "
        "source: ...}'\n");
  CHECK(errors_in("device: {include: l40s, sms: {value: 100, source: shet}, " + sources +
                  "}\ngpus: 1\n") ==
        "1:51 unknown-source: 'sources' has no 'shet' | it has sheet\n");
  CHECK(errors_in("device: {include: l40s, sms: {value: 100, source: sheet}, " + sources +
                  "}\ngpus: 1\n")
            .empty());
  CHECK(errors_in("device: {include: l40s, memory: {value: 48, source: x}}\ngpus: 1\n")
            .starts_with("1:41 bad-value: 'value' needs a unit, got '48'"));
}

TEST_CASE("the short form is for one GPU only") {
  CHECK(errors_in("device: l40s\ngpus: 2\n") ==
        "2:7 not-one-gpu: 'device' alone describes a single GPU | write 'gpus: 1', or name a "
        "server with 'node:'\n");
}

TEST_CASE("files that include one another in a circle are refused, and the circle is shown") {
  const Folder folder;
  const std::string a = folder.write("a.yaml", "include: b.yaml\n");
  const std::string b = folder.write("b.yaml", "include: a.yaml\n");
  Diagnostics diagnostics;
  CHECK_FALSE(find_cluster(a, {}, Place{}, diagnostics));
  CHECK(errors_of(diagnostics) == "1:10 cyclic-include: this includes itself: " + a + " -> " + b +
                                      " -> " + a + " | remove one of these 'include' lines\n");
  const std::string self = folder.write("self.yaml", "node: {include: node.yaml}\n");
  folder.write("node.yaml", "include: node.yaml\n");
  Diagnostics second;
  CHECK_FALSE(find_cluster(self, {}, Place{}, second));
  CHECK(errors_of(second).find("cyclic-include") != std::string::npos);
}

TEST_CASE("paths are relative to the file that names them, and presets can be mixed in") {
  const Folder folder;
  folder.write("parts/node.yaml", "include: dgx-h100\ndevice: ../gpu.yaml\n");
  folder.write("gpu.yaml", "include: h100-sxm-80gb\nname: ours\n");
  const std::string path =
      folder.write("c.yaml", "node: parts/node.yaml\nfabric: efa\nnodes: 2\nname: c\n");
  Diagnostics diagnostics;
  const auto cluster = find_cluster(path, {}, Place{}, diagnostics);
  CHECK(errors_of(diagnostics).empty());
  REQUIRE(cluster);
  CHECK(cluster->device().name == "ours");
  CHECK(cluster->device().sms == 132);
  CHECK(cluster->gpu_count() == 16);
}

TEST_CASE("a file that cannot be read is told where it was named") {
  CHECK(errors_in("node: no_such_file.yaml\n") ==
        "1:7 unreadable: 'no_such_file.yaml' cannot be read: No such file or directory | check "
        "the path and its permissions\n");
}

TEST_CASE("an empty or wrong map is told, not crashed on") {
  CHECK(errors_in("nodes: 2\n").starts_with("1:1 missing-key: cluster has no 'node'"));
  CHECK(errors_in("[1, 2]\n").starts_with("1:1 not-a-map: cluster must be a map"));
  CHECK(errors_in("node: [1]\n").starts_with("1:7 not-a-map: node must be a map"));
  CHECK(errors_in("include: {a: 1}\nnode: dgx-h100\n")
            .starts_with("1:10 wrong-type: 'include' wants the name of a preset or a path"));
  CHECK(errors_in("node: {device: h100-sxm-80gb, gpus: 8}\n").find("node has no 'host'") !=
        std::string::npos);
}

// --- hardware maps of measured runs -----------------------------------------------------------

namespace {

std::optional<Cluster> hardware(const std::string& map, Diagnostics& diagnostics) {
  return cluster_from_hardware(parse_yaml(map), diagnostics);
}

Cluster good_hardware(const std::string& map) {
  Diagnostics diagnostics;
  const auto cluster = hardware(map, diagnostics);
  diagnostics.throw_if_errors();
  return *cluster;
}

}  // namespace

TEST_CASE("a run on 8 GPUs with NVSwitch becomes the server of that generation") {
  const Cluster node = good_hardware(
      "{device: a800-sxm-80gb, gpus: 8, gpus_per_node: 8, intra_node: nvswitch, fabric: none}");
  CHECK(node.gpu_count() == 8);
  CHECK(node.device().name == "a800-sxm-80gb");
  CHECK(gigabytes(node, 0, 7) == 200.0);
}

TEST_CASE("a single adapter that the run does not know of is no statement about the server") {
  // The usual DGX A100 has eight; the rate is the run's own. Four were inferred from something.
  const auto nics = [](const char* count, bool unknown) {
    Diagnostics diagnostics;
    const std::string map = "{device: a100-sxm-80gb, gpus: 16, gpus_per_node: 8, "
                            "intra_node: nvswitch, nic_rate: 100 Gb/s, fabric: infiniband, "
                            "nics_per_node: " + std::string(count) + "}";
    const auto cluster = cluster_from_hardware(parse_yaml(map), diagnostics, {false, unknown});
    diagnostics.throw_if_errors();
    CHECK(cluster->spec().node.nics.bandwidth.value() == 12.5e9);
    return cluster->spec().node.nics.count;
  };
  CHECK(nics("1", true) == 8);
  CHECK(nics("1", false) == 1);
  CHECK(nics("4", true) == 4);
}

TEST_CASE("a run on fewer GPUs than a node still has the whole node") {
  const Cluster node = good_hardware(
      "{device: h100-sxm-80gb, gpus: 2, gpus_per_node: 8, intra_node: nvswitch, fabric: none}");
  CHECK(node.gpu_count() == 8);
}

TEST_CASE("nodes of a job that outgrows a leaf are all equally far from each other") {
  // No record tells which leaves its job had; far is the rule in large jobs.
  const Cluster large = good_hardware(
      "{device: a100-sxm-80gb, gpus: 264, gpus_per_node: 8, intra_node: nvswitch, "
      "fabric: infiniband}");
  const auto latency = [](const Cluster& cluster, std::size_t gpu) {
    return cluster.route(GpuId(0), GpuId(gpu)).latency.value();
  };
  CHECK(latency(large, 8) == latency(large, 256));
  const Cluster small = good_hardware(
      "{device: a100-sxm-80gb, gpus: 256, gpus_per_node: 8, intra_node: nvswitch, "
      "fabric: infiniband}");
  CHECK(latency(small, 8) < latency(large, 8));
  CHECK(gigabytes(large, 0, 8) == gigabytes(small, 0, 8));
}

TEST_CASE("NICs and their rate are those of the run") {
  const Cluster cluster = good_hardware(
      "{device: a100-sxm-80gb, gpus: 32, gpus_per_node: 8, intra_node: nvswitch, "
      "nics_per_node: 4, nic_rate: 200 Gb/s, fabric: infiniband}");
  CHECK(cluster.node_count() == 4);
  CHECK(cluster.nics_per_node() == 4);
  CHECK(gigabytes(cluster, 0, 8) == 25.0);
  const Cluster efa = good_hardware(
      "{device: h100-sxm-80gb, gpus: 16, gpus_per_node: 8, intra_node: nvswitch, "
      "nics_per_node: 32, nic_rate: 100 Gb/s, fabric: efa}");
  CHECK(gigabytes(efa, 0, 8) == 50.0);
  CHECK(efa.spec().fabric.technology == "efa");
}

TEST_CASE("intra_node: pcie takes NVLink away; four cards sit on the sockets, eight on switches") {
  const Cluster node = good_hardware(
      "{device: a100-sxm-80gb, gpus: 4, gpus_per_node: 4, intra_node: pcie, fabric: none}");
  CHECK(node.gpu_count() == 4);
  CHECK(node.nvlink_domain_size() == 1);
  CHECK(path_class(node, 0, 1) == PathClass::host_staged);
  CHECK(path_class(node, 0, 2) == PathClass::host_staged);
  const Cluster eight = good_hardware(
      "{device: a100-sxm-80gb, gpus: 8, gpus_per_node: 8, intra_node: pcie, fabric: none}");
  CHECK(path_class(eight, 0, 1) == PathClass::pcie_switch);
  CHECK(path_class(eight, 0, 2) == PathClass::host_staged);
  const Cluster staged = good_hardware(
      "{device: rtx4090, gpus: 8, gpus_per_node: 8, intra_node: pcie, pcie_p2p: false}");
  CHECK(path_class(staged, 0, 1) == PathClass::host_staged);
}

TEST_CASE("GB200 trays of one rack are one NVLink domain without any fabric") {
  const Cluster trays = good_hardware(
      "{device: gb200, gpus: 8, gpus_per_node: 4, intra_node: nvswitch, fabric: none}");
  CHECK(trays.node_count() == 2);
  CHECK(trays.nvlink_domain_size() == 8);
  CHECK(path_class(trays, 0, 7) == PathClass::nvlink);
}

TEST_CASE("four GPUs in an NVLink mesh share their links evenly") {
  const Cluster mesh =
      good_hardware("{device: a100-sxm-80gb, gpus: 4, gpus_per_node: 4, intra_node: nvlink_mesh}");
  CHECK(gigabytes(mesh, 0, 3) == 100.0);
}

TEST_CASE("an unknown fabric is assumed, and the assumption is told") {
  Diagnostics diagnostics;
  const auto cluster = hardware(
      "{device: a100-sxm-80gb, gpus: 16, gpus_per_node: 8, intra_node: nvswitch, "
      "nics_per_node: 8, nic_rate: 200 Gb/s, fabric: unknown}",
      diagnostics);
  REQUIRE(cluster);
  REQUIRE(diagnostics.all().size() == 1);
  CHECK(diagnostics.all()[0].severity == Severity::note);
  CHECK(diagnostics.all()[0].message == "the fabric is unknown: InfiniBand by rails assumed");
}

TEST_CASE("wrong hardware maps are refused at the key that is wrong") {
  const auto errors = [](const std::string& map) {
    Diagnostics diagnostics;
    CHECK_FALSE(hardware(map, diagnostics));
    return errors_of(diagnostics);
  };
  CHECK(errors("{device: a100-sxm-80gb, gpus: 16, gpus_per_node: 8, intra_node: nvswitch}") ==
        "1:31 disconnected-topology: 2 nodes, but no fabric joins them | add 'fabric:', or use a "
        "single node\n");
  CHECK(errors("{device: a100-sxm-80g, gpus: 8, intra_node: nvswitch}")
            .starts_with("1:10 unknown-device: no device is called 'a100-sxm-80g' | did you mean "
                         "'a100-sxm-80gb'?"));
  CHECK(errors("{device: l40s, gpus: 8, intra_node: nvswitch}") ==
        "1:37 no-nvlink: device 'l40s' has no NVLink | use a device that has it, or "
        "join its GPUs over PCIe alone\n");
  CHECK(errors("{device: b200, gpus: 8, intra_node: nvswitch, nics_per_node: 3, fabric: roce}")
            .starts_with("1:62 not-divisible: 3 NICs and 8 GPUs cannot be dealt evenly"));
  CHECK(errors("{device: b200, gpus: 0, intra_node: nvswich, fabrik: none}")
            .find("unknown key 'fabrik' in hardware | did you mean 'fabric'?") !=
        std::string::npos);
}

}  // namespace longhaul
