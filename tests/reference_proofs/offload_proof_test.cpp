// A training step whose states, inputs of layers or parameters live in host memory computes the
// gradients and the Adam step of the unsharded model; one that reads too early is found out.
#include <catch2/catch.hpp>

#include <algorithm>

#include "sim/schedule/lower.h"
#include "tests/reference_proofs/proven.h"
#include "tests/sim/schedule/small_scenarios.h"

using namespace longhaul;
using namespace longhaul::test;

namespace {

using M = ContextMethod;

Model tiny(std::int64_t layers = 3) {
  Model model = small_llama(8, 4);
  model.layers = layers;
  model.hidden = 16;
  model.ffn = model.vocab = 24;
  return model;
}

Plan offloading(Plan plan, int zero, std::vector<Offload> what) {
  plan.zero = zero;
  plan.recompute = Recompute::full;
  plan.offload = std::move(what);
  return plan;
}

Plan with_data(Plan plan, std::int64_t data) {
  plan.data = data;
  return plan;
}

// A plan's step under its stack: in listed order, and in some order that its dependences allow.
void require_both_orders(const Scenario& scenario) {
  require_proven(scenario);
  require_proven(scenario, ExecutionOrder::any_legal, 29);
}

// A stack whose gradients leave with the optimizer's step.
std::shared_ptr<const SoftwareProfile> late() {
  auto stack = std::make_shared<SoftwareProfile>(*find_software("ideal"));
  stack->late_gradient_offload = true;
  return stack;
}

// A stack that computes nothing while it copies.
std::shared_ptr<const SoftwareProfile> synchronous() {
  auto stack = std::make_shared<SoftwareProfile>(*find_software("ideal"));
  stack->synchronous_offload = true;
  return stack;
}

// DeepSpeed's way: gradients leave twice while nothing is computed, and the host takes its step pass
// after pass.
std::shared_ptr<const SoftwareProfile> serial() {
  auto stack = std::make_shared<SoftwareProfile>(*find_software("ideal"));
  stack->blocking_gradient_offload = true;
  stack->serial_host_optimizer = true;
  stack->pageable_offload = true;
  stack->host_threads = 1;
  return stack;
}

std::size_t place_of(const Program& program, Op op, const std::string& label) {
  for (std::size_t place = 0; place < program.code.size(); ++place) {
    if (program.code[place].op == op && program.code[place].label == label) {
      return place;
    }
  }
  FAIL("no instruction " << label);
  return 0;
}

}  // namespace

TEST_CASE("with the optimizer on the host every ZeRO stage takes the same step") {
  for (const int zero : {0, 1, 2, 3}) {
    for (const std::int64_t micro_batches : {1, 3}) {
      for (const std::int64_t data : {1, 2}) {
        for (const Plan& plan : {Plan(), plan_of(M::ring, 2, 1), plan_of(M::ulysses, 1, 2)}) {
          const Plan mine =
              offloading(with_data(plan, data), zero, {Offload::optimizer});
          require_both_orders(short_training(tiny(), mine, 16, micro_batches));
        }
      }
    }
  }
}

TEST_CASE("gradients may stay until the step, whatever the stage") {
  for (const int zero : {0, 1, 2, 3}) {
    for (const std::int64_t data : {1, 2}) {
      const Plan plan = offloading(with_data(Plan(), data), zero, {Offload::optimizer});
      Scenario scenario = short_training(tiny(), plan, 16, 2);
      scenario.stack_override = late();
      require_both_orders(scenario);
    }
  }
}

TEST_CASE("a host that works pass after pass takes the same step") {
  const std::vector<Offload> states{Offload::optimizer};
  const std::vector<Offload> both{Offload::optimizer, Offload::parameters};
  for (const int zero : {0, 1, 2, 3}) {
    for (const std::int64_t micro_batches : {1, 3}) {
      for (const std::int64_t data : {1, 2}) {
        for (const bool parameters : {false, true}) {
          if (parameters && zero != 3) {
            continue;
          }
          const Plan plan = offloading(with_data(plan_of(M::ulysses, 1, 2), data), zero,
                                       parameters ? both : states);
          Scenario scenario = short_training(tiny(), plan, 16, micro_batches);
          scenario.stack_override = serial();
          require_both_orders(scenario);
        }
      }
    }
  }
}

TEST_CASE("a host that works pass after pass keeps states of any type, and pipelines") {
  for (const States states : {States::mixed, States::compute, States::fp32}) {
    for (const int zero : {1, 3}) {
      const Plan plan = offloading(with_data(Plan(), 2), zero, {Offload::optimizer});
      Scenario scenario = short_training(tiny(2), plan, 16, 2);
      scenario.precision.states = states;
      scenario.precision.gradients = DataType::bf16;
      scenario.stack_override = serial();
      require_proven(scenario, ExecutionOrder::any_legal, 37);
    }
  }
  Plan stages = offloading(with_data(Plan(), 2), 1, {Offload::optimizer});
  stages.pipeline = 2;
  Scenario scenario = short_training(tiny(4), stages, 16, 4);
  scenario.gpus *= 2;
  scenario.stack_override = serial();
  require_both_orders(scenario);
}

