#pragma once
// Tiles of the Hopper forward kernel, and how shared memory and registers are spent on them.

#include <cstdint>

#include "kernels/common/host_device.h"

namespace longhaul::kernels::flash {

/// Bytes of a row of an operand panel: 64 bf16 elements. Operands lie in shared memory as panels,
/// because 128 bytes is the widest span that TMA and wgmma swizzle.
inline constexpr int panel_columns = 64;
inline constexpr int panel_row_bytes = 128;

/// Shared memory one block may ask for on compute capability 9.0: 227 KiB (CUDA C++ Programming
/// Guide, table of technical specifications per compute capability).
inline constexpr int shared_memory_limit = 227 * 1024;

/// Registers a thread begins with when a block of `threads` has an SM of compute capability 9.0 to
/// itself: its share of 65536, in steps of 8 (CUDA C++ Programming Guide). setmaxnreg deals out
/// anew what the block was given at launch, no more: a warpgroup that asks for more waits for ever.
LONGHAUL_HOST_DEVICE constexpr int registers_at_launch(int threads) {
  return 65536 / threads / 8 * 8;
}

/// A 128-byte swizzle repeats every 8 rows, so panels begin at multiples of 1024 bytes.
inline constexpr int panel_alignment = 1024;

/// Shape of the tile that one block works on: `rows` queries against `keys` keys at a time.
/// `whole` says that the mask is full; such calls have no ragged diagonal and afford longer steps.
/// Shapes are the longest whose accumulators (S: keys / 2, O: head_dim / 2, P: keys / 4 registers a
/// thread) fit `consumer_registers` without spills; the tests read ptxas's report.
template <int head_dim_, bool whole>
struct TileShape {
  static_assert(head_dim_ == 64 || head_dim_ == 128 || head_dim_ == 256, "no such head dimension");
  static constexpr int head_dim = head_dim_;
  static constexpr int warpgroups = head_dim == 64 ? 3 : 2;  // consumers, of 64 query rows each
  static constexpr int rows = 64 * warpgroups;
  static constexpr int keys = head_dim == 256 ? 80 : (head_dim == 128 && whole) ? 176 : 128;
  static constexpr int stages = 2;                        // of K, and of V
  static constexpr int threads = 128 * (warpgroups + 1);  // one warpgroup loads
  static constexpr int producer_registers = warpgroups == 3 ? 32 : 40;
  static constexpr int consumer_registers = warpgroups == 3 ? 160 : 232;
  /// Consumers take turns with the tensor cores, so that one's softmax runs beside the other's
  /// products. At head dimension 256 products outweigh the exponentials 4 to 1 and turns only wait.
  static constexpr bool takes_turns = head_dim <= 128;
  static constexpr int element_bytes = 2;
  static constexpr bool turns_v = false;
  static constexpr int p_shift = 0;
  static constexpr int panels = head_dim * element_bytes / panel_row_bytes;

  static constexpr int q_bytes = rows * head_dim * 2;
  static constexpr int kv_bytes = keys * head_dim * 2;  // of one stage of K, or of V
  static constexpr int k_offset = q_bytes;
  static constexpr int v_offset = k_offset + stages * kv_bytes;
  static constexpr int loaded_v_offset = v_offset;  // as it comes from memory
  static constexpr int barrier_offset = v_offset + stages * kv_bytes;
};

/// Tiles of e4m3 operands. V must be turned, which the loading warpgroup's other warps do, from
/// buffers of their own. P lies in [0, 1]; times 2^p_shift it uses the range of e4m3 (up to 448).
struct Fp8TileShape {
  static constexpr int head_dim = 128;  // a panel's 128 bytes
  static constexpr int warpgroups = 2;
  static constexpr int rows = 128;
  static constexpr int keys = 128;
  static constexpr int stages = 2;
  static constexpr int threads = 384;
  static constexpr int producer_registers = 40;
  static constexpr int consumer_registers = 232;
  static constexpr bool takes_turns = true;
  static constexpr int element_bytes = 1;
  static constexpr bool turns_v = true;
  static constexpr int p_shift = 8;
  static constexpr int panels = head_dim / panel_row_bytes;

  static constexpr int q_bytes = rows * head_dim;
  static constexpr int kv_bytes = keys * head_dim;
  static constexpr int k_offset = q_bytes;
  static constexpr int v_offset = k_offset + stages * kv_bytes;
  static constexpr int loaded_v_offset = v_offset + stages * kv_bytes;
  static constexpr int barrier_offset = loaded_v_offset + stages * kv_bytes;
};

/// Warps that turn V, where it is turned: those of the loading warpgroup but the first.
inline constexpr int turning_warps = 3;

/// The mbarriers of a block. `full`: the producer filled it; `empty`: every consumer let go of it.
/// `loaded_v`: V before it is turned, where it is; then v_full is the turning warps' to fill.
enum class Barrier {
  q_full,
  q_empty,
  k_full,
  k_empty,
  v_full,
  v_empty,
  tile_full,
  tile_empty,
  loaded_v_full,
  loaded_v_empty
};

/// Slots through which the producer tells the consumers the next tile.
inline constexpr int tile_slots = 2;

/// Barriers and slots behind the operands.
template <class Shape>
struct BarrierLayout {
  static constexpr int shared_count = 2 + 4 * Shape::stages + 2 * tile_slots;
  static constexpr int count = shared_count + (Shape::turns_v ? 2 * Shape::stages : 0);
  static constexpr int tile_offset = Shape::barrier_offset + 8 * count;
  static constexpr int bytes = tile_offset + 4 * tile_slots;
  /// What a launch asks for: the block aligns the start itself.
  static constexpr int launch_bytes = bytes + panel_alignment;

