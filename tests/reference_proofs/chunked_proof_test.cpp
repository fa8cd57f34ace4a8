// FPDT's chunks in host memory (docs/models/context_parallelism.md) compute what one GPU computes.
#include <catch2/catch.hpp>

#include "sim/schedule/lower.h"
#include "tests/reference_proofs/proof.h"
#include "tests/sim/schedule/small_scenarios.h"

using namespace longhaul;
using namespace longhaul::test;

namespace {

Plan chunked_plan(std::int64_t ulysses, std::int64_t chunks) {
  Plan plan = plan_of(ContextMethod::ulysses, 1, ulysses);
  plan.context.variant = RingVariant::chunked_offload;
  plan.context.chunks = chunks;
  return plan;
}

// Three tokens of each chunk on a rank.
Scenario chunked_scenario(const Model& model, Phase phase, const Plan& plan) {
  Scenario scenario = scenario_of(model, phase, plan);
  scenario.workload.sequence_length = 3 * plan.context.ulysses * plan.context.chunks;
  scenario.plan.recompute = phase == Phase::train ? Recompute::full : Recompute::none;
  return scenario;
}

void require_proven(const Scenario& scenario, ExecutionOrder order = ExecutionOrder::program,
                    std::uint64_t seed = 0) {
  const Verdict verdict = prove(scenario, order, seed);
  INFO(describe(scenario) << ", chunks " << scenario.plan.context.chunks);
  INFO(verdict.why << ": " << verdict.error);
  REQUIRE(is_proven(verdict));
}

}  // namespace

TEST_CASE("attention in chunks from host memory gives dense outputs and gradients") {
  for (const std::int64_t ulysses : {2, 4}) {
    for (const std::int64_t chunks : {1, 2, 3, 4, 5}) {
      for (const Pass pass : {Pass::forward, Pass::forward_backward}) {
        Scenario scenario = chunked_scenario(small_llama(8, 4), Phase::attention,
                                             chunked_plan(ulysses, chunks));
        scenario.workload.pass = pass;
        require_proven(scenario);
        scenario.plan.context.packed_qkv = true;
        require_proven(scenario);
      }
    }
  }
}

TEST_CASE("layers in chunks train as layers do, in every order that dependences allow") {
  // 48 tokens in 1, 2 or 4 chunks with the MLP in twice as many pieces.
  for (const std::int64_t chunks : {1, 2, 4}) {
    for (const int zero : {0, 1, 3}) {
      Plan plan = chunked_plan(2, chunks);
      plan.zero = zero;
      plan.mlp_tiles = 2 * chunks;
      plan.data = zero == 1 ? 2 : 1;
      Scenario scenario = chunked_scenario(small_llama(8, 4), Phase::train, plan);
      scenario.workload.sequence_length = 48;
      scenario.workload.global_batch = 4 * plan.data;
      require_proven(scenario);
      require_proven(scenario, ExecutionOrder::any_legal, 7);
    }
  }
}

TEST_CASE("chunks go with offloaded inputs, losses in pieces and models without rotation") {
  Plan plan = chunked_plan(4, 3);
  plan.offload = {Offload::activations};
  plan.loss_chunks = 3;
  plan.zero = 3;
  require_proven(chunked_scenario(small_llama(8, 4), Phase::train, plan));
  Model unrotated = small_llama(8, 4);
  unrotated.positions = PositionEmbedding::none;
  unrotated.gated_mlp = false;
  require_proven(chunked_scenario(unrotated, Phase::train, plan));
  for (const std::uint64_t seed : {1, 2, 3}) {
    require_proven(chunked_scenario(small_llama(8, 8), Phase::train, plan),
                   ExecutionOrder::any_legal, seed);
  }
}

TEST_CASE("layers with experts go through attention in chunks") {
  Plan plan = chunked_plan(2, 3);
  plan.expert = 2;
  plan.zero = 1;
  Model model = small_llama(8, 4);
  model.layers = 2;
  model.experts = {4, 2, 8, 0};
  Scenario scenario = chunked_scenario(model, Phase::train, plan);
  scenario.workload.expert_imbalance = 2.0;  // room for all tokens of 4 experts, 2 for each token
  require_proven(scenario);
}

TEST_CASE("a forward pass in chunks is one") {
  Model layers_alone = small_llama(8, 4);
  layers_alone.vocab = 0;
  require_proven(chunked_scenario(layers_alone, Phase::forward, chunked_plan(2, 3)));
}

TEST_CASE("a chunk that comes back from a wrong place is caught") {
  Scenario scenario =
      chunked_scenario(small_llama(8, 4), Phase::attention, chunked_plan(2, 3));
  scenario.workload.pass = Pass::forward_backward;
  for (const char* label : {"fetch keys and values", "fetch queries", "fetch gradients"}) {
    Program program = lower(scenario);
    bool broken = false;
    for (Instruction& instruction : program.code) {
      if (instruction.label == label) {
        instruction.reads[0].slot = Index::of(0);
        broken = true;
      }
    }
    REQUIRE(broken);
    const Verdict verdict = prove(scenario, program);
    INFO(label << ": " << verdict.why << " " << verdict.error);
    CHECK((verdict.refused || is_wrong(verdict)));
  }
}
