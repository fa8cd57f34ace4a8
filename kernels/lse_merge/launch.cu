#include "kernels/lse_merge/launch.h"

#include "kernels/common/require.h"
#include "kernels/lse_merge/kernel.cuh"

namespace longhaul::kernels {

void lse_merge(const LseMergeShape& shape, float* running, float* running_lse,
               const Bfloat16* block, const float* block_lse, Stream stream) {
  require(shape.width > 0 && shape.width % pack_size == 0, "lse_merge: width not a multiple of 8");
  const double rows = 1.0 * shape.batch * shape.tokens * shape.heads;
  require(rows < 0x1p30, "lse_merge: too many rows for 32-bit indices");
  constexpr unsigned threads = 256;
  const int lanes = shape.width <= 64 ? 8 : shape.width <= 128 ? 16 : 32;
  const unsigned rows_per_block = threads / lanes;
  const unsigned blocks = (shape.rows() + rows_per_block - 1) / rows_per_block;
  const auto kernel = lanes == 8    ? lse_merge_kernel<8>
                      : lanes == 16 ? lse_merge_kernel<16>
                                    : lse_merge_kernel<32>;
  launch(Grid{blocks, threads, 0, stream}, kernel, shape, running, running_lse, block, block_lse);
}

}  // namespace longhaul::kernels
