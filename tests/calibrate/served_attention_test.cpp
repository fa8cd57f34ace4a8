// Attention as a server calls it: what FlashAttention-3 decides of a batch, and what stands around it.
#include "calibrate/fit/served_attention.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <random>

#include "calibrate/fit/kernel_fit.h"
#include "sim/topology/read_cluster.h"

using namespace longhaul;
using Catch::Matchers::WithinRel;

namespace {

Device h100() {
  Diagnostics diagnostics;
  const auto found = find_device("h100-sxm-80gb", {}, diagnostics);
  REQUIRE(found);
  return *found;
}

AttentionRow paged(std::int64_t batch, std::int64_t length, std::int64_t heads,
                   std::int64_t kv_heads, std::int64_t head_dim) {
  AttentionRow row;
  row.shape.batch = batch;
  row.shape.queries = row.shape.keys = length;
  row.shape.heads = heads;
  row.shape.kv_heads = kv_heads;
  row.shape.head_dim = head_dim;
  row.shape.band.upper = 0;
  row.paged_cache = true;
  row.vllm = true;
  return row;
}

AttentionCurve curve_of(std::int64_t head_dim) {
  AttentionCurve curve;
  curve.head_dim = head_dim;
  curve.launch = Seconds::of(5e-6);
  curve.tile_start = Seconds::of(2e-6);
  curve.masked_step = 1.5;
  return curve;
}

constexpr CopyRates rates_of(double life) { return {0.9, {}, life}; }

}  // namespace

TEST_CASE("the host assumes parts of the keys where one sequence leaves a fifth of the SMs idle") {
  // 16 heads of one group, tiles of 128 rows and 96 keys: 512 tokens make 64 tiles of 6 steps, which
  // fill 64 of 132 SMs, or 128 in two parts; 1,024 tokens make 128 tiles, more than 0.8 x 132.
  const Device device = h100();
  const Flash3Plan shorter = flash3_plan(device, curve_of(192), paged(1, 512, 16, 1, 192));
  CHECK(shorter.columns == 96);
  CHECK(shorter.most_parts == 2);
  CHECK(shorter.parts == 2);
  CHECK(flash3_plan(device, curve_of(192), paged(1, 1024, 16, 1, 192)).most_parts == 1);
  // 64 sequences fill the SMs: the device undoes the parts, and the kernel behind has been launched.
  const Flash3Plan many = flash3_plan(device, curve_of(192), paged(64, 512, 16, 1, 192));
  CHECK(many.most_parts == 2);
  CHECK(many.parts == 1);
  // Four steps or fewer are never cut.
  CHECK(flash3_plan(device, curve_of(128), paged(1, 512, 16, 1, 128)).most_parts == 1);
}

TEST_CASE("a kernel that has nothing to add up costs its thread blocks, one that has its traffic") {
  const Device device = h100();
  const AttentionCurve curve = curve_of(192);
  // 64 x 512 x 16 rows of 192 channels: 65,536 x 2 blocks of 256 threads, eight of which fit an SM.
  const AttentionRow undone = paged(64, 512, 16, 1, 192);
  CHECK_THAT(combine_seconds(device, curve, rates_of(1e-6), undone),
             WithinRel(131072.0 / (8.0 * 132.0) * 1e-6, 1e-9));
  CHECK(combine_seconds(device, curve, rates_of(1e-6), paged(1, 1024, 16, 1, 192)) == 0.0);
  // Two parts of 512 x 16 x 192 sums in fp32, written and read.
  CHECK_THAT(combine_seconds(device, curve, rates_of(0.0), paged(1, 512, 16, 1, 192)),
             WithinRel(2.0 * 8.0 * 512 * 16 * 192 / (0.9 * device.memory_bandwidth.value()), 1e-9));
}

