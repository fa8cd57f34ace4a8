// Attention kernels by tiles; equations and symbols: docs/models/attention.md.
#include <algorithm>
#include <cmath>
#include <queue>

#include "sim/cost/kernel.h"
#include "sim/cost/profile.h"
#include "sim/units/check.h"
#include "sim/units/divide.h"

namespace longhaul {

namespace {

constexpr std::int64_t exact_jobs = 4096;

std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  return a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
}

double even_share(const std::vector<double>& costs, std::int64_t copies, std::int64_t servers) {
  double total = 0.0;
  for (const double cost : costs) {
    total += cost;
  }
  return total * static_cast<double>(copies) / static_cast<double>(servers);
}

// The backward kernel gives a CTA a tile of keys and walks over queries: the transposed problem.
AttentionShape transposed(const AttentionShape& shape) {
  AttentionShape other = shape;
  std::swap(other.queries, other.keys);
  other.band = {};
  if (shape.band.upper) {
    other.band.lower = -*shape.band.upper;
  }
  if (shape.band.lower) {
    other.band.upper = -*shape.band.lower;
  }
  return other;
}

const AttentionCurve& curve_for(const std::vector<AttentionCurve>& curves, std::int64_t head_dim) {
  for (const AttentionCurve& curve : curves) {
    if (head_dim <= curve.head_dim) {
      return curve;
    }
  }
  return curves.back();
}

// FLOP that one SM's tensor cores do per second.
double sm_rate(const Device& device, KernelType type) {
  const FlopsPerSecond peak = type == KernelType::fp8 && device.peak_fp8.value() > 0
                                  ? device.peak_fp8
                              : type == KernelType::fp32 ? device.peak_fp32
                                                         : device.peak_bf16;
  return peak.value() / device.sms;
}

// Costs of the tiles of one head, in the order of their queries; tiles that see nothing are not
// there.
std::vector<double> tiles_of(const AttentionShape& shape, const AttentionCurve& curve, double step,
                             std::int64_t rows, std::int64_t columns) {
  std::vector<double> costs;
  for (std::int64_t first = 0; first < shape.queries; first += rows) {
    const std::int64_t height = std::min(rows, shape.queries - first);
    const TileSteps steps = tile_steps(shape.band, first, height, shape.keys, columns);
    if (steps.whole + steps.masked == 0) {
      continue;
    }
    costs.push_back(curve.tile_start.value() +
                    step * (static_cast<double>(steps.whole) +
                            curve.masked_step * static_cast<double>(steps.masked)));
  }
  return costs;
}

double schedule(std::vector<double> tiles, std::int64_t copies, std::int64_t sms,
                TileOrder order) {
  if (order == TileOrder::grid) {
    return grid_schedule(tiles, copies, sms);
  }
  std::sort(tiles.begin(), tiles.end(), std::greater<>());
  return order == TileOrder::rows ? ordered_schedule(tiles, copies, sms)
                                  : list_schedule(tiles, copies, sms);
}

// Flash kernels run one kernel before the backward pass, which reads o and do and clears dq in fp32,
// and one behind it, which reads that dq and writes it in 2 bytes: 4 + 4 + 4 + 2 bytes per query
// element that no product hides (flash_bwd_preprocess_kernel.h).
double bytes_around_backward(const AttentionShape& shape) {
  return 14.0 * static_cast<double>(shape.batch * shape.queries * shape.heads) *
         static_cast<double>(shape.head_dim);
}

// Flash kernels draw the random numbers of dropout themselves, forward and again backward: Philox 4x32
// of 7 rounds gives 16 bytes, one for each of 16 probabilities. A round is 2 wide products, 2
// three-way exclusive ors and 2 sums; unpacking, comparing and masking take 1.5 instructions per
// probability (flash-attention csrc/flash_attn/src/philox.cuh and dropout.h): 42 + 24 + 4 integer
// instructions for 16, of which an SM does 64 a cycle from Ampere on. In 1/16 of a cycle, like beta.
constexpr double dropout_beta = 16.0 * (70.0 / 16.0) / 64.0;

// Unfused attention: two products through memory, scores written and read in between
// (arXiv 2205.05198, figure 2: softmax input, dropout mask and output).
double materialised_bytes(const AttentionShape& shape) {
  const double scores = static_cast<double>(shape.batch * shape.heads) *
                        static_cast<double>(shape.queries) * static_cast<double>(shape.keys);
  return (shape.backward ? 14.0 : 9.0) * scores;
}

}  // namespace

