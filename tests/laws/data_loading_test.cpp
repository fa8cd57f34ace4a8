// What must hold of training whose data come from storage, whatever the numbers.
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
using Catch::Matchers::WithinRel;

namespace {

constexpr std::int64_t micro_batches = 4;

// Eight GPUs that train a small model; two sequences per micro-batch.
Scenario scenario_of(double sample_time, std::optional<std::int64_t> workers = std::nullopt,
                     std::int64_t pipeline = 1, std::int64_t replicas = 8) {
  Diagnostics diagnostics;
  ScenarioDraft draft;
  draft.model = find_model("llama3-8b", {}, diagnostics);
  draft.cluster = find_cluster("dgx-h100", {8}, {}, diagnostics);
  draft.gpus = 8;
  draft.software = "megatron";
  draft.workload.sequence_length = 4096;
  draft.workload.micro_batch = 2;
  draft.workload.global_batch = 2 * micro_batches * replicas;
  draft.workload.sample_time = Seconds::of(sample_time);
  draft.open.global_batch = false;
  draft.plan.pipeline = pipeline;
  draft.plan.tensor = 8 / pipeline / replicas;
  draft.plan.loader_workers = workers;
  draft.plan.recompute = Recompute::full;
  draft.plan.zero = 1;
  const auto scenario = check_scenario(draft, diagnostics);
  diagnostics.throw_if_errors();
  REQUIRE(scenario);
  return *scenario;
}

Timeline timeline_of(const Scenario& scenario) {
  Diagnostics diagnostics;
  const KernelCosts kernels = find_kernel_costs(scenario.cluster.device(), "", diagnostics);
  const TransportCosts transport = find_transport_costs(scenario.cluster, diagnostics);
  return simulate(lower(scenario), scenario.cluster, kernels, transport, {});
}

double step_of(const Scenario& scenario) { return timeline_of(scenario).end.seconds().value(); }

double waited_of(const Timeline& timeline) {
  const auto cause = static_cast<std::size_t>(Cause::data_loading);
  return SimTime::of_ticks(timeline.ranks.front().ticks[cause]).seconds().value();
}

// What the workers of a rank need for the sequences of its step.
double reading(double sample_time, double workers) {
  return sample_time * 2 * static_cast<double>(micro_batches) / workers;
}

}  // namespace

TEST_CASE("Data that are read faster than they are used cost nothing", "[laws][data]") {
  const double step = step_of(scenario_of(0.0));
  const double slowest = step * 2 / (2 * static_cast<double>(micro_batches));
  CHECK(step_of(scenario_of(0.99 * slowest)) == step);
  CHECK(waited_of(timeline_of(scenario_of(0.99 * slowest))) == 0.0);
}

TEST_CASE("A step takes as long as the reading of its batches where that is slower",
          "[laws][data]") {
  const double step = step_of(scenario_of(0.0));
  for (const std::int64_t workers : {1, 2, 8}) {
    const double sample = 3.0 * step * static_cast<double>(workers) /
                          (2 * static_cast<double>(micro_batches));
    const Timeline timeline = timeline_of(scenario_of(sample, workers));
    const double expected = reading(sample, static_cast<double>(workers));
    CHECK_THAT(timeline.end.seconds().value(), WithinRel(expected, 1e-9));
    CHECK_THAT(waited_of(timeline), WithinRel(expected - step, 1e-6));
  }
}

TEST_CASE("Megatron-LM reads with two workers, whose number a plan may change", "[laws][data]") {
  const double two = step_of(scenario_of(10.0));
  CHECK(two == step_of(scenario_of(10.0, 2)));
  CHECK_THAT(step_of(scenario_of(10.0, 4)), WithinRel(two / 2, 1e-9));
}

TEST_CASE("Stages of a pipeline and ranks of a tensor group wait for one reader's batches",
          "[laws][data]") {
  const double alone = step_of(scenario_of(10.0));
  CHECK_THAT(step_of(scenario_of(10.0, {}, 4, 2)), WithinRel(alone, 1e-9));
  CHECK_THAT(step_of(scenario_of(10.0, {}, 1, 1)), WithinRel(alone, 1e-9));
}

TEST_CASE("Without workers the training loop reads, and a GPU waits once its queue is empty",
          "[laws][data]") {
  const double step = step_of(scenario_of(0.0));
  const double all = reading(10.0, 1.0);
  const double serial = step_of(scenario_of(10.0, 0));
  CHECK(serial >= all);
  CHECK(serial <= all + step);
  // Pipelines read in their first part and in their last: what one stage reads another does not.
  CHECK(step_of(scenario_of(10.0, 0, 4, 2)) >= all);
}

TEST_CASE("A step that waits for storage, or for its host, says so", "[laws][data]") {
  Diagnostics diagnostics;
  CHECK_THAT(predict(scenario_of(10.0), diagnostics).bottleneck,
             Catch::Contains("data from storage"));
  CHECK_THAT(predict(scenario_of(10.0, 0), diagnostics).bottleneck, Catch::Contains("the host"));
}

TEST_CASE("The accounts of a rank that waits for data sum to its step", "[laws][data]") {
  const Timeline timeline = timeline_of(scenario_of(5.0));
  for (const RankTimes& times : timeline.ranks) {
    std::int64_t ticks = 0;
    for (const std::int64_t cause : times.ticks) {
      ticks += cause;
    }
    CHECK(ticks == timeline.end.ticks());
  }
}
