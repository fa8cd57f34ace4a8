// What must hold of offload, whatever the numbers.
#include <catch2/catch.hpp>

#include "sim/cost/collective.h"
#include "sim/cost/kernel.h"
#include "sim/engine/engine.h"
#include "sim/input/yaml.h"
#include "sim/model/read_model.h"
#include "sim/scenario/read_scenario.h"
#include "sim/schedule/lower.h"
#include "sim/search/predict.h"

using namespace longhaul;

namespace {

using What = std::vector<Offload>;

// A DGX H100 whose PCIe links and host memories are `scale` times as fast (63 and 307.2 GB/s).
std::string host_text(double scale) {
  return "nodes: 1\n"
         "node:\n"
         "  include: dgx-h100\n"
         "  host: {sockets: 2, memory_bandwidth: " +
         std::to_string(307.2 * scale) +
         " GB/s, memory_latency: 0.1 us, bus_bandwidth: 128 GB/s, bus_latency: 0.1 us, "
         "source: scaled}\n"
         "  device:\n"
         "    include: h100-sxm-80gb\n"
         "    pcie_bandwidth: {value: " +
         std::to_string(63.0 * scale) +
         " GB/s, source: test}\n"
         "    sources: {test: scaled}\n"
         "  pcie: {switches: 8, switch_uplink: " +
         std::to_string(63.0 * scale) + " GB/s, latency: 0.2 us, source: scaled}\n";
}

// `chunks`: of FPDT's attention; 0: attention keeps what it needs on the GPU.
Scenario scenario_of(const What& what, double scale = 1.0, std::int64_t sequence = 1 << 17,
                     std::int64_t chunks = 0) {
  Diagnostics diagnostics;
  ScenarioDraft draft;
  draft.model = find_model("llama3-8b", {}, diagnostics);
  auto source = std::make_shared<SourceText>();
  source->name = "scaled cluster";
  source->text = host_text(scale);
  draft.cluster_value = YamlValue::parse(source, diagnostics);
  draft.gpus = 8;
  draft.workload.phase = Phase::train;
  draft.workload.sequence_length = sequence;
  draft.workload.micro_batch = 1;
  draft.workload.global_batch = 2;
  draft.plan.context.method = ContextMethod::ulysses;
  draft.plan.context.ulysses = 8;
  draft.plan.recompute = Recompute::full;
  draft.plan.zero = 3;
  draft.plan.offload = what;
  if (chunks > 0) {
    draft.plan.context.variant = RingVariant::chunked_offload;
    draft.plan.context.chunks = chunks;
  }
  const auto scenario = check_scenario(draft, diagnostics);
  diagnostics.throw_if_errors();
  REQUIRE(scenario);
  return *scenario;
}

Timeline timeline_of(const Scenario& scenario, const EngineOptions& options = {}) {
  Diagnostics diagnostics;
  const KernelCosts kernels = find_kernel_costs(scenario.cluster.device(), "", diagnostics);
  const TransportCosts transport = find_transport_costs(scenario.cluster, diagnostics);
  return simulate(lower(scenario), scenario.cluster, kernels, transport, options);
}

const What all{Offload::optimizer, Offload::activations, Offload::parameters};
const std::vector<What> some{{Offload::optimizer},
                             {Offload::activations},
                             {Offload::optimizer, Offload::activations},
                             {Offload::optimizer, Offload::parameters},
                             all};

double bytes_between(const Cluster& cluster, const Timeline& timeline, const char* from,
                     const char* to) {
  double sum = 0.0;
  for (const Link& link : cluster.links()) {
    const bool memory = link.kind == LinkKind::host_memory;
    if (memory && link.from.find(from) != std::string::npos &&
        link.to.find(to) != std::string::npos) {
      sum += timeline.link_bytes[link.id.index];
    }
  }
  return sum;
}

void check_folds_and_skips(const Scenario& scenario) {
  EngineOptions plain;
  plain.fold = false;
  plain.skip_repetition = false;
  const Timeline whole = timeline_of(scenario, plain);
  const Timeline folded = timeline_of(scenario);
  CHECK(whole.end == folded.end);
  CHECK(whole.events == folded.events);
  CHECK(folded.simulated_events < whole.simulated_events);
  for (std::size_t rank = 0; rank < whole.ranks.size(); ++rank) {
    CHECK(whole.ranks[rank].ticks == folded.ranks[rank].ticks);
    CHECK(whole.memory[rank].total == folded.memory[rank].total);
    CHECK(whole.memory[rank].host_peak == folded.memory[rank].host_peak);
  }
}

}  // namespace

