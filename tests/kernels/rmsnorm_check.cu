// RMSNorm, forward and backward.
#include "kernels/common/device.h"
#include "kernels/common/options.h"
#include "tests/kernels/rmsnorm_cases.h"
#include "tests/kernels/say.h"

namespace longhaul::kernels {
namespace {

bool check(const Device& device, const Options& options) {
  bool ok = true;
  for (const RmsNormShape& shape : {RmsNormShape{1, 8},
                                    {100003, 128},
                                    {4099, 1024},
                                    {4099, 1032},
                                    {4097, 4096},
                                    {3001, 5120},
                                    {2049, 8192},
                                    {1025, 16384}}) {
    ok = say("rmsnorm " + std::to_string(shape.rows) + " x " + std::to_string(shape.width),
             rmsnorm_excess(shape, device.sms, options.seed)) &&
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
