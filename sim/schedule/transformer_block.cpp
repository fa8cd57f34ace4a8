#include "sim/schedule/transformer_block.h"

namespace longhaul {

namespace {

const std::vector<Shard> by_tensor{{Axis::tensor, SequenceOrder::contiguous}};
const std::vector<Shard> by_data{{Axis::data, SequenceOrder::contiguous}};

std::vector<Shard> tensor_shards(const Shapes& shapes) {
  return shapes.tensor > 1 ? by_tensor : std::vector<Shard>{};
}

std::vector<WeightShape> attention_weight_shapes(const Model& model, const Shapes& shapes) {
  const std::int64_t m = model.hidden;
  const std::int64_t d = model.head_dim;
  const std::int64_t group = model.heads / model.kv_heads + 2;
  const auto split = tensor_shards(shapes);
  const std::int64_t norm_extra = model.norm == Norm::layer_norm ? m : 0;
  const std::int64_t qkv_bias = model.attention_bias ? (shapes.heads + 2 * shapes.kv_heads) * d : 0;
  std::vector<WeightShape> all{{"norm_attention", {m}, {{}}, norm_extra}};
  if (has_latent_attention(model)) {
    const std::vector<WeightShape> latent = latent_weight_shapes(model, shapes);
    all.insert(all.end(), latent.begin(), latent.end());
  } else {
    all.push_back({"w_qkv",
                   {m, shapes.kv_heads, group, d},
                   {{}, split, {}, {}},
                   qkv_bias + (model.qk_norm ? 2 * d : 0)});
  }
  all.push_back({"w_o", {shapes.heads, shapes.value_dim, m}, {split, {}, {}},
                 model.output_bias ? m : 0});
  all.push_back({"norm_mlp", {m}, {{}}, norm_extra});
  return all;
}

std::vector<WeightShape> mlp_weight_shapes(const Model& model, const Shapes& shapes) {
  const std::int64_t m = model.hidden;
  const std::int64_t f = model.ffn / shapes.tensor;
  const auto split = tensor_shards(shapes);
  const std::int64_t up_width = model.gated_mlp ? 2 : 1;
  std::vector<WeightShape> all{
      model.gated_mlp
          ? WeightShape{"w_gate_up", {m, f, 2}, {{}, split, {}}, model.mlp_bias ? up_width * f : 0}
          : WeightShape{"w_up", {m, f}, {{}, split}, model.mlp_bias ? f : 0},
      {"w_down", {f, m}, {split, {}}, model.mlp_bias ? m : 0},
  };
  for (WeightShape& shape : all) {
    shape.kind = LayerKind::dense;
  }
  return all;
}

}  // namespace

std::vector<WeightShape> layer_weight_shapes(const Scenario& scenario, const Shapes& shapes) {
  std::vector<WeightShape> all = attention_weight_shapes(scenario.model, shapes);
  const std::int64_t mixtures = expert_layers(scenario.model);
  const bool both = mixtures > 0 && mixtures < scenario.model.layers;
  const auto add = [&](const std::vector<WeightShape>& shapes_of_kind) {
    for (WeightShape shape : shapes_of_kind) {
      shape.kind = both ? shape.kind : LayerKind::every;
      all.push_back(std::move(shape));
    }
  };
  if (mixtures < scenario.model.layers) {
    add(mlp_weight_shapes(scenario.model, shapes));
  }
  if (mixtures > 0) {
    add(mixture_weight_shapes(scenario, shapes));
  }
  return all;
}

TransformerBlock::TransformerBlock(const Scenario& scenario)
    : scenario_(scenario),
      shapes_(scenario),
      attention_(scenario, shapes_),
      latent_(scenario, shapes_),
      mixture_(scenario, shapes_),
      sequence_parallel_(scenario.plan.sequence_parallel && scenario.plan.tensor > 1),
      drops_(keeps_dropout_masks(scenario)) {}

TensorSpec TransformerBlock::mask_spec() const {
  TensorSpec spec = stream_spec();
  spec.type = DataType::fp8;  // one byte per element
  return spec;
}

TensorSpec TransformerBlock::gathered_spec() const {
  TensorSpec spec;
  spec.shape = {shapes_.batch, shapes_.tokens, scenario_.model.hidden};
  spec.shards = {by_data, shapes_.token_shards, {}};
  spec.type = shapes_.type;
  return spec;
}

TensorSpec TransformerBlock::stream_spec() const {
  TensorSpec spec = gathered_spec();
  if (sequence_parallel_) {
    spec.shape[1] /= shapes_.tensor;
    spec.shards[1].push_back(by_tensor[0]);
  }
  return spec;
}

TensorSpec TransformerBlock::kept(TensorSpec spec, std::int64_t slots) const {
  spec.slots = slots;
  return spec;
}

TensorSpec TransformerBlock::qkv_spec() const {
  TensorSpec spec = gathered_spec();
  const std::int64_t group = shapes_.heads / shapes_.kv_heads + 2;
  spec.shape = {shapes_.batch, shapes_.tokens, shapes_.kv_heads, group, shapes_.head_dim};
  spec.shards = {by_data, shapes_.token_shards, tensor_shards(shapes_), {}, {}};
  return spec;
}

TensorSpec TransformerBlock::up_spec() const {
  TensorSpec spec = activation_spec();
  if (scenario_.model.gated_mlp) {
    spec.shape.push_back(2);
    spec.shards.emplace_back();
  }
  return spec;
}

TensorSpec TransformerBlock::activation_spec() const {
  TensorSpec spec = gathered_spec();
  spec.shape[2] = scenario_.model.ffn / shapes_.tensor;
  spec.shards[2] = tensor_shards(shapes_);
  return spec;
}

TensorRef TransformerBlock::gather_tokens(ProgramBuilder& build, const std::string& name,
                                          TensorRef x) const {
  if (!sequence_parallel_) {
    return x;
  }
  TensorSpec spec = gathered_spec();
  spec.shape = build.of(x).shape;
  spec.shape[1] *= shapes_.tensor;
  spec.shards.resize(spec.shape.size());
  spec.type = build.of(x).type;
  spec.category = MemoryCategory::communication;
  const TensorRef all = build.fresh(name + "_gathered", spec);
  build
      .collective(Op::all_gather, Stream::tensor, *build.group("tensor", {Axis::tensor}),
                  "gather tokens of " + name, {x}, {all})
      .dim = 1;
  return all;
}

void TransformerBlock::drop_gathered(ProgramBuilder& build, TensorRef gathered, TensorRef x) const {
  if (gathered.tensor != x.tensor) {
    build.release({gathered});
  }
}

TensorRef TransformerBlock::sum_over_tensor(ProgramBuilder& build, const std::string& name,
                                            TensorRef partial) const {
  const auto group = build.group("tensor", {Axis::tensor});
  if (!group) {
    return partial;
  }
  if (!sequence_parallel_) {
    build.collective(Op::all_reduce, Stream::tensor, *group, "sum " + name, {partial}, {partial});
    return partial;
  }
  TensorSpec spec = stream_spec();
  spec.shape = build.of(partial).shape;
  spec.shape[1] /= shapes_.tensor;
  spec.shards.resize(spec.shape.size());
  const TensorRef sum = build.fresh(name + "_sum", spec);
  build
      .collective(Op::reduce_scatter, Stream::tensor, *group, "sum and scatter " + name, {partial},
                  {sum})
      .dim = 1;
  build.release({partial});
  return sum;
}

LayerState TransformerBlock::forward(ProgramBuilder& build, const LayerWeights& weights,
                                     TensorRef input, TensorRef output, std::int64_t slots,
                                     Index slot, Index layer, ForwardPass pass) const {
  LayerState state;
  state.input = input;
  state.mixture = weights.mixture;
  state.given_back = gives_back(pass, state);
  attention_forward(build, weights, state, slots, slot, layer);
  if (state.given_back) {
    release_attention(build, state);
  }
  if (state.mixture) {
    mixture_forward(build, weights, state, output, slots, slot);
  } else {
    mlp_forward(build, weights, state, output, slots, slot);
  }
  return state;
}

// Experts, latent attention, pieces and masks of dropout are given back behind the layer.
bool TransformerBlock::gives_back(ForwardPass pass, const LayerState& state) const {
  return pass == ForwardPass::passes_by && !state.mixture && !attention_.is_chunked() &&
         !tiles() && !drops_ && !has_latent_attention(scenario_.model);
}

void TransformerBlock::attention_forward(ProgramBuilder& build, const LayerWeights& weights,
                                         LayerState& state, std::int64_t slots, Index slot,
                                         Index layer) const {
  if (attention_.is_chunked()) {
    chunked_attention_forward(build, weights, state, slots, slot);
    return;
  }
  norm_input(build, weights, state, slots, slot);
  const auto [q, k, v] = project_heads(build, weights, state, slots, slot);
  const TensorSpec outputs = shapes_.heads_spec(shapes_.heads, shapes_.value_dim);
  state.o = build.fresh("o", kept(outputs, slots), slot);
  state.attention = attention_.forward(build, q, k, v, state.o, slots, slot, layer);
  project_output(build, weights, state, slots, slot);
}

// Whether what the layers' products read stays in fp8 for their weight gradients.
bool TransformerBlock::keeps_fp8() const {
  return scenario_.workload.phase == Phase::train && scenario_.stack().keeps_fp8_inputs &&
         scenario_.precision.compute == DataType::fp8 && !attention_.is_chunked() && !tiles() &&
         !recomputes_parts();
}

// What of x stays behind the product that has read it: x, or what it was cast to. The product pays
// for the cast (docs/models/gemm.md).
TensorRef TransformerBlock::keep_operand(ProgramBuilder& build, const std::string& name,
                                         TensorRef x, std::int64_t slots, Index slot) const {
  if (!keeps_fp8()) {
    return x;
  }
  TensorSpec spec;
  spec.shape = build.of(x).shape;
  spec.shards = build.of(x).shards;
  spec.type = DataType::fp8;
  const TensorRef small = build.fresh(name + "_kept", kept(spec, slots), slot);
  build.compute(Op::copy, "keep " + name, {x}, {small}).fused = true;
  build.release({x});
  return small;
}

void TransformerBlock::norm_input(ProgramBuilder& build, const LayerWeights& weights,
                                  LayerState& state, std::int64_t slots, Index slot) const {
  state.norm_attention = build.fresh("normed_attention", kept(stream_spec(), slots), slot);
  build.compute(Op::norm, "attention norm", {state.input, weights.norm_attention.value},
                {state.norm_attention});
}

// q, k, v of this rank's tokens, rotated.
std::array<TensorRef, 3> TransformerBlock::project_heads(ProgramBuilder& build,
                                                         const LayerWeights& weights,
                                                         LayerState& state, std::int64_t slots,
                                                         Index slot) const {
  const std::int64_t own_slots = attention_.exchanges() ? 1 : slots;
  const Index own_slot = attention_.exchanges() ? Index::of(0) : slot;
  const TensorRef q =
      build.fresh("q", kept(shapes_.heads_spec(shapes_.heads), own_slots), own_slot);
  const TensorRef k =
      build.fresh("k", kept(shapes_.heads_spec(shapes_.kv_heads), own_slots), own_slot);
  const TensorSpec values = shapes_.heads_spec(shapes_.kv_heads, shapes_.value_dim);
  const TensorRef v = build.fresh("v", kept(values, own_slots), own_slot);
  qkv_forward(build, weights, state, {q, k, v}, slots, slot);
  state.norm_attention =
      keep_operand(build, "normed_attention", state.norm_attention, slots, slot);
  return {q, k, v};
}

// From o to the residual stream after attention.
void TransformerBlock::project_output(ProgramBuilder& build, const LayerWeights& weights,
                                      LayerState& state, std::int64_t slots, Index slot) const {
  const TensorRef sum = multiply_and_sum(build, "attention_output", "output projection", state.o,
                                         weights.output.value, true);
  if (drops_) {
    state.attention_mask = build.fresh("attention_dropout_mask", kept(mask_spec(), slots), slot);
  }
  state.middle = build.fresh("middle", kept(stream_spec(), slots), slot);
  build.compute(Op::add, "attention residual", {state.input, sum}, {state.middle});
  build.release({sum});
}

// q, k, v, rotated, from the normed input.
void TransformerBlock::qkv_forward(ProgramBuilder& build, const LayerWeights& weights,
                                   LayerState& state, const QkvTensors& heads, std::int64_t slots,
                                   Index slot) const {
  if (has_latent_attention(scenario_.model)) {
    latent_.forward(build, *this, weights.latent, state.norm_attention, heads, state.latent, slots,
                    slot);
    return;
  }
  const TensorRef qkv = build.fresh("qkv", qkv_spec());
  const bool keeps = keeps_gathered(build);
  const TensorRef tokens =
      multiply_gathered(build, {"normed_attention", "qkv projection", state.norm_attention,
                                weights.qkv.value, qkv, false, true}, keeps);
  if (keeps) {
    state.tokens_attention = tokens;
  }
  build.compute(Op::split_qkv, "split q, k, v", {qkv}, {heads.q, heads.k, heads.v});
  build.release({qkv});
  if (scenario_.model.positions == PositionEmbedding::rope) {
    build.compute(Op::rope, "rotary embedding of q", {heads.q}, {heads.q});
    build.compute(Op::rope, "rotary embedding of k", {heads.k}, {heads.k});
  }
}

// A product of the projections around attention; some stacks quantise the MLP's alone.
void TransformerBlock::attention_gemm(ProgramBuilder& build, const std::string& label, TensorRef a,
                                      TensorRef b, TensorRef c, bool transpose_a,
                                      bool transpose_b, bool accumulate) const {
  build.gemm(label, a, b, c, transpose_a, transpose_b, accumulate).full_precision =
      scenario_.stack().fp8_mlp_only;
}

void TransformerBlock::mlp_forward(ProgramBuilder& build, const LayerWeights& weights,
                                   LayerState& state, TensorRef output, std::int64_t slots,
                                   Index slot) const {
  norm_middle(build, weights, state, slots, slot);
  TensorRef sum;
  if (tiles()) {
    const TensorRef tokens = gather_operand(build, "normed_mlp", state.norm_mlp);
    hold_copies(build, state, slots, slot);
    const TensorRef partial = build.fresh("mlp_output", gathered_spec());
    tiled_forward(build, weights, tokens, partial);
    drop_gathered(build, tokens, state.norm_mlp);
    sum = sum_over_tensor(build, "mlp_output", partial);
  } else {
    state.up = build.fresh("mlp_up", kept(up_spec(), slots), slot);
    const bool keeps = keeps_gathered(build);
    const TensorRef tokens = multiply_gathered(
        build, {"normed_mlp", "up projection", state.norm_mlp, weights.up.value, state.up}, keeps);
    if (keeps) {
      state.tokens_mlp = tokens;
    }
    state.norm_mlp = keep_operand(build, "normed_mlp", state.norm_mlp, slots, slot);
    activate(build, state, slots, slot);
    if (state.given_back) {
      build.release({state.up});
      release_copies(build, state);
    }
    sum = multiply_and_sum(build, "mlp_output", "down projection", state.activation,
                           weights.down.value);
    state.activation = keep_operand(build, "mlp_activation", state.activation, slots, slot);
  }
  if (state.given_back) {
    build.release({state.activation, state.norm_mlp});
  }
  if (drops_) {
    state.mlp_mask = build.fresh("mlp_dropout_mask", kept(mask_spec(), slots), slot);
  }
  build.allocate(output);
  build.compute(Op::add, "mlp residual", {state.middle, sum}, {output});
  build.release({sum});
  if (state.given_back) {
    build.release({state.middle});
  }
}

void TransformerBlock::mixture_forward(ProgramBuilder& build, const LayerWeights& weights,
                                       LayerState& state, TensorRef output, std::int64_t slots,
                                       Index slot) const {
  norm_middle(build, weights, state, slots, slot);
  const TensorRef sum = mixture_.forward(build, *this, weights.experts, state.norm_mlp,
                                         state.experts, slots, slot);
  if (drops_) {
    state.mlp_mask = build.fresh("mlp_dropout_mask", kept(mask_spec(), slots), slot);
  }
  build.allocate(output);
  build.compute(Op::add, "mlp residual", {state.middle, sum}, {output});
  build.release({sum});
}

void TransformerBlock::norm_middle(ProgramBuilder& build, const LayerWeights& weights,
                                   LayerState& state, std::int64_t slots, Index slot) const {
  state.norm_mlp = build.fresh("normed_mlp", kept(stream_spec(), slots), slot);
  build.compute(Op::norm, "mlp norm", {state.middle, weights.norm_mlp.value}, {state.norm_mlp});
}

void TransformerBlock::activate(ProgramBuilder& build, LayerState& state, std::int64_t slots,
                                Index slot) const {
  state.activation = build.fresh("mlp_activation", kept(activation_spec(), slots), slot);
  hold_copies(build, state, slots, slot);
  build.compute(scenario_.model.gated_mlp ? Op::swiglu : Op::gelu, "mlp activation", {state.up},
                {state.activation});
}

// Tensors of these elements of the compute type per token: silu of the gate; of both norms as many
// copies as the stack makes, of which fp32 ones count as two.
std::vector<std::int64_t> TransformerBlock::copied_widths() const {
  const SoftwareProfile& stack = scenario_.stack();
  const Model& model = scenario_.model;
  std::vector<std::int64_t> widths;
  if (scenario_.workload.phase != Phase::train || has_latent_attention(model)) {
    return widths;
  }
  if (stack.keeps_silu && model.gated_mlp && !tiles()) {
    widths.push_back(model.ffn / shapes_.tensor);
  }
  const std::int64_t hidden = sequence_parallel_ ? model.hidden / shapes_.tensor : model.hidden;
  for (int norm = 0; norm < 2; ++norm) {
    widths.insert(widths.end(), static_cast<std::size_t>(stack.norm_copies / 2), 2 * hidden);
    widths.insert(widths.end(), static_cast<std::size_t>(stack.norm_copies % 2), hidden);
  }
  return widths;
}

void TransformerBlock::hold_copies(ProgramBuilder& build, LayerState& state, std::int64_t slots,
                                   Index slot) const {
  state.copies.clear();
  for (const std::int64_t width : copied_widths()) {
    TensorSpec spec = gathered_spec();
    spec.shape[2] = width;
    const std::string name = "copy_of_operator_" + std::to_string(state.copies.size());
    state.copies.push_back(build.fresh(name, kept(spec, slots), slot));
  }
  state.joined.clear();
  if (joins_weights()) {
    const Model& model = scenario_.model;
    const std::int64_t heads = (model.heads + 2 * model.kv_heads) * model.head_dim;
    const std::int64_t up = (model.gated_mlp ? 2 : 1) * model.ffn;
    for (const std::int64_t width : {heads, up}) {
      TensorSpec joined;
      joined.shape = {model.hidden, width / shapes_.tensor};
      joined.type = shapes_.type;
      const std::string name = "joined_weights_" + std::to_string(state.joined.size());
      state.joined.push_back(build.fresh(name, kept(joined, slots), slot));
    }
  }
}

// Weights of q, k, v and of the up projection, which tensor ranks of some stacks store apart and
// join for each product; autograd keeps its operands, so the joined ones stay until backward.
bool TransformerBlock::joins_weights() const {
  return scenario_.stack().joins_weights && shapes_.tensor > 1 && !tiles() &&
         scenario_.workload.phase == Phase::train && !has_latent_attention(scenario_.model);
}

void TransformerBlock::release_copies(ProgramBuilder& build, const LayerState& state) const {
  for (const auto* refs : {&state.copies, &state.joined}) {
    for (const TensorRef& ref : *refs) {
      build.release({ref});
    }
  }
}

// What the MLP or the mixture keeps behind its norm, and latent attention before its heads.
void TransformerBlock::release_mlp(ProgramBuilder& build, const LayerState& state) const {
  if (state.mixture) {
    mixture_.release(build, state.experts);
  } else if (!tiles()) {
    build.release({state.activation, state.up});
  }
  if (!state.mixture) {
    release_copies(build, state);
  }
  if (has_latent_attention(scenario_.model)) {
    latent_.release(build, state.latent);
  }
}

void TransformerBlock::release_state(ProgramBuilder& build, const LayerState& state) const {
  if (state.given_back) {
    return;
  }
  release_mlp(build, state);
  if (drops_) {
    build.release({state.mlp_mask, state.attention_mask});
  }
  if (attention_.is_chunked()) {
    build.release({state.norm_mlp, state.middle, state.o});
    release_chunked(build, state);
    return;
  }
  build.release({state.norm_mlp, state.middle});
  release_attention(build, state);
}

// What the attention half keeps, without chunks.
void TransformerBlock::release_attention(ProgramBuilder& build, const LayerState& state) const {
  build.release({state.attention.lse, state.attention.q, state.attention.k, state.attention.v,
                 state.o, state.norm_attention});
  attention_.drop_scores(build, state.attention);
  if (attention_.exchanges()) {
    build.release({state.attention.o});
  }
}

void TransformerBlock::backward(ProgramBuilder& build, const LayerWeights& weights,
                                const LayerState& state, TensorRef d, bool recomputed,
                                bool fresh_gradients) const {
  if (drops_) {
    build.release({state.mlp_mask});
  }
  if (state.mixture) {
    mixture_backward(build, weights, state, d);
  } else {
    tiles() ? tiled_backward(build, weights, state, d, fresh_gradients)
            : mlp_backward(build, weights, state, d, fresh_gradients);
  }
  if (drops_) {
    build.release({state.attention_mask});
  }
  if (attention_.is_chunked()) {
    chunked_attention_backward(build, weights, state, d, fresh_gradients);
    return;
  }
  const bool attends_again =
      recomputed && scenario_.plan.recompute == Recompute::selective && !recomputes_parts();
  attention_backward(build, weights, state, d, attends_again, fresh_gradients);
}

// From the gradient of the activation, which it gives back together with `up`, to that of `up`.
TensorRef TransformerBlock::activation_backward(ProgramBuilder& build, TensorRef up,
                                                TensorRef d_activation, const std::string& name,
                                                const TensorSpec& spec) const {
  const bool in_place = scenario_.stack().mlp_gradient_in_place;
  const TensorRef d_up = in_place ? up : build.fresh(name, spec);
  build.compute(scenario_.model.gated_mlp ? Op::swiglu_backward : Op::gelu_backward,
                "mlp activation backward", {up, d_activation}, {d_up});
  build.release({d_activation});
  if (!in_place) {
    build.release({up});
  }
  return d_up;
}

void TransformerBlock::mlp_backward(ProgramBuilder& build, const LayerWeights& weights,
                                    const LayerState& state, TensorRef d, bool fresh) const {
  const TensorRef d_activation = build.fresh("d_mlp_activation", activation_spec());
  const TensorRef d_all = multiply_gathered(
      build, {"d_mlp", "down projection dgrad", d, weights.down.value, d_activation, true}, true);
  build.gemm("down projection wgrad", state.activation, d_all, weights.down.gradient, true, false,
             !fresh);
  drop_gathered(build, d_all, d);
  build.release({state.activation});
  const TensorRef d_up = activation_backward(build, state.up, d_activation, "d_mlp_up", up_spec());
  release_copies(build, state);
  const TensorRef partial = build.fresh("d_normed_mlp", gathered_spec());
  // The input is gathered again, for wgrad, while dgrad runs; dgrad's sum travels during wgrad.
  const TensorRef tokens = gather_again(build, "normed_mlp", state.norm_mlp, state.tokens_mlp);
  build.gemm("up projection dgrad", d_up, weights.up.value, partial, false, true);
  const TensorRef d_norm = sum_gradient(build, "d_normed_mlp", partial);
  build.gemm("up projection wgrad", tokens, d_up, weights.up.gradient, true, false, !fresh);
  drop_gathered(build, tokens, state.norm_mlp);
  build.release({d_up, state.norm_mlp});
  norm_middle_backward(build, weights, state, d_norm, d);
}

void TransformerBlock::mixture_backward(ProgramBuilder& build, const LayerWeights& weights,
                                        const LayerState& state, TensorRef d) const {
  const TensorRef d_norm =
      mixture_.backward(build, *this, weights.experts, state.experts, state.norm_mlp, d);
  build.release({state.norm_mlp});
  norm_middle_backward(build, weights, state, d_norm, d);
}

void TransformerBlock::norm_middle_backward(ProgramBuilder& build, const LayerWeights& weights,
                                            const LayerState& state, TensorRef d_norm,
                                            TensorRef d) const {
  build
      .compute(Op::norm_backward, "mlp norm backward",
               {state.middle, weights.norm_mlp.value, d_norm}, {d, weights.norm_mlp.gradient})
      .accumulate = true;
  build.release({d_norm, state.middle});
}

// From the gradient of o to those of q, k and v.
QkvTensors TransformerBlock::heads_backward(ProgramBuilder& build, const LayerState& state,
                                            TensorRef d_o) const {
  const TensorRef dq = build.fresh("dq", shapes_.heads_spec(shapes_.heads));
  const TensorRef dk = build.fresh("dk", shapes_.heads_spec(shapes_.kv_heads));
  const TensorRef dv =
      build.fresh("dv", shapes_.heads_spec(shapes_.kv_heads, shapes_.value_dim));
  attention_.backward(build, state.attention, d_o, dq, dk, dv);
  build.release(
      {d_o, state.attention.q, state.attention.k, state.attention.v, state.attention.lse});
  attention_.drop_scores(build, state.attention);
  if (attention_.exchanges()) {
    build.release({state.attention.o});
  }
  return {dq, dk, dv};
}

// Those of q, k and v, rotated back and joined in d_qkv, which is allocated here.
void TransformerBlock::join_gradients(ProgramBuilder& build, const QkvTensors& gradients,
                                      TensorRef d_qkv) const {
  if (scenario_.model.positions == PositionEmbedding::rope) {
    build.compute(Op::rope_backward, "rotary embedding of dq", {gradients.q}, {gradients.q});
    build.compute(Op::rope_backward, "rotary embedding of dk", {gradients.k}, {gradients.k});
  }
  build.allocate(d_qkv);
  build.compute(Op::merge_qkv, "join dq, dk, dv", {gradients.q, gradients.k, gradients.v},
                {d_qkv});
  build.release({gradients.q, gradients.k, gradients.v});
}

// From these, which it gives back, to that of the normed input, in the residual stream's layout.
TensorRef TransformerBlock::qkv_backward(ProgramBuilder& build, const LayerWeights& weights,
                                         const LayerState& state, const QkvTensors& gradients,
                                         bool fresh) const {
  if (has_latent_attention(scenario_.model)) {
    return latent_.backward(build, *this, weights.latent, state.latent, state.norm_attention,
                            gradients);
  }
  const TensorRef d_qkv = build.tensor("d_qkv", qkv_spec());
  join_gradients(build, gradients, d_qkv);
  const TensorRef partial = build.fresh("d_normed_attention", gathered_spec());
  const TensorRef tokens =
      gather_again(build, "normed_attention", state.norm_attention, state.tokens_attention);
  attention_gemm(build, "qkv projection dgrad", d_qkv, weights.qkv.value, partial, false, true);
  const TensorRef d_norm = sum_gradient(build, "d_normed_attention", partial);
  attention_gemm(build, "qkv projection wgrad", tokens, d_qkv, weights.qkv.gradient, true, false,
                 !fresh);
  drop_gathered(build, tokens, state.norm_attention);
  build.release({d_qkv});
  return d_norm;
}

void TransformerBlock::attention_backward(ProgramBuilder& build, const LayerWeights& weights,
                                          const LayerState& state, TensorRef d, bool attends_again,
                                          bool fresh) const {
  if (attends_again) {
    const Part before = build.part();
    build.part(Part::recompute);
    attention_.recompute(build, state.attention);
    build.part(before);
  }
  const TensorRef d_o = output_backward(build, weights, state, d, fresh);
  const QkvTensors gradients = heads_backward(build, state, d_o);
  build.release({state.o});
  const TensorRef d_norm = qkv_backward(build, weights, state, gradients, fresh);
  build.release({state.norm_attention});
  norm_input_backward(build, weights, state, d_norm, d);
}

// From the gradient of the attention half's output to that of o, allocated here.
TensorRef TransformerBlock::output_backward(ProgramBuilder& build, const LayerWeights& weights,
                                            const LayerState& state, TensorRef d,
                                            bool fresh) const {
  const TensorRef d_o =
      build.fresh("d_o", shapes_.heads_spec(shapes_.heads, shapes_.value_dim));
  const TensorRef d_all = multiply_gathered(
      build,
      {"d_attention", "output projection dgrad", d, weights.output.value, d_o, true, true}, true);
  attention_gemm(build, "output projection wgrad", state.o, d_all, weights.output.gradient, true,
                 false, !fresh);
  drop_gathered(build, d_all, d);
  return d_o;
}

void TransformerBlock::norm_input_backward(ProgramBuilder& build, const LayerWeights& weights,
                                           const LayerState& state, TensorRef d_norm,
                                           TensorRef d) const {
  build
      .compute(Op::norm_backward, "attention norm backward",
               {state.input, weights.norm_attention.value, d_norm},
               {d, weights.norm_attention.gradient})
      .accumulate = true;
  build.release({d_norm});
}

LayerState at_slot(const ProgramBuilder& build, LayerState state, TensorRef input, Index slot) {
  const auto move = [&](TensorRef& ref) {
    if (build.of(ref).slots > 1) {
      ref.slot = slot;
    }
  };
  for (TensorRef* ref : {&state.norm_attention, &state.attention.q, &state.attention.k,
                         &state.attention.v, &state.attention.o, &state.attention.lse, &state.o,
                         &state.middle, &state.norm_mlp, &state.up, &state.activation,
                         &state.attention_mask, &state.mlp_mask, &state.experts.logits,
                         &state.latent.q_raw, &state.latent.q_latent, &state.latent.kv_raw,
                         &state.latent.kv_latent,
                         &state.experts.input, &state.experts.weights, &state.experts.up,
                         &state.experts.activation, &state.experts.shared_up,
                         &state.experts.shared_activation}) {
    move(*ref);
  }
  for (auto* refs : {&state.attention.scores, &state.copies, &state.joined}) {
    for (TensorRef& ref : *refs) {
      move(ref);
    }
  }
  state.input = input;
  return state;
}

}  // namespace longhaul
