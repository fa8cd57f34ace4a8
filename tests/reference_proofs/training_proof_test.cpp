// Every plan's training step computes the gradients and the Adam step of the unsharded model.
#include <catch2/catch.hpp>

#include "sim/schedule/lower.h"
#include "tests/reference_proofs/proven.h"
#include "tests/sim/schedule/small_scenarios.h"

using namespace longhaul;
using namespace longhaul::test;

namespace {

using M = ContextMethod;

// Two layers, small enough for the oracle's tape. `heads` and widths divide by 2 and 4 (8 heads)
// or by 3 (6 heads), so that every shard of a weight is whole rows.
Model tiny(std::int64_t heads, std::int64_t kv_heads) {
  Model model = small_llama(heads, kv_heads);
  model.layers = 2;
  model.hidden = heads == 6 ? 12 : 16;
  model.ffn = 24;
  model.vocab = 24;
  return model;
}

Scenario training(const Model& model, const Plan& plan, std::int64_t length = 16,
                  std::int64_t micro_batches = 1) {
  return short_training(model, plan, length, micro_batches);
}

Plan with(Plan plan, std::int64_t tensor, bool sequence_parallel, std::int64_t data = 1) {
  plan.tensor = tensor;
  plan.sequence_parallel = sequence_parallel;
  plan.data = data;
  return plan;
}

}  // namespace

TEST_CASE("the unsharded program is the unsharded model") {
  require_proven(training(tiny(8, 8), Plan()));
  require_proven(training(tiny(8, 4), Plan(), 15));
  require_proven(training(tiny(8, 4), Plan(), 16, 3));
}

TEST_CASE("tensor parallelism with and without sequence parallelism trains the same model") {
  for (const bool sequence_parallel : {false, true}) {
    for (const std::int64_t tensor : {2, 4}) {
      require_proven(training(tiny(8, 4), with(Plan(), tensor, sequence_parallel)));
    }
    require_proven(training(tiny(6, 3), with(Plan(), 3, sequence_parallel), 15));
    require_proven(training(tiny(8, 8), with(Plan(), 8, sequence_parallel)));
  }
}

TEST_CASE("a Megatron block alone, given its input and output gradient, equals the plain block") {
  for (const bool sequence_parallel : {false, true}) {
    for (const std::int64_t tensor : {1, 2, 4}) {
      Model block = tiny(8, 4);
      block.layers = 1;
      block.vocab = 0;
      require_proven(training(block, with(Plan(), tensor, sequence_parallel)));
      block.layers = 3;
      require_proven(
          training(block, with(plan_of(M::ring, 2, 1), tensor, sequence_parallel), 16, 2));
    }
  }
}

TEST_CASE("every context method trains the same model, whatever is recomputed") {
  for (const SequenceOrder order :
       {SequenceOrder::contiguous, SequenceOrder::zigzag, SequenceOrder::striped}) {
    for (const Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full}) {
      std::vector<Plan> plans{plan_of(M::ring, 2, 1, order), plan_of(M::ring, 4, 1, order),
                              plan_of(M::usp, 2, 2, order), plan_of(M::ulysses, 1, 4)};
      plans.push_back(plan_of(M::all_gather, 4, 1, order));
      for (Plan& plan : plans) {
        plan.recompute = recompute;
        require_proven(training(tiny(8, 4), plan));
      }
    }
  }
}

TEST_CASE("parts of a layer, or some layers, run again: the same model is trained") {
  for (const RecomputeDetail detail :
       {RecomputeDetail::standard, RecomputeDetail::keep_attention_output,
        RecomputeDetail::keep_linear_outputs, RecomputeDetail::op_sac}) {
    for (const std::int64_t layers : {0, 1}) {
      std::vector<Plan> plans{with(Plan(), 2, true), plan_of(M::ring, 4, 1), plan_of(M::usp, 2, 2),
                              plan_of(M::all_gather, 2, 1)};
      plans.back().zero = 3;
      plans.push_back(with(plan_of(M::ulysses, 1, 2), 1, false, 2));
      for (Plan& plan : plans) {
        plan.recompute = Recompute::full;
        plan.recompute_detail = detail;
        plan.recompute_layers = layers;
        require_proven(training(tiny(8, 4), plan, 16, 2));
        Model plain = tiny(8, 8);
        plain.gated_mlp = false;
        require_proven(training(plain, plan), ExecutionOrder::any_legal, 13);
      }
    }
  }
  Plan selective;
  selective.recompute = Recompute::selective;
  selective.recompute_layers = 1;
  require_proven(training(tiny(8, 4), selective));
}

