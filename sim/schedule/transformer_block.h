// One transformer layer under tensor, sequence and context parallelism (Megatron-LM: arXiv
// 1909.08053, 2205.05198): forward, recompute and backward as instructions.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "sim/schedule/attention.h"
#include "sim/schedule/latent.h"
#include "sim/schedule/mixture.h"
#include "sim/schedule/weights.h"

namespace longhaul {

/// True if the model has an embedding and an LM head: not when published benchmarks run layers
/// alone.
inline bool has_ends(const Model& model) { return model.vocab > 0; }

/// The weights of one layer, in the order they are used; empty gradients in inference. `up` and
/// `down` are those of a dense layer, `experts` those of one with experts (`mixture`).
struct LayerWeights {
  Weight norm_attention, qkv, output, norm_mlp, up, down;
  LatentWeights latent;  ///< in place of qkv where the model has latent attention
  bool mixture = false;
  MixtureWeights experts;
};

/// A layer's weights, of both kinds where a model has both.
std::vector<WeightShape> layer_weight_shapes(const Scenario& scenario, const Shapes& shapes);

/// What a layer keeps for its backward pass.
struct LayerState {
  TensorRef input;           ///< [b, s, m], the residual stream
  TensorRef norm_attention;  ///< input of the qkv projection
  LatentState latent;        ///< where the model has latent attention
  AttentionState attention;
  TensorRef o;           ///< input of the output projection
  TensorRef middle;      ///< residual stream after attention
  TensorRef norm_mlp;    ///< input of the up projection
  TensorRef up;          ///< its output
  TensorRef activation;  ///< input of the down projection
  std::vector<TensorRef> copies;  ///< what a stack of separate operators saves besides
  std::vector<TensorRef> joined;  ///< weights that a stack joined for its products
  bool mixture = false;  ///< `experts` stands in place of `up` and `activation`
  MixtureState experts;
  TensorRef attention_mask, mlp_mask;  ///< of dropout, a byte per element (drops() only)
  /// All tokens of norm_attention and norm_mlp, where a recompute has gathered them just now and the
  /// stack keeps them.
  std::optional<TensorRef> tokens_attention, tokens_mlp;
  bool given_back = false;  ///< all but the input, while the layer ran (ForwardPass::passes_by)
};

/// What a forward pass leaves behind: what backward needs, or nothing. Without a graph that saves
/// them, tensors are given back by the function that made them when it ends.
enum class ForwardPass { keeps, passes_by };

/// The same tensors at another slot, where they have several; `input` apart.
LayerState at_slot(const ProgramBuilder& build, LayerState state, TensorRef input, Index slot);

/// Emits layers. Holds no state of its own besides sizes.
class TransformerBlock {
 public:
  explicit TransformerBlock(const Scenario& scenario);

  /// Residual stream on a rank: [b, s (/tensor with SP), m].
  [[nodiscard]] TensorSpec stream_spec() const;
  /// The same with all tokens of the tensor group.
  [[nodiscard]] TensorSpec gathered_spec() const;

  /// output = layer(input); `output` is allocated here. What backward needs stays allocated in
  /// slot `slot` of tensors with `slots` slots; in a pass that keeps nothing, until release_state()
  /// at most. `layer` counts the layers (for the KV cache of a prefill).
  LayerState forward(ProgramBuilder& build, const LayerWeights& weights, TensorRef input,
                     TensorRef output, std::int64_t slots, Index slot, Index layer,
                     ForwardPass pass = ForwardPass::keeps) const;
  /// Gives back everything the state holds except the input.
  void release_state(ProgramBuilder& build, const LayerState& state) const;
  // Recompute as the plan wants it, in sim/schedule/recompute.cpp.
  /// True if a layer that is recomputed keeps nothing but its input.
  [[nodiscard]] bool keeps_inputs_only() const;
  /// After forward() of a layer that is recomputed: gives back what the plan does not keep.
  void drop(ProgramBuilder& build, const LayerState& state, std::int64_t slots, Index slot) const;
  /// Before its backward(): makes again what drop() gave back, except what backward() itself does
  /// (attention alone, when recompute is selective).
  void restore(ProgramBuilder& build, const LayerWeights& weights, LayerState& state,
               std::int64_t slots, Index slot, Index layer) const;
  /// d (gradient of the output, in place) becomes the gradient of the input; weight gradients are
  /// added up (or written, where `fresh_gradients`). Gives back the state except the input.
  /// `recomputed`: the layer went through drop() and restore().
  void backward(ProgramBuilder& build, const LayerWeights& weights, const LayerState& state,
                TensorRef d, bool recomputed, bool fresh_gradients) const;

