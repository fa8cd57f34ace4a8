// Max-min sharing: closed forms, the textbook algorithm as an oracle, and laws.
#include <algorithm>
#include <catch2/catch.hpp>
#include <random>

#include "sim/network/flow_network.h"

using namespace longhaul;

namespace {

std::vector<BytesPerSecond> links(std::initializer_list<double> rates) {
  std::vector<BytesPerSecond> made;
  for (const double rate : rates) {
    made.push_back(BytesPerSecond::of(rate));
  }
  return made;
}

FlowSpec spec(const std::vector<LinkId>& route, double bytes, double latency = 0.0,
              double cap = 1e30) {
  return {route, Bytes::of(bytes), Seconds::of(latency), BytesPerSecond::of(cap)};
}

// Runs to the end; the instant each flow completed, by id.
std::vector<double> completions(FlowNetwork& network, std::size_t flows) {
  std::vector<double> when(flows, -1.0);
  std::vector<FlowId> done;
  while (network.next_event() != SimTime::infinity()) {
    const SimTime now = network.next_event();
    done.clear();
    network.advance(now, done);
    for (const FlowId flow : done) {
      when[flow.index] = now.seconds().value();
    }
  }
  return when;
}

const LinkId a(0);
const LinkId b(1);
const LinkId c(2);

// Progressive filling as textbooks have it: all links and caps grow with one level.
std::vector<double> textbook_rates(const std::vector<double>& capacity,
                                   const std::vector<std::vector<LinkId>>& routes,
                                   const std::vector<double>& caps) {
  std::vector<double> rate(routes.size(), -1.0);
  std::vector<double> left = capacity;
  for (std::size_t fixed = 0; fixed < routes.size();) {
    std::vector<int> users(capacity.size(), 0);
    for (std::size_t flow = 0; flow < routes.size(); ++flow) {
      for (const LinkId link : routes[flow]) {
        users[link.index] += rate[flow] < 0 ? 1 : 0;
      }
    }
    double level = 1e300;
    for (std::size_t link = 0; link < capacity.size(); ++link) {
      if (users[link] > 0) {
        level = std::min(level, left[link] / users[link]);
      }
    }
    for (std::size_t flow = 0; flow < routes.size(); ++flow) {
      level = rate[flow] < 0 ? std::min(level, caps[flow]) : level;
    }
    std::vector<std::size_t> chosen;
    for (std::size_t flow = 0; flow < routes.size(); ++flow) {
      bool met = caps[flow] <= level * (1 + 1e-12);
      for (const LinkId link : routes[flow]) {
        met = met || left[link.index] / users[link.index] <= level * (1 + 1e-12);
      }
      if (rate[flow] < 0 && met) {
        chosen.push_back(flow);
      }
    }
    for (const std::size_t flow : chosen) {
      rate[flow] = level;
      ++fixed;
      for (const LinkId link : routes[flow]) {
        left[link.index] -= level;
      }
    }
  }
  return rate;
}

}  // namespace

TEST_CASE("one flow takes its latency and then its bytes at the slowest link") {
  FlowNetwork network(links({100.0, 50.0}));
  const std::vector<LinkId> route{a, b};
  network.start(spec(route, 200.0, 0.5), SimTime());
  CHECK_THAT(completions(network, 1)[0], Catch::Matchers::WithinRel(0.5 + 4.0, 1e-12));
}

TEST_CASE("two flows on one link get half each, and all of it when alone again") {
  FlowNetwork network(links({100.0}));
  const std::vector<LinkId> route{a};
  network.start(spec(route, 100.0), SimTime());
  network.start(spec(route, 300.0), SimTime());
  const auto when = completions(network, 2);
  CHECK_THAT(when[0], Catch::Matchers::WithinRel(2.0, 1e-12));
  CHECK_THAT(when[1], Catch::Matchers::WithinRel(2.0 + 200.0 / 100.0, 1e-12));
}

