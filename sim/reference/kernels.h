// What the instructions of one rank compute. Formulas: docs/models/reference_executor.md.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/program/program.h"
#include "sim/reference/array.h"
#include "sim/reference/memory.h"

namespace longhaul {

/// One instruction on one rank. A kernel fills `writes`, which come with the right shape and hold
/// zeros; where the instruction accumulates a sum, the caller adds them to what was there.
struct Call {
  const Program& program;
  const Instruction& instruction;
  RankId rank;
  const std::vector<std::int64_t>& counters;
  std::vector<Array> reads;
  std::vector<Array> writes;
  /// attend and merge_attention with `accumulate`: o and lse as they were; else empty.
  std::vector<Array> before;

  /// The tensor behind operand i, for its shards.
  [[nodiscard]] const Tensor& read_tensor(std::size_t i) const;
  [[nodiscard]] const Tensor& written_tensor(std::size_t i) const;
};

/// Throws ReferenceError: the operands of an instruction do not fit each other.
inline void need(bool condition, const char* why) {
  if (!condition) {
    throw ReferenceError(why);
  }
}

/// What `accumulate` means for write i of an instruction.
enum class Accumulation { none, sum, combine };
Accumulation accumulation(const Instruction& instruction, std::size_t write);

/// Any op that involves no other rank, except the marks and memory ops.
void compute(Call& call);

// dense.cpp: rows of numbers.
void compute_copies(Call& call);
void compute_add(Call& call);
void compute_gemm(Call& call);
void compute_grouped_gemm(Call& call);
void compute_norm(Call& call);
void compute_norm_backward(Call& call);
void compute_swiglu(Call& call);
void compute_swiglu_backward(Call& call);
void compute_gelu(Call& call);
void compute_gelu_backward(Call& call);
void compute_adam(Call& call);

// heads.cpp: heads and positions.
void compute_rope(Call& call, bool inverse);
void compute_split_qkv(Call& call);
void compute_merge_qkv(Call& call);
void compute_split_columns(Call& call);
void compute_join_columns(Call& call);
void compute_repeat_heads(Call& call);
void compute_sum_heads(Call& call);
void compute_reorder(Call& call);

// attention.cpp
void compute_attend(Call& call);
void compute_merge_attention(Call& call);
void compute_attention_delta(Call& call);
void compute_attend_backward(Call& call);
/// For each query of the instruction's block the keys it sees, both counted within their shard.
std::vector<std::vector<std::int64_t>> seen_keys(const Call& call, std::int64_t queries,
                                                 std::int64_t keys);

// scores.cpp: attention whose scores are stored.
void compute_score(Call& call);
void compute_softmax(Call& call);
void compute_softmax_backward(Call& call);
void compute_weigh(Call& call);

// experts.cpp: tokens to experts and back.
void compute_route(Call& call);
void compute_route_backward(Call& call);
void compute_dispatch(Call& call);
void compute_combine(Call& call);
/// One operand of node_dispatch or node_combine, from the parts of all members to what each writes.
std::vector<Array> exchange_tokens(const Program& program, const Instruction& instruction,
                                   const std::vector<RankId>& members, std::size_t operand,
                                   const std::vector<Array>& parts);

// vocabulary.cpp: embedding and loss.
void compute_embed(Call& call);
void compute_embed_backward(Call& call);
void compute_loss_statistics(Call& call);
void compute_loss(Call& call);

/// exchange.cpp: one operand of a collective, from the parts of all members (in the group's order)
/// to what each member writes.
std::vector<Array> exchange_parts(const Instruction& instruction, const std::vector<Array>& parts);

}  // namespace longhaul
