#include "sim/search/memory_track.h"

#include <algorithm>
#include <cmath>

#include "sim/cost/collective.h"
#include "sim/cost/kernel.h"
#include "sim/engine/allocator_replay.h"
#include "sim/engine/engine.h"
#include "sim/schedule/lower.h"
#include "sim/search/pass_costs.h"
#include "sim/search/rank_memory.h"
#include "sim/search/software_memory.h"

namespace longhaul {

namespace {

// Enough for a plot twice as wide as a screen, small enough to open in a spreadsheet.
constexpr std::size_t most_points = 4000;

MemoryPoint point_of(const MemorySample& sample, std::int64_t communicators,
                     std::int64_t segments) {
  MemoryPoint point;
  point.time = sample.when.seconds();
  point.categories = sample.bytes;
  for (const std::int64_t bytes : sample.bytes) {
    point.held += bytes;
  }
  const auto framework = static_cast<std::size_t>(MemoryCategory::framework);
  const std::int64_t outside = communicators + sample.bytes[framework];
  point.allocated = point.held - outside;
  // The host frees in program order, the GPU when it gets there (docs/models/memory.md).
  point.allocator_reserved = std::max(segments, point.allocated);
  point.reserved = point.allocator_reserved + outside;
  point.host = sample.host;
  return point;
}

// Of the changes of one instant the highest and, behind it, the last; of the first instant, in which
// a rank is filled, the last alone.
void add(std::vector<MemoryPoint>& points, const MemoryPoint& point) {
  const std::size_t size = points.size();
  if (size > 0 && points.back().time == point.time) {
    const bool two = size > 1 && points[size - 2].time == point.time;
    const MemoryPoint& highest = two ? points[size - 2] : points.back();
    if (size == 1 || point.held >= highest.held) {
      points.resize(size - (two ? 2 : 1));
    } else if (two) {
      points.pop_back();
    }
  }
  points.push_back(point);
}

std::vector<MemoryPoint> points_of(const std::vector<MemorySample>& samples,
                                   std::int64_t communicators,
                                   const std::vector<SegmentStep>& steps) {
  std::vector<MemoryPoint> points;
  std::size_t step = 0;
  std::int64_t segments = 0;
  for (const MemorySample& sample : samples) {
    for (; step < steps.size() && steps[step].allocations <= sample.allocations; ++step) {
      segments = steps[step].reserved;
    }
    add(points, point_of(sample, communicators, segments));
  }
  return points;
}

}  // namespace

std::vector<MemoryPoint> thinned(const std::vector<MemoryPoint>& points, std::size_t most) {
  if (points.size() <= most) {
    return points;
  }
  const std::size_t stretches = std::max<std::size_t>(1, most / 4);
  const double begin = points.front().time.value();
  const double width = (points.back().time.value() - begin) / static_cast<double>(stretches);
  std::vector<MemoryPoint> kept;
  for (std::size_t first = 0; first < points.size();) {
    const double number = std::floor((points[first].time.value() - begin) / width);
    std::size_t end = first, high = first, low = first;
    for (; end < points.size() &&
           std::floor((points[end].time.value() - begin) / width) <= number;
         ++end) {
      high = points[end].held > points[high].held ? end : high;
      low = points[end].held < points[low].held ? end : low;
    }
    std::vector<std::size_t> chosen{first, high, low, end - 1};
    std::sort(chosen.begin(), chosen.end());
    chosen.erase(std::unique(chosen.begin(), chosen.end()), chosen.end());
    for (const std::size_t i : chosen) {
      kept.push_back(points[i]);
    }
    first = end;
  }
  return kept;
}

std::vector<MemoryTrack> track_memory(const Scenario& asked,
                                      const std::vector<std::int64_t>& ranks,
                                      Diagnostics& diagnostics) {
  const KernelCosts kernels =
      find_kernel_costs(asked.cluster.device(), asked.attention_kernel, diagnostics);
  const TransportCosts transport =
      find_transport_costs(asked.cluster, diagnostics, asked.stack().network_share);
  const std::optional<Scenario> timed = with_pass_costs(asked, kernels, transport);
  const Scenario& scenario = timed ? *timed : asked;
  Program program = lower(scenario);
  add_software_memory(scenario, program);
  EngineOptions options;
  for (const std::int64_t rank : ranks) {
    options.watched.emplace_back(static_cast<std::size_t>(rank));
  }
  const Timeline timeline = simulate(program, scenario.cluster, kernels, transport, options);
  const auto capacity = static_cast<std::int64_t>(scenario.cluster.device().memory.value());
  std::vector<MemoryTrack> tracks;
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    const MemoryPeak& peak = timeline.memory[options.watched[i].index];
    AllocatorOptions allocator;
    allocator.capacity = capacity - outside_allocator(peak);
    allocator.expandable_segments = program.expandable_segments;
    const auto steps = replay_segments(program, options.watched[i], kernels, allocator);
    const auto points = points_of(timeline.memory_tracks[i], peak.communicators, steps);
    tracks.push_back({ranks[i], program.mesh.coordinate(options.watched[i], Axis::pipeline),
                      static_cast<std::int64_t>(points.size()), thinned(points, most_points)});
  }
  return tracks;
}

}  // namespace longhaul
