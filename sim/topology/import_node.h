// What any importer finds out about a node, before the rest is guessed. Private to sim/topology.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sim/input/diagnostic.h"
#include "sim/topology/import.h"

namespace longhaul {

/// A CPU or NUMA node.
struct FoundSocket {
  std::string note;    ///< "numaid 1"
  int numa = 0;        ///< number of the NUMA node; 0 if not told
  std::string arch;    ///< x86_64, arm64, ...; empty: unknown
  std::string vendor;  ///< GenuineIntel, ...
  int family = 0;      ///< as NCCL writes them; 0: unknown
  int model = 0;
};

/// Zero rates are unknown throughout.
struct FoundSwitch {
  Seat seat;
  BytesPerSecond uplink;
  std::string note;
};

struct FoundGpu {
  std::string name;  ///< bus id or "GPU3"
  Place place;
  Seat seat;
  BytesPerSecond slot;
  std::string note;
  std::string pci_id;    ///< "10de:2330"; empty: unknown
  int sm = 0;            ///< compute capability x 10; 0: unknown
  int switch_links = 0;  ///< NVLinks to NVSwitches
  BytesPerSecond c2c;
};

struct FoundNic {
  std::string name;
  Place place;
  Seat seat;
  BytesPerSecond rate;
  BytesPerSecond slot;
  std::string pci_id;
  std::string note;
  bool gpudirect = true;
};

struct FoundNode {
  std::string format;  ///< in words, for comments: "NCCL topology XML"
  std::vector<FoundSocket> sockets;
  std::vector<FoundSwitch> switches;
  std::vector<FoundGpu> gpus;
  std::vector<FoundNic> nics;
  std::map<std::pair<int, int>, int> nvlinks;  ///< of two GPUs, the lower number first
  bool shows_nvlink = true;                    ///< false: the file cannot tell
  bool shows_pcie = true;    ///< false: seats of the GPUs are not known beyond their socket
  int hosts = 1;             ///< that share the NVSwitches
  std::string storage_note;  ///< where a NIC has to be for GPU traffic, for the comment
  Place whole;               ///< the file
};

std::optional<FoundNode> import_nccl_xml(const SourcePtr& source, Diagnostics& diagnostics);
std::optional<FoundNode> import_smi_topo(const SourcePtr& source, Diagnostics& diagnostics);

/// Guesses what is missing and puts the specification together.
std::optional<ImportedCluster> finish_import(const FoundNode& node, const ImportOptions& options,
                                             Diagnostics& diagnostics);

}  // namespace longhaul
