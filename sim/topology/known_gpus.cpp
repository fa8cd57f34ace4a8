#include "sim/topology/known_gpus.h"

#include <algorithm>
#include <iterator>

namespace longhaul {

namespace {

/// Origin: the PCI ID Repository (pci-ids.ucw.cz) and the list of supported GPUs in the README of
/// NVIDIA's Linux driver; Instinct: the PCI ID Repository.
constexpr KnownGpu known_gpus[] = {
    {"10de:1db1", "Tesla V100 SXM2 16 GB", ""},
    {"10de:1db4", "Tesla V100 PCIe 16 GB", ""},
    {"10de:1db5", "Tesla V100 SXM2 32 GB", "v100-sxm-32gb"},
    {"10de:1db6", "Tesla V100 PCIe 32 GB", ""},
    {"10de:1db8", "Tesla V100 SXM3 32 GB", "v100-sxm-32gb"},
    {"10de:1eb8", "Tesla T4", ""},
    {"10de:20b0", "A100 SXM4 40 GB", "a100-sxm-40gb"},
    {"10de:20b1", "A100 PCIe 40 GB", ""},
    {"10de:20b2", "A100 SXM4 80 GB", "a100-sxm-80gb"},
    {"10de:20b3", "A100 SXM 64 GB", ""},
    {"10de:20b5", "A100 PCIe 80 GB", "a100-pcie-80gb"},
    {"10de:20b7", "A30", ""},
    {"10de:20f1", "A100 PCIe 40 GB", ""},
    {"10de:20f3", "A800 SXM4 80 GB", "a800-sxm-80gb"},
    {"10de:20f5", "A800 PCIe 80 GB", ""},
    {"10de:2203", "GeForce RTX 3090 Ti", ""},
    {"10de:2204", "GeForce RTX 3090", ""},
    {"10de:2235", "A40", ""},
    {"10de:2236", "A10", ""},
    {"10de:2237", "A10G", ""},
    {"10de:2322", "H800 PCIe", ""},
    {"10de:2324", "H800 SXM5", "h800-sxm-80gb"},
    {"10de:2330", "H100 SXM5 80 GB", "h100-sxm-80gb"},
    {"10de:2331", "H100 PCIe", ""},
    {"10de:2335", "H200 SXM 141 GB", "h200-sxm"},
    {"10de:233b", "H200 NVL", ""},
    {"10de:2342", "GH200", "gh200"},
    {"10de:2684", "GeForce RTX 4090", "rtx4090"},
    {"10de:26b1", "RTX 6000 Ada", ""},
    {"10de:26b5", "L40", ""},
    {"10de:26b9", "L40S", "l40s"},
    {"10de:26ba", "L20", "l20"},
    {"10de:27b8", "L4", ""},
    {"10de:2901", "B200", "b200"},
    {"10de:2941", "GB200", "gb200"},
    {"10de:3182", "B300", "b300"},
    {"10de:31c2", "GB300", "gb300"},
    {"10de:31c3", "GB300", "gb300"},
    {"1002:738c", "Instinct MI100", ""},
    {"1002:7408", "Instinct MI250X", ""},
    {"1002:740c", "Instinct MI250X", ""},
    {"1002:740f", "Instinct MI210", ""},
    {"1002:74a1", "Instinct MI300X", ""},
};

struct FamilyRule {
  int sm;
  int nvlinks;
  bool bridged;    ///< cards with bridges between pairs
  bool sm_needed;  ///< other families have as many links
  GpuFamily family;
};
/// Links per GPU: data sheets of V100, A100, H100, B200.
constexpr FamilyRule families[] = {
    {70, 6, false, false, {"v100-sxm-32gb", "V100 with 16 GB"}},
    {80, 12, false, false, {"a100-sxm-80gb", "a100-sxm-40gb, A100 with 64 GB"}},
    {80, 12, true, true, {"a100-pcie-80gb", "A100 PCIe with 40 GB"}},
    {90, 18, false, true, {"h100-sxm-80gb", "h200-sxm, h100-sxm-96gb, H20, GH200"}},
    {100, 18, false, true, {"b200", "gb200"}},
};

/// Per package: memory channels x data rate, and links between packages; from the data sheets of
/// Intel and AMD (families and models as the kernel prints them; NCCL writes AMD's extended family
/// into the upper digit: 0x8f Zen 2, 0xaf Zen 3 and 4, 0xbf Zen 5).
constexpr KnownCpu known_cpus[] = {
    {"x86_64", "GenuineIntel", 6, 79, "Xeon E5 v4: 4 x DDR4-2400, 2 QPI at 9.6 GT/s", 76.8e9,
     38.4e9},
    {"x86_64", "GenuineIntel", 6, 85,
     "Xeon Scalable 1st/2nd generation: 6 x DDR4-2933, 3 UPI at 10.4 GT/s", 140.8e9, 62.4e9},
    {"x86_64", "GenuineIntel", 6, 106,
     "Xeon Scalable 3rd generation: 8 x DDR4-3200, 3 UPI at 11.2 GT/s", 204.8e9, 67.2e9},
    {"x86_64", "GenuineIntel", 6, 143,
     "Xeon Scalable 4th generation: 8 x DDR5-4800, 4 UPI at 16 GT/s", 307.2e9, 128e9},
    {"x86_64", "GenuineIntel", 6, 207,
     "Xeon Scalable 5th generation: 8 x DDR5-5600, 4 UPI at 20 GT/s", 358.4e9, 160e9},
    {"x86_64", "AuthenticAMD", 23, 49, "EPYC 7002: 8 x DDR4-3200, 3 xGMI-2 of 16 lanes", 204.8e9,
     108e9},
    {"x86_64", "AuthenticAMD", 143, 49, "EPYC 7002: 8 x DDR4-3200, 3 xGMI-2 of 16 lanes", 204.8e9,
     108e9},
    {"x86_64", "AuthenticAMD", 25, 1, "EPYC 7003: 8 x DDR4-3200, 3 xGMI-2 of 16 lanes", 204.8e9,
     108e9},
    {"x86_64", "AuthenticAMD", 175, 1, "EPYC 7003: 8 x DDR4-3200, 3 xGMI-2 of 16 lanes", 204.8e9,
     108e9},
    {"x86_64", "AuthenticAMD", 25, 17, "EPYC 9004: 12 x DDR5-4800, 3 xGMI-3 of 16 lanes", 460.8e9,
     192e9},
    {"x86_64", "AuthenticAMD", 175, 17, "EPYC 9004: 12 x DDR5-4800, 3 xGMI-3 of 16 lanes", 460.8e9,
     192e9},
};

}  // namespace

std::optional<KnownGpu> find_gpu_by_pci_id(const std::string& pci_id) {
  const auto* found = std::find_if(std::begin(known_gpus), std::end(known_gpus),
                                   [&](const KnownGpu& gpu) { return pci_id == gpu.pci_id; });
  return found == std::end(known_gpus) ? std::nullopt : std::optional(*found);
}

std::optional<GpuFamily> find_gpu_family(int sm, int nvlinks, bool bridged) {
  const auto* found =
      std::find_if(std::begin(families), std::end(families), [&](const FamilyRule& rule) {
        return rule.nvlinks == nvlinks && rule.bridged == bridged &&
               (sm == rule.sm || (sm == 0 && !rule.sm_needed));
      });
  return found == std::end(families) ? std::nullopt : std::optional(found->family);
}

std::optional<KnownCpu> find_cpu(const std::string& arch, const std::string& vendor, int family,
                                 int model) {
  const auto* found =
      std::find_if(std::begin(known_cpus), std::end(known_cpus), [&](const KnownCpu& cpu) {
        return arch == cpu.arch && vendor == cpu.vendor && family == cpu.family &&
               model == cpu.model;
      });
  return found == std::end(known_cpus) ? std::nullopt : std::optional(*found);
}

int nic_speed_by_pci_id(const std::string& pci_id) {
  // AWS Elastic Fabric Adapter, first and second generation: 100 Gb/s each.
  return pci_id == "1d0f:efa0" || pci_id == "1d0f:efa1" ? 100'000 : 0;
}

}  // namespace longhaul
