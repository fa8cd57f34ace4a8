#include "sim/program/attention_calls.h"

#include <algorithm>

#include "sim/units/check.h"

namespace longhaul {

namespace {

// Consecutive local tokens whose global positions are start + i * stride.
struct Run {
  std::int64_t local = 0;
  std::int64_t length = 0;
  std::int64_t start = 0;
};

std::int64_t stride_of(const AttentionGeometry& geometry) {
  return geometry.order == SequenceOrder::striped ? geometry.ring : 1;
}

std::vector<Run> runs_of(const AttentionGeometry& geometry, std::int64_t owner) {
  const std::int64_t part = geometry.sequence / geometry.ring;
  switch (geometry.order) {
    case SequenceOrder::contiguous: return {{0, part, owner * part}};
    case SequenceOrder::striped: return {{0, part, owner}};
    case SequenceOrder::zigzag: break;
  }
  const std::int64_t chunk = part / 2;
  return {{0, chunk, owner * chunk},
          {chunk, chunk, (2 * geometry.ring - 1 - owner) * chunk}};
}

// The keys of a shard: those in the cache, whose positions lie before 0, then those of its tokens.
std::vector<Run> key_runs_of(const AttentionGeometry& geometry, std::int64_t owner) {
  std::vector<Run> runs = runs_of(geometry, owner);
  const std::int64_t cached = geometry.cached / geometry.ring;
  if (cached == 0) {
    return runs;
  }
  for (Run& run : runs) {
    run.local += cached;
  }
  const bool striped = geometry.order == SequenceOrder::striped;
  runs.insert(runs.begin(), {0, cached, (striped ? owner : owner * cached) - geometry.cached});
  return runs;
}

std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  return a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
}

// The mask between two runs, as a band on their own indices: key position <= query position
// means (j - i) * stride <= q - k, and key position > query position - window likewise.
Band band_between(const MaskSpec& mask, std::int64_t stride, const Run& query, const Run& key) {
  Band band;
  const std::int64_t offset = query.start - key.start;
  if (mask.kind != MaskKind::full) {
    band.upper = floor_divide(offset, stride);
  }
  if (mask.kind == MaskKind::window) {
    band.lower = floor_divide(offset - mask.window, stride) + 1;
  }
  return band;
}

// Opens the ends of a band that no pair of the rectangle touches.
Band simplified(Band band, std::int64_t queries, std::int64_t keys) {
  if (band.upper && *band.upper >= keys - 1) {
    band.upper.reset();
  }
  if (band.lower && *band.lower <= 1 - queries) {
    band.lower.reset();
  }
  return band;
}

bool lets_nothing(const Band& band, std::int64_t queries, std::int64_t keys) {
  return (band.upper && *band.upper < 1 - queries) || (band.lower && *band.lower > keys - 1) ||
         (band.upper && band.lower && *band.lower > *band.upper);
}

bool is_full(const AttentionCall& call) { return !call.band.lower && !call.band.upper; }

// Joins two whole rectangles that share an edge; production code issues them as one call.
bool join(AttentionCall& into, const AttentionCall& other) {
  if (!is_full(into) || !is_full(other)) {
    return false;
  }
  if (into.query_begin == other.query_begin && into.queries == other.queries &&
      into.key_begin + into.keys == other.key_begin) {
    into.keys += other.keys;
    return true;
  }
  if (into.key_begin == other.key_begin && into.keys == other.keys &&
      into.query_begin + into.queries == other.query_begin) {
    into.queries += other.queries;
    return true;
  }
  return false;
}

// Joins all cached keys with those that follow for the same queries under a band from above: one
// call of a kernel that aligns its mask with the last key.
bool join_cached(AttentionCall& cached, const AttentionCall& next) {
  const bool follows = cached.query_begin == next.query_begin && cached.queries == next.queries &&
                       cached.key_begin + cached.keys == next.key_begin;
  if (!follows || !is_full(cached) || next.band.lower) {
    return false;
  }
  if (next.band.upper) {
    cached.band.upper = *next.band.upper + cached.keys;
  }
  cached.keys += next.keys;
  return true;
}

// Joins until nothing can be joined any more: a joined call may fit another one.
void join_neighbours(std::vector<AttentionCall>& calls,
                     bool (*join)(AttentionCall&, const AttentionCall&)) {
  bool joined = true;
  while (joined) {
    joined = false;
    for (std::size_t i = 0; i < calls.size() && !joined; ++i) {
      for (std::size_t j = i + 1; j < calls.size() && !joined; ++j) {
        if (join(calls[i], calls[j])) {
          calls.erase(calls.begin() + static_cast<std::ptrdiff_t>(j));
          joined = true;
        }
      }
    }
  }
}

}  // namespace

