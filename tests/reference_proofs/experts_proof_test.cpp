// Experts dealt to ranks in every way compute the gradients and the Adam step of the model on one.
#include <catch2/catch.hpp>

#include "sim/schedule/lower.h"
#include "tests/reference_proofs/proven.h"
#include "tests/sim/schedule/small_scenarios.h"

using namespace longhaul;
using namespace longhaul::test;

namespace {

using M = ContextMethod;

// Two layers of four experts; a token passes two.
Model mixture(std::int64_t shared_ffn = 0) {
  Model model = small_llama(8, 8);
  model.layers = 2;
  model.hidden = 16;
  model.ffn = 24;
  model.vocab = 24;
  model.experts.count = 4;
  model.experts.per_token = 2;
  model.experts.ffn = 8;
  model.experts.shared_ffn = shared_ffn;
  return model;
}

Scenario training(const Model& model, const Plan& plan, std::int64_t micro_batches = 1,
                  std::int64_t length = 16) {
  return short_training(model, plan, length, micro_batches);
}

Plan dealt(Plan plan, std::int64_t expert, std::int64_t data = 1) {
  plan.expert = expert;
  plan.data = data;
  return plan;
}

Plan cut(Plan plan, std::int64_t tensor, std::int64_t expert_tensor) {
  plan.tensor = tensor;
  plan.sequence_parallel = tensor > 1;
  plan.expert_tensor = expert_tensor;
  return plan;
}

}  // namespace

TEST_CASE("experts on one rank are the mixture, with and without shared experts") {
  require_proven(training(mixture(), Plan()));
  require_proven(training(mixture(8), Plan(), 2));
}

TEST_CASE("experts dealt to replicas train the same model, under every ZeRO stage") {
  for (const int zero : {0, 1, 2, 3}) {
    for (const std::int64_t expert : {1, 2, 4}) {
      Plan plan = dealt(Plan(), expert, 4);
      plan.zero = zero;
      require_proven(training(mixture(8), plan, 2));
    }
  }
}

TEST_CASE("experts are shared within each zero group and summed over the groups") {
  for (const int zero : {1, 2, 3}) {
    for (const std::int64_t expert : {1, 2}) {  // two ranks a group: of an expert both or one
      Plan plan = dealt(Plan(), expert, 4);
      plan.zero = zero;
      plan.zero_group = 2;
      require_proven(training(mixture(8), plan, 2));
      require_proven(training(mixture(), plan, 1), ExecutionOrder::any_legal, 17);
    }
    Plan ring = dealt(plan_of(M::ring, 2, 1), 2, 4);  // groups of both ranks of two rings
    ring.zero = zero;
    ring.zero_group = 4;
    require_proven(training(mixture(), ring, 2));
    ring.shard_over_context = false;  // of the rest each rank of the rings is apart
    ring.zero_group = 2;
    require_proven(training(mixture(), cut(ring, 2, 1), 2));
    ring.expert = 8;  // across the tensor ranks: every group holds each expert once
    Model eight = mixture();
    eight.experts.count = 8;
    require_proven(training(eight, cut(ring, 2, 1), 2));
  }
}

TEST_CASE("experts dealt to context ranks, to a part of them or across replicas, too") {
  for (const Plan& context :
       {plan_of(M::ring, 4, 1), plan_of(M::ring, 4, 1, SequenceOrder::striped),
        plan_of(M::ulysses, 1, 4), plan_of(M::usp, 2, 2)}) {
    for (const std::int64_t expert : {2, 4}) {
      require_proven(training(mixture(), dealt(context, expert)));
    }
  }
  require_proven(training(mixture(8), dealt(plan_of(M::ring, 2, 1), 4, 2), 2));
}

TEST_CASE("experts behind tensor parallelism are cut, or dealt to its ranks as well") {
  for (const std::int64_t expert_tensor : {1, 2}) {
    for (const std::int64_t expert : {1, 2, 4}) {
      for (const int zero : {0, 1}) {
        Plan plan = cut(dealt(Plan(), expert, 4), 2, expert_tensor);
        plan.zero = zero;
        require_proven(training(mixture(8), plan));
      }
    }
  }
  require_proven(training(mixture(8), cut(dealt(plan_of(M::usp, 2, 2), 4), 2, 2), 2));
}

