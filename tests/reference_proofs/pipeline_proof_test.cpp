// A pipeline of stages trains the model that one stage trains.
#include <catch2/catch.hpp>

#include "sim/schedule/lower.h"
#include "tests/reference_proofs/proven.h"
#include "tests/sim/schedule/small_scenarios.h"

using namespace longhaul;
using namespace longhaul::test;

namespace {

using M = ContextMethod;

Model tiny(std::int64_t layers) {
  Model model = small_llama(8, 4);
  model.layers = layers;
  model.hidden = 16;
  model.ffn = 24;
  model.vocab = 24;
  return model;
}

Plan pipelined(Plan plan, std::int64_t stages, std::int64_t chunks, int zero = 0) {
  plan.pipeline = stages;
  plan.virtual_pipeline = chunks;
  plan.zero = zero;
  return plan;
}

Scenario training(const Model& model, const Plan& plan, std::int64_t micro_batches) {
  return short_training(model, plan, 16, micro_batches);
}

}  // namespace

TEST_CASE("two and four stages train the model of one, with few and many micro-batches") {
  for (const std::int64_t stages : {2, 4}) {
    for (const std::int64_t micro_batches : {1, 2, 3, 5, 8}) {
      require_proven(training(tiny(4), pipelined(Plan(), stages, 1), micro_batches));
    }
  }
}

TEST_CASE("interleaved stages train the model of one") {
  for (const std::int64_t stages : {2, 4}) {
    for (const std::int64_t rounds : {1, 2, 3}) {
      require_proven(training(tiny(8), pipelined(Plan(), stages, 2), stages * rounds));
    }
  }
  require_proven(training(tiny(8), pipelined(Plan(), 2, 4), 4));
  require_proven(training(tiny(12), pipelined(Plan(), 2, 3), 6));
}

TEST_CASE("forward passes and prefills go through stages, a cache for each micro-batch") {
  const auto proves = [](Scenario scenario) {
    for (const std::int64_t cached : {0, 8}) {
      scenario.workload.phase = Phase::prefill;
      scenario.workload.cached_tokens = cached;
      require_proven(scenario);
      require_proven(scenario, ExecutionOrder::any_legal, 7);
    }
    scenario.workload.cached_tokens = 0;
    scenario.workload.phase = Phase::forward;
    scenario.model.vocab = 0;
    require_proven(scenario);
  };
  for (const std::int64_t micro_batches : {1, 2, 5}) {
    proves(training(tiny(4), pipelined(Plan(), 2, 1), micro_batches));
    proves(training(tiny(4), pipelined(Plan(), 4, 1), micro_batches));
  }
  for (const std::int64_t micro_batches : {2, 4, 7}) {
    proves(training(tiny(8), pipelined(Plan(), 2, 2), micro_batches));
    proves(training(tiny(12), pipelined(Plan(), 2, 3), micro_batches));
  }
  proves(training(tiny(8), pipelined(Plan(), 4, 2), 8));
  for (const int zero : {0, 3}) {
    Plan plan = plan_of(M::ring, 2, 1);
    plan.data = 2;
    proves(training(tiny(4), pipelined(plan, 2, 1, zero), 3));
    plan = plan_of(M::ulysses, 1, 2);
    plan.tensor = 2;
    plan.sequence_parallel = true;
    proves(training(tiny(4), pipelined(plan, 2, 2, zero), 4));
  }
  Plan uneven = pipelined(Plan(), 2, 2);
  uneven.stage_layers = {1, 2, 0, 3};
  proves(training(tiny(6), uneven, 4));
  Model tied = tiny(4);
  tied.tied_embeddings = true;
  Scenario prefill = training(tied, pipelined(Plan(), 2, 1), 2);
  prefill.workload.phase = Phase::prefill;
  require_proven(prefill);
}

