// Lists of passes of zero-bubble pipelines: their order, their memory, and how long they stand still.
#include "sim/schedule/pass_lists.h"

#include <catch2/catch.hpp>
#include <numeric>

#include "sim/schedule/lower.h"
#include "sim/schedule/pass_planner.h"
#include "tests/sim/schedule/small_scenarios.h"

using namespace longhaul;
using namespace longhaul::test;

namespace {

PassCosts alike(std::int64_t stages, std::int64_t forward, std::int64_t backward,
                std::int64_t weights, std::int64_t message = 0) {
  const auto all = [&](std::int64_t time) {
    return std::vector<std::int64_t>(static_cast<std::size_t>(stages), time);
  };
  return {all(forward), all(backward), all(weights), message, all(1), all(1)};
}

// "F0 F1 B0 W0"
std::string text_of(const std::vector<PipelinePass>& list) {
  std::string text;
  for (const PipelinePass& pass : list) {
    text += (text.empty() ? "" : " ") + std::string(1, "FBW"[static_cast<int>(pass.kind)]) +
            std::to_string(pass.micro_batch);
  }
  return text;
}

// Every micro-batch has F, B and W once on every stage, in this order, each kind counting up.
void require_whole(const PassLists& lists, std::int64_t micro_batches) {
  for (const auto& list : lists) {
    std::int64_t done[3] = {0, 0, 0};
    for (const PipelinePass& pass : list) {
      const auto kind = static_cast<int>(pass.kind);
      REQUIRE(pass.micro_batch == done[kind]);
      ++done[kind];
      REQUIRE(done[2] <= done[1]);
      REQUIRE(done[1] <= done[0]);
    }
    REQUIRE(done[2] == micro_batches);
  }
}

std::int64_t fullest(const PassLists& lists) {
  std::int64_t most = 0;
  for (const auto& list : lists) {
    most = std::max(most, most_held(list, equal_costs(1), 0));
  }
  return most;
}

// What a step is longer than the work of a stage.
std::int64_t bubble(const PassLists& lists, const PassCosts& times, std::int64_t micro_batches,
                    bool apart = true) {
  return clock_of(lists, times).step(apart) -
         micro_batches * (times.forward[0] + times.backward[0] + times.weights[0]);
}

}  // namespace

TEST_CASE("the lists of two stages, written out") {
  const PassLists h1 = lists_by_rule(2, 3, zb_h1_rule(2));
  CHECK(text_of(h1[0]) == "F0 F1 B0 W0 F2 B1 W1 B2 W2");
  CHECK(text_of(h1[1]) == "F0 B0 F1 B1 W0 F2 B2 W1 W2");
  const PassLists h2 = lists_by_rule(2, 4, zb_h2_rule(2));
  CHECK(text_of(h2[0]) == "F0 F1 F2 B0 W0 F3 B1 W1 B2 W2 B3 W3");
  CHECK(text_of(h2[1]) == "F0 B0 F1 B1 F2 B2 W0 F3 B3 W1 W2 W3");
}

TEST_CASE("lists have every pass once, in order, and keep their memory") {
  for (const std::int64_t stages : {2, 3, 4, 8}) {
    for (const std::int64_t micro_batches : {1, 2, 3, 7, 16}) {
      const PassLists h1 = lists_by_rule(stages, micro_batches, zb_h1_rule(stages));
      require_whole(h1, micro_batches);
      CHECK(fullest(h1) == std::min(stages, micro_batches));
      const PassLists h2 = lists_by_rule(stages, micro_batches, zb_h2_rule(stages));
      require_whole(h2, micro_batches);
      CHECK(fullest(h2) == std::min(2 * stages - 1, micro_batches));
    }
  }
}

// arXiv 2401.10241, section 2.3: of p stages whose messages are free 1F1B stands still for
// (p - 1) (F + B + W), ZB-H1 for (p - 1) (F + B - W), ZB-H2 for (p - 1) (F + B - 2 W).
TEST_CASE("stages stand still as long as the closed forms of ZB-H1 and ZB-H2 say") {
  struct Lengths {
    std::int64_t forward, backward, weights;
  };
  for (const Lengths& one : {Lengths{10, 10, 10}, Lengths{12, 10, 8}, Lengths{20, 16, 15}}) {
    for (const std::int64_t stages : {2, 4, 8}) {
      const PassCosts times = alike(stages, one.forward, one.backward, one.weights);
      const std::int64_t both = one.forward + one.backward;
      for (const std::int64_t micro_batches : {2 * stages, 3 * stages + 1}) {
        CHECK(bubble(lists_by_rule(stages, micro_batches, zb_h1_rule(stages)), times,
                     micro_batches) == (stages - 1) * (both - one.weights));
        CHECK(bubble(lists_by_rule(stages, micro_batches, zb_h2_rule(stages)), times,
                     micro_batches) == (stages - 1) * (both - 2 * one.weights));
      }
    }
  }
}

