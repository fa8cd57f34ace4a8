// Rates of the rotary embedding on the queries of 32 heads of 128.
#include <numeric>
#include <vector>

#include "kernels/common/bench.h"
#include "kernels/common/clocks.h"
#include "kernels/common/device_buffer.h"
#include "kernels/copy/ceiling.h"
#include "kernels/rope/launch.h"

namespace longhaul::kernels {
namespace {

struct Set {
  DeviceBuffer<Bfloat16> from, to;
};

void bench_tokens(Results& results, const Device& device, const Options& options,
                  std::uint32_t tokens, double ceiling) {
  const RopeShape shape{tokens, 32, 128};
  const std::size_t count = shape.tokens * shape.stride();
  const auto values = bench_inputs(count, options.seed);
  const RopeTable table = make_rope_table(static_cast<int>(tokens), shape.width, 500000.0);
  const DeviceBuffer<float> cosines(table.cosines);
  const DeviceBuffer<float> sines(table.sines);
  std::vector<std::int32_t> places(tokens);
  std::iota(places.begin(), places.end(), 0);
  const DeviceBuffer<std::int32_t> positions(places);
  const double rows = tokens;
  const Work work{4.0 * static_cast<double>(count) + rows * (4.0 * shape.width + 4),
                  3.0 * static_cast<double>(count), ceiling};
  const Fields point = {{"op", std::string("rope")},
                        {"tokens", static_cast<std::int64_t>(tokens)},
                        {"heads", std::int64_t{shape.heads}},
                        {"head_dim", std::int64_t{shape.width}}};
  bench_point(
      results, device, "rope " + std::to_string(tokens) + " tokens", point, work,
      [&](int) {
        return Set{DeviceBuffer<Bfloat16>(values), DeviceBuffer<Bfloat16>(count)};
      },
      [&](Set& set) {
        rope(shape, RopeDirection::forward, cosines.data(), sines.data(), positions.data(),
             set.from.data(), set.to.data());
      });
}

bool bench(const Device& device, const Options& options) {
  Results results(options, "rope", read_provenance());
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
