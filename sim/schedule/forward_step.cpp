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
  build.program().attention = attention_geometry(scenario);
  parameters.gather_root();
  build.part(Part::forward);
  TensorSpec spec = block.stream_spec();
  spec.slots = 2;
  const TensorRef first = build.fresh("hidden", spec);
  if (has_ends(scenario.model)) {
    ends.embed(build, ends.ids(build, "tokens", Index::of(0)), first);
  } else {
    ends.come_in(build, "x", first, Index::of(0));
  }
  parameters.each_layer("layers forward", LayerOrder::first_to_last, [&](Index layer, Index turn) {
    const TensorRef input = build.tensor("hidden", spec, turn);
    Index other = turn;
    other.constant += 1;
    const TensorRef output = build.tensor("hidden", spec, other);
    const LayerState state = block.forward(build, parameters.layer(layer, turn), input, output, 1,
                                           Index::of(0), layer, ForwardPass::passes_by);
    block.release_state(build, state);
    build.release({input});
  });
  const TensorRef top = build.tensor("hidden", spec, Index::of(scenario.model.layers % 2));
  if (has_ends(scenario.model)) {
    ends.logits_only(build, top);
  } else {
    ends.go_out(build, "y", top, Index::of(0));
  }
  build.release({top});
  return build.finish();
}

}  // namespace longhaul