// Zero bubble is zero only where stages need not end together.
TEST_CASE("stages that end their step together wait for the last one's first input") {
  const PassCosts times = alike(4, 10, 10, 10);
  const PassLists h2 = lists_by_rule(4, 12, zb_h2_rule(4));
  CHECK(bubble(h2, times, 12, true) == 0);
  CHECK(bubble(h2, times, 12, false) == 3 * 10);
}

TEST_CASE("planned lists are whole, keep their limit and are no worse than those by rule") {
  const std::vector<PassCosts> all{
      alike(4, 10, 10, 10),          alike(4, 100, 118, 90, 5),
      alike(8, 30, 31, 19, 1),       alike(2, 7, 9, 11, 3),
      {{9, 10, 10, 14}, {10, 11, 11, 16}, {6, 7, 7, 12}, 1, {1, 1, 1, 1}, {1, 1, 1, 1}}};
  for (const PassCosts& times : all) {
    const auto stages = static_cast<std::int64_t>(times.forward.size());
    for (const std::int64_t micro_batches : {std::int64_t{1}, stages, 3 * stages}) {
      for (const bool apart : {false, true}) {
        const PassLists one = planned_lists(times, micro_batches, stages, apart);
        const PassLists two = planned_lists(times, micro_batches, 2 * stages, apart);
        require_whole(one, micro_batches);
        require_whole(two, micro_batches);
        CHECK(fullest(one) <= stages);
        CHECK(fullest(two) <= 2 * stages);
        const auto step = [&](const PassLists& lists) { return clock_of(lists, times).step(apart); };
        CHECK(step(one) <= step(lists_by_rule(stages, micro_batches, zb_h1_rule(stages))));
        CHECK(step(two) <= step(lists_by_rule(stages, micro_batches, zb_h2_rule(stages))));
        CHECK(step(two) <= step(one));
      }
    }
  }
}

TEST_CASE("the greedy planner alone keeps every limit and finds no bubble where there need be none") {
  for (const std::int64_t limit : {1, 2, 4, 8}) {
    for (const PassLists& lists : greedy_lists(alike(4, 10, 12, 9, 1), 9, limit)) {
      require_whole(lists, 9);
      CHECK(fullest(lists) <= limit);
    }
  }
  const PassCosts times = alike(4, 10, 10, 10);
  std::int64_t least = 1000;
  for (const PassLists& lists : greedy_lists(times, 12, 8)) {
    least = std::min(least, bubble(lists, times, 12));
  }
  CHECK(least == 0);
}

// Attention that is not fused holds most until B: what W waits with is a third of it.
TEST_CASE("where weight gradients wait with less than a forward pass holds, more passes fit") {
  PassCosts costs = alike(4, 10, 10, 10);
  costs.held = {6, 6, 6, 6};
  costs.kept = {2, 2, 2, 2};
  for (const std::int64_t limit : {4, 8}) {
    const PassLists lists = planned_lists(costs, 16, limit, true);
    require_whole(lists, 16);
    for (std::size_t stage = 0; stage < 4; ++stage) {
      CHECK(most_held(lists[stage], costs, stage) <= 6 * limit);
    }
    CHECK(bubble(lists, costs, 16) <= bubble(planned_lists(alike(4, 10, 10, 10), 16, limit, true),
                                             costs, 16));
  }
  // Before B nothing is freed: five F of the seven that fill the first stage's wait fit.
  CHECK(bubble(planned_lists(costs, 16, 5, true), costs, 16) == 20);
}

TEST_CASE("backward passes that need more memory than there is take what they must") {
  PassCosts costs = alike(4, 10, 10, 10);
  costs.kept = {3, 3, 3, 3};  // one micro-batch alone is beyond what two may hold
  const PassLists lists = planned_lists(costs, 6, 2, true);
  require_whole(lists, 6);
  CHECK(most_held(lists[0], costs, 0) <= 4);
}

TEST_CASE("messages delay what needs them") {
  // F on the first stage, a message, F and B on the last one, a message, B and W on the first.
  const PassLists lists = lists_by_rule(2, 1, zb_h1_rule(2));
  const PassClock clock = clock_of(lists, alike(2, 10, 20, 5, 3));
  CHECK(clock.passes[1][0].start == 13);
  CHECK(clock.passes[0][1].start == 13 + 10 + 20 + 3);
  CHECK(clock.step(false) == 46 + 20 + 5);
  CHECK(clock.step(true) == clock.step(false));
}

// The program has a handful of instructions more for 64 micro-batches than for 8.
TEST_CASE("the program of a zero-bubble pipeline does not grow with its micro-batches") {
  const auto size = [](std::int64_t micro_batches) {
    Plan plan;
    plan.pipeline = 4;
    plan.schedule = PipelineSchedule::zb_2p;
    Model model = small_llama();
    model.layers = 4;
    Scenario scenario = scenario_of(model, Phase::train, plan);
    scenario.workload.global_batch = scenario.workload.micro_batch * micro_batches;
    return lower(scenario).code.size();
  };
  CHECK(size(8) == size(64));
}
