// A rank's program written out: every turn of every loop, every Index worked out.
#pragma once

#include <cstdint>
#include <tuple>
#include <vector>

#include "sim/program/program.h"
#include "sim/reference/memory.h"

namespace longhaul {

/// Stream, sender, receiver, and how many came before on this way.
using MessageId = std::tuple<Stream, RankId, RankId, std::int64_t>;

/// One executed instruction of one rank.
struct Step {
  std::size_t place = 0;  ///< in Program::code
  std::vector<std::int64_t> counters;
  std::vector<Operand> reads;
  std::vector<Operand> writes;
  std::int64_t meeting = 0;        ///< collectives: how many this rank had in the group before
  std::vector<MessageId> messages;  ///< exchanges: of each read, then of each write
  std::vector<std::size_t> after;  ///< steps of this rank that must be done before
};

/// All steps of a rank in program order, without `after`, except those at the places in `left_out`.
/// Throws ReferenceError where a slot or a slice does not exist.
std::vector<Step> trace(const Program& program, RankId rank,
                        const std::vector<std::size_t>& left_out);

/// Fills `after`: each step after the one before it, but what stands behind a call that only receives goes
/// on until something needs what comes.
void order_as_listed(const Program& program, std::vector<Step>& steps);
/// Fills `after` by the rule of program.h: a step waits for every earlier one that wrote a slot it
/// reads, or read or wrote a slot it writes. `allocate` and `release` count as writes.
void order_by_dependence(const Program& program, std::vector<Step>& steps);

}  // namespace longhaul
