// What calibrate/profiles/transports/*.yaml hold, as plain numbers. Private to sim/cost and tests.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "sim/cost/collective.h"

namespace longhaul {

/// A protocol of NCCL: how its latency and bandwidth compare with plain (Simple) transfers.
struct TransportProtocol {
  std::string name;
  double bandwidth = 1.0;  ///< share of what Simple reaches
  BytesPerSecond limit;    ///< of one GPU on one node, whatever the links; zero: none
  Seconds base;            ///< of a collective
  Seconds nvlink_hop;      ///< per step of a ring
  Seconds pcie_hop;
  Seconds network_hop;
};

/// Shares of nominal link bandwidth that transfers reach, on NVLink of one GPU architecture.
struct NvlinkEfficiency {
  double ring = 0.8;  ///< ring collectives
  double all_to_all = 0.75;
  double send = 0.75;  ///< one message between two GPUs
  double nvls = 0.0;   ///< in-switch all-reduce; zero: not available
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
  std::map<std::string, NvlinkEfficiency> nvlink;  ///< by GPU architecture; "other" for the rest
  double pcie = 0.85;
  double cpu_bus = 0.8;
  double c2c = 0.9;
  double host_memory = 0.7;
  double host_staged = 0.6;  ///< PCIe links of a route through host memory
  double network = 0.95;
  double network_all_to_all = 0.8;  ///< of a NIC when many peers talk at once
  double network_tree = 0.88;       ///< two-node all-reduce by trees: share of the NICs
  std::vector<TransportProtocol> protocols;
  Seconds launch;  ///< kernel launch and synchronisation per collective
  Seconds nvls_latency;
  Seconds peer_latency;    ///< all-to-all: per peer
  int nvls_from_gpus = 5;  ///< in-switch all-reduce from this many GPUs on
  int sms_one_node = 24;
  int sms_nvls = 16;
  int sms_many_nodes = 16;
  int sms_send_one_node = 16;
  int sms_send_many_nodes = 4;
  Bytes ring_memory;  ///< device memory of a communicator per channel
  Bytes peer_memory;  ///< per peer of an all-to-all or send
  double spread = 0.15;
  std::vector<CollectiveTable> tables;  ///< in the order of the file; the first that fits is used
  std::vector<std::string> origins;
};

/// Reads a profile; the format is calibrate/profiles/README.md.
std::optional<TransportProfile> read_transport_profile(const SourcePtr& source,
                                                       Diagnostics& diagnostics);

}  // namespace longhaul