TEST_CASE("no bandwidth is used before the latency is over") {
  FlowNetwork network(links({100.0}));
  const std::vector<LinkId> route{a};
  const FlowId late = network.start(spec(route, 100.0, 1.0), SimTime());
  const FlowId early = network.start(spec(route, 100.0), SimTime());
  std::vector<FlowId> done;
  network.advance(network.next_event(), done);
  CHECK(network.rate(early).value() == 100.0);
  CHECK(network.rate(late).value() == 0.0);
}

TEST_CASE("a capped flow leaves the rest to the others") {
  FlowNetwork network(links({100.0}));
  const std::vector<LinkId> route{a};
  const FlowId capped = network.start(spec(route, 1000.0, 0.0, 10.0), SimTime());
  const FlowId free = network.start(spec(route, 1000.0), SimTime());
  std::vector<FlowId> done;
  network.advance(network.next_event(), done);
  CHECK(network.rate(capped).value() == 10.0);
  CHECK(network.rate(free).value() == 90.0);
}

TEST_CASE("the classic line of three links: the long flow gets the least") {
  // A long flow over a, b, c; one more flow on b, two more on c.
  FlowNetwork network(links({10.0, 10.0, 10.0}));
  const std::vector<LinkId> all{a, b, c};
  const std::vector<LinkId> only_b{b};
  const std::vector<LinkId> only_c{c};
  const FlowId whole = network.start(spec(all, 1e6), SimTime());
  const FlowId on_b = network.start(spec(only_b, 1e6), SimTime());
  const FlowId on_c = network.start(spec(only_c, 1e6), SimTime());
  network.start(spec(only_c, 1e6), SimTime());
  std::vector<FlowId> done;
  network.advance(network.next_event(), done);
  CHECK_THAT(network.rate(whole).value(), Catch::Matchers::WithinRel(10.0 / 3.0, 1e-12));
  CHECK_THAT(network.rate(on_b).value(), Catch::Matchers::WithinRel(20.0 / 3.0, 1e-12));
  CHECK_THAT(network.rate(on_c).value(), Catch::Matchers::WithinRel(10.0 / 3.0, 1e-12));
}

TEST_CASE("a flow of no bytes, or over no links, is over after its latency") {
  FlowNetwork network(links({100.0}));
  const std::vector<LinkId> route{a};
  const std::vector<LinkId> nowhere;
  network.start(spec(route, 0.0, 0.25), SimTime());
  network.start(spec(nowhere, 1e9, 0.5), SimTime());
  const auto when = completions(network, 2);
  CHECK(when[0] == 0.25);
  CHECK(when[1] == 0.5);
}

TEST_CASE("rates of random networks equal textbook progressive filling") {
  std::mt19937 random(12345);  // the seed is part of the test
  for (int round = 0; round < 500; ++round) {
    const std::size_t link_count = 1 + random() % 8;
    std::vector<double> capacity;
    std::vector<BytesPerSecond> rates;
    for (std::size_t i = 0; i < link_count; ++i) {
      capacity.push_back(1.0 + static_cast<double>(random() % 100));
      rates.push_back(BytesPerSecond::of(capacity.back()));
    }
    FlowNetwork network(rates);
    std::vector<std::vector<LinkId>> routes;
    std::vector<double> caps;
    std::vector<FlowId> flows;
    for (std::size_t i = 0; i < 1 + random() % 12; ++i) {
      std::vector<LinkId> route;
      for (std::size_t link = 0; link < link_count; ++link) {
        if (random() % 3 == 0) {
          route.emplace_back(link);
        }
      }
      if (route.empty()) {
        route.emplace_back(random() % link_count);
      }
      routes.push_back(route);
      caps.push_back(random() % 4 == 0 ? 1.0 + static_cast<double>(random() % 30) : 1e30);
    }
    for (std::size_t i = 0; i < routes.size(); ++i) {
      flows.push_back(network.start(spec(routes[i], 1e4, 0.0, caps[i]), SimTime()));
    }
    std::vector<FlowId> done;
    network.advance(network.next_event(), done);
    const auto wanted = textbook_rates(capacity, routes, caps);
    for (std::size_t i = 0; i < flows.size(); ++i) {
      INFO("round " << round << " flow " << i);
      CHECK_THAT(network.rate(flows[i]).value(), Catch::Matchers::WithinRel(wanted[i], 1e-9));
    }
  }
}

