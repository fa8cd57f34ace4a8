#pragma once
// What the Hopper forward kernel is launched with.

#if defined(LONGHAUL_EMULATED_GPU)
#include "kernels/common/emulated_hopper.h"
#else
#include <cuda.h>
#endif

#include "kernels/flash_attention/scheduler.h"

namespace longhaul::kernels::flash {

#if defined(LONGHAUL_EMULATED_GPU)
using TensorMap = EmulatedTensor;
#else
using TensorMap = CUtensorMap;
#endif

/// Where results go. Either o and lse are written, or, with running_o, this call's result is joined
/// with running_o and lse of other keys (a step of a ring).
struct ForwardOutput {
  void* o = nullptr;           // bf16 [rows, heads, head_dim]
  float* running_o = nullptr;  // [rows, heads, head_dim]
  float* lse = nullptr;        // [batch, heads, q_len]; varying lengths: [heads, rows]
};

/// The kernel's argument. Tensor maps must lie in it as they are, 64-byte aligned.
struct ForwardParameters {
  TensorMap q;
  TensorMap k;
  TensorMap v;
  Problem problem;
  ForwardOutput output;
  float scale_log2 = 0;    // softmax scale times log2 e, and the scales of Q and K
  float v_scale = 1;       // of V
  int* counter = nullptr;  // two ints, both 0 before and after a call; null: fixed stride
};

}  // namespace longhaul::kernels::flash
