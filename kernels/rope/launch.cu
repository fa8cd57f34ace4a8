#include "kernels/rope/launch.h"

#include <algorithm>

#include "kernels/common/require.h"
#include "kernels/rope/kernel.cuh"

namespace longhaul::kernels {

void rope(const RopeShape& shape, RopeDirection direction, const float* cosines, const float* sines,
          const std::int32_t* positions, const Bfloat16* x, Bfloat16* y, Stream stream) {
  require(shape.width > 0 && shape.width % 16 == 0, "rope: width not a multiple of 16");
  require(shape.stride() % pack_size == 0, "rope: token stride not a multiple of 8");
  const int items = shape.heads * shape.width / 16;
  const auto threads = static_cast<unsigned>(std::clamp((items + 31) / 32 * 32, 32, 256));
  const auto blocks = static_cast<unsigned>(std::min<std::int64_t>(shape.tokens, 1 << 30));
  const float sign = direction == RopeDirection::forward ? 1.0f : -1.0f;
  launch(Grid{blocks, threads, 0, stream}, rope_kernel, shape, sign, cosines, sines, positions, x,
         y);
}

}  // namespace longhaul::kernels
