#pragma once
// cuDNN's forward attention, to be measured beside ours. Where the build found no cudnn.h the same
// functions say so (no_cudnn.cpp).

#include <cstdint>
#include <memory>
#include <string>

#include <cuda_runtime_api.h>

#include "kernels/flash_attention/problem.h"
#include "kernels/flash_attention/tensors.h"
#include "kernels/vendor/cudnn_error.h"

namespace longhaul::kernels::vendor {

/// The version of the library that is used, "9.19.0". Throws CudnnMissing where there is none.
std::string cudnn_version();

/// Attention forward of one shape by cuDNN, ready to be queued. It computes what flash::Forward
/// does without joining: O in bf16, LSE in fp32 (natural logarithm), tensors as in
/// flash::ForwardTensors. A row that sees no key differs: cuDNN gives the mean of V.
class CudnnAttention {
 public:
  /// On the current device. Throws CudnnMissing; CudnnUnsupported for a shape or mask that cuDNN or
  /// AttentionGraph does not have; CudnnError; CudaError.
  explicit CudnnAttention(const flash::AttentionShape& shape);
  ~CudnnAttention();
  CudnnAttention(CudnnAttention&&) noexcept;
  CudnnAttention& operator=(CudnnAttention&&) noexcept;

  /// A call of it on given tensors. Calls share a workspace and so must not overlap.
  class Call {
   public:
    ~Call();
    Call(Call&&) noexcept;
    Call& operator=(Call&&) noexcept;
    /// Queues it on `stream`. Throws CudnnError.
    void launch(cudaStream_t stream) const;

   private:
    friend class CudnnAttention;
    struct State;
    explicit Call(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
  };

  /// `tensors.running_o` must be null. The tensors and this object must outlive the call.
  Call on(const flash::ForwardTensors& tensors) const;

  std::int64_t workspace_bytes() const;
  std::int64_t engine() const;  // cuDNN's number of the engine that it chose

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace longhaul::kernels::vendor
