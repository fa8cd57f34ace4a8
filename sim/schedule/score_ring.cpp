// Ring self-attention with stored scores (Li et al., Sequence Parallelism, arXiv 2105.13120; its
// forms in Colossal-AI and BurstEngine): keys travel around the ring until every rank has the scores
// of its queries against the whole sequence, the softmax of whole rows follows, then values travel.
// Backward, what falls to keys and values of other ranks is summed by an all-reduce of gradients for
// the whole sequence, of which each rank takes its piece; values travel for the gradient of the
// probabilities, keys for that of the queries. Nothing travels while something is computed: the
// implementations send, wait, then multiply. Pieces are multiplied whatever the mask hides.
#include <cmath>
#include <functional>

#include "sim/schedule/attention.h"

namespace longhaul {

namespace {

/// What is here in a step, and which shard it is.
struct Piece {
  TensorRef here;
  Index owner;
  Index first_token;  ///< of the shard, counted shard after shard
  bool own = false;
};

class ScoreRing : public AttentionCore {
 public:
  explicit ScoreRing(const Shapes& shapes) : shapes_(shapes) {}
  void forward(ProgramBuilder& build, const AttentionState& state) const override;
  void backward(ProgramBuilder& build, const AttentionState& state, TensorRef d_o, TensorRef dq,
                TensorRef dk, TensorRef dv) const override;

 private:
  void around(ProgramBuilder& build, TensorRef own, const std::string& name,
              const std::function<void(const Piece&)>& visit) const;
  [[nodiscard]] Piece piece(TensorRef here, std::optional<LoopId> loop) const;
  [[nodiscard]] TensorRef columns(TensorRef scores, const Piece& piece) const;
  [[nodiscard]] TensorRef scores(ProgramBuilder& build, const AttentionState& state,
                                 const std::string& name) const;
  [[nodiscard]] TensorRef block(ProgramBuilder& build, const AttentionState& state,
                                const std::string& name) const;
  void fill_scores(ProgramBuilder& build, const AttentionState& state, TensorRef scores) const;
  void fill_gradient(ProgramBuilder& build, const AttentionState& state, TensorRef d_o,
                     TensorRef d_probabilities) const;
  void weigh_all(ProgramBuilder& build, TensorRef weights, TensorRef own, const std::string& name,
                 TensorRef sum) const;
  void sum_over_ring(ProgramBuilder& build, const std::string& name, TensorRef weights,
                     TensorRef rows, TensorRef to) const;