TEST_CASE("stages deal whole weights to owners of their own, a tied embedding on both ends") {
  for (const bool tied : {false, true}) {
    Model model = tiny(4);
    model.tied_embeddings = tied;
    Plan plan = pipelined(Plan(), 2, 1, 1);
    plan.data = 3;
    plan.zero_owners = true;
    require_proven(training(model, plan, 4));
    plan.virtual_pipeline = 2;
    require_proven(training(model, plan, 4), ExecutionOrder::any_legal, 3);
  }
}

TEST_CASE("a pipeline computes the same in any order that its dependences allow") {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    require_proven(training(tiny(4), pipelined(Plan(), 4, 1), 6), ExecutionOrder::any_legal, seed);
    require_proven(training(tiny(4), pipelined(Plan(), 2, 2), 4), ExecutionOrder::any_legal, seed);
  }
}

TEST_CASE("stages go with tensor, context and data parallelism, ZeRO and recompute") {
  for (const std::int64_t chunks : {1, 2}) {
    for (const int zero : {0, 1, 2}) {
      for (Plan plan : {Plan(), plan_of(M::ring, 2, 1), plan_of(M::ulysses, 1, 2)}) {
        plan.data = 2;
        require_proven(training(tiny(4), pipelined(plan, 2, chunks, zero), 4));
        plan.data = 1;
        plan.tensor = 2;
        plan.sequence_parallel = true;
        require_proven(training(tiny(4), pipelined(plan, 2, chunks, zero), 2));
      }
    }
    for (const Recompute recompute : {Recompute::selective, Recompute::full}) {
      Plan plan = plan_of(M::ring, 2, 1);
      plan.recompute = recompute;
      require_proven(training(tiny(4), pipelined(plan, 2, chunks), 4));
    }
  }
}

TEST_CASE("tied embeddings on the first and the last stage learn from both") {
  for (const std::int64_t stages : {2, 4}) {
    for (const int zero : {0, 1, 2}) {
      Model model = tiny(4);
      model.tied_embeddings = true;
      Plan plan;
      plan.data = 2;
      require_proven(training(model, pipelined(plan, stages, 1, zero), 4));
      plan.tensor = 2;
      plan.data = 1;
      require_proven(training(model, pipelined(plan, stages, 1, zero), 4));
    }
  }
}

TEST_CASE("stages that hold a micro-batch's gradients apart train the model of one") {
  for (const bool tied : {false, true}) {
    for (const int zero : {0, 1}) {
      Model model = tiny(4);
      model.tied_embeddings = tied;
      Plan plan;
      plan.data = 2;
      Scenario scenario = training(model, pipelined(plan, 2, 1, zero), 3);
      scenario.software = "nanotron";
      require_proven(scenario);
    }
  }
}

TEST_CASE("tensor ranks that send a slice of a message each train the model of one") {
  const auto scatters = [] {
    auto stack = std::make_shared<SoftwareProfile>(*find_software("ideal"));
    stack->scatters_messages = true;
    return stack;
  };
  for (const std::int64_t tensor : {2, 4}) {
    for (const std::int64_t stages : {2, 4}) {
      Plan plan;
      plan.tensor = tensor;
      Scenario scenario = training(tiny(4), pipelined(plan, stages, 1), 5);
      scenario.stack_override = scatters();
      require_proven(scenario);
      require_proven(scenario, ExecutionOrder::any_legal, 7);
    }
  }
  // Interleaved, or with slices of the tokens already, nothing is cut.
  Plan plan;
  plan.tensor = 2;
  Scenario interleaved = training(tiny(8), pipelined(plan, 2, 2), 4);
  interleaved.stack_override = scatters();
  require_proven(interleaved);
  plan.sequence_parallel = true;
  Scenario parallel = training(tiny(4), pipelined(plan, 2, 1), 4);
  parallel.stack_override = scatters();
  require_proven(parallel);
}