TEST_CASE("sums that are not sent in fp32 as well are caught") {
  Scenario scenario =
      short_training(tiny(), offloading(with_data(Plan(), 2), 3, {Offload::optimizer}), 16, 2);
  scenario.stack_override = serial();
  Program program = lower(scenario);
  REQUIRE(is_proven(prove(scenario, program)));
  program.code.erase(program.code.begin() +
                     static_cast<std::ptrdiff_t>(
                         place_of(program, Op::to_host, "send gradients in fp32")));
  CHECK(prove(scenario, program).refused);
}

TEST_CASE("weights come back in any type, gathered early or late") {
  for (const States states : {States::mixed, States::compute, States::fp32}) {
    for (const int zero : {0, 1, 2, 3}) {
      for (const char* software : {"ideal", "fsdp", "megatron", "deepspeed"}) {
        const Plan plan =
            offloading(with_data(plan_of(M::ring, 2, 1), 2), zero, {Offload::optimizer});
        Scenario scenario = short_training(tiny(2), plan, 16, 2);
        scenario.precision.states = states;
        scenario.software = software;
        require_proven(scenario, ExecutionOrder::any_legal, 31);
      }
    }
  }
}

TEST_CASE("inputs of layers that leave come back in time, ahead or not") {
  for (const std::int64_t layers : {1, 2, 4}) {
    for (const int zero : {0, 3}) {
      for (const bool ahead : {true, false}) {
        const Plan plan =
            offloading(with_data(plan_of(M::usp, 2, 2), 2), zero, {Offload::activations});
        Scenario scenario = short_training(tiny(layers), plan, 16, 2);
        if (!ahead) {
          scenario.stack_override = synchronous();
        }
        require_both_orders(scenario);
      }
    }
  }
}

TEST_CASE("parameters on the host are fetched for each use and updated where they are") {
  const std::vector<Offload> both{Offload::optimizer, Offload::parameters};
  const std::vector<Offload> all{Offload::optimizer, Offload::activations, Offload::parameters};
  for (const std::vector<Offload>& what : {both, all}) {
    for (const States states : {States::mixed, States::compute, States::fp32}) {
      for (const std::int64_t data : {1, 2}) {
        for (const std::int64_t ahead : {0, 1, 2}) {
          Plan plan = offloading(with_data(Plan(), data), 3, what);
          plan.prefetch = ahead;
          Scenario scenario = short_training(tiny(4), plan, 16, 2);
          scenario.precision.states = states;
          require_both_orders(scenario);
        }
      }
    }
  }
}

TEST_CASE("hybrid sharding and tensor parallelism and tied embeddings and pipelines offload as well") {
  Plan hybrid = offloading(with_data(Plan(), 4), 3, {Offload::optimizer, Offload::activations});
  hybrid.zero_group = 2;
  require_both_orders(short_training(tiny(), hybrid, 16, 2));

  Plan tensor = offloading(with_data(Plan(), 2), 2, {Offload::optimizer, Offload::activations});
  tensor.tensor = 2;
  tensor.sequence_parallel = true;
  Model tied = tiny();
  tied.tied_embeddings = true;
  require_both_orders(short_training(tied, tensor, 16, 2));

  for (const int zero : {0, 1}) {
    Plan stages = offloading(with_data(Plan(), 2), zero, {Offload::optimizer});
    stages.pipeline = 2;
    Scenario scenario = short_training(tiny(4), stages, 16, 4);
    scenario.gpus *= 2;
    require_both_orders(scenario);
  }
}

TEST_CASE("whatever a layer saves waits in host memory and comes back") {
  // Every kind of recompute saves other tensors; a stack of separate operators saves copies, dropout
  // masks, an unfused kernel its scores.
  using D = RecomputeDetail;
  const auto each_recompute = [](const Plan& bare, const Model& model, auto adjust) {
    const std::pair<Recompute, D> ways[] = {{Recompute::none, D::standard},
                                            {Recompute::selective, D::standard},
                                            {Recompute::full, D::keep_attention_output},
                                            {Recompute::full, D::keep_linear_outputs},
                                            {Recompute::full, D::op_sac}};
    for (const auto& [recompute, detail] : ways) {
      for (const std::int64_t some : {0, 1}) {
        Plan plan = bare;
        plan.recompute = recompute;
        plan.recompute_detail = detail;
        plan.recompute_layers = recompute == Recompute::none ? 0 : some;
        Scenario scenario = short_training(model, plan, 16, 2);
        adjust(scenario);
        require_both_orders(scenario);
      }
    }
  };
  const auto as_it_is = [](Scenario&) {};
  each_recompute(offloading(Plan(), 0, {Offload::activations}), tiny(), as_it_is);
  each_recompute(offloading(with_data(plan_of(M::usp, 2, 2), 2), 3, {Offload::activations}), tiny(),
                 as_it_is);
  for (const char* software : {"deepspeed", "nanotron"}) {  // the one copies and does nothing else
    each_recompute(offloading(with_data(Plan(), 2), 1, {Offload::activations}), tiny(),
                   [&](Scenario& scenario) { scenario.software = software; });
  }
  each_recompute(offloading(Plan(), 0, {Offload::activations}), tiny(), [](Scenario& scenario) {
    scenario.model.gated_mlp = false;
    scenario.workload.dropout = true;
  });
  Model both = tiny();
  both.layers = 5;
  both.experts = {4, 2, 8, 8};
  both.experts.dense_layers = 1;
  both.experts.period = 2;
  each_recompute(offloading(Plan(), 0, {Offload::activations}), both, as_it_is);
}

