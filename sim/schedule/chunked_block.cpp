// The attention half of a layer whose sequence goes through in chunks (FPDT, arXiv 2408.16978): q,
// k and v of a chunk are projected when its turn comes. Of the normed input each chunk waits in host
// memory for the weights' gradient; the output projection is of all tokens at once, as in
// DeepSpeed's deepspeed/sequence/fpdt_layer.py.
#include "sim/schedule/transformer_block.h"

namespace longhaul {

TensorSpec TransformerBlock::normed_piece_spec() const {
  TensorSpec spec = gathered_spec();
  spec.shape[1] /= shapes_.chunks;
  return spec;
}

TensorRef TransformerBlock::normed_on_host(ProgramBuilder& build) const {
  return attention_.on_host(build, "normed_attention", normed_piece_spec());
}

void TransformerBlock::chunked_attention_forward(ProgramBuilder& build,
                                                 const LayerWeights& weights, LayerState& state,
                                                 std::int64_t slots, Index slot) const {
  norm_input(build, weights, state, slots, slot);
  const TensorRef normed = state.norm_attention;
  state.o = build.fresh("o", kept(shapes_.heads_spec(shapes_.heads, shapes_.value_dim), slots),
                        slot);
  state.attention = attention_.chunked_forward(
      build,
      [&](const Index& chunk) {
        return project_chunk(build, weights, attention_.piece_of(normed, chunk), chunk);
      },
      state.o);
  build.release({normed});
  project_output(build, weights, state, slots, slot);
}

std::array<TensorRef, 3> TransformerBlock::project_chunk(ProgramBuilder& build,
                                                         const LayerWeights& weights,
                                                         TensorRef normed,
                                                         const Index& chunk) const {
  TensorSpec spec = qkv_spec();
  spec.shape[1] /= shapes_.chunks;
  const TensorRef qkv = build.fresh("qkv_piece", spec);
  attention_gemm(build, "qkv projection", normed, weights.qkv.value, qkv);
  attention_.send(build, "normed input", {normed},
                  {ProgramBuilder::at(normed_on_host(build), chunk)});
  const std::array<TensorRef, 3> pieces = attention_.fresh_pieces(build, "");
  build.compute(Op::split_qkv, "split q, k, v", {qkv}, {pieces[0], pieces[1], pieces[2]});
  build.release({qkv});
  return pieces;
}

// From the gradient of the attention half's output, d, to that of the layer's input.
void TransformerBlock::chunked_attention_backward(ProgramBuilder& build,
                                                  const LayerWeights& weights,
                                                  const LayerState& state, TensorRef d,
                                                  bool fresh) const {
  const TensorRef d_o = output_backward(build, weights, state, d, fresh);
  build.release({state.o});
  const TensorRef d_norm = build.fresh("d_normed_attention", gathered_spec());
  attention_.chunked_backward(
      build, state.attention, d_o,
      [&](const Index& chunk, const std::array<TensorRef, 3>& gradients) {
        project_chunk_backward(build, weights, gradients, attention_.piece_of(d_norm, chunk),
                               chunk, fresh);
      });
  build.release({d_o});
  norm_input_backward(build, weights, state, d_norm, d);
}

void TransformerBlock::project_chunk_backward(ProgramBuilder& build, const LayerWeights& weights,
                                              const std::array<TensorRef, 3>& gradients,
                                              TensorRef d_normed, const Index& chunk,
                                              bool fresh) const {
  const TensorRef host = ProgramBuilder::at(normed_on_host(build), chunk);
  const TensorRef normed = build.fresh("normed_piece", normed_piece_spec());
  build.host_work(Op::from_host, "fetch normed input", {host}, {normed});
  build.release({host});
  TensorSpec spec = qkv_spec();
  spec.shape[1] /= shapes_.chunks;
  const TensorRef d_qkv = build.fresh("d_qkv_piece", spec);
  build.compute(Op::merge_qkv, "join dq, dk, dv", {gradients[0], gradients[1], gradients[2]},
                {d_qkv});
  build.release({gradients[0], gradients[1], gradients[2]});
  attention_gemm(build, "qkv projection dgrad", d_qkv, weights.qkv.value, d_normed, false, true);
  const auto weight_gradient = [&](bool adds) {
    attention_gemm(build, "qkv projection wgrad", normed, d_qkv, weights.qkv.gradient, true, false,
                   adds);
  };
  // The first chunk may write what the others add to.
  build.begin_when({chunk, 0, 0});
  weight_gradient(!fresh);
  build.end_when();
  build.begin_when({chunk, 1, shapes_.chunks});
  weight_gradient(true);
  build.end_when();
  build.release({d_qkv, normed});
}

// What waits in host memory for a backward pass that does not come, or comes after a recompute.
void TransformerBlock::release_chunked(ProgramBuilder& build, const LayerState& state) const {
  attention_.release_chunks(build, state.attention);
  attention_.release_hosts(build, {normed_on_host(build)});
}

}  // namespace longhaul
