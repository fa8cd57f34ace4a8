#include "kernels/common/bench.h"

#include <algorithm>
#include <cstdio>

#include "kernels/common/clocks.h"
#include "kernels/common/random_inputs.h"

namespace longhaul::kernels {

void report(Results& results, const std::string& what, const Fields& shape, const Work& work,
            const Timing& timing, const Fields& more) {
  std::printf("%-48s %10.2f us (%.2f to %.2f)  host %6.2f us", what.c_str(), timing.median_us,
              timing.p10_us, timing.p90_us, timing.host_us);
  if (work.bytes > 0) std::printf("  %8.1f GB/s", work.bytes / timing.median_us * 1e-3);
  if (work.flops > 0) std::printf("  %8.1f TFLOP/s", work.flops / timing.median_us * 1e-6);
  if (work.copy_rate > 0) {
    std::printf("  %5.1f %% of copy", 100 * work.bytes / timing.median_us * 1e6 / work.copy_rate);
  }
  std::printf("\n");
  Fields outcome = {{"status", std::string("ok")},
                    {"value_us_median", timing.median_us},
                    {"p10", timing.p10_us},
                    {"p90", timing.p90_us},
                    {"repeats", static_cast<std::int64_t>(timing.repeats)},
                    {"inner", static_cast<std::int64_t>(timing.inner)},
                    {"rotating_sets", static_cast<std::int64_t>(timing.rotating_sets)},
                    {"host_us", timing.host_us}};
  if (work.bytes > 0) outcome.emplace_back("bytes", work.bytes);
  if (work.flops > 0) outcome.emplace_back("flops", work.flops);
  if (work.copy_rate > 0) outcome.emplace_back("copy_bytes_per_s", work.copy_rate);
  outcome.insert(outcome.end(), more.begin(), more.end());
  for (auto& field : read_clocks()) outcome.push_back(std::move(field));
  results.write(shape, outcome);
}

std::vector<Bfloat16> bench_inputs(std::size_t count, std::uint64_t seed, float deviation) {
  constexpr std::size_t drawn = 1 << 20;
  std::vector<Bfloat16> values = random_bfloat16(std::min(count, drawn), seed, deviation);
  values.reserve(count);
  while (values.size() < count) {
    const std::size_t more = std::min(count - values.size(), values.size());
    values.insert(values.end(), values.begin(), values.begin() + static_cast<std::ptrdiff_t>(more));
  }
  return values;
}

std::vector<std::uint32_t> token_counts(const Options& options) {
  if (options.quick) return {8192};
  return {512, 4096, 32768};
}

}  // namespace longhaul::kernels
