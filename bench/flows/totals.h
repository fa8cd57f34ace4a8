// What runs of the reference workloads are compared by.
#pragma once

#include <cstdint>

namespace longhaul::bench {

__extension__ using Wide = __int128;  ///< sums of ticks over 10^8 flows

/// What a run is compared by. Times are ticks of the run's scale.
struct Totals {
  std::int64_t flows = 0;
  std::int64_t computes = 0;
  std::int64_t timers = 0;
  std::int64_t end = 0;      ///< the last event
  std::int64_t max_fct = 0;  ///< completion less start of a flow
  Wide sum_fct = 0;
  Wide sum_end = 0;  ///< sum of the instants of completion
};

}  // namespace longhaul::bench