TEST_CASE("attention of the first half of the sequence alone runs again: the same model is trained") {
  std::vector<Plan> plans{Plan(), with(Plan(), 2, true), with(plan_of(M::ulysses, 1, 2), 1, false, 2)};
  for (const SequenceOrder order : {SequenceOrder::zigzag, SequenceOrder::striped}) {
    plans.push_back(plan_of(M::ring, 4, 1, order));
    plans.push_back(plan_of(M::usp, 2, 2, order));
    plans.push_back(plan_of(M::all_gather, 2, 1, order));
    plans.push_back(plan_of(M::double_ring, 4, 1, order));
    plans.back().context.inner_ring = 2;
    for (const RingVariant variant : {RingVariant::q_side_backward, RingVariant::pass_q}) {
      plans.push_back(plan_of(M::ring, 2, 1, order));
      plans.back().context.variant = variant;
      plans.back().zero = 3;
    }
  }
  for (Plan& plan : plans) {
    plan.recompute = Recompute::full;
    plan.recompute_detail = RecomputeDetail::keep_attention_output_part;
    for (const MaskSpec mask : {MaskSpec{}, MaskSpec{MaskKind::window, 5}}) {
      Scenario scenario = training(tiny(8, 4), plan, 16, 2);
      scenario.workload.mask = mask;
      require_proven(scenario);
    }
    require_proven(training(tiny(8, 8), plan), ExecutionOrder::any_legal, 17);
  }
}

TEST_CASE("a ring that stores its scores trains the same model, whatever is recomputed") {
  for (const Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full}) {
    for (Plan plan : {plan_of(M::ring, 2, 1), with(plan_of(M::ring, 2, 1), 2, true, 2),
                      plan_of(M::usp, 2, 2)}) {
      plan.context.variant = RingVariant::materialised;
      plan.recompute = recompute;
      require_proven(training(tiny(8, 4), plan, 16, 2));
      require_proven(training(tiny(8, 8), plan), ExecutionOrder::any_legal, 19);
    }
  }
}

TEST_CASE("a stack that shows every rank all logits, with hosts that wait, trains the same model") {
  SoftwareProfile stack = *find_software("ideal");
  stack.gathers_logits = stack.joins_weights = true;
  stack.synchronous_hops = stack.keeps_silu = true;
  stack.norm_copies = 3;
  for (const Plan& plan : {plan_of(M::ring, 2, 1), plan_of(M::usp, 2, 2),
                           with(plan_of(M::ring, 2, 1), 2, true, 2), with(Plan(), 2, true),
                           with(Plan(), 4, false, 2)}) {
    Scenario scenario = training(tiny(8, 4), plan, 16, 2);
    scenario.stack_override = std::make_shared<SoftwareProfile>(stack);
    require_proven(scenario, ExecutionOrder::any_legal, 23);
  }
}

TEST_CASE("a loss in pieces is the same loss, with the same gradients") {
  for (const std::int64_t chunks : {2, 4}) {
    for (const int zero : {0, 3}) {
      for (Plan plan : {with(Plan(), 2, true), with(plan_of(M::ring, 2, 1), 2, false, 2)}) {
        plan.loss_chunks = chunks;
        plan.zero = zero;
        Scenario scenario = training(tiny(8, 4), plan, 16, 2);
        require_proven(scenario, ExecutionOrder::any_legal, 17);
        scenario.workload.micro_batch = 2;
        scenario.workload.global_batch = 4 * plan.data;
        scenario.software = "megatron";
        require_proven(scenario);
      }
    }
  }
}

