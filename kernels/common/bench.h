#pragma once
// What a bench prints and records of one point.

#include <cstdint>
#include <vector>

#include "kernels/common/bfloat16.h"
#include "kernels/common/results.h"
#include "kernels/common/timing.h"

namespace longhaul::kernels {

/// The work of one call, as the README of the kernel defines it. Zero: not told.
struct Work {
  double bytes = 0;
  double flops = 0;
  double copy_rate = 0;  // bytes a second of a copy in this run, which the rate is held against
};

/// Prints one line of the table (`what`, time, spread, GB/s and TFLOP/s, host time) and records it
/// with the clocks of this moment and `more` fields of the outcome.
void report(Results& results, const std::string& what, const Fields& shape, const Work& work,
            const Timing& timing, const Fields& more = {});

/// `count` random normal bf16 for a bench: a million fresh ones, again and again, since the host
/// draws numbers far slower than the GPU uses them up.
std::vector<Bfloat16> bench_inputs(std::size_t count, std::uint64_t seed, float deviation = 1.0f);

/// Tokens of one GPU that a bench of a layer's operator goes through; with --quick one of them.
std::vector<std::uint32_t> token_counts(const Options& options);

/// One point: `make(i)` gives input set i, in DeviceBuffers; `call(set)` queues the work on it.
/// Makes as many sets as the cache asks for, times the calls and reports. Returns the times.
template <class Make, class Call>
Timing bench_point(Results& results, const Device& device, const std::string& what,
                   const Fields& shape, const Work& work, const Make& make, const Call& call) {
  const int count = rotating_sets(device, work.bytes);
  std::vector<decltype(make(0))> sets;
  for (int i = 0; i < count; ++i) sets.push_back(make(i));
  const Timing timing = time_calls([&](int i) { call(sets[i]); }, count);
  report(results, what, shape, work, timing);
  return timing;
}

}  // namespace longhaul::kernels