TEST_CASE("stages of a pipeline send and fetch what their passes save") {
  const auto proves = [](Plan plan, const Model& model, std::int64_t micro_batches,
                         const char* software) {
    for (const Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full}) {
      for (const std::int64_t some : {0, 1}) {
        plan.recompute = recompute;
        plan.recompute_layers = recompute == Recompute::none ? 0 : some;
        Scenario scenario = short_training(model, plan, 16, micro_batches);
        scenario.gpus *= plan.pipeline;
        scenario.software = software;
        require_both_orders(scenario);
      }
    }
  };
  for (const char* software : {"ideal", "megatron", "deepspeed"}) {
    Plan plan = offloading(Plan(), 0, {Offload::activations});
    plan.pipeline = 2;
    proves(plan, tiny(4), 1, software);
    proves(plan, tiny(4), 5, software);
    plan.virtual_pipeline = 2;
    plan.stage_layers = {2, 0, 1, 2};
    proves(plan, tiny(5), 4, software);
    plan = offloading(with_data(plan_of(M::ring, 2, 1), 2), 3, {Offload::activations});
    plan.pipeline = 2;
    proves(plan, tiny(4), 3, software);
  }
  Model both = tiny(6);
  both.experts = {4, 2, 8, 8};
  both.experts.dense_layers = 1;
  both.experts.period = 2;
  for (const std::int64_t chunks : {1, 2}) {
    Plan plan = offloading(Plan(), 1, {Offload::activations});
    plan.pipeline = 2;
    plan.virtual_pipeline = chunks;
    plan.stage_layers = chunks == 1 ? std::vector<std::int64_t>{2, 4}
                                    : std::vector<std::int64_t>{1, 2, 3, 0};
    proves(plan, both, 4, "ideal");
  }
}

TEST_CASE("an input that is computed with before it is fetched is caught") {
  const Plan plan = offloading(Plan(), 0, {Offload::activations});
  const Scenario scenario = short_training(tiny(), plan, 16, 1);
  Program program = lower(scenario);
  REQUIRE(is_proven(prove(scenario, program)));
  program.code.erase(program.code.begin() +
                     static_cast<std::ptrdiff_t>(
                         place_of(program, Op::from_host, "fetch layer input")));
  const Verdict verdict = prove(scenario, program);
  CHECK(verdict.refused);
  CHECK(verdict.why.find("never written") != std::string::npos);
}

TEST_CASE("a step taken before its gradient arrives, or whose weights never return, is caught") {
  const Plan plan = offloading(with_data(Plan(), 2), 2, {Offload::optimizer});
  const Scenario scenario = short_training(tiny(), plan, 16, 1);
  const auto without = [&](Op op, const std::string& label) {
    Program program = lower(scenario);
    program.code.erase(program.code.begin() +
                       static_cast<std::ptrdiff_t>(place_of(program, op, label)));
    return prove(scenario, program);
  };
  CHECK(without(Op::to_host, "send gradients").refused);
  const Verdict kept = without(Op::from_host, "bring back weights");
  CHECK((kept.refused || is_wrong(kept)));
}

TEST_CASE("a kernel may not touch host memory, nor the host's processor the GPU's") {
  const Plan plan = offloading(Plan(), 0, {Offload::optimizer, Offload::activations});
  const Program sound = lower(short_training(tiny(), plan, 16, 1));
  Program kernel = sound;
  for (Tensor& tensor : kernel.tensors) {
    tensor.in_host_memory = tensor.in_host_memory || tensor.name == "hidden";
  }
  CHECK_THROWS_WITH(check_program(kernel), Catch::Contains("is in the host's"));
  Program processor = sound;
  for (Tensor& tensor : processor.tensors) {
    tensor.in_host_memory = tensor.in_host_memory && tensor.name != "moment1.w_qkv";
  }
  CHECK_THROWS_WITH(check_program(processor), Catch::Contains("where it is not"));
}

TEST_CASE("states of experts in host memory take the same step") {
  Model mixture = small_llama(8, 8);
  mixture.layers = 2;
  mixture.hidden = 16;
  mixture.ffn = mixture.vocab = 24;
  mixture.experts.count = 4;
  mixture.experts.per_token = 2;
  mixture.experts.ffn = 8;
  for (const int zero : {1, 2}) {
    Plan plan = offloading(with_data(Plan(), 4), zero, {Offload::optimizer, Offload::activations});
    plan.expert = 2;
    require_both_orders(short_training(mixture, plan, 16, 2));
  }
}
