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
// fused projection here, is kept with wq and wv. Of mixtures: see Mixture::drop.
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

// Outputs that are kept although nothing reads them: of the experts' down projections, or (op_sac) of
// the exchange behind them; of the shared experts.
std::vector<TensorRef> Mixture::kept_outputs(ProgramBuilder& build, const TransformerBlock& block,
                                             bool every_second, std::int64_t slots,
                                             const Index& slot) const {
  std::vector<TensorRef> kept;
  TensorSpec rows;
  rows.shape = every_second ? std::vector<std::int64_t>{experts_, rows_, hidden_}
                            : std::vector<std::int64_t>{local_, cut_ * ranks_ * rows_, hidden_};
  rows.type = type_;
  rows.slots = slots;
  if (!every_second || ranks_ > 1) {
    kept.push_back(build.tensor("expert_output_kept", rows, slot));
  }
  if (shares()) {
    TensorSpec shared = block.gathered_spec();
    shared.slots = slots;
    kept.push_back(build.tensor("shared_output_kept", shared, slot));
  }
  return kept;
}

TensorRef Mixture::kept_gate(ProgramBuilder& build, const TransformerBlock& block,
                             std::int64_t slots, const Index& slot) const {
  return build.tensor("shared_gate_kept", shared_spec(block, slots, false), slot);
}

// op_sac counts no router and no grouped product among its matrix products: both run again. What an
// all-to-all brought is kept; without one, tokens are copied to their experts again.
void Mixture::drop(ProgramBuilder& build, const TransformerBlock& block, const MixtureState& state,
                   bool every_second, std::int64_t slots, Index slot) const {
  build.release({state.activation});
  for (const TensorRef& kept : kept_outputs(build, block, every_second, slots, slot)) {
    build.allocate(kept);
  }
  if (every_second) {
    build.release({state.up, state.logits});
  }
  if (every_second && ranks_ == 1) {
    build.release({state.input, state.weights});
  }
  if (!shares()) {
    return;
  }
  build.release({state.shared_activation});
  if (every_second) {
    const TensorRef gate = kept_gate(build, block, slots, slot);
    build.allocate(gate);
    build.compute(Op::copy, "keep the gate", {half_of(state.shared_up, 3, 0)}, {gate}).fused = true;
    build.release({state.shared_up});
  }
}

// What op_sac does not keep, up to the activations.
void Mixture::products_again(ProgramBuilder& build, const TransformerBlock& block,
                             const MixtureWeights& weights, TensorRef x, MixtureState& state,
                             std::int64_t slots, const Index& slot) const {
  build.allocate(state.logits);
  build.gemm("router", x, weights.router.value, state.logits);
  const TensorRef chosen =
      build.fresh("router_weights", token_spec(block, per_token_, DataType::fp32));
  build.compute(Op::route, "choose experts", {state.logits}, {chosen}).route = routing_;
  if (ranks_ == 1) {
    TensorSpec like;
    like.slots = slots;
    const Rows rows = to_experts(build, "expert_input", x, chosen, like, slot);
    state.input = rows.rows;
    state.weights = *rows.weights;
  }
  build.release({chosen});
  build.allocate(state.up);
  build.compute(Op::grouped_gemm, "experts' up projection", {state.input, weights.up.value},
                {state.up});
  if (!shares()) {
    return;
  }
  const TensorRef gate = kept_gate(build, block, slots, slot);
  build.allocate(state.shared_up);
  build.compute(Op::copy, "restore the gate", {gate}, {half_of(state.shared_up, 3, 0)}).fused =
      true;
  const TensorRef tokens = block.gather_tokens(build, "shared_input", x);
  build.gemm("shared experts' up projection", tokens, half_of(weights.shared_up.value, 2, 1),
             half_of(state.shared_up, 3, 1));
  block.drop_gathered(build, tokens, x);
  build.release({gate});
}

void Mixture::restore(ProgramBuilder& build, const TransformerBlock& block,
                      const MixtureWeights& weights, TensorRef x, MixtureState& state,
                      bool every_second, std::int64_t slots, Index slot) const {
  for (const TensorRef& kept : kept_outputs(build, block, every_second, slots, slot)) {
    build.release({kept});
  }
  if (every_second) {
    products_again(build, block, weights, x, state, slots, slot);
  }
  build.allocate(state.activation);
  build.compute(Op::swiglu, "experts' activation", {state.up, state.weights}, {state.activation});
  if (shares()) {
    build.allocate(state.shared_activation);
    build.compute(Op::swiglu, "shared experts' activation", {state.shared_up},
                  {state.shared_activation});
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
  const bool every_second = scenario_.plan.recompute_detail == RecomputeDetail::op_sac;
  build.release({state.norm_mlp, state.norm_attention});
  if (has_latent_attention(scenario_.model)) {
    latent_.drop_norms(build, state.latent);
  }
  if (state.mixture) {
    mixture_.drop(build, *this, state.experts, every_second, slots, slot);
  } else {
    build.release({state.activation});
    release_copies(build, state);
    // The down projection's output is kept, too, though nothing reads it again.
    build.allocate(build.tensor("mlp_output_kept", kept(gathered_spec(), slots), slot));
  }
  if (every_second) {
    build.release({state.middle});
    if (drops_) {
      build.release({state.attention_mask});
    }
    if (scenario_.model.gated_mlp && !state.mixture) {
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
  if (has_latent_attention(scenario_.model)) {
    latent_.restore_norms(build, weights.latent, state.latent);
  }
  if (!state.mixture) {
    build.release({build.tensor("mlp_output_kept", kept(gathered_spec(), slots), slot)});
  }
  if (detail == RecomputeDetail::op_sac) {
    project_output(build, weights, state, slots, slot);
  }
  norm_middle(build, weights, state, slots, slot);
  if (state.mixture) {
    mixture_.restore(build, *this, weights.experts, state.norm_mlp, state.experts,
                     detail == RecomputeDetail::op_sac, slots, slot);
    return;
  }
  if (detail == RecomputeDetail::op_sac && scenario_.model.gated_mlp) {
    restore_up(build, weights, state, slots, slot);
  }
  activate(build, state, slots, slot);
}

}  // namespace longhaul
