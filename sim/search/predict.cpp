#include "sim/search/predict.h"

#include "sim/cost/collective.h"
#include "sim/cost/kernel.h"
#include "sim/engine/engine.h"
#include "sim/schedule/lower.h"
#include "sim/search/pass_costs.h"
#include "sim/search/software_memory.h"
#include "sim/search/summarize.h"

namespace longhaul {

namespace {

// A step of weeks is a slip of the pen in a size, not a plan.
template <class Simulation>
auto simulated(const Simulation& simulation, Diagnostics& diagnostics) {
  try {
    return simulation();
  } catch (const TimeRangeError&) {
    diagnostics.error({}, "too-long", "one step would take more than 6 days",
                      "longhaul counts time up to 2^19 s: look at sequence_length, global_batch and "
                      "gpus, or simulate a shorter step");
    throw InputError(diagnostics);
  }
}

}  // namespace

Explained predict_with(const Scenario& asked, const PredictOptions& wanted,
                       Diagnostics& diagnostics) {
  // Costs come from the profiles of the device and of the cluster's transport.
  const KernelCosts kernels =
      find_kernel_costs(asked.cluster.device(), asked.attention_kernel, diagnostics);
  const TransportCosts transport =
      find_transport_costs(asked.cluster, diagnostics, asked.stack().network_share);
  // Pipelines whose schedule is planned have their passes timed first.
  const std::optional<Scenario> timed =
      simulated([&] { return with_pass_costs(asked, kernels, transport); }, diagnostics);
  const Scenario& scenario = timed ? *timed : asked;
  // The scenario becomes a program: from here on there are no methods, only instructions.
  Program program = lower(scenario);
  add_software_memory(scenario, program);
  EngineOptions options;
  options.record_details = wanted.explain;
  // The engine runs the program on the cluster.
  const Timeline timeline = simulated(
      [&] { return simulate(program, scenario.cluster, kernels, transport, options); }, diagnostics);
  // What the user wants to know is read off the timeline; the framework's allocator makes segments
  // of what the fullest ranks hold.
  Explained made;
  made.result = summarize(scenario, program, timeline, kernels, transport, wanted.every_stage);
  if (wanted.explain) {
    made.explanation = explain(program, timeline);
  }
  return made;
}

Result predict(const Scenario& scenario, Diagnostics& diagnostics) {
  return predict_with(scenario, {}, diagnostics).result;
}

Explained predict_explained(const Scenario& scenario, Diagnostics& diagnostics) {
  PredictOptions options;
  options.explain = true;
  return predict_with(scenario, options, diagnostics);
}

}  // namespace longhaul
