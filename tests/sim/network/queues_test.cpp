// The queues of the network against a sorted map.
#include <catch2/catch.hpp>
#include <map>
#include <random>
#include <set>

#include "sim/network/finish_queue.h"
#include "sim/network/latency_queue.h"

using namespace longhaul;

namespace {

std::set<std::uint32_t> pop(FinishQueue& queue) {
  std::vector<std::uint32_t> flows;
  queue.pop(flows);
  return {flows.begin(), flows.end()};
}

}  // namespace

TEST_CASE("flows leave the finish queue in the order of time, equal instants together") {
  std::mt19937 random(11);
  for (int round = 0; round < 50; ++round) {
    FinishQueue queue;
    std::map<std::uint32_t, std::int64_t> wanted;
    for (int i = 0; i < 400; ++i) {
      // Few distinct instants, so that groups form, split and merge.
      const auto flow = static_cast<std::uint32_t>(random() % 60);
      const auto when = static_cast<std::int64_t>(random() % 25);
      queue.set(flow, when);
      wanted[flow] = when;
      if (i % 7 == 6) {
        const std::int64_t soonest = queue.next();
        std::set<std::uint32_t> expected;
        for (const auto& [other, instant] : wanted) {
          REQUIRE(instant >= soonest);
          if (instant == soonest) {
            expected.insert(other);
          }
        }
        std::set<std::uint32_t> popped;
        while (queue.next() == soonest) {
          popped.merge(pop(queue));
        }
        REQUIRE(popped == expected);
        for (const std::uint32_t other : popped) {
          wanted.erase(other);
        }
      }
    }
  }
}

TEST_CASE("latencies end in the order of time, however many distinct ones there are") {
  for (const int kinds : {1, 3, 8, 40}) {  // lanes for up to eight, a heap beyond
    std::mt19937 random(5);
    LatencyQueue queue;
    std::multimap<std::int64_t, std::uint32_t> wanted;
    std::int64_t now = 0;
    for (std::uint32_t flow = 0; flow < 500; ++flow) {
      const std::int64_t latency = static_cast<std::int64_t>(random() % kinds) * 10;
      queue.push(flow, now, latency);
      wanted.emplace(now + latency, flow);
      while (!wanted.empty() && random() % 2 == 0) {
        REQUIRE(queue.next() == wanted.begin()->first);
        now = queue.next();
        std::vector<std::uint32_t> flows;
        queue.pop(flows);
        REQUIRE(flows.size() == wanted.count(now));
        wanted.erase(now);
      }
    }
  }
}
