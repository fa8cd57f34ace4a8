#include "sim/search/rank_memory.h"

#include <algorithm>

#include "sim/engine/allocator_replay.h"

namespace longhaul {

namespace {

Bytes bytes_of(std::int64_t count) { return Bytes::of(static_cast<double>(count)); }

// By the number `key` gives ranks (negative: left out): the fullest of them, the lowest of equals.
template <class Key>
std::vector<RankId> fullest_by(const Timeline& timeline, std::int64_t numbers, const Key& key) {
  const RankId none(timeline.memory.size());
  std::vector<RankId> fullest(static_cast<std::size_t>(numbers), none);
  for (std::size_t rank = 0; rank < timeline.memory.size(); ++rank) {
    const std::int64_t number = key(RankId(rank));
    if (number < 0) {
      continue;
    }
    RankId& best = fullest[static_cast<std::size_t>(number)];
    if (best == none || timeline.memory[rank].total > timeline.memory[best.index].total) {
      best = RankId(rank);
    }
  }
  return fullest;
}

std::int64_t stage_of(const Mesh& mesh, RankId rank) {
  return mesh.coordinate(rank, Axis::pipeline);
}

std::vector<RankId> fullest_of_stages(const Program& program, const Timeline& timeline) {
  const auto stage = [&](RankId rank) { return stage_of(program.mesh, rank); };
  return fullest_by(timeline, program.mesh.size(Axis::pipeline), stage);
}

// Place in the ring, or without one in the all-to-all group.
std::int64_t position_of(const Mesh& mesh, RankId rank) {
  return mesh.coordinate(rank, Axis::ring) * mesh.size(Axis::ulysses) +
         mesh.coordinate(rank, Axis::ulysses);
}

std::int64_t ranks_like(const Mesh& mesh, const Timeline& timeline, RankId rank) {
  std::int64_t alike = 0;
  for (std::size_t other = 0; other < timeline.memory.size(); ++other) {
    alike += stage_of(mesh, RankId(other)) == stage_of(mesh, rank) &&
                     timeline.memory[other].total == timeline.memory[rank.index].total
                 ? 1
                 : 0;
  }
  return alike;
}

}  // namespace

RankId fullest_rank(const Timeline& timeline) {
  return fullest_by(timeline, 1, [](RankId) { return 0; })[0];
}

std::int64_t outside_allocator(const MemoryPeak& peak) {
  return peak.communicators + peak.bytes[static_cast<std::size_t>(MemoryCategory::framework)];
}

RankMemory memory_of_rank(const Program& program, const Timeline& timeline, RankId rank,
                          const KernelCosts& kernels, std::int64_t capacity) {
  const MemoryPeak& peak = timeline.memory[rank.index];
  const std::int64_t outside = outside_allocator(peak);
  AllocatorOptions allocator;
  allocator.capacity = capacity - outside;
  allocator.expandable_segments = program.expandable_segments;
  const AllocatorCounts counts = replay_allocator(program, rank, kernels, allocator);
  // The host frees in program order, the GPU when it gets there: the ledger may see a little more.
  const std::int64_t segments = std::max(counts.peak_reserved, peak.total - outside);
  RankMemory memory;
  memory.rank = static_cast<std::int64_t>(rank.index);
  memory.stage = stage_of(program.mesh, rank);
  memory.ranks = ranks_like(program.mesh, timeline, rank);
  memory.peak = bytes_of(peak.total);
  memory.peak_time = peak.when.seconds();
  memory.allocated = bytes_of(peak.total - outside);
  memory.allocator_reserved = bytes_of(segments);
  memory.reserved = bytes_of(segments + outside);
  return memory;
}

std::vector<RankMemory> memory_of_stages(const Program& program, const Timeline& timeline,
                                         const KernelCosts& kernels, std::int64_t capacity) {
  std::vector<RankMemory> stages;
  for (const RankId rank : fullest_of_stages(program, timeline)) {
    stages.push_back(memory_of_rank(program, timeline, rank, kernels, capacity));
  }
  return stages;
}

std::vector<RankMemory> memory_of_tight_stages(const Program& program, const Timeline& timeline,
                                               const RankMemory& fullest, const RankMemory& last,
                                               const KernelCosts& kernels, std::int64_t capacity) {
  std::vector<RankMemory> stages = {fullest};
  const Bytes wasted = std::max(fullest.allocator_reserved - fullest.allocated,
                                last.allocator_reserved - last.allocated);
  for (const RankId rank : fullest_of_stages(program, timeline)) {
    const Bytes peak = bytes_of(timeline.memory[rank.index].total);
    if (stage_of(program.mesh, rank) != fullest.stage &&
        peak + wasted * 2.0 > bytes_of(capacity)) {
      stages.push_back(memory_of_rank(program, timeline, rank, kernels, capacity));
    }
  }
  return stages;
}

std::vector<PositionMemory> memory_of_positions(const Mesh& mesh, const Timeline& timeline,
                                                RankId like) {
  const std::int64_t count = mesh.size(Axis::ring) * mesh.size(Axis::ulysses);
  const auto fullest = fullest_by(timeline, count, [&](RankId rank) {
    return stage_of(mesh, rank) == stage_of(mesh, like) ? position_of(mesh, rank) : -1;
  });
  std::vector<PositionMemory> positions;
  bool differ = false;
  for (const RankId rank : fullest) {
    const MemoryPeak& peak = timeline.memory[rank.index];
    positions.push_back({position_of(mesh, rank), static_cast<std::int64_t>(rank.index),
                         bytes_of(peak.total), bytes_of(peak.total - outside_allocator(peak))});
    differ = differ || positions.back().peak != positions.front().peak;
  }
  return differ ? positions : std::vector<PositionMemory>{};
}

}  // namespace longhaul
