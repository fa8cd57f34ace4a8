// A mixture of experts in place of an MLP, dealt to ranks by expert (GShard, arXiv 2006.16668;
// Megatron-LM's token dispatchers): docs/models/moe.md.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "sim/schedule/attention.h"
#include "sim/schedule/token_counts.h"
#include "sim/schedule/weights.h"

namespace longhaul {

class TransformerBlock;

/// The shapes of a layer's router, routed and shared experts on a rank.
std::vector<WeightShape> mixture_weight_shapes(const Scenario& scenario, const Shapes& shapes);

struct MixtureWeights {
  Weight router, up, down, shared_up, shared_down;
};

/// What a mixture keeps for its backward pass, besides its input.
struct MixtureState {
  TensorRef logits;      ///< [b, s, experts], of this rank's tokens
  TensorRef input;       ///< [local experts, rows, m]: what has arrived
  TensorRef weights;     ///< [local experts, rows]: each row's weight
  TensorRef up;          ///< [local experts, rows, f, 2]
  TensorRef activation;  ///< [local experts, rows, f], weighted
  TensorRef shared_up, shared_activation;  ///< as in an MLP; unset without shared experts
};

/// Emits mixtures. Holds no state of its own besides sizes.
class Mixture {
 public:
  Mixture(const Scenario& scenario, const Shapes& shapes);
  /// Returns the experts' output for x [b, s, m] in the residual stream's layout, fresh. What
  /// backward needs stays allocated in slot `slot` of tensors with `slots` slots.
  TensorRef forward(ProgramBuilder& build, const TransformerBlock& block,
                    const MixtureWeights& weights, TensorRef x, MixtureState& state,
                    std::int64_t slots, Index slot) const;
  // Recompute in part, in sim/schedule/recompute.cpp.
  /// Gives back what a recompute that keeps products' outputs makes again (every_second: torchtitan's
  /// op_sac), and holds what it keeps besides.
  void drop(ProgramBuilder& build, const TransformerBlock& block, const MixtureState& state,
            bool every_second, std::int64_t slots, Index slot) const;
  /// Makes it again, from x.
  void restore(ProgramBuilder& build, const TransformerBlock& block, const MixtureWeights& weights,
               TensorRef x, MixtureState& state, bool every_second, std::int64_t slots,
               Index slot) const;
  /// Gives the state back.
  void release(ProgramBuilder& build, const MixtureState& state) const;
  /// From d, the gradient of the output, to that of x, which is returned, fresh. Gives the state
  /// back.
  TensorRef backward(ProgramBuilder& build, const TransformerBlock& block,
                     const MixtureWeights& weights, const MixtureState& state, TensorRef x,
                     TensorRef d) const;
  [[nodiscard]] bool shares() const { return shared_ffn_ > 0; }

