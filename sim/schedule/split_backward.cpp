// A layer's backward pass in two: gradients of inputs first, weight gradients whenever there is time for
// them, as the zero-bubble fork of Megatron-LM does in its linear layers (tensor_parallel/layers.py,
// WeightGradStore). docs/models/pipeline.md.
#include "sim/schedule/transformer_block.h"

namespace longhaul {

// The tensors alone: input_gradients() allocates them, weight_gradients() gives them back.
TransformerBlock::HeldGradients TransformerBlock::held_gradients(ProgramBuilder& build,
                                                                 const LayerState& state,
                                                                 std::int64_t slots,
                                                                 Index slot) const {
  HeldGradients held;
  held.output = build.tensor("d_mlp_output_held", kept(gathered_spec(), slots), slot);
  held.up = scenario_.stack().mlp_gradient_in_place
                ? state.up
                : build.tensor("d_mlp_up", kept(up_spec(), slots), slot);
  held.attention = build.tensor("d_attention_output_held", kept(gathered_spec(), slots), slot);
  held.qkv = build.tensor("d_qkv", kept(qkv_spec(), slots), slot);
  return held;
}

// All tokens of d as it is now. Autograd makes a new tensor where this schedule goes on writing d, and
// keeps the old one, so the copy takes memory but no time.
void TransformerBlock::hold_tokens(ProgramBuilder& build, const std::string& name, TensorRef d,
                                   TensorRef held) const {
  build.allocate(held);
  if (!sequence_parallel_) {
    build.compute(Op::copy, "hold " + name, {d}, {held}).fused = true;
    return;
  }
  build
      .collective(Op::all_gather, Stream::tensor, *build.group("tensor", {Axis::tensor}),
                  "gather tokens of " + name, {d}, {held})
      .dim = 1;
}

void TransformerBlock::mlp_input_gradient(ProgramBuilder& build, const LayerWeights& weights,
                                          const LayerState& state, const HeldGradients& held,
                                          TensorRef d) const {
  hold_tokens(build, "d_mlp", d, held.output);
  const TensorRef d_activation = build.fresh("d_mlp_activation", activation_spec());
  build.gemm("down projection dgrad", held.output, weights.down.value, d_activation, false, true);
  const bool in_place = held.up.tensor == state.up.tensor;
  if (!in_place) {
    build.allocate(held.up);
  }
  build.compute(scenario_.model.gated_mlp ? Op::swiglu_backward : Op::gelu_backward,
                "mlp activation backward", {state.up, d_activation}, {held.up});
  build.release({d_activation});
  if (!in_place) {
    build.release({state.up});
  }
  release_copies(build, state);
  const TensorRef partial = build.fresh("d_normed_mlp", gathered_spec());
  build.gemm("up projection dgrad", held.up, weights.up.value, partial, false, true);
  const TensorRef d_norm = sum_gradient(build, "d_normed_mlp", partial);
  norm_middle_backward(build, weights, state, d_norm, d);
}

void TransformerBlock::attention_input_gradient(ProgramBuilder& build, const LayerWeights& weights,
                                                const LayerState& state,
                                                const HeldGradients& held, TensorRef d) const {
  hold_tokens(build, "d_attention", d, held.attention);
  const TensorRef d_o = build.fresh("d_o", shapes_.heads_spec(shapes_.heads, shapes_.value_dim));
  attention_gemm(build, "output projection dgrad", held.attention, weights.output.value, d_o, false,
                 true);
  const QkvTensors gradients = heads_backward(build, state, d_o);
  join_gradients(build, gradients, held.qkv);
  const TensorRef partial = build.fresh("d_normed_attention", gathered_spec());
  attention_gemm(build, "qkv projection dgrad", held.qkv, weights.qkv.value, partial, false, true);
  const TensorRef d_norm = sum_gradient(build, "d_normed_attention", partial);
  norm_input_backward(build, weights, state, d_norm, d);
}

void TransformerBlock::input_gradients(ProgramBuilder& build, const LayerWeights& weights,
                                       const LayerState& state, TensorRef d, bool recomputed,
                                       std::int64_t slots, Index slot) const {
  const HeldGradients held = held_gradients(build, state, slots, slot);
  if (drops_) {
    build.release({state.mlp_mask});
  }
  mlp_input_gradient(build, weights, state, held, d);
  if (drops_) {
    build.release({state.attention_mask});
  }
  if (recomputed) {
    const Part before = build.part();
    build.part(Part::recompute);
    attention_.recompute(build, state.attention);
    build.part(before);
  }
  attention_input_gradient(build, weights, state, held, d);
}

// In the order in which the backward pass came to them. Gathered tokens are waited for: the fork's
// store gathers synchronously.
void TransformerBlock::weight_gradients(ProgramBuilder& build, const LayerWeights& weights,
                                        const LayerState& state, std::int64_t slots,
                                        Index slot) const {
  const HeldGradients held = held_gradients(build, state, slots, slot);
  build.gemm("down projection wgrad", state.activation, held.output, weights.down.gradient, true,
             false, true);
  build.release({state.activation, held.output});
  const TensorRef mlp = gather_tokens(build, "normed_mlp", state.norm_mlp);
  build.gemm("up projection wgrad", mlp, held.up, weights.up.gradient, true, false, true);
  drop_gathered(build, mlp, state.norm_mlp);
  build.release({held.up, state.norm_mlp});
  attention_gemm(build, "output projection wgrad", state.o, held.attention,
                 weights.output.gradient, true, false, true);
  build.release({state.o, held.attention});
  const TensorRef attention = gather_tokens(build, "normed_attention", state.norm_attention);
  attention_gemm(build, "qkv projection wgrad", attention, held.qkv, weights.qkv.gradient, true,
                 false, true);
  drop_gathered(build, attention, state.norm_attention);
  build.release({held.qkv, state.norm_attention});
}

}  // namespace longhaul
