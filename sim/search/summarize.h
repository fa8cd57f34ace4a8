// From a timeline to a result.
#pragma once

#include "sim/cost/collective.h"
#include "sim/cost/kernel.h"
#include "sim/engine/allocator.h"
#include "sim/engine/timeline.h"
#include "sim/scenario/scenario.h"
#include "sim/search/result.h"

namespace longhaul {

/// The rank whose peak is highest, the lowest of equals.
RankId fullest_rank(const Timeline& timeline);

/// The rank whose own work ends last, the lowest of equals.
RankId slowest_rank(const Timeline& timeline);

/// Bytes of a peak that the framework's allocator does not hold: communicators' buffers and what
/// the framework takes from the driver.
std::int64_t outside_allocator(const MemoryPeak& peak);

/// Reads a result off a timeline; `allocator` is that of the fullest rank. Definitions:
/// docs/models/result.md.
Result summarize(const Scenario& scenario, const Timeline& timeline,
                 const AllocatorCounts& allocator, const KernelCosts& kernels,
                 const TransportCosts& transport);

/// FLOPs the model needs for one step of the scenario's phase, recompute not counted: matrix
/// products 2 FLOP per multiply-add, attention 4 * head_dim per attended pair and head forward and
/// 2.5 times that backward in a step of attention alone, twice that in training_flops' convention
/// (backward = 2 x forward). A prefill's LM head sees the last token of each sequence only.
Flops model_flops(const Scenario& scenario);

}  // namespace longhaul
