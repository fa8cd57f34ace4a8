// Every method of context parallelism computes dense attention and its gradients.
#include <catch2/catch.hpp>

#include "sim/schedule/lower.h"
#include "tests/reference_proofs/proof.h"
#include "tests/sim/schedule/small_scenarios.h"

using namespace longhaul;
using namespace longhaul::test;

namespace {

using M = ContextMethod;
constexpr SequenceOrder orders[] = {SequenceOrder::contiguous, SequenceOrder::zigzag,
                                    SequenceOrder::striped};

// Ring and all-gather over 2, 3, 4, 8 ranks, Ulysses over 2, 4, 8, hybrids over 4, 6 and 8.
std::vector<Plan> context_plans() {
  std::vector<Plan> plans{Plan()};
  for (const SequenceOrder order : orders) {
    for (const std::int64_t ranks : {2, 3, 4, 8}) {
      plans.push_back(plan_of(M::ring, ranks, 1, order));
      plans.push_back(plan_of(M::all_gather, ranks, 1, order));
    }
    for (const auto& [ring, ulysses] : {std::pair{2, 2}, {3, 2}, {4, 2}, {2, 4}}) {
      plans.push_back(plan_of(M::usp, ring, ulysses, order));
      plans.push_back(plans.back());
      plans.back().context.inner = InnerPlacement::ring;
    }
  }
  for (const std::int64_t ranks : {2, 4, 8}) {
    plans.push_back(plan_of(M::ulysses, 1, ranks));
  }
  return plans;
}

// The shortest sequences that give every chunk (half a zigzag shard, a rank's tokens otherwise) an
// odd and an even number of tokens.
std::vector<std::int64_t> lengths(const Plan& plan) {
  const ContextPlan& context = plan.context;
  const bool zigzag = context.ring > 1 && context.order == SequenceOrder::zigzag;
  const std::int64_t chunks = context.degree() * (zigzag ? 2 : 1);
  return zigzag ? std::vector<std::int64_t>{3 * chunks, 4 * chunks}
                : std::vector<std::int64_t>{5 * chunks, 6 * chunks};
}

const std::vector<MaskSpec>& masks() {
  // A window within a chunk of the shorter sequences, and one that spans several.
  static const std::vector<MaskSpec> all{
      {MaskKind::causal, 0}, {MaskKind::full, 0}, {MaskKind::window, 2}, {MaskKind::window, 13}};
  return all;
}

Scenario attention_scenario(const Model& model, const Plan& plan, std::int64_t length,
                            const MaskSpec& mask) {
  Scenario scenario = scenario_of(model, Phase::attention, plan);
  scenario.workload.sequence_length = length;
  scenario.workload.mask = mask;
  scenario.workload.micro_batch = 1;
  scenario.workload.global_batch = plan.data;
  return scenario;
}

void require_proven(const Scenario& scenario, ExecutionOrder order = ExecutionOrder::program,
                    std::uint64_t seed = 0) {
  const Verdict verdict = prove(scenario, order, seed);
  INFO(describe(scenario));
  INFO(verdict.why << ": " << verdict.error);
  REQUIRE(is_proven(verdict));
}

}  // namespace

TEST_CASE("output and gradients of every plan equal dense attention's, for every mask and length") {
  for (const Plan& plan : context_plans()) {
    for (const std::int64_t length : lengths(plan)) {
      for (const MaskSpec& mask : masks()) {
        require_proven(attention_scenario(small_llama(8, 8), plan, length, mask));
        require_proven(attention_scenario(small_llama(8, 2), plan, length, mask));
      }
    }
  }
}

TEST_CASE("one key/value head for all queries is attended to by every plan") {
  // Ulysses and hybrids replicate it on every rank of the exchange and sum its gradients.
  for (const Plan& plan : context_plans()) {
    require_proven(attention_scenario(small_llama(8, 1), plan, lengths(plan)[0], {}));
  }
}

TEST_CASE("Ulysses over three ranks deals six heads, three of keys and values") {
  const Plan plan = plan_of(M::ulysses, 1, 3);
  for (const MaskSpec& mask : masks()) {
    require_proven(attention_scenario(small_llama(6, 3), plan, 15, mask));
    require_proven(attention_scenario(small_llama(6, 1), plan, 18, mask));
  }
}

TEST_CASE("heads cut by tensor parallelism and sequences dealt to replicas stay apart") {
  for (Plan plan : {plan_of(M::ring, 2, 1), plan_of(M::ulysses, 1, 2), plan_of(M::usp, 2, 2),
                    plan_of(M::all_gather, 2, 1)}) {
    plan.tensor = 2;
    plan.data = plan.context.degree() == 2 ? 2 : 1;
    Scenario scenario = attention_scenario(small_llama(8, 4), plan, 24, {});
    scenario.workload.micro_batch = 2;
    scenario.workload.global_batch = 2 * plan.data;
    require_proven(scenario);
  }
}

TEST_CASE("a forward pass alone gives o; a backward pass alone, from its statistics, gradients") {
  for (const Plan& plan : context_plans()) {
    for (const Pass pass : {Pass::forward, Pass::backward}) {
      Scenario scenario = attention_scenario(small_llama(8, 2), plan, lengths(plan)[0], {});
      scenario.workload.pass = pass;
      require_proven(scenario);
    }
  }
}

