// One GPU model, from topologies/devices/*.yaml (format: topologies/README.md).
#pragma once

#include <cstdint>
#include <string>

#include "sim/units/quantity.h"

namespace longhaul {

/// Data-sheet facts of a GPU. Every number in the file carries a `source:`.
struct Device {
  std::string name;                 ///< "h100-sxm-80gb"
  std::string title;                ///< "NVIDIA H100 SXM5 80 GB"
  std::string architecture;         ///< volta | ampere | ada | hopper | blackwell
  int sms = 0;                      ///< streaming multiprocessors
  Hertz boost_clock;                ///< clock at which the peak rates are quoted
  FlopsPerSecond peak_bf16;         ///< dense tensor-core rate, bf16/fp16 with fp32 accumulation
  FlopsPerSecond peak_fp8;          ///< zero where the device has none
  FlopsPerSecond peak_fp32;         ///< CUDA-core fp32
  BytesPerSecond memory_bandwidth;  ///< HBM or GDDR, data sheet
  Bytes memory;                     ///< bytes CUDA reports as total (cudaDeviceProp.totalGlobalMem)
  Bytes l2_cache;
  BytesPerSecond nvlink_bandwidth;  ///< per direction, all links together; zero: no NVLink
  BytesPerSecond pcie_bandwidth;    ///< per direction, nominal data rate of the slot
  int nvlink_links = 0;             ///< links that share nvlink_bandwidth; 0: no NVLink
};

}  // namespace longhaul