TEST_CASE("losses in pieces, states in one type train the same model") {
  for (const char* software : {"ideal", "fsdp", "megatron", "deepspeed_liger"}) {
    for (const std::int64_t micro_batches : {1, 2}) {
      for (const int zero : {0, 1, 2, 3}) {
        for (const States states : {States::mixed, States::compute, States::fp32}) {
          Plan plan = with(plan_of(M::ring, 2, 1), zero == 3 ? 2 : 1, zero == 3, 2);
          plan.zero = zero;
          Scenario scenario = training(tiny(8, 4), plan, 16, micro_batches);
          scenario.software = software;
          scenario.precision.states = states;
          scenario.plan.loss_chunks = 2 * micro_batches;
          require_proven(scenario);
        }
      }
    }
  }
}

TEST_CASE("one rank that holds no gradients between steps trains the same model") {
  for (const bool tied : {false, true}) {
    for (const std::int64_t chunks : {1, 4}) {
      Model model = tiny(8, 4);
      model.tied_embeddings = tied;
      Scenario scenario = training(model, with(Plan(), 2, true), 16, 1);
      scenario.software = "fsdp";
      scenario.precision.states = States::compute;
      scenario.plan.loss_chunks = chunks;
      require_proven(scenario);
    }
  }
}

TEST_CASE("an MLP in pieces of its tokens is the same MLP, with the same gradients") {
  for (const std::int64_t tiles : {2, 4}) {
    for (const int zero : {1, 3}) {
      for (const Recompute recompute : {Recompute::none, Recompute::full}) {
        for (const bool sequence_parallel : {false, true}) {
          Plan plan = with(plan_of(M::ring, 2, 1), sequence_parallel ? 2 : 1, sequence_parallel, 2);
          plan.zero = zero;
          plan.recompute = recompute;
          plan.mlp_tiles = tiles;
          Scenario scenario = training(tiny(8, 4), plan, 16, 2);
          scenario.software = sequence_parallel ? "nanotron" : "deepspeed";
          require_proven(scenario);
        }
      }
    }
  }
  Model model = tiny(8, 4);
  model.gated_mlp = false;
  Scenario ungated = training(model, Plan(), 16, 1);
  ungated.plan.mlp_tiles = 2;
  require_proven(ungated);
}

TEST_CASE("gradients written over the up projection's output are the same gradients") {
  for (const std::int64_t tiles : {1, 2}) {
    for (const Recompute recompute : {Recompute::none, Recompute::full}) {
      Plan plan = with(plan_of(M::ring, 2, 1), 2, true, 2);
      plan.recompute = recompute;
      plan.mlp_tiles = tiles;
      Scenario scenario = training(tiny(8, 4), plan, 16, 2);
      scenario.software = "deepspeed_liger";
      require_proven(scenario);
    }
  }
}

TEST_CASE("gradients of a micro-batch that are held apart and added up train the same model") {
  for (const bool tied : {false, true}) {
    for (const int zero : {0, 1}) {
      for (const std::int64_t micro_batches : {1, 3}) {
        Model model = tiny(8, 4);
        model.tied_embeddings = tied;
        Plan plan = with(plan_of(M::ring, 2, 1), 2, true, 2);
        plan.zero = zero;
        Scenario scenario = training(model, plan, 16, micro_batches);
        scenario.software = "nanotron";
        require_proven(scenario);
        plan.recompute = Recompute::full;
        scenario.plan.recompute = Recompute::full;
        require_proven(scenario);
      }
    }
  }
}

TEST_CASE("three ranks train the same model, eight too") {
  for (Plan plan :
       {plan_of(M::ring, 3, 1), plan_of(M::ulysses, 1, 3), plan_of(M::all_gather, 3, 1)}) {
    require_proven(training(tiny(6, 3), plan, 18));
  }
  for (Plan plan : {plan_of(M::ring, 8, 1), plan_of(M::ulysses, 1, 8), plan_of(M::usp, 4, 2),
                    plan_of(M::usp, 2, 4)}) {
    require_proven(training(tiny(8, 2), plan));
  }
}

