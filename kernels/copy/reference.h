#pragma once
// References of the copies: exact, so they work on the stored values.

#include <cstdint>
#include <vector>

#include "kernels/common/bfloat16.h"

namespace longhaul::kernels {

/// Rows of `width` elements in a matrix of `outer` x `inner` rows. For the all-to-all of sequence
/// parallelism (Ulysses, arXiv 2309.14509) over P ranks: a send buffer in which what each rank gets
/// is in one piece is the transposition of [tokens][P] rows of heads/P x head_dim elements; unpacking
/// what comes back is that of [P][tokens].
struct RowTransposition {
  std::uint32_t outer = 0;
  std::uint32_t inner = 0;
  std::uint32_t width = 8;  ///< elements, a multiple of 8
};

/// to[i][o] = from[o][i] for all rows.
std::vector<Bfloat16> transpose_rows_reference(const RowTransposition& shape,
                                               const std::vector<Bfloat16>& from);

}  // namespace longhaul::kernels
