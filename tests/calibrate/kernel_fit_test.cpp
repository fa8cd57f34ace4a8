// Fits of kernels: parameters that made synthetic rows are found again, and too little is refused.
#include "calibrate/fit/kernel_fit.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <random>

#include "calibrate/fit/smooth.h"
#include "calibrate/fit/write_kernel_fit.h"
#include "sim/input/presets.h"
#include "sim/topology/read_cluster.h"

using namespace longhaul;
using Catch::Matchers::WithinAbs;
using Catch::Matchers::WithinRel;

namespace {

Device device_named(const std::string& name) {
  Diagnostics diagnostics;
  const auto found = find_device(name, {}, diagnostics);
  REQUIRE(found);
  return *found;
}

// Relative noise, uniform within +-`size`, the same on every machine.
class Noise {
 public:
  explicit Noise(double size) : size_(size) {}
  double factor() {
    return 1.0 + size_ * (2.0 * (static_cast<double>(engine_()) + 0.5) / 4294967296.0 - 1.0);
  }

 private:
  std::mt19937 engine_{7};
  double size_;
};

GemmCurve true_gemm() {
  GemmCurve curve;
  curve.tiles = {{256, 128, 0.8}, {128, 256, 0.8}, {128, 128, 0.75}, {64, 64, 0.6}};
  curve.launch = Seconds::of(3e-6);
  curve.tile_start = Seconds::of(1e-6);
  curve.wave_share = 0.4;
  curve.memory_share = 0.8;
  curve.sharpness = 3.0;
  return curve;
}

std::vector<GemmRow> gemm_rows(const Device& device, double noise) {
  Noise random(noise);
  std::vector<GemmRow> rows;
  for (const std::int64_t n : {512, 1024, 3072, 8192, 16384}) {
    for (const std::int64_t k : {512, 2048, 5120, 16384}) {
      for (std::int64_t m = 16; m <= 16384; m *= 2) {
        GemmRow row{{m, n, k, 1, KernelType::bf16}, 0.0};
        row.seconds = gemm_mechanism(device, true_gemm(), row.shape) * random.factor();
        rows.push_back(row);
      }
    }
  }
  return rows;
}

// Fits take seconds: one of exact rows and one of noisy ones serve all tests.
const std::optional<GemmFit>& shared_fit(double noise) {
  static const Device device = device_named("h100-sxm-80gb");
  static const auto exact = fit_gemm(device, KernelType::bf16, gemm_rows(device, 0.0));
  static const auto noisy = fit_gemm(device, KernelType::bf16, gemm_rows(device, 0.04));
  return noise == 0.0 ? exact : noisy;
}

std::vector<AttentionRow> attention_rows(const Device& device, const AttentionCurve& truth) {
  std::vector<AttentionRow> rows;
  for (const std::int64_t heads : {1, 2, 8, 16, 32, 64, 96}) {
    for (std::int64_t length = 512; length <= 16384; length *= 2) {
      for (const std::int64_t batch : {1, 4}) {
        AttentionRow row;
        row.shape = {batch, length, length, heads, heads, 128, 0, {{}, 0}, false,
                     KernelType::bf16};
        row.seconds = attention_mechanism(device, truth, false, 0.85, row.shape);
        rows.push_back(row);
      }
    }
  }
  return rows;
}

}  // namespace

