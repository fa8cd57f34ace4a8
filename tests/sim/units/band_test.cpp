// The closed form of attended pairs equals counting them one by one.
#include "sim/units/band.h"

#include <catch2/catch.hpp>
#include <vector>

#include "sim/units/check.h"

using namespace longhaul;

namespace {

double counted(const Band& band, std::int64_t queries, std::int64_t keys) {
  double pairs = 0;
  for (std::int64_t i = 0; i < queries; ++i) {
    for (std::int64_t j = 0; j < keys; ++j) {
      pairs += band.lets(i, j) ? 1 : 0;
    }
  }
  return pairs;
}

}  // namespace

TEST_CASE("the closed form equals the count for every small block and band, empty ones included") {
  std::vector<std::optional<std::int64_t>> ends{std::nullopt};
  for (std::int64_t end = -9; end <= 9; ++end) {
    ends.emplace_back(end);
  }
  int differences = 0;
  int cases = 0;
  for (std::int64_t queries = 0; queries <= 7; ++queries) {
    for (std::int64_t keys = 0; keys <= 7; ++keys) {
      for (const auto& lower : ends) {
        for (const auto& upper : ends) {
          const Band band{lower, upper};
          const double pairs = attended_pairs(band, queries, keys);
          differences += pairs == counted(band, queries, keys) ? 0 : 1;
          ++cases;
        }
      }
    }
  }
  CHECK(differences == 0);
  CHECK(cases == 8 * 8 * 20 * 20);
}

TEST_CASE("causal attention on n positions has n (n + 1) / 2 pairs, exactly up to 2^53") {
  const std::int64_t n = std::int64_t{1} << 26;
  CHECK(attended_pairs({std::nullopt, 0}, n, n) == 0x1p51 + 0x1p25);
  CHECK(attended_pairs({std::nullopt, std::nullopt}, n, n) == 0x1p52);
}

TEST_CASE("a window on a very long sequence stays exact though whole blocks would not be") {
  // Each query sees 3 keys, but the first two see 1 and 2.
  const std::int64_t n = (std::int64_t{1} << 40) + 1;
  CHECK(attended_pairs({-2, 0}, n, n) == 3.0 * static_cast<double>(n) - 3.0);
}

TEST_CASE("the ends of a band may be as far out as integers go") {
  CHECK(attended_pairs({INT64_MIN, INT64_MAX}, 5, 6) == 30.0);
  CHECK(attended_pairs({INT64_MAX, INT64_MAX}, 5, 6) == 0.0);
  CHECK(attended_pairs({INT64_MIN, INT64_MIN}, 5, 6) == 0.0);
  CHECK(attended_pairs({INT64_MAX, INT64_MIN}, 5, 6) == 0.0);
}

TEST_CASE("a block with a negative side is a bug of ours") {
  CHECK_THROWS_AS(attended_pairs({}, -1, 4), BugError);
  CHECK_THROWS_AS(attended_pairs({}, 4, -1), BugError);
}
