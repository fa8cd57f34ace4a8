#include "sim/network/flow_network.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "sim/units/check.h"

namespace longhaul {

namespace {

// A link is saturated by a level when its own share is within rounding of that level.
constexpr double rounding = 1e-12;

double seconds_between(SimTime from, SimTime to) { return (to - from).seconds().value(); }

}  // namespace

FlowNetwork::FlowNetwork(std::vector<BytesPerSecond> capacities)
    : links_(capacities.size()), bytes_by_link_(capacities.size(), 0.0) {
  for (std::size_t i = 0; i < capacities.size(); ++i) {
    links_[i].capacity = capacities[i].value();
    check(links_[i].capacity > 0.0, "a link must have some bandwidth");
  }
}

FlowId FlowNetwork::start(const FlowSpec& spec, SimTime now) {
  check(now >= now_, "flows start in the order of time");
  now_ = now;
  if (free_.empty()) {
    free_.push_back(static_cast<std::uint32_t>(flows_.size()));
    flows_.emplace_back();
  }
  const std::uint32_t index = free_.back();
  free_.pop_back();
  Flow& flow = flows_[index];
  check(spec.weights.empty() || spec.weights.size() == spec.links.size(),
        "weights are given for every link or for none");
  flow.links.assign(spec.links.begin(), spec.links.end());
  flow.weights.assign(spec.weights.begin(), spec.weights.end());
  flow.weights.resize(spec.links.size(), 1);
  flow.bytes = spec.bytes.value();
  flow.left = flow.bytes;
  flow.rate = 0.0;
  flow.cap = spec.rate_cap.value();
  flow.phase = Phase::latency;
  flow.settled = now;
  flow.event = now + SimTime::from(spec.latency);
  push_event(index);
  return FlowId(index);
}

void FlowNetwork::push_event(std::uint32_t index) {
  Flow& flow = flows_[index];
  ++flow.generation;
  if (flow.event != SimTime::infinity()) {
    events_.push({flow.event, index, flow.generation});
  }
}

void FlowNetwork::touch(std::uint32_t link) {
  if (!links_[link].changed) {
    links_[link].changed = true;
    changed_.push_back(link);
  }
}

// The latency is over: from now on the flow takes its share.
void FlowNetwork::begin_moving(std::uint32_t index) {
  Flow& flow = flows_[index];
  flow.phase = Phase::moving;
  flow.settled = now_;
  flow.event = SimTime::infinity();
  ++flow.generation;
  for (const LinkId link : flow.links) {
    links_[link.index].flows.push_back(index);
    touch(link.index);
  }
  if (flow.links.empty()) {
    new_flows_.push_back(index);
  }
}

void FlowNetwork::end_moving(std::uint32_t index) {
  Flow& flow = flows_[index];
  for (std::size_t i = 0; i < flow.links.size(); ++i) {
    const LinkId link = flow.links[i];
    auto& flows = links_[link.index].flows;
    const auto found = std::find(flows.begin(), flows.end(), index);
    if (found != flows.end()) {
      flows.erase(found);
      touch(link.index);
    }
    bytes_by_link_[link.index] += flow.weights[i] * flow.bytes;
  }
  flow.phase = Phase::unused;
  ++flow.generation;
  free_.push_back(index);
}

SimTime FlowNetwork::next_event() {
  solve();
  while (!events_.empty() && events_.top().generation != flows_[events_.top().flow].generation) {
    events_.pop();
  }
  return events_.empty() ? SimTime::infinity() : events_.top().when;
}

void FlowNetwork::advance(SimTime now, std::vector<FlowId>& completed) {
  check(now >= now_, "time does not run backwards");
  solve();
  now_ = now;
  const std::size_t before = completed.size();
  while (!events_.empty() && events_.top().when <= now) {
    const Event event = events_.top();
    events_.pop();
    Flow& flow = flows_[event.flow];
    if (event.generation != flow.generation) {
      continue;
    }
    check(event.when == now, "no event of the network may be passed over");
    const bool nothing_to_move = flow.bytes <= 0.0 || (flow.links.empty() && flow.cap >= 1e30);
    if (flow.phase == Phase::latency && !nothing_to_move) {
      begin_moving(event.flow);
      continue;
    }
    end_moving(event.flow);
    completed.emplace_back(event.flow);
  }
  std::sort(completed.begin() + static_cast<std::ptrdiff_t>(before), completed.end());
}

// Applies all changes since the last solve: only flows that share links, directly or through
// others, with a changed link can have another rate.
void FlowNetwork::solve() {
  for (const std::uint32_t index : new_flows_) {
    set_rate(index, flows_[index].cap);
  }
  new_flows_.clear();
  if (changed_.empty()) {
    return;
  }
  std::sort(changed_.begin(), changed_.end());
  for (const std::uint32_t start : changed_) {
    if (!links_[start].changed) {
      continue;
    }
    component_links_.assign(1, start);
    links_[start].marked = true;
    component_flows_.clear();
    gather_component();
    fill_component();
  }
  changed_.clear();
}

// All links and flows connected to component_links_. A link with a single flow is a bound on that
// flow and connects it to nothing.
void FlowNetwork::gather_component() {
  for (std::size_t i = 0; i < component_links_.size(); ++i) {
    LinkState& link = links_[component_links_[i]];
    link.changed = false;
    link.left = link.capacity;
    link.unfixed = 0;
    for (const std::uint32_t index : link.flows) {
      Flow& flow = flows_[index];
      if (flow.marked) {
        continue;
      }
      flow.marked = true;
      component_flows_.push_back(index);
      for (const LinkId other : flow.links) {
        LinkState& next = links_[other.index];
        if (!next.marked && next.flows.size() > 1) {
          next.marked = true;
          component_links_.push_back(other.index);
        }
      }
    }
  }
  std::sort(component_flows_.begin(), component_flows_.end());
}

// Progressive filling: raise the level until a link or a bound is met, fix those flows, go on.
void FlowNetwork::fill_component() {
  std::vector<std::pair<std::uint32_t, double>> open;  // flow, its bound by cap and private links
  for (const std::uint32_t index : component_flows_) {
    const Flow& flow = flows_[index];
    double bound = flow.cap;
    for (std::size_t i = 0; i < flow.links.size(); ++i) {
      LinkState& state = links_[flow.links[i].index];
      if (state.flows.size() > 1) {
        state.unfixed += flow.weights[i];
      } else {
        bound = std::min(bound, state.capacity / flow.weights[i]);
      }
    }
    open.emplace_back(index, bound);
  }
  while (!open.empty()) {
    double level = open.front().second;
    for (const auto& [index, bound] : open) {
      level = std::min(level, bound);
    }
    for (const std::uint32_t link : component_links_) {
      const LinkState& state = links_[link];
      if (state.unfixed > 0) {
        level = std::min(level, state.left / state.unfixed);
      }
    }
    const double reached = level * (1.0 + rounding);
    const auto met = [&](const std::pair<std::uint32_t, double>& entry) {
      if (entry.second <= reached) {
        return true;
      }
      return std::any_of(flows_[entry.first].links.begin(), flows_[entry.first].links.end(),
                         [&](LinkId link) {
                           const LinkState& state = links_[link.index];
                           return state.flows.size() > 1 && state.unfixed > 0 &&
                                  state.left / state.unfixed <= reached;
                         });
    };
    // Decide for all before the links are charged, so that the order does not matter.
    const auto rest = std::stable_partition(open.begin(), open.end(),
                                            [&](const auto& entry) { return !met(entry); });
    check(rest != open.end(), "every round of filling fixes a flow");
    for (auto entry = rest; entry != open.end(); ++entry) {
      const Flow& flow = flows_[entry->first];
      for (std::size_t i = 0; i < flow.links.size(); ++i) {
        LinkState& state = links_[flow.links[i].index];
        if (state.flows.size() > 1) {
          state.left = std::max(0.0, state.left - flow.weights[i] * level);
          state.unfixed -= flow.weights[i];
        }
      }
      set_rate(entry->first, level);
    }
    open.erase(rest, open.end());
  }
  for (const std::uint32_t index : component_flows_) {
    flows_[index].marked = false;
  }
  for (const std::uint32_t link : component_links_) {
    links_[link].marked = false;
  }
}

void FlowNetwork::set_rate(std::uint32_t index, double rate) {
  Flow& flow = flows_[index];
  if (flow.rate == rate) {
    return;
  }
  flow.left = std::max(0.0, flow.left - flow.rate * seconds_between(flow.settled, now_));
  flow.settled = now_;
  flow.rate = rate;
  check(rate > 0.0, "max-min sharing gives every flow some rate");
  flow.event = now_ + SimTime::from(Seconds::of(flow.left / rate));
  push_event(index);
}

BytesPerSecond FlowNetwork::rate(FlowId flow) {
  solve();
  const Flow& state = flows_[flow.index];
  return BytesPerSecond::of(state.phase == Phase::moving ? state.rate : 0.0);
}

std::span<const double> FlowNetwork::bytes_by_link() const { return bytes_by_link_; }

void FlowNetwork::append_state(FlowId flow, SimTime now, std::vector<std::uint64_t>& state) const {
  const Flow& mine = flows_[flow.index];
  state.push_back(static_cast<std::uint64_t>(mine.phase));
  state.push_back(mine.event == SimTime::infinity()
                      ? UINT64_MAX
                      : static_cast<std::uint64_t>((mine.event - now).ticks()));
  state.push_back(static_cast<std::uint64_t>((now - mine.settled).ticks()));
  state.push_back(std::bit_cast<std::uint64_t>(mine.left));
  state.push_back(std::bit_cast<std::uint64_t>(mine.rate));
}

void FlowNetwork::skip(SimTime span, std::int64_t periods,
                       std::span<const double> earlier_bytes_by_link) {
  for (std::size_t i = 0; i < bytes_by_link_.size(); ++i) {
    bytes_by_link_[i] +=
        static_cast<double>(periods) * (bytes_by_link_[i] - earlier_bytes_by_link[i]);
  }
  now_ += span;
  events_ = {};
  for (std::uint32_t index = 0; index < flows_.size(); ++index) {
    Flow& flow = flows_[index];
    if (flow.phase == Phase::unused) {
      continue;
    }
    flow.settled += span;
    if (flow.event != SimTime::infinity()) {
      flow.event += span;
    }
    push_event(index);
  }
}

}  // namespace longhaul
