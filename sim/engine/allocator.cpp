#include "sim/engine/allocator.h"

#include <algorithm>
#include <tuple>

#include "sim/units/check.h"

namespace longhaul {

namespace {

// c10/core/AllocatorConfig.h: kMinBlockSize, kSmallSize, kSmallBuffer, kLargeBuffer,
// kMinLargeAlloc, kRoundLarge.
constexpr std::int64_t mib = std::int64_t{1} << 20;
constexpr std::int64_t smallest_block = 512;
constexpr std::int64_t largest_small = 1 * mib;
constexpr std::int64_t small_segment = 2 * mib;
constexpr std::int64_t large_segment = 20 * mib;
constexpr std::int64_t smallest_own_segment = 10 * mib;
constexpr std::int64_t segment_rounding = 2 * mib;

std::int64_t round_up(std::int64_t value, std::int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

std::int64_t segment_size(std::int64_t size, bool small) {
  if (small) {
    return small_segment;
  }
  return size < smallest_own_segment ? large_segment : round_up(size, segment_rounding);
}

}  // namespace

bool CachingAllocator::FreeBlock::operator<(const FreeBlock& other) const {
  return std::tie(size, segment, offset) < std::tie(other.size, other.segment, other.offset);
}

bool CachingAllocator::FreeBlock::operator==(const FreeBlock& other) const {
  return std::tie(size, segment, offset) == std::tie(other.size, other.segment, other.offset);
}

CachingAllocator::CachingAllocator(const AllocatorOptions& options) : options_(options) {}

std::vector<CachingAllocator::FreeBlock> CachingAllocator::free_blocks() const {
  std::vector<FreeBlock> all(small_.free.begin(), small_.free.end());
  all.insert(all.end(), large_.free.begin(), large_.free.end());
  return all;
}

CachingAllocator::FreeBlock CachingAllocator::key_of(std::uint32_t index) const {
  const Block& block = blocks_[index];
  return {block.size, block.segment, block.offset, index};
}

std::uint32_t CachingAllocator::new_block() {
  if (unused_.empty()) {
    blocks_.emplace_back();
    return static_cast<std::uint32_t>(blocks_.size() - 1);
  }
  const std::uint32_t index = unused_.back();
  unused_.pop_back();
  blocks_[index] = Block();
  return index;
}

CachingAllocator::Handle CachingAllocator::allocate(std::int64_t bytes) {
  check(bytes > 0, "an allocation has a size");
  const std::int64_t size = std::max(smallest_block, round_up(bytes, smallest_block));
  const bool small = size <= largest_small;
  std::uint32_t index = take_free(size, small);
  if (index == none) {
    index = options_.expandable_segments ? expand(size, small) : new_segment(size, small);
  }
  const std::int64_t rest = blocks_[index].size - size;
  const bool splits =
      small || options_.expandable_segments ? rest >= smallest_block : rest > largest_small;
  if (splits) {
    split(index, size);
  }
  Block& block = blocks_[index];
  block.held = true;
  block.requested = bytes;
  counts_.requested += bytes;
  counts_.allocated += block.size;
  counts_.peak_requested = std::max(counts_.peak_requested, counts_.requested);
  counts_.peak_allocated = std::max(counts_.peak_allocated, counts_.allocated);
  return index;
}

void CachingAllocator::count_freed(Block& block) {
  check(block.held && block.requested > 0, "a block is freed once");
  counts_.requested -= block.requested;
  block.requested = 0;
  counts_.allocated -= block.size;
}

void CachingAllocator::free(Handle handle) {
  count_freed(blocks_[handle]);
  put_back(handle);
}

void CachingAllocator::free_after(Handle handle, std::int64_t done) {
  count_freed(blocks_[handle]);
  if (done <= now_) {
    put_back(handle);
  } else {
    waiting_.emplace_back(handle, done);
  }
}

void CachingAllocator::set_time(std::int64_t now) {
  now_ = now;
  std::erase_if(waiting_, [&](const auto& one) {
    const bool done = one.second <= now;
    if (done) {
      put_back(one.first);
    }
    return done;
  });
}

std::vector<std::pair<std::int64_t, std::int64_t>> CachingAllocator::waiting() const {
  std::vector<std::pair<std::int64_t, std::int64_t>> found;
  for (const auto& [index, done] : waiting_) {
    found.emplace_back(blocks_[index].size, done - now_);
  }
  return found;
}

// To its pool, together with its free neighbours.
void CachingAllocator::put_back(std::uint32_t index) {
  Block& block = blocks_[index];
  block.held = false;
  Pool& pool = pool_of(block.small);
  if (block.next != none && !blocks_[block.next].held) {
    pool.free.erase(key_of(block.next));
    merge_with_next(index);
  }
  const std::uint32_t previous = blocks_[index].previous;
  if (previous != none && !blocks_[previous].held) {
    pool.free.erase(key_of(previous));
    merge_with_next(previous);
    index = previous;
  }
  pool.free.insert(key_of(index));
}

// The smallest free block that is large enough; of equals the one at the lowest address.
std::uint32_t CachingAllocator::take_free(std::int64_t size, bool small) {
  Pool& pool = pool_of(small);
  const auto found = pool.free.lower_bound({size, 0, 0, 0});
  if (found == pool.free.end()) {
    return none;
  }
  const std::uint32_t index = found->index;
  pool.free.erase(found);
  return index;
}

// cudaMalloc; when that fails, once more after waiting for what other streams still hold and giving
// back every segment that is wholly free.
void CachingAllocator::reserve(std::int64_t bytes) {
  if (counts_.reserved + bytes > options_.capacity) {
    give_back_cached();
    ++counts_.retries;
    counts_.out_of_memory =
        counts_.out_of_memory || counts_.reserved + bytes > options_.capacity;
  }
  ++counts_.segments;
  counts_.reserved += bytes;
  counts_.peak_reserved = std::max(counts_.peak_reserved, counts_.reserved);
}

std::uint32_t CachingAllocator::new_segment(std::int64_t size, bool small) {
  const std::int64_t bytes = segment_size(size, small);
  reserve(bytes);
  const std::uint32_t index = new_block();
  blocks_[index].size = bytes;
  blocks_[index].segment = segments_++;
  blocks_[index].small = small;
  return index;
}

// Expandable segments: one per pool, which grows by whole pages at its end.
std::uint32_t CachingAllocator::expand(std::int64_t size, bool small) {
  Pool& pool = pool_of(small);
  const std::uint32_t last = pool.last;
  const bool extends = last != none && !blocks_[last].held;
  const std::int64_t missing = extends ? size - blocks_[last].size : size;
  const std::int64_t bytes = round_up(missing, small ? small_segment : large_segment);
  if (extends) {
    pool.free.erase(key_of(last));
    blocks_[last].held = true;  // no neighbour that comes back meanwhile merges with it
    reserve(bytes);
    blocks_[last].size += bytes;
    return last;
  }
  reserve(bytes);
  const std::uint32_t index = new_block();
  Block& block = blocks_[index];
  block.size = bytes;
  block.small = small;
  block.segment = small ? 0 : 1;
  block.previous = pool.last;
  if (pool.last != none) {
    block.offset = blocks_[pool.last].offset + blocks_[pool.last].size;
    blocks_[pool.last].next = index;
  }
  pool.last = index;
  return index;
}

void CachingAllocator::give_back_cached() {
  for (const auto& [index, done] : waiting_) {
    put_back(index);
  }
  waiting_.clear();
  for (Pool* pool : {&small_, &large_}) {
    for (auto at = pool->free.begin(); at != pool->free.end();) {
      const std::uint32_t index = at->index;
      const Block& block = blocks_[index];
      const bool at_end = block.next == none;
      if (options_.expandable_segments && !at_end) {
        at = unmap(index) ? pool->free.erase(at) : std::next(at);
        continue;
      }
      if (!at_end || (!options_.expandable_segments && block.previous != none)) {
        ++at;
        continue;
      }
      at = pool->free.erase(at);
      drop(index);
    }
  }
}

// A free block inside an expandable segment: its whole pages go back; their addresses are not used
// again, nor what is left of the pages at its ends (PyTorch may map them anew; there are enough).
bool CachingAllocator::unmap(std::uint32_t index) {
  Block& block = blocks_[index];
  const std::int64_t page = block.small ? small_segment : large_segment;
  const std::int64_t begin = round_up(block.offset, page);
  const std::int64_t end = (block.offset + block.size) / page * page;
  if (end <= begin) {
    return false;
  }
  counts_.reserved -= end - begin;
  block.held = true;  // no neighbour merges with it
  return true;
}

void CachingAllocator::drop(std::uint32_t index) {
  const Block& block = blocks_[index];
  counts_.reserved -= block.size;
  Pool& pool = pool_of(block.small);
  if (options_.expandable_segments && pool.last == index) {
    pool.last = block.previous;
  }
  if (block.previous != none) {
    blocks_[block.previous].next = none;
  }
  unused_.push_back(index);
}

// Cuts the front `size` off a block that is in no pool; the rest becomes a free block.
void CachingAllocator::split(std::uint32_t index, std::int64_t size) {
  const std::uint32_t rest = new_block();
  Block& block = blocks_[index];
  Block& made = blocks_[rest];
  made.size = block.size - size;
  made.offset = block.offset + size;
  made.segment = block.segment;
  made.small = block.small;
  made.previous = index;
  made.next = block.next;
  if (block.next != none) {
    blocks_[block.next].previous = rest;
  }
  block.next = rest;
  block.size = size;
  Pool& pool = pool_of(block.small);
  if (pool.last == index) {
    pool.last = rest;
  }
  pool.free.insert(key_of(rest));
}

void CachingAllocator::merge_with_next(std::uint32_t index) {
  Block& block = blocks_[index];
  const std::uint32_t gone = block.next;
  block.size += blocks_[gone].size;
  block.next = blocks_[gone].next;
  if (block.next != none) {
    blocks_[block.next].previous = index;
  }
  Pool& pool = pool_of(block.small);
  if (pool.last == gone) {
    pool.last = index;
  }
  unused_.push_back(gone);
}

}  // namespace longhaul
