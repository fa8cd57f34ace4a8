// Ring attention (arXiv 2310.01889): keys and values travel around the ring while every rank
// attends to the pair it holds; partial results are combined by their log-sum-exp. Backward, the
// gradients of a key/value pair travel with it and come home after a full turn.
//
// Step s, s = 0..R-1: rank r attends to the keys of rank r - s. The first step uses the rank's own
// pair, the last one sends nothing on; the steps between are a loop.
#include "sim/schedule/attention.h"

namespace longhaul {

namespace {

class RingAttention : public AttentionCore {
 public:
  explicit RingAttention(const Shapes& shapes) : shapes_(shapes), ring_(shapes.ring) {}

  void forward(ProgramBuilder& build, const AttentionState& state) const override;
  void backward(ProgramBuilder& build, const AttentionState& state, TensorRef d_o, TensorRef dq,
                TensorRef dk, TensorRef dv) const override;

 private:
  // The travelling pair a step works on and the one it fills for the next step.
  struct Pair {
    TensorRef k, v;
  };
  struct BackwardTensors {
    TensorRef dq, delta, dk_block, dv_block;
    TensorRef d_o;
  };
  [[nodiscard]] GroupId group(ProgramBuilder& build) const {
    return *build.group("ring", {Axis::ring});
  }
  [[nodiscard]] AttentionBlock block(std::int64_t step) const;
  [[nodiscard]] AttentionBlock block(LoopId loop) const;
  [[nodiscard]] Pair buffers(ProgramBuilder& build, Index slot) const;
  [[nodiscard]] Pair gradients(ProgramBuilder& build, Index slot) const;
  [[nodiscard]] TensorSpec rows(DataType type) const;
  void allocate_both(ProgramBuilder& build, bool gradient) const;
  void release_both(ProgramBuilder& build, bool gradient) const;
  void send(ProgramBuilder& build, const std::string& label, const Pair& from,
            const Pair& to) const;
  void attend_and_merge(ProgramBuilder& build, const AttentionState& state, TensorRef o,
                        const Pair& pair, const AttentionBlock& block) const;
  void backward_step(ProgramBuilder& build, const AttentionState& state,
                     const BackwardTensors& tensors, const Pair& pair, const AttentionBlock& block,
                     const Pair& sum) const;

