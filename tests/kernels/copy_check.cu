// Copies, casts and packing, to the bit.
#include "kernels/common/device.h"
#include "kernels/common/options.h"
#include "tests/kernels/copy_cases.h"
#include "tests/kernels/say.h"

namespace longhaul::kernels {
namespace {

bool check(const Device&, const Options& options) {
  bool ok = true;
  const std::uint64_t seed = options.seed;
  // Below, at and above 16 bytes, a block, and a full grid; ragged ends.
  for (const std::size_t count : {1, 7, 8, 9, 2047, 2048, 2049, 32 * 1024 * 1024 + 5}) {
    ok = say("copy of " + std::to_string(count), copy_is_exact(count, seed)) && ok;
    ok = say("casts of " + std::to_string(count), casts_are_exact(count, seed)) && ok;
  }
  for (const RowTransposition& shape :
       {RowTransposition{1, 1, 8}, {1, 8, 512}, {4099, 8, 128}, {32768, 8, 512}, {513, 3, 24}}) {
    ok = say("packing of " + std::to_string(shape.outer) + " x " + std::to_string(shape.inner),
             packing_is_exact(shape, seed)) &&
         ok;
  }
  return ok;
}

}  // namespace
}  // namespace longhaul::kernels

int main(int argc, char** argv) {
  using namespace longhaul::kernels;
  return run_on_device(argc, argv, {8, 0}, check);
}
