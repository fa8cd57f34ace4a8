// The reference workloads by name.
#pragma once

#include <string>
#include <vector>

#include "bench/flows/arguments.h"

namespace longhaul::bench {

/// What a run printed: times in seconds.
struct Outcome {
  std::int64_t flows = 0;
  std::int64_t computes = 0;
  std::int64_t timers = 0;
  std::int64_t events = 0;  ///< 2 x flows + computes + timers
  double makespan = 0.0;
  double sum_fct = 0.0;
  double sum_end = 0.0;
  double max_fct = 0.0;
  std::vector<double> percentiles;  ///< p50, p99, p99.9 of flow completion times (rnd only)
  double run_s = 0.0;               ///< CPU seconds of the loop
  std::int64_t solves = 0;
  std::int64_t rates_solved = 0;
};

/// Runs the workload of the words `w=ring G=8 ...`. Throws ArgumentError.
Outcome run_workload(const std::vector<std::string>& words);

}  // namespace longhaul::bench
