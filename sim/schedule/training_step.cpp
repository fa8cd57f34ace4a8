// A training step: micro-batches of forward and backward over the layers, gradient reduction
// overlapping the last backward, Adam on what each rank owns. The last micro-batch is written out
// by itself, because only its backward reduces gradients (ZeRO 0, 1).
#include "sim/schedule/activation_offload.h"
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
        recomputing_(scenario.plan.recompute_layers > 0 ? scenario.plan.recompute_layers
                                                        : scenario.model.layers),
        tied_(scenario.model.tied_embeddings),
        activations_(build_, layers_) {
    build_.program().attention = attention_geometry(scenario);
  }

  Program program() {
    parameters_.gather_updated_weights();
    parameters_.zero_gradients();
    const std::int64_t count = scenario_.micro_batches();
    if (count > 1) {
      const LoopId loop = build_.begin_loop("micro-batches", count - 1, true);
      micro_batch(Index::counter(loop), false);
      build_.end_loop(loop);
    }
    micro_batch(Index::of(count - 1), true);
    parameters_.optimize();
    if (has_ends(scenario_.model)) {  // layers alone are timed without a training loop
      ends_.end_step(build_);
    }
    return build_.finish();
  }

 private:
  [[nodiscard]] TensorRef hidden(Index slot) {
    TensorSpec spec = block_.stream_spec();
    spec.slots = layers_ + 1;
    return build_.tensor("hidden", spec, slot);
  }
  // Saved activations: a slot per layer, or one for the layer at hand when all is recomputed.
  [[nodiscard]] bool saves_nothing() const {
    return block_.keeps_inputs_only() && recomputing_ == layers_;
  }
  // Where they go to host memory, layers take turns: one computes while another's are copied.
  [[nodiscard]] std::int64_t saved_slots() const {
    return saves_nothing() ? 1 : sends_inputs() ? (fetches_ahead() ? 2 : 1) : layers_;
  }
  [[nodiscard]] Index saved_slot(Index layer) const {
    if (saved_slots() == 1) {
      return Index::of(0);
    }
    if (sends_inputs()) {
      layer.modulus = saved_slots();
    }
    return layer;
  }
  [[nodiscard]] SavedKind kind_of(std::int64_t layer) const {
    return {is_expert_layer(scenario_.model, layer), layer < recomputing_};
  }

  // Offload of a layer's input, out while the layer reads it, and of what else it saves, out behind
  // it; both are back in time for its backward pass.
  [[nodiscard]] bool sends_inputs() const {
    return scenario_.plan.offloads(Offload::activations);
  }
  [[nodiscard]] bool fetches_ahead() const {
    return sends_inputs() && !scenario_.stack().synchronous_offload;
  }
  [[nodiscard]] TensorRef input_on_host(Index layer);
  void send_input(Index layer);
  void send_saved(SavedKind kind, const Index& layer);
  void fetch_saved(const Index& layer, SavedKind kind);
  void fetch_for(Index layer, SavedKind kind);
  void micro_batch(Index slot, bool last);
  TensorRef loss_and_back(TensorRef top, Index slot);
  void forward_layer(Index layer, Index turn, bool recomputes);
  void backward_layer(Index layer, Index turn, TensorRef d, bool last, bool recomputes);

  const Scenario& scenario_;
  ProgramBuilder build_;
  TransformerBlock block_;
  Parameters parameters_;
  ModelEnds ends_;
  std::int64_t layers_;
  std::int64_t recomputing_;  ///< layers that recompute: the first ones
  bool tied_;
  /// Of dense layers and of mixtures: where the forward loop left the activations, by layer.
  LayerState saved_[2];
  ActivationOffload activations_;
};

void TrainingStep::micro_batch(Index slot, bool last) {
  if (has_ends(scenario_.model)) {
    ends_.read_batch(build_);
  }
  parameters_.gather_root();
  build_.part(Part::forward);
  const TensorRef first = hidden(Index::of(0));
  build_.allocate(first);
  if (has_ends(scenario_.model)) {
    ends_.embed(build_, ends_.ids(build_, "tokens", slot), first);
  } else {
    ends_.come_in(build_, "x", first, slot);
  }
  const bool drops = block_.drops() && has_ends(scenario_.model);
  const TensorRef mask =
      drops ? build_.fresh("embedding_dropout_mask", block_.mask_spec()) : TensorRef();
  parameters_.each_layer(
      "layers forward", LayerOrder::first_to_last, recomputing_,
      [&](Index layer, Index turn, bool below) { forward_layer(layer, turn, below); });
  const Index only = Index::of(0);
  if (tied_) {
    parameters_.prepare_gradients(Section::bottom, only, only);  // the head adds to the embedding's
  }
  parameters_.prepare_gradients(Section::top, only, only);
  if (fetches_ahead()) {
    fetch_saved(Index::of(layers_ - 1), kind_of(layers_ - 1));
  }
  const TensorRef top = hidden(Index::of(layers_));
  const TensorRef d = loss_and_back(top, slot);
  build_.release({top});
  parameters_.accumulate_gradients(Section::top, only);
  parameters_.reduce_gradients(Section::top, only, only, last);
  parameters_.each_layer(
      "layers backward", LayerOrder::last_to_first, recomputing_,
      [&](Index layer, Index turn, bool below) { backward_layer(layer, turn, d, last, below); });
  build_.part(Part::backward);
  if (drops) {
    build_.release({mask});
  }
  if (!tied_) {
    parameters_.prepare_gradients(Section::bottom, only, only);
  }
  if (has_ends(scenario_.model)) {
    ends_.embed_backward(build_, ends_.ids(build_, "tokens", slot), d);
  } else {
    ends_.go_out(build_, "dx", d, slot);
  }
  build_.release({d});
  parameters_.accumulate_gradients(Section::bottom, only);
  parameters_.reduce_gradients(Section::bottom, only, only, last);
  parameters_.drop_leaf_gradients();
}

