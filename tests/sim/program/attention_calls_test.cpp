// The calls of every ring step cover exactly the pairs the mask lets through, once each.
#include <catch2/catch.hpp>
#include <map>

#include "sim/program/attention_calls.h"
#include "sim/program/layout.h"

using namespace longhaul;

namespace {

AttentionGeometry geometry_of(std::int64_t sequence, std::int64_t ring, SequenceOrder order,
                              MaskSpec mask) {
  return {sequence, ring, order, mask};
}

// How often each (query, key) pair of the whole sequence is attended, over all ring steps.
std::map<std::pair<std::int64_t, std::int64_t>, int> covered(const AttentionGeometry& geometry) {
  std::map<std::pair<std::int64_t, std::int64_t>, int> count;
  for (std::int64_t query_owner = 0; query_owner < geometry.ring; ++query_owner) {
    for (std::int64_t key_owner = 0; key_owner < geometry.ring; ++key_owner) {
      for (const AttentionCall& call : attention_calls(geometry, query_owner, key_owner)) {
        for (std::int64_t i = 0; i < call.queries; ++i) {
          for (std::int64_t j = 0; j < call.keys; ++j) {
            if (call.band.lets(i, j)) {
              ++count[{token_position(geometry, query_owner, call.query_begin + i),
                       token_position(geometry, key_owner, call.key_begin + j)}];
            }
          }
        }
      }
    }
  }
  return count;
}

void check_coverage(const AttentionGeometry& geometry) {
  const auto count = covered(geometry);
  for (std::int64_t query = 0; query < geometry.sequence; ++query) {
    for (std::int64_t key = 0; key < geometry.sequence; ++key) {
      const auto found = count.find({query, key});
      const int times = found == count.end() ? 0 : found->second;
      const int wanted = sees(geometry.mask, query, key) ? 1 : 0;
      if (times != wanted) {
        FAIL("query " << query << " key " << key << " attended " << times << " times");
      }
    }
  }
}

}  // namespace

TEST_CASE("every pair the mask lets through is attended once, and no other") {
  const MaskSpec masks[] = {{MaskKind::causal, 0}, {MaskKind::full, 0}, {MaskKind::window, 1},
                            {MaskKind::window, 5}, {MaskKind::window, 1000}};
  for (const SequenceOrder order :
       {SequenceOrder::contiguous, SequenceOrder::zigzag, SequenceOrder::striped}) {
    for (const std::int64_t ring : {1, 2, 3, 4, 5}) {
      for (const MaskSpec& mask : masks) {
        check_coverage(geometry_of(ring * 6, ring, order, mask));
      }
    }
  }
}

TEST_CASE("behind a cache every query meets each key that its mask lets through once") {
  // Global positions: cached keys 0 .. 19, tokens from 20 on. Keys of a shard are its cached ones first.
  const std::int64_t cached = 20;
  for (const SequenceOrder order :
       {SequenceOrder::contiguous, SequenceOrder::zigzag, SequenceOrder::striped}) {
    for (const std::int64_t ring : {1, 2, 4, 5}) {
      for (const MaskSpec& mask : {MaskSpec{MaskKind::causal, 0}, MaskSpec{MaskKind::full, 0},
                                   MaskSpec{MaskKind::window, 7}, MaskSpec{MaskKind::window, 30}}) {
        AttentionGeometry geometry = geometry_of(ring * 4, ring, order, mask);
        geometry.cached = cached;
        const bool striped = order == SequenceOrder::striped;
        const AttentionGeometry before =
            geometry_of(cached, ring, striped ? order : SequenceOrder::contiguous, mask);
        std::map<std::pair<std::int64_t, std::int64_t>, int> count;
        for (std::int64_t query = 0; query < ring; ++query) {
          for (std::int64_t key = 0; key < ring; ++key) {
            for (const AttentionCall& call : attention_calls(geometry, query, key)) {
              for (std::int64_t i = 0; i < call.queries * call.keys; ++i) {
                if (!call.band.lets(i / call.keys, i % call.keys)) {
                  continue;
                }
                const std::int64_t local = call.key_begin + i % call.keys;
                const std::int64_t position =
                    local < cached / ring
                        ? token_position(before, key, local)
                        : cached + token_position(geometry, key, local - cached / ring);
                ++count[{cached + token_position(geometry, query,
                                                 call.query_begin + i / call.keys),
                         position}];
              }
            }
          }
        }
        std::size_t wanted = 0;
        for (std::int64_t query = cached; query < cached + ring * 4; ++query) {
          for (std::int64_t key = 0; key < cached + ring * 4; ++key) {
            wanted += sees(mask, query, key) ? 1 : 0;
            const auto found = count.find({query, key});
            const int times = found == count.end() ? 0 : found->second;
            INFO("ring " << ring << ", query " << query << ", key " << key);
            REQUIRE(times == (sees(mask, query, key) ? 1 : 0));
          }
        }
        REQUIRE(count.size() == wanted);
      }
    }
  }
}

