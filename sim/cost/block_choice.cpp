#include "sim/cost/block_choice.h"

#include <algorithm>
#include <array>
#include <optional>
#include <tuple>
#include <vector>

#include "sim/units/check.h"
#include "sim/units/divide.h"

namespace longhaul {

namespace {

constexpr std::int64_t depth = 128;               // of k that one step of the main loop takes
constexpr std::int64_t shared_memory = 232'448;   // bytes that a thread block may have
constexpr std::int64_t output_bytes = 2;          // bf16

std::int64_t rounded(std::int64_t value, std::int64_t unit) {
  return ceil_divide(value, unit) * unit;
}

BlockChoice counted(BlockChoice choice, const GemmShape& shape, int sms) {
  choice.tiles =
      ceil_divide(shape.m, choice.rows) * ceil_divide(shape.n, choice.columns) * shape.count;
  choice.waves = ceil_divide(choice.tiles, sms);
  return choice;
}

// Clusters of one or two thread blocks, along either side.
constexpr std::array<std::array<std::int64_t, 2>, 3> clusters = {{{1, 1}, {1, 2}, {2, 1}}};

// Stages of the pipeline that shared memory holds beside the output tile and the scales of B.
std::int64_t hopper_stages(std::int64_t rows, std::int64_t columns, std::int64_t k) {
  constexpr std::int64_t barriers = 256;
  constexpr std::int64_t most = 16;
  const std::int64_t scales_of_b =
      rounded(ceil_divide(k, depth) * 4 * (depth % columns == 0 ? 1 : 2), 8);
  const std::int64_t besides =
      rounded(rows * columns * output_bytes, 1024) + barriers + scales_of_b;
  const std::int64_t stage = (rows + columns) * depth + rounded(rows * 4, 128);
  return std::min((shared_memory - besides) / stage, most);
}

bool hopper_can(std::int64_t rows, std::int64_t columns, std::int64_t k) {
  const std::int64_t beyond = columns - depth;  // scales of B change within a tile only so often
  if (beyond > 0 && columns % beyond != 0 && depth % beyond != 0) {
    return false;
  }
  if (rows > 128 && columns > 128) {
    return false;  // registers
  }
  const std::int64_t stages = hopper_stages(rows, columns, k);
  return stages >= 3 && (stages >= 4 || rows * columns >= 128 * 192);
}

// Cycles that the library expects of the L1 caches and the L2.
std::int64_t hopper_cycles(const BlockChoice& choice, const GemmShape& shape, int sms) {
  constexpr double l2_limit = 8e6 / 1.3e3;  // bytes a cycle, all SMs
  const auto l2_rate = static_cast<std::int64_t>(std::min(64.0 * sms, l2_limit));
  const std::int64_t l1_rate = 128 * sms;
  const std::int64_t output = choice.rows * choice.columns * output_bytes;
  const std::int64_t loaded = shape.k * (choice.rows / choice.sharing_rows +
                                         choice.columns / choice.sharing_columns);
  const std::int64_t into_l1 = shape.k * (choice.rows + choice.columns);
  const std::int64_t out_of_l1 =
      shape.k * (std::max<std::int64_t>(64, choice.rows) + choice.columns) + output;
  const std::int64_t l2 = (loaded + output) * choice.tiles / l2_rate;
  const std::int64_t l1 = (into_l1 + out_of_l1 + output) * choice.tiles / l1_rate;
  const double filled =
      static_cast<double>(choice.tiles) / (static_cast<double>(choice.waves) * sms);
  return static_cast<std::int64_t>(static_cast<double>(std::max(l1, l2)) / filled);
}

std::vector<std::int64_t> hopper_rows(std::int64_t m) {
  std::vector<std::int64_t> rows = {64, 128};
  if (m <= 16) {
    rows.push_back(16);
  }
  if (m <= 32) {
    rows.push_back(32);
  }
  rows.push_back(256);
  return rows;
}

BlockChoice choose_hopper(const GemmShape& shape, int sms) {
  constexpr std::int64_t widest = 192;
  BlockChoice best;
  std::optional<std::int64_t> fewest;
  for (const auto& [along_m, along_n] : clusters) {
    if (sms % (along_m * along_n) != 0) {
      continue;
    }
    for (const std::int64_t rows : hopper_rows(shape.m)) {
      for (std::int64_t columns = 16; columns <= widest; columns += 16) {
        const BlockChoice choice = counted({rows, columns, along_m, along_n}, shape, sms);
        const bool alone = along_m * along_n == 1;
        if (!hopper_can(rows, columns, shape.k) || (choice.waves <= 1 && !alone)) {
          continue;
        }
        const std::int64_t cycles = hopper_cycles(choice, shape, sms);
        if (!fewest || cycles < *fewest) {
          fewest = cycles;
          best = choice;
        }
      }
    }
  }
  return best;
}

// Tiles of 128 columns with any rows (A and B change places), and of 128 rows with any columns.
std::vector<BlockChoice> blackwell_blocks(const GemmShape& shape) {
  std::vector<BlockChoice> blocks;
  const std::int64_t rows = shape.m <= 32 ? 32 : shape.m <= 64 ? 64 : 128;
  const std::int64_t widest = shape.k <= 256 ? 128 : 224;  // two outputs fit the tensor memory
  for (const std::int64_t pair : {1, 2}) {
    for (std::int64_t columns = 16; columns <= widest; columns += columns < 32 ? 16 : 32) {
      if (ceil_divide(shape.m, rows) % pair == 0) {
        blocks.push_back({rows, columns, pair, 1});
      }
    }
  }
  for (const std::int64_t pair : {1, 2}) {
    for (std::int64_t swapped = 16; swapped <= 240; swapped += 16) {
      if (ceil_divide(shape.n, 128) % pair == 0) {
        blocks.push_back({swapped, 128, 1, pair});
      }
    }
  }
  return blocks;
}

// Smaller is better.
auto blackwell_rank(const BlockChoice& choice, int sms) {
  const std::int64_t last = (choice.tiles - 1) % sms + 1;
  const std::int64_t pair = choice.sharing_rows * choice.sharing_columns;
  return std::tuple(choice.waves > 1, -pair, choice.waves, -last, choice.rows + choice.columns,
                    choice.rows * choice.columns);
}

BlockChoice choose_blackwell(const GemmShape& shape, int sms) {
  std::optional<BlockChoice> best;
  for (const BlockChoice& block : blackwell_blocks(shape)) {
    const BlockChoice choice = counted(block, shape, sms);
    if (sms % (choice.sharing_rows * choice.sharing_columns) == 0 &&
        (!best || blackwell_rank(choice, sms) < blackwell_rank(*best, sms))) {
      best = choice;
    }
  }
  return *best;
}

}  // namespace

BlockChoice choose_block(BlockRule rule, const GemmShape& shape, int sms) {
  check(rule != BlockRule::fastest, "no rule names the fastest tile");
  check(shape.m > 0 && shape.n > 0 && shape.k > 0 && sms > 0, "a product has sizes");
  return rule == BlockRule::deep_gemm_hopper ? choose_hopper(shape, sms)
                                             : choose_blackwell(shape, sms);
}

}  // namespace longhaul