TEST_CASE("a correction finds a smooth surface again, and stays level outside its grid") {
  const std::array<std::vector<double>, 3> knots = {
      {{0, 1, 2, 3, 4}, {0, 2, 4, 6}, {0, 3, 6}}};
  std::vector<Deviation> deviations;
  for (double x = 0; x <= 4.0; x += 0.5) {
    for (double y = 0; y <= 6.0; y += 0.5) {
      for (double z = 0; z <= 6.0; z += 1.0) {
        const double log = 0.05 * x - 0.02 * y + 0.01 * z;
        deviations.push_back({{std::exp2(x), std::exp2(y), std::exp2(z)}, log});
      }
    }
  }
  deviations.push_back({{4.0, 4.0, 4.0}, 3.0});  // a machine that was busy
  const Correction correction = fit_correction(knots, deviations, 0.1);
  for (const Deviation& deviation : deviations) {
    if (deviation.log < 1.0) {
      CHECK_THAT(std::log(correction_factor(correction, deviation.at)),
                 WithinAbs(deviation.log, 0.01));
    }
  }
  CHECK(correction_factor(correction, {1000.0, 64.0, 64.0}) ==
        correction_factor(correction, {16.0, 64.0, 64.0}));
  CHECK(correction_factor({}, {1.0, 1.0, 1.0}) == 1.0);
}

TEST_CASE("products made by the model with 4 % of noise are foretold within it, held out too") {
  const Device device = device_named("h100-sxm-80gb");
  const auto& fit = shared_fit(0.04);
  REQUIRE(fit);
  CHECK(fit->report.error.middle < 0.03);
  CHECK(fit->report.held_out.middle < 0.04);
  CHECK(fit->report.held_out.p90 < 0.12);
  CHECK(fit->report.held_out.points == fit->report.error.points);
  CHECK_THAT(fit->curve.launch.value(), WithinRel(3e-6, 0.25));
  CHECK(fit->curve.range[0].low == 16.0);
  CHECK(fit->curve.range[0].high == 16384.0);
  CHECK(fit->report.covariance.rows() == 16);
  CHECK(fit->report.left_out == 0);
}

TEST_CASE("products faster than memory can serve stayed in a cache and are left out") {
  const Device device = device_named("h100-sxm-80gb");
  std::vector<GemmRow> rows = gemm_rows(device, 0.0);
  const auto& cold = shared_fit(0.0);
  GemmRow cached{{16, 4096, 4096, 1, KernelType::bf16}, 0.0};
  cached.seconds = 0.9 * gemm_bytes(cached.shape) / device.memory_bandwidth.value();
  rows.insert(rows.end(), 20, cached);
  const auto fit = fit_gemm(device, KernelType::bf16, rows);
  REQUIRE(cold);
  REQUIRE(fit);
  CHECK(fit->report.left_out == 20);
  CHECK(fit->report.held_out.middle == cold->report.held_out.middle);
}

TEST_CASE("whole waves of a library that always rounds up are learnt from the waste") {
  // A mechanism that smooths the staircase is off by up to a factor of two just past a wave; the
  // correction over waves and waste takes most of it back on shapes it has not seen.
  const Device device = device_named("h100-sxm-80gb");
  std::vector<GemmRow> rows;
  for (const std::int64_t n : {1024, 1536, 2048, 3072, 4096, 5120, 6144, 8192, 12288, 16384}) {
    for (const std::int64_t k : {2048, 4096, 8192}) {
      for (std::int64_t m = 512; m <= 16384; m += 512) {
        GemmRow row{{m, n, k, 1, KernelType::bf16}, 0.0};
        const auto [waves, waste] = gemm_waves(device, row.shape);
        row.seconds = 3e-6 + std::max(1.0, waves) * waste * 2.0 * 256 * 128 *
                                 static_cast<double>(k) * device.sms /
                                 (0.8 * device.peak_bf16.value());
        rows.push_back(row);
      }
    }
  }
  const auto fit = fit_gemm(device, KernelType::bf16, rows);
  REQUIRE(fit);
  CHECK(fit->report.held_out.middle < 0.03);
  CHECK(fit->report.held_out.p90 < 0.1);
  const Correction& table = fit->curve.waves;  // more waste is never cheaper
  const std::size_t depths = table.knots[2].size();
  for (std::size_t i = 0; i < table.values.size(); ++i) {
    if (i / depths % table.knots[1].size() != 0) {
      CHECK(table.values[i] >= table.values[i - depths]);
    }
  }
}

