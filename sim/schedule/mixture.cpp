#include "sim/schedule/mixture.h"

#include "sim/scenario/deepep.h"
#include "sim/scenario/rank_order.h"
#include "sim/schedule/transformer_block.h"
#include "sim/units/check.h"

namespace longhaul {

namespace {

std::vector<Shard> over(Axis axis, std::int64_t ranks) {
  return ranks > 1 ? std::vector<Shard>{{axis, SequenceOrder::contiguous}} : std::vector<Shard>{};
}

// A slot that is not chosen by a counter.
const Index only = Index::of(0);

bool goes_by_node(const Scenario& scenario) {
  return scenario.plan.expert_dispatch == ExpertDispatch::deepep && has_experts(scenario.model);
}

// What the router allows, and deepep's nodes.
TokenRoute routing_of(const Scenario& scenario) {
  const Experts& experts = scenario.model.experts;
  TokenRoute route;
  route.experts = experts.count;
  route.groups = experts.groups;
  route.group_limit = experts.group_limit;
  if (goes_by_node(scenario)) {
    route.node_ranks = expert_ranks_per_node(scenario.plan, scenario.node_gpus);
    check(route.node_ranks > 0, "deepep's expert groups stand in whole nodes");
    route.node_rows = unit_rows(scenario, experts.count / scenario.plan.expert * route.node_ranks);
    route.sms = deepep_sms;
  }
  return route;
}

}  // namespace

std::vector<WeightShape> mixture_weight_shapes(const Scenario& scenario, const Shapes& shapes) {
  const Model& model = scenario.model;
  const Experts& experts = model.experts;
  const std::int64_t m = model.hidden;
  const std::int64_t cut = scenario.plan.expert_tensor;
  const std::int64_t local = experts.count / scenario.plan.expert;
  const std::int64_t f = experts.ffn / cut;
  const std::int64_t shared = experts.shared_ffn / shapes.tensor;
  const auto by_expert = over(Axis::expert, scenario.plan.expert);
  const auto by_cut = over(Axis::expert_tensor, cut);
  const auto by_tensor = over(Axis::tensor, shapes.tensor);
  std::vector<WeightShape> all{
      {"w_router", {m, experts.count}, {{}, {}}, experts.router_bias ? experts.count : 0},
      {"w_expert_gate_up", {local, m, f, 2}, {by_expert, {}, by_cut, {}}, 0},
      {"w_expert_down", {local, f, m}, {by_expert, by_cut, {}}, 0}};
  all[1].of_experts = all[2].of_experts = true;
  if (shared > 0) {
    all.push_back({"w_shared_gate_up", {m, shared, 2}, {{}, by_tensor, {}},
                   experts.shared_gate ? m : 0});
    all.push_back({"w_shared_down", {shared, m}, {by_tensor, {}}, 0});
  }
  for (WeightShape& shape : all) {
    shape.kind = LayerKind::mixture;
  }
  return all;
}

Mixture::Mixture(const Scenario& scenario, const Shapes& shapes)
    : type_(shapes.type),
      experts_(scenario.model.experts.count),
      per_token_(scenario.model.experts.per_token),
      hidden_(scenario.model.hidden),
      ranks_(scenario.plan.expert),
      cut_(scenario.plan.expert_tensor),
      local_(experts_ / ranks_),
      rows_(experts_ > 0 ? expert_rows(scenario) : 0),
      ffn_(scenario.model.experts.ffn / cut_),
      shared_ffn_(scenario.model.experts.shared_ffn / shapes.tensor),
      dispatch_(scenario.plan.expert_dispatch),
      fp8_dispatch_(scenario.plan.fp8_expert_dispatch),
      overlaps_shared_(scenario.plan.shared_expert_overlap),
      routing_(routing_of(scenario)),
      rank_rows_(goes_by_node(scenario) ? unit_rows(scenario, local_) : 0) {}

TensorSpec Mixture::token_spec(const TransformerBlock& block, std::int64_t width,
                               DataType type) const {
  TensorSpec spec = block.stream_spec();
  spec.shape[2] = width;
  spec.type = type;
  return spec;
}

// What is between an expert's two products, before (two wide) and after its activation.
TensorSpec Mixture::hidden_spec(std::int64_t slots, bool gated) const {
  TensorSpec spec;
  spec.shape = {local_, cut_ * ranks_ * rows_, ffn_};
  if (gated) {
    spec.shape.push_back(2);
  }
  spec.type = type_;
  spec.slots = slots;
  return spec;
}

TensorSpec Mixture::shared_spec(const TransformerBlock& block, std::int64_t slots,
                                bool gated) const {
  TensorSpec spec = block.gathered_spec();
  spec.shape[2] = shared_ffn_;
  if (gated) {
    spec.shape.push_back(2);
    spec.shards.emplace_back();
  }
  spec.slots = slots;
  return spec;
}

// `like` gives category and slots.
Mixture::Rows Mixture::make(ProgramBuilder& build, const std::string& name, std::int64_t experts,
                            std::int64_t rows, bool weighted, const TensorSpec& like,
                            Index slot) const {
  TensorSpec spec = like;
  spec.shape = {experts, rows, hidden_};
  spec.type = type_;
  Rows made{build.fresh(name, spec, slot), std::nullopt};
  if (weighted) {
    spec.shape = {experts, rows};
    spec.type = DataType::fp32;
    made.weights = build.fresh(name + "_weights", spec, slot);
  }
  return made;
}

void Mixture::drop(ProgramBuilder& build, const Rows& rows) const {
  build.release({rows.rows});
  if (rows.weights) {
    build.release({*rows.weights});
  }
}

TensorRef Mixture::forward(ProgramBuilder& build, const TransformerBlock& block,
                           const MixtureWeights& weights, TensorRef x, MixtureState& state,
                           std::int64_t slots, Index slot) const {
  TensorSpec logits = token_spec(block, experts_, DataType::fp32);
  logits.slots = slots;
  state.logits = build.fresh("router_logits", logits, slot);
  build.gemm("router", x, weights.router.value, state.logits);
  const TensorRef chosen =
      build.fresh("router_weights", token_spec(block, per_token_, DataType::fp32));
  build.compute(Op::route, "choose experts", {state.logits}, {chosen}).route = routing_;
  TensorSpec kept;
  kept.slots = slots;
  Beside up_beside;
  Beside down_beside;
  TensorRef shared;
  if (overlaps_shared_) {
    up_beside = [&] { shared_up(build, block, weights, x, state, slots, slot); };
    down_beside = [&] { shared = shared_down(build, block, weights, state, slots, slot); };
  }
  const Rows rows = to_experts(build, "expert_input", x, chosen, kept, slot, up_beside);
  build.release({chosen});
  state.input = rows.rows;
  state.weights = *rows.weights;
  state.up = build.fresh("expert_up", hidden_spec(slots, true), slot);
  build.compute(Op::grouped_gemm, "experts' up projection", {state.input, weights.up.value},
                {state.up});
  state.input = block.keep_operand(build, "expert_input", state.input, slots, slot);
  state.activation = build.fresh("expert_activation", hidden_spec(slots, false), slot);
  build.compute(Op::swiglu, "experts' activation", {state.up, state.weights}, {state.activation});
  const Rows out = make(build, "expert_output", local_, cut_ * ranks_ * rows_, false, {}, only);
  build.compute(Op::grouped_gemm, "experts' down projection",
                {state.activation, weights.down.value}, {out.rows});
  state.activation = block.keep_operand(build, "expert_activation", state.activation, slots, slot);
  const TensorRef sum =
      to_tokens(build, block, "expert_output", "mixture_output", out, down_beside).rows;
  if (shares()) {
    if (!overlaps_shared_) {
      shared_up(build, block, weights, x, state, slots, slot);
      shared = shared_down(build, block, weights, state, slots, slot);
    }
    build.compute(Op::add, "add shared experts", {sum, shared}, {sum});
    build.release({shared});
  }
  return sum;
}

void Mixture::shared_up(ProgramBuilder& build, const TransformerBlock& block,
                        const MixtureWeights& weights, TensorRef x, MixtureState& state,
                        std::int64_t slots, Index slot) const {
  const TensorRef tokens = block.gather_tokens(build, "shared_input", x);
  state.shared_up = build.fresh("shared_up", shared_spec(block, slots, true), slot);
  build.gemm("shared experts' up projection", tokens, weights.shared_up.value, state.shared_up);
  block.drop_gathered(build, tokens, x);
  state.shared_activation =
      build.fresh("shared_activation", shared_spec(block, slots, false), slot);
  build.compute(Op::swiglu, "shared experts' activation", {state.shared_up},
                {state.shared_activation});
}

TensorRef Mixture::shared_down(ProgramBuilder& build, const TransformerBlock& block,
                               const MixtureWeights& weights, MixtureState& state,
                               std::int64_t slots, Index slot) const {
  const TensorRef partial = build.fresh("shared_output", block.gathered_spec());
  build.gemm("shared experts' down projection", state.shared_activation,
             weights.shared_down.value, partial);
  state.shared_activation =
      block.keep_operand(build, "shared_activation", state.shared_activation, slots, slot);
  return block.sum_over_tensor(build, "shared_output", partial);
}

void Mixture::release(ProgramBuilder& build, const MixtureState& state) const {
  build.release({state.activation, state.up, state.weights, state.input, state.logits});
  if (shares()) {
    build.release({state.shared_activation, state.shared_up});
  }
}

// From d to the gradients of what the experts were given and of its weights.
Mixture::Rows Mixture::experts_backward(ProgramBuilder& build, const MixtureWeights& weights,
                                        const MixtureState& state, TensorRef d,
                                        const Beside& beside) const {
  const auto product = [&](const std::string& label, TensorRef a, TensorRef b, TensorRef c,
                           bool transpose_a, bool transpose_b, bool accumulate) {
    Instruction& made = build.compute(Op::grouped_gemm, label, {a, b}, {c});
    made.transpose_a = transpose_a;
    made.transpose_b = transpose_b;
    made.accumulate = accumulate;
  };
  const Rows d_out = to_experts(build, "d_expert_output", d, std::nullopt, {}, only, beside);
  const TensorRef d_activation = build.fresh("d_expert_activation", hidden_spec(1, false));
  product("experts' down projection dgrad", d_out.rows, weights.down.value, d_activation, false,
          true, false);
  product("experts' down projection wgrad", state.activation, d_out.rows, weights.down.gradient,
          true, false, !weights.down.fresh);
  drop(build, d_out);
  build.release({state.activation});
  const TensorRef d_up = build.fresh("d_expert_up", hidden_spec(1, true));
  const Rows d_in = make(build, "d_expert_input", local_, cut_ * ranks_ * rows_, true, {}, only);
  build.compute(Op::swiglu_backward, "experts' activation backward",
                {state.up, d_activation, state.weights}, {d_up, *d_in.weights});
  build.release({d_activation, state.up, state.weights});
  product("experts' up projection dgrad", d_up, weights.up.value, d_in.rows, false, true, false);
  product("experts' up projection wgrad", state.input, d_up, weights.up.gradient, true, false,
          !weights.up.fresh);
  build.release({d_up, state.input});
  return d_in;
}

TensorRef Mixture::backward(ProgramBuilder& build, const TransformerBlock& block,
                            const MixtureWeights& weights, const MixtureState& state, TensorRef x,
                            TensorRef d) const {
  Beside down_beside;
  Beside up_beside;
  TensorRef d_up;
  TensorRef d_shared;
  if (overlaps_shared_) {
    down_beside = [&] { d_up = shared_down_backward(build, block, weights, state, d); };
    up_beside = [&] { d_shared = shared_up_backward(build, block, weights, x, d_up); };
  }
  const Rows rows = experts_backward(build, weights, state, d, down_beside);
  const Rows home =
      to_tokens(build, block, "d_expert_input", "d_mixture_input", rows, up_beside);
  const TensorRef d_x = home.rows;
  const TensorRef d_logits =
      build.fresh("d_router_logits", token_spec(block, experts_, DataType::fp32));
  build.compute(Op::route_backward, "choose experts backward", {state.logits, *home.weights},
                {d_logits})
      .route = routing_;
  build.release({*home.weights, state.logits});
  build.gemm("router dgrad", d_logits, weights.router.value, d_x, false, true, true);
  build.gemm("router wgrad", x, d_logits, weights.router.gradient, true, false,
             !weights.router.fresh);
  build.release({d_logits});
  if (shares()) {
    if (!overlaps_shared_) {
      d_up = shared_down_backward(build, block, weights, state, d);
      d_shared = shared_up_backward(build, block, weights, x, d_up);
    }
    build.compute(Op::add, "add shared experts' gradient", {d_x, d_shared}, {d_x});
    build.release({d_shared});
  }
  return d_x;
}

// To the gradient of the first product's output; gives back the shared experts' state.
TensorRef Mixture::shared_down_backward(ProgramBuilder& build, const TransformerBlock& block,
                                        const MixtureWeights& weights, const MixtureState& state,
                                        TensorRef d) const {
  const TensorRef d_all = block.gather_tokens(build, "d_shared", d);
  const TensorRef d_activation = build.fresh("d_shared_activation", shared_spec(block, 1, false));
  build.gemm("shared experts' down projection dgrad", d_all, weights.shared_down.value,
             d_activation, false, true);
  build.gemm("shared experts' down projection wgrad", state.shared_activation, d_all,
             weights.shared_down.gradient, true, false, !weights.shared_down.fresh);
  block.drop_gathered(build, d_all, d);
  build.release({state.shared_activation});
  const TensorRef d_up = build.fresh("d_shared_up", shared_spec(block, 1, true));
  build.compute(Op::swiglu_backward, "shared experts' activation backward",
                {state.shared_up, d_activation}, {d_up});
  build.release({d_activation, state.shared_up});
  return d_up;
}

TensorRef Mixture::shared_up_backward(ProgramBuilder& build, const TransformerBlock& block,
                                      const MixtureWeights& weights, TensorRef x,
                                      TensorRef d_up) const {
  const TensorRef partial = build.fresh("d_shared_input", block.gathered_spec());
  const TensorRef tokens = block.gather_tokens(build, "shared_input", x);
  build.gemm("shared experts' up projection dgrad", d_up, weights.shared_up.value, partial, false,
             true);
  const TensorRef d_shared = block.sum_over_tensor(build, "d_shared_input", partial);
  build.gemm("shared experts' up projection wgrad", tokens, d_up, weights.shared_up.gradient, true,
             false, !weights.shared_up.fresh);
  block.drop_gathered(build, tokens, x);
  build.release({d_up});
  return d_shared;
}

}  // namespace longhaul