TEST_CASE("bytes are conserved on every link") {
  FlowNetwork network(links({100.0, 70.0, 30.0}));
  const std::vector<std::vector<LinkId>> routes{{a, b}, {b, c}, {a}, {c}};
  double sum_b = 0.0;
  for (std::size_t i = 0; i < routes.size(); ++i) {
    const double bytes = 100.0 * static_cast<double>(i + 1);
    network.start(spec(routes[i], bytes), SimTime());
    sum_b += i < 2 ? bytes : 0.0;
  }
  completions(network, routes.size());
  CHECK(network.bytes_by_link()[1] == sum_b);
}

TEST_CASE("a workload started later is the same workload later, tick by tick") {
  const auto run = [](SimTime start) {
    FlowNetwork network(links({100.0, 70.0, 30.0}));
    const std::vector<std::vector<LinkId>> routes{{a, b}, {b, c}, {a}, {c}};
    std::vector<std::int64_t> ticks;
    std::vector<FlowId> done;
    network.start(spec(routes[0], 123.0, 0.001), start);
    network.start(spec(routes[1], 77.0, 0.002), start);
    network.start(spec(routes[2], 55.0), start);
    network.start(spec(routes[3], 31.0, 0.1), start);
    while (network.next_event() != SimTime::infinity()) {
      const SimTime now = network.next_event();
      network.advance(now, done);
      ticks.push_back((now - start).ticks());
    }
    return ticks;
  };
  CHECK(run(SimTime()) == run(SimTime::of_ticks(987654321987)));
}

TEST_CASE("more bandwidth never completes a lone flow later") {
  double last = 1e300;
  for (const double rate : {10.0, 20.0, 40.0, 1000.0}) {
    FlowNetwork network(links({rate}));
    const std::vector<LinkId> route{a};
    network.start(spec(route, 100.0), SimTime());
    const double time = completions(network, 1)[0];
    CHECK(time < last);
    last = time;
  }
}

TEST_CASE("one flow with weights is as fast as the class of flows it stands for") {
  // Four flows over private links meet on one link; beside them a fifth over that link alone.
  std::vector<BytesPerSecond> capacities = links({40.0, 100.0, 100.0, 100.0, 100.0});
  FlowNetwork all(capacities);
  for (std::uint32_t i = 1; i <= 4; ++i) {
    const std::vector<LinkId> route{LinkId(i), LinkId(0)};
    all.start(spec(route, 80.0, 0.5), SimTime());
  }
  const std::vector<LinkId> alone{LinkId(0)};
  all.start(spec(alone, 20.0), SimTime());
  FlowNetwork folded(capacities);
  const std::vector<LinkId> route{LinkId(1), LinkId(0)};
  const std::vector<std::uint32_t> weights{1, 4};
  FlowSpec shared = spec(route, 80.0, 0.5);
  shared.weights = weights;
  folded.start(shared, SimTime());
  folded.start(spec(alone, 20.0), SimTime());
  const std::vector<double> one_by_one = completions(all, 5);
  const std::vector<double> by_class = completions(folded, 2);
  CHECK(by_class[0] == one_by_one[0]);
  CHECK(by_class[1] == one_by_one[4]);
  CHECK(folded.bytes_by_link()[0] == all.bytes_by_link()[0]);
  CHECK(folded.bytes_by_link()[1] == all.bytes_by_link()[1]);
}
