// Files of machines become clusters: what is read, what is guessed and said to be, what is refused.
#include <catch2/catch.hpp>
#include <fstream>
#include <random>
#include <sstream>

#include "sim/topology/import.h"
#include "sim/topology/smi_matrix.h"
#include "tests/sim/topology/clusters.h"

namespace longhaul {

using namespace testing;
using Catch::Matchers::Contains;
using Catch::Matchers::WithinRel;

namespace {

const std::string folder = std::string(LONGHAUL_SOURCE_DIR) + "/tests/sim/topology/machines/";

std::string content(const std::string& name) {
  std::ifstream file(folder + name, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  REQUIRE_FALSE(text.str().empty());
  return text.str();
}

SourcePtr source_of(const std::string& name, const std::string& text) {
  return std::make_shared<const SourceText>(SourceText{name, text});
}

/// Imports a text; everything said about it is in `said`, one message a line.
std::optional<ImportedCluster> import_text(const std::string& name, const std::string& text,
                                           const ImportOptions& options, std::string& said) {
  const SourcePtr source = source_of(name, text);
  Diagnostics diagnostics;
  const auto cluster =
      import_topology(source, detect_topology_format(*source), options, diagnostics);
  for (const Diagnostic& one : diagnostics.all()) {
    said += one.code + ": " + one.message + "\n";
  }
  CHECK(cluster.has_value() != diagnostics.has_errors());
  return cluster;
}

ImportOptions device(const std::string& name) {
  ImportOptions options;
  options.device = name;
  return options;
}

ImportedCluster imported(const std::string& name, const ImportOptions& options = {}) {
  std::string said;
  const auto cluster = import_text(name, content(name), options, said);
  INFO(said);
  REQUIRE(cluster);
  return *cluster;
}

std::string said_about(const std::string& name, const std::string& text,
                       const ImportOptions& options = {}) {
  std::string said;
  import_text(name, text, options, said);
  return said;
}

std::string replaced(std::string text, const std::string& what, const std::string& by) {
  const std::size_t at = text.find(what);
  REQUIRE(at != text.npos);
  return text.replace(at, what.size(), by);
}

struct Sample {
  const char* file;
  const char* device;
};
const std::vector<Sample> samples{
    {"four_hoppers.xml", ""},      {"bridged_pairs.xml", ""},    {"tree_only.xml", "a100-sxm-80gb"},
    {"grace.xml", "gb200"},        {"escapes_and_nics.txt", ""}, {"sockets.txt", "l40s"},
    {"cube.txt", "v100-sxm-32gb"},
};

}  // namespace

TEST_CASE("a complete dump of NCCL is read as it stands") {
  const ImportedCluster file = imported("four_hoppers.xml");
  CHECK(file.device == "h100-sxm-80gb");
  const Cluster cluster = build_cluster(file.spec);
  CHECK(cluster.gpu_count() == 4);
  // 10 + 8 links go to two NVSwitches, which count as one: all 18 of the device.
  CHECK(path_class(cluster, 0, 3) == PathClass::nvlink);
  CHECK(gigabytes(cluster, 0, 3) == 450.0);
  CHECK(cluster.path_name(GpuId(0), GpuId(3)) == "NV18");
  // The disk's switch is left out; the empty level above GPU 2 is kept.
  CHECK(file.spec.node.pcie.switches == 3);
  CHECK(names(cluster, cluster.host_route(GpuId(2), true)) ==
        "node0.gpu2 node0.pcie2 node0.pcie1 node0.cpu1 node0.memory1");
  // GPU 3 hangs on its CPU in half the slot.
  CHECK(names(cluster, cluster.host_route(GpuId(3), true)) ==
        "node0.gpu3 node0.cpu1 node0.memory1");
  CHECK(cluster.bandwidth(cluster.host_route(GpuId(3), true)).value() == 31.5e9);
  CHECK(cluster.bandwidth(cluster.host_route(GpuId(0), true)).value() == 63e9);
}

TEST_CASE("every GPU uses the adapters that are nearest to it") {
  ImportedCluster file = imported("four_hoppers.xml");
  file.spec.nodes = 2;
  file.spec.fabric = preset("dgx-h100", 8).spec().fabric;
  const Cluster cluster = build_cluster(file.spec);
  // GPUs 0 and 1 share the one adapter of their switch. GPU 2 has both ports of the other; GPU 3
  // has them nearest, too, so each of the two gets a port.
  CHECK(rails(file.spec.node) == 3);
  CHECK(gigabytes(cluster, 0, 4) == 50.0);
  CHECK(gigabytes(cluster, 2, 6) == 25.0);
  CHECK(route_names(cluster, 1, 5) ==
        "node0.gpu1 node0.pcie0 node0.nic0 unit0.leaf0 node1.nic0 node1.pcie0 node1.gpu1");
}

TEST_CASE("adapters of one function share its slot") {
  const ImportedCluster file = imported("four_hoppers.xml");
  const std::vector<NicPlace>& nics = file.spec.node.layout->nics;
  REQUIRE(nics.size() == 3);
  CHECK(nics[0].rate.value() == 50e9);
  CHECK(nics[1].rate.value() == 25e9);
  CHECK(nics[0].slot.value() == 63e9);
  CHECK(nics[2].slot.value() == 31.5e9);
}

TEST_CASE("bridges between cards that are no neighbours are kept pair by pair") {
  const ImportedCluster file = imported("bridged_pairs.xml");
  CHECK(file.device == "a100-pcie-80gb");
  const Cluster cluster = build_cluster(file.spec);
  CHECK(cluster.path_name(GpuId(0), GpuId(2)) == "NV12");
  CHECK(cluster.path_name(GpuId(1), GpuId(3)) == "NV12");
  CHECK(cluster.path_name(GpuId(0), GpuId(1)) == "NODE");
  CHECK_FALSE(cluster.has_peer_access(GpuId(0), GpuId(1)));
  CHECK(cluster.has_peer_access(GpuId(0), GpuId(2)));
  CHECK(cluster.nvlink_domain_size() == 2);
  CHECK(cluster.nvlink_domain_of(GpuId(0)) == cluster.nvlink_domain_of(GpuId(2)));
  // An empty link_speed says nothing: the device's slot, and the file says so.
  CHECK(file.spec.node.pcie.gpu_slot.value() == 31.5e9);
  CHECK_THAT(file.notes.at("pcie.gpu_slot"), Contains("guessed"));
  CHECK_FALSE(file.spec.node.nics.gpudirect);
}

TEST_CASE("a file with the PCI tree alone tells neither the GPU nor NVLink, and is told so") {
  const std::string text = content("tree_only.xml");
  CHECK_THAT(said_about("tree_only.xml", text),
             Contains("unknown-gpu: the file does not name the GPU"));
  CHECK_THAT(said_about("tree_only.xml", text, device("a100-sxm-80gb")),
             Contains("guessed-nvlink: the file does not show NVLink: none is taken to exist") &&
                 Contains("guessed-rate: the rate of 2 adapters is not in the file: guessed: 200 "
                          "Gb/s is what a slot of 31.5 GB/s carries"));
  ImportOptions options = device("a100-sxm-80gb");
  options.nvlink = NvlinkWiring::switched;
  options.nic_rate = BytesPerSecond::of(12.5e9);
  const ImportedCluster file = imported("tree_only.xml", options);
  // GPUs are numbered by bus id, wherever they stand in the file.
  CHECK(file.spec.node.layout->gpus[0].seat == Seat{Seat::Kind::pcie_switch, 1, std::nullopt});
  CHECK(file.spec.node.nics.bandwidth.value() == 12.5e9);
  CHECK(build_cluster(file.spec).path_name(GpuId(0), GpuId(1)) == "NV12");
}

TEST_CASE("NVLink-C2C replaces the slot of a Grace's GPU") {
  const ImportedCluster file = imported("grace.xml", device("gb200"));
  // 10 links of 44712 MB/s.
  CHECK_THAT(file.spec.node.c2c.bandwidth.value(), WithinRel(447.12e9, 1e-12));
  const Cluster cluster = build_cluster(file.spec);
  CHECK(cluster.path_name(GpuId(0), GpuId(1)) == "NV18");
  CHECK_THAT(cluster.bandwidth(cluster.host_route(GpuId(1), true)).value(),
             WithinRel(447.12e9, 1e-12));
}

TEST_CASE("a matrix with escapes, carriage returns and adapters becomes seats") {
  const ImportedCluster file = imported("escapes_and_nics.txt");
  CHECK(file.device == "a100-sxm-80gb");
  CHECK_THAT(file.notes.at("node.device"), Contains("guessed"));
  const NodeSpec& node = file.spec.node;
  CHECK(node.nvlink.wiring == NvlinkWiring::switched);
  CHECK(node.host.sockets == 2);
  REQUIRE(node.layout->nics.size() == 3);
  CHECK(node.layout->nics[0].name == "mlx5_0");
  CHECK_FALSE(node.layout->nics[0].storage);
  // No GPU has the bond nearest: it is for storage.
  CHECK(node.layout->nics[2].name == "eth_bond");
  CHECK(node.layout->nics[2].storage);
}

// What the matrix says about every pair must be what our own cluster says.
TEST_CASE("the paths of an imported matrix have the names that the matrix gives them") {
  for (const Sample& sample : samples) {
    const std::string text = content(sample.file);
    const SourcePtr source = source_of(sample.file, text);
    if (detect_topology_format(*source) != TopologyFormat::smi_topo) {
      continue;
    }
    INFO(sample.file);
    Diagnostics diagnostics;
    const auto matrix = read_smi_matrix(source, diagnostics);
    REQUIRE(matrix);
    const Cluster cluster = build_cluster(imported(sample.file, device(sample.device)).spec);
    using Relation = SmiMatrix::Relation;
    const std::map<Relation, std::string> words{{Relation::self, "X"},    {Relation::pix, "PIX"},
                                                {Relation::pxb, "PXB"},   {Relation::phb, "PHB"},
                                                {Relation::node, "NODE"}, {Relation::sys, "SYS"}};
    for (std::size_t a = 0; a < matrix->gpus; ++a) {
      for (std::size_t b = 0; b < matrix->gpus; ++b) {
        const SmiMatrix::Cell& cell = matrix->cell(a, b);
        const std::string name = cluster.path_name(GpuId(a), GpuId(b));
        INFO(a << " " << b);
        if (cell.relation == Relation::nvlink) {
          CHECK(name == "NV" + std::to_string(cell.links));
        } else {
          // The matrix knows no NVLink through another GPU.
          CHECK((name == words.at(cell.relation) || name == "NVB"));
        }
      }
    }
  }
}

TEST_CASE("NVLinks that join only some pairs are kept, and others go through one GPU") {
  const Cluster cluster = build_cluster(imported("cube.txt", device("v100-sxm-32gb")).spec);
  CHECK(gigabytes(cluster, 0, 1) == 50.0);  // 2 of 6 links, 150 GB/s in all
  CHECK(gigabytes(cluster, 0, 2) == 25.0);
  // GPU 0 reaches GPU 3 through GPU 1 (2 links, then 1) or GPU 2 (1, then 2): equally wide.
  CHECK(route_names(cluster, 0, 3) == "node0.gpu0 node0.gpu1 node0.gpu3");
  CHECK(gigabytes(cluster, 0, 3) == 25.0);
  CHECK(cluster.path_name(GpuId(0), GpuId(3)) == "NVB");
  CHECK(cluster.nvlink_domain_size() == 4);
}

TEST_CASE("writing an import, reading it and writing it again changes nothing") {
  for (const Sample& sample : samples) {
    INFO(sample.file);
    const ImportedCluster file = imported(sample.file, device(sample.device));
    const std::string once = write_cluster(file);
    Diagnostics diagnostics;
    const auto read = read_cluster(parse_yaml(once), {}, diagnostics);
    INFO(once);
    REQUIRE(read);
    CHECK(diagnostics.all().empty());
    ImportedCluster again = file;
    again.spec = read->spec();
    CHECK(write_cluster(again) == once);
    // And the graph is the same one, link by link.
    const Cluster direct = build_cluster(file.spec);
    REQUIRE(direct.links().size() == read->links().size());
    for (std::size_t i = 0; i < direct.links().size(); ++i) {
      const Link& a = direct.links()[i];
      const Link& b = read->links()[i];
      CHECK((a.from == b.from && a.to == b.to && a.bandwidth == b.bandwidth &&
             a.latency == b.latency));
    }
  }
}

TEST_CASE("every value of an imported file is said to be read, given or guessed") {
  for (const Sample& sample : samples) {
    const std::string text = write_cluster(imported(sample.file, device(sample.device)));
    std::istringstream lines(text);
    std::string line;
    bool layout = false;
    while (std::getline(lines, line)) {
      layout = layout || line.find("layout:") != line.npos;
      const bool value = line.find(": ") != line.npos && line[0] == ' ' && !layout;
      const bool named = line.find("name: ") != line.npos || line.find("title: ") != line.npos ||
                         line.find("- {gpus") != line.npos;
      if (value && !named) {
        INFO(sample.file << ": " << line);
        CHECK(line.find("  # ") != line.npos);
      }
    }
  }
}

TEST_CASE("files are told apart by what is in them") {
  const auto format = [](const std::string& text) {
    return detect_topology_format(SourceText{"x", text});
  };
  CHECK(format(content("grace.xml")) == TopologyFormat::nccl_xml);
  CHECK(format("<graphs version=\"1\">\n</graphs>\n") == TopologyFormat::nccl_graph);
  CHECK(format(content("sockets.txt")) == TopologyFormat::smi_topo);
  CHECK(format("# nThread 1 nGpus 8 minBytes 8\n") == TopologyFormat::nccl_tests);
  CHECK(format("node: dgx-h100\n") == TopologyFormat::cluster_yaml);
  CHECK(format("a: b\n") == TopologyFormat::unknown);
  CHECK(format("") == TopologyFormat::unknown);
}

// --- bad input --------------------------------------------------------------------------------

TEST_CASE("devices that occur twice are refused, at the second place") {
  const std::string text = content("four_hoppers.xml");
  CHECK_THAT(said_about("x", replaced(text, "0000:13:00.0", "0000:12:00.0")),
             Contains("duplicate-device: two GPUs have the bus id '0000:12:00.0'"));
  CHECK_THAT(said_about("x", replaced(text, "dev=\"1\" sm", "dev=\"0\" sm")),
             Contains("duplicate-device: two GPUs have dev 0"));
  CHECK_THAT(said_about("x", replaced(text, "rank=\"1\"", "rank=\"0\"")),
             Contains("duplicate-device: two GPUs have rank 0"));
  CHECK_THAT(said_about("x", replaced(text, "name=\"mlx5_2\" dev=\"2\" speed=\"200000\" port=\"2\"",
                                      "name=\"mlx5_1\" dev=\"2\" speed=\"200000\" port=\"1\"")),
             Contains("duplicate-device: two adapters are called 'mlx5_1'"));
}

TEST_CASE("a GPU outside the PCI tree, or of no known model, is refused") {
  CHECK_THAT(said_about("x", "<system version=\"1\">\n<gpu dev=\"0\"/>\n</system>\n"),
             Contains("gpu-without-pci"));
  CHECK_THAT(said_about("x", "<system version=\"1\">\n</system>\n"), Contains("no-gpus"));
  const std::string amd =
      replaced(content("bridged_pairs.xml"), "vendor=\"0x10de\" device=\"0x20b5\"",
               "vendor=\"0x1002\" device=\"0x74a1\"");
  CHECK_THAT(said_about("x", amd), Contains("mixed-gpus: GPUs of different models in one machine: "
                                            "1002:74a1, 10de:20b5"));
  CHECK_THAT(said_about("x", content("four_hoppers.xml"), device("h10")),
             Contains("unknown-device"));
}

TEST_CASE("links to oneself and links that come back differently are told") {
  const std::string text = content("bridged_pairs.xml");
  CHECK_THAT(said_about("x", replaced(text, "target=\"0000:03:00.0\"", "target=\"0000:01:00.0\"")),
             Contains("self-loop: GPU 0 has NVLinks to itself: left out") &&
                 Contains("asymmetric-nvlink: 12 NVLinks from GPU 2 to GPU 0, but 0 back"));
  CHECK_THAT(said_about("x", replaced(text, "count=\"12\"", "count=\"-3\"")),
             Contains("bad-nvlink: NVLink count '-3' is no number of links: left out"));
  CHECK_THAT(said_about("x", replaced(text, "target=\"0000:03:00.0\"", "target=\"0000:77:00.0\"")),
             Contains("unknown-nvlink-end"));
}

TEST_CASE("a device with fewer NVLinks than the file shows is not believed") {
  CHECK_THAT(said_about("x", content("four_hoppers.xml"), device("a100-sxm-80gb")),
             Contains("other-device: the file says 'h100-sxm-80gb', but --device says "
                      "'a100-sxm-80gb', which is taken") &&
                 Contains("too-many-links: 18 links per GPU to the NVSwitches; 'a100-sxm-80gb' has "
                          "12"));
}

TEST_CASE("unknown elements are left out and counted") {
  const std::string text = replaced(content("grace.xml"), "<system version=\"1\">",
                                    "<system version=\"1\"><apu/><apu/><quantum link=\"1\"/>");
  CHECK_THAT(said_about("x", text, device("gb200")),
             Contains("skipped-element: 2 elements 'apu' left out") &&
                 Contains("skipped-element: 1 element 'quantum' left out"));
}

TEST_CASE("broken matrices are refused where they break") {
  const std::string text = content("sockets.txt");
  const ImportOptions l40s = device("l40s");
  CHECK_THAT(said_about("x", replaced(text, "GPU1    PIX      X ", "GPU1    PIX      PIX "), l40s),
             Contains("self-loop: GPU1 is 'PIX' to itself"));
  CHECK_THAT(said_about("x", replaced(text, "GPU2    PXB     PXB", "GPU2    PXB     WIRE"), l40s),
             Contains("unknown-relation: 'WIRE' is no relation of nvidia-smi topo -m"));
  CHECK_THAT(said_about("x", replaced(text, "GPU2    PXB     PXB", "GPU1    PXB     PXB"), l40s),
             Contains("duplicate-device: a second row is called 'GPU1'"));
  CHECK_THAT(
      said_about("x", replaced(text, "GPU3    SOC     SOC     SOC", "GPU3    SOC     SOC     PIX"),
                 l40s),
      Contains("asymmetric-matrix: GPU2 and GPU3 disagree about their relation"));
  const std::string cut = text.substr(0, text.find("GPU1    PIX"));
  CHECK_THAT(said_about("x", cut, l40s),
             Contains("missing-cell: the matrix does not say how GPU1 and GPU2 are joined"));
  CHECK_THAT(said_about("x", text + text, l40s), Contains("second-matrix"));
}

TEST_CASE("a header and rows that a terminal has wrapped are put together again") {
  const ImportedCluster whole = imported("sockets.txt", device("l40s"));
  std::string said;
  const auto wrapped = import_text("sockets.txt",
                                   "        GPU0    GPU1    GPU2\n    GPU3    CPU Affinity\n"
                                   "GPU0     X      PIX     PXB\n     SOC     0-7\n"
                                   "GPU1    PIX      X      PXB     SOC     0-7\n"
                                   "GPU2    PXB     PXB      X      SOC     0-7\n"
                                   "GPU3    SOC     SOC\n     SOC      X      8-15\n",
                                   device("l40s"), said);
  INFO(said);
  REQUIRE(wrapped);
  CHECK(write_cluster(*wrapped) == write_cluster(whole));
}

// Whatever the bytes: a cluster that can be read back, or an error with its place. Nothing else.
TEST_CASE("no bytes crash the importer, and what it writes can be read") {
  std::mt19937 random(20250101);  // the same bytes in every run
  std::size_t accepted = 0;
  std::size_t refused = 0;
  for (const Sample& sample : samples) {
    const std::string original = content(sample.file);
    for (int round = 0; round < 1500; ++round) {
      std::string text = original;
      const std::size_t changes = 1 + random() % 6;
      for (std::size_t i = 0; i < changes && !text.empty(); ++i) {
        const std::size_t at = random() % text.size();
        switch (random() % 5) {
          case 0: text[at] = static_cast<char>(random()); break;
          case 1: text.erase(at, 1 + random() % 40); break;
          case 2: text.insert(at, text.substr(random() % text.size(), random() % 60)); break;
          case 3: text.resize(at); break;
          default: text[at] = "0123456789<>\"=/ \t\nXGPUNV-"[random() % 25]; break;
        }
      }
      const SourcePtr source = source_of("mutant", text);
      const TopologyFormat kind = std::string(sample.file).ends_with("xml")
                                      ? TopologyFormat::nccl_xml
                                      : TopologyFormat::smi_topo;
      detect_topology_format(*source);
      Diagnostics diagnostics;
      const auto cluster = import_topology(source, kind, device(sample.device), diagnostics);
      REQUIRE(cluster.has_value() != diagnostics.has_errors());
      if (!cluster) {
        ++refused;
        continue;
      }
      ++accepted;
      const std::string written = write_cluster(*cluster);
      Diagnostics reading;
      const auto map = YamlValue::parse(source_of("written", written), reading);
      const auto read = map ? read_cluster(*map, {}, reading) : std::nullopt;
      INFO(written << format_diagnostics(reading, false));
      REQUIRE(read);
    }
  }
  // Both happen often, or the test would prove nothing.
  CHECK(accepted > 1000);
  CHECK(refused > 1000);
}

}  // namespace longhaul
