// However tokens reach their experts, ranks compute the gradients and the Adam step of the model on
// one, and no exchange carries more rows than were counted.
#include <catch2/catch.hpp>

#include "sim/schedule/lower.h"
#include "tests/reference_proofs/proven.h"
#include "tests/sim/schedule/small_scenarios.h"

using namespace longhaul;
using namespace longhaul::test;

namespace {

using M = ContextMethod;
constexpr ExpertDispatch by_gather = ExpertDispatch::allgather;
constexpr ExpertDispatch by_node = ExpertDispatch::deepep;

// Two layers of experts; a token passes two.
Model mixture(std::int64_t count = 4, std::int64_t shared_ffn = 0) {
  Model model = small_llama(8, 8);
  model.layers = 2;
  model.hidden = 16;
  model.ffn = 24;
  model.vocab = 24;
  model.experts.count = count;
  model.experts.per_token = 2;
  model.experts.ffn = 8;
  model.experts.shared_ffn = shared_ffn;
  return model;
}

Plan dealt(Plan plan, ExpertDispatch dispatch, std::int64_t expert, std::int64_t data = 1) {
  plan.expert_dispatch = dispatch;
  plan.expert = expert;
  plan.data = data;
  return plan;
}

Plan cut(Plan plan, std::int64_t expert_tensor) {
  plan.tensor = 2;
  plan.sequence_parallel = true;
  plan.expert_tensor = expert_tensor;
  return plan;
}

Scenario training(const Model& model, const Plan& plan, std::int64_t node_gpus = 8) {
  Scenario scenario = short_training(model, plan, 16, 2);
  scenario.node_gpus = node_gpus;
  // Eight experts: room for ranks whose few tokens do not pass all of them equally often.
  scenario.workload.expert_imbalance = model.experts.count > 4 ? 4.0 : 1.0;
  return scenario;
}

}  // namespace

TEST_CASE("tokens gathered by all ranks of experts, or sent once to each, train the same model") {
  for (const ExpertDispatch dispatch : {by_gather, by_node}) {
    for (const std::int64_t expert : {2, 4}) {
      for (const std::int64_t node_gpus : {1, 2, 8}) {
        INFO("nodes of " << node_gpus);
        for (const int zero : {0, 3}) {
          Plan plan = dealt(Plan(), dispatch, expert, 4);
          plan.zero = zero;
          require_proven(training(mixture(4, 8), plan, node_gpus));
        }
        for (const Plan& context : {plan_of(M::ring, 4, 1), plan_of(M::usp, 2, 2),
                                    plan_of(M::ring, 4, 1, SequenceOrder::striped)}) {
          require_proven(training(mixture(8), dealt(context, dispatch, expert), node_gpus));
        }
      }
    }
  }
}

TEST_CASE("experts behind tensor ranks are reached alike, cut or whole") {
  for (const std::int64_t expert : {1, 2, 4}) {
    require_proven(training(mixture(4, 8), cut(dealt(Plan(), by_gather, expert, 4), 2)));
    require_proven(training(mixture(4, 8), cut(dealt(Plan(), by_gather, expert, 2), 1)));
  }
  for (const std::int64_t node_gpus : {1, 2, 4}) {
    require_proven(training(mixture(4, 8), cut(dealt(Plan(), by_node, 4, 2), 1), node_gpus));
    require_proven(training(mixture(8), cut(dealt(plan_of(M::ring, 2, 1), by_node, 8, 2), 1),
                            node_gpus));
  }
}

TEST_CASE("experts in groups of which a token may use some are the model's, however they are dealt") {
  for (const ExpertDispatch dispatch : {ExpertDispatch::alltoall, by_gather, by_node}) {
    for (const auto& [groups, limit] :
         std::vector<std::pair<std::int64_t, std::int64_t>>{{2, 1}, {4, 2}, {4, 1}, {8, 4}}) {
      INFO(limit << " of " << groups << " groups, dispatch " << static_cast<int>(dispatch));
      Model model = mixture(8, 8);
      model.experts.groups = groups;
      model.experts.group_limit = limit;
      for (const std::int64_t expert : {2, 4}) {
        require_proven(training(model, dealt(Plan(), dispatch, expert, 4), 2));
      }
    }
  }
}

TEST_CASE("shared experts beside the exchanges, rows in fp8 and recompute change no number") {
  for (const ExpertDispatch dispatch : {ExpertDispatch::alltoall, by_node}) {
    for (const Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full}) {
      for (const RecomputeDetail detail :
           {RecomputeDetail::standard, RecomputeDetail::keep_linear_outputs}) {
        Plan plan = dealt(plan_of(M::ring, 2, 1), dispatch, 4, 2);
        plan.recompute = recompute;
        plan.recompute_detail =
            recompute == Recompute::full ? detail : RecomputeDetail::standard;
        plan.shared_expert_overlap = true;
        plan.fp8_expert_dispatch = dispatch == by_node;
        require_proven(training(mixture(4, 8), plan, 2));
        require_proven(training(mixture(4, 8), plan, 2), ExecutionOrder::any_legal, 7);
      }
    }
    Plan tensor = cut(dealt(Plan(), dispatch, 4, 2), 1);
    tensor.shared_expert_overlap = true;
    require_proven(training(mixture(4, 8), tensor, 2), ExecutionOrder::any_legal, 9);
  }
}

TEST_CASE("stages of a pipeline and their orders of ranks send tokens alike") {
  using P = PlanAxis;
  for (const ExpertDispatch dispatch : {by_gather, by_node}) {
    for (const std::vector<PlanAxis>& order :
         {std::vector<PlanAxis>{}, {P::tensor, P::data, P::pipeline},
          {P::pipeline, P::tensor, P::data}}) {
      Plan plan = dealt(Plan(), dispatch, 4, 4);
      plan.pipeline = 2;
      plan.rank_order = order;
      require_proven(training(mixture(4, 8), plan, 1));
    }
  }
}

TEST_CASE("more tokens for a node or a rank than were counted are refused, not lost") {
  const Scenario scenario = training(mixture(), dealt(Plan(), by_node, 4, 4), 2);
  Program program = lower(scenario);
  for (Instruction& instruction : program.code) {
    instruction.route.node_rows /= 2;
  }
  const Verdict verdict = prove(scenario, program);
  CHECK(verdict.refused);
  CHECK(verdict.why.find("a node more tokens than were counted") != std::string::npos);
}
