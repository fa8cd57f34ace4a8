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

// Operands of 2 bytes (bf16) or 1 (e4m3).
struct Operands {
  const void* q = nullptr;
  const void* k = nullptr;
  const void* v = nullptr;
  std::uint64_t element_bytes = 2;
};

// [batches, rows, heads, columns] in boxes of `box_rows` x 128 bytes; coordinates are (column, row,
// head, batch). To the copy engine e4m3 are bytes.
CUtensorMap tensor_map(const void* data, std::uint64_t element_bytes, const AttentionShape& shape,
                       int row_count, int head_count, int box_rows) {
  const auto rows = static_cast<std::uint64_t>(row_count);
  const auto heads = static_cast<std::uint64_t>(head_count);
  const auto columns = static_cast<std::uint64_t>(shape.head_dim);
  const std::uint64_t head_bytes = columns * element_bytes;
  const cuuint64_t sizes[4] = {columns, rows, heads, static_cast<std::uint64_t>(shape.batch)};
  const cuuint64_t strides[3] = {heads * head_bytes, head_bytes, rows * heads * head_bytes};
  const cuuint32_t box[4] = {panel_row_bytes / static_cast<cuuint32_t>(element_bytes),
                             static_cast<cuuint32_t>(box_rows), 1, 1};
  const cuuint32_t steps[4] = {1, 1, 1, 1};
  const CUtensorMapDataType type =
      element_bytes == 2 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_UINT8;
  CUtensorMap map{};
  const CUresult result =
      tensor_map_encoder()(&map, type, 4, const_cast<void*>(data), sizes, strides, box, steps,
                           CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
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

template <class Tensors>
void check_tensors(const Tensors& tensors) {
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
  State(const AttentionShape& shape, const ForwardKernel& kernel_)
      : kernel(kernel_),
        plan(plan_tiles(shape, kernel.rows, kernel.keys)),
        sequences(plan.sequences),
        blocks(plan.blocks),
        counter(std::vector<int>(2, 0)) {}

  void prepare(const AttentionShape& shape, const Operands& operands, const ForwardOutput& output,
               int most_blocks);

  ForwardKernel kernel;
  TilePlan plan;
  DeviceBuffer<Sequence> sequences;
  DeviceBuffer<RowBlock> blocks;
  DeviceBuffer<int> counter;
  ForwardParameters parameters;
  int grid = 0;
};

void Forward::State::prepare(const AttentionShape& shape, const Operands& operands,
                             const ForwardOutput& output, int most_blocks) {
  const std::uint64_t size = operands.element_bytes;
  parameters.q = tensor_map(operands.q, size, shape, shape.q_len, shape.heads, kernel.rows);
  parameters.k = tensor_map(operands.k, size, shape, shape.kv_len, shape.kv_heads, kernel.keys);
  parameters.v = tensor_map(operands.v, size, shape, shape.kv_len, shape.kv_heads, kernel.keys);
  parameters.problem = plan.problem;
  if (!shape.sequences.empty()) {
    parameters.problem.sequences = sequences.data();
    parameters.problem.blocks = blocks.data();
  }
  parameters.output = output;
  parameters.scale_log2 = shape.scale * log2_e;
  // Tiles of one length need no counter: a fixed stride gives each block as many.
  const bool even = is_rectangular(shape.mask) && shape.sequences.empty();
  parameters.counter = even ? nullptr : counter.data();
  const int most = most_blocks > 0 ? most_blocks : multiprocessors();
  grid = std::min(most, tile_count(parameters.problem));
  check_cuda(cudaFuncSetAttribute(kernel.function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  kernel.shared_bytes),
             "cudaFuncSetAttribute");
}

Forward::Forward(const AttentionShape& shape, const ForwardTensors& tensors, int most_blocks) {
  check_shape(shape);
  check_tensors(tensors);
  state_ = std::make_unique<State>(shape, kernel_of(shape));
  state_->prepare(shape, {tensors.q, tensors.k, tensors.v, 2},
                  {tensors.o, tensors.running_o, tensors.lse}, most_blocks);
}

Forward::Forward(const AttentionShape& shape, const Fp8Tensors& tensors, int most_blocks) {
  check_shape(shape);
  check_tensors(tensors);
  if (shape.head_dim != 128) {
    throw std::invalid_argument("attention: e4m3 operands need head dimension 128");
  }
  if (!(tensors.q_scale * tensors.k_scale > 0)) {
    throw std::invalid_argument("attention: scales of e4m3 operands must be positive");
  }
  state_ = std::make_unique<State>(shape, forward_kernel_fp8());
  state_->prepare(shape, {tensors.q, tensors.k, tensors.v, 1},
                  {tensors.o, tensors.running_o, tensors.lse}, most_blocks);
  state_->parameters.scale_log2 *= tensors.q_scale * tensors.k_scale;
  state_->parameters.v_scale = tensors.v_scale;
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
