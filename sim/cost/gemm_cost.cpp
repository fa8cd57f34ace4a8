// Matrix products by tiles and waves, memory-bound kernels by bytes; docs/models/gemm.md and
// memory_bound.md.
#include <algorithm>
#include <cmath>
#include <limits>

#include "sim/cost/kernel.h"
#include "sim/cost/profile.h"
#include "sim/units/check.h"
#include "sim/units/divide.h"

namespace longhaul {

namespace {

double ceil_ratio(std::int64_t a, std::int64_t b) { return static_cast<double>(ceil_divide(a, b)); }

double peak_of(const Device& device, KernelType type) {
  if ((type == KernelType::fp8 || type == KernelType::fp8_block) &&
      device.peak_fp8.value() > 0) {
    return device.peak_fp8.value();
  }
  return type == KernelType::fp32 ? device.peak_fp32.value() : device.peak_bf16.value();
}

double element_bytes(KernelType type) {
  return type == KernelType::fp8 || type == KernelType::fp8_block ? 1.0 : type == KernelType::fp32 ? 4.0 : 2.0;
}

// Time of one tiling: waves of tiles over the SMs. The last wave of a large product is not
// rounded up in full: its tiles share the caches and clocks of fewer neighbours, and libraries
// split them along k.
double tiled_time(const Device& device, const GemmCurve& curve, const GemmTile& tile,
                  const GemmShape& shape, std::int64_t split) {
  const double tiles = ceil_ratio(shape.m, tile.rows) * ceil_ratio(shape.n, tile.columns) *
                       static_cast<double>(shape.count * split);
  const double depth = std::ceil(static_cast<double>(shape.k) / static_cast<double>(split));
  const double rate = peak_of(device, shape.type) / device.sms * tile.efficiency;
  const double work = 2.0 * static_cast<double>(tile.rows * tile.columns) * depth / rate;
  const double one = work + curve.tile_start.value();
  const double ratio = tiles / device.sms;
  const double waves =
      std::max(1.0, ratio + curve.wave_share * (std::ceil(ratio) - ratio));
  const double partial_sums =
      split > 1 ? 8.0 * curve.split_cost * static_cast<double>(split) * static_cast<double>(shape.m) *
                      static_cast<double>(shape.n) * static_cast<double>(shape.count) /
                      device.memory_bandwidth.value()
                : 0.0;
  return waves * one + partial_sums;
}

double fastest_tiling(const Device& device, const GemmCurve& curve, const GemmShape& shape) {
  double best = std::numeric_limits<double>::infinity();
  for (const GemmTile& tile : curve.tiles) {
    for (const std::int64_t split : {1, 2, 4, 8}) {
      best = std::min(best, tiled_time(device, curve, tile, shape, split));
    }
  }
  return best;
}

constexpr double block_depth = 128.0;  // of k that a step of a chosen tile takes

// One step of a tile's main loop: products beside loads.
double block_step(const Device& device, const BlockFigures& figures, const GemmShape& shape,
                  const BlockChoice& choice) {
  constexpr double least_rows = 64.0;      // of a tensor-core instruction
  constexpr double spilling = 128 * 192;   // elements whose sums no longer fit the registers
  const auto rows = static_cast<double>(choice.rows);
  const auto columns = static_cast<double>(choice.columns);
  const double rate = peak_of(device, shape.type) / device.sms * figures.efficiency;
  const double products = 2.0 * std::max(least_rows, rows) * columns * block_depth / rate;
  const double loaded = rows / static_cast<double>(choice.sharing_rows) +
                        columns / static_cast<double>(choice.sharing_columns);
  const double loads = loaded * block_depth * device.sms /
                       (device.memory_bandwidth.value() * figures.load_rate);
  const bool alone = choice.sharing_rows * choice.sharing_columns == 1;
  const double spilt = alone && rows * columns >= spilling ? figures.spill.value() : 0.0;
  return std::hypot(figures.step.value(), std::max(products, loads)) + spilt;
}

// Time of the tiles that a rule chose. Where m is uneven the last row of tiles is slow: one of its
// tiles ends every wave of a few rows, and its share of the tiles ends many.
double blocks_time(const Device& device, const GemmCurve& curve, const GemmShape& shape) {
  const BlockChoice choice = choose_block(curve.blocks.rule, shape, device.sms);
  const double steps = std::ceil(static_cast<double>(shape.k) / block_depth);
  const double one =
      curve.tile_start.value() + steps * block_step(device, curve.blocks, shape, choice);
  const double ratio = static_cast<double>(choice.tiles) / device.sms;
  const double waves = std::max(1.0, ratio + curve.wave_share * (std::ceil(ratio) - ratio));
  const bool even = shape.m % 4 == 0;
  const double slow_waves =
      even ? 0.0 : std::min(1.0, ratio) * std::max(1.0, waves / ceil_ratio(shape.m, choice.rows));
  return waves * one + slow_waves * steps * curve.blocks.uneven.value();
}

// A is read in bf16 and written in fp8 before the product starts.
double quantising(const Device& device, const GemmCurve& curve, const GemmShape& shape) {
  const double elements = static_cast<double>(shape.m) * static_cast<double>(shape.k) *
                          static_cast<double>(shape.count);
  return 3.0 * elements / (device.memory_bandwidth.value() * curve.blocks.quantise_share);
}

// On Blackwell DeepGEMM spreads the scales of B, given in fp32, one a 128 x 128, over the rows of B and
// packs four into one word, before every product (csrc/apis/layout.hpp). PyTorch's index_select
// copies rows of whole 16 bytes, so k of whole 512, by one thread block a row, of which an SM holds
// 32, or fewer if they have more than 64 threads (IndexKernelUtils.cu: a thread 16 bytes). Another
// kernel takes other rows.
double spreading(const Device& device, const GemmCurve& curve, const GemmShape& shape) {
  constexpr std::int64_t group = 128;
  if (curve.blocks.rule != BlockRule::deep_gemm_blackwell) {
    return 0.0;
  }
  const std::int64_t scales = ceil_divide(shape.k, group);
  const std::int64_t words = ceil_divide(scales, 4);
  const auto rows = static_cast<double>(shape.n * shape.count);
  const double moved = 4.0 * rows * static_cast<double>(2 * scales + words) /
                       (device.memory_bandwidth.value() * curve.blocks.quantise_share);
  if (scales % 4 != 0) {
    return moved + curve.blocks.plain_gather.value();
  }
  const std::int64_t threads = std::min<std::int64_t>(256, ceil_divide(words, 32) * 32);
  const auto resident = static_cast<double>(std::min<std::int64_t>(32, 2048 / threads));
  return moved + curve.blocks.gather.value() * rows / (resident * device.sms);
}

const GemmCurve* curve_of(const KernelProfile& profile, KernelType type) {
  for (const GemmCurve& curve : profile.gemm) {
    if (curve.type == type) {
      return &curve;
    }
  }
  return nullptr;
}

// Without a curve of its own a type runs at the same share of its own peak; nothing says so.
GemmCurve stand_in(const KernelProfile& profile) {
  GemmCurve curve = profile.gemm.front();
  curve.correction = {};
  curve.waves = {};
  curve.shapes = {};
  return curve;
}

}  // namespace

double gemm_bytes(const GemmShape& shape) {
  const double m = static_cast<double>(shape.m);
  const double n = static_cast<double>(shape.n);
  const double k = static_cast<double>(shape.k);
  return static_cast<double>(shape.count) *
         (element_bytes(shape.type) * (m * k + k * n) + 2.0 * m * n);
}

double gemm_mechanism(const Device& device, const GemmCurve& curve, const GemmShape& shape) {
  const bool ruled = curve.blocks.rule != BlockRule::fastest;
  const double best =
      ruled ? blocks_time(device, curve, shape) : fastest_tiling(device, curve, shape);
  const double before =
      curve.launch.value() +
      (ruled ? quantising(device, curve, shape) + spreading(device, curve, shape) : 0.0);
  const double memory = gemm_bytes(shape) / (device.memory_bandwidth.value() * curve.memory_share);
  const double larger = std::max(best, memory);
  if (curve.sharpness <= 0.0) {
    return before + larger;
  }
  const double ratio = std::min(best, memory) / larger;
  return before + larger * std::pow(1.0 + std::pow(ratio, curve.sharpness), 1.0 / curve.sharpness);
}

std::array<double, 2> gemm_waves(const Device& device, const GemmShape& shape) {
  constexpr std::int64_t long_side = 256;
  constexpr std::int64_t short_side = 128;
  const double count = static_cast<double>(shape.count);
  const double upright = ceil_ratio(shape.m, long_side) * ceil_ratio(shape.n, short_side);
  const double lying = ceil_ratio(shape.m, short_side) * ceil_ratio(shape.n, long_side);
  const double whole = std::ceil(std::min(upright, lying) * count / device.sms);
  const double ideal = static_cast<double>(shape.m) * static_cast<double>(shape.n) * count /
                       static_cast<double>(long_side * short_side * device.sms);
  return {ideal, std::max(1.0, whole / std::max(1.0, ideal))};
}

std::array<double, 3> gemm_block(const Device& device, const GemmCurve& curve,
                                 const GemmShape& shape) {
  const BlockChoice choice = choose_block(curve.blocks.rule, shape, device.sms);
  return {static_cast<double>(choice.rows), static_cast<double>(choice.columns),
          static_cast<double>(choice.tiles) / device.sms};
}

double gemm_correction(const Device& device, const GemmCurve& curve, const GemmShape& shape) {
  // A batch is as busy as one product with all its rows.
  const double rows = static_cast<double>(shape.m) * static_cast<double>(shape.count);
  const double depth = static_cast<double>(shape.k);
  const double smooth =
      correction_factor(curve.correction, {rows, static_cast<double>(shape.n), depth});
  if (!curve.shapes.empty()) {
    return smooth * correction_factor(curve.shapes, gemm_block(device, curve, shape));
  }
  if (curve.waves.empty()) {
    return smooth;
  }
  const auto [waves, waste] = gemm_waves(device, shape);
  return smooth * correction_factor(curve.waves, {waves, waste, depth});
}

double stream_seconds(double bytes, double bytes_per_second, Seconds launch, Seconds ramp) {
  const double stream = bytes / bytes_per_second;
  const double lost =
      ramp.value() > 0.0 ? stream * ramp.value() / (stream + ramp.value()) : 0.0;
  return launch.value() + stream + lost;
}

KernelTime KernelCosts::gemm(const GemmShape& shape) const {
  check(shape.m > 0 && shape.n > 0 && shape.k > 0 && shape.count > 0, "a gemm has sizes");
  const GemmCurve* own = curve_of(*profile_, shape.type);
  const GemmCurve substitute = own == nullptr ? stand_in(*profile_) : GemmCurve();
  const GemmCurve& curve = own == nullptr ? substitute : *own;
  const std::array sizes = {static_cast<double>(shape.m), static_cast<double>(shape.n),
                            static_cast<double>(shape.k)};
  const double burst =
      gemm_mechanism(device_, curve, shape) * gemm_correction(device_, curve, shape);
  const bool odd = shape.odd_rows && element_bytes(shape.type) == 2.0;
  const double rows = odd ? profile_->odd_rows : 1.0;
  const double speed = shape.zeros ? profile_->zeros : sustained_;
  // A training step keeps the GPU hot, so that its short kernels run at sustained clocks as well.
  const double launch = std::min(curve.launch.value(), burst);
  // Where bf16 was fitted, a type without a fit is a guess beside it.
  const bool fitted = !profile_->gemm.front().correction.empty();
  const Trust trust = trust_of(curve.range, sizes, curve.spread);
  return {Seconds::of(launch + rows * (burst - launch) / speed), trust.spread,
          trust.extrapolated || odd || generic_ || (own == nullptr && fitted)};
}

Seconds KernelCosts::gemm_sum(Bytes further) const {
  return further / device_.memory_bandwidth * profile_->accumulate_share;
}

Trust trust_of(const std::array<FittedRange, 3>& ranges, const std::array<double, 3>& sizes,
               double spread) {
  constexpr double most_growth = 0.1;
  Trust trust{spread, false};
  double grown = 0.0;  // the axes grow together: the longest way counts
  for (std::size_t axis = 0; axis < ranges.size(); ++axis) {
    const FittedRange& range = ranges[axis];
    if (range.holds(sizes[axis])) {
      continue;
    }
    if (sizes[axis] < range.low || range.growth <= 0.0) {
      trust.extrapolated = true;
      continue;
    }
    grown = std::max(grown, range.growth * std::log2(sizes[axis] / range.high));
  }
  trust.extrapolated = trust.extrapolated || grown > most_growth;
  trust.spread = std::hypot(spread, grown);
  return trust;
}

KernelTime KernelCosts::memory_bound(const MemoryShape& shape) const {
  KernelTime result;
  if (shape.launches == 0) {
    return result;
  }
  const BytesPerSecond rate = device_.memory_bandwidth * profile_->memory_efficiency;
  const auto launches = static_cast<double>(shape.launches);
  result.time = Seconds::of(launches * stream_seconds(shape.bytes.value() / launches, rate.value(),
                                                      profile_->memory_launch,
                                                      profile_->memory_ramp));
  result.relative_spread = profile_->memory_spread;
  result.extrapolated = generic_;
  return result;
}

double KernelCosts::interference(int sms_held) const {
  if (sms_held <= 0) {
    return 1.0;
  }
  const double left = 1.0 - static_cast<double>(sms_held) / static_cast<double>(device_.sms);
  const double slowed =
      left > 0.0 ? (1.0 + profile_->interference) / left : profile_->interference_limit;
  return std::min(slowed, profile_->interference_limit);
}

}  // namespace longhaul
