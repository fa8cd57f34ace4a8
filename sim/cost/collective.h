// How a collective becomes transfers on the cluster: algorithm, latency, flows, SMs held.
// The behaviour is data (calibrate/profiles/transports/*.yaml); see docs/models/collectives.md.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "sim/input/diagnostic.h"
#include "sim/topology/cluster.h"
#include "sim/units/quantity.h"

namespace longhaul {

enum class CollectiveKind { all_gather, reduce_scatter, all_reduce, all_to_all, broadcast, send };

/// Work between a GPU and its host's memory: copies, and what the host's processor reads and writes
/// in that memory.
enum class HostWork { to_host, from_host, in_memory };
struct HostRequest {
  HostWork work = HostWork::in_memory;
  bool pageable = false;  ///< copies: the memory is not pinned, the driver stages them
  double threads = 0.0;   ///< of the rank's processor work; 0: as many as its memory feeds
  bool operator==(const HostRequest&) const = default;
};

/// How NCCL may run a collective. tree and ring are NCCL's; nvls: the NVSwitch reduces; nvls_tree:
/// that within nodes and trees between them; pat: NCCL's binomial trees for one GPU per node.
enum class NcclAlgorithm { tree, ring, nvls, nvls_tree, pat };
enum class NcclProtocol { ll, ll128, simple };

/// A kernel that brings tokens to their experts, or what these made of them back: DeepEP's. Its
/// streaming multiprocessors handle every byte, so they may be slower than the links.
struct TokenKernel {
  bool combines = false;  ///< back, summed on the way
  int sms = 0;            ///< that it holds
  Bytes own;              ///< of a member's own tokens: read to dispatch, written to combine
  Bytes sent;             ///< to ranks of nodes, own tokens included
  Bytes network;          ///< to other nodes
};

/// A collective on an ordered group of GPUs. `bytes`, as NCCL counts per rank:
/// all_gather: the gathered output; reduce_scatter: the whole input; all_reduce: the buffer;
/// all_to_all: the whole send buffer (1/n to each peer, own share included);
/// broadcast: the buffer; send: the message from gpus[0] to gpus[1].
struct CollectiveRequest {
  CollectiveKind kind = CollectiveKind::all_gather;
  std::span<const GpuId> gpus;
  Bytes bytes;
  /// Pins, as NCCL_ALGO and NCCL_PROTO: used where NCCL has such a variant, else ignored.
  std::optional<NcclAlgorithm> algorithm = std::nullopt;
  std::optional<NcclProtocol> protocol = std::nullopt;
  /// all_to_all with pieces of different sizes (all-to-all-v): what member i sends to member j is
  /// pieces[i n + j]; `bytes` is then the most that any member sends. Empty: all equal.
  std::span<const Bytes> pieces = {};
  /// all_to_all with pieces: by a kernel of its own in place of NCCL's.
  std::optional<TokenKernel> tokens = std::nullopt;
  /// send: all members of the communicator, by which NCCL divides its channels. Empty: copies
  /// without NCCL, which the links alone limit.
  std::span<const GpuId> communicator = {};
  /// send: the largest of the messages, of together `bytes`, that one call sends to that peer one
  /// after the other. Zero: one message.
  Bytes largest = {};
};

/// One transfer of a lowered collective.
struct PlannedFlow {
  std::vector<LinkId> links;
  Bytes bytes;
  Seconds latency;
  BytesPerSecond rate_cap;
};

/// What a collective does on the wire. It is over when every flow is.
struct CollectivePlan {
  std::string algorithm;  ///< "ring", "tree", "nvls", "nvls_tree", "pairwise", "tokens", "p2p", "none"
  std::string protocol;   ///< "LL", "LL128", "Simple"; empty for "none"
  std::vector<PlannedFlow> flows;
  Seconds latency;   ///< paid once before the flows move: launch, base, hops, wire
  int sms_held = 0;  ///< SMs per GPU while in flight
  double relative_spread = 0.0;
  bool measured = false;      ///< the time comes from a table of the profile, not from the model
  bool extrapolated = false;  ///< no measurement stands behind the links' behaviour, or the size
                              ///< lies outside its table
};

struct TransportProfile;
struct Placement;
struct Course;

/// Prices and lowers collectives on one cluster.
class TransportCosts {
 public:
  TransportCosts(Cluster cluster, std::shared_ptr<const TransportProfile> profile);
  /// All flows of a plan have the same latency (none of their own) and, alone on an idle cluster,
  /// end together after alone(request). Equal for GPUs that the wiring makes equal.
  [[nodiscard]] CollectivePlan lower(const CollectiveRequest& request) const;
  /// The same for offload of one GPU: `bytes` copied over its route to its socket's memory or back,
  /// or read and written by a processor that is bound by the bandwidth of that memory or by what its
  /// threads reach. Equations: docs/models/offload.md.
  [[nodiscard]] CollectivePlan host_work(const HostRequest& request, GpuId gpu, Bytes bytes) const;
  /// Usable capacity of every link of the cluster (nominal x efficiency by link kind), by LinkId.
  [[nodiscard]] std::vector<BytesPerSecond> link_capacities() const;
  /// Time of the collective alone on an idle cluster: closed form, the uncongested reference.
  [[nodiscard]] Seconds alone(const CollectiveRequest& request) const;
  /// Device memory one communicator of `ranks` GPUs holds per GPU (nccl_memory.yaml).
  [[nodiscard]] Bytes communicator_memory(CollectiveKind kind, std::span<const GpuId> gpus) const;
  [[nodiscard]] bool calibrated() const;
  [[nodiscard]] const std::vector<std::string>& origins() const;
  /// What the transport profile holds (sim/cost/transport.h): for calibration and validation.
  [[nodiscard]] const TransportProfile& profile() const;

 private:
  [[nodiscard]] Course choose(const CollectiveRequest& request, const Placement& placement) const;
  [[nodiscard]] CollectivePlan plan(const CollectiveRequest& request) const;

  Cluster cluster_;
  std::shared_ptr<const TransportProfile> profile_;
};

/// The transport profile for a cluster: by name in the cluster file, or the path (as seen from the
/// working directory) of a .yaml file; else "nccl". `network_share`: of a NIC's nominal rate, what those
/// who use the cluster reach at most, where the profile grants more.
TransportCosts find_transport_costs(const Cluster& cluster, Diagnostics& diagnostics,
                                    double network_share = 1.0);

}  // namespace longhaul
