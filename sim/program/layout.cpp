#include "sim/program/layout.h"

#include "sim/units/check.h"

namespace longhaul {

namespace {

// Place in the whole list of length parts * part of entry i of part `owner`.
std::int64_t place_in_whole(SequenceOrder order, std::int64_t parts, std::int64_t part,
                            std::int64_t owner, std::int64_t i) {
  switch (order) {
    case SequenceOrder::contiguous: return owner * part + i;
    case SequenceOrder::striped: return i * parts + owner;
    case SequenceOrder::zigzag: break;
  }
  check(part % 2 == 0, "a zigzag shard holds two equal chunks");
  const std::int64_t chunk = part / 2;
  return i < chunk ? owner * chunk + i : (2 * parts - 1 - owner) * chunk + (i - chunk);
}

// The same where each of `shard.chunks` chunks of the whole is dealt by itself.
std::int64_t place_in_chunks(const Shard& shard, std::int64_t parts, std::int64_t part,
                             std::int64_t owner, std::int64_t i) {
  check(shard.chunks >= 1 && part % shard.chunks == 0, "a rank has an equal share of every chunk");
  const std::int64_t share = part / shard.chunks;
  return i / share * share * parts +
         place_in_whole(shard.order, parts, share, owner, i % share);
}

}  // namespace

std::int64_t global_size(const Mesh& mesh, const std::vector<Shard>& shards,
                         std::int64_t local_size) {
  for (const Shard& shard : shards) {
    local_size *= mesh.size(shard.axis);
  }
  return local_size;
}

std::int64_t global_index(const Mesh& mesh, const std::vector<Shard>& shards,
                          std::int64_t local_size, RankId rank, std::int64_t local) {
  std::int64_t part = local_size;
  std::int64_t index = local;
  for (auto shard = shards.rbegin(); shard != shards.rend(); ++shard) {
    const std::int64_t parts = mesh.size(shard->axis);
    index = place_in_chunks(*shard, parts, part, mesh.coordinate(rank, shard->axis), index);
    part *= parts;
  }
  return index;
}

std::int64_t token_position(const AttentionGeometry& geometry, std::int64_t owner,
                            std::int64_t local) {
  const std::int64_t part = geometry.sequence / geometry.ring;
  return place_in_whole(geometry.order, geometry.ring, part, owner, local);
}

}  // namespace longhaul