TEST_CASE("offload never makes the GPU's peak larger, and what left is counted with the host") {
  const Timeline kept = timeline_of(scenario_of({}));
  CHECK(kept.memory[0].host_peak == 0);
  for (const What& what : some) {
    const Timeline sent = timeline_of(scenario_of(what));
    CHECK(sent.memory[0].total < kept.memory[0].total);
    CHECK(sent.memory[0].host_peak > 0);
  }
}

TEST_CASE("activations in host memory: every layer's input, 2 bytes an element") {
  const Timeline sent = timeline_of(scenario_of({Offload::activations}));
  // 32 layers x 2^17 / 8 tokens x 4096 elements of bf16.
  CHECK(sent.memory[0].host_peak == std::int64_t{32} * (1 << 14) * 4096 * 2);
}

TEST_CASE("the optimizer in host memory: master, two moments and gradients, 16 bytes a parameter") {
  const Timeline sent = timeline_of(scenario_of({Offload::optimizer}));
  const double states = 16.0 * 8030261248.0 / 8.0;
  const double held = static_cast<double>(sent.memory[0].host_peak);
  // Besides, new weights on their way: 2 bytes of two layers, or of the embedding and the head.
  CHECK(held >= states);
  CHECK(held <= states + 2.0 * (4.0 * 218112000.0 + 2.0 * 525336576.0) / 8.0);
}

TEST_CASE("offload takes no less time, and activations none on links without limits") {
  const double kept = timeline_of(scenario_of({})).end.seconds().value();
  for (const What& what : {What{Offload::activations}, What{Offload::optimizer}, all}) {
    // An hour of PCIe less: a tenth of its rate shows, a million times it does not.
    const double slow = timeline_of(scenario_of(what, 0.02)).end.seconds().value();
    const double usual = timeline_of(scenario_of(what)).end.seconds().value();
    CHECK(slow > usual);
    CHECK(usual >= kept);
  }
  const double sent = timeline_of(scenario_of({Offload::activations})).end.seconds().value();
  const double free =
      timeline_of(scenario_of({Offload::activations}, 1e6)).end.seconds().value();
  CHECK(sent >= kept);
  CHECK_THAT(free, Catch::Matchers::WithinRel(kept, 1e-5));
}

TEST_CASE("all that goes out to host memory comes back") {
  const Scenario scenario = scenario_of({Offload::activations});
  const Timeline sent = timeline_of(scenario);
  const double out = bytes_between(scenario.cluster, sent, "cpu", "memory");
  const double back = bytes_between(scenario.cluster, sent, "memory", "cpu");
  // Two micro-batches of 8 GPUs' inputs of 32 layers.
  CHECK_THAT(out, Catch::Matchers::WithinRel(2.0 * 8 * 32 * (1 << 14) * 4096 * 2, 1e-9));
  CHECK_THAT(back, Catch::Matchers::WithinRel(out, 1e-9));
}

namespace {

// The same step, of which every layer keeps all that its backward pass reads.
Scenario keeping(const What& what, double scale = 1.0) {
  Scenario scenario = scenario_of(what, scale);
  scenario.plan.recompute = Recompute::none;
  return scenario;
}

Scenario staged(const What& what, double scale, Recompute recompute, std::int64_t chunks) {
  Scenario scenario = keeping(what, scale);
  scenario.plan.context = ContextPlan();
  scenario.plan.zero = 1;
  scenario.plan.data = 2;
  scenario.plan.pipeline = 4;
  scenario.plan.virtual_pipeline = chunks;
  scenario.plan.recompute = recompute;
  scenario.workload.sequence_length = 1 << 13;
  scenario.workload.global_batch = 2 * 24;
  return scenario;
}

}  // namespace

TEST_CASE("without recompute all that a layer saves goes out and comes back") {
  // Four streams of 4096, q and (before and behind Ulysses' exchange) o, k and v of 8 heads of 128, up, gate and their product of 14336 in
  // bf16 and a statistic of 32 heads in fp32: of 32 layers, 2 micro-batches, 2^14 tokens on 8 GPUs.
  const Scenario scenario = keeping({Offload::activations});
  const Timeline sent = timeline_of(scenario);
  const double token = 2.0 * (4 * 4096 + 3 * 4096 + 2 * 1024 + 3 * 14336) + 4.0 * 32;
  const double rank = 32.0 * (1 << 14) * token;
  CHECK_THAT(bytes_between(scenario.cluster, sent, "cpu", "memory"),
             Catch::Matchers::WithinRel(2.0 * 8 * rank, 1e-9));
  CHECK_THAT(bytes_between(scenario.cluster, sent, "memory", "cpu"),
             Catch::Matchers::WithinRel(2.0 * 8 * rank, 1e-9));
  CHECK_THAT(static_cast<double>(sent.memory[0].host_peak),
             Catch::Matchers::WithinRel(rank, 1e-9));
  // The GPU keeps no more than what three layers save; one computes, one is copied, one is fetched.
  const std::int64_t kept = timeline_of(keeping({})).memory[0].total;
  const std::int64_t states = timeline_of(scenario_of({Offload::activations})).memory[0].total;
  CHECK(sent.memory[0].total < kept - static_cast<std::int64_t>(0.8 * rank));
  CHECK(sent.memory[0].total < states + static_cast<std::int64_t>(3.0 * rank / 32.0));
}

