// The mask algebra of the attention kernels against brute force over single elements.
#include <random>
#include <vector>

#include <catch2/catch.hpp>

#include "kernels/flash_attention/mask.h"

namespace longhaul::kernels::flash {

namespace {

int draw(std::mt19937& random, int low, int high) {
  return std::uniform_int_distribution<int>(low, high)(random);
}

// Any mask that resolve() can give, degenerate ones among them.
MaskSpec draw_mask(std::mt19937& random) {
  MaskSpec spec;
  if (draw(random, 0, 2) != 0) spec.above = draw(random, -40, 40);
  if (draw(random, 0, 2) == 0) spec.below = draw(random, -20, 60);
  spec.from_bottom_right = draw(random, 0, 1) == 1;
  if (draw(random, 0, 3) == 0) spec.rows = Rows::second_half;
  if (draw(random, 0, 3) == 0) spec.keys = Keys::first_half;
  return spec;
}

// The definition in MaskSpec's comment, element by element.
bool sees(const MaskSpec& spec, int q_len, int kv_len, int row, int key) {
  const long shift = spec.from_bottom_right ? kv_len - q_len : 0;
  if (spec.rows == Rows::second_half && row < q_len / 2) return false;
  if (spec.keys == Keys::first_half && key >= kv_len / 2) return false;
  if (spec.above != unlimited && key > row + shift + spec.above) return false;
  return spec.below == unlimited || key >= row + shift - spec.below;
}

bool holds(const KeyInterval& keys, int key) { return key >= keys.begin && key < keys.end; }

// Position of element `index` of a rank's local sequence.
int striped_position(int rank, int ranks, int index) { return index * ranks + rank; }
int zigzag_position(int rank, int ranks, int chunk, int index) {
  return index < chunk ? rank * chunk + index : (2 * ranks - 1 - rank) * chunk + index - chunk;
}

}  // namespace

TEST_CASE("the interval of a row holds exactly the keys that the definition lets it see") {
  std::mt19937 random(1);
  for (int trial = 0; trial < 3000; ++trial) {
    const MaskSpec spec = draw_mask(random);
    const int q_len = draw(random, 0, 50);
    const int kv_len = draw(random, 0, 50);
    const Mask mask = resolve(spec, q_len, kv_len);
    long long pairs = 0;
    bool same = true;
    for (int row = 0; row < q_len; ++row) {
      const KeyInterval keys = keys_of_row(mask, row);
      for (int key = -2; key < kv_len + 2; ++key) {
        const bool inside = key >= 0 && key < kv_len && sees(spec, q_len, kv_len, row, key);
        same = same && holds(keys, key) == inside;
        pairs += inside ? 1 : 0;
      }
    }
    REQUIRE(same);
    REQUIRE(seen_pairs(mask, q_len) == pairs);
  }
}

TEST_CASE("a tile of keys is skipped, masked or full exactly as its single elements say") {
  std::mt19937 random(2);
  for (int trial = 0; trial < 6000; ++trial) {
    const MaskSpec spec = draw_mask(random);
    const int q_len = draw(random, 1, 70);
    const int kv_len = draw(random, 0, 90);
    const int width = draw(random, 1, 24);
    const int begin = draw(random, 0, q_len - 1);
    const int end = draw(random, begin + 1, q_len);
    const TileRange tiles = tiles_of_rows(resolve(spec, q_len, kv_len), begin, end, width);
    bool right = tiles.first <= tiles.full_first && tiles.full_first <= tiles.full_end &&
                 tiles.full_end <= tiles.end;
    for (int tile = 0; tile <= kv_len / width; ++tile) {
      bool any = false;
      bool all = true;
      for (int row = begin; row < end; ++row) {
        for (int key = tile * width; key < (tile + 1) * width; ++key) {
          const bool seen = key < kv_len && sees(spec, q_len, kv_len, row, key);
          any = any || seen;
          all = all && seen;
        }
      }
      right = right && any == (tile >= tiles.first && tile < tiles.end);
      right = right && all == (tile >= tiles.full_first && tile < tiles.full_end);
    }
    INFO("above " << spec.above << " below " << spec.below << " q " << q_len << " kv " << kv_len
                  << " rows " << begin << ".." << end << " width " << width);
    REQUIRE(right);
  }
}

TEST_CASE("steps of a striped ring see what causality of the positions says, windows too") {
  for (int ranks = 1; ranks <= 5; ++ranks) {
    for (int own = 0; own < ranks; ++own) {
      for (int from = 0; from < ranks; ++from) {
        for (const int left : {0, 1, 3, 7, 12, unlimited}) {
          const Mask mask = resolve(striped_mask(own, from, ranks, left), 9, 9);
          for (int row = 0; row < 9; ++row) {
            for (int key = 0; key < 9; ++key) {
              const int back =
                  striped_position(own, ranks, row) - striped_position(from, ranks, key);
              const bool seen = back >= 0 && back <= left;
              REQUIRE(holds(keys_of_row(mask, row), key) == seen);
            }
          }
        }
      }
    }
  }
}

TEST_CASE("steps of a zigzag ring see what causality of the positions says") {
  const int chunk = 4;
  for (int ranks = 1; ranks <= 5; ++ranks) {
    for (int own = 0; own < ranks; ++own) {
      for (int from = 0; from < ranks; ++from) {
        const Mask mask = resolve(zigzag_mask(own, from), 2 * chunk, 2 * chunk);
        for (int row = 0; row < 2 * chunk; ++row) {
          for (int key = 0; key < 2 * chunk; ++key) {
            const bool seen =
                zigzag_position(from, ranks, chunk, key) <= zigzag_position(own, ranks, chunk, row);
            REQUIRE(holds(keys_of_row(mask, row), key) == seen);
          }
        }
      }
    }
  }
}

TEST_CASE("steps of a contiguous ring are diagonal blocks: causal, full or nothing") {
  const int length = 6;
  for (int own = 0; own < 4; ++own) {
    for (int from = 0; from < 4; ++from) {
      const Mask mask = resolve(diagonal_mask((own - from) * length), length, length);
      const long long pairs = seen_pairs(mask, length);
      const long long wanted = from == own  ? length * (length + 1) / 2
                               : from < own ? length * length
                                            : 0;
      REQUIRE(pairs == wanted);
    }
  }
}

TEST_CASE(
    "a causal row sees one key more than the row before; with fewer keys than rows the first "
    "rows see none") {
  const Mask mask = resolve(causal_mask(), 5, 3);
  const int wanted[] = {0, 0, 1, 2, 3};
  for (int row = 0; row < 5; ++row) {
    REQUIRE(keys_of_row(mask, row).begin == 0);
    REQUIRE(keys_of_row(mask, row).end == wanted[row]);
  }
}

TEST_CASE("lengths near the limit do not overflow") {
  const int length = unlimited - 1;
  const Mask mask = resolve(causal_mask(), length, length);
  const TileRange tiles = tiles_of_rows(mask, length - 128, length, 128);
  REQUIRE(tiles.first == 0);
  REQUIRE(tiles.end == ceil_divide(length, 128));
  REQUIRE(keys_of_row(resolve(full_mask(), length, length), length - 1).end == length);
}

}  // namespace longhaul::kernels::flash
