// Rates of the merge, for the ring steps of a model of 32 heads of 128.
#include <vector>

#include "kernels/common/bench.h"
#include "kernels/common/clocks.h"
#include "kernels/common/device_buffer.h"
#include "kernels/common/random_inputs.h"
#include "kernels/copy/ceiling.h"
#include "kernels/lse_merge/launch.h"

namespace longhaul::kernels {
namespace {

struct Set {
  DeviceBuffer<float> running, running_lse;
  DeviceBuffer<Bfloat16> block;
  DeviceBuffer<float> block_lse;
};

void bench_tokens(Results& results, const Device& device, const Options& options,
                  std::uint32_t tokens, double ceiling) {
  const LseMergeShape shape{1, tokens, 32, 128};
  const std::size_t rows = shape.rows();
  const std::size_t count = rows * shape.width;
  const auto values = bench_inputs(count, options.seed);
  const auto lse = random_normal(rows, options.seed + 1, 2.0f);
  const auto make = [&](int) {
    return Set{DeviceBuffer<float>(std::vector<float>(count, 1.0f)), DeviceBuffer<float>(lse),
               DeviceBuffer<Bfloat16>(values), DeviceBuffer<float>(lse)};
  };
  const double elements = static_cast<double>(count);
  const Work work{10.0 * elements + 12.0 * static_cast<double>(rows), 4.0 * elements, ceiling};
  const Fields point = {{"op", std::string("lse_merge")},
                        {"tokens", static_cast<std::int64_t>(tokens)},
                        {"heads", std::int64_t{32}},
                        {"head_dim", std::int64_t{128}}};
  bench_point(results, device, "lse_merge " + std::to_string(tokens) + " tokens", point, work, make,
              [&](Set& set) {
                lse_merge(shape, set.running.data(), set.running_lse.data(), set.block.data(),
                          set.block_lse.data());
              });
}

bool bench(const Device& device, const Options& options) {
  Results results(options, "lse_merge", read_provenance());
  const double ceiling = copy_rate(device);
  for (const std::uint32_t tokens : token_counts(options)) {
    bench_tokens(results, device, options, tokens, ceiling);
  }
  return true;
}

}  // namespace
}  // namespace longhaul::kernels

int main(int argc, char** argv) {
  using namespace longhaul::kernels;
  return run_on_device(argc, argv, {8, 0}, bench);
}
