// Rates of copies, casts and packing, beside cudaMemcpyAsync.
#include <vector>

#include "kernels/common/bench.h"
#include "kernels/common/clocks.h"
#include "kernels/common/device_buffer.h"
#include "kernels/copy/ceiling.h"
#include "kernels/copy/launch.h"

namespace longhaul::kernels {
namespace {

struct Pair {
  DeviceBuffer<Bfloat16> from, to;
};
struct Cast {
  DeviceBuffer<float> wide;
  DeviceBuffer<Bfloat16> narrow;
};

Fields point(const char* op, std::size_t elements, const char* backend) {
  return {{"op", std::string(op)},
          {"elements", static_cast<std::int64_t>(elements)},
          {"backend", std::string(backend)}};
}

void bench_copies(Results& results, const Device& device, const Options& options,
                  std::size_t count) {
  const std::string size = std::to_string(count >> 20) + " Mi elements";
  const auto inputs = bench_inputs(count, options.seed);
  const auto make = [&](int) {
    return Pair{DeviceBuffer<Bfloat16>(inputs), DeviceBuffer<Bfloat16>(count)};
  };
  const Work work{.bytes = 4.0 * static_cast<double>(count)};
  const std::size_t bytes = count * sizeof(Bfloat16);
  bench_point(results, device, "copy " + size, point("copy", count, "longhaul"), work, make,
              [&](Pair& set) { copy(bytes, set.from.data(), set.to.data()); });
  bench_point(results, device, "cudaMemcpyAsync " + size, point("copy", count, "cudaMemcpyAsync"),
              work, make, [&](Pair& set) {
                check_cuda(cudaMemcpyAsync(set.to.data(), set.from.data(), bytes,
                                           cudaMemcpyDeviceToDevice, nullptr),
                           "cudaMemcpyAsync");
              });
}

void bench_others(Results& results, const Device& device, const Options& options, std::size_t count,
                  double ceiling) {
  const std::string size = std::to_string(count >> 20) + " Mi elements";
  const auto inputs = bench_inputs(count, options.seed);
  const auto make_pair = [&](int) {
    return Pair{DeviceBuffer<Bfloat16>(inputs), DeviceBuffer<Bfloat16>(count)};
  };
  const Work moved{.bytes = 4.0 * static_cast<double>(count), .copy_rate = ceiling};
  constexpr std::uint32_t width = 512;  // 4 of 32 heads of 128 go to each of 8 ranks
  const RowTransposition shape{static_cast<std::uint32_t>(count / 8 / width), 8, width};
  bench_point(results, device, "pack " + size, point("pack", count, "longhaul"), moved, make_pair,
              [&](Pair& set) { transpose_rows(shape, set.from.data(), set.to.data()); });
  const auto make_cast = [&](int) {
    Cast set{DeviceBuffer<float>(count), DeviceBuffer<Bfloat16>(inputs)};
    widen_to_float(count, set.narrow.data(), set.wide.data());
    return set;
  };
  const Work cast{.bytes = 6.0 * static_cast<double>(count), .copy_rate = ceiling};
  bench_point(results, device, "round " + size, point("round", count, "longhaul"), cast, make_cast,
              [&](Cast& set) { round_to_bfloat16(count, set.wide.data(), set.narrow.data()); });
  bench_point(results, device, "widen " + size, point("widen", count, "longhaul"), cast, make_cast,
              [&](Cast& set) { widen_to_float(count, set.narrow.data(), set.wide.data()); });
}

bool bench(const Device& device, const Options& options) {
  Results results(options, "copy", read_provenance());
  const double ceiling = copy_rate(device);
  std::vector<std::size_t> counts = {8u << 20, 64u << 20, 512u << 20};
  if (options.quick) counts.resize(1);
  for (const std::size_t count : counts) {
    bench_copies(results, device, options, count);
    bench_others(results, device, options, count, ceiling);
  }
  return true;
}

}  // namespace
}  // namespace longhaul::kernels

int main(int argc, char** argv) {
  using namespace longhaul::kernels;
  return run_on_device(argc, argv, {8, 0}, bench);
}
