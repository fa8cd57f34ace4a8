// NCCL's own model against the tables that NCCL 2.29.2 printed on 2 and 4 H100 of one NVSwitch
// (NCCL_DEBUG_SUBSYS=TUNING): waynehacking8/nccl-collectives-bench at 38c093e,
// results/scaling_attributed/g{2,4}_auto.log. And channel counts printed by real machines.
#include "sim/cost/nccl_tuning.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "sim/cost/placement.h"
#include "sim/cost/transport.h"
#include "sim/input/presets.h"
#include "sim/topology/read_cluster.h"

using namespace longhaul;

namespace {

TransportProfile profile() {
  Diagnostics diagnostics;
  const auto source = embedded_file("calibrate/profiles/transports/nccl.yaml");
  return *read_transport_profile(*source, diagnostics);
}

Cluster cluster(const std::string& name, std::int64_t gpus) {
  Diagnostics diagnostics;
  return *find_cluster(name, {gpus}, {}, diagnostics);
}

std::vector<GpuId> first(int count) {
  std::vector<GpuId> gpus;
  for (int i = 0; i < count; ++i) {
    gpus.emplace_back(i);
  }
  return gpus;
}

// What NCCL printed: latency in us, bandwidth in GB/s, for LL, LL128, Simple; 0 / 0: not available.
struct Printed {
  int ranks;
  NcclAlgorithm algorithm;
  CollectiveKind kind;
  double cells[3][2];
};

constexpr auto ring = NcclAlgorithm::ring;
constexpr auto tree = NcclAlgorithm::tree;
constexpr auto nvls = NcclAlgorithm::nvls;
constexpr auto gather = CollectiveKind::all_gather;
constexpr auto scatter = CollectiveKind::reduce_scatter;
constexpr auto reduce = CollectiveKind::all_reduce;
constexpr auto broadcast = CollectiveKind::broadcast;

// Reduce prints the same as Broadcast, and is no collective of ours.
const Printed printed[] = {
    {2, ring, broadcast, {{7.2, 141.0}, {15.9, 331.2}, {11.8, 360.0}}},
    {2, ring, gather, {{7.2, 282.0}, {15.9, 662.4}, {11.8, 720.0}}},
    {2, ring, scatter, {{7.2, 282.0}, {15.9, 662.4}, {11.8, 720.0}}},
    {2, ring, reduce, {{7.8, 141.0}, {17.8, 331.2}, {15.2, 360.0}}},
    {2, tree, reduce, {{8.0, 61.1}, {16.5, 180.6}, {16.4, 232.2}}},
    {2, nvls, gather, {{0.0, 0.0}, {0.0, 0.0}, {25.0, 25.5}}},
    {2, nvls, scatter, {{0.0, 0.0}, {0.0, 0.0}, {25.0, 25.5}}},
    {2, nvls, reduce, {{0.0, 0.0}, {0.0, 0.0}, {25.0, 102.0}}},
    {4, ring, broadcast, {{7.2, 141.0}, {15.9, 331.2}, {11.8, 360.0}}},
    {4, ring, gather, {{8.4, 188.0}, {19.7, 441.6}, {18.6, 480.0}}},
    {4, ring, scatter, {{8.4, 188.0}, {19.7, 441.6}, {18.6, 480.0}}},
    {4, ring, reduce, {{10.2, 94.0}, {25.4, 220.8}, {28.8, 240.0}}},
    {4, tree, reduce, {{10.4, 43.6}, {21.5, 128.8}, {32.4, 165.6}}},
    {4, nvls, gather, {{0.0, 0.0}, {0.0, 0.0}, {25.0, 114.8}}},
    {4, nvls, scatter, {{0.0, 0.0}, {0.0, 0.0}, {25.0, 114.8}}},
    {4, nvls, reduce, {{0.0, 0.0}, {0.0, 0.0}, {25.0, 160.0}}},
};

}  // namespace

