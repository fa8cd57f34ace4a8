#include "kernels/flash_attention/problem.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>

namespace longhaul::kernels::flash {

namespace {

void require(bool holds, const std::string& what) {
  if (!holds) throw std::invalid_argument("attention: " + what);
}

void check_sequences(const AttentionShape& shape) {
  require(shape.batch == 1, "sequences of varying lengths are one batch");
  int q_end = 0;
  int kv_end = 0;
  for (const Sequence& sequence : shape.sequences) {
    require(sequence.q_len >= 0 && sequence.kv_len >= 0, "a sequence has a negative length");
    require(sequence.q_begin >= q_end && sequence.kv_begin >= kv_end, "sequences overlap");
    q_end = sequence.q_begin + sequence.q_len;
    kv_end = sequence.kv_begin + sequence.kv_len;
  }
  require(q_end <= shape.q_len && kv_end <= shape.kv_len, "a sequence ends beyond the rows");
}

// Row blocks of all sequences, those with most tiles of keys first; in order where equal.
std::vector<RowBlock> longest_blocks(const AttentionShape& shape, int rows, int keys) {
  std::vector<std::pair<int, RowBlock>> found;
  for (int s = 0; s < static_cast<int>(shape.sequences.size()); ++s) {
    const Sequence& sequence = shape.sequences[s];
    const Mask mask = resolve(shape.mask, sequence.q_len, sequence.kv_len);
    for (int begin = 0; begin < sequence.q_len; begin += rows) {
      const TileRange tiles =
          tiles_of_rows(mask, begin, std::min(begin + rows, sequence.q_len), keys);
      found.push_back({tiles.end - tiles.first, {s, begin / rows}});
    }
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  std::vector<RowBlock> blocks;
  for (const auto& [length, block] : found) blocks.push_back(block);
  return blocks;
}

}  // namespace

AttentionShape attention_shape(int head_dim, int batch, int heads, int kv_heads, int q_len,
                               int kv_len, const MaskSpec& mask) {
  AttentionShape shape;
  shape.head_dim = head_dim;
  shape.batch = batch;
  shape.heads = heads;
  shape.kv_heads = kv_heads;
  shape.q_len = q_len;
  shape.kv_len = kv_len;
  shape.scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  shape.mask = mask;
  return shape;
}

void check_shape(const AttentionShape& shape) {
  require(shape.head_dim == 64 || shape.head_dim == 128 || shape.head_dim == 256,
          "head dimension " + std::to_string(shape.head_dim) + " is not 64, 128 or 256");
  require(shape.batch > 0 && shape.heads > 0 && shape.kv_heads > 0, "nothing to compute");
  require(shape.heads % shape.kv_heads == 0, "heads are no multiple of key heads");
  require(shape.q_len > 0 && shape.q_len < unlimited, "length of queries out of range");
  require(shape.kv_len > 0 && shape.kv_len < unlimited, "length of keys out of range");
  require(shape.scale > 0, "the scale of the softmax must be positive");
  // Tiles are counted in an int; 64 rows are the smallest.
  const double tiles = (shape.q_len / 64.0 + 1) * shape.heads * shape.batch;
  require(tiles < 1e9, "more tiles than an int counts");
  if (!shape.sequences.empty()) check_sequences(shape);
}

std::vector<Sequence> all_sequences(const AttentionShape& shape) {
  if (!shape.sequences.empty()) return shape.sequences;
  std::vector<Sequence> sequences;
  for (int b = 0; b < shape.batch; ++b) {
    sequences.push_back({b * shape.q_len, shape.q_len, b * shape.kv_len, shape.kv_len});
  }
  return sequences;
}

bool is_rectangular(const MaskSpec& mask) {
  return mask.above >= unlimited && mask.below >= unlimited;
}

double attention_flops(const AttentionShape& shape) {
  double pairs = 0;
  for (const Sequence& sequence : all_sequences(shape)) {
    const Mask mask = resolve(shape.mask, sequence.q_len, sequence.kv_len);
    pairs += static_cast<double>(seen_pairs(mask, sequence.q_len));
  }
  return 4.0 * shape.head_dim * shape.heads * pairs;
}

double attention_bytes(const AttentionShape& shape, bool joins) {
  const double rows = static_cast<double>(shape.batch) * shape.q_len * shape.heads;
  const double keys = static_cast<double>(shape.batch) * shape.kv_len * shape.kv_heads;
  const double output = joins ? 8.0 * shape.head_dim + 8 : 2.0 * shape.head_dim + 4;
  return rows * (2.0 * shape.head_dim + output) + keys * 4.0 * shape.head_dim;
}

TilePlan plan_tiles(const AttentionShape& shape, int rows, int keys) {
  TilePlan plan;
  Problem& problem = plan.problem;
  problem.batch = shape.batch;
  problem.heads = shape.heads;
  problem.kv_heads = shape.kv_heads;
  problem.q_len = shape.q_len;
  problem.kv_len = shape.kv_len;
  problem.mask = shape.mask;
  problem.longest_first = !is_rectangular(shape.mask);
  problem.row_blocks = ceil_divide(shape.q_len, rows);
  problem.lanes_per_section =
      lanes_of_section(shape.kv_len, shape.head_dim, shape.heads, shape.kv_heads);
  if (shape.sequences.empty()) return plan;
  plan.sequences = shape.sequences;
  plan.blocks = longest_blocks(shape, rows, keys);
  problem.row_blocks = static_cast<int>(plan.blocks.size());
  problem.sequences = plan.sequences.data();
  problem.blocks = plan.blocks.data();
  return plan;
}

}  // namespace longhaul::kernels::flash
