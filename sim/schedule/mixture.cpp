#include "sim/schedule/mixture.h"

#include <algorithm>
#include <cmath>

#include "sim/schedule/transformer_block.h"

namespace longhaul {

namespace {

constexpr int experts_dim = 0;
constexpr int rows_dim = 1;

std::vector<Shard> over(Axis axis, std::int64_t ranks) {
  return ranks > 1 ? std::vector<Shard>{{axis, SequenceOrder::contiguous}} : std::vector<Shard>{};
}

// A slot that is not chosen by a counter.
const Index only = Index::of(0);

}  // namespace

// Loads that fluctuate independently: the mean of n of E of them, drawn without putting back,
// deviates sqrt((E - n) / ((E - 1) n)) times as much as one.
double rank_imbalance(double imbalance, std::int64_t experts, std::int64_t local) {
  if (local >= experts) {
    return 1.0;
  }
  const auto all = static_cast<double>(experts);
  const auto n = static_cast<double>(local);
  return 1.0 + (imbalance - 1.0) * std::sqrt((all - n) / ((all - 1.0) * n));
}

std::int64_t expert_rows(const Scenario& scenario) {
  const Plan& plan = scenario.plan;
  const Experts& experts = scenario.model.experts;
  const std::int64_t tokens =
      scenario.workload.micro_batch * scenario.workload.sequence_length / plan.context.degree() /
      (plan.sequence_parallel ? plan.tensor : 1);
  const double factor = scenario.workload.expert_capacity > 0.0
                            ? scenario.workload.expert_capacity
                            : rank_imbalance(scenario.workload.expert_imbalance, experts.count,
                                             experts.count / plan.expert);
  const double rows = static_cast<double>(tokens * experts.per_token) * factor /
                      static_cast<double>(experts.count);
  // What is whole but for rounding stays as it is.
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(std::ceil(rows * (1.0 - 1e-12))));
}

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
      shared_ffn_(scenario.model.experts.shared_ffn / shapes.tensor) {}

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

// Rows and their weights in one message.
void Mixture::exchange(ProgramBuilder& build, Op op, const std::string& label, const Rows& from,
                       const Rows& to, int dim, int join_dim) const {
  const bool to_ranks = op == Op::all_to_all;
  const GroupId group = to_ranks ? *build.group("expert", {Axis::expert})
                                 : *build.group("expert tensor", {Axis::expert_tensor});
  std::vector<TensorRef> reads{from.rows};
  std::vector<TensorRef> writes{to.rows};
  if (from.weights) {
    reads.push_back(*from.weights);
    writes.push_back(*to.weights);
  }
  Instruction& made = build.collective(op, Stream::expert, group, label, reads, writes);
  made.dim = dim;
  made.join_dim = join_dim;
}

// Copies x to a row for each of its experts and brings the rows to the ranks that have them, by
// local expert. What arrives is called `name`; `like` says how long it is kept.
Mixture::Rows Mixture::to_experts(ProgramBuilder& build, const std::string& name, TensorRef x,
                                  std::optional<TensorRef> weights, const TensorSpec& like,
                                  Index slot) const {
  const bool travels = ranks_ > 1;
  const bool sorts = travels && local_ > 1;
  int left = (travels ? 1 : 0) + (sorts ? 1 : 0) + (cut_ > 1 ? 1 : 0);
  TensorSpec passing;
  passing.category = MemoryCategory::communication;
  const auto next = [&](const char* step, std::int64_t experts, std::int64_t rows) {
    const bool last = left-- == 0;
    return make(build, last ? name : name + step, experts, rows, weights.has_value(),
                last ? like : passing, last ? slot : only);
  };
  Rows at = next("_dispatched", experts_, rows_);
  std::vector<TensorRef> reads{x};
  std::vector<TensorRef> writes{at.rows};
  if (weights) {
    reads.push_back(*weights);
    writes.push_back(*at.weights);
  }
  build.compute(Op::dispatch, "dispatch " + name, reads, writes).experts_per_token = per_token_;
  const auto go_on = [&](const Rows& to) {
    drop(build, at);
    at = to;
  };
  if (travels) {
    const Rows to = next("_arrived", local_, ranks_ * rows_);
    exchange(build, Op::all_to_all, "all-to-all " + name, at, to, experts_dim, rows_dim);
    go_on(to);
  }
  if (sorts) {
    const Rows to = next("_sorted", local_, ranks_ * rows_);
    build.compute(Op::copy, "sort " + name + " by expert", {at.rows}, {to.rows});
    if (weights) {
      build.compute(Op::copy, "sort weights by expert", {*at.weights}, {*to.weights}).fused = true;
    }
    go_on(to);
  }
  if (cut_ > 1) {
    const Rows to = next("_gathered", local_, cut_ * ranks_ * rows_);
    exchange(build, Op::all_gather, "gather " + name, at, to, rows_dim, 0);
    go_on(to);
  }
  return at;
}