  /// Index of a barrier; `stage` is 0 for the queries.
  LONGHAUL_HOST_DEVICE static constexpr int index(Barrier barrier, int stage) {
    const int s = Shape::stages;
    switch (barrier) {
      case Barrier::q_full: return 0;
      case Barrier::q_empty: return 1;
      case Barrier::k_full: return 2 + stage;
      case Barrier::k_empty: return 2 + s + stage;
      case Barrier::v_full: return 2 + 2 * s + stage;
      case Barrier::v_empty: return 2 + 3 * s + stage;
      case Barrier::tile_full: return 2 + 4 * s + stage;
      case Barrier::tile_empty: return 2 + 4 * s + tile_slots + stage;
      case Barrier::loaded_v_full: return shared_count + stage;
      case Barrier::loaded_v_empty: return shared_count + s + stage;
    }
    return -1;
  }

  /// Arrivals that complete a phase. What is full takes the producer's one; what is empty takes one
  /// of each consumer warp, since a warp's wait for its products says nothing of the others'.
  LONGHAUL_HOST_DEVICE static constexpr int arrivals(Barrier barrier) {
    const int turning = Shape::turns_v ? turning_warps : 0;
    if (barrier == Barrier::loaded_v_empty) return turning;
    if (barrier == Barrier::v_full && Shape::turns_v) return turning;
    if (barrier == Barrier::tile_empty) return 4 * Shape::warpgroups + turning;
    const bool empty =
        barrier == Barrier::q_empty || barrier == Barrier::k_empty || barrier == Barrier::v_empty;
    return empty ? 4 * Shape::warpgroups : 1;
  }
};

/// Addresses within the block's shared memory, which begins at `base`, a multiple of 1024.
template <class Shape>
struct MemoryMap {
  using Layout = BarrierLayout<Shape>;
  std::uint32_t base = 0;

  LONGHAUL_HOST_DEVICE constexpr std::uint32_t q() const { return base; }
  LONGHAUL_HOST_DEVICE constexpr std::uint32_t k(int stage) const {
    return base + Shape::k_offset + stage * Shape::kv_bytes;
  }
  LONGHAUL_HOST_DEVICE constexpr std::uint32_t v(int stage) const {
    return base + Shape::v_offset + stage * Shape::kv_bytes;
  }
  LONGHAUL_HOST_DEVICE constexpr std::uint32_t loaded_v(int stage) const {
    return base + Shape::loaded_v_offset + stage * Shape::kv_bytes;
  }
  LONGHAUL_HOST_DEVICE constexpr std::uint32_t barrier(Barrier which, int stage) const {
    return base + Shape::barrier_offset + 8 * Layout::index(which, stage);
  }
  LONGHAUL_HOST_DEVICE constexpr std::uint32_t tile(int slot) const {
    return base + Layout::tile_offset + 4 * slot;
  }
};

/// The budget of one shape, checked where it is instantiated.
template <class Shape>
struct Budget {
  static_assert(BarrierLayout<Shape>::launch_bytes <= shared_memory_limit, "shared memory");
  static_assert(Shape::barrier_offset % 8 == 0, "mbarriers are 8-byte aligned");
  static_assert(Shape::rows * panel_row_bytes % panel_alignment == 0, "Q panels are aligned");
  static_assert(Shape::keys * panel_row_bytes % panel_alignment == 0, "K, V panels are aligned");
  static_assert(Shape::keys * Shape::element_bytes % 32 == 0, "P V is summed in steps of 32 bytes");
  static_assert(!Shape::turns_v || Shape::keys % panel_row_bytes == 0, "V^T has whole panels");
  static_assert(Shape::keys <= 256 && Shape::rows <= 256, "a TMA box has at most 256 rows");
  static_assert(Shape::keys % 8 == 0 && Shape::keys <= 256, "wgmma: N = 8, 16, ..., 256");
  static_assert(Shape::head_dim <= 256, "wgmma: N = 8, 16, ..., 256");
  static_assert(Shape::producer_registers % 8 == 0 && Shape::consumer_registers % 8 == 0,
                "setmaxnreg takes multiples of 8");
  static_assert(Shape::producer_registers + Shape::warpgroups * Shape::consumer_registers <=
                    (Shape::warpgroups + 1) * registers_at_launch(Shape::threads),
                "the registers that the block was given at launch");
  static constexpr bool holds = true;
};

}  // namespace longhaul::kernels::flash
