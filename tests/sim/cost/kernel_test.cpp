// Kernel costs: laws of shape, and published figures within stated tolerances.
#include <catch2/catch.hpp>

#include "sim/cost/kernel.h"
#include "sim/cost/profile.h"
#include "sim/topology/read_cluster.h"

using namespace longhaul;

namespace {

KernelCosts costs(const std::string& device, const std::string& attention = "") {
  Diagnostics diagnostics;
  const auto found = find_device(device, {}, diagnostics);
  REQUIRE(found);
  return find_kernel_costs(*found, attention, diagnostics);
}

AttentionShape square(std::int64_t length, std::int64_t heads, std::int64_t head_dim,
                      bool causal) {
  AttentionShape shape;
  shape.queries = shape.keys = length;
  shape.heads = shape.kv_heads = heads;
  shape.head_dim = head_dim;
  if (causal) {
    shape.band.upper = 0;
  }
  return shape;
}

double rate(const KernelCosts& kernels, const AttentionShape& shape) {
  const double pairs = attended_pairs(shape.band, shape.queries, shape.keys);
  const double flops = (shape.backward ? 10.0 : 4.0) * pairs *
                       static_cast<double>(shape.batch * shape.heads * shape.head_dim);
  return flops / kernels.attention(shape).time.value() / 1e12;
}

}  // namespace

TEST_CASE("steps over tiles equal counting them one by one") {
  for (const std::int64_t rows : {1, 3, 8}) {
    for (const std::int64_t columns : {1, 4, 5}) {
      for (std::int64_t low = -9; low <= 9; low += 3) {
        for (std::int64_t high = low; high <= 12; high += 3) {
          const Band band{low, high};
          const std::int64_t keys = 17;
          const TileSteps steps = tile_steps(band, 6, rows, keys, columns);
          TileSteps counted;
          for (std::int64_t first = 0; first < keys; first += columns) {
            bool any = false;
            bool all = true;
            for (std::int64_t i = 6; i < 6 + rows; ++i) {
              for (std::int64_t j = first; j < first + columns; ++j) {
                const bool seen = j < keys && band.lets(i, j);
                any = any || seen;
                all = all && seen;
              }
            }
            counted.whole += any && all ? 1 : 0;
            counted.masked += any && !all ? 1 : 0;
          }
          INFO("rows " << rows << " columns " << columns << " band " << low << ".." << high);
          CHECK(steps.whole == counted.whole);
          // A narrow band may jump over a tile between its rows; a step is counted then.
          CHECK(steps.masked >= counted.masked);
          CHECK(steps.masked <= counted.masked + 1);
        }
      }
    }
  }
}

TEST_CASE("an empty mask costs nothing, and no kernel is launched") {
  AttentionShape shape = square(4096, 8, 128, true);
  shape.band.upper = -4096;
  CHECK(costs("h100-sxm-80gb").attention(shape).time.value() == 0.0);
  shape.band.upper = -4095;
  CHECK(costs("h100-sxm-80gb").attention(shape).time.value() > 0.0);
}

TEST_CASE("causal attention costs about half of full attention") {
  for (const char* device : {"a100-sxm-80gb", "h100-sxm-80gb", "b200", "l40s"}) {
    const KernelCosts kernels = costs(device);
    const double full = kernels.attention(square(16384, 16, 128, false)).time.value();
    const double causal = kernels.attention(square(16384, 16, 128, true)).time.value();
    // Half the pairs and a little more; the full kernel loses up to a sixteenth to its last wave.
    CHECK(causal > 0.47 * full);
    CHECK(causal < 0.75 * full);
  }
}

TEST_CASE("longer sequences, more heads and backward take longer") {
  const KernelCosts kernels = costs("h100-sxm-80gb");
  double last = 0.0;
  for (const std::int64_t length : {512, 1024, 4096, 16384, 65536, 262144}) {
    const double time = kernels.attention(square(length, 32, 128, true)).time.value();
    CHECK(time > last);
    last = time;
    AttentionShape backward = square(length, 32, 128, true);
    backward.backward = true;
    CHECK(kernels.attention(backward).time.value() > time);
  }
}