TEST_CASE("cached keys are part of the calls for the others where these have as many queries") {
  AttentionGeometry geometry = geometry_of(64, 4, SequenceOrder::zigzag, {MaskKind::causal, 0});
  geometry.cached = 400;
  SECTION("own block: one causal call, shifted by what is cached") {
    const auto calls = attention_calls(geometry, 1, 1);
    REQUIRE(calls.size() == 1);
    CHECK(calls[0].queries == 16);
    CHECK(calls[0].keys == 116);
    CHECK(calls[0].band == Band{{}, 100});
  }
  SECTION("keys of an earlier rank: all queries, cached keys and the first half of the others") {
    const auto calls = attention_calls(geometry, 2, 1);
    REQUIRE(calls.size() == 1);
    CHECK(calls[0].queries == 16);
    CHECK(calls[0].keys == 108);
    CHECK(calls[0].band == Band{});
  }
  SECTION("keys of a later rank: all queries see the cached ones, the later half the others") {
    const auto calls = attention_calls(geometry, 1, 2);
    REQUIRE(calls.size() == 2);
    CHECK(calls[0].queries == 16);
    CHECK(calls[0].keys == 100);
    CHECK(calls[1].query_begin == 8);
    CHECK(calls[1].key_begin == 100);
    CHECK(calls[1].keys == 16);
  }
  SECTION("striped keys of another rank: one causal call") {
    geometry.order = SequenceOrder::striped;
    const auto calls = attention_calls(geometry, 1, 2);
    REQUIRE(calls.size() == 1);
    CHECK(calls[0].keys == 115);
    CHECK(calls[0].band == Band{{}, 99});
  }
}

TEST_CASE("a causal zigzag ring needs one call per step, with the shapes of the literature") {
  const auto geometry = geometry_of(64, 4, SequenceOrder::zigzag, {MaskKind::causal, 0});
  SECTION("own block: one causal call") {
    const auto calls = attention_calls(geometry, 1, 1);
    REQUIRE(calls.size() == 1);
    CHECK(calls[0].queries == 16);
    CHECK(calls[0].keys == 16);
    CHECK(calls[0].band == Band{{}, 0});
  }
  SECTION("keys of an earlier rank: all queries, first half of the keys, no mask") {
    const auto calls = attention_calls(geometry, 2, 1);
    REQUIRE(calls.size() == 1);
    CHECK(calls[0].queries == 16);
    CHECK(calls[0].keys == 8);
    CHECK(calls[0].band == Band{});
  }
  SECTION("keys of a later rank: second half of the queries, all keys, no mask") {
    const auto calls = attention_calls(geometry, 1, 2);
    REQUIRE(calls.size() == 1);
    CHECK(calls[0].query_begin == 8);
    CHECK(calls[0].queries == 8);
    CHECK(calls[0].keys == 16);
    CHECK(calls[0].band == Band{});
  }
}

TEST_CASE("a contiguous causal ring has nothing to do with keys of later ranks") {
  const auto geometry = geometry_of(32, 4, SequenceOrder::contiguous, {MaskKind::causal, 0});
  CHECK(attention_calls(geometry, 1, 2).empty());
  CHECK(attention_calls(geometry, 2, 1).size() == 1);
}

TEST_CASE("a full mask is one call per block in every order") {
  for (const SequenceOrder order :
       {SequenceOrder::contiguous, SequenceOrder::zigzag, SequenceOrder::striped}) {
    const auto geometry = geometry_of(32, 4, order, {MaskKind::full, 0});
    CHECK(attention_calls(geometry, 0, 3).size() == 1);
    CHECK(attention_calls(geometry, 2, 2).size() == 1);
  }
}

TEST_CASE("queries against all keys in natural order cover the causal triangle") {
  for (const SequenceOrder order : {SequenceOrder::contiguous, SequenceOrder::zigzag}) {
    const auto geometry = geometry_of(48, 4, order, {MaskKind::causal, 0});
    double pairs = 0;
    for (std::int64_t owner = 0; owner < 4; ++owner) {
      for (const AttentionCall& call : attention_calls(geometry, owner, std::nullopt)) {
        for (std::int64_t i = 0; i < call.queries; ++i) {
          for (std::int64_t j = 0; j < call.keys; ++j) {
            pairs += call.band.lets(i, j) ? 1 : 0;
          }
        }
      }
    }
    CHECK(pairs == 48.0 * 49.0 / 2.0);
  }
}
