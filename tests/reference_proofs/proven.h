// What every proof of a training step does: a small scenario, computed by all ranks and by one.
#pragma once

#include <catch2/catch.hpp>

#include "tests/reference_proofs/proof.h"
#include "tests/sim/schedule/small_scenarios.h"

namespace longhaul::test {

/// A step of `micro_batches` micro-batches of one sequence of `length` tokens on every replica.
inline Scenario short_training(const Model& model, const Plan& plan, std::int64_t length,
                               std::int64_t micro_batches) {
  Scenario scenario = scenario_of(model, Phase::train, plan);
  scenario.workload.sequence_length = length;
  scenario.workload.micro_batch = 1;
  scenario.workload.global_batch = plan.data * micro_batches;
  return scenario;
}

inline void require_proven(const Scenario& scenario,
                           ExecutionOrder order = ExecutionOrder::program, std::uint64_t seed = 0) {
  const Verdict verdict = prove(scenario, order, seed);
  INFO(describe(scenario));
  INFO("pipeline " << scenario.plan.pipeline << " x " << scenario.plan.virtual_pipeline);
  INFO(verdict.why << ": " << verdict.error);
  REQUIRE(is_proven(verdict));
}

}  // namespace longhaul::test
