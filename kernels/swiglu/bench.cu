// Rates of SwiGLU, forward and backward, at the width of Llama 3 8B.
#include <vector>

#include "kernels/common/bench.h"
#include "kernels/common/clocks.h"
#include "kernels/common/device_buffer.h"
#include "kernels/copy/ceiling.h"
#include "kernels/swiglu/launch.h"

namespace longhaul::kernels {
namespace {

struct Set {
  DeviceBuffer<Bfloat16> input, h, gradient;
};

void bench_tokens(Results& results, const Device& device, const Options& options,
                  std::uint32_t tokens, double ceiling) {
  constexpr int width = 14336;
  const SwigluShape shape{tokens, width, 2 * width};
  const std::size_t count = static_cast<std::size_t>(tokens) * width;
  const auto values = bench_inputs(2 * count, options.seed);
  const auto upstream = bench_inputs(count, options.seed + 1);
  const auto make = [&](int) {
    return Set{DeviceBuffer<Bfloat16>(values), DeviceBuffer<Bfloat16>(upstream),
               DeviceBuffer<Bfloat16>(2 * count)};
  };
  const double elements = static_cast<double>(count);
  const std::string size = std::to_string(tokens) + " x " + std::to_string(width);
  const auto point = [&](const char* op) {
    return Fields{{"op", std::string(op)},
                  {"rows", static_cast<std::int64_t>(tokens)},
                  {"width", std::int64_t{width}}};
  };
  bench_point(results, device, "swiglu forward " + size, point("swiglu_forward"),
              {6 * elements, 5 * elements, ceiling}, make, [&](Set& set) {
                swiglu_forward(shape, set.input.data(), set.input.data() + width, set.h.data());
              });
  bench_point(results, device, "swiglu backward " + size, point("swiglu_backward"),
              {10 * elements, 11 * elements, ceiling}, make, [&](Set& set) {
                swiglu_backward(shape, set.input.data(), set.input.data() + width, set.h.data(),
                                set.gradient.data(), set.gradient.data() + width);
              });
}

bool bench(const Device& device, const Options& options) {
  Results results(options, "swiglu", read_provenance());
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