  // The two halves of backward() where weight gradients are made later (zero-bubble pipelines), in
  // sim/schedule/split_backward.cpp. Not for layers with experts, latent attention, tiles or chunks.
  /// d becomes the gradient of the input. What weight gradients read stays in slot `slot` of tensors
  /// with `slots` slots, the gradients of the products' outputs beside their inputs; the rest of the
  /// state is given back. Norms' weights get their gradients here.
  void input_gradients(ProgramBuilder& build, const LayerWeights& weights, const LayerState& state,
                       TensorRef d, bool recomputed, std::int64_t slots, Index slot) const;
  /// Adds up the weight gradients of the matrix products and gives back what they read.
  void weight_gradients(ProgramBuilder& build, const LayerWeights& weights, const LayerState& state,
                        std::int64_t slots, Index slot) const;

  // Shared with the head and the embedding.
  /// All tokens (dimension 1) of the tensor group, gathered when sequence parallel; else x itself.
  TensorRef gather_tokens(ProgramBuilder& build, const std::string& name, TensorRef x) const;
  /// What stays of x for a weight gradient, behind the product that has read it: x itself, or in
  /// stacks that save what fp8 products read (keeps_fp8_inputs) an fp8 copy; x is then given back.
  TensorRef keep_operand(ProgramBuilder& build, const std::string& name, TensorRef x,
                         std::int64_t slots, Index slot) const;
  /// Gives back what gather_tokens made.
  void drop_gathered(ProgramBuilder& build, TensorRef gathered, TensorRef x) const;
  /// Sums partial [b, s, ...] over the tensor group into the stream's layout and gives `partial`
  /// back; without tensor parallelism it is `partial` itself.
  TensorRef sum_over_tensor(ProgramBuilder& build, const std::string& name,
                            TensorRef partial) const;
  [[nodiscard]] const Shapes& shapes() const { return shapes_; }
  [[nodiscard]] bool sequence_parallel() const { return sequence_parallel_; }
  /// True if the step keeps masks of dropout behind the embedding, attention and the MLP. Their
  /// arithmetic is part of the kernels next to them.
  [[nodiscard]] bool drops() const { return drops_; }
  /// A mask of the residual stream.
  [[nodiscard]] TensorSpec mask_spec() const;

