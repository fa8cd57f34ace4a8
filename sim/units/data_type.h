// Element types of tensors and kernels.
#pragma once

#include "sim/units/quantity.h"

namespace longhaul {

enum class DataType { bf16, fp16, fp32, fp8, int64 };

/// Storage of one element.
constexpr Bytes element_size(DataType type) {
  switch (type) {
    case DataType::fp8: return Bytes::of(1);
    case DataType::fp32: return Bytes::of(4);
    case DataType::int64: return Bytes::of(8);
    case DataType::bf16:
    case DataType::fp16: break;
  }
  return Bytes::of(2);
}

}  // namespace longhaul
