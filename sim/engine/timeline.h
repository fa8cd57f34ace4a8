// What a simulation leaves behind: when it ended, where every rank's time went, what every
// rank held at its worst moment.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "sim/program/program.h"
#include "sim/units/sim_time.h"

namespace longhaul {

/// Where a rank's time goes. Busy causes are time of its compute stream; the others are time in
/// which that stream stood still, named after what it stood still for.
enum class Cause {
  attention,
  gemm,
  memory_bound,
  loss,
  optimizer,  // busy
  ring_exchange,
  all_to_all,
  all_gather,
  expert_parallel,  ///< tokens on their way to their experts and back
  tensor_parallel,
  data_parallel,
  pipeline,
  offload,
  slower_ranks,  ///< waiting for other ranks to reach a collective
  host,          ///< waiting for the host to launch
  data_loading,  ///< waiting for batches out of storage
  other
};
constexpr int cause_count = 17;
constexpr int busy_cause_count = 5;
const char* name_of(Cause cause);

/// One instruction's share of a rank's accounts, all its turns together.
struct PlaceTimes {
  std::int64_t busy = 0;    ///< ticks that its kernel ran
  std::int64_t waited = 0;  ///< ticks that the compute stream stood still for its transfer
  std::int64_t slower = 0;  ///< the same, for the other ranks to come to it
  std::uint32_t last = 0;   ///< the rank (of a class of equal ones) that came last, last time
};

/// One rank's accounts. The ticks of all causes sum to the end of the program exactly.
struct RankTimes {
  std::array<std::int64_t, cause_count> ticks{};
  /// Sum of ticks x relative spread of their cost, by cause: the raw material of intervals.
  std::array<double, cause_count> spread{};
  SimTime end;          ///< its last instruction is done; of steps apart, without `before`
  SimTime before;       ///< of steps apart: its wait for the first input, in no account
  SimTime forward_end;  ///< its last forward instruction is done
  std::vector<PlaceTimes> places;  ///< by instruction; empty unless asked for
};

/// Device memory of one rank at its worst moment, by category; the categories sum to `total`.
struct MemoryPeak {
  std::array<std::int64_t, memory_category_count> bytes{};
  std::int64_t total = 0;
  SimTime when;
  std::int64_t host_peak = 0;      ///< bytes of offloaded tensors in host memory
  std::int64_t communicators = 0;  ///< of `bytes`: buffers of communicators, held throughout
  std::vector<std::int64_t> tensors;  ///< of `bytes`, by TensorId; empty unless asked for
};

/// One instruction's stay on a stream (only when asked for).
struct Span {
  RankId rank;
  Stream stream = Stream::compute;
  SimTime start;
  SimTime end;
  std::uint32_t place = 0;  ///< of the instruction in the program
};

/// What a rank holds from an instant on (only when asked for).
struct MemorySample {
  SimTime when;
  std::array<std::int64_t, memory_category_count> bytes{};
  std::int64_t host = 0;
  std::int64_t allocations = 0;  ///< tensor slots allocated so far, persistent ones first
};

struct Timeline {
  SimTime end;  ///< the last instruction of the last rank is done
  std::vector<RankTimes> ranks;
  std::vector<MemoryPeak> memory;     ///< by rank
  std::vector<double> link_bytes;     ///< bytes carried, by LinkId
  std::int64_t events = 0;            ///< completions, those in skipped turns included
  std::int64_t simulated_events = 0;  ///< completions really stepped through
  std::int64_t actors = 0;            ///< ranks really simulated, one of each class
  bool extrapolated = false;          ///< some cost lay outside its profile's range
  std::vector<Span> spans;
  std::vector<std::vector<MemorySample>> memory_tracks;  ///< by EngineOptions::watched
};

}  // namespace longhaul