// The way back, to rows that combine can sum.
Mixture::Rows Mixture::from_experts(ProgramBuilder& build, const std::string& name,
                                    Rows at) const {
  TensorSpec passing;
  passing.category = MemoryCategory::communication;
  const bool weighted = at.weights.has_value();
  const auto go_on = [&](const Rows& to) {
    drop(build, at);
    at = to;
  };
  if (cut_ > 1) {
    const Rows to =
        make(build, name + "_summed", local_, ranks_ * rows_, weighted, passing, only);
    exchange(build, Op::reduce_scatter, "sum and scatter " + name, at, to, rows_dim, 0);
    go_on(to);
  }
  if (ranks_ > 1 && local_ > 1) {
    const Rows to =
        make(build, name + "_by_rank", local_, ranks_ * rows_, weighted, passing, only);
    build.compute(Op::copy, "sort " + name + " by rank", {at.rows}, {to.rows});
    if (weighted) {
      build.compute(Op::copy, "sort weights by rank", {*at.weights}, {*to.weights}).fused = true;
    }
    go_on(to);
  }
  if (ranks_ > 1) {
    const Rows to = make(build, name + "_returned", experts_, rows_, weighted, passing, only);
    exchange(build, Op::all_to_all, "all-to-all " + name, at, to, rows_dim, experts_dim);
    go_on(to);
  }
  return at;
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
  build.compute(Op::route, "choose experts", {state.logits}, {chosen});
  TensorSpec kept;
  kept.slots = slots;
  const Rows rows = to_experts(build, "expert_input", x, chosen, kept, slot);
  build.release({chosen});
  state.input = rows.rows;
  state.weights = *rows.weights;
  state.up = build.fresh("expert_up", hidden_spec(slots, true), slot);
  build.compute(Op::grouped_gemm, "experts' up projection", {state.input, weights.up.value},
                {state.up});
  state.input = block.keep_operand(build, "expert_input", state.input, slots, slot);
  state.activation = build.fresh("expert_activation", hidden_spec(slots, false), slot);
  build.compute(Op::swiglu, "experts' activation", {state.up, state.weights}, {state.activation});
  Rows out = make(build, "expert_output", local_, cut_ * ranks_ * rows_, false, {}, only);
  build.compute(Op::grouped_gemm, "experts' down projection",
                {state.activation, weights.down.value}, {out.rows});
  state.activation = block.keep_operand(build, "expert_activation", state.activation, slots, slot);
  out = from_experts(build, "expert_output", out);
  const TensorRef sum = build.fresh("mixture_output", block.stream_spec());
  build.compute(Op::combine, "combine experts", {out.rows}, {sum}).experts_per_token = per_token_;
  drop(build, out);
  if (shares()) {
    shared_forward(build, block, weights, x, sum, state, slots, slot);
  }
  return sum;
}

void Mixture::shared_forward(ProgramBuilder& build, const TransformerBlock& block,
                             const MixtureWeights& weights, TensorRef x, TensorRef sum,
                             MixtureState& state, std::int64_t slots, Index slot) const {
  const TensorRef tokens = block.gather_tokens(build, "shared_input", x);
  state.shared_up = build.fresh("shared_up", shared_spec(block, slots, true), slot);
  build.gemm("shared experts' up projection", tokens, weights.shared_up.value, state.shared_up);
  block.drop_gathered(build, tokens, x);
  state.shared_activation =
      build.fresh("shared_activation", shared_spec(block, slots, false), slot);
  build.compute(Op::swiglu, "shared experts' activation", {state.shared_up},
                {state.shared_activation});
  const TensorRef partial = build.fresh("shared_output", block.gathered_spec());
  build.gemm("shared experts' down projection", state.shared_activation,
             weights.shared_down.value, partial);
  state.shared_activation =
      block.keep_operand(build, "shared_activation", state.shared_activation, slots, slot);
  const TensorRef shared = block.sum_over_tensor(build, "shared_output", partial);
  build.compute(Op::add, "add shared experts", {sum, shared}, {sum});
  build.release({shared});
}

