// What a framework's caching allocator makes of a program: every allocate and release of one rank in
// program order, which is the order in which the host, and with it the allocator, sees them
// (whatever the GPU is doing at that moment).
#pragma once

#include <cstdint>
#include <vector>

#include "sim/cost/kernel.h"
#include "sim/engine/allocator.h"
#include "sim/program/program.h"

namespace longhaul {

/// Replays the memory of `rank`: persistent tensors first, in the order of their declaration, then
/// the program, with the workspaces of its kernels. Turns of a loop are skipped once they leave the
/// allocator as they found it. Buffers of communicators and what the framework takes from the driver
/// are not the allocator's. Deterministic.
AllocatorCounts replay_allocator(const Program& program, RankId rank, const KernelCosts& kernels,
                                 const AllocatorOptions& options);

/// What the allocator has reserved once so many tensor slots were allocated (MemorySample's count).
struct SegmentStep {
  std::int64_t allocations = 0;
  std::int64_t reserved = 0;
  std::int64_t segments = 0;  ///< taken from the driver until then
};

/// The same replay, turn by turn: every change of what is reserved, in order.
std::vector<SegmentStep> replay_segments(const Program& program, RankId rank,
                                         const KernelCosts& kernels,
                                         const AllocatorOptions& options);

}  // namespace longhaul
