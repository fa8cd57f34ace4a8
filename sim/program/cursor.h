// Walking a program: where a rank stands, and what an Index is worth there.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "sim/program/program.h"

namespace longhaul {

/// Whether a rank runs an instruction: whatever the turn, in some turns, or never.
enum class Presence { never, by_turn, always };

/// By place in the code: what a rank's coordinates alone tell. Loops without turns are `never`, the
/// ends of loops `always`.
std::vector<Presence> presence_of(const Program& program, RankId rank);

/// A rank's place in the program: the next instruction and the turn of every loop.
/// loop_begin and loop_end are never seen by callers, nor instructions whose conditions do not hold:
/// start() and advance() step over them.
class Cursor {
 public:
  Cursor(const Program& program, RankId rank);
  [[nodiscard]] bool done() const { return place_ >= code_size_; }
  [[nodiscard]] std::size_t place() const { return place_; }
  [[nodiscard]] const std::vector<std::int64_t>& counters() const { return counters_; }
  [[nodiscard]] const Instruction& instruction() const;
  /// To the next instruction; returns the set of uniform loops (bit n: the n-th of them) that began
  /// a turn on the way: the engine looks for repetition there.
  std::uint64_t advance();
  /// Moves `turns` ahead in a loop that the cursor is in.
  void skip(LoopId loop, std::int64_t turns);
  [[nodiscard]] bool inside(LoopId loop) const;

 private:
  std::uint64_t settle();
  [[nodiscard]] bool holds(std::size_t place) const;
  void find_live_places();
  const Program* program_;
  std::size_t code_size_;
  std::size_t place_ = 0;
  RankId rank_;
  std::vector<std::int64_t> counters_;   // by loop; 0 when outside
  std::vector<std::size_t> begin_of_;    // place of each loop's loop_begin
  std::vector<std::size_t> end_of_;
  std::vector<std::int64_t> turns_;      // by loop, on this rank
  std::vector<std::uint64_t> marks_;     // by loop: its bit in what advance() returns
  std::vector<Presence> presence_;       // by place
  std::vector<std::size_t> next_live_;   // by place: itself or the next that is not `never`
};

/// The value of an Index for a rank with these loop counters.
std::int64_t evaluate(const Index& index, const Mesh& mesh, RankId rank,
                      const std::vector<std::int64_t>& counters);

/// True if a rank runs the instruction in this turn: all its conditions hold.
bool conditions_hold(const Instruction& instruction, const Mesh& mesh, RankId rank,
                     const std::vector<std::int64_t>& counters);

/// The shards a block is about, for a rank with these loop counters.
std::int64_t query_shard(const AttentionBlock& block, const Mesh& mesh, RankId rank,
                         const std::vector<std::int64_t>& counters);
std::optional<std::int64_t> key_shard(const AttentionBlock& block, const Mesh& mesh, RankId rank,
                                      const std::vector<std::int64_t>& counters);

}  // namespace longhaul