TEST_CASE("the first and the last stage may hold a layer less") {
  Plan plan = pipelined(Plan(), 4, 1);
  plan.uneven_stages = true;
  require_proven(training(tiny(6), plan, 6));
  plan.recompute = Recompute::full;
  require_proven(training(tiny(6), plan, 3));
}

TEST_CASE("an end of the model may lack more layers, and any part may have its own number") {
  Plan plan = pipelined(Plan(), 4, 1);
  plan.uneven_stages = true;
  require_proven(training(tiny(8), plan, 5));  // 1, 3, 3, 1
  plan.uneven_stages = false;
  plan.stage_layers = {0, 3, 1, 2};
  for (const Recompute recompute : {Recompute::none, Recompute::full}) {
    plan.recompute = recompute;
    require_proven(training(tiny(6), plan, 5));
  }
}

TEST_CASE("interleaved parts may be uneven, and those with the model's ends empty") {
  for (const int zero : {0, 1, 2}) {
    Plan plan = pipelined(Plan(), 2, 2, zero);
    plan.data = 2;
    plan.uneven_stages = true;
    require_proven(training(tiny(2), plan, 4));  // 0, 1, 1, 0
    require_proven(training(tiny(6), plan, 4));  // 1, 2, 2, 1
    plan.uneven_stages = false;
    plan.stage_layers = {2, 0, 1, 3};
    for (const Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full}) {
      plan.recompute = recompute;
      require_proven(training(tiny(6), plan, 4));
    }
  }
  Plan plan = pipelined(Plan(), 4, 2);
  plan.uneven_stages = true;
  Model tied = tiny(6);
  tied.tied_embeddings = true;
  require_proven(training(tied, plan, 8));
}

TEST_CASE("chunks may take turns after more micro-batches than there are stages") {
  struct Case {
    std::int64_t stages, chunks, micro_batches, group;
  };
  for (const Case& one : {Case{2, 2, 3, 3}, Case{4, 3, 5, 5}, Case{2, 2, 6, 3}, Case{2, 2, 5, 3},
                          Case{2, 2, 8, 4}, Case{4, 2, 10, 5}, Case{4, 2, 10, 6}, Case{4, 2, 9, 5},
                          Case{2, 3, 8, 8}, Case{2, 4, 7, 5}, Case{3, 2, 15, 4}}) {
    INFO("group " << one.group << " of " << one.micro_batches);
    Plan plan = pipelined(Plan(), one.stages, one.chunks);
    plan.virtual_group = one.group;
    const Model model = tiny(one.stages * one.chunks);
    require_proven(training(model, plan, one.micro_batches));
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
      require_proven(training(model, plan, one.micro_batches), ExecutionOrder::any_legal, seed);
    }
  }
  Plan plan = pipelined(Plan(), 4, 2);
  plan.virtual_group = 5;
  plan.uneven_stages = true;
  require_proven(training(tiny(6), plan, 9));
}

TEST_CASE("whatever ranks are neighbours, the same is computed") {
  using P = PlanAxis;
  const std::vector<std::vector<PlanAxis>> orders{{P::pipeline, P::data, P::context, P::tensor},
                                                  {P::tensor, P::context, P::pipeline, P::data},
                                                  {P::data, P::tensor, P::ring, P::pipeline},
                                                  {P::ring, P::data, P::tensor, P::pipeline}};
  for (const std::vector<PlanAxis>& order : orders) {
    Plan plan = plan_of(M::ring, 2, 1);
    plan.data = 2;
    plan.tensor = 2;
    plan.sequence_parallel = true;
    plan.rank_order = order;
    require_proven(training(tiny(4), pipelined(plan, 2, 1, 1), 2));
    plan.zero = 3;
    require_proven(training(tiny(2), plan, 2));
    plan.zero = 1;
    plan.zero_group = 2;
    require_proven(training(tiny(2), plan, 2));
  }
}

