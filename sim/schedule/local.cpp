// Attention of tokens that are all on one GPU: one kernel call.
#include "sim/schedule/attention.h"

namespace longhaul {

namespace {

AttentionBlock own_block() { return {Index::of(0), Index::of(0)}; }

class LocalAttention : public AttentionCore {
 public:
  explicit LocalAttention(const Shapes& shapes) : shapes_(shapes) {}

  void forward(ProgramBuilder& build, const AttentionState& state) const override {
    build.compute(Op::attend, "attention", {state.q, state.k, state.v}, {state.o, state.lse})
        .block = own_block();
  }

  void backward(ProgramBuilder& build, const AttentionState& state, TensorRef d_o, TensorRef dq,
                TensorRef dk, TensorRef dv) const override {
    TensorSpec rows = shapes_.core_spec(shapes_.core_heads());
    rows.shape = {shapes_.batch, shapes_.core_heads(), shapes_.core_tokens()};
    rows.shards = {{}, shapes_.ulysses_head_shards, shapes_.ring_shards};
    rows.type = DataType::fp32;
    rows.category = MemoryCategory::workspace;
    const TensorRef delta = build.fresh("delta", rows);
    build.compute(Op::attention_delta, "attention delta", {state.o, d_o}, {delta});
    build
        .compute(Op::attend_backward, "attention backward",
                 {state.q, state.k, state.v, d_o, state.lse, delta}, {dq, dk, dv})
        .block = own_block();
    build.release({delta});
  }

 private:
  Shapes shapes_;
};

}  // namespace

std::unique_ptr<AttentionCore> make_local_attention(const Shapes& shapes) {
  return std::make_unique<LocalAttention>(shapes);
}

}  // namespace longhaul
