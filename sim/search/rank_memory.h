// Memory of single ranks: the fullest of every stage of a pipeline, the last rank, positions of a
// sequence's ranks.
#pragma once

#include "sim/cost/kernel.h"
#include "sim/engine/timeline.h"
#include "sim/program/program.h"
#include "sim/search/result.h"

namespace longhaul {

/// The rank whose peak is highest, the lowest of equals.
RankId fullest_rank(const Timeline& timeline);

/// Bytes of a peak that the framework's allocator does not hold: communicators' buffers and what
/// the framework takes from the driver.
std::int64_t outside_allocator(const MemoryPeak& peak);

/// The peak of a rank, with what the framework's allocator makes of its requests on a device of
/// `capacity` bytes.
RankMemory memory_of_rank(const Program& program, const Timeline& timeline, RankId rank,
                          const KernelCosts& kernels, std::int64_t capacity);

/// The same of the fullest rank of every stage, first to last.
std::vector<RankMemory> memory_of_stages(const Program& program, const Timeline& timeline,
                                         const KernelCosts& kernels, std::int64_t capacity);

/// The same of those stages only that may need more than `capacity`: whose peak, with twice what the
/// allocator wastes on `fullest` or `last` (ranks already looked at), exceeds it. `fullest` is first.
std::vector<RankMemory> memory_of_tight_stages(const Program& program, const Timeline& timeline,
                                               const RankMemory& fullest, const RankMemory& last,
                                               const KernelCosts& kernels, std::int64_t capacity);

/// The fullest rank at every position of context parallelism, of the stage of rank `like`. Empty if
/// all positions hold the same.
std::vector<PositionMemory> memory_of_positions(const Mesh& mesh, const Timeline& timeline,
                                                RankId like);

}  // namespace longhaul
