// The portable attention forward, run thread by thread on the emulated GPU: its copies, fragments,
// swizzle (a bank conflict throws), masks, softmax and epilogue are the source that a GPU runs.
#include <set>

#include <catch2/catch.hpp>

#include "kernels/flash_attention/portable.cuh"
#include "tests/kernels/portable_cases.h"

namespace longhaul::kernels::flash {
namespace {

struct Named {
  const char* name;
  MaskSpec mask;
  int q_len, kv_len;
};

TEST_CASE("portable attention equals the reference under every mask of a ring step") {
  for (const Named& one : {Named{"full", full_mask(), 70, 150},
                           {"causal", causal_mask(), 130, 130},
                           {"causal, more keys", causal_mask(), 70, 150},
                           {"causal, fewer keys than rows", causal_mask(), 100, 33},
                           {"zigzag, earlier rank", zigzag_mask(2, 1), 96, 96},
                           {"zigzag, later rank", zigzag_mask(1, 2), 96, 96},
                           {"striped, earlier rank", striped_mask(2, 1, 4), 80, 80},
                           {"striped, later rank", striped_mask(1, 2, 4), 80, 80},
                           {"diagonal block", diagonal_mask(37), 65, 129},
                           {"window", window_mask(21), 150, 150},
                           {"nothing seen", diagonal_mask(-80), 80, 80}}) {
    INFO(one.name);
    CHECK(portable_excess(attention_shape(64, 1, 2, 1, one.q_len, one.kv_len, one.mask), 5) <= 1.0);
  }
}

TEST_CASE("portable attention equals the reference at head dimensions 128 and 256, in batches") {
  CHECK(portable_excess(attention_shape(128, 2, 4, 2, 67, 131, causal_mask()), 6, 3) <= 1.0);
  CHECK(portable_excess(attention_shape(128, 1, 1, 1, 1, 200, causal_mask()), 7) <= 1.0);
  CHECK(portable_excess(attention_shape(256, 2, 2, 1, 65, 70, causal_mask()), 8, 3) <= 1.0);
}

TEST_CASE("portable attention does not depend on the order in which threads take turns") {
  emulated::set_order(9);
  CHECK(portable_excess(attention_shape(128, 1, 2, 1, 80, 140, causal_mask()), 9) <= 1.0);
  emulated::set_order(0);
}

TEST_CASE("portable attention keeps packed sequences apart, empty ones too") {
  CHECK(portable_excess(packed_shape(64, 2, 1, causal_mask(),
                                     {{70, 70}, {0, 10}, {1, 130}, {65, 40}, {20, 0}, {64, 64}}),
                        10) <= 1.0);
}

TEST_CASE("portable calls that join block after block give the attention over all of them") {
  CHECK(portable_ring_excess(64, 72, 3, 11) <= 1.0);
  CHECK(portable_ring_excess(128, 40, 2, 12) <= 1.0);
}

template <class Tile>
void check_tile_order(const TileRange& tiles) {
  std::set<int> seen;
  const int count = tiles.end - tiles.first;
  for (int i = 0; i < count; ++i) {
    const int n = tile_at(tiles, i);
    const bool full = n >= tiles.full_first && n < tiles.full_end;
    CHECK((n >= tiles.first && n < tiles.end));
    CHECK(full == (i >= masked_tiles(tiles)));
    seen.insert(n);
  }
  CHECK(static_cast<int>(seen.size()) == count);
}

TEST_CASE("a block takes every tile of keys once, those that need a mask first") {
  using Tile = PortableTile<64>;
  for (const MaskSpec& mask : {full_mask(), causal_mask(), window_mask(300), diagonal_mask(50)}) {
    for (int begin = 0; begin < 900; begin += Tile::rows) {
      const int end = begin + Tile::rows;
      check_tile_order<Tile>(tiles_of_rows(resolve(mask, 960, 1000), begin, end, Tile::keys));
    }
  }
}

// Bytes of a tile in shared memory: every chunk its own place, within the tile.
template <int rows, int chunks>
void check_placement() {
  std::set<int> places;
  for (int row = 0; row < rows; ++row) {
    for (int chunk = 0; chunk < chunks; ++chunk) {
      const int place = chunk_offset<chunks>(row, chunk);
      CHECK((place >= 0 && place < rows * chunks * 16 && place % 16 == 0));
      places.insert(place);
    }
  }
  CHECK(static_cast<int>(places.size()) == rows * chunks);
}

TEST_CASE("the exchange of chunks is one to one, and eight rows of a chunk share no banks") {
  check_placement<64, 8>();
  check_placement<64, 16>();
  check_placement<32, 32>();
  for (int chunk = 0; chunk < 16; ++chunk) {
    std::set<int> groups;
    for (int row = 8; row < 16; ++row) groups.insert(chunk_offset<16>(row, chunk) / 16 % 8);
    CHECK(groups.size() == 8);
  }
}

}  // namespace
}  // namespace longhaul::kernels::flash
