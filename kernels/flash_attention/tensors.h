#pragma once
// The tensors of a call of attention.

#include "kernels/common/bfloat16.h"

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

}  // namespace longhaul::kernels::flash
