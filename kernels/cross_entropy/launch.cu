#include "kernels/cross_entropy/launch.h"

#include <algorithm>

#include "kernels/common/arithmetic.h"
#include "kernels/common/require.h"
#include "kernels/cross_entropy/kernel.cuh"

namespace longhaul::kernels {

namespace {

// Checks `shape`, and cuts the work: a block takes a row, with as many threads as it has packs.
Grid cross_entropy_grid(const CrossEntropyShape& shape, Stream stream) {
  require(shape.stride % pack_size == 0 && shape.stride >= shape.vocabulary,
          "cross_entropy: stride not a multiple of 8, or less than the vocabulary");
  require(shape.vocabulary > 0 && shape.vocabulary < (1 << 30), "cross_entropy: vocabulary size");
  const int packs = ceil_div(shape.vocabulary, pack_size);
  const int most = static_cast<int>(cross_entropy_threads);
  const auto threads = static_cast<unsigned>(std::clamp(ceil_div(packs, 32) * 32, 32, most));
  return {static_cast<unsigned>(std::min<std::int64_t>(shape.rows, 1 << 30)), threads, 0, stream};
}

}  // namespace

void cross_entropy(const CrossEntropyShape& shape, float gradient_scale, const Bfloat16* logits,
                   const std::int32_t* targets, float* loss, Bfloat16* gradient, Stream stream) {
  launch(cross_entropy_grid(shape, stream), cross_entropy_kernel, shape, gradient_scale, logits,
         targets, loss, gradient);
}

void cross_entropy_partials(const CrossEntropyShape& shape, const Bfloat16* logits,
                            const std::int32_t* targets, RowPartial* partials, Stream stream) {
  launch(cross_entropy_grid(shape, stream), cross_entropy_partials_kernel, shape, logits, targets,
         partials);
}

void cross_entropy_gradient(const CrossEntropyShape& shape, float gradient_scale, int ranks,
                            const RowPartial* partials, const Bfloat16* logits,
                            const std::int32_t* targets, float* loss, Bfloat16* gradient,
                            Stream stream) {
  launch(cross_entropy_grid(shape, stream), cross_entropy_gradient_kernel, shape, gradient_scale,
         ranks, partials, logits, targets, loss, gradient);
}

}  // namespace longhaul::kernels