TEST_CASE("every cell of the tables that NCCL printed is met to the printed digit") {
  const TransportProfile nccl = profile();
  const Cluster h100 = cluster("dgx-h100", 8);
  for (const Printed& row : printed) {
    const auto gpus = first(row.ranks);
    const TuningTopology topology = tuning_topology(h100, place(h100, gpus), nccl.tuning);
    for (std::size_t p = 0; p < nccl_protocols; ++p) {
      const TuningEstimate expected = estimate(nccl.tuning, "hopper", topology, row.kind,
                                               row.algorithm, static_cast<NcclProtocol>(p));
      INFO("ranks " << row.ranks << " algorithm " << static_cast<int>(row.algorithm) << " kind "
                    << static_cast<int>(row.kind) << " protocol " << p << ": latency "
                    << expected.latency.value() * 1e6 << " bandwidth "
                    << expected.bandwidth.value() / 1e9);
      // Half a unit of the last digit printed, and the rounding of NCCL's single precision.
      CHECK(std::abs(expected.latency.value() * 1e6 - row.cells[p][0]) <= 0.05 + 1e-6);
      CHECK(std::abs(expected.bandwidth.value() / 1e9 - row.cells[p][1]) <= 0.05 + 1e-6);
    }
  }
}

TEST_CASE("rings of LL, LL128 and Simple take over from one another as sizes grow") {
  const TransportProfile nccl = profile();
  const Cluster a100 = cluster("dgx-a100", 8);
  const auto gpus = first(8);
  const TuningTopology topology = tuning_topology(a100, place(a100, gpus), nccl.tuning);
  const auto best = [&](double bytes) {
    std::size_t least = 0;
    double time = 1e9;
    for (std::size_t p = 0; p < nccl_protocols; ++p) {
      const double t = expected_time(nccl.tuning, "ampere", topology, gather, ring,
                                     static_cast<NcclProtocol>(p), Bytes::of(bytes))
                           .value();
      if (t < time) {
        time = t;
        least = p;
      }
    }
    return least;
  };
  // The measured all-gather of 8 A100 jumps at the same sizes, between 8 and 16 MiB.
  CHECK(best(1e6) == 0);
  CHECK(best(8e6) == 1);
  CHECK(best(32e6) == 2);
}

TEST_CASE("channels are those that real machines printed, as far as the search is reproduced") {
  // "N coll channels ... M p2p channels per peer" in NCCL_DEBUG=INFO logs of public repositories.
  const TransportProfile nccl = profile();
  const auto channels = [&](const char* name, std::vector<int> members) {
    const Cluster machine = cluster(name, members.back() + 1);
    std::vector<GpuId> gpus(members.begin(), members.end());
    const Placement placement = place(machine, gpus);
    const TuningTopology topology = tuning_topology(machine, placement, nccl.tuning);
    return std::pair(2 * topology.ring.channels, peer_channels(machine, placement));
  };
  const auto all = [](int count) {
    std::vector<int> members;
    for (int i = 0; i < count; ++i) {
      members.push_back(i);
    }
    return members;
  };
  using Pair = std::pair<int, int>;
  // waynehacking8/nccl-collectives-bench 38c093e, g2_NVLS.log; aws-samples/aws-do-eks f721602.
  CHECK(channels("dgx-h100", all(2)) == Pair(24, 32));
  CHECK(channels("dgx-h100", all(8)) == Pair(24, 32));
  // mlcommons/training_results v5.0, XE9680 with H200; v5.1, XE9685L with B200.
  CHECK(channels("hgx-h200", all(8)) == Pair(24, 32));
  CHECK(channels("dgx-b200", all(8)) == Pair(32, 32));
  // odissei-benchmarks/nccl-tests 6df4cb5, 4x H100 in a mesh: one node and two.
  CHECK(channels("hgx-h100-4", all(4)) == Pair(24, 16));
  CHECK(channels("hgx-h100-4", all(8)) == Pair(8, 2));
  // mlcommons/training_results_v3.0, XE8545 with 4x A100: one node and two (2 adapters).
  CHECK(channels("polaris", all(4)) == Pair(24, 8));
  CHECK(channels("polaris", all(8)) == Pair(4, 2));
  // KeitaW/p5-nccl-test; Nebius 2x 8 H100; Clemson 6x 8 H100.
  CHECK(channels("aws-p5", all(16)) == Pair(16, 2));
  CHECK(channels("dgx-h100", all(16)) == Pair(16, 2));
  CHECK(channels("dgx-h100", all(48)) == Pair(16, 2));
  // CCI-MOC/roce-testing 24e67d1, one GPU on each of two nodes.
  CHECK(channels("dgx-h100", {0, 8}) == Pair(2, 2));
}
