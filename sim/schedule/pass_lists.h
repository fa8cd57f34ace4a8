// What the stages of a zero-bubble pipeline do one after another (arXiv 2401.10241): forward passes (F),
// backward passes of inputs alone (B) and weight gradients (W) of micro-batches, as lists. Lists are
// made by rule or planned from how long passes take; time here is a count without a unit.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/scenario/scenario.h"

namespace longhaul {

enum class PassKind { forward, backward, weights };

/// One pass of one micro-batch on a stage.
struct PipelinePass {
  PassKind kind = PassKind::forward;
  std::int64_t micro_batch = 0;
  bool operator==(const PipelinePass&) const = default;
};

/// By stage, first to last: its passes in order. F, B and W each count micro-batches up.
using PassLists = std::vector<std::vector<PipelinePass>>;

/// How stages share the memory of micro-batches, by rule: the first stage runs `most` F before its first
/// B, every further one `slope` fewer; behind B i comes W i - slope x stage. No stage holds more than
/// `most` micro-batches.
struct PassRule {
  std::int64_t most = 1;
  std::int64_t slope = 1;
};

/// ZB-H1: p micro-batches in flight, as 1F1B has on its first stage. ZB-H2: 2p - 1.
PassRule zb_h1_rule(std::int64_t stages);
PassRule zb_h2_rule(std::int64_t stages);
PassLists lists_by_rule(std::int64_t stages, std::int64_t micro_batches, const PassRule& rule);

/// Lists for stages of these costs, each of which may hold what `limit` forward passes hold on the
/// fuller of the first two (as in the zero-bubble fork of Megatron-LM, update_schedule): the shortest of
/// those by rule and of a greedy planner's that keep to it, else of those that come nearest to it.
/// `apart`: stages begin their next step without waiting for the others.
PassLists planned_lists(const PassCosts& costs, std::int64_t micro_batches, std::int64_t limit,
                        bool apart);

/// All stages alike, F, B and W as long as each other, messages free, memory held until W: what a stack
/// plans with before it has measured (zb_schedules.py, likewise).
PassCosts equal_costs(std::int64_t stages);

/// When the passes of lists start and end, each as early as its stage and its message let it.
struct PassClock {
  struct Stay {
    std::int64_t start = 0;
    std::int64_t end = 0;
  };
  std::vector<std::vector<Stay>> passes;  ///< by stage, in the order of its list
  /// From the first start to the last end of all stages; `apart`, the longest of any one stage.
  [[nodiscard]] std::int64_t step(bool apart) const;
};
PassClock clock_of(const PassLists& lists, const PassCosts& costs);

/// What a stage holds at most.
std::int64_t most_held(const std::vector<PipelinePass>& list, const PassCosts& costs,
                       std::size_t stage);
/// What each stage may hold, if it may as much as `limit` forward passes.
std::int64_t memory_limit(const PassCosts& costs, std::int64_t limit);

/// The lists that a plan's schedule asks for; `plan` says which, with a pipeline and a schedule of
/// split passes.
PassLists lists_of(const Scenario& scenario);

}  // namespace longhaul
