// Every legal way to split the sequence on the same GPUs, ranked.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sim/scenario/read_scenario.h"
#include "sim/search/result.h"

namespace longhaul {

/// One row: a plan that was predicted, or why it is not legal.
struct Alternative {
  std::string name;                 ///< "ring 32 zigzag", "usp u8 x r4", "tp8+sp x ring 4"
  Plan plan;
  std::optional<Result> result;     ///< absent: rejected
  std::string reason;               ///< why rejected, or a remark ("KV replicated 2x")
};

/// Tries every method on the scenario's GPUs (ring, Ulysses, USP splits with either inner
/// placement, Megatron tensor + sequence parallelism alone and with ring, all-gather), with the
/// rest of the plan as given. Ranked: those that fit by step time, then those that do not fit,
/// then the rejected ones.
std::vector<Alternative> compare_methods(const ScenarioDraft& draft, Diagnostics& diagnostics);

}  // namespace longhaul