TEST_CASE("experts are dealt alike whatever ranks are neighbours, stages of a pipeline included") {
  using P = PlanAxis;
  const std::vector<std::vector<PlanAxis>> orders{{P::data, P::context, P::tensor, P::pipeline},
                                                  {P::tensor, P::expert, P::pipeline, P::data},
                                                  {P::pipeline, P::tensor, P::data}};
  for (const std::vector<PlanAxis>& order : orders) {
    for (const std::int64_t expert : {2, 4}) {
      Plan plan = dealt(cut(Plan(), 2, expert == 4 ? 1 : 2), expert, 2);
      plan.rank_order = order;
      require_proven(training(mixture(8), plan, 2));
      plan.pipeline = 2;
      require_proven(training(mixture(8), plan, 2));
    }
  }
}

TEST_CASE("whatever is recomputed, experts train the same model") {
  for (const Recompute recompute : {Recompute::selective, Recompute::full}) {
    Plan plan = dealt(plan_of(M::ring, 2, 1), 2, 2);
    plan.recompute = recompute;
    require_proven(training(mixture(8), plan, 2));
  }
}

TEST_CASE("dense layers before layers with experts, and in turn with them") {
  for (const std::int64_t dense : {1, 2}) {
    for (const int zero : {0, 1, 2}) {
      Model model = mixture(8);
      model.layers = 4;
      model.experts.dense_layers = dense;
      Plan plan = dealt(Plan(), 2, 2);
      plan.zero = zero;
      require_proven(training(model, plan, 2));
      model.experts.dense_layers = 0;
      model.experts.period = 2;
      require_proven(training(model, plan));
    }
  }
}

TEST_CASE("layers of two kinds are gathered under ZeRO 3, near and far ahead, or kept gathered") {
  for (const std::int64_t expert : {1, 2, 4}) {
    for (const std::int64_t prefetch : {0, 1, 2}) {
      for (const bool reshards : {true, false}) {
        Model model = mixture(8);
        model.layers = 5;
        model.experts.dense_layers = 2;
        Plan plan = dealt(Plan(), expert, 4);
        plan.zero = 3;
        plan.prefetch = prefetch;
        plan.reshard_after_forward = reshards;
        require_proven(training(model, plan, 2));
        model.experts.dense_layers = 0;
        model.experts.period = 2;
        plan.recompute = Recompute::full;
        plan.recompute_layers = 3;
        require_proven(training(model, plan), ExecutionOrder::any_legal, 5);
      }
    }
  }
}

TEST_CASE("experts whose products are kept, all or every second, train the same model") {
  for (const RecomputeDetail detail :
       {RecomputeDetail::keep_linear_outputs, RecomputeDetail::op_sac}) {
    for (const std::int64_t shared : {0, 8}) {
      Model model = mixture(8);
      model.experts.shared_ffn = shared;
      model.layers = 3;
      model.experts.dense_layers = 1;
      for (Plan plan : {dealt(Plan(), 1, 2), dealt(Plan(), 2, 2), dealt(Plan(), 4, 4),
                        dealt(plan_of(M::ring, 2, 1), 2, 2), cut(dealt(Plan(), 2, 2), 2, 2)}) {
        plan.recompute = Recompute::full;
        plan.recompute_detail = detail;
        for (const std::int64_t some : {0, 2}) {
          plan.recompute_layers = some;
          require_proven(training(model, plan, 2));
          require_proven(training(model, plan), ExecutionOrder::any_legal, 3);
        }
      }
    }
  }
}

TEST_CASE("rows that no token takes change nothing") {
  Scenario scenario = training(mixture(), dealt(Plan(), 2, 2));
  scenario.workload.expert_capacity = 1.5;
  require_proven(scenario);
  scenario.workload.expert_capacity = 0.0;
  scenario.workload.expert_imbalance = 2.0;
  require_proven(scenario);
}

TEST_CASE("more tokens than an expert has room for are refused, not lost") {
  Scenario tight = training(mixture(), dealt(Plan(), 2, 2));
  tight.workload.expert_capacity = 0.5;
  const Verdict dropped = prove(tight);
  CHECK(dropped.refused);
  CHECK(dropped.why.find("more tokens than its buffer") != std::string::npos);
}

TEST_CASE("forward passes of experts give the layers' output") {
  Scenario scenario = training(mixture(8), dealt(plan_of(M::ring, 2, 1), 2, 2));
  scenario.workload.phase = Phase::forward;
  scenario.model.vocab = 0;
  require_proven(scenario);
}

TEST_CASE("dependences by tensor are enough for experts, too") {
  for (const int zero : {0, 1, 2, 3}) {
    Plan plan = cut(dealt(plan_of(M::ring, 2, 1), 2, 2), 2, 2);
    plan.zero = zero;
    require_proven(training(mixture(8), plan, 2), ExecutionOrder::any_legal,
                   static_cast<std::uint64_t>(zero));
  }
}
