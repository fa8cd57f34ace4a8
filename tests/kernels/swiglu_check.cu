// SwiGLU, forward and backward.
#include "kernels/common/device.h"
#include "kernels/common/options.h"
#include "tests/kernels/say.h"
#include "tests/kernels/swiglu_cases.h"

namespace longhaul::kernels {
namespace {

bool check(const Device&, const Options& options) {
  bool ok = true;
  for (const bool fused : {false, true}) {
    for (const auto& [rows, width] :
         {std::pair{1, 8}, {1, 2056}, {4099, 14336}, {8193, 264}, {2049, 3584}}) {
      ok = say("swiglu " + std::to_string(rows) + " x " + std::to_string(width),
               swiglu_excess(rows, width, fused, options.seed)) &&
           ok;
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
