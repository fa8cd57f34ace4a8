#include "sim/units/band.h"

#include <algorithm>

#include "sim/units/check.h"

namespace longhaul {

namespace {

// Positions reach 2^40 and their products 2^80: more than int64 holds, so that a narrow band on a
// long sequence (a small difference of two large counts) stays exact.
__extension__ using Wide = __int128;

/// Sum of clamp(v, 0, keys) over all v <= last.
Wide clamped_sum(Wide last, Wide keys) {
  if (last <= 0) {
    return 0;
  }
  const Wide ramp = std::min(last, keys);
  return ramp * (ramp + 1) / 2 + (last - ramp) * keys;
}

/// Pairs with key - query <= upper: query i sees clamp(i + upper + 1, 0, keys) keys.
Wide pairs_up_to(Wide upper, Wide queries, Wide keys) {
  return clamped_sum(queries + upper, keys) - clamped_sum(upper, keys);
}

}  // namespace

double attended_pairs(const Band& band, std::int64_t queries, std::int64_t keys) {
  check(queries >= 0 && keys >= 0, "a block of attention has no negative side");
  const Wide all = Wide{queries} * keys;
  const Wide below_upper = band.upper ? pairs_up_to(*band.upper, queries, keys) : all;
  const Wide below_lower = band.lower ? pairs_up_to(Wide{*band.lower} - 1, queries, keys) : 0;
  return static_cast<double>(std::max<Wide>(below_upper - below_lower, 0));
}

}  // namespace longhaul
