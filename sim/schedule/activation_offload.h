// What a layer saves for its backward pass waits in host memory (docs/models/offload.md): PyTorch's
// saved-tensor hooks as Transformer Engine and torchtune use them.
#pragma once

#include <vector>

#include "sim/schedule/builder.h"

namespace longhaul {

/// What tells layers apart that save different tensors.
struct SavedKind {
  bool mixture = false;
  bool recomputes = false;
};

/// Sends what is left on the GPU behind a layer and fetches it again. On the GPU the tensors have a
/// few slots that layers take in turn, in host memory one for each layer (and pass).
class ActivationOffload {
 public:
  /// `layers`: slots in host memory.
  ActivationOffload(ProgramBuilder& build, std::int64_t layers) : build_(build), layers_(layers) {}

  /// What is allocated from here on belongs to a layer.
  void begin() { begin_ = build_.program().code.size(); }
  /// Sends what it still holds, except the slots of `stays` (its output), to slot `place` of host
  /// memory, and gives it back on the GPU.
  void send(SavedKind kind, TensorId stays, const Index& place);
  /// Brings back what a layer of this kind sent, to slot `slot` on the GPU.
  void fetch(SavedKind kind, const Index& slot, const Index& place);

 private:
  [[nodiscard]] std::vector<TensorRef> held_since_begin(TensorId stays) const;
  [[nodiscard]] bool is_written(const TensorRef& ref) const;
  [[nodiscard]] TensorRef on_host(const TensorRef& ref, const Index& place);
  std::vector<TensorRef>& sent(SavedKind kind) {
    return sent_[kind.mixture ? 1 : 0][kind.recomputes ? 1 : 0];
  }

  ProgramBuilder& build_;
  std::int64_t layers_;
  std::size_t begin_ = 0;
  std::vector<TensorRef> sent_[2][2];  ///< by kind, at the slots of the forward pass
};

}  // namespace longhaul