TEST_CASE("every ZeRO stage sums gradients over all replicas and micro-batches, once") {
  for (const int zero : {0, 1, 2, 3}) {
    for (const bool over_context : {false, true}) {
      for (const std::int64_t micro_batches : {1, 3}) {
        Plan plan = with(plan_of(M::ring, 2, 1), 1, false, 2);
        plan.zero = zero;
        plan.shard_over_context = over_context;
        require_proven(training(tiny(8, 4), plan, 16, micro_batches));
        plan.tensor = 2;
        plan.sequence_parallel = true;
        require_proven(training(tiny(8, 4), plan, 16, micro_batches));
      }
    }
  }
}

TEST_CASE("hybrid sharding sums within a group, then over the groups, and trains the same model") {
  for (const int zero : {1, 2, 3}) {
    for (const std::int64_t micro_batches : {1, 3}) {
      Plan replicas = with(Plan(), 1, false, 4);
      replicas.zero = zero;
      replicas.zero_group = 2;
      require_proven(training(tiny(8, 4), replicas, 16, micro_batches));
      Plan ring = with(plan_of(M::ring, 2, 1), 1, false, 4);
      ring.zero = zero;
      ring.zero_group = 4;  // both ranks of the ring of two replicas
      require_proven(training(tiny(8, 4), ring, 16, micro_batches));
      ring.shard_over_context = false;
      ring.zero_group = 2;  // two replicas, for each rank of the ring apart
      ring.tensor = 2;
      ring.sequence_parallel = true;
      require_proven(training(tiny(8, 4), ring, 16, micro_batches));
    }
  }
}

TEST_CASE("weights whose states are dealt whole to ranks, which broadcast them, train the same model") {
  for (const std::int64_t micro_batches : {1, 3}) {
    Plan replicas = with(Plan(), 1, false, 3);  // no weight has to divide by 3
    replicas.zero = 1;
    replicas.zero_owners = true;
    require_proven(training(tiny(8, 4), replicas, 16, micro_batches));
    Plan many = with(Plan(), 1, false, 20);  // more ranks than weights: some own nothing
    many.zero = 1;
    many.zero_owners = true;
    require_proven(training(tiny(8, 4), many, 16, micro_batches));
    for (const std::int64_t group : {0, 4}) {  // all ranks, or two replicas of the ring
      Plan ring = with(plan_of(M::ring, 2, 1), 2, true, 4);
      ring.zero = 1;
      ring.zero_owners = true;
      ring.zero_group = group;
      require_proven(training(tiny(8, 4), ring, 16, micro_batches));
      require_proven(training(tiny(8, 4), ring, 16, micro_batches), ExecutionOrder::any_legal, 5);
      ring.shard_over_context = false;
      ring.zero_group = group / 2;
      require_proven(training(tiny(8, 4), ring, 16, micro_batches));
    }
  }
}

TEST_CASE("gradients of the compute type that autograd adds up train the same model") {
  for (const char* stack : {"internevo", "nanotron"}) {
    for (const std::int64_t micro_batches : {1, 2, 3}) {
      Plan plan = with(plan_of(M::ring, 2, 1), 2, true, 2);
      plan.zero = 1;
      Scenario scenario = training(tiny(8, 4), plan, 16, micro_batches);
      scenario.software = stack;
      scenario.precision.gradients = scenario.precision.compute;
      require_proven(scenario);
      scenario.plan.pipeline = 2;
      require_proven(scenario, ExecutionOrder::any_legal, 3);
    }
  }
}

