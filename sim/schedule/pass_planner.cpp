#include "sim/schedule/pass_planner.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "sim/units/check.h"

namespace longhaul {

namespace {

constexpr std::int64_t never = std::numeric_limits<std::int64_t>::max();

/// What a planner does where it has a choice.
struct Habit {
  std::int64_t most = 1;   ///< F that the first stage runs ahead of B
  std::int64_t slope = 1;  ///< by how many fewer each further stage runs
  /// W may begin if the next message is at least so far away, in quarters of W's length.
  std::int64_t quarters = 4;
};

// All stages at once, in the order of time: whenever a stage is free it takes B if there is one, else F
// if there is memory for it, else W if that fills a gap; else it waits. Where B takes memory that there
// is not, W goes first.
class GreedyPlanner {
 public:
  GreedyPlanner(const PassCosts& costs, std::int64_t micro_batches, std::int64_t limit,
                const Habit& habit)
      : costs_(costs), micro_batches_(micro_batches), limit_(memory_limit(costs, limit)), habit_(habit) {
    stages_.resize(costs.forward.size());
  }

  PassLists plan() {
    while (const std::optional<std::size_t> stage = next_stage()) {
      decide(*stage);
    }
    PassLists lists;
    for (const Stage& stage : stages_) {
      lists.push_back(stage.list);
    }
    return lists;
  }

 private:
  struct Stage {
    std::vector<PipelinePass> list;
    std::int64_t done[3] = {0, 0, 0};  ///< passes begun, by kind
    std::int64_t free = 0;             ///< when the stage decides next
    std::int64_t held = 0;             ///< memory
    bool waits = false;                ///< and whether it has nothing to do until then
    std::vector<std::int64_t> forward, backward;  ///< ends, by micro-batch
  };
  [[nodiscard]] static std::int64_t& done(Stage& stage, PassKind kind) {
    return stage.done[static_cast<int>(kind)];
  }

  [[nodiscard]] bool over(const Stage& stage) const {
    return stage.done[static_cast<int>(PassKind::weights)] == micro_batches_;
  }

  // The one that decides first; of several the first in the pipeline.
  [[nodiscard]] std::optional<std::size_t> next_stage() const {
    std::optional<std::size_t> first;
    for (std::size_t i = 0; i < stages_.size(); ++i) {
      if (!over(stages_[i]) && (!first || stages_[i].free < stages_[*first].free)) {
        first = i;
      }
    }
    return first;
  }

  // When what the next F needs is there, as far as is known.
  [[nodiscard]] std::int64_t forward_ready(std::size_t index) const {
    const Stage& stage = stages_[index];
    const auto i = static_cast<std::size_t>(stage.done[0]);
    const std::int64_t ahead = stage.done[0] - stage.done[1];
    const std::int64_t may = habit_.most - habit_.slope * static_cast<std::int64_t>(index);
    const bool room = stage.done[0] == stage.done[2] || stage.held + costs_.held[index] <= limit_;
    if (stage.done[0] == micro_batches_ || !room || ahead >= std::max<std::int64_t>(1, may)) {
      return never;
    }
    if (index == 0) {
      return 0;
    }
    const auto& made = stages_[index - 1].forward;
    return i < made.size() ? made[i] + costs_.message : never;
  }

  [[nodiscard]] std::int64_t backward_ready(std::size_t index) const {
    const Stage& stage = stages_[index];
    const auto i = static_cast<std::size_t>(stage.done[1]);
    if (stage.done[1] == stage.done[0]) {
      return never;
    }
    if (index + 1 == stages_.size()) {
      return stage.forward[i];
    }
    const auto& made = stages_[index + 1].backward;
    return i < made.size() ? made[i] + costs_.message : never;
  }

  void decide(std::size_t index) {
    Stage& stage = stages_[index];
    const std::int64_t now = stage.free;
    check(now != never, "no stage waits for ever");
    stage.waits = false;
    const std::int64_t backward = backward_ready(index);
    const std::int64_t forward = forward_ready(index);
    const std::int64_t message = std::min(backward, forward);
    const bool pending = stage.done[2] < stage.done[1];
    const std::int64_t taken = costs_.kept[index] - costs_.held[index];
    if (backward <= now && pending && taken > 0 && stage.held + taken > limit_) {
      put(index, PassKind::weights, costs_.weights[index]);
    } else if (backward <= now) {
      put(index, PassKind::backward, costs_.backward[index]);
    } else if (forward <= now) {
      put(index, PassKind::forward, costs_.forward[index]);
    } else if (pending && fills(message, now, costs_.weights[index])) {
      put(index, PassKind::weights, costs_.weights[index]);
    } else {
      stage.waits = true;  // for a message on its way, or until a neighbour begins to make one
      stage.free = message;
    }
  }

  [[nodiscard]] bool fills(std::int64_t message, std::int64_t now, std::int64_t length) const {
    return message == never || 4 * (message - now) >= habit_.quarters * length;
  }

  void put(std::size_t index, PassKind kind, std::int64_t length) {
    Stage& stage = stages_[index];
    for (std::size_t i = 0; i < stages_.size(); ++i) {
      if (i != index && stages_[i].waits) {
        stages_[i].free = std::min(stages_[i].free, stage.free);
      }
    }
    stage.list.push_back({kind, done(stage, kind)++});
    stage.free += length;
    if (kind == PassKind::forward) {
      stage.forward.push_back(stage.free);
      stage.held += costs_.held[index];
    } else if (kind == PassKind::backward) {
      stage.backward.push_back(stage.free);
      stage.held += costs_.kept[index] - costs_.held[index];
    } else {
      stage.held -= costs_.kept[index];
    }
  }

  const PassCosts& costs_;
  std::int64_t micro_batches_;
  std::int64_t limit_;
  Habit habit_;
  std::vector<Stage> stages_;
};

}  // namespace

std::vector<PassLists> greedy_lists(const PassCosts& costs, std::int64_t micro_batches,
                                    std::int64_t limit) {
  // Memory is the limit, whatever the count: where W waits with less than F holds, more F fit.
  std::vector<PassLists> all;
  for (const std::int64_t most : {limit, limit - 1, 2 * limit}) {
    for (const std::int64_t slope : {0, 1, 2}) {
      for (const std::int64_t quarters : {4, 2, 1}) {
        const Habit habit{std::max<std::int64_t>(1, most), slope, quarters};
        all.push_back(GreedyPlanner(costs, micro_batches, limit, habit).plan());
      }
    }
  }
  return all;
}

}  // namespace longhaul
