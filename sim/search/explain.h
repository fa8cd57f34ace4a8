// What a step and a peak consist of, cause by cause and tensor by tensor (docs/models/explain.md).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sim/engine/timeline.h"
#include "sim/program/program.h"

namespace longhaul {

/// One cause of the slowest rank's step.
struct TimeRow {
  std::string cause;  ///< as in critical_path: "gemm", "ring_exchange", "slower_ranks"
  std::string part;   ///< "forward", "recompute", "backward", ...; empty: of no instruction
  std::string label;  ///< what the instruction is about: "qkv projection"; empty: of none
  std::string group;  ///< communicator waited for; empty: a kernel, or nobody
  std::optional<std::int64_t> rank;  ///< slower_ranks: who came last, the last time it was waited for
  std::int64_t ticks = 0;            ///< of event time
  [[nodiscard]] Seconds seconds() const { return SimTime::of_ticks(ticks).seconds(); }
};

/// One owner of the fullest rank's memory.
struct MemoryRow {
  std::string category;  ///< as in categories: "activations"
  std::string tensor;    ///< by name; empty: no tensor of the program (buffers of communicators,
                         ///< scratch of kernels, what the framework takes)
  std::int64_t bytes = 0;
};

/// Rows from the largest down; those of equal size by name.
struct Explanation {
  std::int64_t slowest_rank = 0;
  std::vector<TimeRow> time;      ///< ticks sum to the step exactly
  std::int64_t fullest_rank = 0;
  std::vector<MemoryRow> memory;  ///< bytes sum to the peak exactly
};

/// Reads an explanation off a timeline whose details were recorded.
Explanation explain(const Program& program, const Timeline& timeline);

/// A row of both explanations, 0 where one has none.
struct TimeChange {
  TimeRow row;  ///< ticks: after - before
  std::int64_t before = 0;
  std::int64_t after = 0;
};
struct MemoryChange {
  MemoryRow row;  ///< bytes: after - before
  std::int64_t before = 0;
  std::int64_t after = 0;
};

/// Why B differs from A, the largest changes first. The changes of time sum to the difference of
/// the two steps exactly, those of memory to the difference of the two peaks.
struct Difference {
  std::vector<TimeChange> time;
  std::vector<MemoryChange> memory;
};
Difference difference_of(const Explanation& before, const Explanation& after);

}  // namespace longhaul
