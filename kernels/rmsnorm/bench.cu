// Rates of RMSNorm, forward and backward, by rows and width.
#include <utility>
#include <vector>

#include "kernels/common/bench.h"
#include "kernels/common/clocks.h"
#include "kernels/common/device_buffer.h"
#include "kernels/copy/ceiling.h"
#include "kernels/rmsnorm/launch.h"

namespace longhaul::kernels {
namespace {

struct Set {
  DeviceBuffer<Bfloat16> x, weight, dy, y;
  DeviceBuffer<float> roots, dweight, partials;
};

void bench_shape(Results& results, const Device& device, const Options& options,
                 const RmsNormShape& shape, double ceiling) {
  const std::size_t count = shape.rows * shape.width;
  const std::size_t partials =
      static_cast<std::size_t>(rmsnorm_backward_teams(shape, device.sms)) * shape.width;
  const auto values = bench_inputs(count, options.seed);
  const auto weight = bench_inputs(shape.width, options.seed + 1);
  const auto make = [&](int) {
    Set set{DeviceBuffer<Bfloat16>(values),  DeviceBuffer<Bfloat16>(weight),
            DeviceBuffer<Bfloat16>(values),  DeviceBuffer<Bfloat16>(count),
            DeviceBuffer<float>(shape.rows), DeviceBuffer<float>(shape.width),
            DeviceBuffer<float>(partials)};
    rmsnorm_forward(shape, set.x.data(), set.weight.data(), set.y.data(), set.roots.data());
    return set;
  };
  const double elements = static_cast<double>(count);
  const double rows = static_cast<double>(shape.rows);
  const double width = shape.width;
  const std::string size = std::to_string(shape.rows) + " x " + std::to_string(shape.width);
  const auto point = [&](const char* op) {
    return Fields{
        {"op", std::string(op)}, {"rows", shape.rows}, {"width", std::int64_t{shape.width}}};
  };
  bench_point(results, device, "rmsnorm forward " + size, point("rmsnorm_forward"),
              {4 * elements + 2 * width + 4 * rows, 4 * elements, ceiling}, make, [&](Set& set) {
                rmsnorm_forward(shape, set.x.data(), set.weight.data(), set.y.data(),
                                set.roots.data());
              });
  bench_point(results, device, "rmsnorm backward " + size, point("rmsnorm_backward"),
              {6 * elements + 6 * width + 4 * rows, 11 * elements, ceiling}, make, [&](Set& set) {
                rmsnorm_backward(shape, set.x.data(), set.weight.data(), set.roots.data(),
                                 set.dy.data(), set.y.data(), set.dweight.data(),
                                 set.partials.data(), device.sms);
              });
}

bool bench(const Device& device, const Options& options) {
  Results results(options, "rmsnorm", read_provenance());
  const double ceiling = copy_rate(device);
  // Hidden sizes of Llama 3 and Qwen, and heads of 128 (query and key norms).
  std::vector<RmsNormShape> shapes = {{8192, 4096}};
  if (!options.quick) {
    shapes.insert(shapes.end(),
                  {{512, 4096}, {32768, 4096}, {8192, 8192}, {4096, 16384}, {262144, 128}});
  }
  for (const RmsNormShape& shape : shapes) bench_shape(results, device, options, shape, ceiling);
  return true;
}

}  // namespace
}  // namespace longhaul::kernels

int main(int argc, char** argv) {
  using namespace longhaul::kernels;
  return run_on_device(argc, argv, {8, 0}, bench);
}
