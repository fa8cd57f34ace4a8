// The tile scheduler of the forward kernel: every tile once, and balance.
#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <tuple>
#include <vector>

#include <catch2/catch.hpp>

#include "kernels/flash_attention/problem.h"
#include "kernels/flash_attention/tile_shape.h"

namespace longhaul::kernels::flash {

namespace {

constexpr int rows = 128;
constexpr int keys = 128;

int draw(std::mt19937& random, int low, int high) {
  return std::uniform_int_distribution<int>(low, high)(random);
}

AttentionShape shape_of(int batch, int heads, int kv_heads, int length, const MaskSpec& mask) {
  AttentionShape shape;
  shape.head_dim = 128;
  shape.batch = batch;
  shape.heads = heads;
  shape.kv_heads = kv_heads;
  shape.q_len = length;
  shape.kv_len = length;
  shape.mask = mask;
  return shape;
}

// Steps of a tile: its tiles of keys, and one more for what each tile costs besides.
int steps_of(const Problem& problem, int tile) {
  const TileRange tiles = work_of<rows, keys>(problem, tile).tiles;
  return 1 + tiles.end - tiles.first;
}

struct Balance {
  long longest_block = 0;
  long longest_tile = 0;
  double mean = 0;
};

// Blocks that take the next number from a counter as soon as they are free.
Balance run_dynamic(const Problem& problem, int blocks) {
  std::vector<long> ends(blocks, 0);
  Balance found;
  for (int tile = 0; tile < tile_count(problem); ++tile) {
    const long steps = steps_of(problem, tile);
    *std::min_element(ends.begin(), ends.end()) += steps;
    found.longest_tile = std::max(found.longest_tile, steps);
    found.mean += static_cast<double>(steps) / blocks;
  }
  found.longest_block = *std::max_element(ends.begin(), ends.end());
  return found;
}

}  // namespace

TEST_CASE("every tile of every head and batch comes exactly once, whatever the sections") {
  std::mt19937 random(3);
  for (int trial = 0; trial < 400; ++trial) {
    AttentionShape shape = shape_of(draw(random, 1, 3), 1, 1, draw(random, 1, 1000),
                                    draw(random, 0, 1) == 0 ? causal_mask() : full_mask());
    shape.kv_heads = 1 + draw(random, 0, 3);
    shape.heads = shape.kv_heads * (1 + draw(random, 0, 2));
    TilePlan plan = plan_tiles(shape, rows, keys);
    plan.problem.lanes_per_section = 1 + draw(random, 0, 39);
    std::set<std::tuple<int, int, int>> seen;
    for (int tile = 0; tile < tile_count(plan.problem); ++tile) {
      const TileWork work = work_of<rows, keys>(plan.problem, tile);
      REQUIRE(work.row_begin < shape.q_len);
      REQUIRE(work.kv_head == work.head * shape.kv_heads / shape.heads);
      seen.insert({work.batch, work.head, work.row_begin});
    }
    const int wanted = shape.batch * shape.heads * ceil_divide(shape.q_len, rows);
    REQUIRE(tile_count(plan.problem) == wanted);
    REQUIRE(static_cast<int>(seen.size()) == wanted);
    REQUIRE(std::get<0>(*seen.rbegin()) < shape.batch);
  }
}

TEST_CASE("varying lengths: every row block of every sequence comes once a head, longest first") {
  std::mt19937 random(4);
  for (int trial = 0; trial < 200; ++trial) {
    AttentionShape shape = shape_of(1, 3, 1, 0, causal_mask());
    int blocks = 0;
    for (int s = 0; s < 6; ++s) {
      const int length = draw(random, 0, 699);
      shape.sequences.push_back({shape.q_len, length, shape.kv_len, length});
      shape.q_len += length;
      shape.kv_len += length;
      blocks += ceil_divide(length, rows);
    }
    const TilePlan plan = plan_tiles(shape, rows, keys);
    std::set<std::tuple<int, int, int>> seen;
    int before = 1 << 20;
    for (int tile = 0; tile < tile_count(plan.problem); ++tile) {
      const TileWork work = work_of<rows, keys>(plan.problem, tile);
      REQUIRE(work.row_begin < work.q_len);
      REQUIRE(steps_of(plan.problem, tile) <= before);
      before = steps_of(plan.problem, tile);
      seen.insert({work.head, work.q_row, work.row_begin});
    }
    REQUIRE(static_cast<int>(seen.size()) == 3 * blocks);
    REQUIRE(tile_count(plan.problem) == 3 * blocks);
  }
}

TEST_CASE("taking tiles from a counter, no block ends later than the mean by more than one tile") {
  std::mt19937 random(5);
  for (int trial = 0; trial < 100; ++trial) {
    const MaskSpec masks[] = {causal_mask(), full_mask(), window_mask(300), zigzag_mask(0, 1)};
    const AttentionShape shape =
        shape_of(draw(random, 1, 2), 4, 2, draw(random, 100, 5099), masks[trial % 4]);
    const Balance found = run_dynamic(plan_tiles(shape, rows, keys).problem, 132);
    REQUIRE(static_cast<double>(found.longest_block) <=
            found.mean + static_cast<double>(found.longest_tile));
  }
}

TEST_CASE("a causal call of 16 heads and 16k tokens keeps 132 SMs busy 99 % of the time") {
  const AttentionShape shape = shape_of(1, 16, 16, 16384, causal_mask());
  const Balance found = run_dynamic(plan_tiles(shape, rows, keys).problem, 132);
  CHECK(found.mean / static_cast<double>(found.longest_block) > 0.99);
}

TEST_CASE("within a section tiles come from the longest to the shortest") {
  const Problem problem = plan_tiles(shape_of(2, 8, 2, 4000, causal_mask()), rows, keys).problem;
  const int section = problem.lanes_per_section * problem.row_blocks;
  for (int tile = 1; tile < tile_count(problem); ++tile) {
    if (tile % section == 0) continue;
    REQUIRE(steps_of(problem, tile) <= steps_of(problem, tile - 1));
  }
}

TEST_CASE("a section's keys and values fit the L2 budget, unless one head's alone do not") {
  for (const int length : {1000, 16384, 65536, 1 << 20}) {
    const int lanes = lanes_of_section(length, 128, 32, 8);
    const long long bytes = 4ll * length * 128 * (lanes / 4);  // four query heads share a key head
    CHECK((bytes <= section_bytes || lanes == 4));
    CHECK(lanes % 4 == 0);
  }
}

TEST_CASE("operands, barriers and registers of every tile shape fit the SM") {
  STATIC_REQUIRE(Budget<TileShape<64, true>>::holds);
  STATIC_REQUIRE(Budget<TileShape<64, false>>::holds);
  STATIC_REQUIRE(Budget<TileShape<128, true>>::holds);
  STATIC_REQUIRE(Budget<TileShape<128, false>>::holds);
  STATIC_REQUIRE(Budget<TileShape<256, true>>::holds);
  STATIC_REQUIRE(Budget<TileShape<256, false>>::holds);
}

TEST_CASE("barriers have places of their own") {
  using Layout = BarrierLayout<TileShape<128, false>>;
  std::set<int> places = {Layout::index(Barrier::q_full, 0), Layout::index(Barrier::q_empty, 0)};
  for (const Barrier which : {Barrier::k_full, Barrier::k_empty, Barrier::v_full, Barrier::v_empty,
                              Barrier::tile_full, Barrier::tile_empty}) {
    for (int stage = 0; stage < 2; ++stage) places.insert(Layout::index(which, stage));
  }
  CHECK(static_cast<int>(places.size()) == Layout::count);
  CHECK(*places.rbegin() == Layout::count - 1);
}

TEST_CASE("shapes that the kernels do not compute are refused with the reason") {
  AttentionShape shape = shape_of(1, 3, 2, 100, full_mask());
  CHECK_THROWS_WITH(check_shape(shape), Catch::Contains("no multiple of key heads"));
  shape.heads = 4;
  CHECK_NOTHROW(check_shape(shape));
  shape.head_dim = 96;
  CHECK_THROWS_WITH(check_shape(shape), Catch::Contains("head dimension 96"));
  shape.head_dim = 64;
  shape.sequences = {{0, 60, 0, 60}, {50, 50, 60, 40}};
  CHECK_THROWS_WITH(check_shape(shape), Catch::Contains("overlap"));
}

TEST_CASE("FLOPs count what rows see: a causal square has a triangle and its diagonal") {
  const double full = attention_flops(shape_of(2, 4, 2, 1000, full_mask()));
  const double causal = attention_flops(shape_of(2, 4, 2, 1000, causal_mask()));
  CHECK(full == 4.0 * 128 * 2 * 4 * 1000.0 * 1000.0);
  CHECK(causal == 4.0 * 128 * 2 * 4 * 1000.0 * 1001.0 / 2.0);
}

}  // namespace longhaul::kernels::flash
