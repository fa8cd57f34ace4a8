#pragma once
// What launches ask of their arguments.

#include <stdexcept>

namespace longhaul::kernels {

/// Throws std::invalid_argument(`otherwise`) unless `holds`.
inline void require(bool holds, const char* otherwise) {
  if (!holds) throw std::invalid_argument(otherwise);
}

}  // namespace longhaul::kernels
