#include "kernels/copy/launch.h"

#include "kernels/common/arithmetic.h"
#include "kernels/common/require.h"
#include "kernels/copy/kernel.cuh"

namespace longhaul::kernels {

namespace {

// Items of eight elements that hold `count` elements; the last may be ragged.
std::size_t packs_of(std::size_t count) { return ceil_div<std::size_t>(count, pack_size); }

}  // namespace

void copy(std::size_t bytes, const void* from, void* to, Stream stream) {
  launch(grid_for((bytes + sizeof(Pack) - 1) / sizeof(Pack), stream), copy_kernel, bytes,
         static_cast<const unsigned char*>(from), static_cast<unsigned char*>(to));
}

void round_to_bfloat16(std::size_t count, const float* from, Bfloat16* to, Stream stream) {
  launch(grid_for(packs_of(count), stream), round_kernel, count, from, to);
}

void widen_to_float(std::size_t count, const Bfloat16* from, float* to, Stream stream) {
  launch(grid_for(packs_of(count), stream), widen_kernel, count, from, to);
}

void transpose_rows(const RowTransposition& shape, const Bfloat16* from, Bfloat16* to,
                    Stream stream) {
  require(shape.width > 0 && shape.width % pack_size == 0, "transpose: width not a multiple of 8");
  const double packs = 1.0 * shape.outer * shape.inner * (shape.width / pack_size);
  require(packs < 0x1p30, "transpose: too many elements for 32-bit indices");
  launch(grid_for(static_cast<std::size_t>(packs), stream), transpose_rows_kernel, shape, from, to);
}

}  // namespace longhaul::kernels
