// Measured tables of a transport profile: which is used, what it gives, what is wrong with it.
#include "sim/cost/collective_table.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "sim/input/presets.h"
#include "sim/input/yaml.h"
#include "sim/network/flow_network.h"
#include "sim/topology/read_cluster.h"

using namespace longhaul;

namespace {

// The built-in profile with tables of its own instead of those that it has.
std::string with_tables(const std::string& tables) {
  const auto source = *embedded_file("calibrate/profiles/transports/nccl.yaml");
  const auto cut = source->text.find("\ntables:");
  return source->text.substr(0, cut) + "\ntables:\n" + tables;
}

std::optional<TransportProfile> read(const std::string& text, Diagnostics& diagnostics) {
  const auto source = std::make_shared<const SourceText>(SourceText{"test.yaml", text});
  return read_transport_profile(source, diagnostics);
}

constexpr const char* gather_of_8 = R"(
  - collective: all_gather
    device: [h100-sxm-80gb, h200-sxm]
    gpus: 8
    gpus_per_node: 8
    nodes: 1
    spread: 0.04
    from: a test
    points: [[1 MiB, 20 us], [4 MiB, 40 us], [64 MiB, 200 us], [1 GiB, 3000 us]]
)";

struct Machine {
  Machine(const char* name, const std::string& tables, int size)
      : cluster(*find_cluster(name, {size}, {}, diagnostics)),
        transport(cluster, std::make_shared<const TransportProfile>(
                               *read(with_tables(tables), diagnostics))) {}
  [[nodiscard]] CollectivePlan lower(int count, double bytes) const {
    return transport.lower(request(count, bytes));
  }
  [[nodiscard]] double time(int count, double bytes) const {
    return transport.alone(request(count, bytes)).value();
  }
  [[nodiscard]] CollectiveRequest request(int count, double bytes) const {
    gpus.clear();
    for (int i = 0; i < count; ++i) {
      gpus.emplace_back(i);
    }
    return {CollectiveKind::all_gather, gpus, Bytes::of(bytes)};
  }
  mutable std::vector<GpuId> gpus;
  Diagnostics diagnostics;
  Cluster cluster;
  TransportCosts transport;
};

constexpr double mebi = 1048576.0;

}  // namespace

TEST_CASE("a table's points are met exactly, and between them the time is a power of the size") {
  const Machine h100("dgx-h100", gather_of_8, 8);
  CHECK_THAT(h100.time(8, mebi), Catch::Matchers::WithinRel(20e-6, 1e-9));
  CHECK_THAT(h100.time(8, 64 * mebi), Catch::Matchers::WithinRel(200e-6, 1e-9));
  CHECK_THAT(h100.time(8, 2 * mebi), Catch::Matchers::WithinRel(20e-6 * std::sqrt(2.0), 1e-9));
  CHECK(h100.lower(8, mebi).measured);
  CHECK_FALSE(h100.lower(8, mebi).extrapolated);
  CHECK(h100.lower(8, mebi).relative_spread == 0.04);
}

TEST_CASE("below a table is its floor, above it the bandwidth of its last points") {
  const Machine h100("dgx-h100", gather_of_8, 8);
  CHECK_THAT(h100.time(8, 8.0), Catch::Matchers::WithinRel(20e-6, 1e-9));
  const double more = 3000e-6 + 1024 * mebi * (2800e-6 / (960 * mebi));
  CHECK_THAT(h100.time(8, 2048 * mebi), Catch::Matchers::WithinRel(more, 1e-9));
  CHECK(h100.lower(8, 2048 * mebi).extrapolated);
}

TEST_CASE("the flows of a measured collective take the table's time on an idle cluster") {
  const Machine h100("dgx-h100", gather_of_8, 8);
  for (const double bytes : {1e3, 1e6, 3e7, 1e9, 1e10}) {
    const CollectivePlan plan = h100.lower(8, bytes);
    FlowNetwork network(h100.transport.link_capacities());
    for (const PlannedFlow& flow : plan.flows) {
      network.start({flow.links, flow.bytes, flow.latency + plan.latency, flow.rate_cap},
                    SimTime());
    }
    SimTime last;
    std::vector<FlowId> done;
    while (network.next_event() != SimTime::infinity()) {
      last = network.next_event();
      network.advance(last, done);
    }
    CHECK_THAT(last.seconds().value(), Catch::Matchers::WithinRel(h100.time(8, bytes), 1e-6));
  }
}

