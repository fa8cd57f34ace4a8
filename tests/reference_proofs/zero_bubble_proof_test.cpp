// A pipeline that makes weight gradients apart from the backward pass trains the model that one stage
// trains.
#include <catch2/catch.hpp>

#include "sim/schedule/lower.h"
#include "tests/reference_proofs/proven.h"
#include "tests/sim/schedule/small_scenarios.h"

using namespace longhaul;
using namespace longhaul::test;

namespace {

using M = ContextMethod;
using S = PipelineSchedule;

Model tiny(std::int64_t layers) {
  Model model = small_llama(8, 4);
  model.layers = layers;
  model.hidden = 16;
  model.ffn = 24;
  model.vocab = 24;
  return model;
}

Plan split(Plan plan, std::int64_t stages, S schedule, int zero = 0) {
  plan.pipeline = stages;
  plan.schedule = schedule;
  plan.zero = zero;
  return plan;
}

Scenario training(const Model& model, const Plan& plan, std::int64_t micro_batches) {
  return short_training(model, plan, 16, micro_batches);
}

}  // namespace

TEST_CASE("stages that split their backward passes train the model of one") {
  for (const S schedule : {S::zb_h1, S::zb_h2, S::zb_1p, S::zb_2p}) {
    for (const std::int64_t stages : {2, 3, 4}) {
      for (const std::int64_t micro_batches : {1, 2, 5, 9}) {
        INFO("schedule " << static_cast<int>(schedule));
        require_proven(training(tiny(12), split(Plan(), stages, schedule), micro_batches));
      }
    }
  }
}

TEST_CASE("split passes compute the same in any order that their dependences allow") {
  for (const S schedule : {S::zb_h1, S::zb_h2, S::zb_2p}) {
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
      require_proven(training(tiny(4), split(Plan(), 4, schedule), 8), ExecutionOrder::any_legal,
                     seed);
    }
  }
}

TEST_CASE("lists planned from any times train the model of one") {
  PassCosts slow_head{{9, 10, 14}, {10, 11, 22}, {3, 4, 9}, 2, {3, 3, 3}, {2, 2, 4}};
  PassCosts late_messages{{10, 10, 10}, {10, 10, 10}, {10, 10, 10}, 25, {1, 1, 1}, {1, 1, 1}};
  PassCosts long_weights{{2, 1, 3}, {3, 2, 1}, {9, 12, 8}, 1, {5, 5, 5}, {1, 2, 1}};
  for (const PassCosts& times : {slow_head, late_messages, long_weights}) {
    for (const S schedule : {S::zb_1p, S::zb_2p}) {
      for (const std::int64_t micro_batches : {2, 7}) {
        Scenario scenario = training(tiny(3), split(Plan(), 3, schedule), micro_batches);
        scenario.pass_costs = times;
        require_proven(scenario);
        require_proven(scenario, ExecutionOrder::any_legal, 5);
      }
    }
  }
}

TEST_CASE("split passes go with tensor, context and data parallelism, ZeRO and recompute") {
  for (const S schedule : {S::zb_h1, S::zb_h2}) {
    for (const int zero : {0, 1}) {
      for (Plan plan : {Plan(), plan_of(M::ring, 2, 1), plan_of(M::ulysses, 1, 2)}) {
        plan.data = 2;
        require_proven(training(tiny(4), split(plan, 2, schedule, zero), 4));
        plan.data = 1;
        plan.tensor = 2;
        require_proven(training(tiny(4), split(plan, 2, schedule, zero), 3));
        plan.sequence_parallel = true;
        require_proven(training(tiny(4), split(plan, 2, schedule, zero), 3));
        plan.recompute = Recompute::selective;
        require_proven(training(tiny(4), split(plan, 2, schedule, zero), 3));
      }
    }
  }
}

TEST_CASE("tied embeddings, uneven and empty stages, MLPs without gates, layers alone") {
  for (const S schedule : {S::zb_h1, S::zb_h2}) {
    for (const int zero : {0, 1}) {
      Model tied = tiny(4);
      tied.tied_embeddings = true;
      Plan plan;
      plan.data = 2;
      require_proven(training(tied, split(plan, 2, schedule, zero), 4));
      plan.tensor = 2;
      require_proven(training(tied, split(plan, 4, schedule, zero), 5));
    }
    Plan uneven = split(Plan(), 4, schedule);
    uneven.uneven_stages = true;
    require_proven(training(tiny(6), uneven, 6));
    uneven.uneven_stages = false;
    uneven.stage_layers = {0, 3, 2, 0};
    require_proven(training(tiny(5), uneven, 6));
    Model plain_mlp = tiny(4);
    plain_mlp.gated_mlp = false;
    require_proven(training(plain_mlp, split(Plan(), 2, schedule), 4));
    Model block = tiny(4);
    block.vocab = 0;
    require_proven(training(block, split(Plan(), 2, schedule), 4));
  }
}

TEST_CASE("stacks that overlap no sums, or deal whole weights, train the model of one") {
  for (const bool overlaps : {false, true}) {
    for (const bool owners : {false, true}) {
      Plan plan = split(Plan(), 2, S::zb_h2, 1);
      plan.data = 2;
      plan.overlap_gradient_reduction = overlaps;
      if (owners) {
        plan.zero_owners = true;
      }
      Scenario scenario = training(tiny(4), plan, 4);
      scenario.software = "megatron";
      require_proven(scenario);
    }
  }
}

TEST_CASE("whatever ranks are neighbours, split passes compute the same") {
  using P = PlanAxis;
  for (const auto& order : {std::vector<P>{P::pipeline, P::data, P::context, P::tensor},
                            std::vector<P>{P::tensor, P::context, P::pipeline, P::data}}) {
    Plan plan = plan_of(M::ring, 2, 1);
    plan.data = 2;
    plan.tensor = 2;
    plan.sequence_parallel = true;
    plan.rank_order = order;
    require_proven(training(tiny(2), split(plan, 2, S::zb_h2, 1), 2));
  }
}

TEST_CASE("a stage that leaves out a message or a weight gradient is found out") {
  const Scenario scenario = training(tiny(4), split(Plan(), 2, S::zb_h1), 4);
  const Program program = lower(scenario);
  int broken = 0;
  for (std::size_t place = 0; place < program.code.size(); ++place) {
    const Instruction& one = program.code[place];
    if (one.op == Op::exchange || one.label.find("wgrad") != std::string::npos) {
      Program without = program;
      without.code.erase(without.code.begin() + static_cast<std::ptrdiff_t>(place));
      CHECK(!is_proven(prove(scenario, without)));
      ++broken;
    }
  }
  CHECK(broken == 4 + 2 * 5);  // sends and receives; in turns and behind them
}
