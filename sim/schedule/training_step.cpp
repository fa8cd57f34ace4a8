// A training step: micro-batches of forward and backward over the layers, gradient reduction
// overlapping the last backward, Adam on what each rank owns. The last micro-batch is written out
// by itself, because only its backward reduces gradients (ZeRO 0, 1).
#include "sim/schedule/head.h"
#include "sim/schedule/steps.h"

namespace longhaul {

namespace {

class TrainingStep {
 public:
  explicit TrainingStep(const Scenario& scenario)
      : scenario_(scenario),
        build_("training step"),
        block_((build_.program().mesh = mesh_of(scenario), scenario)),
        parameters_(build_, scenario, block_.shapes(), true),
        ends_(scenario, block_, parameters_),
        layers_(scenario.model.layers),
        full_(scenario.plan.recompute == Recompute::full),
        selective_(scenario.plan.recompute == Recompute::selective) {
    const Shapes& shapes = block_.shapes();
    build_.program().attention = {scenario.workload.sequence_length, shapes.ring,
                                  scenario.plan.context.order, scenario.workload.mask};
  }

  Program program() {
    parameters_.zero_gradients();
    const std::int64_t count = scenario_.micro_batches();
    if (count > 1) {
      const LoopId loop = build_.begin_loop("micro-batches", count - 1, true);
      micro_batch(Index::counter(loop), false);
      build_.end_loop(loop);
    }
    micro_batch(Index::of(count - 1), true);
    parameters_.optimize();
    return build_.finish();
  }

 private:
  [[nodiscard]] TensorRef hidden(Index slot) {
    TensorSpec spec = block_.stream_spec();
    spec.slots = layers_ + 1;
    return build_.tensor("hidden", spec, slot);
  }
  // Saved activations: a slot per layer, or one for the layer at hand when all is recomputed.
  [[nodiscard]] std::int64_t saved_slots() const { return full_ ? 1 : layers_; }
  [[nodiscard]] Index saved_slot(Index layer) const { return full_ ? Index::of(0) : layer; }

  void micro_batch(Index slot, bool last);
  void forward_layers();
  void backward_layers(TensorRef d, bool last);

  const Scenario& scenario_;
  ProgramBuilder build_;
  TransformerBlock block_;
  Parameters parameters_;
  ModelEnds ends_;
  std::int64_t layers_;
  bool full_;
  bool selective_;
  LayerState saved_;  ///< where the forward loop left the activations, by layer counter
};

void TrainingStep::micro_batch(Index slot, bool last) {
  parameters_.gather_root();
  build_.part(Part::forward);
  const TensorRef tokens = ends_.ids(build_, "tokens", slot);
  const TensorRef labels = ends_.ids(build_, "labels", slot);
  const TensorRef first = hidden(Index::of(0));
  build_.allocate(first);
  ends_.embed(build_, tokens, first);
  forward_layers();
  parameters_.prepare_root_gradients();
  const TensorRef top = hidden(Index::of(layers_));
  const TensorRef d = ends_.loss_and_back(build_, top, labels);
  build_.release({top});
  backward_layers(d, last);
  build_.part(Part::backward);
  ends_.embed_backward(build_, tokens, d);
  build_.release({d});
  parameters_.reduce_root(last);
}

void TrainingStep::forward_layers() {
  const LoopId loop = build_.begin_loop("layers forward", layers_, true);
  const Index layer = Index::counter(loop);
  const Index turn = Index::counter(loop, 1, 0, 2);
  parameters_.gather_layer(layer, turn);
  const TensorRef output = hidden(Index::counter(loop, 1, 1));
  build_.allocate(output);
  saved_ = block_.forward(build_, parameters_.layer(layer, turn), hidden(layer), output,
                          saved_slots(), saved_slot(layer), layer);
  if (full_) {
    block_.release_state(build_, saved_);
  } else if (selective_) {
    block_.forget_attention(build_, saved_);
  }
  build_.end_loop(loop);
}

// The same tensors at another slot.
LayerState moved(const ProgramBuilder& build, LayerState state, TensorRef input, Index slot) {
  const auto move = [&](TensorRef& ref) {
    if (build.of(ref).slots > 1) {
      ref.slot = slot;
    }
  };
  for (TensorRef* ref :
       {&state.norm_attention, &state.attention.q, &state.attention.k, &state.attention.v,
        &state.attention.o, &state.attention.lse, &state.o, &state.middle, &state.norm_mlp,
        &state.up, &state.activation}) {
    move(*ref);
  }
  state.input = input;
  return state;
}

void TrainingStep::backward_layers(TensorRef d, bool last) {
  const LoopId loop = build_.begin_loop("layers backward", layers_, true);
  const Index layer = Index::counter(loop, -1, layers_ - 1);
  const Index turn = Index::counter(loop, 1, 0, 2);
  parameters_.gather_layer(layer, turn);
  const LayerWeights weights = parameters_.layer(layer, turn);
  const TensorRef input = hidden(layer);
  LayerState state = moved(build_, saved_, input, layer);
  if (full_) {
    build_.part(Part::recompute);
    const TensorRef again = build_.fresh("recomputed_output", block_.stream_spec());
    state = block_.forward(build_, weights, input, again, 1, Index::of(0), layer);
    build_.release({again});
  }
  build_.part(Part::backward);
  parameters_.prepare_layer_gradients(turn);
  block_.backward(build_, weights, state, d, selective_, parameters_.fresh_gradients());
  build_.release({input});
  parameters_.reduce_layer(layer, turn, last);
  build_.end_loop(loop);
}

}  // namespace

Program lower_training_step(const Scenario& scenario) { return TrainingStep(scenario).program(); }

}  // namespace longhaul