 private:
  [[nodiscard]] bool recomputes_parts() const;
  [[nodiscard]] bool keeps_attention_output() const;
  void release_mlp(ProgramBuilder& build, const LayerState& state) const;
  void release_attention(ProgramBuilder& build, const LayerState& state) const;
  [[nodiscard]] bool gives_back(ForwardPass pass, const LayerState& state) const;
  void drop_all_but_attention(ProgramBuilder& build, const LayerState& state, std::int64_t slots,
                              Index slot) const;
  void drop_details(ProgramBuilder& build, const LayerState& state, std::int64_t slots,
                    Index slot) const;
  void restore_details(ProgramBuilder& build, const LayerWeights& weights, LayerState& state,
                       std::int64_t slots, Index slot) const;
  void attention_forward(ProgramBuilder& build, const LayerWeights& weights, LayerState& state,
                         std::int64_t slots, Index slot, Index layer) const;
  void norm_input(ProgramBuilder& build, const LayerWeights& weights, LayerState& state,
                  std::int64_t slots, Index slot) const;
  std::array<TensorRef, 3> project_heads(ProgramBuilder& build, const LayerWeights& weights,
                                         LayerState& state, std::int64_t slots,
                                         Index slot) const;
  void project_output(ProgramBuilder& build, const LayerWeights& weights, LayerState& state,
                      std::int64_t slots, Index slot) const;
  void norm_middle(ProgramBuilder& build, const LayerWeights& weights, LayerState& state,
                   std::int64_t slots, Index slot) const;
  void activate(ProgramBuilder& build, LayerState& state, std::int64_t slots, Index slot) const;
  // What eager operators save besides the above, per token (docs/models/training_step.md).
  [[nodiscard]] std::vector<std::int64_t> copied_widths() const;
  [[nodiscard]] bool joins_weights() const;
  void attention_gemm(ProgramBuilder& build, const std::string& label, TensorRef a, TensorRef b,
                      TensorRef c, bool transpose_a = false, bool transpose_b = false,
                      bool accumulate = false) const;
  void hold_copies(ProgramBuilder& build, LayerState& state, std::int64_t slots, Index slot) const;
  void release_copies(ProgramBuilder& build, const LayerState& state) const;
  // The MLP of so many tokens after another (Plan::mlp_tiles): its activations are made again in
  // the backward pass.
  [[nodiscard]] bool tiles() const { return scenario_.plan.mlp_tiles > 1; }
  [[nodiscard]] bool keeps_fp8() const;
  void each_tile(ProgramBuilder& build, const std::string& name,
                 const std::function<void(Index begin, bool first)>& body) const;
  [[nodiscard]] TensorRef tile_of(TensorRef whole, Index begin) const;
  [[nodiscard]] TensorSpec tile_spec(TensorSpec spec) const;
  void fill_tile(ProgramBuilder& build, const LayerWeights& weights, TensorRef tokens,
                 TensorRef up, TensorRef activation) const;
  void tiled_forward(ProgramBuilder& build, const LayerWeights& weights, TensorRef tokens,
                     TensorRef output) const;
  void tiled_backward(ProgramBuilder& build, const LayerWeights& weights, const LayerState& state,
                      TensorRef d, bool fresh) const;
  void tile_backward(ProgramBuilder& build, const LayerWeights& weights, TensorRef tokens,
                     TensorRef d_tokens, TensorRef d_output, bool adds) const;
  [[nodiscard]] TensorRef kept_half(ProgramBuilder& build, std::int64_t slots, Index slot) const;
  void restore_up(ProgramBuilder& build, const LayerWeights& weights, LayerState& state,
                  std::int64_t slots, Index slot) const;
  // Products beside the collectives that feed or follow them, in sim/schedule/tensor_overlap.cpp.
  struct Product {
    std::string name;   ///< of what is gathered
    std::string label;  ///< of the product
    TensorRef a;        ///< this rank's tokens; all tokens are multiplied
    TensorRef weight, c;
    bool transposed = false;  ///< the weight is
    bool attention = false;   ///< of attention's projections, as attention_gemm()
  };
  [[nodiscard]] bool overlaps() const;
  TensorRef as_gathered(ProgramBuilder& build, const std::string& name, TensorRef x) const;
  TensorRef gather_operand(ProgramBuilder& build, const std::string& name, TensorRef x) const;
  // Stacks that leave tensor parallelism to autograd (PyTorch's DTensor).
  [[nodiscard]] bool keeps_gathered(const ProgramBuilder& build) const;
  void wait_for_tensor_ranks(ProgramBuilder& build) const;
  TensorRef sum_gradient(ProgramBuilder& build, const std::string& name, TensorRef partial) const;
  TensorRef gather_again(ProgramBuilder& build, const std::string& name, TensorRef x,
                         const std::optional<TensorRef>& kept) const;
  [[nodiscard]] TensorRef tokens_of(TensorRef whole, Index rank) const;
  TensorRef shard_buffer(ProgramBuilder& build, const std::string& name, DataType type,
                         std::int64_t slots) const;
  void pass_on(ProgramBuilder& build, const std::string& label, TensorRef from, TensorRef to,
               int shift) const;
  /// C from all tokens of A. Returns these if it `keeps` them, for drop_gathered(); else A.
  TensorRef multiply_gathered(ProgramBuilder& build, const Product& product, bool keeps) const;
  /// The product's sum over the tensor ranks in the stream's layout.
  TensorRef multiply_and_sum(ProgramBuilder& build, const std::string& name,
                             const std::string& label, TensorRef a, TensorRef weight,
                             bool attention = false) const;
  void mlp_forward(ProgramBuilder& build, const LayerWeights& weights, LayerState& state,
                   TensorRef output, std::int64_t slots, Index slot) const;
  TensorRef activation_backward(ProgramBuilder& build, TensorRef up, TensorRef d_activation,
                                const std::string& name, const TensorSpec& spec) const;
  void mlp_backward(ProgramBuilder& build, const LayerWeights& weights, const LayerState& state,
                    TensorRef d, bool fresh) const;
  void mixture_forward(ProgramBuilder& build, const LayerWeights& weights, LayerState& state,
                       TensorRef output, std::int64_t slots, Index slot) const;
  void mixture_backward(ProgramBuilder& build, const LayerWeights& weights,
                        const LayerState& state, TensorRef d) const;
  void norm_middle_backward(ProgramBuilder& build, const LayerWeights& weights,
                            const LayerState& state, TensorRef d_norm, TensorRef d) const;
  void attention_backward(ProgramBuilder& build, const LayerWeights& weights,
                          const LayerState& state, TensorRef d, bool attends_again,
                          bool fresh) const;
  void qkv_forward(ProgramBuilder& build, const LayerWeights& weights, LayerState& state,
                   const QkvTensors& heads, std::int64_t slots, Index slot) const;
  TensorRef qkv_backward(ProgramBuilder& build, const LayerWeights& weights,
                         const LayerState& state, const QkvTensors& gradients, bool fresh) const;
  QkvTensors heads_backward(ProgramBuilder& build, const LayerState& state, TensorRef d_o) const;
  TensorRef output_backward(ProgramBuilder& build, const LayerWeights& weights,
                            const LayerState& state, TensorRef d, bool fresh) const;
  void norm_input_backward(ProgramBuilder& build, const LayerWeights& weights,
                           const LayerState& state, TensorRef d_norm, TensorRef d) const;
  void join_gradients(ProgramBuilder& build, const QkvTensors& gradients, TensorRef d_qkv) const;
  // Of split_backward.cpp: gradients of products' outputs that wait for their weight gradients.
  struct HeldGradients {
    TensorRef output;     ///< of the down projection
    TensorRef up;         ///< of the up projection
    TensorRef attention;  ///< of the output projection
    TensorRef qkv;
  };
  [[nodiscard]] HeldGradients held_gradients(ProgramBuilder& build, const LayerState& state,
                                             std::int64_t slots, Index slot) const;
  void hold_tokens(ProgramBuilder& build, const std::string& name, TensorRef d,
                   TensorRef held) const;
  void mlp_input_gradient(ProgramBuilder& build, const LayerWeights& weights,
                          const LayerState& state, const HeldGradients& held, TensorRef d) const;
  void attention_input_gradient(ProgramBuilder& build, const LayerWeights& weights,
                                const LayerState& state, const HeldGradients& held,
                                TensorRef d) const;
  // The sequence in chunks (RingVariant::chunked_offload), in sim/schedule/chunked_block.cpp.
  [[nodiscard]] TensorSpec normed_piece_spec() const;
  TensorRef normed_on_host(ProgramBuilder& build) const;
  void chunked_attention_forward(ProgramBuilder& build, const LayerWeights& weights,
                                 LayerState& state, std::int64_t slots, Index slot) const;
  std::array<TensorRef, 3> project_chunk(ProgramBuilder& build, const LayerWeights& weights,
                                         TensorRef normed, const Index& chunk) const;
  void chunked_attention_backward(ProgramBuilder& build, const LayerWeights& weights,
                                  const LayerState& state, TensorRef d, bool fresh) const;
  void project_chunk_backward(ProgramBuilder& build, const LayerWeights& weights,
                              const std::array<TensorRef, 3>& gradients, TensorRef d_normed,
                              const Index& chunk, bool fresh) const;
  void release_chunked(ProgramBuilder& build, const LayerState& state) const;
  [[nodiscard]] TensorSpec kept(TensorSpec spec, std::int64_t slots) const;
  [[nodiscard]] TensorSpec qkv_spec() const;
  [[nodiscard]] TensorSpec up_spec() const;
  [[nodiscard]] TensorSpec activation_spec() const;

  const Scenario& scenario_;
  Shapes shapes_;
  ContextAttention attention_;
  LatentProjections latent_;
  Mixture mixture_;
  bool sequence_parallel_;
  bool drops_;
};

}  // namespace longhaul