TileSteps tile_steps(const Band& band, std::int64_t first_row, std::int64_t rows, std::int64_t keys,
                     std::int64_t columns) {
  const std::int64_t last_row = first_row + rows - 1;
  const std::int64_t low = band.lower ? std::max<std::int64_t>(0, first_row + *band.lower) : 0;
  const std::int64_t high =
      band.upper ? std::min(keys, last_row + *band.upper + 1) : keys;  // one past the last key seen
  if (low >= high) {
    return {};
  }
  const std::int64_t begin = low / columns;
  const std::int64_t end = ceil_divide(high, columns);
  // Whole tiles: every row sees every key of them.
  std::int64_t whole_begin = begin;
  std::int64_t whole_end = floor_divide(high, columns);
  if (band.upper) {
    whole_end = std::min(whole_end, floor_divide(first_row + *band.upper + 1, columns));
  }
  if (band.lower) {
    whole_begin = std::max(whole_begin,
                           ceil_divide(std::max<std::int64_t>(0, last_row + *band.lower), columns));
  }
  const std::int64_t whole = std::max<std::int64_t>(0, whole_end - whole_begin);
  return {whole, end - begin - whole};
}

double greedy_schedule(const std::vector<double>& costs, std::int64_t copies,
                       std::int64_t servers) {
  std::priority_queue<double, std::vector<double>, std::greater<>> free_at;
  for (std::int64_t i = 0; i < servers; ++i) {
    free_at.push(0.0);
  }
  double end = 0.0;
  for (const double cost : costs) {
    for (std::int64_t i = 0; i < copies; ++i) {
      const double done = free_at.top() + cost;
      free_at.pop();
      free_at.push(done);
      end = std::max(end, done);
    }
  }
  return end;
}

double list_schedule(const std::vector<double>& costs, std::int64_t copies, std::int64_t servers) {
  if (costs.empty()) {
    return 0.0;
  }
  const auto jobs = static_cast<std::int64_t>(costs.size()) * copies;
  if (costs.front() == costs.back()) {
    return costs.front() * static_cast<double>(ceil_divide(jobs, servers));
  }
  if (jobs <= exact_jobs) {
    return greedy_schedule(costs, copies, servers);
  }
  return std::max(costs.front(), even_share(costs, copies, servers) + 0.5 * costs.back());
}

double ordered_schedule(const std::vector<double>& costs, std::int64_t copies,
                        std::int64_t servers) {
  const double best = list_schedule(costs, copies, servers);
  if (costs.empty() || costs.front() == costs.back()) {
    return best;
  }
  return std::max(best, even_share(costs, copies, servers) + 0.5 * costs.front());
}

double grid_schedule(const std::vector<double>& costs, std::int64_t copies, std::int64_t servers) {
  if (costs.empty()) {
    return 0.0;
  }
  if (static_cast<std::int64_t>(costs.size()) * copies > exact_jobs) {
    return even_share(costs, copies, servers) +
           0.5 * *std::max_element(costs.begin(), costs.end());
  }
  std::vector<double> all;
  all.reserve(costs.size() * static_cast<std::size_t>(copies));
  for (std::int64_t copy = 0; copy < copies; ++copy) {
    all.insert(all.end(), costs.begin(), costs.end());
  }
  return greedy_schedule(all, 1, servers);
}

std::array<double, 3> attention_sizes(const AttentionShape& shape) {
  const double rows = static_cast<double>(shape.batch * shape.heads * shape.queries);
  const double keys = attended_pairs(shape.band, shape.queries, shape.keys) /
                      static_cast<double>(shape.queries);
  return {keys, rows, static_cast<double>(shape.heads) / static_cast<double>(shape.kv_heads)};
}

std::array<double, 3> attention_layout(const AttentionShape& shape) {
  return {static_cast<double>(shape.batch), static_cast<double>(shape.kv_heads),
          static_cast<double>(shape.queries)};
}

double attention_correction(const AttentionCurve& curve, const AttentionShape& shape) {
  const double smooth = correction_factor(curve.correction, attention_sizes(shape));
  return smooth * correction_factor(curve.layout, attention_layout(shape));
}

double attention_bytes(const AttentionShape& shape) {
  const double query = static_cast<double>(shape.batch * shape.queries * shape.heads) *
                       static_cast<double>(shape.head_dim);
  const double key = static_cast<double>(shape.batch * shape.keys * shape.kv_heads) *
                     static_cast<double>(shape.head_dim);
  // Forward: read q, k, v, write o (2 bytes each). Backward: read q, k, v, do, write dq in fp32
  // (added up, so read as well), dk, dv.
  return shape.backward ? 12.0 * query + 8.0 * key : 4.0 * query + 4.0 * key;
}

