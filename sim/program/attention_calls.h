// Which kernel calls one block of a ring step needs.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "sim/program/program.h"
#include "sim/units/band.h"

namespace longhaul {

/// One kernel call: local queries [query_begin, +queries) against local keys [key_begin, +keys)
/// under a band on indices local to the call.
struct AttentionCall {
  std::int64_t query_begin = 0;
  std::int64_t queries = 0;
  std::int64_t key_begin = 0;
  std::int64_t keys = 0;
  Band band;
};

/// The attention problem that a block is part of: the program's, or its first half.
AttentionGeometry geometry_of(const Program& program, const std::optional<AttentionBlock>& block);

/// The calls for queries of one shard against keys of another (`key_owner` absent: all keys in
/// natural order, of striped sequences one shard after another), empty ones dropped, whole ones merged: for a causal zigzag ring this is one
/// causal call on the own block, all queries x the first half of the keys of an earlier rank, the
/// second half of the queries x all keys of a later one. Cached keys are a shard's first; calls
/// begin with them.
std::vector<AttentionCall> attention_calls(const AttentionGeometry& geometry, std::int64_t query_owner,
                                           std::optional<std::int64_t> key_owner);

/// The same set by looking at every pair: the oracle of the tests. O(n^2).
bool sees(const MaskSpec& mask, std::int64_t query_position, std::int64_t key_position);

}  // namespace longhaul
