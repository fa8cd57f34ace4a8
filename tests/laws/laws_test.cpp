// What must always hold, whatever the numbers: laws of whole predictions.
#include <catch2/catch.hpp>

#include "sim/cost/collective.h"
#include "sim/cost/kernel.h"
#include "sim/engine/engine.h"
#include "sim/model/read_model.h"
#include "sim/scenario/read_scenario.h"
#include "sim/schedule/lower.h"
#include "sim/search/predict.h"
#include "sim/topology/read_cluster.h"

using namespace longhaul;

namespace {

// Four DGX H100 nodes with links of `nvlink` and `nic` times their rates (450 GB/s, 400 Gb/s).
std::string cluster_text(double nvlink, double nic) {
  return "nodes: 4\n"
         "fabric: infiniband-rails\n"
         "node:\n"
         "  include: dgx-h100\n"
         "  device:\n"
         "    include: h100-sxm-80gb\n"
         "    nvlink_bandwidth: {value: " +
         std::to_string(450.0 * nvlink) +
         " GB/s, source: test}\n"
         "    sources: {test: scaled}\n"
         "  nics: {count: 8, rate: " +
         std::to_string(400.0 * nic) + " Gb/s, source: scaled}\n";
}

ScenarioDraft draft_of(const std::string& model, std::int64_t gpus, std::int64_t sequence,
                       ContextPlan context) {
  Diagnostics diagnostics;
  ScenarioDraft draft;
  draft.model = find_model(model, {}, diagnostics);
  draft.cluster_name = "dgx-h100";
  draft.gpus = gpus;
  draft.workload.phase = Phase::train;
  draft.workload.sequence_length = sequence;
  draft.workload.micro_batch = 1;
  draft.workload.global_batch = 1;
  draft.plan.context = context;
  draft.plan.recompute = Recompute::full;
  draft.plan.zero = 3;
  diagnostics.throw_if_errors();
  return draft;
}

Scenario checked(const ScenarioDraft& draft) {
  Diagnostics diagnostics;
  const auto scenario = check_scenario(draft, diagnostics);
  diagnostics.throw_if_errors();
  REQUIRE(scenario);
  return *scenario;
}

Result predicted(const ScenarioDraft& draft) {
  Diagnostics diagnostics;
  return predict(checked(draft), diagnostics);
}

ContextPlan ring(std::int64_t degree, SequenceOrder order) {
  ContextPlan plan;
  plan.method = ContextMethod::ring;
  plan.ring = degree;
  plan.order = order;
  return plan;
}

ContextPlan usp(std::int64_t ulysses, std::int64_t ring_degree) {
  ContextPlan plan;
  plan.method = ulysses == 1 ? ContextMethod::ring
                             : (ring_degree == 1 ? ContextMethod::ulysses : ContextMethod::usp);
  plan.ring = ring_degree;
  plan.ulysses = ulysses;
  return plan;
}

double activations_of(const Result& result) {
  for (const auto& [name, bytes] : result.memory.categories) {
    if (name == "activations") {
      return bytes.value();
    }
  }
  return 0.0;
}

ScenarioDraft attention_of(std::int64_t gpus, SequenceOrder order, std::int64_t local) {
  ScenarioDraft draft = draft_of("llama3-8b", gpus, gpus * local, ring(gpus, order));
  draft.workload.phase = Phase::attention;
  draft.workload.pass = Pass::forward;
  draft.plan.recompute = Recompute::none;
  draft.plan.zero = 0;
  return draft;
}

// The same on four DGX H100 nodes whose links are `scale` times as fast.
ScenarioDraft on_scaled_links(ScenarioDraft draft, double scale) {
  Diagnostics diagnostics;
  auto source = std::make_shared<SourceText>();
  source->name = "scaled cluster";
  source->text = cluster_text(scale, scale);
  draft.cluster_value = YamlValue::parse(source, diagnostics);
  draft.cluster_name.clear();
  diagnostics.throw_if_errors();
  return draft;
}

// Speed of a ring against perfectly divided work: the same attention on one GPU, divided.
double fraction_of_ideal(SequenceOrder order) {
  const double ring_time = predicted(attention_of(8, order, 8192)).step_time.value();
  ScenarioDraft alone = attention_of(1, SequenceOrder::contiguous, 8 * 8192);
  alone.plan.context = ContextPlan();
  const double single = predicted(alone).step_time.value();
  return single / 8.0 / ring_time;
}

}  // namespace

