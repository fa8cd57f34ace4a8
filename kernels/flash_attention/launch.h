#pragma once
// How the host calls the Hopper forward kernel.

#include <memory>

#include <cuda_runtime_api.h>

#include "kernels/common/bfloat16.h"
#include "kernels/flash_attention/problem.h"

namespace longhaul::kernels::flash {

/// Tensors of a call in GPU memory, densely packed and aligned to 16 bytes. q [batch, q_len, heads,
/// head_dim], k and v [batch, kv_len, kv_heads, head_dim], o like q, lse [batch, heads, q_len];
/// varying lengths: [rows, heads, head_dim] and lse [heads, rows].
/// Without running_o the call writes o and lse; a row that sees no key gets 0 and -inf.
/// With running_o (fp32, like q) it joins its result with what stands in running_o and lse, as a
/// step of a ring does, and o is not touched. Where lse is -inf, running_o is not read: it begins
/// as lse = -inf and may be uninitialised.
struct ForwardTensors {
  const Bfloat16* q = nullptr;
  const Bfloat16* k = nullptr;
  const Bfloat16* v = nullptr;
  Bfloat16* o = nullptr;
  float* running_o = nullptr;
  float* lse = nullptr;
};

/// A call made ready: tensor maps encoded, tables and counter on the GPU. Tensors must outlive it.
/// Calls of one Forward must not overlap, as they share the counter.
class Forward {
 public:
  /// `most_blocks` limits the persistent grid (0: one block per SM), to leave SMs to others.
  /// Throws std::invalid_argument for a shape or tensors that do not fit; CudaError where the
  /// driver refuses, as on a GPU other than of compute capability 9.0.
  Forward(const AttentionShape& shape, const ForwardTensors& tensors, int most_blocks = 0);
  ~Forward();
  Forward(Forward&&) noexcept;
  Forward& operator=(Forward&&) noexcept;

  /// Queues the call. Throws CudaError if the launch is refused.
  void launch(cudaStream_t stream) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace longhaul::kernels::flash
