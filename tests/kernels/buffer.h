#pragma once
// Memory of the GPU that a check runs on: a real one, or the emulated one of the CPU tests, so that
// both run the same cases.

#include <cstddef>
#include <cstring>
#include <memory>
#include <vector>

#if !defined(LONGHAUL_EMULATED_GPU)
#include "kernels/common/device_buffer.h"
#endif

namespace longhaul::kernels {

#if !defined(LONGHAUL_EMULATED_GPU)
template <class T>
using Buffer = DeviceBuffer<T>;
#else
/// As DeviceBuffer: poisoned, with a guard behind the last element. 1024-byte aligned, as memory of
/// cudaMalloc is to 256.
template <class T>
class Buffer {
 public:
  explicit Buffer(std::size_t size)
      : size_(size), storage_(size * sizeof(T) + guard_bytes + alignment, 0xff) {
    void* start = storage_.data();
    std::size_t room = storage_.size();
    std::align(alignment, size * sizeof(T) + guard_bytes, start, room);
    data_ = static_cast<T*>(start);
  }
  explicit Buffer(const std::vector<T>& values) : Buffer(values.size()) {
    if (!values.empty()) std::memcpy(data_, values.data(), values.size() * sizeof(T));
  }
  Buffer(Buffer&&) noexcept = default;

  T* data() { return data_; }
  const T* data() const { return data_; }

  std::vector<T> download() const {
    std::vector<T> values(size_);
    if (size_ > 0) std::memcpy(values.data(), data_, size_ * sizeof(T));
    return values;
  }

  bool overran() const {
    const auto* guard = reinterpret_cast<const unsigned char*>(data_ + size_);
    for (std::size_t i = 0; i < guard_bytes; ++i) {
      if (guard[i] != 0xff) return true;
    }
    return false;
  }

 private:
  static constexpr std::size_t guard_bytes = 256;
  static constexpr std::size_t alignment = 1024;
  std::size_t size_ = 0;
  std::vector<unsigned char> storage_;  // moves with its memory, so data_ stays valid
  T* data_ = nullptr;
};
#endif

}  // namespace longhaul::kernels