  Shapes shapes_;
  std::int64_t ring_;
};

AttentionBlock RingAttention::block(std::int64_t step) const {
  return {Index::coordinate(Axis::ring), Index::coordinate(Axis::ring, ring_ - step, ring_)};
}

// Turn c of the loop is step c + 1.
AttentionBlock RingAttention::block(LoopId loop) const {
  Index owner = Index::coordinate(Axis::ring, ring_ - 1, ring_);
  owner.loop = loop;
  owner.loop_coefficient = -1;
  return {Index::coordinate(Axis::ring), owner};
}

RingAttention::Pair RingAttention::buffers(ProgramBuilder& build, Index slot) const {
  TensorSpec spec = shapes_.core_spec(shapes_.core_kv_heads());
  spec.category = MemoryCategory::kv_buffers;
  spec.slots = 2;
  return {build.tensor("ring_k", spec, slot), build.tensor("ring_v", spec, slot)};
}

RingAttention::Pair RingAttention::gradients(ProgramBuilder& build, Index slot) const {
  TensorSpec spec = shapes_.core_spec(shapes_.core_kv_heads());
  spec.category = MemoryCategory::kv_buffers;
  spec.type = shapes_.travelling;
  spec.slots = 2;
  return {build.tensor("ring_dk", spec, slot), build.tensor("ring_dv", spec, slot)};
}

TensorSpec RingAttention::rows(DataType type) const {
  TensorSpec spec;
  spec.shape = {shapes_.batch, shapes_.core_heads(), shapes_.core_tokens()};
  spec.shards = {{}, shapes_.ulysses_head_shards, shapes_.ring_shards};
  spec.type = type;
  spec.category = MemoryCategory::workspace;
  return spec;
}

void RingAttention::allocate_both(ProgramBuilder& build, bool gradient) const {
  for (const std::int64_t slot : {0, 1}) {
    const Pair pair =
        gradient ? gradients(build, Index::of(slot)) : buffers(build, Index::of(slot));
    build.allocate(pair.k);
    build.allocate(pair.v);
  }
}

void RingAttention::release_both(ProgramBuilder& build, bool gradient) const {
  for (const std::int64_t slot : {0, 1}) {
    const Pair pair =
        gradient ? gradients(build, Index::of(slot)) : buffers(build, Index::of(slot));
    build.release({pair.k, pair.v});
  }
}

void RingAttention::send(ProgramBuilder& build, const std::string& label, const Pair& from,
                         const Pair& to) const {
  build.collective(Op::send_receive, Stream::context, group(build), label, {from.k, from.v},
                   {to.k, to.v});
}

void RingAttention::attend_and_merge(ProgramBuilder& build, const AttentionState& state,
                                     TensorRef o, const Pair& pair,
                                     const AttentionBlock& which) const {
  TensorSpec spec = shapes_.core_spec(shapes_.core_heads());
  spec.category = MemoryCategory::workspace;
  const TensorRef o_block = build.tensor("ring_o_block", spec);
  const TensorRef lse_block = build.tensor("ring_lse_block", rows(DataType::fp32));
  build.compute(Op::attend, "ring attention", {state.q, pair.k, pair.v}, {o_block, lse_block})
      .block = which;
  Instruction& merge = build.compute(Op::merge_attention, "combine partial attention",
                                     {o_block, lse_block}, {o, state.lse});
  merge.block = which;
  merge.accumulate = true;
}

void RingAttention::forward(ProgramBuilder& build, const AttentionState& state) const {
  TensorSpec spec = shapes_.core_spec(shapes_.core_heads());
  spec.category = MemoryCategory::workspace;
  const TensorRef o_block = build.fresh("ring_o_block", spec);
  const TensorRef lse_block = build.fresh("ring_lse_block", rows(DataType::fp32));
  spec.type = DataType::fp32;
  const TensorRef o = build.fresh("ring_o", spec);
  allocate_both(build, false);

  const Pair own{state.k, state.v};
  send(build, "ring exchange", own, buffers(build, Index::of(0)));
  build.compute(Op::attend, "ring attention", {state.q, own.k, own.v}, {o, state.lse}).block =
      block(0);
  if (ring_ > 2) {
    const LoopId loop = build.begin_loop("ring steps", ring_ - 2, false);
    const Pair here = buffers(build, Index::counter(loop, 1, 0, 2));
    send(build, "ring exchange", here, buffers(build, Index::counter(loop, 1, 1, 2)));
    attend_and_merge(build, state, o, here, block(loop));
    build.end_loop(loop);
  }
  attend_and_merge(build, state, o, buffers(build, Index::of((ring_ - 2) % 2)), block(ring_ - 1));

  build.compute(Op::copy, "attention output to compute type", {o}, {state.o});
  release_both(build, false);
  build.release({o, lse_block, o_block});
}

// One block's gradients; its key/value part joins the sum that travels with the pair.
void RingAttention::backward_step(ProgramBuilder& build, const AttentionState& state,
                                  const BackwardTensors& tensors, const Pair& pair,
                                  const AttentionBlock& which, const Pair& sum) const {
  Instruction& kernel =
      build.compute(Op::attend_backward, "ring attention backward",
                    {state.q, pair.k, pair.v, tensors.d_o, state.lse, tensors.delta},
                    {tensors.dq, tensors.dk_block, tensors.dv_block});
  kernel.block = which;
  kernel.accumulate = true;
  build.compute(Op::add, "sum key gradients", {sum.k, tensors.dk_block}, {sum.k});
  build.compute(Op::add, "sum value gradients", {sum.v, tensors.dv_block}, {sum.v});
}

void RingAttention::backward(ProgramBuilder& build, const AttentionState& state, TensorRef d_o,
                             TensorRef dq, TensorRef dk, TensorRef dv) const {
  BackwardTensors tensors;
  tensors.d_o = d_o;
  tensors.delta = build.fresh("delta", rows(DataType::fp32));
  TensorSpec query = shapes_.core_spec(shapes_.core_heads());
  query.category = MemoryCategory::workspace;
  query.type = DataType::fp32;
  tensors.dq = build.fresh("ring_dq", query);
  TensorSpec key = shapes_.core_spec(shapes_.core_kv_heads());
  key.category = MemoryCategory::workspace;
  tensors.dk_block = build.fresh("ring_dk_block", key);
  tensors.dv_block = build.fresh("ring_dv_block", key);
  allocate_both(build, false);
  allocate_both(build, true);
  build.compute(Op::attention_delta, "attention delta", {state.o, d_o}, {tensors.delta});

  // Step 0: the own pair; its gradients begin the travelling sum.
  send(build, "ring exchange", {state.k, state.v}, buffers(build, Index::of(0)));
  const Pair first = gradients(build, Index::of(0));
  build
      .compute(Op::attend_backward, "ring attention backward",
               {state.q, state.k, state.v, d_o, state.lse, tensors.delta},
               {tensors.dq, first.k, first.v})
      .block = block(0);
  send(build, "ring gradient exchange", first, gradients(build, Index::of(1)));
  if (ring_ > 2) {
    const LoopId loop = build.begin_loop("ring steps backward", ring_ - 2, false);
    const Pair here = buffers(build, Index::counter(loop, 1, 0, 2));
    const Pair sum = gradients(build, Index::counter(loop, 1, 1, 2));
    send(build, "ring exchange", here, buffers(build, Index::counter(loop, 1, 1, 2)));
    backward_step(build, state, tensors, here, block(loop), sum);
    send(build, "ring gradient exchange", sum, gradients(build, Index::counter(loop, 1, 0, 2)));
    build.end_loop(loop);
  }
  const Pair last_sum = gradients(build, Index::of((ring_ - 1) % 2));
  backward_step(build, state, tensors, buffers(build, Index::of((ring_ - 2) % 2)), block(ring_ - 1),
                last_sum);
  // One more hop brings every pair's gradients home.
  const Pair home = gradients(build, Index::of(ring_ % 2));
  send(build, "ring gradient exchange", last_sum, home);
  build.compute(Op::copy, "query gradient to compute type", {tensors.dq}, {dq});
  build.compute(Op::copy, "key gradient to compute type", {home.k}, {dk});
  build.compute(Op::copy, "value gradient to compute type", {home.v}, {dv});
  release_both(build, true);
  release_both(build, false);
  build.release({tensors.dv_block, tensors.dk_block, tensors.dq, tensors.delta});
}

}  // namespace

std::unique_ptr<AttentionCore> make_ring_attention(const Shapes& shapes) {
  return std::make_unique<RingAttention>(shapes);
}

}  // namespace longhaul
