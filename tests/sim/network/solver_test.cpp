// The incremental solver under churn, against a textbook solution of every moment.
#include <algorithm>
#include <catch2/catch.hpp>
#include <limits>
#include <map>
#include <random>

#include "sim/network/flow_network.h"
#include "sim/network/uncongested.h"

using namespace longhaul;

namespace {

struct Moving {
  std::vector<LinkId> links;
  std::vector<std::uint32_t> weights;
  double cap;
};

// Progressive filling with weights: all rates grow together until a link or a cap stops some.
std::map<std::uint32_t, double> textbook(const std::vector<double>& capacity,
                                         const std::map<std::uint32_t, Moving>& flows) {
  std::map<std::uint32_t, double> rate;
  std::vector<double> left = capacity;
  while (rate.size() < flows.size()) {
    std::vector<double> users(capacity.size(), 0.0);
    double level = std::numeric_limits<double>::infinity();
    for (const auto& [id, flow] : flows) {
      if (rate.count(id) == 0) {
        level = std::min(level, flow.cap);
        for (std::size_t i = 0; i < flow.links.size(); ++i) {
          users[flow.links[i].index] += flow.weights[i];
        }
      }
    }
    for (std::size_t link = 0; link < capacity.size(); ++link) {
      level = users[link] > 0.0 ? std::min(level, left[link] / users[link]) : level;
    }
    const double met = level * (1.0 + 1e-12);
    std::vector<std::uint32_t> fixed;
    for (const auto& [id, flow] : flows) {
      bool stops = flow.cap <= met;
      for (const LinkId link : flow.links) {
        stops = stops || left[link.index] / users[link.index] <= met;
      }
      if (rate.count(id) == 0 && stops) {
        fixed.push_back(id);
      }
    }
    for (const std::uint32_t id : fixed) {
      rate[id] = level;
      const Moving& flow = flows.at(id);
      for (std::size_t i = 0; i < flow.links.size(); ++i) {
        left[flow.links[i].index] -= flow.weights[i] * level;
      }
    }
  }
  return rate;
}

// One random network and a random history on it; checks all rates after every event.
class Churn {
 public:
  explicit Churn(unsigned seed, bool weighted)
      : random_(seed), weighted_(weighted), capacity_(make_capacities()), network_(rates()) {}

  void run(int flows) {
    for (int started = 0; started < flows || network_.next_event() != SimTime::infinity();) {
      const bool start = started < flows && (random_() % 3 != 0 || moving_.empty());
      if (start) {
        start_one();
        ++started;
      } else if (network_.next_event() != SimTime::infinity()) {
        advance();
      }
    }
  }

 private:
  std::vector<double> make_capacities() {
    std::vector<double> all(2 + random_() % 10);
    for (double& capacity : all) {
      capacity = random_() % 3 == 0 ? 50e9 : 1e9 * static_cast<double>(1 + random_() % 100);
    }
    return all;
  }
  std::vector<BytesPerSecond> rates() const {
    std::vector<BytesPerSecond> all;
    for (const double capacity : capacity_) {
      all.push_back(BytesPerSecond::of(capacity));
    }
    return all;
  }

  void start_one() {
    Moving flow;
    for (std::size_t link = 0; link < capacity_.size(); ++link) {
      if (random_() % capacity_.size() < 2) {
        flow.links.emplace_back(link);
        flow.weights.push_back(weighted_ ? 1 + static_cast<std::uint32_t>(random_() % 4) : 1);
      }
    }
    flow.cap = random_() % 4 == 0 ? 1e9 * static_cast<double>(1 + random_() % 30) : 1e30;
    if (flow.links.empty()) {
      flow.links.emplace_back(random_() % capacity_.size());
      flow.weights.push_back(1);
    }
    FlowSpec spec{flow.links, Bytes::of(1e6 * static_cast<double>(1 + random_() % 50)),
                  Seconds::of(1e-6 * static_cast<double>(random_() % 4)),
                  BytesPerSecond::of(flow.cap), flow.weights};
    waiting_[network_.start(spec, now_).index] = flow;
  }

  void advance() {
    now_ = network_.next_event();
    std::vector<FlowId> done;
    network_.advance(now_, done);
    for (const FlowId flow : done) {
      REQUIRE(moving_.erase(flow.index) == 1);
    }
    for (auto next = waiting_.begin(); next != waiting_.end();) {
      const bool moves = network_.rate(FlowId(next->first)).value() > 0.0;
      if (moves) {
        moving_.insert(*next);
      }
      next = moves ? waiting_.erase(next) : std::next(next);
    }
    const auto wanted = textbook(capacity_, moving_);
    for (const auto& [id, rate] : wanted) {
      REQUIRE_THAT(network_.rate(FlowId(id)).value(), Catch::Matchers::WithinRel(rate, 1e-9));
    }
  }

