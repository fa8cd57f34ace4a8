#include "sim/schedule/pass_lists.h"

#include <algorithm>

#include "sim/schedule/pass_planner.h"
#include "sim/units/check.h"

namespace longhaul {

namespace {

std::int64_t length_of(const PassCosts& costs, PassKind kind, std::size_t stage) {
  switch (kind) {
    case PassKind::forward: return costs.forward[stage];
    case PassKind::backward: return costs.backward[stage];
    case PassKind::weights: break;
  }
  return costs.weights[stage];
}

// Runs lists: every stage as far as it gets with the messages that are there, in turn.
class ListRunner {
 public:
  ListRunner(const PassLists& lists, const PassCosts& costs)
      : lists_(lists), costs_(costs), free_(lists.size(), 0), next_(lists.size(), 0) {
    clock_.passes.resize(lists.size());
    forward_.resize(lists.size());
    backward_.resize(lists.size());
  }

  PassClock run() {
    bool moved = true;
    while (moved) {
      moved = false;
      for (std::size_t stage = 0; stage < lists_.size(); ++stage) {
        while (next_[stage] < lists_[stage].size() && advance(stage)) {
          moved = true;
        }
      }
    }
    for (std::size_t stage = 0; stage < lists_.size(); ++stage) {
      check(next_[stage] == lists_[stage].size(), "lists of passes wait for each other");
    }
    return std::move(clock_);
  }

 private:
  // The next pass of a stage, if what it needs has been made.
  bool advance(std::size_t stage) {
    const PipelinePass& pass = lists_[stage][next_[stage]];
    const auto i = static_cast<std::size_t>(pass.micro_batch);
    std::int64_t start = free_[stage];
    const bool forward = pass.kind == PassKind::forward;
    const bool from_above = forward && stage > 0;
    const bool from_below = pass.kind == PassKind::backward && stage + 1 < lists_.size();
    if (from_above || from_below) {
      const auto& made = forward ? forward_[stage - 1] : backward_[stage + 1];
      if (i >= made.size()) {
        return false;
      }
      start = std::max(start, made[i] + costs_.message);
    }
    const std::int64_t end = start + length_of(costs_, pass.kind, stage);
    clock_.passes[stage].push_back({start, end});
    if (forward) {
      forward_[stage].push_back(end);
    } else if (pass.kind == PassKind::backward) {
      check(i < forward_[stage].size(), "a backward pass comes behind its forward pass");
      backward_[stage].push_back(end);
    } else {
      check(i < backward_[stage].size(), "weight gradients come behind their backward pass");
    }
    free_[stage] = end;
    ++next_[stage];
    return true;
  }

