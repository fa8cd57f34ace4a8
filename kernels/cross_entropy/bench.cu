// Rates of the cross-entropy, whole and as a rank of a cut vocabulary does it.
#include <vector>

#include "kernels/common/bench.h"
#include "kernels/common/clocks.h"
#include "kernels/common/device_buffer.h"
#include "kernels/copy/ceiling.h"
#include "kernels/cross_entropy/launch.h"

namespace longhaul::kernels {
namespace {

struct Set {
  DeviceBuffer<Bfloat16> logits, gradient;
  DeviceBuffer<std::int32_t> targets;
  DeviceBuffer<float> loss;
  DeviceBuffer<RowPartial> partials;
};

void bench_shape(Results& results, const Device& device, const Options& options, std::int64_t rows,
                 std::int32_t vocabulary, double ceiling) {
  const CrossEntropyShape shape{.rows = rows, .vocabulary = vocabulary, .stride = vocabulary};
  const std::size_t count = rows * vocabulary;
  const auto logits = bench_inputs(count, options.seed, 4.0f);
  const auto make = [&](int) {
    return Set{DeviceBuffer<Bfloat16>(logits), DeviceBuffer<Bfloat16>(count),
               DeviceBuffer<std::int32_t>(std::vector<std::int32_t>(rows, vocabulary / 2)),
               DeviceBuffer<float>(rows), DeviceBuffer<RowPartial>(rows)};
  };
  const double elements = static_cast<double>(count);
  const double tokens = static_cast<double>(rows);
  const std::string size = std::to_string(rows) + " x " + std::to_string(vocabulary);
  const auto point = [&](const char* op) {
    return Fields{
        {"op", std::string(op)}, {"rows", rows}, {"vocabulary", std::int64_t{vocabulary}}};
  };
  bench_point(results, device, "cross_entropy " + size, point("cross_entropy"),
              {4 * elements + 8 * tokens, 9 * elements, ceiling}, make, [&](Set& set) {
                cross_entropy(shape, 1.0f, set.logits.data(), set.targets.data(), set.loss.data(),
                              set.gradient.data());
              });
  bench_point(results, device, "cross_entropy partials " + size, point("cross_entropy_partials"),
              {2 * elements + 16 * tokens, 5 * elements, ceiling}, make, [&](Set& set) {
                cross_entropy_partials(shape, set.logits.data(), set.targets.data(),
                                       set.partials.data());
              });
  bench_point(results, device, "cross_entropy gradient " + size, point("cross_entropy_gradient"),
              {4 * elements + 20 * tokens, 4 * elements, ceiling}, make, [&](Set& set) {
                cross_entropy_gradient(shape, 1.0f, 1, set.partials.data(), set.logits.data(),
                                       set.targets.data(), set.loss.data(), set.gradient.data());
              });
}

bool bench(const Device& device, const Options& options) {
  Results results(options, "cross_entropy", read_provenance());
  const double ceiling = copy_rate(device);
  bench_shape(results, device, options, 4096, 128256, ceiling);  // Llama 3
  if (options.quick) return true;
  bench_shape(results, device, options, 4096, 16032, ceiling);  // its eighth
  bench_shape(results, device, options, 16384, 32000, ceiling);
  return true;
}

}  // namespace
}  // namespace longhaul::kernels

int main(int argc, char** argv) {
  using namespace longhaul::kernels;
  return run_on_device(argc, argv, {8, 0}, bench);
}
