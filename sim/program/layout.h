// Where a rank's part of a tensor lies in the whole.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/program/program.h"

namespace longhaul {

/// Global index of local index `local` of a dimension that is `local_size` long on this rank and
/// dealt by `shards` (outermost cut first). A bijection over ranks and local indices.
std::int64_t global_index(const Mesh& mesh, const std::vector<Shard>& shards, std::int64_t local_size,
                          RankId rank, std::int64_t local);
/// Length of the whole dimension.
std::int64_t global_size(const Mesh& mesh, const std::vector<Shard>& shards, std::int64_t local_size);

/// Global token position of local token `local` of ring shard `owner`.
std::int64_t token_position(const AttentionGeometry& geometry, std::int64_t owner, std::int64_t local);

}  // namespace longhaul