namespace {

GemmCurve true_blocks(BlockRule rule) {
  GemmCurve curve;
  curve.type = KernelType::fp8_block;
  curve.launch = Seconds::of(5e-6);
  curve.tile_start = Seconds::of(1.5e-6);
  curve.wave_share = 0.9;
  curve.memory_share = 0.8;
  curve.sharpness = 3.0;
  curve.blocks = {rule, 0.7, Seconds::of(1e-7), 3.0, 0.5, Seconds::of(8e-8), Seconds(),
                  Seconds(), Seconds()};
  if (rule == BlockRule::deep_gemm_hopper) {
    curve.blocks.spill = Seconds::of(1.5e-6);
  } else {
    curve.blocks.gather = Seconds::of(1.8e-6);
    curve.blocks.plain_gather = Seconds::of(3e-6);
  }
  return curve;
}

std::vector<GemmRow> block_rows(const Device& device, BlockRule rule, double noise) {
  Noise random(noise);
  std::vector<GemmRow> rows;
  for (const std::int64_t n : {256, 512, 1024, 3072, 4096, 8192, 16384}) {
    for (const std::int64_t k : {512, 2048, 5120, 16384}) {
      for (const std::int64_t m : {16, 64, 256, 257, 512, 768, 1024, 1025, 2048, 4096, 16384}) {
        GemmRow row{{m, n, k, 1, KernelType::fp8_block}, 0.0};
        row.seconds = gemm_mechanism(device, true_blocks(rule), row.shape) * random.factor();
        rows.push_back(row);
      }
    }
  }
  return rows;
}

}  // namespace

TEST_CASE("what a rule's tiles cost is found again: products, quantising, spills, uneven rows") {
  const Device device = device_named("h100-sxm-80gb");
  const GemmCurve truth = true_blocks(BlockRule::deep_gemm_hopper);
  const auto fit = fit_gemm(device, KernelType::fp8_block,
                            block_rows(device, BlockRule::deep_gemm_hopper, 0.02));
  REQUIRE(fit);
  CHECK(fit->curve.blocks.rule == BlockRule::deep_gemm_hopper);
  CHECK(fit->report.held_out.middle < 0.02);
  CHECK_THAT(fit->curve.blocks.efficiency, WithinRel(0.7, 0.1));
  CHECK_THAT(fit->curve.blocks.spill.value(), WithinRel(1.5e-6, 0.1));
  CHECK_THAT(fit->curve.blocks.uneven.value(), WithinRel(8e-8, 0.25));
  CHECK_THAT(fit->curve.launch.value(), WithinRel(truth.launch.value(), 0.15));
  CHECK(fit->report.names.size() == 11);
  CHECK(fit->report.covariance.rows() == 11);
}

TEST_CASE("Blackwell's scales of B cost a thread block a row where k holds whole 512, else one kernel") {
  // 65,536 rows, 32 blocks an SM: the step from k = 384 to 512 is what the life of a block makes it;
  // from 512 to 640 it is gone again.
  const Device device = device_named("b200");
  GemmCurve curve = true_blocks(BlockRule::deep_gemm_blackwell);
  const auto time = [&](std::int64_t n, std::int64_t k) {
    return gemm_mechanism(device, curve, {16, n, k, 1, KernelType::fp8_block});
  };
  const double waiting = 1.8e-6 * 65536.0 / (32.0 * device.sms);
  const auto extra = [&](std::int64_t n, std::int64_t k) {
    const double with = time(n, k);
    curve.blocks.gather = Seconds();
    const double without = time(n, k);
    curve.blocks.gather = Seconds::of(1.8e-6);
    return with - without;
  };
  CHECK(extra(65536, 384) == 0.0);
  CHECK_THAT(extra(65536, 512), WithinRel(waiting, 1e-6));
  CHECK(extra(65536, 640) == 0.0);
  const double slower = time(65536, 640);
  curve.blocks.plain_gather = Seconds();
  CHECK_THAT(slower - time(65536, 640), WithinRel(3e-6, 1e-6));
  CHECK_THAT(extra(32768, 2048), WithinRel(waiting / 2.0, 1e-6));
  // 16,384 / 128 scales need 32 threads, 65,536 / 128 need 128, of which an SM holds 16 blocks.
  CHECK_THAT(extra(65536, 16384), WithinRel(waiting, 1e-6));
  CHECK_THAT(extra(65536, 65536), WithinRel(2.0 * waiting, 1e-6));
}

