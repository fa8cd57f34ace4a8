#include "kernels/copy/reference.h"

#include <algorithm>

namespace longhaul::kernels {

std::vector<Bfloat16> transpose_rows_reference(const RowTransposition& shape,
                                               const std::vector<Bfloat16>& from) {
  std::vector<Bfloat16> to(from.size());
  for (std::size_t o = 0; o < shape.outer; ++o) {
    for (std::size_t i = 0; i < shape.inner; ++i) {
      std::copy_n(from.begin() + (o * shape.inner + i) * shape.width, shape.width,
                  to.begin() + (i * shape.outer + o) * shape.width);
    }
  }
  return to;
}

}  // namespace longhaul::kernels
