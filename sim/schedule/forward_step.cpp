// One pass over the input without gradients: nothing is kept for a backward pass.
#include "sim/schedule/head.h"
#include "sim/schedule/steps.h"

namespace longhaul {

Program lower_forward_step(const Scenario& scenario) {
  ProgramBuilder build("forward step");
  build.program().mesh = mesh_of(scenario);
  const TransformerBlock block(scenario);
  const Parameters parameters(build, scenario, block.shapes(), false);
  const ModelEnds ends(scenario, block, parameters);
  build.program().attention = {scenario.workload.sequence_length, block.shapes().ring,
                               scenario.plan.context.order, scenario.workload.mask};
  parameters.gather_root();
  build.part(Part::forward);
  TensorSpec spec = block.stream_spec();
  spec.slots = 2;
  const TensorRef first = build.fresh("hidden", spec);
  ends.embed(build, ends.ids(build, "tokens", Index::of(0)), first);
  const LoopId loop = build.begin_loop("layers forward", scenario.model.layers, true);
  const Index turn = Index::counter(loop, 1, 0, 2);
  parameters.gather_layer(Index::counter(loop), turn);
  const TensorRef input = build.tensor("hidden", spec, turn);
  const TensorRef output = build.fresh("hidden", spec, Index::counter(loop, 1, 1, 2));
  const LayerState state =
      block.forward(build, parameters.layer(Index::counter(loop), turn), input, output, 1,
                    Index::of(0), Index::counter(loop));
  block.release_state(build, state);
  build.release({input});
  build.end_loop(loop);
  const TensorRef top = build.tensor("hidden", spec, Index::of(scenario.model.layers % 2));
  ends.logits_only(build, top);
  build.release({top});
  return build.finish();
}

}  // namespace longhaul
