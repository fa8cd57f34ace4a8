#pragma once
// cuDNN's backend API (C), opened when first asked for: programs link and start without it.

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <cudnn.h>

#include "kernels/vendor/cudnn_error.h"

namespace longhaul::kernels::vendor {

/// The entry points in use; each has the type that cuDNN's header declares.
struct CudnnLibrary {
  decltype(&::cudnnGetVersion) version = nullptr;
  decltype(&::cudnnGetErrorString) error_string = nullptr;
  decltype(&::cudnnGetLastErrorString) last_error_string = nullptr;
  decltype(&::cudnnCreate) create = nullptr;
  decltype(&::cudnnDestroy) destroy = nullptr;
  decltype(&::cudnnSetStream) set_stream = nullptr;
  decltype(&::cudnnBackendCreateDescriptor) create_descriptor = nullptr;
  decltype(&::cudnnBackendDestroyDescriptor) destroy_descriptor = nullptr;
  decltype(&::cudnnBackendSetAttribute) set_attribute = nullptr;
  decltype(&::cudnnBackendGetAttribute) get_attribute = nullptr;
  decltype(&::cudnnBackendFinalize) finalize = nullptr;
  decltype(&::cudnnBackendExecute) execute = nullptr;
};

/// The library, libcudnn.so.9 by the dynamic linker's search (so LD_LIBRARY_PATH chooses).
/// Throws CudnnMissing, each time again, where there is none or one of another major version.
const CudnnLibrary& cudnn();

/// Throws CudnnError unless `status` is success; CudnnUnsupported where the status is one of the
/// kind "not supported". `doing` says what was tried.
void check_cudnn(cudnnStatus_t status, const std::string& doing);

/// Which attribute type the backend API calls a C++ type.
template <class T>
struct AttributeType;
template <>
struct AttributeType<std::int64_t> {
  static constexpr auto value = CUDNN_TYPE_INT64;
};
template <>
struct AttributeType<bool> {
  static constexpr auto value = CUDNN_TYPE_BOOLEAN;
};
template <>
struct AttributeType<char> {
  static constexpr auto value = CUDNN_TYPE_CHAR;
};
template <>
struct AttributeType<void*> {
  static constexpr auto value = CUDNN_TYPE_VOID_PTR;
};
template <>
struct AttributeType<cudnnHandle_t> {
  static constexpr auto value = CUDNN_TYPE_HANDLE;
};
template <>
struct AttributeType<cudnnDataType_t> {
  static constexpr auto value = CUDNN_TYPE_DATA_TYPE;
};
template <>
struct AttributeType<cudnnPointwiseMode_t> {
  static constexpr auto value = CUDNN_TYPE_POINTWISE_MODE;
};
template <>
struct AttributeType<cudnnReduceTensorOp_t> {
  static constexpr auto value = CUDNN_TYPE_REDUCTION_OPERATOR_TYPE;
};
template <>
struct AttributeType<cudnnBackendHeurMode_t> {
  static constexpr auto value = CUDNN_TYPE_HEUR_MODE;
};

/// One descriptor of the backend API, destroyed with this object. What is handed to another
/// descriptor must live as long as that one. All calls throw CudnnError.
class Descriptor {
 public:
  /// `what` names it in messages ("tensor q").
  Descriptor(cudnnBackendDescriptorType_t type, std::string what);
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept
      : what_(std::move(other.what_)), raw_(std::exchange(other.raw_, nullptr)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(what_, other.what_);
    std::swap(raw_, other.raw_);
    return *this;
  }

  template <class T>
  void set(cudnnBackendAttributeName_t name, const T& value) {
    put(name, AttributeType<T>::value, 1, &value);
  }
  template <class T>
  void set(cudnnBackendAttributeName_t name, const std::vector<T>& values) {
    put(name, AttributeType<T>::value, values.size(), values.data());
  }
  void set(cudnnBackendAttributeName_t name, const std::string& text) {
    put(name, CUDNN_TYPE_CHAR, text.size(), text.data());
  }
  void set(cudnnBackendAttributeName_t name, const Descriptor& other) {
    put(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &other.raw_);
  }
  /// All of `others`, as one attribute.
  void set(cudnnBackendAttributeName_t name, const std::vector<Descriptor>& others);

  void finalize();

  std::int64_t integer(cudnnBackendAttributeName_t name) const;
  /// How many elements an attribute has.
  std::int64_t count(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type) const;
  /// Fills `into`, in order, with the descriptors that an attribute holds; at most as many.
  /// Returns: how many were filled.
  std::int64_t fill(cudnnBackendAttributeName_t name, std::vector<Descriptor>& into) const;

  cudnnBackendDescriptor_t raw() const { return raw_; }

 private:
  void put(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::size_t count,
           const void* values);

  std::string what_;
  cudnnBackendDescriptor_t raw_ = nullptr;
};

}  // namespace longhaul::kernels::vendor
