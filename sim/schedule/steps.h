// Whole programs, one per phase.
#pragma once

#include "sim/program/program.h"
#include "sim/scenario/scenario.h"

namespace longhaul {

/// One optimizer step: micro-batches of forward and backward, reduction, Adam.
Program lower_training_step(const Scenario& scenario);
/// The same over the stages of a pipeline; of phases forward and prefill without backward passes.
Program lower_pipeline_step(const Scenario& scenario);
/// The same in the order of sim/schedule/pass_lists.h, weight gradients apart from backward passes.
Program lower_zero_bubble_step(const Scenario& scenario);
/// One pass over the input without gradients; a prefill keeps keys and values of every layer.
Program lower_forward_step(const Scenario& scenario);
/// One layer's attention over the whole sequence, forward, backward or both.
Program lower_attention_step(const Scenario& scenario);

/// The mesh of a plan, its axes in the plan's order (sim/scenario/rank_order.h).
Mesh mesh_of(const Scenario& scenario);

}  // namespace longhaul