TEST_CASE("memory categories sum to the peak") {
  for (const ContextPlan& context : {ring(32, SequenceOrder::zigzag), usp(8, 4), usp(32, 1)}) {
    const Result result = predicted(draft_of("llama3-8b", 32, 1 << 17, context));
    double sum = 0.0;
    for (const auto& [name, bytes] : result.memory.categories) {
      sum += bytes.value();
    }
    CHECK(sum == result.memory.peak.value());
  }
}

TEST_CASE("the causes of the critical path sum to the step time") {
  const Result result =
      predicted(draft_of("llama3-8b", 32, 1 << 17, ring(32, SequenceOrder::zigzag)));
  double sum = 0.0;
  for (const auto& [name, time] : result.critical_path) {
    sum += time.value();
  }
  CHECK(sum == result.step_time.value());
}

TEST_CASE("a causal ring is balanced by zigzag and half idle when contiguous") {
  const double zigzag = fraction_of_ideal(SequenceOrder::zigzag);
  const double contiguous = fraction_of_ideal(SequenceOrder::contiguous);
  const double striped = fraction_of_ideal(SequenceOrder::striped);
  INFO("zigzag " << zigzag << " striped " << striped << " contiguous " << contiguous);
  CHECK(zigzag > 0.8);
  CHECK(zigzag <= 1.05);
  CHECK(striped > 0.65);
  // Striped cuts more tiles by the diagonal. Its kernels are all masked and zigzag's mostly full,
  // fitted apart with a spread of 8 %, so that equal is all that can be told.
  CHECK(striped <= 1.02 * zigzag);
  CHECK(contiguous > 0.42);
  CHECK(contiguous < 0.60);
}

TEST_CASE("twice the GPUs at the same sequence nearly halve the activation memory") {
  const double few =
      activations_of(predicted(draft_of("llama3-8b", 8, 1 << 17, ring(8, SequenceOrder::zigzag))));
  const double many = activations_of(
      predicted(draft_of("llama3-8b", 16, 1 << 17, ring(16, SequenceOrder::zigzag))));
  CHECK(many / few > 0.48);
  CHECK(many / few < 0.56);
}

TEST_CASE("a longer sequence takes longer and needs no less memory") {
  double time = 0.0;
  double memory = 0.0;
  for (const std::int64_t sequence : {1 << 15, 1 << 16, 1 << 17, 1 << 18}) {
    const Result result = predicted(draft_of("llama3-8b", 16, sequence, usp(8, 2)));
    CHECK(result.step_time.value() > time);
    CHECK(result.memory.peak.value() >= memory);
    time = result.step_time.value();
    memory = result.memory.peak.value();
  }
}

TEST_CASE("skipping repeated turns changes no figure of a whole training step") {
  for (const ContextPlan& context : {ring(8, SequenceOrder::zigzag), usp(4, 2), usp(8, 1)}) {
    ScenarioDraft draft = draft_of("llama3-8b", 8, 1 << 15, context);
    draft.workload.global_batch = 6;
    const Scenario scenario = checked(draft);
    Diagnostics diagnostics;
    const Program program = lower(scenario);
    const KernelCosts kernels = find_kernel_costs(scenario.cluster.device(), "", diagnostics);
    const TransportCosts transport = find_transport_costs(scenario.cluster, diagnostics);
    EngineOptions stepping;
    stepping.skip_repetition = false;
    const Timeline skipped = simulate(program, scenario.cluster, kernels, transport);
    const Timeline stepped = simulate(program, scenario.cluster, kernels, transport, stepping);
    CHECK(skipped.end == stepped.end);
    CHECK(skipped.events == stepped.events);
    CHECK(skipped.simulated_events < stepped.simulated_events);
    for (std::size_t rank = 0; rank < stepped.ranks.size(); ++rank) {
      CHECK(skipped.ranks[rank].ticks == stepped.ranks[rank].ticks);
      CHECK(skipped.memory[rank].bytes == stepped.memory[rank].bytes);
      CHECK(skipped.memory[rank].when == stepped.memory[rank].when);
    }
  }
}

TEST_CASE("sums over zero groups hide behind the backward pass as those within a group do") {
  // Groups of a node each: shards are an eighth, and their sum over 8 nodes takes a third of the
  // backward pass that it runs behind.
  ScenarioDraft draft = draft_of("llama3-8b", 64, 4096, ContextPlan());
  draft.workload.global_batch = 128;
  const double whole = predicted(draft).step_time.value();
  draft.plan.zero_group = 8;
  CHECK(predicted(draft).step_time.value() < 1.06 * whole);
}

