#pragma once
// What can go wrong with cuDNN, for callers that know nothing of its headers.

#include <stdexcept>

namespace longhaul::kernels::vendor {

/// A call of cuDNN failed; the message says what was being done, the status and cuDNN's own words.
class CudnnError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// This machine or this build has no cuDNN that can be used.
class CudnnMissing : public CudnnError {
 public:
  using CudnnError::CudnnError;
};

/// cuDNN has nothing that computes this call of attention.
class CudnnUnsupported : public CudnnError {
 public:
  using CudnnError::CudnnError;
};

}  // namespace longhaul::kernels::vendor
