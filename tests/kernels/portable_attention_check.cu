// The portable attention forward against attention in double precision.
#include "kernels/common/device.h"
#include "kernels/common/options.h"
#include "tests/kernels/portable_cases.h"
#include "tests/kernels/say.h"

namespace longhaul::kernels::flash {
namespace {

struct Case {
  const char* name;
  AttentionShape shape;
};

std::vector<Case> cases_of(int width) {
  const auto with = [&](const char* name, int q_len, int kv_len, const MaskSpec& mask) {
    return Case{name, attention_shape(width, 2, 4, 2, q_len, kv_len, mask)};
  };
  return {with("full", 333, 517, full_mask()),
          with("causal", 1024, 1024, causal_mask()),
          with("causal, ragged", 777, 1111, causal_mask()),
          with("causal, fewer keys than rows", 600, 123, causal_mask()),
          with("one query", 1, 4097, causal_mask()),
          with("zigzag, earlier rank", 512, 512, zigzag_mask(2, 1)),
          with("zigzag, later rank", 512, 512, zigzag_mask(1, 2)),
          with("striped, later rank", 640, 640, striped_mask(1, 2, 4)),
          with("diagonal block", 500, 900, diagonal_mask(131)),
          with("nothing seen", 200, 200, diagonal_mask(-200)),
          with("window", 1500, 1500, window_mask(257)),
          {"packed", packed_shape(width, 4, 1, causal_mask(),
                                  {{300, 300}, {0, 10}, {1, 513}, {700, 650}, {129, 0}})},
          {"causal 16k", attention_shape(width, 1, 16, 4, 16384, 16384, causal_mask())}};
}

bool check(const Device&, const Options& options) {
  bool ok = true;
  for (const int width : {64, 128, 256}) {
    const std::string d = " d" + std::to_string(width);
    for (const Case& one : cases_of(width)) {
      const int stride = one.shape.q_len > 4096 ? 1021 : 7;
      ok = say(one.name + d, portable_excess(one.shape, options.seed, stride)) && ok;
    }
    ok = say("ring" + d, portable_ring_excess(width, 400, 3, options.seed, 7)) && ok;
  }
  return ok;
}

}  // namespace
}  // namespace longhaul::kernels::flash

int main(int argc, char** argv) {
  using namespace longhaul::kernels;
  return run_on_device(argc, argv, {8, 0}, flash::check);
}
