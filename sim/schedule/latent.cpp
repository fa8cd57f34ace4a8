// As Megatron-LM's: what leads to the latent vectors is held by every tensor rank and works on its
// own tokens; what leads from them to the heads is cut by heads and works on all tokens.
#include "sim/schedule/latent.h"

#include "sim/schedule/transformer_block.h"

namespace longhaul {

std::vector<WeightShape> latent_weight_shapes(const Model& model, const Shapes& shapes) {
  const LatentAttention& latent = model.latent;
  const std::int64_t m = model.hidden;
  const std::int64_t down = latent.kv_rank + latent.rope_dim;
  const std::int64_t up = latent.nope_dim + latent.value_dim;
  const std::vector<Shard>& by_heads = shapes.head_shards;
  std::vector<WeightShape> all;
  if (latent.q_rank > 0) {
    all.push_back({"w_q_down", {m, latent.q_rank}, {{}, {}}});
    all.push_back({"norm_q", {latent.q_rank}, {{}}});
  }
  const std::int64_t from = latent.q_rank > 0 ? latent.q_rank : m;
  all.push_back({"w_q_up", {from, shapes.heads, model.head_dim}, {{}, by_heads, {}}});
  all.push_back({"w_kv_down", {m, down}, {{}, {}}});
  all.push_back({"norm_kv", {latent.kv_rank}, {{}}});
  all.push_back({"w_kv_up", {latent.kv_rank, shapes.heads, up}, {{}, by_heads, {}}});
  return all;
}

LatentProjections::LatentProjections(const Scenario& scenario, const Shapes& shapes)
    : shapes_(shapes),
      latent_(scenario.model.latent),
      hidden_(scenario.model.hidden),
      sequence_parallel_(scenario.plan.sequence_parallel && scenario.plan.tensor > 1) {}

TensorSpec LatentProjections::tokens_spec(const TransformerBlock& block, std::int64_t width,
                                          bool gathered) const {
  TensorSpec spec = gathered ? block.gathered_spec() : block.stream_spec();
  spec.shape[2] = width;
  return spec;
}

// The channels of q that are rotated: its last.
TensorRef LatentProjections::positioned(TensorRef q) const {
  return ProgramBuilder::slice(std::move(q), 3, Index::of(latent_.nope_dim), latent_.rope_dim);
}

void LatentProjections::forward(ProgramBuilder& build, const TransformerBlock& block,
                                const LatentWeights& weights, TensorRef x, const QkvTensors& heads,
                                LatentState& state, std::int64_t slots, Index slot) const {
  queries(build, block, weights, x, heads.q, state, slots, slot);
  keys_and_values(build, block, weights, x, heads, state, slots, slot);
}

void LatentProjections::queries(ProgramBuilder& build, const TransformerBlock& block,
                                const LatentWeights& weights, TensorRef x, TensorRef q,
                                LatentState& state, std::int64_t slots, Index slot) const {
  TensorRef latent = x;
  if (latent_.q_rank > 0) {
    TensorSpec spec = tokens_spec(block, latent_.q_rank, false);
    spec.slots = slots;
    state.q_raw = build.fresh("q_latent_raw", spec, slot);
    build.gemm("query down projection", x, weights.q_down.value, state.q_raw);
    state.q_latent = build.fresh("q_latent", spec, slot);
    build.compute(Op::norm, "query latent norm", {state.q_raw, weights.norm_q.value},
                  {state.q_latent});
    latent = state.q_latent;
  }
  const TensorRef tokens = block.gather_tokens(build, "q_latent", latent);
  build.gemm("query up projection", tokens, weights.q_up.value, q);
  block.drop_gathered(build, tokens, latent);
  build.compute(Op::rope, "rotary embedding of q", {positioned(q)}, {positioned(q)});
}

void LatentProjections::keys_and_values(ProgramBuilder& build, const TransformerBlock& block,
                                        const LatentWeights& weights, TensorRef x,
                                        const QkvTensors& heads, LatentState& state,
                                        std::int64_t slots, Index slot) const {
  const std::int64_t width = latent_.kv_rank + latent_.rope_dim;
  const TensorRef joined = build.fresh("kv_joined", tokens_spec(block, width, false));
  build.gemm("key/value down projection", x, weights.kv_down.value, joined);
  TensorSpec spec = tokens_spec(block, latent_.kv_rank, false);
  spec.slots = slots;
  state.kv_raw = build.fresh("kv_latent_raw", spec, slot);
  TensorSpec one_head = tokens_spec(block, 1, false);
  one_head.shape.push_back(latent_.rope_dim);
  one_head.shards.emplace_back();
  const TensorRef position = build.fresh("k_position", one_head);
  build.compute(Op::split_columns, "split latent and position", {joined},
                {state.kv_raw, position});
  build.release({joined});
  state.kv_latent = build.fresh("kv_latent", spec, slot);
  build.compute(Op::norm, "key/value latent norm", {state.kv_raw, weights.norm_kv.value},
                {state.kv_latent});
  const TensorRef tokens = block.gather_tokens(build, "kv_latent", state.kv_latent);
  TensorSpec up = shapes_.heads_spec(shapes_.heads, latent_.nope_dim + latent_.value_dim);
  const TensorRef kv = build.fresh("kv", up);
  build.gemm("key/value up projection", tokens, weights.kv_up.value, kv);
  block.drop_gathered(build, tokens, state.kv_latent);
  const TensorRef rotated = block.gather_tokens(build, "k_position", position);
  build.compute(Op::rope, "rotary embedding of k", {rotated}, {rotated});
  const TensorRef plain =
      build.fresh("k_without_position", shapes_.heads_spec(shapes_.heads, latent_.nope_dim));
  build.compute(Op::split_columns, "split keys and values", {kv}, {plain, heads.v});
  build.release({kv});
  build.compute(Op::join_columns, "join keys and position", {plain, rotated}, {heads.k});
  block.drop_gathered(build, rotated, position);
  build.release({plain, position});
}

void LatentProjections::release(ProgramBuilder& build, const LatentState& state) const {
  build.release({state.kv_raw, state.kv_latent});
  if (latent_.q_rank > 0) {
    build.release({state.q_raw, state.q_latent});
  }
}

void LatentProjections::drop_norms(ProgramBuilder& build, const LatentState& state) const {
  build.release({state.kv_latent});
  if (latent_.q_rank > 0) {
    build.release({state.q_latent});
  }
}

void LatentProjections::restore_norms(ProgramBuilder& build, const LatentWeights& weights,
                                      const LatentState& state) const {
  build.allocate(state.kv_latent);
  build.compute(Op::norm, "key/value latent norm", {state.kv_raw, weights.norm_kv.value},
                {state.kv_latent});
  if (latent_.q_rank > 0) {
    build.allocate(state.q_latent);
    build.compute(Op::norm, "query latent norm", {state.q_raw, weights.norm_q.value},
                  {state.q_latent});
  }
}

TensorRef LatentProjections::backward(ProgramBuilder& build, const TransformerBlock& block,
                                      const LatentWeights& weights, const LatentState& state,
                                      TensorRef x, const QkvTensors& gradients) const {
  const TensorRef d_x = queries_backward(build, block, weights, state, x, gradients.q);
  keys_and_values_backward(build, block, weights, state, x, gradients, d_x);
  release(build, state);
  return d_x;
}

// Gradient of a latent vector from that of what was projected up from it, and the weight's.
TensorRef LatentProjections::through_up(ProgramBuilder& build, const TransformerBlock& block,
                                        const std::string& name, TensorRef latent, TensorRef d,
                                        const Weight& up, std::int64_t width) const {
  const TensorRef partial = build.fresh("d_" + name, tokens_spec(block, width, true));
  const TensorRef tokens = block.gather_tokens(build, name, latent);
  build.gemm(name + " up projection dgrad", d, up.value, partial, false, true);
  const TensorRef d_latent = block.sum_over_tensor(build, "d_" + name, partial);
  build.gemm(name + " up projection wgrad", tokens, d, up.gradient, true, false, !up.fresh);
  block.drop_gathered(build, tokens, latent);
  return d_latent;
}

TensorRef LatentProjections::queries_backward(ProgramBuilder& build, const TransformerBlock& block,
                                              const LatentWeights& weights,
                                              const LatentState& state, TensorRef x,
                                              TensorRef dq) const {
  build.compute(Op::rope_backward, "rotary embedding of dq", {positioned(dq)}, {positioned(dq)});
  if (latent_.q_rank == 0) {
    const TensorRef d_x = through_up(build, block, "q_latent", x, dq, weights.q_up, hidden_);
    build.release({dq});
    return d_x;
  }
  const TensorRef d_latent =
      through_up(build, block, "q_latent", state.q_latent, dq, weights.q_up, latent_.q_rank);
  build.release({dq});
  const TensorRef d_raw =
      build.fresh("d_q_latent_raw", tokens_spec(block, latent_.q_rank, false));
  build.compute(Op::norm_backward, "query latent norm backward",
                {state.q_raw, weights.norm_q.value, d_latent}, {d_raw, weights.norm_q.gradient});
  build.release({d_latent});
  const TensorRef d_x = build.fresh("d_latent_input", block.stream_spec());
  build.gemm("query down projection dgrad", d_raw, weights.q_down.value, d_x, false, true);
  build.gemm("query down projection wgrad", x, d_raw, weights.q_down.gradient, true, false,
             !weights.q_down.fresh);
  build.release({d_raw});
  return d_x;
}

void LatentProjections::keys_and_values_backward(ProgramBuilder& build,
                                                 const TransformerBlock& block,
                                                 const LatentWeights& weights,
                                                 const LatentState& state, TensorRef x,
                                                 const QkvTensors& gradients, TensorRef d_x) const {
  TensorSpec one_head = tokens_spec(block, 1, true);
  one_head.shape.push_back(latent_.rope_dim);
  one_head.shards.emplace_back();
  const TensorRef d_position = build.fresh("d_k_position", one_head);
  const TensorRef d_plain =
      build.fresh("d_k_without_position", shapes_.heads_spec(shapes_.heads, latent_.nope_dim));
  build.compute(Op::split_columns, "split dk and position", {gradients.k}, {d_plain, d_position});
  build.compute(Op::rope_backward, "rotary embedding of dk", {d_position}, {d_position});
  const TensorRef d_kv = build.fresh(
      "d_kv", shapes_.heads_spec(shapes_.heads, latent_.nope_dim + latent_.value_dim));
  build.compute(Op::join_columns, "join dk and dv", {d_plain, gradients.v}, {d_kv});
  build.release({d_plain, gradients.k, gradients.v});
  const TensorRef d_latent = through_up(build, block, "kv_latent", state.kv_latent, d_kv,
                                        weights.kv_up, latent_.kv_rank);
  build.release({d_kv});
  const TensorRef d_mine = block.sum_over_tensor(build, "d_k_position", d_position);
  const TensorRef d_raw =
      build.fresh("d_kv_latent_raw", tokens_spec(block, latent_.kv_rank, false));
  build.compute(Op::norm_backward, "key/value latent norm backward",
                {state.kv_raw, weights.norm_kv.value, d_latent},
                {d_raw, weights.norm_kv.gradient});
  build.release({d_latent});
  const TensorRef d_joined = build.fresh(
      "d_kv_joined", tokens_spec(block, latent_.kv_rank + latent_.rope_dim, false));
  build.compute(Op::join_columns, "join gradients of latent and position", {d_raw, d_mine},
                {d_joined});
  build.release({d_raw, d_mine});
  build.gemm("key/value down projection dgrad", d_joined, weights.kv_down.value, d_x, false, true,
             true);
  build.gemm("key/value down projection wgrad", x, d_joined, weights.kv_down.gradient, true, false,
             !weights.kv_down.fresh);
  build.release({d_joined});
}

}  // namespace longhaul
