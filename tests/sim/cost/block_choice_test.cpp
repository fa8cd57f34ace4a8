// Tiles that DeepGEMM's rules choose: laws of any choice, and products worked out by hand.
#include "sim/cost/block_choice.h"

#include <algorithm>
#include <catch2/catch.hpp>

using namespace longhaul;

namespace {

constexpr int hopper_sms = 132;
constexpr int blackwell_sms = 148;

BlockChoice hopper(std::int64_t m, std::int64_t n, std::int64_t k) {
  return choose_block(BlockRule::deep_gemm_hopper, {m, n, k, 1, KernelType::fp8_block}, hopper_sms);
}

BlockChoice blackwell(std::int64_t m, std::int64_t n, std::int64_t k) {
  return choose_block(BlockRule::deep_gemm_blackwell, {m, n, k, 1, KernelType::fp8_block},
                      blackwell_sms);
}

void check_laws(const BlockChoice& choice, std::int64_t m, std::int64_t n, int sms) {
  const std::int64_t down = (m + choice.rows - 1) / choice.rows;
  const std::int64_t across = (n + choice.columns - 1) / choice.columns;
  CHECK(choice.tiles == down * across);
  CHECK((choice.waves - 1) * sms < choice.tiles);
  CHECK(choice.tiles <= choice.waves * sms);
  CHECK(choice.sharing_rows * choice.sharing_columns <= 2);
}

}  // namespace

TEST_CASE("chosen tiles cover the product in whole waves, and blocks share loads by twos at most") {
  for (const std::int64_t m : {1, 17, 129, 768, 4096, 32768}) {
    for (const std::int64_t n : {128, 1536, 7168, 65536}) {
      for (const std::int64_t k : {128, 2048, 65536}) {
        check_laws(hopper(m, n, k), m, n, hopper_sms);
        check_laws(blackwell(m, n, k), m, n, blackwell_sms);
      }
    }
  }
}

TEST_CASE("Hopper's tiles fit its registers, and blocks of a single wave share nothing") {
  for (std::int64_t m = 64; m <= 8192; m += 192) {
    for (const std::int64_t n : {512, 3072, 4096, 10240}) {
      const BlockChoice choice = hopper(m, n, 4096);
      CHECK((choice.rows <= 128 || choice.columns <= 128));
      CHECK(choice.columns <= 192);
      if (choice.waves == 1) {
        CHECK(choice.sharing_rows * choice.sharing_columns == 1);
      }
    }
  }
}

TEST_CASE("768 x 4096 fills 132 SMs once with tiles of 128 x 192") {
  // 6 x 22 tiles are exactly the SMs, so that no smaller tile fills the single wave better, and
  // larger ones leave SMs idle: 256 x 128 makes 3 x 32 tiles.
  const BlockChoice choice = hopper(768, 4096, 4096);
  CHECK(choice.rows == 128);
  CHECK(choice.columns == 192);
  CHECK(choice.tiles == 132);
}

TEST_CASE("4096 x 4096 takes four waves of 256 x 128 in pairs on Hopper") {
  // 16 x 32 = 512 tiles on 132 SMs; a pair of blocks along n loads its tile of A, the larger, once.
  const BlockChoice choice = hopper(4096, 4096, 4096);
  CHECK(choice.rows == 256);
  CHECK(choice.columns == 128);
  CHECK(choice.waves == 4);
  CHECK(choice.sharing_rows == 2);
}

TEST_CASE("few rows take tiles of few rows, so that nothing is loaded beyond the product") {
  CHECK(hopper(1, 4096, 4096).rows == 16);
  CHECK(hopper(32, 4096, 4096).rows == 32);
  CHECK(hopper(64, 4096, 4096).rows == 64);
  CHECK(blackwell(8, 4096, 4096).rows == 16);
}

TEST_CASE("Blackwell's rule prefers one wave to several, and pairs of blocks to single ones") {
  const BlockChoice large = blackwell(8192, 8192, 8192);
  CHECK(large.sharing_rows * large.sharing_columns == 2);
  // 128 x 18944 is 148 tiles of 128 x 128: one full wave.
  const BlockChoice one = blackwell(128, 148 * 128, 4096);
  CHECK(one.waves == 1);
  CHECK(one.tiles <= blackwell_sms);
}

TEST_CASE("two outputs fit the tensor memory of Blackwell") {
  // 512 columns of 32 bits: two accumulators, and the scales of A and B, 4 columns for each 128.
  for (std::int64_t m = 1; m <= 16384; m = m * 3 + 1) {
    for (const std::int64_t n : {128, 2304, 12288}) {
      const BlockChoice choice = blackwell(m, n, 4096);
      CHECK(2 * std::max(choice.rows, choice.columns) + 16 <= 512);
    }
  }
}
