// A node with every part at its place: what equal blocks or a layout come to. Private to
// sim/topology.
#pragma once

#include <string>
#include <vector>

#include "sim/topology/cluster_spec.h"

namespace longhaul {

/// One logical NIC: all NICs that a GPU (or a group of GPUs) uses, merged.
struct Rail {
  Seat seat;             ///< of its NICs; where they differ, what is above them all
  BytesPerSecond rate;   ///< sum over its NICs
  BytesPerSecond slots;  ///< sum over its NICs
};

/// Every default filled in.
struct NodeWiring {
  std::vector<SwitchPlace> switches;
  std::vector<GpuPlace> gpus;
  std::vector<Rail> rails;
  std::vector<int> rail_of_gpu;  ///< empty without NICs
};

/// Deals the parts of a node without layout in equal blocks; with one, gives every GPU the NICs
/// that are nearest to it (same switch, then a switch above both, then the same socket, then
/// anywhere), and shares them among the GPUs to which the same NICs are nearest, as NCCL does.
NodeWiring wire_node(const NodeSpec& node);

/// For each NIC of a layout, whether it is among the nearest of some GPU.
std::vector<bool> nearest_nics(const Layout& layout);

/// How two parts reach one another over PCIe, in the words of nvidia-smi topo -m: PIX (one switch),
/// PXB (several), PHB (one host bridge), NODE (bridges of one socket), SYS (two sockets). Seats on
/// a socket whose bridges are not told have each their own.
std::string pcie_relation(const std::vector<SwitchPlace>& switches, const Seat& a, const Seat& b);

/// The seats from `seat` up to its socket, inclusive.
std::vector<Seat> seats_above(const std::vector<SwitchPlace>& switches, Seat seat);

}  // namespace longhaul