void Mixture::release(ProgramBuilder& build, const MixtureState& state) const {
  build.release({state.activation, state.up, state.weights, state.input, state.logits});
  if (shares()) {
    build.release({state.shared_activation, state.shared_up});
  }
}

// From d to the gradients of what the experts were given and of its weights.
Mixture::Rows Mixture::experts_backward(ProgramBuilder& build, const MixtureWeights& weights,
                                        const MixtureState& state, TensorRef d) const {
  const auto product = [&](const std::string& label, TensorRef a, TensorRef b, TensorRef c,
                           bool transpose_a, bool transpose_b, bool accumulate) {
    Instruction& made = build.compute(Op::grouped_gemm, label, {a, b}, {c});
    made.transpose_a = transpose_a;
    made.transpose_b = transpose_b;
    made.accumulate = accumulate;
  };
  const Rows d_out = to_experts(build, "d_expert_output", d, std::nullopt, {}, only);
  const TensorRef d_activation = build.fresh("d_expert_activation", hidden_spec(1, false));
  product("experts' down projection dgrad", d_out.rows, weights.down.value, d_activation, false,
          true, false);
  product("experts' down projection wgrad", state.activation, d_out.rows, weights.down.gradient,
          true, false, !weights.down.fresh);
  drop(build, d_out);
  build.release({state.activation});
  const TensorRef d_up = build.fresh("d_expert_up", hidden_spec(1, true));
  Rows d_in = make(build, "d_expert_input", local_, cut_ * ranks_ * rows_, true, {}, only);
  build.compute(Op::swiglu_backward, "experts' activation backward",
                {state.up, d_activation, state.weights}, {d_up, *d_in.weights});
  build.release({d_activation, state.up, state.weights});
  product("experts' up projection dgrad", d_up, weights.up.value, d_in.rows, false, true, false);
  product("experts' up projection wgrad", state.input, d_up, weights.up.gradient, true, false,
          !weights.up.fresh);
  build.release({d_up, state.input});
  return from_experts(build, "d_expert_input", d_in);
}

TensorRef Mixture::backward(ProgramBuilder& build, const TransformerBlock& block,
                            const MixtureWeights& weights, const MixtureState& state, TensorRef x,
                            TensorRef d) const {
  const Rows rows = experts_backward(build, weights, state, d);
  const TensorRef d_x = build.fresh("d_mixture_input", block.stream_spec());
  const TensorRef d_chosen =
      build.fresh("d_router_weights", token_spec(block, per_token_, DataType::fp32));
  build.compute(Op::combine, "combine gradients", {rows.rows, *rows.weights}, {d_x, d_chosen})
      .experts_per_token = per_token_;
  drop(build, rows);
  const TensorRef d_logits =
      build.fresh("d_router_logits", token_spec(block, experts_, DataType::fp32));
  build.compute(Op::route_backward, "choose experts backward", {state.logits, d_chosen},
                {d_logits});
  build.release({d_chosen, state.logits});
  build.gemm("router dgrad", d_logits, weights.router.value, d_x, false, true, true);
  build.gemm("router wgrad", x, d_logits, weights.router.gradient, true, false,
             !weights.router.fresh);
  build.release({d_logits});
  if (shares()) {
    shared_backward(build, block, weights, state, x, d, d_x);
  }
  return d_x;
}

void Mixture::shared_backward(ProgramBuilder& build, const TransformerBlock& block,
                              const MixtureWeights& weights, const MixtureState& state,
                              TensorRef x, TensorRef d, TensorRef d_x) const {
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
  const TensorRef partial = build.fresh("d_shared_input", block.gathered_spec());
  const TensorRef tokens = block.gather_tokens(build, "shared_input", x);
  build.gemm("shared experts' up projection dgrad", d_up, weights.shared_up.value, partial, false,
             true);
  const TensorRef d_shared = block.sum_over_tensor(build, "d_shared_input", partial);
  build.gemm("shared experts' up projection wgrad", tokens, d_up, weights.shared_up.gradient, true,
             false, !weights.shared_up.fresh);
  block.drop_gathered(build, tokens, x);
  build.release({d_up});
  build.compute(Op::add, "add shared experts' gradient", {d_x, d_shared}, {d_x});
  build.release({d_shared});
}

}  // namespace longhaul
