// Division of counts.
#pragma once

#include <cstdint>

namespace longhaul {

/// Least n with n * part >= whole, for part > 0 and whole > -part: how many
/// parts cover a whole.
constexpr std::int64_t ceil_divide(std::int64_t whole, std::int64_t part) {
  return (whole + part - 1) / part;
}

}  // namespace longhaul