  Shapes shapes_;
};

Piece ScoreRing::piece(TensorRef here, std::optional<LoopId> loop) const {
  Index owner = Index::coordinate(Axis::ring);
  if (loop) {
    owner = Index::coordinate(Axis::ring, shapes_.ring - 1, shapes_.ring);
    owner.loop = loop;
    owner.loop_coefficient = -1;
  }
  return {here, owner, times(owner, shapes_.core_tokens()), !loop};
}

// The rank's own piece, then those of the ranks before it. What was received is worked on where it
// arrived and sent on from the other buffer, which it moves to afterwards: the next transfer waits.
void ScoreRing::around(ProgramBuilder& build, TensorRef own, const std::string& name,
                       const std::function<void(const Piece&)>& visit) const {
  TensorSpec spec = build.spec_like(own, MemoryCategory::kv_buffers);
  spec.slots = 2;
  visit(piece(own, {}));
  const TensorRef sent = build.fresh(name, spec, Index::of(0));
  const TensorRef received = build.fresh(name, spec, Index::of(1));
  const auto move = [&](TensorRef from) {
    build.compute(Op::copy, "what is sent next", {from}, {sent}).fused = true;
  };
  move(own);
  const LoopId loop = build.begin_loop("ring steps", shapes_.ring - 1, true);
  build.collective(Op::send_receive, Stream::context, *build.group("ring", {Axis::ring}),
                   "ring exchange", {sent}, {received});
  visit(piece(received, loop));
  move(received);
  build.end_loop(loop);
  build.release({received, sent});
}

TensorRef ScoreRing::columns(TensorRef scores, const Piece& piece) const {
  return ProgramBuilder::slice(std::move(scores), 3, piece.first_token, shapes_.core_tokens());
}

// As large as the probabilities that are kept.
TensorRef ScoreRing::scores(ProgramBuilder& build, const AttentionState& state,
                            const std::string& name) const {
  return build.fresh(name, build.spec_like(state.scores[0], MemoryCategory::workspace));
}

// Scores of one piece, before they take their place among the others.
TensorRef ScoreRing::block(ProgramBuilder& build, const AttentionState& state,
                           const std::string& name) const {
  TensorSpec spec = build.spec_like(state.scores[0], MemoryCategory::workspace);
  spec.shape[3] = shapes_.core_tokens();
  return build.fresh(name, spec);
}

// Each product is scaled and then copied to its columns: two kernels that read and write it.
void ScoreRing::fill_scores(ProgramBuilder& build, const AttentionState& state,
                            TensorRef scores) const {
  const TensorRef made = block(build, state, "score_block");
  around(build, state.k, "score_ring_k", [&](const Piece& piece) {
    build.compute(Op::score, "scores of a piece", {state.q, piece.here}, {made}).block =
        AttentionBlock{Index::coordinate(Axis::ring), piece.owner};
    Instruction& put =
        build.compute(Op::copy, "scores to their place", {made}, {columns(scores, piece)});
    put.launches = put.traffic = 2.0;
  });
  build.release({made});
}

// Sum over the whole sequence of weights times what travels.
void ScoreRing::weigh_all(ProgramBuilder& build, TensorRef weights, TensorRef own,
                          const std::string& name, TensorRef sum) const {
  around(build, own, name, [&](const Piece& piece) {
    build.compute(Op::weigh, "weighted sum", {columns(weights, piece), piece.here}, {sum})
        .accumulate = !piece.own;
  });
}

void ScoreRing::forward(ProgramBuilder& build, const AttentionState& state) const {
  const TensorRef raw = scores(build, state, "attention_scores");
  fill_scores(build, state, raw);
  build.compute(Op::softmax, "softmax", {raw}, {state.scores[0]});
  build.release({raw});
  weigh_all(build, state.scores[0], state.v, "score_ring_v", state.o);
}

void ScoreRing::fill_gradient(ProgramBuilder& build, const AttentionState& state, TensorRef d_o,
                              TensorRef d_probabilities) const {
  build.compute(Op::zero, "clear gradient of probabilities", {}, {d_probabilities});
  const TensorRef made = block(build, state, "d_probability_block");
  around(build, state.v, "score_ring_v", [&](const Piece& piece) {
    build.compute(Op::score, "gradient of probabilities", {d_o, piece.here}, {made});
    const TensorRef place = columns(d_probabilities, piece);
    build.compute(Op::add, "gradient to its place", {place, made}, {place});
  });
  build.release({made});
}

// Each rank has a part of the gradient of every token: they are summed, then each takes its tokens.
void ScoreRing::sum_over_ring(ProgramBuilder& build, const std::string& name, TensorRef weights,
                              TensorRef rows, TensorRef to) const {
  TensorSpec spec = build.spec_like(to, MemoryCategory::communication);
  spec.shape[1] *= shapes_.ring;
  spec.shards[1].clear();
  const TensorRef whole = build.fresh(name, spec);
  build.compute(Op::weigh, "gradient of the whole sequence", {weights, rows}, {whole})
      .transpose_a = true;
  build.collective(Op::all_reduce, Stream::context, *build.group("ring", {Axis::ring}),
                   "sum gradient of the whole sequence", {whole}, {whole});
  const TensorRef own =
      ProgramBuilder::slice(whole, 1, piece(whole, {}).first_token, shapes_.core_tokens());
  build.compute(Op::copy, "own piece of the gradient", {own}, {to});
  build.release({whole});
}

void ScoreRing::backward(ProgramBuilder& build, const AttentionState& state, TensorRef d_o,
                         TensorRef dq, TensorRef dk, TensorRef dv) const {
  const TensorRef probabilities = state.scores[0];
  sum_over_ring(build, "dv_all", probabilities, d_o, dv);
  const TensorRef d_probabilities = scores(build, state, "d_probabilities");
  fill_gradient(build, state, d_o, d_probabilities);
  const TensorRef d_scores = scores(build, state, "d_scores");
  Instruction& softmax = build.compute(Op::softmax_backward, "softmax backward",
                                       {probabilities, d_probabilities}, {d_scores});
  softmax.scale = 1.0 / std::sqrt(static_cast<double>(shapes_.head_dim));
  // The scale is a kernel of its own, that reads and writes the gradient once more.
  softmax.launches = 2.0;
  softmax.traffic = 5.0 / 3.0;
  build.release({d_probabilities});
  sum_over_ring(build, "dk_all", d_scores, state.q, dk);
  weigh_all(build, d_scores, state.k, "score_ring_k", dq);
  build.release({d_scores});
}

}  // namespace

std::unique_ptr<AttentionCore> make_score_ring(const Shapes& shapes) {
  return std::make_unique<ScoreRing>(shapes);
}

}  // namespace longhaul