TEST_CASE("what scales of B cost on Blackwell is found again, both ways") {
  const Device device = device_named("b200");
  const GemmCurve truth = true_blocks(BlockRule::deep_gemm_blackwell);
  std::vector<GemmRow> rows = block_rows(device, BlockRule::deep_gemm_blackwell, 0.02);
  Noise random(0.02);
  for (const std::int64_t n : {512, 4096, 16384, 65536}) {
    for (const std::int64_t k : {384, 512, 640, 768, 1024}) {
      for (const std::int64_t m : {16, 64, 256, 1024, 4096}) {
        GemmRow row{{m, n, k, 1, KernelType::fp8_block}, 0.0};
        row.seconds = gemm_mechanism(device, truth, row.shape) * random.factor();
        rows.push_back(row);
      }
    }
  }
  const auto fit = fit_gemm(device, KernelType::fp8_block, rows);
  REQUIRE(fit);
  CHECK_THAT(fit->curve.blocks.gather.value(), WithinRel(1.8e-6, 0.2));
  CHECK_THAT(fit->curve.blocks.plain_gather.value(), WithinRel(3e-6, 0.25));
  CHECK(fit->report.names.back() == "plain_gather");
}

TEST_CASE("a fit of a rule's tiles that was written is read back as the same prices") {
  for (const std::string name : {"h100-sxm-80gb", "b200"}) {
    const Device device = device_named(name);
    GemmFit fit;
    fit.curve = true_blocks(name == "b200" ? BlockRule::deep_gemm_blackwell
                                           : BlockRule::deep_gemm_hopper);
    fit.curve.correction = {{{{0, 15}, {7, 16}, {7, 16}}}, {0.1, 0, 0, 0, 0.2, 0, 0, 0}};
    fit.curve.shapes = {{{{4, 8}, {4, 8}, {0, 1}}}, {0, 0.1, 0, 0, 0.3, 0, 0, -0.1}};
    fit.curve.range = {{{1, 32768}, {128, 65536}, {128, 65536}}};
    const auto source = std::make_shared<const SourceText>(
        SourceText{"fit.yaml", "format: longhaul-kernel-fit/1\ndevice: " + name + "\ngemm:\n" +
                                   write_gemm_fit(fit, "made by hand")});
    Diagnostics diagnostics;
    KernelProfile profile;
    read_kernel_fit(source, profile, diagnostics);
    REQUIRE_FALSE(diagnostics.has_errors());
    REQUIRE(profile.gemm.size() == 1);
    for (const std::int64_t m : {16, 301, 768, 3000}) {
      const GemmShape shape{m, 4096, 4096, 1, KernelType::fp8_block};
      const auto price = [&](const GemmCurve& curve) {
        return gemm_mechanism(device, curve, shape) * gemm_correction(device, curve, shape);
      };
      CHECK_THAT(price(profile.gemm.front()), WithinRel(price(fit.curve), 0.001));
    }
  }
}