TEST_CASE("whatever is overlapped, kept or gathered ahead, the same model is trained") {
  for (const bool overlap : {false, true}) {
    for (const int zero : {0, 1, 2}) {
      Plan plan = with(plan_of(M::ring, 2, 1), 1, false, 2);
      plan.zero = zero;
      plan.overlap_gradient_reduction = plan.overlap_parameter_gather = overlap;
      require_proven(training(tiny(8, 4), plan, 16, 2));
      plan.zero_group = zero == 0 ? 0 : 2;
      plan.tensor = 2;
      plan.sequence_parallel = true;
      require_proven(training(tiny(8, 4), plan, 16, 2), ExecutionOrder::any_legal, 7);
    }
  }
  Model five = tiny(8, 4);
  five.layers = 5;
  for (const bool reshards : {false, true}) {
    for (const std::int64_t prefetch : {0, 1, 2, 3, 9}) {
      Plan plan = with(Plan(), 1, false, 4);
      plan.zero = 3;
      plan.reshard_after_forward = reshards;
      plan.prefetch = prefetch;
      plan.recompute = reshards ? Recompute::full : Recompute::none;
      require_proven(training(five, plan, 16, 2));
      require_proven(training(five, plan, 16, 2), ExecutionOrder::any_legal, 11);
    }
  }
}

TEST_CASE("weights taken out of buffers and gradients put in order or cast train the same model") {
  for (const char* stack : {"fsdp", "llm_foundry", "deepspeed"}) {
    for (const int zero : {2, 3}) {
      for (const std::int64_t group : {0, 2}) {
        Plan plan = with(plan_of(M::ring, 2, 1), 1, false, 2);
        plan.zero = zero;
        plan.zero_group = group;
        plan.recompute = group == 0 ? Recompute::full : Recompute::none;
        Scenario scenario = training(tiny(8, 4), plan, 16, 2);
        scenario.software = stack;
        require_proven(scenario);
        require_proven(scenario, ExecutionOrder::any_legal, 13);
      }
    }
  }
}

TEST_CASE("products in pieces beside gathers and sums of tokens train the same model") {
  for (const std::int64_t tensor : {2, 4}) {
    for (const Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full}) {
      for (const DataType compute : {DataType::bf16, DataType::fp8}) {
        const std::int64_t data = tensor == 2 ? 2 : 1;
        Plan plan = with(plan_of(M::ring, 2, 1), tensor, true, data);
        plan.zero = tensor == 2 ? 3 : 1;
        plan.recompute = recompute;
        plan.overlap_tensor_collectives = true;
        Scenario scenario = training(tiny(8, 4), plan, 32, 2);
        scenario.workload.micro_batch = 2;
        scenario.workload.global_batch = 2 * 2 * data;
        scenario.precision.compute = compute;
        scenario.software = "nemo";
        require_proven(scenario);
        require_proven(scenario, ExecutionOrder::any_legal, 17);
      }
    }
  }
}

TEST_CASE("a stack that saves in fp8 what its products have read trains the same model") {
  for (const std::int64_t tensor : {1, 2}) {
    for (const Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full}) {
      Plan plan = with(plan_of(M::ulysses, 1, 2), tensor, tensor > 1, 2);
      plan.recompute = recompute;
      Scenario scenario = training(tiny(8, 4), plan, 32, 2);
      scenario.workload.global_batch = 2 * 2 * plan.data;
      scenario.precision.compute = DataType::fp8;
      scenario.software = "megatron";
      REQUIRE(scenario.stack().keeps_fp8_inputs);
      require_proven(scenario);
      require_proven(scenario, ExecutionOrder::any_legal, 23);
    }
  }
}

TEST_CASE("all kinds of parallelism together train the same model") {
  for (const int zero : {0, 1, 2, 3}) {
    for (const InnerPlacement inner : {InnerPlacement::ulysses, InnerPlacement::ring}) {
      Plan plan = with(plan_of(M::usp, 2, 2), 2, true);
      plan.context.inner = inner;
      plan.zero = zero;
      plan.recompute = inner == InnerPlacement::ring ? Recompute::full : Recompute::selective;
      Scenario scenario = training(tiny(8, 4), plan, 16, 2);
      scenario.software = "megatron";
      require_proven(scenario);
    }
  }
}

TEST_CASE("replicas alone are data parallelism, under every ZeRO stage") {
  for (const int zero : {0, 1, 2, 3}) {
    Plan plan = with(Plan(), 1, false, 4);
    plan.zero = zero;
    require_proven(training(tiny(8, 4), plan, 16, 2));
  }
}