TEST_CASE("a cache is written by one thread block a token, of 512 threads at most") {
  const Device device = h100();
  const double narrow = cache_seconds(device, rates_of(1e-6), paged(8, 4096, 1, 1, 64));
  const double idle = cache_seconds(device, rates_of(0.0), paged(8, 4096, 1, 1, 64));
  CHECK_THAT(narrow - idle, WithinRel(32768.0 * 64 / (2048.0 * 132) * 1e-6, 1e-6));
  const auto waiting = [&](std::int64_t kv_heads) {
    const AttentionRow row = paged(8, 4096, 64, kv_heads, 128);
    return cache_seconds(device, rates_of(1e-6), row) - cache_seconds(device, rates_of(0.0), row);
  };
  CHECK_THAT(waiting(8), WithinRel(waiting(4), 1e-6));
  CHECK_THAT(waiting(4), WithinRel(2.0 * waiting(2), 1e-6));
  AttentionRow other = paged(8, 4096, 64, 4, 128);
  other.vllm = false;  // nothing is known of its blocks
  CHECK(cache_seconds(device, rates_of(1e-6), other) ==
        cache_seconds(device, rates_of(0.0), other));
  other.paged_cache = false;
  CHECK(cache_seconds(device, rates_of(1e-6), other) == 0.0);
}

TEST_CASE("a served kernel is never faster than its tiles shared out evenly") {
  const Device device = h100();
  const AttentionCurve curve = curve_of(128);
  for (const std::int64_t batch : {1, 3, 8}) {
    for (const std::int64_t length : {512, 1536, 4096}) {
      for (const std::int64_t kv_heads : {1, 2, 4}) {
        const AttentionRow row = paged(batch, length, 4, kv_heads, 128);
        const double served = flash3_mechanism(device, curve, 0.9, row) - curve.launch.value();
        Device one = device;  // every tile one after another on one SM; it cuts no keys
        one.sms = 1;
        one.peak_bf16 = device.peak_bf16 / device.sms;
        const double all = flash3_mechanism(one, curve, 0.9, row) - curve.launch.value();
        CHECK(served > 0.999 * all / device.sms);
        CHECK(served < all);
      }
    }
  }
}

TEST_CASE("sequences one after another take longer than their longest tiles first") {
  // 8 sequences of 32 tiles on 132 SMs: the last sequences' longest tiles start when others end.
  const Device device = h100();
  const AttentionCurve curve = curve_of(192);
  const AttentionRow row = paged(8, 4096, 1, 1, 192);
  AttentionCurve tiles = curve;
  tiles.columns = 96;
  const double longest_first = attention_mechanism(device, tiles, false, 0.9, row.shape);
  CHECK(flash3_mechanism(device, curve, 0.9, row) > 1.2 * longest_first);
}

TEST_CASE("rows made as a server makes them give beta and the life of a thread block back") {
  const Device device = h100();
  AttentionCurve truth = curve_of(128);
  truth.beta = 1.2;
  std::mt19937 engine{7};
  std::vector<AttentionRow> rows;
  for (const auto& [heads, kv_heads] :
       {std::pair<std::int64_t, std::int64_t>{2, 1}, {8, 1}, {8, 8}, {16, 2}, {32, 4}, {48, 8}}) {
    for (const std::int64_t batch : {1, 4, 16, 64}) {
      for (const std::int64_t length : {512, 1024, 2048, 4096}) {
        AttentionRow row = paged(batch, length, heads, kv_heads, 128);
        const double noise = 0.99 + 0.02 * static_cast<double>(engine()) / 4294967296.0;
        row.seconds = noise * (flash3_mechanism(device, truth, 0.9, row) +
                               cache_seconds(device, rates_of(1.6e-6), row) +
                               combine_seconds(device, truth, rates_of(1.6e-6), row));
        rows.push_back(row);
      }
    }
  }
  AttentionCurve start = truth;
  start.beta = 0.9;
  const auto fit = fit_attention(device, start, 0.9, Seconds::of(1e-9), rows,
                                 {TileOrder::longest, true});
  REQUIRE(fit);
  CHECK_THAT(fit->curve.beta, WithinRel(1.2, 0.05));
  REQUIRE(fit->report.names.back() == "block_life");
  CHECK_THAT(std::exp(fit->report.parameters[4]), WithinRel(1.6e-6, 0.15));
  CHECK(fit->report.held_out.p90 < 0.03);
}
