// Rotary position embedding, forward and backward.
#include "kernels/common/device.h"
#include "kernels/common/options.h"
#include "tests/kernels/rope_cases.h"
#include "tests/kernels/say.h"

namespace longhaul::kernels {
namespace {

bool check(const Device&, const Options& options) {
  bool ok = true;
  for (const RopeShape& shape : {RopeShape{1, 1, 16},
                                 {4099, 32, 128},
                                 {4099, 8, 128, 12 * 128},
                                 {1001, 128, 64, 128 * 192},
                                 {513, 3, 80}}) {
    for (const RopeDirection direction : {RopeDirection::forward, RopeDirection::backward}) {
      for (const bool in_place : {false, true}) {
        ok = say("rope " + std::to_string(shape.tokens) + " x " + std::to_string(shape.heads) +
                     " x " + std::to_string(shape.width),
                 rope_excess(shape, direction, in_place, options.seed)) &&
             ok;
      }
    }
  }
  return ok;
}

}  // namespace
}  // namespace longhaul::kernels

int main(int argc, char** argv) {
  using namespace longhaul::kernels;
  return run_on_device(argc, argv, {8, 0}, check);
}
