#include "sim/schedule/lower.h"

#include "sim/scenario/rank_order.h"
#include "sim/schedule/stack.h"
#include "sim/schedule/steps.h"
#include "sim/units/check.h"

namespace longhaul {

namespace {

Axis mesh_axis(PlanAxis axis) {
  switch (axis) {
    case PlanAxis::tensor: return Axis::tensor;
    case PlanAxis::ulysses: return Axis::ulysses;
    case PlanAxis::ring: return Axis::ring;
    case PlanAxis::data: return Axis::data;
    case PlanAxis::pipeline: return Axis::pipeline;
    case PlanAxis::context:
    case PlanAxis::expert: break;
  }
  check(false, "a settled order of ranks has the axes of the mesh only");
  return Axis::tensor;
}

}  // namespace

Mesh mesh_of(const Scenario& scenario) {
  const Plan& plan = scenario.plan;
  Mesh mesh;
  mesh.order.clear();
  for (const PlanAxis axis : settled_rank_order(plan)) {
    mesh.order.push_back(mesh_axis(axis));
  }
  mesh.sizes[static_cast<int>(Axis::tensor)] = plan.tensor;
  mesh.sizes[static_cast<int>(Axis::ulysses)] = plan.context.ulysses;
  mesh.sizes[static_cast<int>(Axis::ring)] = plan.context.ring;
  mesh.sizes[static_cast<int>(Axis::data)] = plan.data;
  mesh.sizes[static_cast<int>(Axis::pipeline)] = plan.pipeline;
  mesh.ring_part = plan.context.has_double_ring() ? plan.context.inner_ring : 1;
  mesh.data_part = plan.sharing_replicas();
  mesh.experts = plan.expert;
  mesh.expert_tensor = plan.expert_tensor;
  mesh.expert_data_part = plan.sharing_expert_replicas();
  return mesh;
}

namespace {

Program lower_phase(const Scenario& scenario) {
  switch (scenario.workload.phase) {
    case Phase::train:
      if (splits_backward(scenario.plan.schedule)) {
        return lower_zero_bubble_step(scenario);
      }
      return scenario.plan.pipeline > 1 ? lower_pipeline_step(scenario)
                                        : lower_training_step(scenario);
    case Phase::forward:
    case Phase::prefill:
      return scenario.plan.pipeline > 1 ? lower_pipeline_step(scenario)
                                        : lower_forward_step(scenario);
    case Phase::attention: return lower_attention_step(scenario);
    case Phase::decode: break;
  }
  check(false, "check_scenario refuses decode, which has no schedule");
  return {};
}

}  // namespace

Program lower(const Scenario& scenario) {
  check(scenario.plan.pipeline == 1 || scenario.workload.phase != Phase::attention,
        "check_scenario refuses pipelines of one layer's attention");
  Program program = lower_phase(scenario);
  program.product_type = scenario.precision.compute;
  program.pads_rows = scenario.stack().pads_vocabulary;
  program.unset_weights = scenario.stack().unset_weights;
  take_habits(scenario, program);
  return program;
}

}  // namespace longhaul