TEST_CASE("more bandwidth is never slower") {
  // Links that are waited for: strictly. From twice the speed on nothing waits any more, and what
  // changes is which kernels run beside communication and are slowed by it: anomalies of schedules
  // (R. L. Graham 1969), here of less than a thousandth either way, at any speed beyond.
  const ScenarioDraft draft = draft_of("llama3-8b", 32, 1 << 17, ring(32, SequenceOrder::zigzag));
  double last = predicted(on_scaled_links(draft, 0.25)).step_time.value();
  for (const double scale : {0.5, 1.0, 2.0}) {
    const double time = predicted(on_scaled_links(draft, scale)).step_time.value();
    CHECK(time <= last * (1.0 + 1e-9));
    last = time;
  }
  for (const double scale : {4.0, 8.0, 64.0, 1000.0}) {
    CHECK_THAT(predicted(on_scaled_links(draft, scale)).step_time.value(),
               Catch::Matchers::WithinRel(last, 1e-3));
  }
}

TEST_CASE(
    "a ring whose ranks all do the same is pure compute on infinite links, not on slow ones") {
  // Without a mask every rank does the same work in every step, and a step is far longer than the
  // latency of a hop, so fast links leave nothing to wait for.
  ScenarioDraft draft = attention_of(8, SequenceOrder::contiguous, 8192);
  draft.workload.pass = Pass::forward_backward;
  draft.workload.mask.kind = MaskKind::full;
  const Result infinite = predicted(on_scaled_links(draft, 1e6));
  CHECK_THAT(infinite.step_time.value(),
             Catch::Matchers::WithinRel(infinite.compute_time.value(), 1e-9));
  const Result slow = predicted(on_scaled_links(draft, 0.01));
  CHECK(slow.step_time.value() > 2.0 * infinite.step_time.value());
}

TEST_CASE("ranks renumbered change nothing: a ring over any equivalent GPUs takes the same time") {
  // Ulysses inside, ring across, is symmetric under exchanging whole nodes; the mesh with the ring
  // inside one node and Ulysses inside one node of eight GPUs is symmetric under any renumbering.
  ContextPlan inner_ulysses = usp(4, 2);
  inner_ulysses.inner = InnerPlacement::ulysses;
  ContextPlan inner_ring = usp(4, 2);
  inner_ring.inner = InnerPlacement::ring;
  const double a = predicted(draft_of("llama3-8b", 8, 1 << 16, inner_ulysses)).step_time.value();
  const double b = predicted(draft_of("llama3-8b", 8, 1 << 16, inner_ring)).step_time.value();
  CHECK_THAT(a, Catch::Matchers::WithinRel(b, 1e-6));
}

TEST_CASE("fp32 is no faster than the sheet's rate without tensor cores, and a weight its own master") {
  // 4 bytes of weight, 4 of gradient and 8 of moments: as many as mixed precision keeps besides its
  // bf16 weights. No step runs above the device's fp32 rate; that nothing of it is measured is said.
  ScenarioDraft draft = draft_of("llama3-8b", 8, 8192, {});
  draft.workload.global_batch = 8;
  const Result mixed = predicted(draft);
  draft.precision.compute = DataType::fp32;
  const Result plain = predicted(draft);
  CHECK(plain.mfu < 1.0);
  CHECK(plain.mfu > 0.3);
  CHECK(plain.step_time.value() > 5.0 * mixed.step_time.value());
  CHECK(plain.extrapolated);
  const auto states = [](const Result& result) {
    double bytes = 0.0;
    for (const auto& [name, held] : result.memory.categories) {
      const bool state = name == "parameters" || name == "gradients" || name == "optimizer";
      bytes += state ? held.value() : 0.0;
    }
    return bytes;
  };
  CHECK(states(plain) < states(mixed));
  CHECK(checked(draft).precision.states == States::compute);
}

TEST_CASE("what a mixture's recompute keeps costs memory and saves time, step by step") {
  // Everything; outputs of products; every second product's; the layers' inputs.
  const auto with = [](Recompute recompute, RecomputeDetail detail) {
    ScenarioDraft draft = draft_of("mixtral-8x7b", 32, 8192, {});
    draft.workload.global_batch = 32;
    draft.plan.expert = 8;
    draft.plan.recompute = recompute;
    draft.plan.recompute_detail = detail;
    return predicted(draft);
  };
  const Result results[] = {with(Recompute::none, RecomputeDetail::standard),
                            with(Recompute::full, RecomputeDetail::keep_linear_outputs),
                            with(Recompute::full, RecomputeDetail::op_sac),
                            with(Recompute::full, RecomputeDetail::standard)};
  for (int i = 1; i < 4; ++i) {
    INFO(i);
    CHECK(results[i].memory.peak.value() < results[i - 1].memory.peak.value());
    CHECK(results[i].step_time.value() > results[i - 1].step_time.value());
  }
}