namespace {

// Double rings of two, three and four inner rings, hybrids with Ulysses on either side.
std::vector<Plan> double_rings() {
  std::vector<Plan> plans;
  for (const SequenceOrder order : orders) {
    for (const auto& [ring, inner] : {std::pair{4, 2}, {6, 2}, {6, 3}, {8, 2}, {8, 4}, {9, 3}}) {
      plans.push_back(plan_of(M::double_ring, ring, 1, order));
      plans.back().context.inner_ring = inner;
    }
    for (const InnerPlacement placement : {InnerPlacement::ulysses, InnerPlacement::ring}) {
      plans.push_back(plan_of(M::usp, 4, 2, order));
      plans.back().context.inner_ring = 2;
      plans.back().context.inner = placement;
    }
  }
  return plans;
}

}  // namespace

TEST_CASE("double rings compute dense attention and its gradients, in any legal order") {
  for (const Plan& plan : double_rings()) {
    for (const MaskSpec& mask : masks()) {
      require_proven(attention_scenario(small_llama(8, 2), plan, lengths(plan)[0], mask));
    }
    require_proven(attention_scenario(small_llama(8, 4), plan, lengths(plan)[1], {}),
                   ExecutionOrder::any_legal, 3);
  }
}

TEST_CASE("a backward pass whose query side travels computes the same gradients") {
  std::vector<Plan> plans = double_rings();
  for (const Plan& plan : context_plans()) {
    if (plan.context.method == M::ring || plan.context.method == M::usp) {
      plans.push_back(plan);
    }
  }
  for (Plan& plan : plans) {
    plan.context.variant = RingVariant::q_side_backward;
    for (const MaskSpec& mask : masks()) {
      require_proven(attention_scenario(small_llama(8, 2), plan, lengths(plan)[0], mask));
    }
    Scenario backward = attention_scenario(small_llama(8, 8), plan, lengths(plan)[1], {});
    backward.workload.pass = Pass::backward;
    require_proven(backward, ExecutionOrder::any_legal, 5);
  }
}

TEST_CASE("Megatron's way of sending key/value gradients computes the same") {
  Scenario scenario = attention_scenario(small_llama(8, 2), plan_of(M::ring, 4, 1), 24, {});
  scenario.software = "megatron";
  require_proven(scenario);
}

TEST_CASE("a ring whose idle ranks help computes the same, in any legal order") {
  // Even and odd rings; alone and within Ulysses; grouped heads; windows that leave rounds empty.
  for (const auto& [ring, ulysses] : {std::pair{2, 1}, {3, 1}, {4, 1}, {5, 1}, {6, 1}, {7, 1},
                                      {8, 1}, {3, 2}, {4, 2}}) {
    Plan plan = plan_of(ulysses == 1 ? M::ring : M::usp, ring, ulysses, SequenceOrder::contiguous);
    plan.context.variant = RingVariant::helpers;
    for (const MaskSpec& mask : masks()) {
      if (mask.kind == MaskKind::full) {
        continue;
      }
      require_proven(attention_scenario(small_llama(8, 2), plan, lengths(plan)[0], mask));
      require_proven(attention_scenario(small_llama(8, 8), plan, lengths(plan)[1], mask),
                     ExecutionOrder::any_legal, 4);
    }
    Scenario backward = attention_scenario(small_llama(8, 4), plan, lengths(plan)[0], {});
    backward.workload.pass = Pass::backward;
    require_proven(backward);
  }
}

TEST_CASE("queries that travel forward and partial results that return compute the same") {
  for (Plan plan : context_plans()) {
    if (plan.context.method != M::ring && plan.context.method != M::usp) {
      continue;
    }
    plan.context.variant = RingVariant::pass_q;
    for (const MaskSpec& mask : masks()) {
      require_proven(attention_scenario(small_llama(8, 2), plan, lengths(plan)[0], mask));
    }
    Scenario forward = attention_scenario(small_llama(8, 8), plan, lengths(plan)[1], {});
    forward.workload.pass = Pass::forward;
    require_proven(forward, ExecutionOrder::any_legal, 9);
  }
}

TEST_CASE("a ring that stores its scores computes the same, in any legal order") {
  for (Plan plan : context_plans()) {
    if (plan.context.method != M::ring && plan.context.method != M::usp) {
      continue;
    }
    plan.context.variant = RingVariant::materialised;
    for (const MaskSpec& mask : masks()) {
      require_proven(attention_scenario(small_llama(8, 2), plan, lengths(plan)[0], mask));
    }
    require_proven(attention_scenario(small_llama(8, 8), plan, lengths(plan)[1], {}),
                   ExecutionOrder::any_legal, 11);
  }
}

TEST_CASE("packed exchanges and copies around exchanges compute the same") {
  for (Plan plan : context_plans()) {
    if (plan.context.method == M::all_gather) {
      continue;
    }
    for (const bool packed : {false, true}) {
      plan.context.packed_qkv = packed;
      Scenario scenario = attention_scenario(small_llama(8, 2), plan, lengths(plan)[0], {});
      scenario.software = "yunchang";
      scenario.workload.micro_batch = scenario.workload.global_batch = packed ? 1 : 2;
      require_proven(scenario, ExecutionOrder::any_legal, packed ? 7 : 8);
    }
  }
}

TEST_CASE("dependences by tensor are enough: any order that keeps them computes the same") {
  // Streams, which a real machine has besides, only narrow the orders down.
  for (const Plan& plan : context_plans()) {
    for (const std::uint64_t seed : {1, 2}) {
      require_proven(attention_scenario(small_llama(8, 2), plan, lengths(plan)[0], {}),
                     ExecutionOrder::any_legal, seed);
    }
  }
}
