// Recompute: which activations of a layer are kept, and how the others are made again. Parts of a
// layer are what Plan::recompute_detail says.
//
// keep_attention_output (DistFlashAttn, arXiv 2310.03294, section 3.3; BurstEngine): attention's
// output and statistics stay; the rest of the layer runs again, to its end.
// keep_attention_output_part (BurstEngine, arXiv 2509.19836, sequence-level selective
// checkpointing): of these two only those of the later half of the tokens, whose causal attention
// costs three times as much; the first half attends again, among itself.
// keep_linear_outputs: outputs of matrix products and of attention stay; norms and the MLP's
// activation run again.
// op_sac (torchtitan's selective checkpointing by operator): the same, but every second matrix
// product runs again. Of wq, wk, wv, wo, w1, w3, w2 these are wk, wo and w3; wk, a part of the
// fused projection here, is kept with wq and wv.
#include "sim/schedule/transformer_block.h"

namespace longhaul {

namespace {

// Of an up projection of a gated MLP, [.., f, 2]: the gate (0) or the factor (1).
TensorRef half_of(TensorRef up, int dim, std::int64_t which) {
  return ProgramBuilder::slice(std::move(up), dim, Index::of(which), 1);
}

}  // namespace

// True if attention's output stays, at least in part, and all the rest runs again.
bool TransformerBlock::keeps_attention_output() const {
  const RecomputeDetail detail = scenario_.plan.recompute_detail;
  return detail == RecomputeDetail::keep_attention_output ||
         detail == RecomputeDetail::keep_attention_output_part;
}

bool TransformerBlock::recomputes_parts() const {
  const RecomputeDetail detail = scenario_.plan.recompute_detail;
  return detail != RecomputeDetail::standard && detail != RecomputeDetail::attention_core;
}

bool TransformerBlock::keeps_inputs_only() const {
  return scenario_.plan.recompute == Recompute::full && !recomputes_parts();
}

void TransformerBlock::drop(ProgramBuilder& build, const LayerState& state, std::int64_t slots,
                            Index slot) const {
  if (recomputes_parts()) {
    drop_details(build, state, slots, slot);
  } else if (keeps_inputs_only()) {
    release_state(build, state);
  } else if (scenario_.plan.recompute == Recompute::selective) {
    attention_.forget(build, state.attention);
  }
}

void TransformerBlock::restore(ProgramBuilder& build, const LayerWeights& weights,
                               LayerState& state, std::int64_t slots, Index slot,
                               Index layer) const {
  build.part(Part::recompute);
  if (recomputes_parts()) {
    restore_details(build, weights, state, slots, slot);
  } else if (keeps_inputs_only()) {
    const TensorRef again = build.tensor("recomputed_output", stream_spec());
    state = forward(build, weights, state.input, again, slots, slot, layer);
    build.release({again});
  }
}

// The half of the up projection that op_sac keeps.
TensorRef TransformerBlock::kept_half(ProgramBuilder& build, std::int64_t slots, Index slot) const {
  return build.tensor("mlp_gate_kept", kept(activation_spec(), slots), slot);
}

void TransformerBlock::drop_all_but_attention(ProgramBuilder& build, const LayerState& state,
                                              std::int64_t slots, Index slot) const {
  release_mlp(build, state);
  build.release({state.norm_mlp, state.norm_attention});
  if (scenario_.plan.recompute_detail == RecomputeDetail::keep_attention_output_part) {
    attention_.keep_later_half(build, state.attention, state.o, slots, slot);
  }
  build.release({state.middle, state.attention.q, state.attention.k, state.attention.v});
  if (drops_) {
    build.release({state.mlp_mask, state.attention_mask});
  }
}

void TransformerBlock::drop_details(ProgramBuilder& build, const LayerState& state,
                                    std::int64_t slots, Index slot) const {
  if (keeps_attention_output()) {
    drop_all_but_attention(build, state, slots, slot);
    return;
  }
  const RecomputeDetail detail = scenario_.plan.recompute_detail;
  build.release({state.activation, state.norm_mlp, state.norm_attention});
  release_copies(build, state);
  // The down projection's output is kept, too, though nothing reads it again.
  build.allocate(build.tensor("mlp_output_kept", kept(gathered_spec(), slots), slot));
  if (detail == RecomputeDetail::op_sac) {
    build.release({state.middle});
    if (drops_) {
      build.release({state.attention_mask});
    }
    if (scenario_.model.gated_mlp) {
      const TensorRef half = kept_half(build, slots, slot);
      build.allocate(half);
      build.compute(Op::copy, "keep the gate", {half_of(state.up, 3, 0)}, {half}).fused = true;
      build.release({state.up});
    }
  }
}

// The gate comes from what was kept, the factor from its matrix product.
void TransformerBlock::restore_up(ProgramBuilder& build, const LayerWeights& weights,
                                  LayerState& state, std::int64_t slots, Index slot) const {
  const TensorRef half = kept_half(build, slots, slot);
  build.allocate(state.up);
  build.compute(Op::copy, "restore the gate", {half}, {half_of(state.up, 3, 0)}).fused = true;
  const TensorRef tokens = gather_operand(build, "normed_mlp", state.norm_mlp);
  build.gemm("up projection", tokens, half_of(weights.up.value, 2, 1), half_of(state.up, 3, 1));
  if (keeps_gathered(build)) {
    state.tokens_mlp = tokens;
  } else {
    drop_gathered(build, tokens, state.norm_mlp);
  }
  build.release({half});
}

void TransformerBlock::restore_details(ProgramBuilder& build, const LayerWeights& weights,
                                       LayerState& state, std::int64_t slots, Index slot) const {
  const RecomputeDetail detail = scenario_.plan.recompute_detail;
  norm_input(build, weights, state, slots, slot);
  if (keeps_attention_output()) {
    const auto [q, k, v] = project_heads(build, weights, state, slots, slot);
    static_cast<void>(attention_.exchange_in(build, q, k, v, slots, slot));
    if (detail == RecomputeDetail::keep_attention_output_part) {
      attention_.restore_first_half(build, state.attention, state.o, slots, slot);
    }
    project_output(build, weights, state, slots, slot);
    const TensorRef again = build.tensor("recomputed_output", stream_spec());
    if (state.mixture) {
      mixture_forward(build, weights, state, again, slots, slot);
    } else {
      mlp_forward(build, weights, state, again, slots, slot);
    }
    build.release({again});
    return;
  }
  build.release({build.tensor("mlp_output_kept", kept(gathered_spec(), slots), slot)});
  if (detail == RecomputeDetail::op_sac) {
    project_output(build, weights, state, slots, slot);
  }
  norm_middle(build, weights, state, slots, slot);
  if (detail == RecomputeDetail::op_sac && scenario_.model.gated_mlp) {
    restore_up(build, weights, state, slots, slot);
  }
  activate(build, state, slots, slot);
}

}  // namespace longhaul
