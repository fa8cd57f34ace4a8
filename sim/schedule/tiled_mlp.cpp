// An MLP in pieces of its tokens (ALST's TiledMLP, arXiv 2506.13996): a piece's activations exist
// only while it is worked on, forward and backward, where they are made again.
#include <utility>

#include "sim/schedule/transformer_block.h"

namespace longhaul {

// The first piece may write what the others add to, so it stands before the loop.
void TransformerBlock::each_tile(ProgramBuilder& build, const std::string& name,
                                 const std::function<void(Index begin, bool first)>& body) const {
  const std::int64_t tile = shapes_.tokens / scenario_.plan.mlp_tiles;
  body(Index::of(0), true);
  const LoopId loop = build.begin_loop(name, scenario_.plan.mlp_tiles - 1, true);
  body(Index::counter(loop, tile, tile), false);
  build.end_loop(loop);
}

TensorRef TransformerBlock::tile_of(TensorRef whole, Index begin) const {
  return ProgramBuilder::slice(std::move(whole), 1, std::move(begin),
                               shapes_.tokens / scenario_.plan.mlp_tiles);
}

TensorSpec TransformerBlock::tile_spec(TensorSpec spec) const {
  spec.shape[1] /= scenario_.plan.mlp_tiles;
  return spec;
}

void TransformerBlock::fill_tile(ProgramBuilder& build, const LayerWeights& weights,
                                 TensorRef tokens, TensorRef up, TensorRef activation) const {
  build.gemm("up projection", tokens, weights.up.value, up);
  build.compute(scenario_.model.gated_mlp ? Op::swiglu : Op::gelu, "mlp activation", {up},
                {activation});
}

void TransformerBlock::tiled_forward(ProgramBuilder& build, const LayerWeights& weights,
                                     TensorRef tokens, TensorRef output) const {
  each_tile(build, "pieces of the MLP", [&](const Index& begin, bool) {
    const TensorRef up = build.fresh("mlp_up_piece", tile_spec(up_spec()));
    const TensorRef activation = build.fresh("mlp_activation_piece", tile_spec(activation_spec()));
    fill_tile(build, weights, tile_of(tokens, begin), up, activation);
    build.gemm("down projection", activation, weights.down.value, tile_of(output, begin));
    build.release({up, activation});
  });
}

void TransformerBlock::tile_backward(ProgramBuilder& build, const LayerWeights& weights,
                                     TensorRef tokens, TensorRef d_tokens, TensorRef d_output,
                                     bool adds) const {
  const Part before = build.part();
  const TensorRef up = build.fresh("mlp_up_piece", tile_spec(up_spec()));
  const TensorRef activation = build.fresh("mlp_activation_piece", tile_spec(activation_spec()));
  build.part(Part::recompute);
  fill_tile(build, weights, tokens, up, activation);
  build.part(before);
  const TensorRef d_activation = build.fresh("d_mlp_activation_piece", tile_spec(activation_spec()));
  build.gemm("down projection dgrad", d_output, weights.down.value, d_activation, false, true);
  build.gemm("down projection wgrad", activation, d_output, weights.down.gradient, true, false,
             adds);
  build.release({activation});
  const TensorRef d_up =
      activation_backward(build, up, d_activation, "d_mlp_up_piece", tile_spec(up_spec()));
  build.gemm("up projection dgrad", d_up, weights.up.value, d_tokens, false, true);
  build.gemm("up projection wgrad", tokens, d_up, weights.up.gradient, true, false, adds);
  build.release({d_up});
}

void TransformerBlock::tiled_backward(ProgramBuilder& build, const LayerWeights& weights,
                                      const LayerState& state, TensorRef d, bool fresh) const {
  const TensorRef d_all = gather_operand(build, "d_mlp", d);
  const TensorRef tokens = gather_operand(build, "normed_mlp", state.norm_mlp);
  const TensorRef partial = build.fresh("d_normed_mlp", gathered_spec());
  each_tile(build, "pieces of the MLP backward", [&](const Index& begin, bool first) {
    tile_backward(build, weights, tile_of(tokens, begin), tile_of(partial, begin),
                  tile_of(d_all, begin), !(first && fresh));
  });
  drop_gathered(build, d_all, d);
  drop_gathered(build, tokens, state.norm_mlp);
  const TensorRef d_norm = sum_over_tensor(build, "d_normed_mlp", partial);
  build.release({state.norm_mlp});
  release_copies(build, state);
  norm_middle_backward(build, weights, state, d_norm, d);
}

}  // namespace longhaul
