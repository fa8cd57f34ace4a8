#pragma once
// Attention row by row in double precision: what the kernels are checked against.

#include <vector>

#include "kernels/common/bfloat16.h"
#include "kernels/flash_attention/problem.h"

namespace longhaul::kernels::flash {

/// A call with its inputs in host memory: q [batch, q_len, heads, head_dim], k and v
/// [batch, kv_len, kv_heads, head_dim]; varying lengths: without the batch dimension.
struct AttentionInputs {
  AttentionShape shape;
  std::vector<Bfloat16> q;
  std::vector<Bfloat16> k;
  std::vector<Bfloat16> v;
};

/// One row of O, and its LSE = ln sum_j exp(scale q k_j). A row that sees no key: O = 0, LSE =
/// -inf.
struct AttentionRow {
  std::vector<double> o;
  double lse = 0;
};

/// Row `row` of sequence (or batch) `sequence`, head `head`: exact but for rounding of doubles.
AttentionRow attention_row(const AttentionInputs& inputs, int sequence, int head, int row);

/// Elements where the kernel puts a row's results: LSE [batch, heads, q_len] or [heads, rows], O in
/// units of head_dim.
long long lse_place(const AttentionShape& shape, int sequence, int head, int row);
long long output_place(const AttentionShape& shape, int sequence, int head, int row);

}  // namespace longhaul::kernels::flash
