// GPUs by what topology files tell of them. Private to sim/topology.
#pragma once

#include <optional>
#include <string>

namespace longhaul {

struct KnownGpu {
  const char* pci_id;  ///< "10de:2330"
  const char* title;
  const char* device;  ///< preset; empty: there is none
};

/// By PCI vendor and device id; nothing if it is not in the table.
std::optional<KnownGpu> find_gpu_by_pci_id(const std::string& pci_id);

/// What a compute capability and a number of NVLinks tell: a preset of the family, and its siblings
/// that look the same.
struct GpuFamily {
  const char* device;
  const char* siblings;
};
/// `sm`: 0 if unknown; `bridged`: NVLink joins cards in pairs. Nothing if the links tell no family,
/// or several.
std::optional<GpuFamily> find_gpu_family(int sm, int nvlinks, bool bridged);

/// A host by the CPU that NCCL's XML names.
struct KnownCpu {
  const char* arch;
  const char* vendor;
  int family;
  int model;  ///< 0: any
  const char* title;
  double memory;  ///< bytes per second of one package
  double bus;     ///< bytes per second between two packages, per direction
};
std::optional<KnownCpu> find_cpu(const std::string& arch, const std::string& vendor, int family,
                                 int model);

/// Mb/s of an adapter by PCI id, where the id tells it; 0 if it does not.
int nic_speed_by_pci_id(const std::string& pci_id);

}  // namespace longhaul
