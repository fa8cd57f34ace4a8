#pragma once
// How the host calls the Hopper forward kernel.

#include <memory>

#include <cuda_runtime_api.h>

#include "kernels/flash_attention/problem.h"
#include "kernels/flash_attention/tensors.h"

namespace longhaul::kernels::flash {

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