TEST_CASE("rows flagged as slower than a larger product are taken only where a choice says so") {
  const auto source = std::make_shared<const SourceText>(
      SourceText{"gemm.csv", "dtype,m,n,k,latency_us,source,flag\n"
                             "fp8_block,512,8192,4096,23,lab,\n"
                             "fp8_block,768,8192,4096,95,lab,slow_outlier\n"
                             "fp8_block,1024,8192,4096,1,lab,above_peak\n"});
  Diagnostics diagnostics;
  CHECK(read_gemm_rows(source, {"", "", false}, KernelType::fp8_block, diagnostics).size() == 1);
  CHECK(read_gemm_rows(source, {"", "", true}, KernelType::fp8_block, diagnostics).size() == 2);
  CHECK_FALSE(diagnostics.has_errors());
}

TEST_CASE("attention made by the model gives its beta back") {
  const Device device = device_named("h100-sxm-80gb");
  AttentionCurve truth;
  truth.head_dim = 128;
  truth.beta = 1.3;
  truth.launch = Seconds::of(7e-6);
  truth.tile_start = Seconds::of(2e-6);
  truth.masked_step = 1.5;
  AttentionCurve start = truth;
  start.beta = 0.9;
  start.launch = Seconds::of(4e-6);
  const auto rows = attention_rows(device, truth);
  const auto fit = fit_attention(device, start, 0.85, Seconds::of(2e-6), rows);
  REQUIRE(fit);
  CHECK_THAT(fit->curve.beta, WithinRel(1.3, 0.03));
  CHECK_THAT(fit->curve.launch.value(), WithinRel(7e-6, 0.1));
  CHECK(fit->report.held_out.p90 < 0.02);
  // What follows the tiles at every length goes on doing so: an octave more adds next to nothing.
  CHECK(fit->curve.range[0].growth > 0.0);
  CHECK(fit->curve.range[0].growth < 0.01);
  CHECK(fit->curve.range[2].growth == 0.0);
}

TEST_CASE("a kernel that tires with length is found out by its own longest rows") {
  const Device device = device_named("h100-sxm-80gb");
  AttentionCurve truth;
  truth.head_dim = 128;
  truth.launch = Seconds::of(7e-6);
  truth.tile_start = Seconds::of(2e-6);
  auto rows = attention_rows(device, truth);
  for (AttentionRow& row : rows) {
    row.seconds *= std::sqrt(static_cast<double>(row.shape.keys) / 512.0);
  }
  const auto fit = fit_attention(device, truth, 0.85, Seconds::of(2e-6), rows);
  REQUIRE(fit);
  CHECK(fit->curve.range[0].growth > 0.05);
}

TEST_CASE("streams made by the model give launch and bandwidth back") {
  const Device device = device_named("h100-sxm-80gb");
  std::vector<StreamRow> rows;
  for (const double width : {256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0}) {
    for (double tokens = 1; tokens < 1e6; tokens *= 1.3) {
      const double bytes = 3.0 * width * tokens;
      rows.push_back({bytes, width, 1.9e-6 + bytes / (0.9 * 3.35e12)});
    }
  }
  const auto fit = fit_memory(device, rows);
  REQUIRE(fit);
  CHECK_THAT(fit->efficiency, WithinRel(0.9, 0.01));
  CHECK_THAT(fit->launch.value(), WithinRel(1.9e-6, 0.02));
  CHECK(fit->ramp.value() < 0.5e-6);
}

TEST_CASE("a stream that takes its time to reach its rate gives that time back") {
  const Device device = device_named("b200");
  std::vector<StreamRow> rows;
  for (const double width : {256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0}) {
    for (double tokens = 1; tokens < 4e6; tokens *= 1.3) {
      const double bytes = 3.0 * width * tokens;
      rows.push_back({bytes, width,
                      stream_seconds(bytes, 0.86 * device.memory_bandwidth.value(),
                                     Seconds::of(2e-6), Seconds::of(5e-6))});
    }
  }
  const auto fit = fit_memory(device, rows);
  REQUIRE(fit);
  CHECK_THAT(fit->efficiency, WithinRel(0.86, 0.01));
  CHECK_THAT(fit->ramp.value(), WithinRel(5e-6, 0.1));
}

