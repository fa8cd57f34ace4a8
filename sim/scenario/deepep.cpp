#include "sim/scenario/deepep.h"

#include <algorithm>
#include <array>

namespace longhaul {

namespace {

/// Rows that wait in a buffer of one channel and peer, by number of ranks (get_dispatch_config and
/// get_combine_config). Those towards the network are rounded up to a multiple of what is sent at once.
struct Config {
  std::int64_t ranks, nvl_rows, rdma_rows;
};
constexpr std::array configs{
    Config{2, 256, 0},     Config{4, 256, 0},     Config{8, 256, 0},     Config{16, 288, 140},
    Config{24, 288, 128},  Config{32, 288, 128},  Config{48, 288, 128},  Config{64, 288, 128},
    Config{96, 480, 132},  Config{128, 560, 132}, Config{144, 720, 132}, Config{160, 720, 132}};

// Beside a row: where it came from (8 bytes), room for 128 choices (int64) with their weights (fp32)
// and for 128 scales (fp32).
constexpr std::int64_t row_facts = 8 + 128 * 8 + 128 * 4 + 128 * 4;

}  // namespace

std::vector<std::int64_t> deepep_ranks() {
  std::vector<std::int64_t> ranks;
  for (const Config& config : configs) {
    ranks.push_back(config.ranks);
  }
  return ranks;
}

Bytes deepep_buffers(std::int64_t hidden, std::int64_t ranks) {
  const auto* known = std::find_if(configs.begin(), configs.end() - 1,
                                   [&](const Config& one) { return one.ranks >= ranks; });
  const std::int64_t nodes = std::max<std::int64_t>(1, ranks / deepep_node_ranks);
  const std::int64_t peers = std::min(ranks, deepep_node_ranks);
  constexpr std::int64_t channels = deepep_sms / 2;
  const auto rounded = [](std::int64_t bytes) { return (bytes + 127) / 128 * 128; };
  const std::int64_t row = 2 * hidden + row_facts;
  std::int64_t bytes =
      rounded(channels * peers * (4 * (2 * nodes + 3) + known->nvl_rows * row));
  if (ranks > deepep_node_ranks) {
    // Sending and receiving; 16 bytes a row to wait on; 1 MiB to be safe.
    const std::int64_t heads = 4 * (2 * deepep_node_ranks + 2);
    bytes += rounded(channels * nodes * 2 * (heads + known->rdma_rows * (row + 16)) + 1048576);
  }
  return Bytes::of(static_cast<double>(bytes));
}

}  // namespace longhaul
