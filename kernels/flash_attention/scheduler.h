#pragma once
// Which tile of queries comes when, and what it is.
//
// Blocks stay on their SM and take one tile after another (a persistent grid). Tiles are numbered
// so that those with most keys come first, and so that the heads worked on at one time have keys
// and values that fit the L2 cache together. Blocks either walk through the numbers with the grid
// as stride or take the next number from a counter; then, whatever the order, no block ends later
// than the mean by more than one tile (Graham's bound for list scheduling).

#include <cstdint>

#include "kernels/common/host_device.h"
#include "kernels/flash_attention/mask.h"

namespace longhaul::kernels::flash {

/// One sequence of a batch whose lengths differ: rows [q_begin, q_begin + q_len) of the packed
/// queries, and likewise of the packed keys and values.
struct Sequence {
  int q_begin = 0;
  int q_len = 0;
  int kv_begin = 0;
  int kv_len = 0;
};

/// A tile of rows of a sequence.
struct RowBlock {
  int sequence = 0;
  int block = 0;
};

/// What a call computes; the same for all blocks. Batches of one length need no tables; for varying
/// lengths `sequences` and `blocks` (longest first) lie in memory that the kernel can read.
struct Problem {
  int batch = 0;
  int heads = 0;
  int kv_heads = 0;
  int q_len = 0;  // of every sequence; varying lengths: of all together
  int kv_len = 0;
  MaskSpec mask;
  bool longest_first = false;  // more keys for later rows: begin with the last
  int row_blocks = 0;          // of a sequence; varying lengths: of all together
  int lanes_per_section = 0;   // lanes (a batch's head) whose keys and values share the L2 cache
  const Sequence* sequences = nullptr;
  const RowBlock* blocks = nullptr;
};

/// Tiles of the whole call.
LONGHAUL_HOST_DEVICE constexpr int tile_count(const Problem& problem) {
  return problem.row_blocks * problem.heads * (problem.blocks ? 1 : problem.batch);
}

/// L2 bytes that keys and values of one section may take: 32 MiB of the 50 MiB of an H100 or H200
/// (NVIDIA H100 white paper), as the rest streams queries and outputs.
inline constexpr long long section_bytes = 32ll << 20;

/// Lanes of a section: as many groups of query heads that share a key head as fit, at least one.
LONGHAUL_HOST_DEVICE constexpr int lanes_of_section(int kv_len, int head_dim, int heads,
                                                    int kv_heads) {
  const long long bytes = 4ll * kv_len * head_dim;  // K and V of one key head, bf16
  const long long fitting = bytes > 0 ? section_bytes / bytes : kv_heads;
  const int groups = fitting < 1 ? 1 : fitting > (1 << 16) ? (1 << 16) : static_cast<int>(fitting);
  return groups * (heads / kv_heads);
}

/// A tile, unpacked.
struct TileWork {
  int head = 0;
  int kv_head = 0;
  int row_begin = 0;  // within the sequence
  int q_len = 0;      // of the sequence
  int q_row = 0;      // of the sequence's first query, among those of coordinate `batch`
  int kv_row = 0;     // of its first key
  int batch = 0;      // coordinate of the batch in the tensors
  Mask mask;
  TileRange tiles;  // of keys, that the tile walks through
};

/// Tile number -> lane and row block, for sequences of one length. Sections one after the other;
/// within a section all lanes of a row block, then the next row block.
struct TilePlace {
  int lane = 0;
  int block = 0;
};
LONGHAUL_HOST_DEVICE constexpr TilePlace place_of(const Problem& problem, int tile) {
  const int full_section = problem.lanes_per_section * problem.row_blocks;
  const int section = tile / full_section;
  const int first_lane = section * problem.lanes_per_section;
  const int lanes = smaller(problem.lanes_per_section, problem.batch * problem.heads - first_lane);
  const int rest = tile - section * full_section;
  const int rank = rest / lanes;
  return {first_lane + rest % lanes, problem.longest_first ? problem.row_blocks - 1 - rank : rank};
}

/// The tile with number `tile`, 0 <= tile < tile_count(problem), of tiles of `rows` x `keys`.
template <int rows, int keys>
LONGHAUL_HOST_DEVICE constexpr TileWork work_of(const Problem& problem, int tile) {
  TileWork work;
  int kv_len = problem.kv_len;
  if (problem.blocks != nullptr) {
    const RowBlock block = problem.blocks[tile / problem.heads];
    const Sequence sequence = problem.sequences[block.sequence];
    work.head = tile % problem.heads;
    work.row_begin = block.block * rows;
    work.q_len = sequence.q_len;
    kv_len = sequence.kv_len;
    work.q_row = sequence.q_begin;
    work.kv_row = sequence.kv_begin;
  } else {
    const TilePlace place = place_of(problem, tile);
    work.batch = place.lane / problem.heads;
    work.head = place.lane % problem.heads;
    work.row_begin = place.block * rows;
    work.q_len = problem.q_len;
  }
  work.kv_head = work.head / (problem.heads / problem.kv_heads);
  work.mask = resolve(problem.mask, work.q_len, kv_len);
  work.tiles =
      tiles_of_rows(work.mask, work.row_begin, smaller(work.q_len, work.row_begin + rows), keys);
  return work;
}

/// Corner of a box that TMA copies: coordinates (row, head, batch) of its first row.
struct BoxPlace {
  int row = 0;
  int head = 0;
  int batch = 0;
};
LONGHAUL_HOST_DEVICE constexpr BoxPlace query_box(const TileWork& work) {
  return {work.q_row + work.row_begin, work.head, work.batch};
}
/// Of the n-th tile of `keys` keys, or values.
template <int keys>
LONGHAUL_HOST_DEVICE constexpr BoxPlace key_box(const TileWork& work, int n) {
  return {work.kv_row + n * keys, work.kv_head, work.batch};
}

/// Where row `row` of the work's sequence has its LSE, [batch, heads, q_len] (varying lengths:
/// [heads, rows]), and its output, in vectors of head_dim: [batch, q_len, heads] ([rows, heads]).
LONGHAUL_HOST_DEVICE constexpr long long lse_index(const Problem& problem, const TileWork& work,
                                                   int row) {
  const long long lane = static_cast<long long>(work.batch) * problem.heads + work.head;
  return lane * problem.q_len + work.q_row + row;
}
LONGHAUL_HOST_DEVICE constexpr long long output_index(const Problem& problem, const TileWork& work,
                                                      int row) {
  const long long first = static_cast<long long>(work.batch) * problem.q_len + work.q_row;
  return (first + row) * problem.heads + work.head;
}

}  // namespace longhaul::kernels::flash