TEST_CASE("layers alone, given their input and output gradient, are the same in stages") {
  for (const std::int64_t chunks : {1, 2}) {
    Model block = tiny(4);
    block.vocab = 0;
    require_proven(training(block, pipelined(Plan(), 2, chunks), 4));
  }
}

TEST_CASE("a stage that leaves out a message is found out") {
  const Scenario scenario = training(tiny(4), pipelined(Plan(), 2, 1), 4);
  const Program program = lower(scenario);
  std::int64_t broken = 0;
  for (std::size_t place = 0; place < program.code.size(); ++place) {
    if (program.code[place].op == Op::exchange) {
      Program without = program;
      without.code.erase(without.code.begin() + static_cast<std::ptrdiff_t>(place));
      CHECK(!is_proven(prove(scenario, without)));
      ++broken;
    }
  }
  CHECK(broken >= 5);
}

// Which weights a stage gathers, for how long and how far ahead is no matter of what is computed.
TEST_CASE("stages under ZeRO 3 train the model of one, resharding after each pass or not") {
  for (const std::int64_t chunks : {1, 2}) {
    for (const bool reshards : {true, false}) {
      for (const std::int64_t prefetch : {0, 1, 3}) {
        for (const bool tied : {false, true}) {
          Model model = tiny(4);
          model.tied_embeddings = tied;
          Plan plan = pipelined(plan_of(M::ring, 2, 1), 2, chunks, 3);
          plan.data = 2;
          plan.prefetch = prefetch;
          plan.reshard_after_forward = reshards;
          require_proven(training(model, plan, 4));
          plan.recompute = Recompute::full;
          require_proven(training(model, plan, 2), ExecutionOrder::any_legal, 3);
        }
      }
    }
  }
}

TEST_CASE("uneven parts gather what they have, fp32 parameters and hybrid groups included") {
  for (const bool reshards : {true, false}) {
    Plan plan = pipelined(Plan(), 2, 2, 3);
    plan.data = 4;
    plan.stage_layers = {2, 0, 1, 3};
    plan.prefetch = 1;
    plan.reshard_after_forward = reshards;
    Scenario scenario = training(tiny(6), plan, 4);
    require_proven(scenario);
    scenario.precision.states = States::fp32;
    require_proven(scenario);
    scenario.plan.zero_group = 2;
    require_proven(scenario);
  }
}

TEST_CASE("stages hold dense layers and layers with experts, wherever the model is cut") {
  Model model = tiny(6);
  model.experts = {4, 2, 8, 8};
  for (const std::int64_t dense : {1, 3, 0}) {
    model.experts.dense_layers = dense;
    model.experts.period = dense == 0 ? 2 : 1;
    for (const int zero : {0, 1, 2, 3}) {
      Plan plan = pipelined(Plan(), 2, 1, zero);
      plan.data = plan.expert = 2;
      require_proven(training(model, plan, 3));
      plan.stage_layers = {1, 5};
      require_proven(training(model, plan, 2));
      plan.virtual_pipeline = 3;
      plan.stage_layers = {0, 1, 2, 0, 2, 1};
      if (zero == 3) {
        plan.reshard_after_forward = true;
        plan.prefetch = 2;
      }
      require_proven(training(model, plan, 4), ExecutionOrder::any_legal, 11);
    }
  }
}

TEST_CASE("the first layers of every part of a pipeline recompute, the others keep all") {
  for (const std::int64_t chunks : {1, 2}) {
    for (const std::int64_t layers : {1, 2, 3}) {
      for (const RecomputeDetail detail :
           {RecomputeDetail::standard, RecomputeDetail::keep_attention_output,
            RecomputeDetail::op_sac}) {
        Plan plan = pipelined(plan_of(M::ulysses, 1, 2), 2, chunks, 1);
        plan.recompute = Recompute::full;
        plan.recompute_detail = detail;
        plan.recompute_layers = layers;
        require_proven(training(tiny(chunks * 6), plan, 4));
      }
    }
  }
}