 private:
  /// Rows on their way: [experts, rows, m], and a weight for each where `weights` is set.
  struct Rows {
    TensorRef rows;
    std::optional<TensorRef> weights;
  };
  Rows make(ProgramBuilder& build, const std::string& name, std::int64_t experts,
            std::int64_t rows, bool weighted, const TensorSpec& like, Index slot) const;
  /// What runs on the compute stream beside an exchange; empty: nothing.
  using Beside = std::function<void()>;
  // Ways to the experts and back, one pair per dispatcher: sim/schedule/dispatchers.cpp.
  /// Tokens x (and their experts' weights) to rows of the experts of this rank, called `name`; `like`
  /// says how long they are kept.
  Rows to_experts(ProgramBuilder& build, const std::string& name, TensorRef x,
                  std::optional<TensorRef> weights, const TensorSpec& like, Index slot,
                  const Beside& beside = {}) const;
  /// Back to sums of each token's rows, called `sum`, fresh, and gradients of its weights if the rows
  /// have any. Gives the rows back.
  Rows to_tokens(ProgramBuilder& build, const TransformerBlock& block, const std::string& name,
                 const std::string& sum, Rows at, const Beside& beside = {}) const;
  Rows by_all_to_all(ProgramBuilder& build, const std::string& name, TensorRef x,
                     std::optional<TensorRef> weights, const TensorSpec& like, Index slot,
                     const Beside& beside) const;
  Rows back_by_all_to_all(ProgramBuilder& build, const std::string& name, Rows at,
                          const Beside& beside) const;
  Rows by_all_gather(ProgramBuilder& build, const std::string& name, TensorRef x,
                     std::optional<TensorRef> weights, const Beside& beside) const;
  Rows by_node(ProgramBuilder& build, const std::string& name, TensorRef x,
               std::optional<TensorRef> weights, const Beside& beside) const;
  Rows combined(ProgramBuilder& build, const std::string& name, const Rows& at,
                TensorRef tokens) const;
  [[nodiscard]] TokenRoute near_route(ProgramBuilder& build, TensorRef tokens) const;
  Instruction& node_exchange(ProgramBuilder& build, Op op, const std::string& label,
                             std::vector<TensorRef> reads, std::vector<TensorRef> writes) const;
  void exchange(ProgramBuilder& build, Op op, const std::string& label, const Rows& from,
                const Rows& to, int dim, int join_dim) const;
  void drop(ProgramBuilder& build, const Rows& rows) const;
  [[nodiscard]] std::vector<TensorRef> kept_outputs(ProgramBuilder& build,
                                                    const TransformerBlock& block,
                                                    bool every_second, std::int64_t slots,
                                                    const Index& slot) const;
  [[nodiscard]] TensorRef kept_gate(ProgramBuilder& build, const TransformerBlock& block,
                                    std::int64_t slots, const Index& slot) const;
  void products_again(ProgramBuilder& build, const TransformerBlock& block,
                      const MixtureWeights& weights, TensorRef x, MixtureState& state,
                      std::int64_t slots, const Index& slot) const;
  Rows experts_backward(ProgramBuilder& build, const MixtureWeights& weights,
                        const MixtureState& state, TensorRef d, const Beside& beside) const;
  // The shared experts in halves: up to the activation, and from there to the output.
  void shared_up(ProgramBuilder& build, const TransformerBlock& block,
                 const MixtureWeights& weights, TensorRef x, MixtureState& state,
                 std::int64_t slots, Index slot) const;
  TensorRef shared_down(ProgramBuilder& build, const TransformerBlock& block,
                        const MixtureWeights& weights, MixtureState& state, std::int64_t slots,
                        Index slot) const;
  TensorRef shared_down_backward(ProgramBuilder& build, const TransformerBlock& block,
                                 const MixtureWeights& weights, const MixtureState& state,
                                 TensorRef d) const;
  TensorRef shared_up_backward(ProgramBuilder& build, const TransformerBlock& block,
                               const MixtureWeights& weights, TensorRef x, TensorRef d_up) const;
  [[nodiscard]] TensorSpec token_spec(const TransformerBlock& block, std::int64_t width,
                                      DataType type) const;
  [[nodiscard]] TensorSpec hidden_spec(std::int64_t slots, bool gated) const;
  [[nodiscard]] TensorSpec shared_spec(const TransformerBlock& block, std::int64_t slots,
                                       bool gated) const;

  DataType type_;
  std::int64_t experts_, per_token_, hidden_;
  std::int64_t ranks_;       ///< the experts are dealt to
  std::int64_t cut_;         ///< ranks that share one expert's width
  std::int64_t local_;       ///< experts of a rank
  std::int64_t rows_;        ///< that a rank sends to each expert
  std::int64_t ffn_;         ///< of an expert on a rank
  std::int64_t shared_ffn_;  ///< on a rank
  ExpertDispatch dispatch_;
  bool fp8_dispatch_;
  bool overlaps_shared_;
  TokenRoute routing_;       ///< limits of the router, and deepep's nodes
  std::int64_t rank_rows_;   ///< deepep: tokens that a rank sends to each rank
};

}  // namespace longhaul