  std::mt19937 random_;
  bool weighted_;
  std::vector<double> capacity_;
  FlowNetwork network_;
  SimTime now_;
  std::map<std::uint32_t, Moving> waiting_;
  std::map<std::uint32_t, Moving> moving_;
};

}  // namespace

TEST_CASE("after every event of random histories all rates are those of the textbook") {
  for (unsigned seed = 1; seed <= 150; ++seed) {
    INFO("seed " << seed);
    Churn(seed, false).run(40);
    Churn(seed, true).run(40);
  }
}

TEST_CASE("a flow that shares no link takes the closed form; sharing never makes it faster") {
  std::mt19937 random(7);
  for (int round = 0; round < 100; ++round) {
    const auto any = [&](unsigned below) { return static_cast<double>(random() % below); };
    std::vector<BytesPerSecond> capacities;
    for (int link = 0; link < 4; ++link) {
      capacities.push_back(BytesPerSecond::of(1e9 * (1.0 + any(90))));
    }
    const std::vector<LinkId> first{LinkId(0), LinkId(1)};
    const std::vector<LinkId> second{LinkId(2), LinkId(3)};
    const std::vector<LinkId> crossing{LinkId(1), LinkId(2)};
    const FlowSpec mine{first, Bytes::of(1e6 + any(1000000)), Seconds::of(2e-6)};
    const FlowSpec apart{second, Bytes::of(5e6), Seconds::of(1e-6)};
    const FlowSpec across{crossing, Bytes::of(5e6), Seconds::of(1e-6)};
    const auto time_of_first = [&](const FlowSpec& other) {
      FlowNetwork network(capacities);
      const FlowId flow = network.start(mine, SimTime());
      network.start(other, SimTime());
      std::vector<FlowId> done;
      for (;;) {
        const SimTime now = network.next_event();
        done.clear();
        network.advance(now, done);
        if (std::find(done.begin(), done.end(), flow) != done.end()) {
          return now.seconds().value();
        }
      }
    };
    const double alone = uncongested_time(mine, capacities).value();
    const double two_ticks = 2.0 / SimTime::ticks_per_second;
    CHECK_THAT(time_of_first(apart), Catch::Matchers::WithinAbs(alone, two_ticks));
    CHECK(time_of_first(across) >= alone - two_ticks);
  }
}

TEST_CASE("links of very different bandwidth keep their accuracy") {
  // A terabit backbone and a flow that gets 10 MB/s of its own thin link.
  FlowNetwork network({BytesPerSecond::of(57.6e12), BytesPerSecond::of(20e6)});
  const std::vector<LinkId> both{LinkId(0), LinkId(1)};
  const FlowId a = network.start({both, Bytes::of(1e9), Seconds()}, SimTime());
  const FlowId b = network.start({both, Bytes::of(1e9), Seconds()}, SimTime());
  std::vector<FlowId> done;
  network.advance(network.next_event(), done);
  CHECK_THAT(network.rate(a).value(), Catch::Matchers::WithinRel(10e6, 1e-9));
  CHECK_THAT(network.rate(b).value(), Catch::Matchers::WithinRel(10e6, 1e-9));
}

TEST_CASE("links without limit slow nobody and can be all that a flow crosses") {
  FlowNetwork network({BytesPerSecond::of(1e30), BytesPerSecond::of(1e9)});
  const std::vector<LinkId> endless{LinkId(0)};
  const std::vector<LinkId> both{LinkId(0), LinkId(1)};
  network.start({endless, Bytes::of(1e12), Seconds::of(1.0)}, SimTime());
  network.start({endless, Bytes::of(1e12), Seconds::of(1.0)}, SimTime());
  network.start({both, Bytes::of(1e9), Seconds::of(1.0)}, SimTime());
  std::vector<double> ends;
  std::vector<FlowId> done;
  while (network.next_event() != SimTime::infinity()) {
    const SimTime now = network.next_event();
    done.clear();
    network.advance(now, done);
    ends.insert(ends.end(), done.size(), now.seconds().value());
  }
  CHECK(ends == std::vector<double>{1.0, 1.0, 2.0});
}
