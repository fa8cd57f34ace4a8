// The projections of multi-head latent attention (DeepSeek-V2, arXiv 2405.04434 section 2.1): queries,
// keys and values from narrow latent vectors. docs/models/moe.md.
#pragma once

#include <string>
#include <vector>

#include "sim/schedule/attention.h"
#include "sim/schedule/weights.h"

namespace longhaul {

class TransformerBlock;

struct LatentWeights {
  Weight q_down, norm_q, q_up, kv_down, norm_kv, kv_up;
};

/// What stays for the backward pass besides the input, q, k and v: the latent vectors before and
/// after their norms, of this rank's part of the tokens. The queries' are unset without q_lora_rank.
struct LatentState {
  TensorRef q_raw, q_latent, kv_raw, kv_latent;
};

/// The shapes of a layer's latent projections on a rank.
std::vector<WeightShape> latent_weight_shapes(const Model& model, const Shapes& shapes);

/// Queries, keys and values (or their gradients): [b, s, h, channels].
struct QkvTensors {
  TensorRef q, k, v;
};

/// Emits the projections. Holds no state of its own besides sizes.
class LatentProjections {
 public:
  LatentProjections(const Scenario& scenario, const Shapes& shapes);
  /// Writes q, k, v (allocated by the caller, rotated) from x, in the residual stream's layout.
  void forward(ProgramBuilder& build, const TransformerBlock& block, const LatentWeights& weights,
               TensorRef x, const QkvTensors& heads, LatentState& state, std::int64_t slots,
               Index slot) const;
  void release(ProgramBuilder& build, const LatentState& state) const;
  /// Gives back what the norms made of the latent vectors, and makes it again.
  void drop_norms(ProgramBuilder& build, const LatentState& state) const;
  void restore_norms(ProgramBuilder& build, const LatentWeights& weights,
                     const LatentState& state) const;
  /// From the gradients of q, k, v, which it gives back together with the state, to that of x,
  /// which is returned, fresh.
  TensorRef backward(ProgramBuilder& build, const TransformerBlock& block,
                     const LatentWeights& weights, const LatentState& state, TensorRef x,
                     const QkvTensors& gradients) const;

 private:
  [[nodiscard]] TensorSpec tokens_spec(const TransformerBlock& block, std::int64_t width,
                                       bool gathered) const;
  [[nodiscard]] TensorRef positioned(TensorRef q) const;
  void queries(ProgramBuilder& build, const TransformerBlock& block, const LatentWeights& weights,
               TensorRef x, TensorRef q, LatentState& state, std::int64_t slots, Index slot) const;
  void keys_and_values(ProgramBuilder& build, const TransformerBlock& block,
                       const LatentWeights& weights, TensorRef x, const QkvTensors& heads,
                       LatentState& state, std::int64_t slots, Index slot) const;
  TensorRef queries_backward(ProgramBuilder& build, const TransformerBlock& block,
                             const LatentWeights& weights, const LatentState& state, TensorRef x,
                             TensorRef dq) const;
  void keys_and_values_backward(ProgramBuilder& build, const TransformerBlock& block,
                                const LatentWeights& weights, const LatentState& state,
                                TensorRef x, const QkvTensors& gradients, TensorRef d_x) const;
  TensorRef through_up(ProgramBuilder& build, const TransformerBlock& block,
                       const std::string& name, TensorRef latent, TensorRef d, const Weight& up,
                       std::int64_t width) const;

  Shapes shapes_;
  LatentAttention latent_;
  std::int64_t hidden_;
  bool sequence_parallel_;
};

}  // namespace longhaul
