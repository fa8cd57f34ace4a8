#include "kernels/swiglu/launch.h"

#include <algorithm>

#include "kernels/common/require.h"
#include "kernels/swiglu/kernel.cuh"

namespace longhaul::kernels {

namespace {

// Checks `shape`, and cuts the work: a block per row, as many threads as it has packs.
Grid swiglu_grid(const SwigluShape& shape, Stream stream) {
  require(shape.width > 0 && shape.width % pack_size == 0, "swiglu: width not a multiple of 8");
  require(shape.input_stride() % pack_size == 0 && shape.input_stride() >= shape.width,
          "swiglu: stride not a multiple of 8, or less than the width");
  const int packs = shape.width / pack_size;
  const auto threads = static_cast<unsigned>(std::clamp((packs + 31) / 32 * 32, 32, 256));
  return {static_cast<unsigned>(std::min<std::int64_t>(shape.rows, 1 << 30)), threads, 0, stream};
}

}  // namespace

void swiglu_forward(const SwigluShape& shape, const Bfloat16* gate, const Bfloat16* up, Bfloat16* h,
                    Stream stream) {
  launch(swiglu_grid(shape, stream), swiglu_forward_kernel, shape, gate, up, h);
}

void swiglu_backward(const SwigluShape& shape, const Bfloat16* gate, const Bfloat16* up,
                     const Bfloat16* dh, Bfloat16* dgate, Bfloat16* dup, Stream stream) {
  launch(swiglu_grid(shape, stream), swiglu_backward_kernel, shape, gate, up, dh, dgate, dup);
}

}  // namespace longhaul::kernels
