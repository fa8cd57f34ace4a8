#pragma once
// Which keys a query row sees, as intervals: the algebra of all masks, and what it means for tiles.
//
// Every mask here gives row i (a query) one interval [begin(i), end(i)) of key indices, and both
// ends grow by one from row to row wherever they are not cut off. Full, causal, a diagonal block
// with an offset, the halves of a zigzag ring, the stripes of a striped ring and sliding windows
// are all of that kind, so one set of four numbers describes them and one comparison per score
// applies them. Compiled by nvcc for the kernels and by the host compiler for their tests.

#include "kernels/common/host_device.h"

namespace longhaul::kernels::flash {

/// "No limit" for MaskSpec::above and below. Lengths of sequences must be below it, so that a sum
/// of two such numbers stays in an int.
inline constexpr int unlimited = 1 << 29;

enum class Rows { all, second_half };
enum class Keys { all, first_half };

/// A mask as a caller states it, for sequences of any length. Row i sees key j if
///   j <= i + shift + above   and   j >= i + shift - below,
/// where shift = kv_len - q_len if `from_bottom_right` (the last row and the last key stand at the
/// same position, as when a prefix was computed before) and 0 otherwise.
struct MaskSpec {
  int above = unlimited;
  int below = unlimited;
  bool from_bottom_right = false;
  Rows rows = Rows::all;  // second_half: the first q_len / 2 rows see nothing
  Keys keys = Keys::all;  // first_half: keys from kv_len / 2 on are seen by none
};

/// Every row sees every key.
LONGHAUL_HOST_DEVICE constexpr MaskSpec full_mask() { return {}; }

/// The last row sees every key, each row before it one key less.
LONGHAUL_HOST_DEVICE constexpr MaskSpec causal_mask() {
  return {0, unlimited, true, Rows::all, Keys::all};
}

/// A block of a larger causal mask: row i sees keys up to i + offset, counted from the top left.
LONGHAUL_HOST_DEVICE constexpr MaskSpec diagonal_mask(int offset) {
  return {offset, unlimited, false, Rows::all, Keys::all};
}

/// Causal, and no further back than `left` keys before the row's own (left + 1 keys in all).
LONGHAUL_HOST_DEVICE constexpr MaskSpec window_mask(int left) {
  return {0, left, true, Rows::all, Keys::all};
}

/// floor(a / b) for b > 0.
LONGHAUL_HOST_DEVICE constexpr int floor_divide(int a, int b) {
  return a >= 0 ? a / b : -((-a + b - 1) / b);
}

/// ceil(a / b) for b > 0.
LONGHAUL_HOST_DEVICE constexpr int ceil_divide(int a, int b) { return -floor_divide(-a, b); }

/// A step of a striped ring: this rank has positions own, own + ranks, own + 2 ranks, ..., the keys
/// are those of rank `from`. Key j is at or before row i where
/// j <= i + floor((own - from) / ranks), which is i or i - 1. With a window, a row sees the `left`
/// positions before its own.
LONGHAUL_HOST_DEVICE constexpr MaskSpec striped_mask(int own, int from, int ranks,
                                                     int left = unlimited) {
  const int above = floor_divide(own - from, ranks);
  const int below = left >= unlimited ? unlimited : -ceil_divide(own - from - left, ranks);
  return {above, below, false, Rows::all, Keys::all};
}

/// A step of a zigzag ring, in which rank r of W has chunks r and 2W - 1 - r of 2W. Its own keys:
/// positions grow with the index, so the mask is causal. Keys of an earlier rank: both chunks of
/// queries see its first chunk whole and nothing of its second. Keys of a later rank: the second
/// chunk of queries sees all, the first nothing.
LONGHAUL_HOST_DEVICE constexpr MaskSpec zigzag_mask(int own, int from) {
  if (own == from) return causal_mask();
  if (from < own) return {unlimited, unlimited, false, Rows::all, Keys::first_half};
  return {unlimited, unlimited, false, Rows::second_half, Keys::all};
}

/// A mask for one sequence: MaskSpec with its lengths put in. Rows before `first_row` and keys from
/// `key_end` on take no part; of the rest, row i sees keys i - below ... i + above.
struct Mask {
  int first_row = 0;
  int key_end = 0;
  int above = unlimited;
  int below = unlimited;
};

/// 0 <= q_len, kv_len < `unlimited`.
LONGHAUL_HOST_DEVICE constexpr Mask resolve(const MaskSpec& spec, int q_len, int kv_len) {
  const int shift = spec.from_bottom_right ? kv_len - q_len : 0;
  Mask mask;
  mask.first_row = spec.rows == Rows::second_half ? q_len / 2 : 0;
  mask.key_end = spec.keys == Keys::first_half ? kv_len / 2 : kv_len;
  mask.above = spec.above >= unlimited ? unlimited : spec.above + shift;
  mask.below = spec.below >= unlimited ? unlimited : spec.below - shift;
  return mask;
}

/// Keys [begin, end) of a row; begin = end = 0 for a row that sees none.
struct KeyInterval {
  int begin = 0;
  int end = 0;
};

LONGHAUL_HOST_DEVICE constexpr int smaller(int a, int b) { return a < b ? a : b; }
LONGHAUL_HOST_DEVICE constexpr int larger(int a, int b) { return a > b ? a : b; }

LONGHAUL_HOST_DEVICE constexpr KeyInterval keys_of_row(const Mask& mask, int row) {
  const int begin = larger(0, row - mask.below);
  const int end = smaller(mask.key_end, row + mask.above + 1);
  if (row < mask.first_row || end <= begin) return {0, 0};
  return {begin, end};
}

/// Tiles of keys that a tile of query rows needs: [first, end), all others are skipped. Tiles in
/// [full_first, full_end) are seen whole by every row and need no mask. Without such tiles
/// full_first = full_end = first; without any tile first = end.
struct TileRange {
  int first = 0;
  int full_first = 0;
  int full_end = 0;
  int end = 0;
};

/// Tiles of `width` keys for rows [row_begin, row_end) of a sequence, row_end <= q_len.
/// O(1): intervals of consecutive rows overlap or touch, so their union is one interval, and their
/// intersection is bounded by the last row's begin and the first row's end.
LONGHAUL_HOST_DEVICE constexpr TileRange tiles_of_rows(const Mask& mask, int row_begin, int row_end,
                                                       int width) {
  // Rows [seeing_begin, seeing_end) see at least one key, if above + below >= 0.
  const int seeing_begin = larger(larger(row_begin, mask.first_row), -mask.above);
  const int seeing_end = smaller(row_end, mask.key_end + mask.below);
  if (seeing_begin >= seeing_end || mask.key_end <= 0 || mask.above + mask.below < 0) return {};

  TileRange tiles;
  tiles.first = larger(0, seeing_begin - mask.below) / width;
  tiles.end = ceil_divide(smaller(mask.key_end, seeing_end + mask.above), width);
  tiles.full_first = tiles.first;
  tiles.full_end = tiles.first;
  if (seeing_begin > row_begin || seeing_end < row_end) return tiles;  // some row sees nothing
  const int common_begin = larger(0, row_end - 1 - mask.below);
  const int common_end = smaller(mask.key_end, row_begin + mask.above + 1);
  const int full_first = ceil_divide(common_begin, width);
  const int full_end = common_end > 0 ? common_end / width : 0;
  if (full_first >= full_end) return tiles;
  tiles.full_first = full_first;
  tiles.full_end = full_end;
  return tiles;
}

/// `tiles` of some rows of a larger tile, cut to `whole`, which the larger tile walks through: the
/// rows take part in every tile of `whole`, but need no mask in their own full ones.
LONGHAUL_HOST_DEVICE constexpr TileRange within(const TileRange& tiles, const TileRange& whole) {
  const bool any = tiles.full_first < tiles.full_end;
  return {whole.first, any ? tiles.full_first : whole.first, any ? tiles.full_end : whole.first,
          whole.end};
}

/// Pairs of a row and a key that it sees, over rows [0, q_len): what the FLOP count rests on.
LONGHAUL_HOST_DEVICE constexpr long long seen_pairs(const Mask& mask, int q_len) {
  long long pairs = 0;
  for (int row = 0; row < q_len; ++row) {
    const KeyInterval keys = keys_of_row(mask, row);
    pairs += keys.end - keys.begin;
  }
  return pairs;
}

}  // namespace longhaul::kernels::flash
