// Latent attention (DeepSeek) under every plan computes the gradients of the model on one rank.
#include <catch2/catch.hpp>

#include "sim/schedule/lower.h"
#include "tests/reference_proofs/proven.h"
#include "tests/sim/schedule/small_scenarios.h"

using namespace longhaul;
using namespace longhaul::test;

namespace {

using M = ContextMethod;

// Keys of 4 + 2 channels, values of 4, latent vectors of 8 (and 12 for queries).
Model latent(std::int64_t q_rank) {
  Model model = small_llama(8, 8);
  model.layers = 2;
  model.hidden = 16;
  model.ffn = 24;
  model.vocab = 24;
  model.latent = {q_rank, 8, 4, 2, 4};
  model.head_dim = 6;
  return model;
}

void require_proven(const Model& model, const Plan& plan, std::int64_t micro_batches = 1,
                    ExecutionOrder order = ExecutionOrder::program, std::uint64_t seed = 0) {
  test::require_proven(short_training(model, plan, 16, micro_batches), order, seed);
}

Plan over(Plan plan, std::int64_t tensor, bool sequence_parallel, std::int64_t data = 1) {
  plan.tensor = tensor;
  plan.sequence_parallel = sequence_parallel;
  plan.data = data;
  return plan;
}

}  // namespace

TEST_CASE("latent attention on one rank is latent attention, with and without a query latent") {
  require_proven(latent(12), Plan());
  require_proven(latent(0), Plan(), 2);
}

TEST_CASE("latent attention under tensor parallelism trains the same model") {
  for (const std::int64_t q_rank : {0, 12}) {
    for (const bool sequence_parallel : {false, true}) {
      require_proven(latent(q_rank), over(Plan(), 2, sequence_parallel));
      require_proven(latent(q_rank), over(Plan(), 4, sequence_parallel), 2);
    }
  }
}

TEST_CASE("latent attention under every context method, whatever is recomputed") {
  for (const Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full}) {
    for (Plan plan : {plan_of(M::ring, 4, 1), plan_of(M::ulysses, 1, 4), plan_of(M::usp, 2, 2),
                      plan_of(M::all_gather, 2, 1)}) {
      plan.recompute = recompute;
      require_proven(latent(12), plan);
    }
  }
  for (Plan plan : {Plan(), plan_of(M::ring, 2, 1), plan_of(M::ulysses, 1, 2),
                    over(plan_of(M::ring, 2, 1), 2, true)}) {
    plan.recompute = Recompute::full;
    plan.recompute_detail = RecomputeDetail::keep_linear_outputs;
    require_proven(latent(12), plan);
    require_proven(latent(0), plan, 2);
  }
  Plan query_side = plan_of(M::ring, 4, 1);
  query_side.context.variant = RingVariant::q_side_backward;
  require_proven(latent(12), query_side);
}

TEST_CASE("latent attention under every ZeRO stage, with experts behind it: a small DeepSeek") {
  Model model = latent(12);
  model.layers = 3;
  model.experts.count = 4;
  model.experts.per_token = 2;
  model.experts.ffn = 8;
  model.experts.shared_ffn = 8;
  model.experts.dense_layers = 1;
  for (const int zero : {0, 1, 2}) {
    Plan plan = over(plan_of(M::ring, 2, 1), 2, true, 2);
    plan.zero = zero;
    plan.expert = 4;
    plan.recompute = zero == 1 ? Recompute::full : Recompute::none;
    require_proven(model, plan, 2);
    require_proven(model, plan, 1, ExecutionOrder::any_legal, 7);
  }
  Plan sharded = over(Plan(), 1, false, 4);
  sharded.zero = 3;
  require_proven(latent(12), sharded, 2);
}
