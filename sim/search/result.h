// What a prediction says: plain values, each defined in docs/models/result.md.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "sim/units/quantity.h"

namespace longhaul {

/// Device memory of the worst rank at its worst moment.
struct MemoryResult {
  Bytes peak;                       ///< bytes held at the peak; the categories sum to it exactly
  Bytes allocated;                  ///< of these, by the framework's allocator: not the buffers of
                                    ///< communicators and what the framework takes for itself
  Bytes last_rank_allocated;        ///< `allocated`, of the last rank (last pipeline stage)
  std::int64_t peak_rank = 0;
  Seconds peak_time;
  Bytes allocator_reserved;         ///< by the caching allocator, in segments
                                    ///< (max_memory_reserved)
  Bytes reserved;                   ///< on the device: allocator_reserved, communicators, framework
  Bytes capacity;                   ///< what the device offers (cudaDeviceProp.totalGlobalMem)
  bool fits = false;                ///< reserved <= capacity
  std::vector<std::pair<std::string, Bytes>> categories;  ///< at the peak, in a fixed order
  Bytes host_peak;                  ///< host memory per GPU used by offload
};

/// One prediction.
struct Result {
  Seconds step_time;
  Seconds interval_low;             ///< step_time_interval_s
  Seconds interval_high;
  double interval_coverage = 0.9;   ///< stated coverage of the interval
  double cost_spread = 0.0;         ///< relative standard deviation that the costs' own spreads give
  double tokens_per_second = 0.0;
  double tokens_per_second_per_gpu = 0.0;
  double mfu = 0.0;                 ///< model FLOPs (no recompute) / (time x GPUs x peak)
  std::string flop_convention;      ///< "causal" or "full" attention, no recompute
  double tflops_per_gpu = 0.0;      ///< model FLOPs per second and GPU, in 1e12
  double bubble_fraction = 0.0;     ///< mean share of the step in which a GPU computes nothing
  Seconds exposed_communication;    ///< mean time a GPU waits on communication and computes nothing
  Seconds compute_time;             ///< mean busy time of the compute stream
  /// Where the slowest rank's step goes, seconds by cause, summing to step_time.
  std::vector<std::pair<std::string, Seconds>> critical_path;
  MemoryResult memory;
  std::string bottleneck;           ///< in words
  bool calibrated = false;          ///< false: some profile holds published figures only
  bool extrapolated = false;        ///< some shape lay outside its profile's range
  std::vector<std::string> remarks; ///< consequences worth saying
  std::vector<std::pair<std::string, std::string>> inputs;  ///< what -> origin with hash
  std::int64_t events = 0;          ///< simulated events (skipped ones included)
  Seconds forward_time;             ///< phase attention/train: end of the forward part
};

}  // namespace longhaul
