#include "calibrate/fit/served_attention.h"

#include <algorithm>
#include <cmath>

#include "sim/units/divide.h"

namespace longhaul {

namespace {

// Thread blocks that wait for memory and do little else. Data sheets: an SM holds 2048 threads, on
// Ada 1536.
double blocks_seconds(const Device& device, const CopyRates& rates, std::int64_t blocks,
                      std::int64_t threads) {
  const double resident = (device.architecture == "ada" ? 1536.0 : 2048.0) * device.sms;
  return rates.block_life * static_cast<double>(blocks * threads) / resident;
}

// tile_size.h, 2 bytes an element, causal, pages not loaded by the copy engine.
std::int64_t paged_columns(std::int64_t head_dim) {
  return head_dim <= 128 ? 128 : head_dim <= 192 ? 96 : 80;
}

// Tiles of one kv head: rows of all heads of a group.
std::int64_t packed_tiles(const AttentionCurve& curve, const AttentionShape& shape) {
  return ceil_divide(shape.queries * (shape.heads / shape.kv_heads), curve.rows);
}

// heuristics.h, num_splits_heuristic as servers ship it: none where tiles fill four fifths of the
// SMs, else the fewest parts that fill waves nearly as well as any number does. One sequence is
// assumed, whatever the batch.
std::int64_t host_parts(std::int64_t tiles, std::int64_t steps, std::int64_t sms) {
  constexpr double nearly = 0.85;
  constexpr std::int64_t fewest_steps = 4;
  constexpr std::int64_t most = 128;
  if (static_cast<double>(tiles) >= 0.8 * static_cast<double>(sms) || steps <= fewest_steps) {
    return 1;
  }
  const auto filled = [&](std::int64_t parts) {
    const double waves = static_cast<double>(tiles * parts) / static_cast<double>(sms);
    return waves / std::ceil(waves);
  };
  const std::int64_t limit = std::min({most, sms, steps});
  double best = 0.0;
  for (std::int64_t parts = 1; parts <= limit; ++parts) {
    best = std::max(best, filled(parts));
  }
  std::int64_t parts = 1;
  while (filled(parts) < nearly * best) {
    ++parts;
  }
  return parts;
}

// flash_prepare_scheduler.cu: parts as long as an SM's share of all steps, and a tenth.
std::int64_t device_parts(std::int64_t tiles, std::int64_t steps, std::int64_t sms) {
  const auto share = static_cast<std::int64_t>(
      std::ceil(1.1 * static_cast<double>(tiles * steps) / static_cast<double>(sms)));
  return ceil_divide(steps, share);
}

// The same file: as many heads, a power of two, as have their keys and values in 8 MiB.
std::int64_t alternating_heads(const Flash3Plan& plan, const AttentionShape& shape) {
  constexpr std::int64_t cache = 8 << 20;
  const std::int64_t steps = ceil_divide(ceil_divide(shape.keys, plan.columns), plan.parts);
  const std::int64_t tile_bytes = plan.columns * 2 * shape.head_dim * 2;
  std::int64_t heads = 16;
  while (heads > 1 && steps * heads > cache / tile_bytes) {
    heads /= 2;
  }
  return std::min(heads, shape.kv_heads);
}

// Costs of a tile's parts, in whole steps of the main loop beside its start.
void add_parts(const AttentionCurve& curve, const TileSteps& steps, double step,
               std::int64_t parts, std::vector<double>& costs) {
  const std::int64_t all = steps.whole + steps.masked;
  const std::int64_t length = ceil_divide(all, parts);
  for (std::int64_t part = 0; part < parts; ++part) {
    const std::int64_t begin = std::min(all, part * length);
    const std::int64_t end = std::min(all, begin + length);
    const std::int64_t whole = std::clamp<std::int64_t>(steps.whole - begin, 0, end - begin);
    const double masked = curve.masked_step * static_cast<double>(end - begin - whole);
    costs.push_back(curve.tile_start.value() + step * (static_cast<double>(whole) + masked));
  }
}

// Of one kv head, the tiles with the most keys first.
std::vector<double> packed_costs(const AttentionCurve& curve, const AttentionShape& shape,
                                 const Flash3Plan& plan, double step) {
  const std::int64_t group = shape.heads / shape.kv_heads;
  std::vector<double> costs;
  for (std::int64_t tile = packed_tiles(curve, shape); tile-- > 0;) {
    const std::int64_t first = tile * curve.rows;
    const std::int64_t last = std::min(first + curve.rows, shape.queries * group) - 1;
    const TileSteps steps = tile_steps(shape.band, first / group, last / group - first / group + 1,
                                       shape.keys, plan.columns);
    add_parts(curve, steps, step, plan.parts, costs);
  }
  return costs;
}

// All tiles in the order in which they start.
std::vector<double> ordered_costs(const std::vector<double>& of_head, const AttentionShape& shape,
                                  const Flash3Plan& plan) {
  std::vector<double> costs;
  costs.reserve(of_head.size() * static_cast<std::size_t>(shape.kv_heads * shape.batch));
  for (std::int64_t sequence = 0; sequence < shape.batch; ++sequence) {
    for (std::int64_t head = 0; head < shape.kv_heads; head += plan.heads) {
      const std::int64_t together = std::min(plan.heads, shape.kv_heads - head);
      for (const double cost : of_head) {
        costs.insert(costs.end(), static_cast<std::size_t>(together), cost);
      }
    }
  }
  return costs;
}

double kernel_seconds(const Device& device, const std::vector<double>& of_head,
                      const AttentionShape& shape, const Flash3Plan& plan) {
  constexpr std::int64_t exact_jobs = 4096;  // beyond, the last tiles are the shortest
  const std::int64_t heads = shape.kv_heads * shape.batch;
  if (!shape.band.upper && plan.parts == 1) {
    return list_schedule(of_head, heads, device.sms);  // all but alike
  }
  if (static_cast<std::int64_t>(of_head.size()) * heads <= exact_jobs) {
    return greedy_schedule(ordered_costs(of_head, shape, plan), 1, device.sms);
  }
  double total = 0.0;
  for (const double cost : of_head) {
    total += cost;
  }
  return total * static_cast<double>(heads) / device.sms +
         0.5 * *std::min_element(of_head.begin(), of_head.end());
}

}  // namespace

double cache_seconds(const Device& device, const CopyRates& rates, const AttentionRow& row) {
  if (!row.paged_cache) {
    return 0.0;
  }
  constexpr std::int64_t most_threads = 512;
  const AttentionShape& shape = row.shape;
  const std::int64_t tokens = shape.batch * shape.keys;
  const std::int64_t channels = shape.kv_heads * shape.head_dim;
  const double copied = 8.0 * static_cast<double>(tokens * channels) /
                        (device.memory_bandwidth.value() * rates.memory_share);
  const double waiting =
      row.vllm ? blocks_seconds(device, rates, tokens, std::min(channels, most_threads)) : 0.0;
  return rates.launch.value() + copied + waiting;
}

Flash3Plan flash3_plan(const Device& device, const AttentionCurve& curve, const AttentionRow& row) {
  const AttentionShape& shape = row.shape;
  Flash3Plan plan;
  plan.columns = row.paged_cache ? paged_columns(shape.head_dim) : curve.columns;
  const std::int64_t steps = ceil_divide(shape.keys, plan.columns);
  const std::int64_t tiles = shape.kv_heads * packed_tiles(curve, shape);
  plan.most_parts = host_parts(tiles, steps, device.sms);
  if (plan.most_parts > 1) {
    plan.parts = std::min(plan.most_parts, device_parts(tiles * shape.batch, steps, device.sms));
  }
  plan.heads = alternating_heads(plan, shape);
  return plan;
}

double flash3_mechanism(const Device& device, const AttentionCurve& curve, double memory_share,
                        const AttentionRow& row) {
  const Flash3Plan plan = flash3_plan(device, curve, row);
  AttentionCurve tile = curve;
  tile.columns = plan.columns;
  const double step = attention_step(device, tile, row.shape);
  const double kernel =
      kernel_seconds(device, packed_costs(tile, row.shape, plan, step), row.shape, plan);
  const double memory =
      attention_bytes(row.shape) / (device.memory_bandwidth.value() * memory_share);
  return curve.launch.value() + std::max(kernel, memory);
}

double combine_seconds(const Device& device, const AttentionCurve& curve, const CopyRates& rates,
                       const AttentionRow& row) {
  const Flash3Plan plan = flash3_plan(device, curve, row);
  if (plan.most_parts == 1) {
    return 0.0;
  }
  constexpr std::int64_t threads = 256;
  const AttentionShape& shape = row.shape;
  const bool narrow = shape.head_dim <= 64;
  const std::int64_t rows = shape.queries * shape.heads;
  const std::int64_t blocks = shape.batch * ceil_divide(rows, narrow ? 16 : 8) *
                              ceil_divide(shape.head_dim, narrow ? 64 : 128);
  const double waiting = blocks_seconds(device, rates, blocks, threads);
  if (plan.parts == 1) {
    return waiting;
  }
  // Parts are written and read in fp32.
  const double elements = static_cast<double>(shape.batch * rows * shape.head_dim);
  return waiting + 8.0 * elements * static_cast<double>(plan.parts) /
                       (device.memory_bandwidth.value() * rates.memory_share);
}

}  // namespace longhaul
