#pragma once
// A table that a kernel reads.

#include <vector>

#if !defined(LONGHAUL_EMULATED_GPU)
#include "kernels/common/device_buffer.h"
#endif

namespace longhaul::kernels {

#if !defined(LONGHAUL_EMULATED_GPU)
template <class T>
using Table = DeviceBuffer<T>;
#else
/// A copy of `values` where the emulated GPU reads it.
template <class T>
class Table {
 public:
  explicit Table(std::vector<T> values) : values_(std::move(values)) {}
  T* data() { return values_.data(); }

 private:
  std::vector<T> values_;
};
#endif

}  // namespace longhaul::kernels