TEST_CASE("too few rows, or rows of too few families of shapes, are refused") {
  const Device device = device_named("h100-sxm-80gb");
  std::vector<GemmRow> rows = gemm_rows(device, 0.0);
  CHECK(shared_fit(0.0));
  CHECK_FALSE(fit_gemm(device, KernelType::bf16, {rows.begin(), rows.begin() + 39}));
  // 44 rows, but only four pairs of n and k: nothing could be held out.
  CHECK_FALSE(fit_gemm(device, KernelType::bf16, {rows.begin(), rows.begin() + 44}));
  CHECK_FALSE(fit_memory(device, {}));
}

TEST_CASE("a fit that was written is read back as the same prices") {
  const Device device = device_named("h100-sxm-80gb");
  const auto& fit = shared_fit(0.04);
  REQUIRE(fit);
  const auto source = std::make_shared<const SourceText>(SourceText{
      "fit.yaml", "format: longhaul-kernel-fit/1\ndevice: h100-sxm-80gb\ngemm:\n" +
                      write_gemm_fit(*fit, "synthetic")});
  Diagnostics diagnostics;
  KernelProfile profile;
  read_kernel_fit(source, profile, diagnostics);
  REQUIRE_FALSE(diagnostics.has_errors());
  REQUIRE(profile.gemm.size() == 1);
  const GemmShape shape{3000, 4096, 4096, 1, KernelType::bf16};
  const auto price = [&](const GemmCurve& curve) {
    return gemm_mechanism(device, curve, shape) * gemm_correction(device, curve, shape);
  };
  CHECK_THAT(price(profile.gemm.front()), WithinRel(price(fit->curve), 0.003));
  CHECK(!profile.gemm.front().waves.empty());
  CHECK_THAT(profile.gemm.front().range[0].growth, WithinAbs(fit->curve.range[0].growth, 1e-4));
}

TEST_CASE("a fit without its origin, or with a table that does not fill its grid, is refused") {
  const auto errors_of = [](const std::string& text) {
    Diagnostics diagnostics;
    KernelProfile profile;
    read_kernel_fit(std::make_shared<const SourceText>(SourceText{"fit.yaml", text}), profile,
                    diagnostics);
    std::string codes;
    for (const Diagnostic& diagnostic : diagnostics.all()) {
      codes += diagnostic.code + " ";
    }
    return codes;
  };
  const std::string head = "format: longhaul-kernel-fit/1\ndevice: x\nmemory:\n";
  const std::string good = "  efficiency: 0.9\n  launch: 2 us\n  spread: 0.1\n";
  CHECK(errors_of(head + good + "  from: measured\n").empty());
  CHECK(errors_of(head + good) == "missing-origin ");
  const std::string gemm =
      "format: longhaul-kernel-fit/1\ndevice: x\ngemm:\n  - type: bf16\n    tiles: [{rows: 1, "
      "columns: 1, efficiency: 1}]\n    launch: 1 us\n    tile_start: 1 us\n    wave_share: 0\n    "
      "memory_share: 1\n    sharpness: 1\n    spread: 0\n    range: {m: [1, 2], n: [1, 2], k: [1, "
      "2]}\n    from: x\n    correction: {m: [1, 2], n: [1], k: [1], log: ";
  CHECK(errors_of(gemm + "[0, 0]}\n").empty());
  CHECK(errors_of(gemm + "[0]}\n") == "bad-table ");
}

TEST_CASE("a plot of residuals holds a mark for every quarter of a decade that has rows") {
  FitReport report;
  report.residuals = {{1e-5, 1.0}, {1.1e-5, 1.1}, {1e-3, 0.9}};
  const std::string plot = draw_residuals("title", report);
  std::size_t marks = 0;
  for (std::size_t at = plot.find("<circle"); at != std::string::npos;
       at = plot.find("<circle", at + 1)) {
    ++marks;
  }
  CHECK(marks == 2);
}
