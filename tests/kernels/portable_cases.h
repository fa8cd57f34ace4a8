#pragma once
// The portable attention forward against attention in double precision.

#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "kernels/flash_attention/portable.h"
#include "kernels/flash_attention/reference.h"
#include "tests/kernels/attention_shapes.h"
#include "tests/kernels/bounds.h"
#include "tests/kernels/buffer.h"

namespace longhaul::kernels::flash {

/// Every `stride`-th row of every head of every sequence, the first and the last among them.
struct AttentionPlace {
  int sequence, head, row;
};
inline std::vector<AttentionPlace> attention_places(const AttentionShape& shape, int stride) {
  std::vector<AttentionPlace> places;
  const auto sequences = all_sequences(shape);
  for (int s = 0; s < static_cast<int>(sequences.size()); ++s) {
    for (int head = 0; head < shape.heads; ++head) {
      for (int row = 0; row < sequences[s].q_len; row += stride) places.push_back({s, head, row});
      if (sequences[s].q_len > 1) places.push_back({s, head, sequences[s].q_len - 1});
    }
  }
  return places;
}

/// Worst share of the bounds, over the rows of attention_places(). Weights and output are rounded
/// to bf16: |o| and sum p |v| <= max |v| times a unit each. fp32: scores lose a unit per 16 columns
/// of their sum of magnitudes, and as much in lse; 2^-11 max |v| and 2e-3 cover both, and the
/// tensor core's sums, whose rounding NVIDIA does not document.
template <class Element>
double attention_excess(const AttentionInputs& inputs, const std::vector<Element>& o,
                        const std::vector<float>& lse, double output_unit, int stride) {
  double largest = 0;
  for (const Bfloat16 value : inputs.v) largest = std::max(largest, std::abs(widened(value)));
  const double bound = (bf16_unit + output_unit + 0x1p-11) * largest;
  const int width = inputs.shape.head_dim;
  double worst = 0;
  for (const AttentionPlace& at : attention_places(inputs.shape, stride)) {
    const AttentionRow wanted = attention_row(inputs, at.sequence, at.head, at.row);
    const long long first = output_place(inputs.shape, at.sequence, at.head, at.row) * width;
    const std::vector<Element> found(o.begin() + first, o.begin() + first + width);
    const std::vector<float> sum = {lse[lse_place(inputs.shape, at.sequence, at.head, at.row)]};
    // A row that sees nothing must be exactly 0 and -inf.
    const bool empty = std::isinf(wanted.lse);
    worst = std::max({worst,
                      worst_share(found, wanted.o, [&](std::size_t) { return empty ? 0 : bound; }),
                      worst_share(sum, {wanted.lse}, [](std::size_t) { return 2e-3; })});
  }
  return worst;
}

/// One call that writes O and LSE.
inline double portable_excess(const AttentionShape& shape, std::uint64_t seed, int stride = 1) {
  const AttentionInputs inputs = attention_inputs(shape, seed);
  const Buffer<Bfloat16> q(inputs.q), k(inputs.k), v(inputs.v);
  Buffer<Bfloat16> o(inputs.q.size());
  Buffer<float> lse(inputs.q.size() / shape.head_dim);
  PortableCall(shape,
               {.q = q.data(), .k = k.data(), .v = v.data(), .o = o.data(), .lse = lse.data()})
      .launch();
  const double worst = attention_excess(inputs, o.download(), lse.download(), bf16_unit, stride);
  return o.overran() || lse.overran() ? 1e9 : worst;
}

/// The last rank of a contiguous ring: one joining call per block of `length` keys, own block
/// first.
inline double portable_ring_excess(int head_dim, int length, int ranks, std::uint64_t seed,
                                   int stride = 1) {
  AttentionShape shape = attention_shape(head_dim, 1, 3, 1, length, ranks * length,
                                         diagonal_mask((ranks - 1) * length));
  const AttentionInputs inputs = attention_inputs(shape, seed);
  const Buffer<Bfloat16> q(inputs.q), k(inputs.k), v(inputs.v);
  const std::size_t rows = inputs.q.size() / head_dim;
  Buffer<float> running(inputs.q.size());  // NaN where nothing has been joined yet
  Buffer<float> lse(std::vector<float>(rows, -std::numeric_limits<float>::infinity()));
  for (int from = ranks - 1; from >= 0; --from) {
    AttentionShape step = shape;
    step.kv_len = length;
    step.mask = diagonal_mask((ranks - 1 - from) * length);
    const std::size_t block = static_cast<std::size_t>(from) * length * head_dim;
    const ForwardTensors tensors{.q = q.data(),
                                 .k = k.data() + block,
                                 .v = v.data() + block,
                                 .running_o = running.data(),
                                 .lse = lse.data()};
    PortableCall(step, tensors).launch();
  }
  const double worst = attention_excess(inputs, running.download(), lse.download(), 0, stride);
  return running.overran() || lse.overran() ? 1e9 : worst;
}

}  // namespace longhaul::kernels::flash
