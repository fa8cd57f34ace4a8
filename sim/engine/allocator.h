// PyTorch's CUDA caching allocator as a model of itself: sizes, pools, segments, best fit, splits
// and merges as in c10/cuda/CUDACachingAllocator.cpp and c10/core/AllocatorConfig.h (PyTorch 2.x).
// Blocks that a second stream used come back when the host sees that it is done with them. No
// garbage collection threshold, no max_split_size, no graph pools.
#pragma once

#include <cstdint>
#include <limits>
#include <set>
#include <utility>
#include <vector>

namespace longhaul {

/// How the allocator is set up (PYTORCH_CUDA_ALLOC_CONF) and what the device leaves it.
struct AllocatorOptions {
  bool expandable_segments = false;
  /// Bytes it can reserve before cudaMalloc fails.
  std::int64_t capacity = std::numeric_limits<std::int64_t>::max();
};

/// What the allocator has counted so far, in bytes.
struct AllocatorCounts {
  std::int64_t requested = 0;       ///< held by callers, as asked for
  std::int64_t allocated = 0;       ///< held by callers, with rounding (memory_allocated)
  std::int64_t reserved = 0;        ///< in segments (memory_reserved)
  std::int64_t peak_requested = 0;
  std::int64_t peak_allocated = 0;  ///< max_memory_allocated
  std::int64_t peak_reserved = 0;   ///< max_memory_reserved
  std::int64_t segments = 0;        ///< taken from the driver so far (cudaMalloc)
  std::int64_t retries = 0;         ///< times cached segments were given back to make room
  bool out_of_memory = false;       ///< a request did not fit even then; it was granted all the same
};

class CachingAllocator {
 public:
  /// A block held by a caller.
  using Handle = std::uint32_t;

  explicit CachingAllocator(const AllocatorOptions& options);
  /// Holds `bytes` > 0 until free(). Never fails: see AllocatorCounts::out_of_memory.
  Handle allocate(std::int64_t bytes);
  void free(Handle handle);
  /// The caller is done with the block, another stream will be at `done` (a time of the caller's
  /// clock): not reused before the host's clock has passed that, but no longer counted as allocated.
  void free_after(Handle handle, std::int64_t done);
  /// The host's clock; it never runs backwards.
  void set_time(std::int64_t now);
  /// Sizes of the blocks that wait for another stream, and how long still, oldest first.
  [[nodiscard]] std::vector<std::pair<std::int64_t, std::int64_t>> waiting() const;
  [[nodiscard]] const AllocatorCounts& counts() const { return counts_; }

  /// A free block: what decides, with `reserved`, how later requests are met.
  struct FreeBlock {
    std::int64_t size = 0;
    std::uint32_t segment = 0;  ///< in the order of their creation, for addresses that grow
    std::int64_t offset = 0;
    std::uint32_t index = 0;
    bool operator<(const FreeBlock& other) const;
    bool operator==(const FreeBlock& other) const;
  };
  /// The free blocks of both pools, small ones first.
  [[nodiscard]] std::vector<FreeBlock> free_blocks() const;

 private:
  static constexpr std::uint32_t none = ~0u;
  struct Block {
    std::int64_t size = 0;
    std::int64_t offset = 0;
    std::int64_t requested = 0;
    std::uint32_t segment = 0;
    std::uint32_t previous = none;  ///< neighbours in the segment
    std::uint32_t next = none;
    bool held = false;
    bool small = false;
  };
  struct Pool {
    std::set<FreeBlock> free;
    std::uint32_t last = none;  ///< expandable: the block at the end of the one segment
  };
  [[nodiscard]] Pool& pool_of(bool small) { return small ? small_ : large_; }
  [[nodiscard]] FreeBlock key_of(std::uint32_t index) const;
  std::uint32_t new_block();
  std::uint32_t take_free(std::int64_t size, bool small);
  std::uint32_t new_segment(std::int64_t size, bool small);
  std::uint32_t expand(std::int64_t size, bool small);
  void reserve(std::int64_t bytes);
  void give_back_cached();
  bool unmap(std::uint32_t index);
  void count_freed(Block& block);
  void put_back(std::uint32_t index);
  void drop(std::uint32_t index);
  void split(std::uint32_t index, std::int64_t size);
  void merge_with_next(std::uint32_t index);

  AllocatorOptions options_;
  AllocatorCounts counts_;
  std::vector<Block> blocks_;
  std::vector<std::uint32_t> unused_;  ///< places in blocks_
  std::vector<std::pair<std::uint32_t, std::int64_t>> waiting_;  ///< block, when its stream is done
  std::int64_t now_ = 0;
  std::uint32_t segments_ = 0;
  Pool small_, large_;
};

}  // namespace longhaul
