// Every legal combination of a small grid lowers to a program whose structure holds and whose
// memory pairs up on every rank.
#include <catch2/catch.hpp>

#include "sim/schedule/lower.h"
#include "tests/sim/schedule/small_scenarios.h"
#include "tests/sim/schedule/walk.h"

using namespace longhaul;
using namespace longhaul::test;

namespace {

std::vector<Plan> context_plans() {
  using M = ContextMethod;
  std::vector<Plan> plans{Plan()};
  for (const SequenceOrder order :
       {SequenceOrder::contiguous, SequenceOrder::zigzag, SequenceOrder::striped}) {
    plans.push_back(plan_of(M::ring, 2, 1, order));
    plans.push_back(plan_of(M::ring, 4, 1, order));
    plans.push_back(plan_of(M::usp, 2, 2, order));
    plans.push_back(plan_of(M::usp, 4, 2, order));
    plans.back().context.inner = InnerPlacement::ring;
    plans.push_back(plan_of(M::all_gather, 4, 1, order));
  }
  for (const std::int64_t ulysses : {2, 4}) {
    plans.push_back(plan_of(M::ulysses, 1, ulysses));
  }
  return plans;
}

void walk_every_rank(const Scenario& scenario) {
  const Program program = lower(scenario);  // runs check_program
  REQUIRE(program.mesh.ranks() == scenario.gpus);
  for (std::int64_t rank = 0; rank < scenario.gpus; ++rank) {
    REQUIRE_NOTHROW(Walk(program, static_cast<std::size_t>(rank)));
  }
}

}  // namespace

TEST_CASE("every attention plan pairs its memory, forward, backward and both") {
  for (const Plan& plan : context_plans()) {
    for (const Model& model : {small_llama(8, 8), small_llama(8, 4), small_llama(8, 1)}) {
      for (const Pass pass : {Pass::forward, Pass::backward, Pass::forward_backward}) {
        Scenario scenario = scenario_of(model, Phase::attention, plan);
        scenario.workload.pass = pass;
        walk_every_rank(scenario);
      }
    }
  }
}

TEST_CASE("every training plan pairs its memory") {
  for (Plan plan : context_plans()) {
    for (const Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full}) {
      for (const int zero : {0, 1, 2, 3}) {
        for (const std::int64_t tensor : {1, 2}) {
          plan.recompute = recompute;
          plan.zero = zero;
          plan.tensor = tensor;
          plan.sequence_parallel = tensor > 1 && zero % 2 == 1;
          plan.shard_over_context = zero != 2;
          plan.data = recompute == Recompute::none ? 2 : 1;
          Scenario scenario = scenario_of(small_llama(8, 4), Phase::train, plan);
          scenario.workload.global_batch *= zero == 0 ? 1 : 3;
          scenario.software = tensor > 1 ? "megatron" : "ideal";
          walk_every_rank(scenario);
        }
      }
    }
  }
}

TEST_CASE("models with biases, tied embeddings, one layer, or layers alone pair their memory") {
  Model one_layer = small_llama();
  one_layer.layers = 1;
  Model layers_alone = small_llama();
  layers_alone.vocab = 0;
  for (const Model& model : {small_gpt(), one_layer, layers_alone}) {
    for (const int zero : {1, 2, 3}) {
      for (const Phase phase : {Phase::train, Phase::forward, Phase::prefill}) {
        Plan plan = plan_of(ContextMethod::usp, 2, 2);
        plan.zero = zero;
        plan.tensor = 2;
        walk_every_rank(scenario_of(model, phase, plan));
      }
    }
  }
}

TEST_CASE("every forward and prefill plan pairs its memory") {
  for (const Plan& plan : context_plans()) {
    walk_every_rank(scenario_of(small_llama(8, 4), Phase::forward, plan));
    walk_every_rank(scenario_of(small_llama(8, 4), Phase::prefill, plan));
  }
}

TEST_CASE("a prefill keeps the keys and values of all layers, a forward pass does not") {
  const Plan plan = plan_of(ContextMethod::ring, 4, 1);
  const auto cache = [&](Phase phase) {
    std::int64_t bytes = 0;
    for (const Tensor& tensor : lower(scenario_of(small_llama(8, 4), phase, plan)).tensors) {
      if (tensor.persistent && tensor.category == MemoryCategory::kv_buffers) {
        bytes += static_cast<std::int64_t>(tensor.slot_bytes().value()) * tensor.slots;
      }
    }
    return bytes;
  };
  // 3 layers, k and v, [2, 64/4, 4, 4] in bf16.
  CHECK(cache(Phase::prefill) == 3 * 2 * (2 * 16 * 4 * 4 * 2));
  CHECK(cache(Phase::forward) == 0);
}
