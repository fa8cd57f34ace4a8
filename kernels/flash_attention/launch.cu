#include "kernels/flash_attention/launch.h"

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include <cudaTypedefs.h>

#include "kernels/common/cuda_error.h"
#include "kernels/common/device_buffer.h"
#include "kernels/flash_attention/forward_kernel.h"
#include "kernels/flash_attention/forward_parameters.h"
#include "kernels/flash_attention/softmax.h"
#include "kernels/flash_attention/tile_shape.h"

namespace longhaul::kernels::flash {

namespace {

// Asked of the runtime, so that programs link and start where there is no driver.
PFN_cuTensorMapEncodeTiled_v12000 tensor_map_encoder() {
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
  check_cuda(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000,
                                              cudaEnableDefault, &found),
             "cudaGetDriverEntryPointByVersion");
#else
  check_cuda(cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &entry, cudaEnableDefault, &found),
             "cudaGetDriverEntryPoint");
#endif
  if (found != cudaDriverEntryPointSuccess || entry == nullptr) {
    throw std::runtime_error("the driver has no cuTensorMapEncodeTiled (CUDA 12.0 or newer)");
  }
  return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(entry);
}

// [batches, rows, heads, columns] of bf16, in boxes of `box_rows` x 64; coordinates are
// (column, row, head, batch).
CUtensorMap tensor_map(const Bfloat16* data, std::uint64_t batches, std::uint64_t rows,
                       std::uint64_t heads, std::uint64_t columns, std::uint32_t box_rows) {
  const cuuint64_t sizes[4] = {columns, rows, heads, batches};
  const cuuint64_t strides[3] = {heads * columns * 2, columns * 2, rows * heads * columns * 2};
  const cuuint32_t box[4] = {panel_columns, box_rows, 1, 1};
  const cuuint32_t steps[4] = {1, 1, 1, 1};
  CUtensorMap map{};
  const CUresult result = tensor_map_encoder()(
      &map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, const_cast<Bfloat16*>(data), sizes, strides, box,
      steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    throw std::runtime_error("cuTensorMapEncodeTiled: error " + std::to_string(result));
  }
  return map;
}

ForwardKernel kernel_of(const AttentionShape& shape) {
  if (shape.head_dim == 64) return forward_kernel_64();
  if (shape.head_dim == 256) return forward_kernel_256();
  return forward_kernel_128(is_rectangular(shape.mask));
}

void check_tensors(const ForwardTensors& tensors) {
  const void* pointers[] = {tensors.q, tensors.k, tensors.v, tensors.lse,
                            tensors.running_o ? static_cast<const void*>(tensors.running_o)
                                              : static_cast<const void*>(tensors.o)};
  for (const void* pointer : pointers) {
    if (pointer == nullptr || reinterpret_cast<std::uintptr_t>(pointer) % 16 != 0) {
      throw std::invalid_argument("attention: a tensor is missing or not aligned to 16 bytes");
    }
  }
}

int multiprocessors() {
  int device = 0;
  int count = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  check_cuda(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device),
             "cudaDeviceGetAttribute");
  return count;
}

}  // namespace

struct Forward::State {
  explicit State(const AttentionShape& shape)
      : kernel(kernel_of(shape)),
        plan(plan_tiles(shape, kernel.rows, kernel.keys)),
        sequences(plan.sequences),
        blocks(plan.blocks),
        counter(std::vector<int>(2, 0)) {}

  ForwardKernel kernel;
  TilePlan plan;
  DeviceBuffer<Sequence> sequences;
  DeviceBuffer<RowBlock> blocks;
  DeviceBuffer<int> counter;
  ForwardParameters parameters;
  int grid = 0;
};

Forward::Forward(const AttentionShape& shape, const ForwardTensors& tensors, int most_blocks) {
  check_shape(shape);
  check_tensors(tensors);
  state_ = std::make_unique<State>(shape);
  State& state = *state_;
  const auto map = [&](const Bfloat16* data, int rows, int heads, int box_rows) {
    return tensor_map(data, static_cast<std::uint64_t>(shape.batch),
                      static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(heads),
                      static_cast<std::uint64_t>(shape.head_dim),
                      static_cast<std::uint32_t>(box_rows));
  };
  ForwardParameters& parameters = state.parameters;
  parameters.q = map(tensors.q, shape.q_len, shape.heads, state.kernel.rows);
  parameters.k = map(tensors.k, shape.kv_len, shape.kv_heads, state.kernel.keys);
  parameters.v = map(tensors.v, shape.kv_len, shape.kv_heads, state.kernel.keys);
  parameters.problem = state.plan.problem;
  if (!shape.sequences.empty()) {
    parameters.problem.sequences = state.sequences.data();
    parameters.problem.blocks = state.blocks.data();
  }
  parameters.output = {tensors.o, tensors.running_o, tensors.lse};
  parameters.scale_log2 = shape.scale * log2_e;
  // Tiles of one length need no counter: a fixed stride gives each block as many.
  const bool even = is_rectangular(shape.mask) && shape.sequences.empty();
  parameters.counter = even ? nullptr : state.counter.data();
  const int most = most_blocks > 0 ? most_blocks : multiprocessors();
  state.grid = std::min(most, tile_count(parameters.problem));
  check_cuda(
      cudaFuncSetAttribute(state.kernel.function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           state.kernel.shared_bytes),
      "cudaFuncSetAttribute");
}

Forward::~Forward() = default;
Forward::Forward(Forward&&) noexcept = default;
Forward& Forward::operator=(Forward&&) noexcept = default;

void Forward::launch(cudaStream_t stream) const {
  if (state_->grid == 0) return;  // only empty sequences
  void* arguments[] = {&state_->parameters};
  check_cuda(
      cudaLaunchKernel(state_->kernel.function, dim3(state_->grid), dim3(state_->kernel.threads),
                       arguments, static_cast<std::size_t>(state_->kernel.shared_bytes), stream),
      "attention forward");
}

}  // namespace longhaul::kernels::flash
