// The two ends of the model: embedding and loss, parallel over the vocabulary.
#pragma once

#include "sim/schedule/parameters.h"

namespace longhaul {

/// Emits embedding, LM head and loss of one micro-batch.
class ModelEnds {
 public:
  ModelEnds(const Scenario& scenario, const TransformerBlock& block, const Parameters& parameters)
      : scenario_(scenario), block_(block), parameters_(parameters) {}

  /// Token ids (or labels) of micro-batch `slot`: [b, s], held from the start.
  TensorRef ids(ProgramBuilder& build, const std::string& name, Index slot) const;
  /// The host's time to read a micro-batch, and its wait where it reads sizes of it back.
  void read_batch(ProgramBuilder& build) const;
  /// What follows the optimizer: losses and norms read back, logs, the wait for the next batch.
  void end_step(ProgramBuilder& build) const;
  /// Whether the host does anything between micro-batches.
  [[nodiscard]] bool holds_host() const;
  /// For a model of layers alone: the first layer's input, and the gradient of the last one's
  /// output, come from outside (`name`: "x", "dy"), and the gradient of the input goes there
  /// ("dx"). They are views: their bytes are those of `stream`, whose contents they give or take.
  void come_in(ProgramBuilder& build, const std::string& name, TensorRef stream, Index slot) const;
  void go_out(ProgramBuilder& build, const std::string& name, TensorRef stream, Index slot) const;
  /// hidden = embedding(tokens).
  void embed(ProgramBuilder& build, TensorRef tokens, TensorRef hidden) const;
  void embed_backward(ProgramBuilder& build, TensorRef tokens, TensorRef d) const;
  /// Final norm and head; only the last token's logits for a prefill.
  void logits_only(ProgramBuilder& build, TensorRef hidden) const;
  /// Final norm, head, loss, and back: allocates and returns the gradient of `hidden`.
  /// in slot `slot` of "d_hidden".
  TensorRef loss_and_back(ProgramBuilder& build, TensorRef hidden, TensorRef labels,
                          Index slot = Index::of(0)) const;

  /// The same but for the head's weight gradient, and for dropping what it reads: the gradient of the
  /// logits and the normed input, in slot `slot` of `slots`. d is allocated here. Not for losses in
  /// pieces.
  void loss_and_input_gradient(ProgramBuilder& build, TensorRef hidden, TensorRef labels,
                               TensorRef d, std::int64_t slots, Index slot) const;
  /// Adds up the head's weight gradient, and drops it.
  void head_weight_gradient(ProgramBuilder& build, std::int64_t slots, Index slot) const;

 private:
  TensorRef outside(ProgramBuilder& build, const std::string& name, Role role, Index slot) const;
  [[nodiscard]] TensorSpec logits_spec(DataType type) const;
  [[nodiscard]] TensorRef held_logits(ProgramBuilder& build, std::int64_t slots, Index slot) const;
  [[nodiscard]] TensorRef held_norm(ProgramBuilder& build, std::int64_t slots, Index slot) const;
  [[nodiscard]] TensorSpec losses_spec() const;  ///< a loss per token
  void show_whole(ProgramBuilder& build, TensorRef logits) const;
  [[nodiscard]] bool whole_head() const;
  [[nodiscard]] TensorRef head_to_use(ProgramBuilder& build) const;
  void drop_head(ProgramBuilder& build, TensorRef head) const;
  void head_gradient(ProgramBuilder& build, TensorRef d_logits, TensorRef tokens,
                     bool accumulate) const;
  void head_gradient_of_piece(ProgramBuilder& build, TensorRef d_logits, TensorRef tokens,
                              bool accumulate) const;
  TensorRef loss(ProgramBuilder& build, TensorRef logits, TensorRef labels) const;
  void loss_of_tokens(ProgramBuilder& build, TensorRef tokens, TensorRef labels, TensorRef d,
                      bool accumulate) const;
  [[nodiscard]] std::int64_t chunk_tokens() const {
    return block_.shapes().tokens / scenario_.plan.loss_chunks;
  }

  const Scenario& scenario_;
  const TransformerBlock& block_;
  const Parameters& parameters_;
};

}  // namespace longhaul