// The gradient of the last layer's output, allocated here.
TensorRef TrainingStep::loss_and_back(TensorRef top, Index slot) {
  if (has_ends(scenario_.model)) {
    return ends_.loss_and_back(build_, top, ends_.ids(build_, "labels", slot));
  }
  ends_.go_out(build_, "y", top, slot);
  build_.part(Part::backward);
  const TensorRef d = build_.fresh("d_hidden", block_.stream_spec());
  ends_.come_in(build_, "dy", d, slot);
  return d;
}

void TrainingStep::forward_layer(Index layer, Index turn, bool recomputes) {
  Index above = layer;
  above.constant += 1;
  const TensorRef output = hidden(above);
  if (sends_inputs()) {
    send_input(layer);
  }
  const LayerWeights weights = parameters_.layer(layer, turn);
  LayerState& saved = saved_[weights.mixture ? 1 : 0];
  const bool keeps_nothing = recomputes && block_.keeps_inputs_only();
  activations_.begin();
  saved = block_.forward(build_, weights, hidden(layer), output, saved_slots(), saved_slot(layer),
                         layer, keeps_nothing ? ForwardPass::passes_by : ForwardPass::keeps);
  if (recomputes) {
    block_.drop(build_, saved, saved_slots(), saved_slot(layer));
  }
  if (sends_inputs()) {
    if (!keeps_nothing) {
      send_saved({weights.mixture, recomputes}, layer);
    }
    build_.release({hidden(layer)});
  }
}

TensorRef TrainingStep::input_on_host(Index layer) {
  TensorSpec spec = block_.stream_spec();
  spec.slots = layers_;
  spec.in_host_memory = true;
  return build_.tensor("hidden_on_host", spec, layer);
}

// While the layer reads its input, it is copied out; some stacks do nothing else meanwhile.
void TrainingStep::send_input(Index layer) {
  const TensorRef away = input_on_host(layer);
  build_.allocate(away);
  build_.host_work(Op::to_host, "send layer input", {hidden(layer)}, {away});
  if (scenario_.stack().synchronous_offload) {
    build_.wait_for("wait for the copy", Stream::copy);
  }
}

// What else it left on the GPU.
void TrainingStep::send_saved(SavedKind kind, const Index& layer) {
  activations_.send(kind, hidden(layer).tensor, layer);
  if (scenario_.stack().synchronous_offload) {
    build_.wait_for("wait for the copy", Stream::copy);
  }
}

void TrainingStep::fetch_saved(const Index& layer, SavedKind kind) {
  const TensorRef away = input_on_host(layer);
  build_.allocate(hidden(layer));
  build_.host_work(Op::from_host, "fetch layer input", {away}, {hidden(layer)});
  build_.release({away});
  activations_.fetch(kind, saved_slot(layer), layer);
}

// Before a layer's backward pass: what it saved itself, or the next one down, which comes while
// this one computes. Loops end a layer above the first and have below each the same kind
// (Parameters::each_layer).
void TrainingStep::fetch_for(Index layer, SavedKind kind) {
  build_.part(Part::backward);
  if (!fetches_ahead()) {
    fetch_saved(layer, kind);
  } else if (layer.loop || layer.constant > 0) {
    Index below = layer;
    below.constant -= 1;
    fetch_saved(below, kind_of(below.constant));
  }
}

void TrainingStep::backward_layer(Index layer, Index turn, TensorRef d, bool last,
                                  bool recomputes) {
  const LayerWeights weights = parameters_.layer(layer, turn);
  if (sends_inputs()) {
    fetch_for(layer, {weights.mixture, recomputes});
  }
  const TensorRef input = hidden(layer);
  LayerState state = at_slot(build_, saved_[weights.mixture ? 1 : 0], input, saved_slot(layer));
  if (recomputes) {
    block_.restore(build_, weights, state, saved_slots(), saved_slot(layer), layer);
  }
  build_.part(Part::backward);
  parameters_.prepare_gradients(Section::layers, layer, turn);
  block_.backward(build_, weights, state, d, recomputes, parameters_.fresh_gradients());
  build_.release({input});
  parameters_.accumulate_gradients(Section::layers, layer);
  parameters_.reduce_gradients(Section::layers, layer, turn, last);
}

}  // namespace

Program lower_training_step(const Scenario& scenario) { return TrainingStep(scenario).program(); }

}  // namespace longhaul
