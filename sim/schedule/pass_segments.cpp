#include "sim/schedule/pass_segments.h"

#include <algorithm>

#include "sim/units/check.h"

namespace longhaul {

namespace {

using Pattern = std::vector<LayerTraits>;

// Each run of equal layers once.
Pattern runs_of(const std::vector<LayerTraits>& layers) {
  Pattern runs = layers;
  runs.erase(std::unique(runs.begin(), runs.end()), runs.end());
  return runs;
}

// A shortest sequence that contains both in their order, by their longest common subsequence.
Pattern merged(const Pattern& a, const Pattern& b) {
  std::vector<std::vector<std::size_t>> common(a.size() + 1,
                                               std::vector<std::size_t>(b.size() + 1, 0));
  for (std::size_t i = a.size(); i-- > 0;) {
    for (std::size_t j = b.size(); j-- > 0;) {
      common[i][j] = a[i] == b[j] ? common[i + 1][j + 1] + 1
                                  : std::max(common[i + 1][j], common[i][j + 1]);
    }
  }
  Pattern both;
  std::size_t i = 0, j = 0;
  while (i < a.size() || j < b.size()) {
    if (i < a.size() && j < b.size() && a[i] == b[j]) {
      both.push_back(a[i++]);
      ++j;
    } else if (j == b.size() || (i < a.size() && common[i + 1][j] >= common[i][j + 1])) {
      both.push_back(a[i++]);
    } else {
      both.push_back(b[j++]);
    }
  }
  return both;
}

}  // namespace

std::vector<PassSegment> pass_segments(const std::vector<std::vector<LayerTraits>>& parts) {
  Pattern pattern;
  for (const auto& layers : parts) {
    pattern = merged(pattern, runs_of(layers));
  }
  std::vector<PassSegment> segments;
  for (const LayerTraits& traits : pattern) {
    segments.push_back({traits, {}, {}, 0});
  }
  for (const auto& layers : parts) {
    std::size_t next = 0;
    for (PassSegment& segment : segments) {
      const std::size_t begin = next;
      while (next < layers.size() && layers[next] == segment.traits) {
        ++next;
      }
      segment.offsets.push_back(static_cast<std::int64_t>(begin));
      segment.counts.push_back(static_cast<std::int64_t>(next - begin));
      segment.most = std::max(segment.most, segment.counts.back());
    }
    check(next == layers.size(), "every layer of a pass belongs to a segment");
  }
  return segments;
}

}  // namespace longhaul
