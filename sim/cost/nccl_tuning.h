// NCCL's own cost model: the latency and bandwidth that NCCL expects of every algorithm and
// protocol, which is what it chooses by. Pure functions of constants (the `tuning` section of a
// transport profile) and an abstract topology. Equations: docs/models/collectives.md.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "sim/cost/collective.h"
#include "sim/units/quantity.h"

namespace longhaul {

inline constexpr std::size_t nccl_algorithms = 5;
inline constexpr std::size_t nccl_protocols = 3;

/// By NcclProtocol.
template <class T>
using PerProtocol = std::array<T, nccl_protocols>;
/// For groups on one node, on two, on three and more.
template <class T>
using PerScale = std::array<T, 3>;

/// What NCCL assumes for one algorithm. Hops: one step over a link of that kind.
struct AlgorithmLatency {
  PerProtocol<Seconds> base{};
  PerProtocol<Seconds> nvlink{};
  PerProtocol<Seconds> pcie{};
  PerProtocol<Seconds> network{};
};

/// What NCCL assumes for one GPU architecture.
struct ArchitectureTuning {
  std::string name;                        ///< as Device::architecture
  BytesPerSecond nvlink_link;              ///< bandwidth it counts for one NVLink
  double nvls_efficiency = 0.0;            ///< zero: its switches do not reduce
  double ring_plateau = 1.0;               ///< Simple ring all-reduce over nodes: latency factor
  PerScale<BytesPerSecond> ll_limit{};     ///< LL: of a whole GPU
  PerScale<BytesPerSecond> ring_ll128{};   ///< per channel
  PerScale<BytesPerSecond> tree_ll128{};   ///< per channel
  PerScale<BytesPerSecond> tree_simple{};  ///< per channel
  std::vector<BytesPerSecond> one_node;    ///< speeds the search tries for a channel, falling
  std::vector<BytesPerSecond> many_nodes;
};

/// The `tuning` section of a transport profile.
struct TuningConstants {
  std::array<AlgorithmLatency, nccl_algorithms> latency{};
  std::vector<ArchitectureTuning> architectures;  ///< "other" serves those not listed
  Seconds network_overhead;                       ///< of posting a send to the network
  /// Trees fall short of the model at middle sizes: factors for 64 B, 128 B, 256 B, ...
  PerProtocol<std::vector<double>> tree_correction;
  BytesPerSecond duplicate_from;  ///< channels this fast on one node are split in two
  [[nodiscard]] const ArchitectureTuning& architecture(const std::string& name) const;
};

/// The channels that NCCL's search finds for an algorithm, before each becomes two.
struct ChannelGraph {
  int channels = 0;
  BytesPerSecond intra;  ///< of one channel within a node
  BytesPerSecond inter;  ///< of one channel between nodes
};

/// What of a group and its machine matters to the model.
struct TuningTopology {
  int ranks = 1;
  int nodes = 1;
  bool nvlink = false;      ///< neighbours within a node are joined by NVLink
  bool ll128 = false;       ///< LL128 is allowed on the paths
  bool in_switch = false;   ///< the NVSwitch reduces (NVLS)
  Seconds network_latency;  ///< what the adapter reports; zero for InfiniBand
  ChannelGraph ring;
  ChannelGraph tree;
  ChannelGraph nvls;  ///< one channel per head (GPU)
};

struct TuningEstimate {
  Seconds latency;
  BytesPerSecond bandwidth;  ///< of the algorithm (bytes of the request over time); zero: not used
};

/// What NCCL expects of a collective; `kind` is neither send nor all_to_all, which NCCL does not
/// model.
TuningEstimate estimate(const TuningConstants& constants, const std::string& architecture,
                        const TuningTopology& topology, CollectiveKind kind,
                        NcclAlgorithm algorithm, NcclProtocol protocol);

/// The time NCCL expects for `bytes`, by which it chooses: the estimate with the corrections of
/// trees at middle sizes and of rings over nodes.
Seconds expected_time(const TuningConstants& constants, const std::string& architecture,
                      const TuningTopology& topology, CollectiveKind kind, NcclAlgorithm algorithm,
                      NcclProtocol protocol, Bytes bytes);

}  // namespace longhaul
