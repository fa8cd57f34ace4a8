// The copy kernel moves every byte, and none beyond the end.
#include <cstdio>
#include <vector>

#include "kernels/common/device.h"
#include "kernels/common/device_buffer.h"
#include "kernels/common/options.h"
#include "kernels/common/random_inputs.h"
#include "kernels/copy/launch.h"

namespace longhaul::kernels {
namespace {

bool check_size(std::size_t floats, std::uint64_t seed) {
  const auto values = random_normal(floats, seed);
  DeviceBuffer<float> in(values);
  DeviceBuffer<float> out(floats);
  copy(in.data(), out.data(), out.bytes(), nullptr);
  const bool ok = out.download() == values && !out.overran();
  std::printf("%-6s copy of %zu bytes\n", ok ? "ok" : "FAILED", out.bytes());
  return ok;
}

bool check(const Device&, const Options& options) {
  bool ok = true;
  // Below, at and above a block, a full grid of blocks, and odd counts of vectors.
  for (const std::size_t floats : {4, 1020, 1024, 1028, 8192 * 1024, 8192 * 1024 + 12}) {
    ok = check_size(floats, options.seed) && ok;
  }
  return ok;
}

}  // namespace
}  // namespace longhaul::kernels

int main(int argc, char** argv) {
  using namespace longhaul::kernels;
  return run_on_device(argc, argv, {8, 0}, check);
}
