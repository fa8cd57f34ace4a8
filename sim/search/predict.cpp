#include "sim/search/predict.h"

#include "sim/cost/collective.h"
#include "sim/cost/kernel.h"
#include "sim/engine/allocator_replay.h"
#include "sim/engine/engine.h"
#include "sim/schedule/lower.h"
#include "sim/search/software_memory.h"
#include "sim/search/summarize.h"

namespace longhaul {

namespace {

// `explanation`: what to fill in, or nothing.
Result run(const Scenario& scenario, Diagnostics& diagnostics, Explanation* explanation) {
  // The scenario becomes a program: from here on there are no methods, only instructions.
  Program program = lower(scenario);
  add_software_memory(scenario, program);
  // Costs come from the profiles of the device and of the cluster's transport.
  const KernelCosts kernels =
      find_kernel_costs(scenario.cluster.device(), scenario.attention_kernel, diagnostics);
  const TransportCosts transport = find_transport_costs(scenario.cluster, diagnostics);
  EngineOptions options;
  options.record_details = explanation != nullptr;
  // The engine runs the program on the cluster.
  const Timeline timeline = simulate(program, scenario.cluster, kernels, transport, options);
  // The framework's allocator makes segments of what the fullest rank holds.
  const RankId fullest = fullest_rank(timeline);
  const auto capacity = static_cast<std::int64_t>(scenario.cluster.device().memory.value());
  AllocatorOptions allocator;
  allocator.capacity = capacity - outside_allocator(timeline.memory[fullest.index]);
  const AllocatorCounts segments = replay_allocator(program, fullest, kernels, allocator);
  if (explanation != nullptr) {
    *explanation = explain(program, timeline);
  }
  // What the user wants to know is read off the timeline.
  return summarize(scenario, timeline, segments, kernels, transport);
}

}  // namespace

Result predict(const Scenario& scenario, Diagnostics& diagnostics) {
  return run(scenario, diagnostics, nullptr);
}

Explained predict_explained(const Scenario& scenario, Diagnostics& diagnostics) {
  Explained made;
  made.result = run(scenario, diagnostics, &made.explanation);
  return made;
}

}  // namespace longhaul
