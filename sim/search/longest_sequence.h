// The longest sequence that fits.
#pragma once

#include <cstdint>
#include <optional>

#include "sim/scenario/read_scenario.h"

namespace longhaul {

/// The longest sequence with which the scenario fits in device memory, everything else as drafted:
/// bracketed by doubling or halving the draft's own length, then bisected until the length that
/// fits and the one that does not are 1.5 % apart. Lengths are multiples of twice the ranks that
/// share a sequence, so that every order can deal them. Nothing where the draft itself is refused,
/// and 0 where not even the shortest such length fits. Assumes that longer needs more memory.
std::optional<std::int64_t> longest_sequence(const ScenarioDraft& draft);

}  // namespace longhaul
