#pragma once
// Double-precision reference of the gated activation of Llama's feed-forward layers.

#include <cstdint>
#include <vector>

#include "kernels/common/host_device.h"

namespace longhaul::kernels {

/// Rows of `width` gates and as many ups; a row of either starts `stride` elements after the one
/// before, so that both may be halves of the fused product's rows (stride = 2 width).
struct SwigluShape {
  std::int64_t rows = 0;
  int width = 8;            ///< a multiple of 8
  std::int64_t stride = 0;  ///< of gate and up (and their gradients), a multiple of 8; 0: width

  LONGHAUL_HOST_DEVICE std::int64_t input_stride() const {
    return stride == 0 ? width : stride;
  }
};

/// h = gate sigmoid(gate) up, [rows][width] (Shazeer, arXiv 2002.05202).
std::vector<double> swiglu_reference(const SwigluShape& shape, const double* gate,
                                     const double* up);

/// Gradients at gate and up, each [rows][width], of a loss whose gradient at h is dh:
/// dgate = dh up s (1 + gate (1 - s)) with s = sigmoid(gate), dup = dh gate s.
struct SwigluGradients {
  std::vector<double> dgate;
  std::vector<double> dup;
};
SwigluGradients swiglu_backward_reference(const SwigluShape& shape, const double* gate,
                                          const double* up, const std::vector<double>& dh);

}  // namespace longhaul::kernels