TEST_CASE("tied embeddings, two MLP matrices, no positions: the other kind of model") {
  Model model = tiny(8, 8);
  model.gated_mlp = false;
  model.tied_embeddings = true;
  model.positions = PositionEmbedding::none;
  for (const int zero : {0, 1, 2, 3}) {
    for (const std::int64_t tensor : {1, 2}) {
      Plan plan = with(plan_of(M::usp, 2, 2), tensor, tensor == 2);
      plan.zero = zero;
      require_proven(training(model, plan, 16, 2));
    }
  }
}

TEST_CASE("a sliding window and full attention hold through a whole training step") {
  for (const MaskSpec mask : {MaskSpec{MaskKind::full, 0}, MaskSpec{MaskKind::window, 5}}) {
    Scenario scenario = training(tiny(8, 4), plan_of(M::ring, 4, 1));
    scenario.workload.mask = mask;
    require_proven(scenario);
  }
}

TEST_CASE(
    "forward passes give the layers' output, prefills every layer's rotated keys and values") {
  for (const Plan& plan :
       {Plan(), plan_of(M::ring, 4, 1), plan_of(M::ulysses, 1, 4), plan_of(M::usp, 2, 2),
        plan_of(M::all_gather, 2, 1), with(plan_of(M::ring, 2, 1), 2, true)}) {
    for (const int zero : {1, 3}) {
      Plan stored = plan;
      stored.zero = zero;
      Scenario prefill = training(tiny(8, 4), stored);
      prefill.workload.phase = Phase::prefill;
      require_proven(prefill);
      Scenario forward = prefill;
      forward.workload.phase = Phase::forward;
      forward.model.vocab = 0;
      require_proven(forward);
    }
  }
}

TEST_CASE("a prefill behind cached tokens is the end of a prefill of all of them") {
  // What the earlier tokens left is given to the ranks as their ring deals it; keys and values of the
  // second layer on depend on what the queries of the first made of the cache.
  const auto pass_q = [](Plan plan) {
    plan.context.variant = RingVariant::pass_q;
    return plan;
  };
  Plan striped = plan_of(M::ring, 4, 1);
  striped.context.order = SequenceOrder::striped;
  Plan in_order = pass_q(plan_of(M::ring, 2, 1));
  in_order.context.order = SequenceOrder::contiguous;
  for (const Plan& plan :
       {Plan(), plan_of(M::ring, 4, 1), pass_q(plan_of(M::ring, 4, 1)), striped, pass_q(striped),
        in_order, plan_of(M::ulysses, 1, 4), plan_of(M::ulysses, 1, 8), plan_of(M::usp, 2, 2),
        pass_q(plan_of(M::usp, 2, 2)), with(plan_of(M::ring, 2, 1), 2, true)}) {
    for (const MaskSpec mask : {MaskSpec{MaskKind::causal, 0}, MaskSpec{MaskKind::window, 11}}) {
      for (const std::int64_t cached : {4, 24}) {
        Scenario scenario = training(tiny(8, 4), plan);
        scenario.workload.phase = Phase::prefill;
        scenario.workload.cached_tokens = cached;
        scenario.workload.mask = mask;
        INFO(cached << " tokens cached");
        require_proven(scenario);
        require_proven(scenario, ExecutionOrder::any_legal, static_cast<std::uint64_t>(cached));
      }
    }
  }
  Scenario kept = training(tiny(8, 4), plan_of(M::ulysses, 1, 4));
  kept.workload.phase = Phase::prefill;
  kept.workload.cached_tokens = 8;
  kept.attention_kernel = "unfused";
  require_proven(kept);
}

TEST_CASE("dependences by tensor are enough for whole training steps, too") {
  for (const int zero : {0, 1, 2, 3}) {
    Plan plan = with(plan_of(M::usp, 2, 2), 2, true);
    plan.zero = zero;
    plan.recompute = Recompute::full;
    require_proven(training(tiny(8, 4), plan, 16, 2), ExecutionOrder::any_legal,
                   static_cast<std::uint64_t>(zero));
  }
}
