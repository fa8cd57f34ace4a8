// Which ranks, links and flows behave alike: the coarsest equitable partition, by colour
// refinement.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sim/engine/traffic.h"
#include "sim/program/program.h"

namespace longhaul {

/// Colours: equal ones are alike. They are 64-bit hashes of all that makes a difference; two that
/// differ collide once in 2^64.
struct Symmetry {
  std::vector<std::uint64_t> ranks;
  std::vector<std::uint64_t> links;  ///< by LinkId; 0: no flow crosses it
  std::vector<std::uint64_t> communicators;
  std::vector<std::uint64_t> wires;  ///< flows, with the transfer they belong to
};

/// Colours in which every rank and every link is alone: nothing is folded.
Symmetry no_symmetry(const Program& program, const Traffic& traffic,
                     std::span<const BytesPerSecond> capacities);

/// The coarsest colours such that alike ranks do alike work in alike communicators with alike
/// peers, alike flows cross alike links in alike order, and alike links carry as many flows of each
/// colour. Simulating one of each with its multiplicity is then exact: whatever is alike at one
/// instant is alike at the next (docs/decisions/0005-folding.md).
Symmetry find_symmetry(const Program& program, const Traffic& traffic,
                       std::span<const BytesPerSecond> capacities);

}  // namespace longhaul
