// The executor that proves programs: it computes one with real numbers, for all ranks at once, on
// the CPU and in double precision, at tiny shapes. What it computes must equal dense attention and
// the unsharded model; tests/reference_proofs does that for every schedule.
//
// Element types are ignored (everything is double), and so are streams: they only narrow down the
// orders that the dependences of program.h allow. Formulas: docs/models/reference_executor.md.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "sim/program/program.h"
#include "sim/reference/array.h"
#include "sim/reference/memory.h"

namespace longhaul {

/// In which order a rank executes its instructions. `program`: as listed. `any_legal`: a random
/// order in which every instruction still comes after all that its tensor slots depend on.
enum class ExecutionOrder { program, any_legal };

/// One run of a program on all its ranks.
class ReferenceRun {
 public:
  /// Persistent tensors are held and filled with NaN. Throws BugError if check_program does.
  explicit ReferenceRun(const Program& program);
  ReferenceRun(const ReferenceRun&) = delete;
  ReferenceRun& operator=(const ReferenceRun&) = delete;

  /// Deals a whole array to the ranks as the tensor's `shards` say. Dimensions that are not sharded
  /// are given to everyone. Throws ReferenceError where name, slot or shape do not fit, or the
  /// tensor is not persistent.
  void set_global(const std::string& name, std::int64_t slot, const Array& whole);
  /// Executes everything. Throws ReferenceError, naming rank and instruction, when a program reads
  /// memory that is not held or was never written, allocates what is held, releases what is not,
  /// leaves something held at the end, lets ranks meet in different collectives or wait for ever.
  /// A run can be run once.
  /// `seed` chooses the order for ExecutionOrder::any_legal.
  void run(ExecutionOrder order = ExecutionOrder::program, std::uint64_t seed = 0);
  /// The whole array again. Ranks that hold the same part must agree to 1e-12 of the largest value,
  /// and every element must be on some rank; else ReferenceError.
  [[nodiscard]] Array gather_global(const std::string& name, std::int64_t slot) const;
  /// What one rank holds.
  [[nodiscard]] const Array& local(RankId rank, const std::string& name, std::int64_t slot) const;
  /// Makes one rank leave out the instruction at `place`: a fault for tests of the executor, since
  /// ranks of a correct program never disagree.
  void leave_out(RankId rank, std::size_t place) { left_out_.emplace(rank, place); }

 private:
  [[nodiscard]] TensorId find(const std::string& name) const;
  Program program_;
  std::vector<ReferenceMemory> memory_;  ///< by rank
  std::set<std::pair<RankId, std::size_t>> left_out_;
};

}  // namespace longhaul
