// The merge of two partial attention results.
#include "kernels/common/device.h"
#include "kernels/common/options.h"
#include "tests/kernels/lse_merge_cases.h"
#include "tests/kernels/say.h"

namespace longhaul::kernels {
namespace {

bool check(const Device&, const Options& options) {
  bool ok = true;
  for (const LseMergeShape& shape : {LseMergeShape{1, 1, 1, 8},
                                     {1, 4097, 32, 128},
                                     {2, 1001, 8, 64},
                                     {1, 2050, 5, 256},
                                     {3, 77, 3, 72},
                                     {1, 333, 2, 576}}) {
    ok = say("lse_merge " + std::to_string(shape.batch) + " x " + std::to_string(shape.tokens) +
                 " x " + std::to_string(shape.heads) + " x " + std::to_string(shape.width),
             merge_excess(shape, options.seed)) &&
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