// One step: rows x columns scores, 2 (backward: 5) products of 2 FLOP per element and head_dim,
// and beta/16 cycles per score for exponentials and everything else.
// Of the five two are as wide as the values (dO V^T, P^T dO), of the two one (P V).
double attention_step(const Device& device, const AttentionCurve& curve,
                      const AttentionShape& shape, bool materialised) {
  const std::int64_t value_dim = shape.value_dim > 0 ? shape.value_dim : shape.head_dim;
  const std::int64_t channels = shape.backward ? 6 * shape.head_dim + 4 * value_dim
                                               : 2 * shape.head_dim + 2 * value_dim;
  const double products = static_cast<double>(channels) / sm_rate(device, shape.type);
  const double drawing = shape.dropout && !materialised ? dropout_beta : 0.0;
  const double others = (curve.beta + drawing) / 16.0 / device.boost_clock.value();
  return static_cast<double>(curve.rows * curve.columns) * (products + others);
}

double attention_mechanism(const Device& device, const AttentionCurve& curve, bool materialised,
                           double memory_share, const AttentionShape& given,
                           TileOrder order) {
  const AttentionShape shape = given.backward ? transposed(given) : given;
  const std::int64_t rows = given.backward ? curve.columns : curve.rows;
  const std::int64_t columns = given.backward ? curve.rows : curve.columns;
  const double step = attention_step(device, curve, given, materialised);
  const double kernel = schedule(tiles_of(shape, curve, step, rows, columns),
                                 given.batch * given.heads, device.sms, order);
  const double bytes = attention_bytes(given) + (materialised ? materialised_bytes(given) : 0.0);
  const double bandwidth = device.memory_bandwidth.value() * memory_share;
  const double memory = bytes / bandwidth;
  // Flash kernels hide their traffic behind the products; unfused ones pay both.
  if (materialised) {
    return curve.launch.value() + kernel + memory;
  }
  const double around = given.backward ? bytes_around_backward(given) / bandwidth : 0.0;
  return curve.launch.value() + std::max(kernel, memory) + around;
}

KernelTime KernelCosts::attention(const AttentionShape& shape) const {
  check(shape.heads > 0 && shape.kv_heads > 0 && shape.head_dim > 0, "attention needs heads");
  if (attended_pairs(shape.band, shape.queries, shape.keys) <= 0.0) {
    return {};
  }
  const AttentionPass& pass = shape.backward ? family_->backward : family_->forward;
  const bool masked = shape.band.lower || shape.band.upper;
  const AttentionCurve& curve = curve_for(masked ? pass.masked : pass.full, shape.head_dim);
  const double burst = attention_mechanism(device_, curve, family_->materialised,
                                           profile_->memory_efficiency, shape, pass.order) *
                       attention_correction(curve, shape);
  const double launch = std::min(curve.launch.value(), burst);
  const Trust trust = trust_of(curve.range, attention_sizes(shape), curve.spread);
  KernelTime result{Seconds::of(launch + (burst - launch) / sustained_attention_), trust.spread,
                    trust.extrapolated || generic_ || substituted_ || shape.head_dim > 256 ||
                        shape.type == KernelType::fp32};
  if (!shape.backward) {
    const std::int64_t tiles = ceil_divide(shape.queries, curve.rows) * shape.batch * shape.heads;
    result.last_tiles = result.time / static_cast<double>(ceil_divide(tiles, device_.sms));
  }
  return result;
}

Bytes KernelCosts::attention_workspace(const AttentionShape& shape) const {
  const double rows = static_cast<double>(shape.batch * shape.heads * shape.queries);
  if (family_->materialised) {
    // Of a block (inter_normal_attn in BurstAttention's burst_utils.py): scaled scores, these less their
    // maximum and the exponentials; backward, probabilities, their gradient, that less delta, and ds.
    const double at_once = !shape.block ? 1.0 : shape.backward ? 4.0 : 3.0;
    return Bytes::of(2.0 * at_once * rows * static_cast<double>(shape.keys));
  }
  if (!shape.backward) {
    return Bytes();
  }
  // FlashAttention 2 and 3: dQ summed in fp32; with grouped heads also dK and dV in fp32.
  double bytes = 4.0 * rows * static_cast<double>(shape.head_dim);
  if (shape.kv_heads != shape.heads) {
    bytes += 8.0 * static_cast<double>(shape.batch * shape.kv_heads * shape.keys) *
             static_cast<double>(shape.head_dim);
  }
  return Bytes::of(bytes);
}

}  // namespace longhaul
