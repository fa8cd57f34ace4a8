#pragma once
// A call of attention as its caller states it, and the plan of tiles that the kernel walks through.

#include <vector>

#include "kernels/flash_attention/scheduler.h"

namespace longhaul::kernels::flash {

/// softmax(scale Q K^T) V under a mask. Sequences of one length: `sequences` is empty. Varying
/// lengths: batch is 1, q_len and kv_len count the rows of all sequences together, and `sequences`
/// says which rows belong together, in order and without overlap.
struct AttentionShape {
  int head_dim = 0;
  int batch = 1;
  int heads = 1;
  int kv_heads = 1;  // divides heads; query head h reads key head h / (heads / kv_heads)
  int q_len = 0;
  int kv_len = 0;
  float scale = 1;
  MaskSpec mask;
  std::vector<Sequence> sequences;
};

/// A call of `batch` sequences of one length, with the usual scale 1 / sqrt(head_dim).
AttentionShape attention_shape(int head_dim, int batch, int heads, int kv_heads, int q_len,
                               int kv_len, const MaskSpec& mask);

/// Throws std::invalid_argument, with what is wrong, for a shape that no kernel here computes.
void check_shape(const AttentionShape& shape);

/// Sequences of a call, also where all have one length (q_begin = sequence q_len, and so on).
std::vector<Sequence> all_sequences(const AttentionShape& shape);

/// Is what a row sees a rectangle, the same keys for all rows that see any?
bool is_rectangular(const MaskSpec& mask);

/// FLOPs of a call: 4 head_dim for every pair of a query and a key that it sees (two products of a
/// multiplication and an addition each). What a kernel computes beyond is not counted.
double attention_flops(const AttentionShape& shape);

/// Bytes of a call, each tensor once: Q and O (2 head_dim a row and head), K and V likewise, LSE
/// 4 a row and head. `joins`: O is fp32 and it and the LSE are read as well as written.
double attention_bytes(const AttentionShape& shape, bool joins);

/// The kernel's Problem for tiles of `rows` x `keys`. Varying lengths: its tables are these
/// vectors, to which `problem` points as long as the plan lives and is not copied; on a GPU the
/// caller puts copies in their place.
struct TilePlan {
  Problem problem;
  std::vector<Sequence> sequences;
  std::vector<RowBlock> blocks;  // most tiles of keys first

  TilePlan() = default;
  TilePlan(TilePlan&&) = default;
  TilePlan& operator=(TilePlan&&) = default;
};
TilePlan plan_tiles(const AttentionShape& shape, int rows, int keys);

}  // namespace longhaul::kernels::flash
