// How tokens reach their experts and come back, as Megatron-LM's token dispatchers do it
// (megatron/core/transformer/moe/token_dispatcher.py): docs/models/moe.md.
//
// alltoall: a token is copied to a row for each of its experts; rows go straight to the experts' ranks.
// allgather: all tokens of an expert group go to each of its ranks, which takes the rows it needs and
// gives back sums for all tokens, which are reduce-scattered.
// deepep: a token goes once to every rank that has one of its experts, and there to a row for each
// (`flex` with DeepEP's kernels, Op::node_dispatch).
#include <utility>

#include "sim/scenario/deepep.h"
#include "sim/schedule/mixture.h"
#include "sim/schedule/transformer_block.h"

namespace longhaul {

namespace {

constexpr int experts_dim = 0;
constexpr int rows_dim = 1;
constexpr int members_dim = 0;  // of gathered tokens: member by member
constexpr std::int64_t scaled_values = 128;  // of a row of fp8 have one scale (DeepEP, DeepSeek-V3)

// A slot that is not chosen by a counter.
const Index only = Index::of(0);

TensorSpec passing_spec() {
  TensorSpec passing;
  passing.category = MemoryCategory::communication;
  return passing;
}

}  // namespace

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

Mixture::Rows Mixture::to_experts(ProgramBuilder& build, const std::string& name, TensorRef x,
                                  std::optional<TensorRef> weights, const TensorSpec& like,
                                  Index slot, const Beside& beside) const {
  if (dispatch_ == ExpertDispatch::alltoall || ranks_ * cut_ == 1) {
    return by_all_to_all(build, name, x, weights, like, slot, beside);
  }
  const Rows at = dispatch_ == ExpertDispatch::deepep ? by_node(build, name, x, weights, beside)
                                                      : by_all_gather(build, name, x, weights, beside);
  const Rows rows =
      make(build, name, local_, cut_ * ranks_ * rows_, weights.has_value(), like, slot);
  std::vector<TensorRef> reads{at.rows};
  std::vector<TensorRef> writes{rows.rows};
  if (weights) {
    reads.push_back(*at.weights);
    writes.push_back(*rows.weights);
  }
  Instruction& sort =
      build.compute(Op::dispatch, "sort " + name + " by expert", reads, writes);
  sort.experts_per_token = per_token_;
  sort.route = near_route(build, x);
  drop(build, at);
  return rows;
}

Mixture::Rows Mixture::to_tokens(ProgramBuilder& build, const TransformerBlock& block,
                                 const std::string& name, const std::string& sum, Rows at,
                                 const Beside& beside) const {
  const bool weighted = at.weights.has_value();
  const bool direct = dispatch_ == ExpertDispatch::alltoall || ranks_ * cut_ == 1;
  const Rows back =
      direct ? back_by_all_to_all(build, name, at, beside)
             : combined(build, name, at, build.tensor(sum, block.stream_spec()));
  Rows home{build.fresh(sum, block.stream_spec()), std::nullopt};
  std::vector<TensorRef> reads{back.rows};
  std::vector<TensorRef> writes{home.rows};
  if (weighted) {
    home.weights =
        build.fresh("d_router_weights", token_spec(block, per_token_, DataType::fp32));
    reads.push_back(*back.weights);
    writes.push_back(*home.weights);
  }
  const std::string label = weighted ? "combine gradients" : "combine experts";
  if (direct) {
    Instruction& made = build.compute(Op::combine, label, reads, writes);
    made.experts_per_token = per_token_;
    made.route = routing_;
  } else if (dispatch_ == ExpertDispatch::deepep) {
    node_exchange(build, Op::node_combine, label, reads, writes);
  } else {
    build.collective(Op::reduce_scatter, Stream::expert,
                     *build.group("expert tokens", {Axis::expert_tensor, Axis::expert}), label,
                     reads, writes)
        .dim = members_dim;
  }
  if (!direct && beside) {
    beside();
  } else if (!direct) {
    build.wait_for("tokens are back", Stream::expert);  // nothing else runs beside their way
  }
  drop(build, back);
  return home;
}

// What arrives is sorted by local expert, if there are several. `like` says how long it is kept.
Mixture::Rows Mixture::by_all_to_all(ProgramBuilder& build, const std::string& name, TensorRef x,
                                     std::optional<TensorRef> weights, const TensorSpec& like,
                                     Index slot, const Beside& beside) const {
  const bool travels = ranks_ > 1;
  const bool sorts = travels && local_ > 1;
  int left = (travels ? 1 : 0) + (sorts ? 1 : 0) + (cut_ > 1 ? 1 : 0);
  const TensorSpec passing = passing_spec();
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
  Instruction& copies = build.compute(Op::dispatch, "dispatch " + name, reads, writes);
  copies.experts_per_token = per_token_;
  copies.route = routing_;
  const auto go_on = [&](const Rows& to) {
    drop(build, at);
    at = to;
  };
  if (travels) {
    const Rows to = next("_arrived", local_, ranks_ * rows_);
    exchange(build, Op::all_to_all, "all-to-all " + name, at, to, experts_dim, rows_dim);
    if (beside) {
      beside();
    }
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
Mixture::Rows Mixture::back_by_all_to_all(ProgramBuilder& build, const std::string& name, Rows at,
                                          const Beside& beside) const {
  const TensorSpec passing = passing_spec();
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
    if (beside) {
      beside();
    }
    go_on(to);
  }
  return at;
}

// Every token of the group's ranks and, with weights, the map of all experts: Megatron-LM gathers
// probabilities (fp32) and a mask (a byte) of all experts, of which the weights are a part.
Mixture::Rows Mixture::by_all_gather(ProgramBuilder& build, const std::string& name, TensorRef x,
                                     std::optional<TensorRef> weights, const Beside& beside) const {
  const GroupId group = *build.group("expert tokens", {Axis::expert_tensor, Axis::expert});
  const auto gathered = [&](const std::string& what, TensorRef of) {
    TensorSpec spec = passing_spec();
    spec.shape = build.of(of).shape;
    spec.shape[members_dim] *= ranks_ * cut_;
    spec.type = build.of(of).type;
    return build.fresh(what, spec);
  };
  Rows at{gathered(name + "_gathered", x), std::nullopt};
  std::vector<TensorRef> reads{x};
  std::vector<TensorRef> writes{at.rows};
  std::vector<TensorRef> maps;
  if (weights) {
    TensorSpec map = build.spec_like(*weights, MemoryCategory::communication);
    map.shape.back() = 5 * experts_ - 4 * per_token_;
    map.type = DataType::fp8;  // one byte per element
    maps = {build.fresh("routing_map", map)};
    build.compute(Op::zero, "routing map", {}, {maps[0]}).fused = true;
    maps.push_back(gathered("routing_map_gathered", maps[0]));
    at.weights = gathered(name + "_weights_gathered", *weights);
    reads.insert(reads.end(), {*weights, maps[0]});
    writes.insert(writes.end(), {*at.weights, maps[1]});
  }
  build.collective(Op::all_gather, Stream::expert, group, "gather " + name, reads, writes).dim =
      members_dim;
  if (beside) {
    beside();
  }
  if (weights) {
    build.release({maps[0], maps[1]});
  }
  return at;
}

// Once to every rank. In fp8 the kernel sends scales along; rows are widened where they are sorted.
Mixture::Rows Mixture::by_node(ProgramBuilder& build, const std::string& name, TensorRef x,
                               std::optional<TensorRef> weights, const Beside& beside) const {
  const auto received = [&](const std::string& what, std::int64_t width, DataType type) {
    TensorSpec spec = passing_spec();
    spec.shape = {ranks_ * rank_rows_, width};
    spec.type = type;
    return build.fresh(what, spec);
  };
  std::vector<TensorRef> sent{x};
  if (fp8_dispatch_) {
    TensorSpec spec = build.spec_like(x, MemoryCategory::communication);
    spec.type = DataType::fp8;
    sent = {build.fresh(name + "_fp8", spec)};
    spec.shape.back() = (hidden_ + scaled_values - 1) / scaled_values;
    spec.type = DataType::fp32;
    sent.push_back(build.fresh(name + "_scales", spec));
    build.compute(Op::copy, "cast " + name + " to fp8", {x}, {sent[0]});
    build.compute(Op::zero, "scales of " + name, {}, {sent[1]}).fused = true;
  }
  Rows at{received(name + "_received", hidden_, build.of(sent[0]).type), std::nullopt};
  std::vector<TensorRef> reads = sent;
  std::vector<TensorRef> writes{at.rows};
  if (fp8_dispatch_) {
    writes.push_back(
        received(name + "_scales_received", build.of(sent[1]).shape.back(), DataType::fp32));
  }
  if (weights) {
    at.weights = received(name + "_weights_received", per_token_, DataType::fp32);
    reads.push_back(*weights);
    writes.push_back(*at.weights);
  }
  node_exchange(build, Op::node_dispatch, "dispatch " + name, reads, writes);
  if (beside) {
    beside();
  }
  if (fp8_dispatch_) {
    build.release({sent[0], sent[1], writes[1]});
  }
  return at;
}

// Each token's rows of this rank summed, in the places where its tokens arrived.
Mixture::Rows Mixture::combined(ProgramBuilder& build, const std::string& name,
                                const Rows& at, TensorRef tokens) const {
  const bool by_node = dispatch_ == ExpertDispatch::deepep;
  const auto like = [&](const std::string& what, std::int64_t width, DataType type) {
    TensorSpec spec = passing_spec();
    spec.shape = {ranks_ * rank_rows_, width};
    if (!by_node) {
      spec.shape = build.of(tokens).shape;
      spec.shape[members_dim] *= ranks_ * cut_;
      spec.shape.back() = width;
    }
    spec.type = type;
    return build.fresh(what, spec);
  };
  Rows sums{like(name + "_partial", hidden_, type_), std::nullopt};
  std::vector<TensorRef> reads{at.rows};
  std::vector<TensorRef> writes{sums.rows};
  if (at.weights) {
    sums.weights = like(name + "_weights_partial", per_token_, DataType::fp32);
    reads.push_back(*at.weights);
    writes.push_back(*sums.weights);
  }
  Instruction& made = build.compute(Op::combine, "sum " + name + " by token", reads, writes);
  made.experts_per_token = per_token_;
  made.route = near_route(build, tokens);
  drop(build, at);
  return sums;
}

// Of rows that stand for tokens of the group's ranks, whose layout is that of `tokens`.
TokenRoute Mixture::near_route(ProgramBuilder& build, TensorRef tokens) const {
  TokenRoute route = routing_;
  route.selected = dispatch_ == ExpertDispatch::deepep;
  route.sources = route.selected
                      ? build.group("expert", {Axis::expert})
                      : build.group("expert tokens", {Axis::expert_tensor, Axis::expert});
  route.tokens = tokens.tensor;
  return route;
}

// DeepEP has buffers of its own in place of NCCL's.
Instruction& Mixture::node_exchange(ProgramBuilder& build, Op op, const std::string& label,
                                    std::vector<TensorRef> reads,
                                    std::vector<TensorRef> writes) const {
  const GroupId group = *build.group("expert", {Axis::expert});
  build.program().groups[group.index].buffers = deepep_buffers(hidden_, ranks_);
  Instruction& made = build.collective(op, Stream::expert, group, label, std::move(reads),
                                       std::move(writes));
  made.experts_per_token = per_token_;
  made.route = routing_;
  return made;
}

}  // namespace longhaul