  const PassLists& lists_;
  const PassCosts& costs_;
  PassClock clock_;
  std::vector<std::int64_t> free_;
  std::vector<std::size_t> next_;
  std::vector<std::vector<std::int64_t>> forward_, backward_;  ///< ends, by stage and micro-batch
};

}  // namespace

PassRule zb_h1_rule(std::int64_t stages) { return {stages, 1}; }

PassRule zb_h2_rule(std::int64_t stages) { return {2 * stages - 1, 2}; }

PassLists lists_by_rule(std::int64_t stages, std::int64_t micro_batches, const PassRule& rule) {
  PassLists lists(static_cast<std::size_t>(stages));
  for (std::int64_t stage = 0; stage < stages; ++stage) {
    auto& list = lists[static_cast<std::size_t>(stage)];
    const std::int64_t late = rule.slope * stage;
    std::int64_t forward = 0;
    const std::int64_t first = std::max<std::int64_t>(1, rule.most - late);
    for (; forward < std::min(first, micro_batches); ++forward) {
      list.push_back({PassKind::forward, forward});
    }
    for (std::int64_t i = 0; i < micro_batches; ++i) {
      list.push_back({PassKind::backward, i});
      if (i >= late) {
        list.push_back({PassKind::weights, i - late});
      }
      if (forward < micro_batches) {
        list.push_back({PassKind::forward, forward++});
      }
    }
    for (std::int64_t i = std::max<std::int64_t>(0, micro_batches - late); i < micro_batches; ++i) {
      list.push_back({PassKind::weights, i});
    }
  }
  return lists;
}

PassCosts equal_costs(std::int64_t stages) {
  const std::vector<std::int64_t> one(static_cast<std::size_t>(stages), 1);
  return {one, one, one, 0, one, one};
}

PassClock clock_of(const PassLists& lists, const PassCosts& costs) {
  return ListRunner(lists, costs).run();
}

std::int64_t PassClock::step(bool apart) const {
  std::int64_t longest = 0;
  for (const auto& stage : passes) {
    longest = std::max(longest, stage.back().end - (apart ? stage.front().start : 0));
  }
  return longest;
}

std::int64_t most_held(const std::vector<PipelinePass>& list, const PassCosts& costs,
                       std::size_t stage) {
  std::int64_t held = 0;
  std::int64_t most = 0;
  for (const PipelinePass& pass : list) {
    switch (pass.kind) {
      case PassKind::forward: held += costs.held[stage]; break;
      case PassKind::backward: held += costs.kept[stage] - costs.held[stage]; break;
      case PassKind::weights: held -= costs.kept[stage]; break;
    }
    most = std::max(most, held);
  }
  return most;
}

std::int64_t memory_limit(const PassCosts& costs, std::int64_t limit) {
  return limit * std::max(costs.held[0], costs.held[std::min<std::size_t>(1, costs.held.size() - 1)]);
}

// The planner's lists go first where they are better; those by rule are never far behind.
PassLists planned_lists(const PassCosts& costs, std::int64_t micro_batches, std::int64_t limit,
                        bool apart) {
  const auto stages = static_cast<std::int64_t>(costs.forward.size());
  std::vector<PassLists> candidates = greedy_lists(costs, micro_batches, limit);
  for (const PassRule& rule : {zb_h1_rule(stages), zb_h2_rule(stages)}) {
    candidates.push_back(lists_by_rule(stages, micro_batches, rule));
  }
  const PassLists* best = nullptr;
  std::pair<std::int64_t, std::int64_t> least;  // beyond the limit, step
  for (const PassLists& lists : candidates) {
    std::int64_t beyond = 0;
    for (std::size_t stage = 0; stage < lists.size(); ++stage) {
      beyond = std::max(beyond, most_held(lists[stage], costs, stage) - memory_limit(costs, limit));
    }
    const std::pair<std::int64_t, std::int64_t> rank{beyond, clock_of(lists, costs).step(apart)};
    if (best == nullptr || rank < least) {
      best = &lists;
      least = rank;
    }
  }
  check(best != nullptr, "the planner has habits");
  return *best;
}

PassLists lists_of(const Scenario& scenario) {
  const std::int64_t stages = scenario.plan.pipeline;
  const std::int64_t micro_batches = scenario.micro_batches();
  switch (scenario.plan.schedule) {
    case PipelineSchedule::zb_h1:
      return lists_by_rule(stages, micro_batches, zb_h1_rule(stages));
    case PipelineSchedule::zb_h2:
      return lists_by_rule(stages, micro_batches, zb_h2_rule(stages));
    case PipelineSchedule::zb_1p:
    case PipelineSchedule::zb_2p: break;
    case PipelineSchedule::one_f_one_b:
    case PipelineSchedule::interleaved:
    case PipelineSchedule::zb_v: check(false, "this schedule has no lists of passes");
  }
  const std::int64_t limit =
      scenario.plan.schedule == PipelineSchedule::zb_2p ? 2 * stages : stages;
  const PassCosts costs = scenario.pass_costs.value_or(equal_costs(stages));
  return planned_lists(costs, micro_batches, limit, scenario.steps_apart());
}

}  // namespace longhaul