bool sees(const MaskSpec& mask, std::int64_t query_position, std::int64_t key_position) {
  switch (mask.kind) {
    case MaskKind::full: return true;
    case MaskKind::causal: return key_position <= query_position;
    case MaskKind::window: break;
  }
  return key_position <= query_position && key_position > query_position - mask.window;
}

AttentionGeometry geometry_of(const Program& program, const std::optional<AttentionBlock>& block) {
  AttentionGeometry geometry = program.attention;
  if (!block || !block->first_half) {
    return geometry;
  }
  check(geometry.ring == 1 || geometry.order != SequenceOrder::contiguous,
        "first halves of contiguous shards are not the first half of the sequence");
  geometry.sequence /= 2;
  if (geometry.order == SequenceOrder::zigzag) {
    geometry.order = SequenceOrder::contiguous;
  }
  return geometry;
}

namespace {

// Striped queries against keys in natural order are not bands; against shard after shard they are.
std::vector<AttentionCall> calls_of_striped_shards(const AttentionGeometry& geometry,
                                                   std::int64_t query_owner) {
  std::vector<AttentionCall> all;
  for (std::int64_t owner = 0; owner < geometry.ring; ++owner) {
    for (AttentionCall call : attention_calls(geometry, query_owner, owner)) {
      call.key_begin += owner * (geometry.sequence / geometry.ring);
      all.push_back(call);
    }
  }
  join_neighbours(all, join);
  return all;
}

}  // namespace

std::vector<AttentionCall> attention_calls(const AttentionGeometry& geometry,
                                           std::int64_t query_owner,
                                           std::optional<std::int64_t> key_owner) {
  if (!key_owner && geometry.order == SequenceOrder::striped && geometry.ring > 1) {
    return calls_of_striped_shards(geometry, query_owner);
  }
  const std::int64_t part = geometry.sequence / geometry.ring;
  const std::int64_t cached = geometry.cached / geometry.ring;
  const bool same_shard = key_owner && *key_owner == query_owner;
  if (same_shard && geometry.mask.kind == MaskKind::causal) {
    // Positions grow with the local index, so one causal call covers the own block.
    return {{0, part, 0, cached + part, simplified({{}, cached}, part, cached + part)}};
  }
  const std::vector<Run> queries = runs_of(geometry, query_owner);
  const std::vector<Run> keys =
      key_owner ? key_runs_of(geometry, *key_owner)
                : std::vector<Run>{{0, geometry.cached + geometry.sequence, -geometry.cached}};
  std::vector<AttentionCall> calls;
  for (const Run& query : queries) {
    for (const Run& key : keys) {
      Band band = band_between(geometry.mask, stride_of(geometry), query, key);
      std::int64_t length = key.length;
      if (band.upper) {
        // Keys behind the last one that the last query sees are not part of the call.
        length = std::min(length, query.length + *band.upper);
      }
      if (length <= 0 || lets_nothing(band, query.length, length)) {
        continue;
      }
      calls.push_back({query.local, query.length, key.local, length,
                       simplified(band, query.length, length)});
    }
  }
  join_neighbours(calls, join);
  if (cached > 0) {
    join_neighbours(calls, join_cached);
  }
  return calls;
}

}  // namespace longhaul
