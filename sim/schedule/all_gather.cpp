// All-gather context parallelism (Llama 3, arXiv 2407.21783, section 3.3.2): every rank gathers all
// keys and values, puts them into natural order and attends with its own queries. Backward gathers
// again and reduce-scatters the gradients of keys and values.
#include "sim/schedule/attention.h"

namespace longhaul {

namespace {

class AllGatherAttention : public AttentionCore {
 public:
  AllGatherAttention(const Shapes& shapes, SequenceOrder order)
      : shapes_(shapes), reorders_(order == SequenceOrder::zigzag) {}

  void forward(ProgramBuilder& build, const AttentionState& state) const override {
    const Pair all = gather(build, state);
    build
        .compute(Op::attend, "attention to all keys", {state.q, all.k, all.v}, {state.o, state.lse})
        .block = block();
    build.release({all.k, all.v});
  }

  void backward(ProgramBuilder& build, const AttentionState& state, TensorRef d_o, TensorRef dq,
                TensorRef dk, TensorRef dv) const override {
    const Pair all = gather(build, state);
    TensorSpec rows;
    rows.shape = {shapes_.batch, shapes_.core_heads(), shapes_.core_tokens()};
    rows.shards = {{}, shapes_.ulysses_head_shards, shapes_.ring_shards};
    rows.type = DataType::fp32;
    rows.category = MemoryCategory::workspace;
    const TensorRef delta = build.fresh("delta", rows);
    const TensorRef dk_all = build.fresh("gathered_dk", gathered(natural(), shapes_.head_dim));
    const TensorRef dv_all = build.fresh("gathered_dv", gathered(natural(), shapes_.value_dim));
    build.compute(Op::attention_delta, "attention delta", {state.o, d_o}, {delta});
    build
        .compute(Op::attend_backward, "attention to all keys backward",
                 {state.q, all.k, all.v, d_o, state.lse, delta}, {dq, dk_all, dv_all})
        .block = block();
    scatter(build, dk_all, dv_all, dk, dv);
    build.release({all.k, all.v, delta});
  }

 private:
  struct Pair {
    TensorRef k, v;
  };
  [[nodiscard]] static AttentionBlock block() {
    return {Index::coordinate(Axis::ring), std::nullopt};
  }
  [[nodiscard]] static std::vector<Shard> natural() { return {}; }
  [[nodiscard]] TensorSpec gathered(std::vector<Shard> tokens, std::int64_t channels) const {
    TensorSpec spec = shapes_.core_spec(shapes_.core_kv_heads(), channels);
    spec.shape[1] *= shapes_.ring;
    spec.shards[1] = std::move(tokens);
    spec.category = MemoryCategory::kv_buffers;
    return spec;
  }
  // Keys and values of all ranks; shards of a zigzag order are put into natural order.
  Pair gather(ProgramBuilder& build, const AttentionState& state) const {
    const GroupId group = *build.group("ring", {Axis::ring});
    const Pair shards{build.fresh("gathered_k", gathered(natural(), shapes_.head_dim)),
                      build.fresh("gathered_v", gathered(natural(), shapes_.value_dim))};
    build
        .collective(Op::all_gather, Stream::context, group, "gather keys and values",
                    {state.k, state.v}, {shards.k, shards.v})
        .dim = 1;
    if (!reorders_) {
      return shards;
    }
    const Pair ordered{build.fresh("ordered_k", gathered(natural(), shapes_.head_dim)),
                       build.fresh("ordered_v", gathered(natural(), shapes_.value_dim))};
    build.compute(Op::reorder, "keys into natural order", {shards.k}, {ordered.k});
    build.compute(Op::reorder, "values into natural order", {shards.v}, {ordered.v});
    build.release({shards.k, shards.v});
    return ordered;
  }
  void scatter(ProgramBuilder& build, TensorRef dk_all, TensorRef dv_all, TensorRef dk,
               TensorRef dv) const {
    const GroupId group = *build.group("ring", {Axis::ring});
    if (!reorders_) {
      build
          .collective(Op::reduce_scatter, Stream::context, group, "scatter key gradients",
                      {dk_all, dv_all}, {dk, dv})
          .dim = 1;
      build.release({dk_all, dv_all});
      return;
    }
    const Pair shards{build.fresh("scattered_dk", gathered(natural(), shapes_.head_dim)),
                      build.fresh("scattered_dv", gathered(natural(), shapes_.value_dim))};
    build.compute(Op::reorder, "key gradients into shards", {dk_all}, {shards.k}).inverse = true;
    build.compute(Op::reorder, "value gradients into shards", {dv_all}, {shards.v}).inverse = true;
    build.release({dk_all, dv_all});
    build
        .collective(Op::reduce_scatter, Stream::context, group, "scatter key gradients",
                    {shards.k, shards.v}, {dk, dv})
        .dim = 1;
    build.release({shards.k, shards.v});
  }

  Shapes shapes_;
  bool reorders_;
};

}  // namespace

std::unique_ptr<AttentionCore> make_all_gather_attention(const Shapes& shapes,
                                                         SequenceOrder order) {
  return std::make_unique<AllGatherAttention>(shapes, order);
}

}  // namespace longhaul
