// Rates of a step of AdamW, with fp32 and bf16 gradients.
#include <vector>

#include "kernels/adamw/launch.h"
#include "kernels/common/bench.h"
#include "kernels/common/clocks.h"
#include "kernels/common/device_buffer.h"
#include "kernels/copy/ceiling.h"

namespace longhaul::kernels {
namespace {

template <class Gradient>
struct Set {
  DeviceBuffer<Gradient> gradients;
  DeviceBuffer<float> weights, first, second;
  DeviceBuffer<Bfloat16> copy;
};

template <class Gradient>
void bench_count(Results& results, const Device& device, const char* gradient_type,
                 const std::vector<Gradient>& gradients, double ceiling) {
  const std::size_t count = gradients.size();
  const auto make = [&](int) {
    return Set<Gradient>{
        DeviceBuffer<Gradient>(gradients), DeviceBuffer<float>(std::vector<float>(count, 1.0f)),
        DeviceBuffer<float>(std::vector<float>(count, 0.01f)),
        DeviceBuffer<float>(std::vector<float>(count, 0.001f)), DeviceBuffer<Bfloat16>(count)};
  };
  const double elements = static_cast<double>(count);
  const Work work{(26 + static_cast<double>(sizeof(Gradient))) * elements, 14 * elements, ceiling};
  const Fields point = {{"op", std::string("adamw")},
                        {"gradients", std::string(gradient_type)},
                        {"parameters", static_cast<std::int64_t>(count)}};
  bench_point(results, device, "adamw " + std::string(gradient_type) + " " + std::to_string(count),
              point, work, make, [&](Set<Gradient>& set) {
                adamw(count, AdamwStep{.step = 10}, set.gradients.data(), set.weights.data(),
                      set.first.data(), set.second.data(), set.copy.data());
              });
}

bool bench(const Device& device, const Options& options) {
  Results results(options, "adamw", read_provenance());
  const double ceiling = copy_rate(device);
  std::vector<std::size_t> counts = {std::size_t{64} << 20};
  if (!options.quick) counts.insert(counts.end(), {std::size_t{4} << 20, std::size_t{256} << 20});
  for (const std::size_t count : counts) {
    const auto gradients = bench_inputs(count, options.seed, 0.01f);
    bench_count(results, device, "bf16", gradients, ceiling);
    bench_count(results, device, "fp32", std::vector<float>(count, 0.01f), ceiling);
  }
  return true;
}

}  // namespace
}  // namespace longhaul::kernels

int main(int argc, char** argv) {
  using namespace longhaul::kernels;
  return run_on_device(argc, argv, {8, 0}, bench);
}
