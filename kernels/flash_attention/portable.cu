#include "kernels/flash_attention/portable.h"

#include <cstdint>
#include <vector>

#include "kernels/common/require.h"
#include "kernels/common/table.h"
#include "kernels/flash_attention/portable.cuh"

namespace longhaul::kernels::flash {

namespace {

void check_tensors(const ForwardTensors& tensors) {
  const void* output = tensors.running_o != nullptr ? static_cast<const void*>(tensors.running_o)
                                                    : static_cast<const void*>(tensors.o);
  for (const void* pointer :
       {static_cast<const void*>(tensors.q), static_cast<const void*>(tensors.k),
        static_cast<const void*>(tensors.v), output, static_cast<const void*>(tensors.lse)}) {
    require(pointer != nullptr && reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0,
            "attention: a tensor is missing or not aligned to 16 bytes");
  }
}

// Calls `use(PortableTile<head_dim>())`.
template <class Use>
auto with_tile(int head_dim, const Use& use) {
  if (head_dim == 64) return use(PortableTile<64>());
  if (head_dim == 128) return use(PortableTile<128>());
  return use(PortableTile<256>());
}

TilePlan plan_of(const AttentionShape& shape) {
  return with_tile(shape.head_dim, [&](auto tile) {
    using Tile = decltype(tile);
    return plan_tiles(shape, Tile::rows, Tile::keys);
  });
}

}  // namespace

struct PortableCall::State {
  State(const AttentionShape& shape, const ForwardTensors& tensors)
      : head_dim(shape.head_dim),
        plan(plan_of(shape)),
        sequences(plan.sequences),
        blocks(plan.blocks),
        parameters{plan.problem, tensors, shape.scale * log2_e} {
    if (shape.sequences.empty()) return;
    parameters.problem.sequences = sequences.data();
    parameters.problem.blocks = blocks.data();
  }

  int head_dim;
  TilePlan plan;
  Table<Sequence> sequences;
  Table<RowBlock> blocks;
  PortableParameters parameters;
};

PortableCall::PortableCall(const AttentionShape& shape, const ForwardTensors& tensors) {
  check_shape(shape);
  check_tensors(tensors);
  state_ = std::make_unique<State>(shape, tensors);
}

PortableCall::~PortableCall() = default;
PortableCall::PortableCall(PortableCall&&) noexcept = default;
PortableCall& PortableCall::operator=(PortableCall&&) noexcept = default;

void PortableCall::launch(Stream stream) const {
  const auto tiles = static_cast<unsigned>(tile_count(state_->parameters.problem));
  with_tile(state_->head_dim, [&](auto tile) {
    using Tile = decltype(tile);
    longhaul::kernels::launch(Grid{tiles, Tile::threads, Tile::shared_bytes, stream},
                              portable_kernel<Tile>, state_->parameters);
  });
}

}  // namespace longhaul::kernels::flash
