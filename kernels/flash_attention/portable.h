#pragma once
// How the host calls the portable forward kernel: any GPU since compute capability 8.0.

#include <memory>

#include "kernels/common/stream.h"
#include "kernels/flash_attention/problem.h"
#include "kernels/flash_attention/tensors.h"

namespace longhaul::kernels::flash {

/// A call made ready: its tables lie on the GPU. Tensors must outlive it.
class PortableCall {
 public:
  /// Throws std::invalid_argument for a shape or tensors that do not fit; CudaError where memory is
  /// lacking.
  PortableCall(const AttentionShape& shape, const ForwardTensors& tensors);
  ~PortableCall();
  PortableCall(PortableCall&&) noexcept;
  PortableCall& operator=(PortableCall&&) noexcept;

  /// Queues the call. Throws CudaError if the launch is refused.
  void launch(Stream stream = {}) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace longhaul::kernels::flash