TEST_CASE("work is quantised in waves over the SMs") {
  // 132 SMs, tiles of 128 queries: 132 tiles take one wave, 133 take two.
  const KernelCosts kernels = costs("h100-sxm-80gb");
  AttentionShape shape = square(8192, 132, 128, false);
  shape.kv_heads = 1;  // little traffic, so that tiles and not memory bound the kernel
  shape.queries = 128;
  const double one = kernels.attention(shape).time.value();
  shape.heads = 133;
  const double two = kernels.attention(shape).time.value();
  CHECK(two > 1.8 * one);
  shape.heads = 131;
  CHECK(kernels.attention(shape).time.value() == one);
}

TEST_CASE("a list schedule of many jobs agrees with the exact one") {
  std::vector<double> costs_of_tiles;
  for (int i = 100; i > 0; --i) {
    costs_of_tiles.push_back(static_cast<double>(i));
  }
  const double exact = list_schedule(costs_of_tiles, 40, 132);
  const double formula = list_schedule(costs_of_tiles, 41, 132);
  CHECK_THAT(formula, Catch::Matchers::WithinRel(exact * 41.0 / 40.0, 0.02));
}

TEST_CASE("published rates of FlashAttention-3 on H100 are met within 12 %") {
  // FlashAttention-3 paper, 16k tokens, head_dim 128, hidden 2048, 16k tokens per batch:
  // 648 full, 616 causal, backward 561 TFLOP/s, at a burst; a step runs at the sustained share.
  const KernelCosts kernels = costs("h100-sxm-80gb", "fa3");
  const double sustained = 0.94;
  CHECK_THAT(rate(kernels, square(16384, 16, 128, false)),
             Catch::Matchers::WithinRel(648.0 * sustained, 0.12));
  CHECK_THAT(rate(kernels, square(16384, 16, 128, true)),
             Catch::Matchers::WithinRel(616.0 * sustained, 0.12));
  AttentionShape backward = square(16384, 16, 128, false);
  backward.backward = true;
  CHECK_THAT(rate(kernels, backward), Catch::Matchers::WithinRel(561.0 * sustained, 0.12));
}

TEST_CASE("large products run near the best rate found by search") {
  // stas00/ml-engineering: 794.5 TFLOP/s on H100, 271 on A100, 1745 on B200.
  const auto gemm_rate = [](const std::string& device) {
    const GemmShape shape{8192, 8192, 8192, 1, KernelType::bf16};
    return 2.0 * 8192.0 * 8192.0 * 8192.0 / costs(device).gemm(shape).time.value() / 1e12;
  };
  CHECK_THAT(gemm_rate("h100-sxm-80gb"), Catch::Matchers::WithinRel(794.5, 0.12));
  CHECK_THAT(gemm_rate("a100-sxm-80gb"), Catch::Matchers::WithinRel(271.0, 0.12));
  CHECK_THAT(gemm_rate("b200"), Catch::Matchers::WithinRel(1745.0, 0.2));
}

TEST_CASE("a product with few rows is bound by reading its weights") {
  const KernelCosts kernels = costs("h100-sxm-80gb");
  const GemmShape thin{16, 8192, 8192, 1, KernelType::bf16};
  const double weights = 2.0 * 8192.0 * 8192.0 / 3.35e12;
  CHECK(kernels.gemm(thin).time.value() > weights);
  CHECK(kernels.gemm(thin).time.value() < 2.5 * weights);
}

TEST_CASE("communication slows kernels the more SMs it holds") {
  const KernelCosts kernels = costs("h100-sxm-80gb");
  CHECK(kernels.interference(0) == 1.0);
  CHECK(kernels.interference(16) > 1.1);
  CHECK(kernels.interference(16) < 1.3);
  CHECK(kernels.interference(24) > kernels.interference(16));
  CHECK(kernels.interference(132) <= 2.0);
}

TEST_CASE("a device without a profile of its own is priced generically, with a warning") {
  Diagnostics diagnostics;
  const auto device = find_device("v100-sxm-32gb", {}, diagnostics);
  REQUIRE(device);
  const KernelCosts kernels = find_kernel_costs(*device, "", diagnostics);
  CHECK_FALSE(kernels.calibrated());
  REQUIRE(diagnostics.all().size() == 1);
  CHECK(diagnostics.all()[0].code == "no-profile");
}
