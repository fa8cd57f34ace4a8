#pragma once
// How the host calls the Hopper forward kernel.

#include <memory>

#include <cuda_runtime_api.h>

#include "kernels/common/float8.h"
#include "kernels/flash_attention/problem.h"
#include "kernels/flash_attention/tensors.h"

namespace longhaul::kernels::flash {

/// Tensors of a call with e4m3 operands, head dimension 128: as ForwardTensors, and each operand
/// times its scale is what is meant. P is rounded to e4m3 as well.
struct Fp8Tensors {
  const Float8* q = nullptr;
  const Float8* k = nullptr;
  const Float8* v = nullptr;
  float q_scale = 1;
  float k_scale = 1;
  float v_scale = 1;
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
  Forward(const AttentionShape& shape, const Fp8Tensors& tensors, int most_blocks = 0);
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
