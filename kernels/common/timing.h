#pragma once
// The one way to time a kernel.

#include <functional>
#include <vector>

#include "kernels/common/device.h"

namespace longhaul::kernels {

/// Time of one call, in microseconds, and the state of the GPU while it was taken.
struct Timing {
  double median_us = 0;
  double p10_us = 0;
  double p90_us = 0;
  double host_us = 0;  // host time to queue one call
  int repeats = 0;     // samples
  int inner = 1;       // calls in a sample
  int rotating_sets = 1;
};

/// Times `call(set)`, which queues the same work on the default stream with the inputs of
/// rotating set 0 .. sets-1, used in turn so that inputs do not linger in the L2 cache.
/// Warm-up first; then samples lie between consecutive CUDA events, short calls grouped (`inner`)
/// to 200 us, for about `target_s` seconds; the stream is held by a spinning kernel while the
/// queue fills, so the host's launch time stays out of it (it is host_us).
/// Throws CudaError.
Timing time_calls(const std::function<void(int)>& call, int sets, double target_s = 0.08);

/// Times several calls as time_calls does, in turn and three times over, so that a GPU which warms up
/// or slows down does so for all of them. Returns: for each the middle of its three medians, its
/// least p10 and its largest p90.
std::vector<Timing> time_in_turn(const std::vector<std::function<void(int)>>& calls, int sets);

/// Sets of `bytes` each so that together they are three times the L2 cache; at most 16.
int rotating_sets(const Device& device, double bytes);

}  // namespace longhaul::kernels
