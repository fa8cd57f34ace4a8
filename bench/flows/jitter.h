// Pseudo-random numbers of the reference workloads.
#pragma once

#include <cstdint>

namespace longhaul::bench {

/// The finaliser of Steele, Lea and Flood's SplitMix (OOPSLA 2014).
inline std::uint64_t splitmix64(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

/// Factor of GPU g's i-th computation: 1 to 1.0999.
inline double jitter_factor(std::int64_t g, std::int64_t i) {
  const std::uint64_t hash = splitmix64(static_cast<std::uint64_t>(g * 1000003 + i));
  return 1.0 + static_cast<double>(hash % 1000) * 1e-4;
}

}  // namespace longhaul::bench
