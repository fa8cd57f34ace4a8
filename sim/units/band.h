// Band masks: the one shape of attention mask that every ring step needs.
#pragma once

#include <cstdint>
#include <compare>
#include <optional>

namespace longhaul {

/// A band on local indices: query i sees key j iff lower <= j - i <= upper (either end may be
/// open). Full attention: both open. Causal on equal positions: upper = 0. Sliding window of w
/// keys on equal positions: lower = 1 - w, upper = 0.
struct Band {
  std::optional<std::int64_t> lower;
  std::optional<std::int64_t> upper;
  auto operator<=>(const Band&) const = default;  ///< no bound before any bound, then by value
  [[nodiscard]] bool lets(std::int64_t query, std::int64_t key) const {
    return (!lower || key - query >= *lower) && (!upper || key - query <= *upper);
  }
};

/// Pairs (i, j), 0 <= i < queries, 0 <= j < keys, that a band lets through. Closed form, exact
/// below 2^53.
double attended_pairs(const Band& band, std::int64_t queries, std::int64_t keys);

}  // namespace longhaul
