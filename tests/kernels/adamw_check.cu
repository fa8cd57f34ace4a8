// Steps of AdamW.
#include "kernels/common/device.h"
#include "kernels/common/options.h"
#include "tests/kernels/adamw_cases.h"
#include "tests/kernels/say.h"

namespace longhaul::kernels {
namespace {

bool check(const Device&, const Options& options) {
  bool ok = true;
  for (const std::size_t count : {1, 3, 4, 5, 1023, 1024, 1025, 16 * 1024 * 1024 + 3}) {
    for (const std::int64_t step : {1, 2, 100000}) {
      const std::string size = std::to_string(count) + ", step " + std::to_string(step);
      ok = say("adamw fp32 " + size, adamw_excess<float>(count, step, options.seed)) && ok;
      ok = say("adamw bf16 " + size, adamw_excess<Bfloat16>(count, step, options.seed)) && ok;
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
