#pragma once
// The rate of a copy, which memory-bound kernels of the same run are held against.

#include "kernels/common/device.h"

namespace longhaul::kernels {

/// Bytes a second, read and written, of copy() on 512 MiB: far beyond any cache.
double copy_rate(const Device& device);

}  // namespace longhaul::kernels
