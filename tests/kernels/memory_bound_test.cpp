// The memory-bound kernels, run thread by thread on the emulated GPU against their references: the
// same source, launches and cases as on a GPU (tests/kernels/*_check.cu), at smaller sizes.
#include <array>
#include <limits>
#include <string>

#include <catch2/catch.hpp>

#include "kernels/cross_entropy/kernel.cuh"
#include "kernels/lse_merge/kernel.cuh"
#include "kernels/rope/kernel.cuh"
#include "kernels/swiglu/kernel.cuh"
#include "tests/kernels/adamw_cases.h"
#include "tests/kernels/copy_cases.h"
#include "tests/kernels/cross_entropy_cases.h"
#include "tests/kernels/lse_merge_cases.h"
#include "tests/kernels/rmsnorm_cases.h"
#include "tests/kernels/rope_cases.h"
#include "tests/kernels/swiglu_cases.h"

namespace longhaul::kernels {
namespace {

const float infinity = std::numeric_limits<float>::infinity();

// The turns of threads must not matter: each case runs in two orders.
template <class Case>
void in_two_orders(const Case& run) {
  for (const std::uint64_t order : {0, 7}) {
    emulated::set_order(order);
    INFO("order of turns " << order);
    run();
  }
  emulated::set_order(0);
}

// While it lives, grids are cut to one block.
struct OneBlock {
  OneBlock() { emulated::set_most_blocks(1); }
  ~OneBlock() { emulated::set_most_blocks(0); }
};

TEST_CASE("blocks that go on to further work do all of it, and what they share is free by then") {
  const OneBlock one_block;
  CHECK(copy_is_exact(9001, 14));
  CHECK(casts_are_exact(9001, 15));
  CHECK(packing_is_exact({40, 7, 16}, 16));
  in_two_orders([] {
    CHECK(merge_excess({2, 17, 3, 128}, 22) <= 1.0);
    CHECK(rope_excess({9, 3, 128}, RopeDirection::forward, true, 55) <= 1.0);
    CHECK(swiglu_excess(5, 264, true, 62) <= 1.0);
    CHECK(fused_cross_entropy_excess({7, 1003, 1, true}, 73) <= 1.0);
    CHECK(cut_cross_entropy_excess({7, 1003, 3}, 74) <= 1.0);
  });
  CHECK(adamw_excess<float>(5003, 3, 83) <= 1.0);
}

TEST_CASE("copies and casts reach every element once, whatever the ragged end") {
  for (const std::size_t count : {1, 7, 8, 9, 255, 256, 2047, 2048, 2049, 5000}) {
    INFO(count << " elements");
    CHECK(copy_is_exact(count, 11));
    CHECK(casts_are_exact(count, 12));
  }
}

TEST_CASE("packing for an all-to-all is a permutation of rows that unpacking undoes") {
  for (const RowTransposition& shape :
       {RowTransposition{1, 1, 8}, {5, 3, 8}, {17, 8, 24}, {3, 40, 16}, {2, 2, 512}}) {
    INFO(shape.outer << " x " << shape.inner << " rows of " << shape.width);
    CHECK(packing_is_exact(shape, 13));
  }
}

TEST_CASE("transposition refuses rows that are no whole number of 16 bytes") {
  Buffer<Bfloat16> buffer(64);
  CHECK_THROWS_AS(transpose_rows({2, 2, 12}, buffer.data(), buffer.data()), std::invalid_argument);
}

TEST_CASE("a merged attention result is within the rounding bound of the reference") {
  for (const LseMergeShape& shape : {LseMergeShape{1, 1, 1, 8},
                                     {1, 33, 2, 64},
                                     {2, 17, 3, 128},
                                     {1, 9, 5, 256},
                                     {3, 7, 1, 72},
                                     {1, 5, 2, 576}}) {
    INFO(shape.rows() << " rows of " << shape.width);
    in_two_orders([&] { CHECK(merge_excess(shape, 21) <= 1.0); });
  }
}

// Merge of two rows with one element, by the device's weights.
struct Merged {
  float value, lse;
};
Merged merged(Merged a, Merged b) {
  const MergeWeights weights = merge_weights(a.lse, b.lse);
  return {(weights.first > 0 ? weights.first * a.value : 0.0f) +
              (weights.second > 0 ? weights.second * b.value : 0.0f),
          weights.lse};
}

TEST_CASE("merging is commutative to the bit, and associative up to rounding") {
  const auto values = random_normal(300, 31);
  const auto sums = random_normal(300, 32, 10.0f);
  for (int i = 0; i < 300; i += 3) {
    const Merged a{values[i], sums[i]}, b{values[i + 1], sums[i + 1]},
        c{values[i + 2], sums[i + 2]};
    CHECK(merged(a, b).value == merged(b, a).value);
    CHECK(merged(a, b).lse == merged(b, a).lse);
    const Merged left = merged(merged(a, b), c);
    const Merged right = merged(a, merged(b, c));
    // 3 units per |difference of lse| (below 100 here), on values below 5.
    CHECK(std::abs(left.value - right.value) <= 600 * 0x1p-24f * 5);
    CHECK(std::abs(left.lse - right.lse) <= 600 * 0x1p-24f);
  }
}

TEST_CASE("a result without keys is the identity of merging, on either side, whatever it holds") {
  const Merged some{1.25f, -3.5f};
  const Merged none{std::numeric_limits<float>::quiet_NaN(), -infinity};
  for (const Merged& result : {merged(some, none), merged(none, some)}) {
    CHECK(result.value == some.value);
    CHECK(result.lse == some.lse);
  }
  CHECK(merged(none, none).value == 0.0f);
  CHECK(merged(none, none).lse == -infinity);
}

TEST_CASE("RMSNorm and its gradients are within the rounding bound, by warps and by blocks") {
  for (const RmsNormShape& shape : {RmsNormShape{1, 8},
                                    {9, 128},
                                    {37, 264},
                                    {5, 1024},
                                    {7, 1032},
                                    {3, 4104},
                                    {5, 8192},
                                    {2, 16384}}) {
    INFO(shape.rows << " rows of " << shape.width);
    in_two_orders([&] { CHECK(rmsnorm_excess(shape, 1, 41) <= 1.0); });
  }
}

TEST_CASE("RMSNorm refuses rows that are too wide for registers or no whole number of 16 bytes") {
  CHECK_NOTHROW(rmsnorm_backward_teams({1, rmsnorm_widest}, 1));
  CHECK_THROWS_AS(rmsnorm_backward_teams({1, rmsnorm_widest + 8}, 1), std::invalid_argument);
  CHECK_THROWS_AS(rmsnorm_backward_teams({1, 12}, 1), std::invalid_argument);
}

TEST_CASE("rotary embedding is within the rounding bound and leaves what is between heads alone") {
  for (const RopeShape& shape :
       {RopeShape{1, 1, 16}, {9, 3, 128}, {6, 5, 64, 5 * 64 + 24}, {3, 2, 80}, {2, 40, 128}}) {
    for (const RopeDirection direction : {RopeDirection::forward, RopeDirection::backward}) {
      INFO(shape.tokens << " tokens, " << shape.heads << " heads of " << shape.width);
      CHECK(rope_excess(shape, direction, false, 51) <= 1.0);
      in_two_orders([&] { CHECK(rope_excess(shape, direction, true, 52) <= 1.0); });
    }
  }
}

TEST_CASE("the backward of a rotation undoes it, since a rotation's transpose is its inverse") {
  const auto angles = random_normal(8, 53);
  const auto start = random_normal(16, 54);
  float cosines[8], sines[8], first[8], second[8];
  for (int i = 0; i < 8; ++i) {
    cosines[i] = std::cos(angles[i]);
    sines[i] = std::sin(angles[i]);
    first[i] = start[i];
    second[i] = start[i + 8];
  }
  rotate_pairs(cosines, sines, 1.0f, first, second);
  CHECK(std::abs(first[0] - start[0]) > 1e-3f);
  rotate_pairs(cosines, sines, -1.0f, first, second);
  for (int i = 0; i < 8; ++i) {
    // 6 roundings of each way, and cos^2 + sin^2 = 1 to 4 units.
    CHECK(std::abs(first[i] - start[i]) <= 16 * 0x1p-24f * 8);
    CHECK(std::abs(second[i] - start[i + 8]) <= 16 * 0x1p-24f * 8);
  }
}

TEST_CASE("SwiGLU and its gradients are within the rounding bound, halves fused or apart") {
  for (const bool fused : {false, true}) {
    for (const int width : {8, 264, 2056}) {
      INFO("width " << width);
      in_two_orders([&] { CHECK(swiglu_excess(5, width, fused, 61) <= 1.0); });
    }
  }
}

TEST_CASE("the sigmoid keeps its ends: no overflow, no NaN") {
  CHECK(sigmoid(0.0f) == 0.5f);
  CHECK(sigmoid(1000.0f) == 1.0f);
  CHECK(sigmoid(-1000.0f) == 0.0f);
  CHECK(swiglu_value(-1000.0f, 3.0f) == 0.0f);
}

TEST_CASE("cross-entropy and its gradient are within the rounding bound, in place or not") {
  for (const std::int32_t vocabulary : {1, 5, 8, 17, 1000, 9001}) {
    for (const bool in_place : {false, true}) {
      INFO("vocabulary " << vocabulary);
      in_two_orders([&] {
        CHECK(fused_cross_entropy_excess({6, vocabulary, 1, in_place}, 71) <= 1.0);
      });
    }
  }
}

TEST_CASE("a cut vocabulary gives every rank the loss and its columns the gradient of the whole") {
  for (const int ranks : {2, 3, 8}) {
    for (const std::int32_t vocabulary : {64, 1003}) {
      INFO("vocabulary " << vocabulary << " over " << ranks);
      in_two_orders([&] { CHECK(cut_cross_entropy_excess({6, vocabulary, ranks}, 72) <= 1.0); });
    }
  }
}

TEST_CASE("partials of a row combine in any order, and no columns change nothing") {
  const RowPartial none{-infinity, 0.0f, 0.0f};
  const RowPartial a{3.0f, 2.5f, 0.0f};
  const RowPartial b{-1.0f, 7.0f, -2.0f};
  CHECK(combine(a, b).sum == combine(b, a).sum);
  CHECK(combine(a, b).largest == 3.0f);
  CHECK(combine(a, b).target == -2.0f);
  CHECK(std::abs(row_lse(combine(a, b)) - std::log(std::exp(3.0f) * 2.5f + std::exp(-1.0f) * 7)) <=
        8 * 0x1p-22f);
  for (const RowPartial& same : {combine(a, none), combine(none, a)}) {
    CHECK(same.largest == a.largest);
    CHECK(same.sum == a.sum);
    CHECK(same.target == a.target);
  }
  CHECK(combine(none, none).sum == 0.0f);
}

TEST_CASE("a step of AdamW is within the rounding bound, whatever the ragged end") {
  for (const std::size_t count : {1, 3, 4, 5, 1023, 1024, 1029}) {
    for (const std::int64_t step : {1, 2, 1000}) {
      INFO(count << " parameters, step " << step);
      CHECK(adamw_excess<float>(count, step, 81) <= 1.0);
      CHECK(adamw_excess<Bfloat16>(count, step, 82) <= 1.0);
    }
  }
}

TEST_CASE("the first step of AdamW without decay moves every weight by the learning rate") {
  // m'/(1 - b1) = g and sqrt(v'/(1 - b2)) = |g|, so the move is the sign of g times the rate.
  AdamwStep step;
  step.weight_decay = 0;
  const std::vector<double> gradients = {0.5, -2.0, 1e-3};
  const AdamwState zero{{1.0, 1.0, 1.0}, {0, 0, 0}, {0, 0, 0}};
  const AdamwState next = adamw_reference(step, zero, gradients);
  CHECK_THAT(next.weights[0], Catch::Matchers::WithinRel(1.0 - 1e-3, 1e-7));
  CHECK_THAT(next.weights[1], Catch::Matchers::WithinRel(1.0 + 1e-3, 1e-7));
  CHECK_THAT(next.weights[2], Catch::Matchers::WithinRel(1.0 - 1e-3, 1e-7));
}

}  // namespace
}  // namespace longhaul::kernels
