#pragma once
// Double-precision reference of the merge of two partial attention results.

#include <cstdint>
#include <vector>

#include "kernels/common/host_device.h"

namespace longhaul::kernels {

/// Results of attention over some of the keys: output [batch][tokens][heads][width] and log-sum-exp
/// of the scaled scores [batch][heads][tokens], -inf for a row that saw no key. Rows are counted in
/// 32 bits: 64-bit divisions would cost the kernel more than its memory does.
struct LseMergeShape {
  std::uint32_t batch = 1;
  std::uint32_t tokens = 0;
  std::uint32_t heads = 1;
  int width = 8;  ///< head dimension, a multiple of 8

  LONGHAUL_HOST_DEVICE std::uint32_t rows() const { return batch * tokens * heads; }
  /// Where the log-sum-exp of output row `row` (of [batch][tokens][heads]) lies.
  LONGHAUL_HOST_DEVICE std::uint32_t lse_index(std::uint32_t row) const {
    const std::uint32_t position = row / heads;  // of [batch][tokens]
    const std::uint32_t head = row - position * heads;
    const std::uint32_t sequence = position / tokens;
    return (sequence * heads + head) * tokens + position - sequence * tokens;
  }
};

struct PartialAttention {
  std::vector<double> output;
  std::vector<double> lse;
};

/// The attention over the keys of both: with w = e^(lse - m), m the larger lse, output
/// (w1 o1 + w2 o2) / (w1 + w2) and lse m + ln(w1 + w2). The output of a row whose lse is -inf counts
/// nothing, whatever it holds; two such rows give output 0, lse -inf. (Online softmax: Milakov and
/// Gimelshein, arXiv 1805.02867; ring attention: Liu et al., arXiv 2310.01889.)
PartialAttention merge_reference(const LseMergeShape& shape, const PartialAttention& one,
                                 const PartialAttention& other);

}  // namespace longhaul::kernels
