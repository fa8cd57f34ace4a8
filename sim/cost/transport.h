// What calibrate/profiles/transports/*.yaml hold, as plain numbers. Private to sim/cost and tests.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "sim/cost/collective.h"
#include "sim/cost/nccl_tuning.h"

namespace longhaul {

/// How a kind of transfer behaves on a kind of link. With A = base + steps x hop and B = bytes over
/// the share of the links that it reaches, it takes launch + (A^blend + B^blend)^(1/blend): blend 1
/// is one after the other, 1/2 a pipeline of ideally chosen pieces, more than 1 an overlap.
struct Behaviour {
  Seconds base;
  Seconds hop;         ///< per step over such links
  double share = 1.0;  ///< of nominal bandwidth; LL, LL128: of what NCCL's model leaves of Simple
  double own = 0.0;    ///< a GPU also copies this much of its own piece (1/n of the bytes)
  double blend = 1.0;
};

/// Kinds of transfer that behave each in their own way.
enum class TransferKind {
  ring_ll,
  ring_ll128,
  ring_simple,
  tree_ll,
  tree_ll128,
  tree_simple,
  nvls,
  nvls_tree,
  all_to_all,
  send
};
inline constexpr std::size_t transfer_kinds = 10;

/// Behaviours on NVLink of a GPU architecture ("hopper", ...), on "pcie", "staged" through host
/// memory, or on a fabric ("infiniband", ...). "other" and "other-fabric" serve what is not listed.
struct Medium {
  std::string name;
  bool assumed = false;  ///< not measured: results are marked extrapolated
  BytesPerSecond message_channel;  ///< what one channel of a message moves; zero: no limit
  std::array<Behaviour, transfer_kinds> behaviours{};
  [[nodiscard]] const Behaviour& of(TransferKind kind) const {
    return behaviours[static_cast<std::size_t>(kind)];
  }
};

/// Usable shares of nominal bandwidth, whatever flows: what link_capacities() is made of.
struct LinkShares {
  double nvlink = 0.9;
  double pcie = 0.9;
  double cpu_bus = 0.8;
  double network = 0.97;
  double c2c = 0.95;
  double host_memory = 0.8;
};

/// Copies to and from host memory, and the host's own work there.
struct HostBehaviour {
  Seconds latency;           ///< of a copy, besides the launch
  double copy_spread = 0.0;  ///< relative
  double work_spread = 0.0;  ///< relative, of the processor's work
  BytesPerSecond thread_rate;    ///< what one thread reads and writes in memory
  BytesPerSecond pageable_rate;  ///< of copies over PCIe of memory that is not pinned
  double pageable_spread = 0.0;  ///< relative, of theirs
};

/// A kernel for tokens: start, and what one SM handles of each kind of bytes (TokenKernel).
struct TokenKernelBehaviour {
  Seconds base;          ///< within a node
  Seconds base_network;  ///< over several, exchange of counts included
  BytesPerSecond own;
  BytesPerSecond sent;
  BytesPerSecond network;
};

/// Those of DeepEP. Shares of nominal bandwidth that they reach at most.
struct TokenKernels {
  std::string architecture;  ///< they were measured on
  double nvlink = 1.0;
  double network = 1.0;
  double spread = 0.0;  ///< relative
  TokenKernelBehaviour dispatch;
  TokenKernelBehaviour combine;
};

/// One measured size of a collective; `bytes` as CollectiveRequest counts them.
struct TablePoint {
  Bytes bytes;
  Seconds time;
};

/// A collective as it was measured on one kind of machine: used instead of the model for groups of
/// exactly this shape. A node is an NVLink domain (all 72 GPUs of an NVL72 are one node); members
/// that are no NVLink domain are counted by hosts.
struct CollectiveTable {
  CollectiveKind kind = CollectiveKind::all_gather;
  std::vector<std::string> devices;  ///< names of device presets; at least one
  int gpus = 0;                      ///< members of the group
  int gpus_per_node = 0;             ///< members on each node
  int nodes = 1;                     ///< gpus = gpus_per_node x nodes
  std::string fabric = "none";       ///< several nodes: FabricSpec::technology; one node: none
  BytesPerSecond nic_rate;           ///< several nodes: NIC bandwidth per GPU; zero: any
  std::vector<TablePoint> points;    ///< bytes and times ascending (bytes strictly)
  double spread = 0.0;               ///< relative, of repeated measurements or of the fit
  std::string from;                  ///< where it was measured
};

struct TransportProfile {
  std::string name;
  bool calibrated = false;
  TuningConstants tuning;
  LinkShares links;
  std::vector<Medium> media;
  HostBehaviour host;
  Seconds launch;  ///< of a collective's kernel, and its synchronisation
  int sms_send_one_node = 16;  ///< where messages do not go by NVLink
  int sms_send_many_nodes = 4;
  int channel_limit = 32;
  Bytes connection_memory;           ///< per channel and peer that a GPU receives from
  Bytes peer_chunk;                  ///< NVLink: per channel, slot and peer of all-to-all or send
  Bytes network_chunk;               ///< per channel and slot of the network buffers
  int slots = 8;                     ///< of every buffer
  Bytes nvls_memory_per_channel;     ///< in-switch buffers of one head on one channel
  PerScale<double> spread_one_node;  ///< relative, for less than 1 MiB, 16 MiB, and above
  PerScale<double> spread_many_nodes;
  std::optional<NcclAlgorithm> algorithm;  ///< pins for all requests, as NCCL_ALGO and NCCL_PROTO
  std::optional<NcclProtocol> protocol;
  std::optional<TokenKernels> token_kernels;  ///< without: they take what an all-to-all takes
  std::vector<CollectiveTable> tables;  ///< in the order of the file; the first that fits is used
  /// Ids of published sweeps of the machines it was fitted on. Nothing is predicted by it;
  /// validation scores these sweeps apart.
  std::vector<std::string> fitted_on;
  std::vector<std::string> origins;
  /// The medium of that name; `fallback` if there is none.
  [[nodiscard]] const Medium& medium(const std::string& wanted, const char* fallback) const;
};

/// Reads a profile; the format is calibrate/profiles/README.md.
std::optional<TransportProfile> read_transport_profile(const SourcePtr& source,
                                                       Diagnostics& diagnostics);

/// Appends the tables of a file of their own (`format: longhaul-tables/1` and `tables`), and its
/// origin.
void read_table_file(const SourcePtr& source, TransportProfile& profile, Diagnostics& diagnostics);

}  // namespace longhaul
