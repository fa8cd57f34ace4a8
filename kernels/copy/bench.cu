// Rates of the copy kernel beside cudaMemcpyAsync, over sizes.
#include <cstdio>
#include <vector>

#include "kernels/common/bench.h"
#include "kernels/common/clocks.h"
#include "kernels/common/device_buffer.h"
#include "kernels/common/random_inputs.h"
#include "kernels/copy/launch.h"

namespace longhaul::kernels {
namespace {

void bench_size(Results& results, const Device& device, const Options& options, std::size_t bytes) {
  const int sets = rotating_sets(device, 2.0 * static_cast<double>(bytes));
  const auto values = random_normal(bytes / sizeof(float), options.seed);
  std::vector<DeviceBuffer<float>> in;
  std::vector<DeviceBuffer<float>> out;
  for (int i = 0; i < sets; ++i) {
    in.emplace_back(values);
    out.emplace_back(values.size());
  }
  const Work work{.bytes = 2.0 * static_cast<double>(bytes)};
  const auto shape = [&](const char* backend) {
    return Fields{{"op", std::string("copy")},
                  {"size", static_cast<std::int64_t>(bytes)},
                  {"backend", std::string(backend)}};
  };
  const std::string size = std::to_string(bytes >> 20) + " MiB";
  report(results, "copy " + size + " longhaul", shape("longhaul"), work,
         time_calls([&](int i) { copy(in[i].data(), out[i].data(), bytes, nullptr); }, sets));
  report(results, "copy " + size + " cudaMemcpy", shape("cudaMemcpyAsync"), work,
         time_calls(
             [&](int i) {
               check_cuda(cudaMemcpyAsync(out[i].data(), in[i].data(), bytes,
                                          cudaMemcpyDeviceToDevice, nullptr),
                          "cudaMemcpyAsync");
             },
             sets));
}

bool bench(const Device& device, const Options& options) {
  Results results(options, "copy", read_provenance());
  std::vector<std::size_t> sizes = {16u << 20, 256u << 20, 1u << 30};
  if (options.quick) sizes.resize(1);
  for (const std::size_t bytes : sizes) bench_size(results, device, options, bytes);
  return true;
}

}  // namespace
}  // namespace longhaul::kernels

int main(int argc, char** argv) {
  using namespace longhaul::kernels;
  return run_on_device(argc, argv, {8, 0}, bench);
}