TEST_CASE("a table serves its devices and its group shape, and nothing else") {
  const Machine h200("hgx-h200", gather_of_8, 16);
  CHECK(h200.lower(8, mebi).measured);
  CHECK_FALSE(h200.lower(4, mebi).measured);
  CHECK_FALSE(h200.lower(16, mebi).measured);
  const Machine a100("dgx-a100", gather_of_8, 8);
  CHECK_FALSE(a100.lower(8, mebi).measured);
  // A pin asks for what NCCL would not have chosen: the table says nothing about it.
  CollectiveRequest pinned = h200.request(8, mebi);
  pinned.protocol = NcclProtocol::simple;
  CHECK_FALSE(h200.transport.lower(pinned).measured);
}

TEST_CASE("a table over nodes asks for its fabric and, if it names it, the NICs' rate") {
  const std::string table = R"(
  - {collective: all_gather, device: h100-sxm-80gb, gpus: 16, gpus_per_node: 8, nodes: 2,
     fabric: infiniband, nic_rate: 400 Gb/s, spread: 0.1, from: a test,
     points: [[1 MiB, 80 us], [1 GiB, 4000 us]]}
)";
  CHECK(Machine("dgx-h100", table, 16).lower(16, mebi).measured);
  CHECK_FALSE(Machine("aws-p5", table, 16).lower(16, mebi).measured);
  CHECK_FALSE(Machine("gcp-a3-mega", table, 16).lower(16, mebi).measured);
  const auto slower = std::string(table).replace(table.find("400 Gb/s"), 8, "200 Gb/s");
  CHECK_FALSE(Machine("dgx-h100", slower, 16).lower(16, mebi).measured);
}

TEST_CASE("tables that cannot be right are refused, all at once") {
  Diagnostics diagnostics;
  const std::string bad = R"(
  - {collective: all_gather, device: x, gpus: 9, gpus_per_node: 8, nodes: 1, spread: 0,
     from: t, points: [[1 MiB, 80 us], [1 GiB, 4000 us]]}
  - {collective: all_gather, device: x, gpus: 8, gpus_per_node: 8, nodes: 1, spread: 0,
     from: t, points: [[1 GiB, 80 us], [1 MiB, 90 us]]}
  - {collective: all_gather, device: x, gpus: 8, gpus_per_node: 8, nodes: 1, spread: 0,
     from: t, points: [[1 MiB, 80 us], [1 GiB, 70 us]]}
  - {collective: all_gather, device: [], gpus: 8, gpus_per_node: 8, nodes: 1, spread: 0,
     from: t, points: [[1 MiB, 80]]}
  - {collective: all_gather, device: x, gpus: 16, gpus_per_node: 8, nodes: 2, spread: 0,
     from: t, points: [[0 B, 80 us], [1 MiB, 80 us], [2 MiB, 90 us]]}
)";
  CHECK_FALSE(read(with_tables(bad), diagnostics));
  std::vector<std::string> codes;
  for (const Diagnostic& found : diagnostics.all()) {
    codes.push_back(found.code);
  }
  CHECK(codes == std::vector<std::string>{"bad-group", "unsorted-table", "unsorted-table",
                                          "no-device", "bad-table-point", "short-table",
                                          "bad-table-point", "bad-group"});
}

TEST_CASE("a cluster may name the file of a transport profile of its own") {
  const auto path = std::filesystem::temp_directory_path() / "longhaul-own-transport.yaml";
  std::ofstream(path) << with_tables(gather_of_8);
  const auto text = std::make_shared<const SourceText>(
      SourceText{"c.yaml", "{include: dgx-h100, nodes: 1, transport: " + path.string() + "}\n"});
  Diagnostics diagnostics;
  const auto cluster = read_cluster(*YamlValue::parse(text, diagnostics), {}, diagnostics);
  REQUIRE(cluster);
  const TransportCosts costs = find_transport_costs(*cluster, diagnostics);
  const std::vector<GpuId> gpus{GpuId(0), GpuId(1), GpuId(2), GpuId(3),
                                GpuId(4), GpuId(5), GpuId(6), GpuId(7)};
  CHECK(costs.lower({CollectiveKind::all_gather, gpus, Bytes::of(mebi)}).measured);
  std::filesystem::remove(path);
}

TEST_CASE("a transport profile that does not exist is named") {
  for (const char* name : {"no-such", "/no/such/file.yaml"}) {
    const auto text = std::make_shared<const SourceText>(SourceText{
        "c.yaml", std::string("{include: dgx-h100, nodes: 1, transport: ") + name + "}\n"});
    Diagnostics diagnostics;
    const auto cluster = read_cluster(*YamlValue::parse(text, diagnostics), {}, diagnostics);
    REQUIRE(cluster);
    CHECK_THROWS_AS(find_transport_costs(*cluster, diagnostics), InputError);
    CHECK(diagnostics.all().size() == 1);
  }
}