TEST_CASE("saved activations in host memory cost nothing on links without limits, else copies' time") {
  const auto seconds = [](const Scenario& scenario) {
    return timeline_of(scenario).end.seconds().value();
  };
  const double kept = seconds(keeping({}));
  CHECK_THAT(seconds(keeping({Offload::activations}, 1e6)),
             Catch::Matchers::WithinRel(kept, 1e-4));
  const double usual = seconds(keeping({Offload::activations}));
  CHECK(usual > kept);
  // Twice the copies' time where these set the pace.
  const double slow = seconds(keeping({Offload::activations}, 0.1));
  const double slower = seconds(keeping({Offload::activations}, 0.05));
  CHECK(slower > 1.8 * slow);
  CHECK(slower < 2.0 * slow);
  for (const std::int64_t chunks : {1, 2}) {
    const double bare = seconds(staged({}, 1.0, Recompute::none, chunks));
    const double free = seconds(staged({Offload::activations}, 1e6, Recompute::none, chunks));
    CHECK_THAT(free, Catch::Matchers::WithinRel(bare, 1e-3));
    CHECK(seconds(staged({Offload::activations}, 1.0, Recompute::none, chunks)) > free);
  }
}

TEST_CASE("stages that send their activations keep two layers' of them, and fold and skip exactly") {
  for (const Recompute recompute : {Recompute::none, Recompute::full}) {
    for (const std::int64_t chunks : {1, 2}) {
      const Scenario scenario = staged({Offload::activations}, 1.0, recompute, chunks);
      check_folds_and_skips(scenario);
      const Timeline sent = timeline_of(scenario);
      const Timeline kept = timeline_of(staged({}, 1.0, recompute, chunks));
      CHECK(sent.memory[0].total < kept.memory[0].total);
      CHECK(sent.memory[0].host_peak > 0);
    }
  }
}

namespace {

constexpr double parameters = 8030261248.0;

// The optimizer in host memory of a stack like DeepSpeed's, with bf16 sums of gradients.
Scenario serial_scenario(std::int64_t threads, bool pageable, std::int64_t batch = 1) {
  Scenario scenario = scenario_of({Offload::optimizer});
  auto stack = std::make_shared<SoftwareProfile>(*find_software("ideal"));
  stack->blocking_gradient_offload = true;
  stack->serial_host_optimizer = true;
  scenario.stack_override = stack;
  scenario.plan.host_threads = threads;
  scenario.plan.pageable_offload = pageable;
  scenario.precision.gradients = DataType::bf16;
  scenario.workload.global_batch = batch;
  return scenario;
}

double seconds_of(const Scenario& scenario) {
  return timeline_of(scenario).end.seconds().value();
}

}  // namespace

TEST_CASE("one thread's passes over host memory take what they move at a thread's rate") {
  // Per parameter: a pass that scales fp32 gradients (8 bytes), Adam (28), a cast to bf16 (6). One
  // thread moves 12 GB/s; 14 (112 cores of 8 ranks) are bound by a socket's memory: 0.8 x 307.2 GB/s
  // for 4 ranks.
  const double bytes = 42.0 * parameters / 8.0;
  const double many = seconds_of(serial_scenario(14, false));
  const double saved = seconds_of(serial_scenario(1, false)) - many;
  const double expected = bytes / 12e9 - bytes / (0.8 * 307.2e9 / 4.0);
  CHECK_THAT(saved, Catch::Matchers::WithinRel(expected, 1e-3));
}

TEST_CASE("copies of pageable memory take what they move at the driver's rate") {
  // Gradients in bf16 out and back, then in fp32: 8 bytes a parameter at 5.5 instead of 0.9 x 63 GB/s,
  // while nothing is computed. Weights come back from pageable memory either way.
  const double bytes = 8.0 * parameters / 8.0;
  const double pinned = seconds_of(serial_scenario(14, false));
  const double lost = seconds_of(serial_scenario(14, true)) - pinned;
  CHECK_THAT(lost, Catch::Matchers::WithinRel(bytes / 5.5e9 - bytes / (0.9 * 63e9), 1e-2));
}

TEST_CASE("what a serial host moves, byte for byte") {
  for (const std::int64_t batch : {1, 3}) {
    const Scenario scenario = serial_scenario(14, false, batch);
    const Timeline sent = timeline_of(scenario);
    const auto micro_batches = static_cast<double>(batch);
    // Out: bf16 sums of every micro-batch, fp32 ones of the last; back: the sums, at last the
    // weights. The processor's 42 bytes cross both ways, and with several micro-batches the zeros.
    const double passes = 42.0 + (batch > 1 ? 2.0 : 0.0);
    const double out = (2.0 * micro_batches + 4.0 + passes) * parameters;
    const double back = (2.0 * micro_batches + 2.0 + passes) * parameters;
    CHECK_THAT(bytes_between(scenario.cluster, sent, "cpu", "memory"),
               Catch::Matchers::WithinRel(out, 1e-4));
    CHECK_THAT(bytes_between(scenario.cluster, sent, "memory", "cpu"),
               Catch::Matchers::WithinRel(back, 1e-4));
  }
}

TEST_CASE("more threads are never slower, and none beyond the node's cores help") {
  double before = seconds_of(serial_scenario(1, true));
  for (const std::int64_t threads : {2, 4, 8, 14}) {
    const double now = seconds_of(serial_scenario(threads, true));
    CHECK(now <= before);
    before = now;
  }
  CHECK(seconds_of(serial_scenario(1024, true)) == before);
}

TEST_CASE("offload folds and skips exactly") {
  for (const What& what : some) {
    check_folds_and_skips(scenario_of(what, 1.0, 1 << 15));
  }
  check_folds_and_skips(serial_scenario(1, true, 3));
}

TEST_CASE("chunks of a sequence cross to host memory and back as often as the page counts") {
  constexpr double chunks = 4.0;
  const Scenario scenario = scenario_of({}, 1.0, 1 << 17, 4);
  const Timeline sent = timeline_of(scenario);
  // Of a rank and layer: 4 query heads and 1 key/value head of 128 channels, 2^17 tokens of bf16,
  // their log-sum-exp, and 2^14 tokens of the normed input.
  const double q = 131072.0 * 4 * 128 * 2;
  const double k = 131072.0 * 128 * 2;
  const double lse = 131072.0 * 4 * 4;
  const double normed = 16384.0 * 4096 * 2;
  const double pass_out = 2 * q + 2 * k + lse + normed;
  const double pass_back = k * (chunks - 1);
  const double out = (chunks - 1) / chunks * q + (chunks - 1) / 2 * 2 * q;
  const double back =
      2 * k + normed + (chunks + 1) / 2 * (2 * q + lse) + (chunks - 1) / 2 * (q + 2 * q);
  // 8 ranks, 32 layers, 2 micro-batches; forward, recompute and backward.
  const double all_layers = 8.0 * 32 * 2;
  CHECK_THAT(bytes_between(scenario.cluster, sent, "cpu", "memory"),
             Catch::Matchers::WithinRel(all_layers * (2 * pass_out + out), 1e-9));
  CHECK_THAT(bytes_between(scenario.cluster, sent, "memory", "cpu"),
             Catch::Matchers::WithinRel(all_layers * (2 * pass_back + back), 1e-9));
  // One layer's chunks, and in its backward pass gradients of outputs and queries beside them.
  const auto held = static_cast<double>(sent.memory[0].host_peak);
  CHECK(held >= pass_out);
  CHECK(held <= pass_out + (chunks - 1) / chunks * (q + 2 * q));
}

TEST_CASE("chunks make the GPU's peak smaller, and more of them never larger") {
  const std::int64_t whole = timeline_of(scenario_of({})).memory[0].total;
  std::int64_t before = whole;
  for (const std::int64_t chunks : {2, 4, 8}) {
    const std::int64_t peak = timeline_of(scenario_of({}, 1.0, 1 << 17, chunks)).memory[0].total;
    CHECK(peak < whole);
    CHECK(peak <= before);  // once attention is small the peak is the MLP's
    before = peak;
  }
}

TEST_CASE("chunks of 64K tokens hide their copies behind attention, small ones do not") {
  // A chunk of keys and values is 33 MB; meanwhile 64K x 64K scores of 4 heads are computed.
  const auto seconds = [](double scale, std::int64_t sequence, std::int64_t chunks) {
    return timeline_of(scenario_of({}, scale, sequence, chunks)).end.seconds().value();
  };
  CHECK(seconds(1.0, 1 << 20, 16) < 1.05 * seconds(1e6, 1 << 20, 16));
  CHECK(seconds(0.02, 1 << 17, 16) > 1.5 * seconds(1e6, 1 << 17, 16));
}

TEST_CASE("chunks in host memory fold and skip exactly") {
  check_folds_and_skips(scenario_of({Offload::activations}, 1.0, 1 << 15, 4));
}
