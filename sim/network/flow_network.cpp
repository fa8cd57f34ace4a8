#include "sim/network/flow_network.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "sim/units/check.h"

namespace longhaul {

namespace {

constexpr double unlimited = 1e18;  // bytes per second: never a limit

// Exact: a scaling by a power of two.
double per_tick(double per_second) { return per_second * (1.0 / SimTime::ticks_per_second); }
double per_second(double per_tick) { return per_tick * SimTime::ticks_per_second; }

// So fine that a sum of rates up to twice the fattest capacity is exact in 53 bits, and that the
// share of a thousandth of the thinnest link still has seven digits more than anyone measures.
double quantum_for(const std::vector<BytesPerSecond>& capacities) {
  double most = 0.0;
  double least = unlimited;
  for (const BytesPerSecond capacity : capacities) {
    check(capacity.value() > 0.0, "a link must have some bandwidth");
    if (capacity.value() < unlimited) {
      most = std::max(most, capacity.value());
      least = std::min(least, capacity.value());
    }
  }
  if (most == 0.0) {
    return 1.0;
  }
  return std::ldexp(1.0, std::min(std::ilogb(most) - 50, std::ilogb(least) - 34));
}

}  // namespace

FlowNetwork::FlowNetwork(const std::vector<BytesPerSecond>& capacities)
    : links_(capacities.size()), quantum_(per_tick(quantum_for(capacities))) {
  rounder_ = std::ldexp(quantum_ * 1.5, 52);
  for (std::uint32_t i = 0; i < capacities.size(); ++i) {
    links_[i].capacity = quantised(per_tick(capacities[i].value()));
  }
}

double FlowNetwork::quantised(double rate) const {
  return std::max((rate + rounder_) - rounder_, quantum_);
}

// Gives every flow room for routes of `links` links.
void FlowNetwork::make_room(std::size_t links) {
  const std::size_t wider = std::max(links, 2 * stride_);
  check(links <= 32, "a route crosses at most 32 links");
  std::vector<Crossing> moved(flows_.size() * wider);
  for (std::size_t i = 0; i < flows_.size(); ++i) {
    std::copy_n(crossings_.begin() + static_cast<std::ptrdiff_t>(i * stride_), flows_[i].crossings,
                moved.begin() + static_cast<std::ptrdiff_t>(i * wider));
  }
  crossings_ = std::move(moved);
  stride_ = wider;
}

void FlowNetwork::set_crossings(std::uint32_t index, const FlowSpec& spec) {
  flows_[index].crossings = static_cast<std::uint16_t>(spec.links.size());
  const std::span<Crossing> crossings = crossings_of(index);
  for (std::size_t i = 0; i < crossings.size(); ++i) {
    crossings[i] = {spec.links[i].index, 0, spec.weights.empty() ? 1.0 : spec.weights[i]};
  }
}

FlowId FlowNetwork::start(const FlowSpec& spec, SimTime now) {
  check(now.ticks() >= now_, "flows start in the order of time");
  check(spec.weights.empty() || spec.weights.size() == spec.links.size(),
        "weights are given for every link or for none");
  now_ = now.ticks();
  if (spec.links.size() > stride_) {
    make_room(spec.links.size());
  }
  if (free_.empty()) {
    free_.push_back(static_cast<std::uint32_t>(flows_.size()));
    flows_.emplace_back();
    crossings_.resize(crossings_.size() + stride_);
  }
  const std::uint32_t index = free_.back();
  free_.pop_back();
  set_crossings(index, spec);
  Flow& flow = flows_[index];
  flow.left = spec.bytes.value();
  flow.rate = 0.0;
  flow.cap = quantised(per_tick(spec.rate_cap.value()));
  flow.ruler = none;
  flow.bound_known = false;
  flow.phase = Phase::latency;
  flow.settled = now_;
  const std::int64_t latency = SimTime::from(spec.latency).ticks();
  flow.event = now_ + latency;
  latencies_.push(index, now_, latency);
  return FlowId(index);
}

SimTime FlowNetwork::next_event() {
  solve();
  return SimTime::of_ticks(std::min(latencies_.next(), finishes_.next()));
}

void FlowNetwork::advance(SimTime now, std::vector<FlowId>& completed) {
  check(now.ticks() >= now_, "time does not run backwards");
  solve();
  now_ = now.ticks();
  check(std::min(latencies_.next(), finishes_.next()) >= now_,
        "no event of the network may be passed over");
  batch_.clear();
  while (finishes_.next() == now_) {
    finishes_.pop(batch_);
  }
  for (const std::uint32_t index : batch_) {
    leave(index);
    completed.emplace_back(index);
  }
  batch_.clear();
  if (latencies_.next() == now_) {
    latencies_.pop(batch_);
  }
  for (const std::uint32_t index : batch_) {
    end_latency(index, completed);
  }
}

// From now on the flow takes its share; a flow with nothing to move, or nothing in its way, is
// over.
void FlowNetwork::end_latency(std::uint32_t index, std::vector<FlowId>& completed) {
  Flow& flow = flows_[index];
  const bool nothing_in_its_way = flow.crossings == 0 && per_second(flow.cap) >= unlimited;
  if (flow.left > 0.0 && !nothing_in_its_way) {
    enter(index);
    return;
  }
  for (const Crossing& crossing : crossings_of(index)) {
    links_.carried()[crossing.link] += crossing.weight * flow.left;
  }
  flow.phase = Phase::unused;
  free_.push_back(index);
  completed.emplace_back(index);
}

void FlowNetwork::enter(std::uint32_t index) {
  Flow& flow = flows_[index];
  flow.phase = Phase::moving;
  flow.settled = now_;
  fresh_.push_back(index);
  const std::span<Crossing> crossings = crossings_of(index);
  for (std::uint32_t i = 0; i < crossings.size(); ++i) {
    Crossing& crossing = crossings[i];
    LinkState& link = links_[crossing.link];
    if (link.size == 1) {
      // From a bound on one flow to a share: now the sums begin to count.
      Flow& other = flows_[link.few[0].flow];
      other.bound_known = false;
      const Crossing& there = crossings_of(link.few[0].flow)[link.few[0].crossing];
      link.load = there.weight * other.rate;
      link.ceiling = other.rate;
    }
    crossing.place = links_.add(link, {index, i});
    links_.carried()[crossing.link] += crossing.weight * flow.left;
    if (link.ruled > 0) {
      mark_changed(crossing.link);
    }
  }
}

void FlowNetwork::leave(std::uint32_t index) {
  Flow& flow = flows_[index];
  for (const Crossing& crossing : crossings_of(index)) {
    LinkState& link = links_[crossing.link];
    link.ruled -= flow.ruler == crossing.link ? 1 : 0;
    link.load -= crossing.weight * flow.rate;
    if (const Visitor* moved = links_.remove(link, crossing.place)) {
      crossings_of(moved->flow)[moved->crossing].place = crossing.place;
    }
    if (link.size == 1) {
      flows_[link.few[0].flow].bound_known = false;
    }
    if (link.ruled > 0) {
      mark_changed(crossing.link);
    }
  }
  flow.phase = Phase::unused;
  free_.push_back(index);
}

void FlowNetwork::mark_changed(std::uint32_t link) {
  if (!links_[link].changed) {
    links_[link].changed = true;
    changed_.push_back(link);
  }
}

BytesPerSecond FlowNetwork::rate(FlowId flow) {
  solve();
  const Flow& state = flows_[flow.index];
  return BytesPerSecond::of(state.phase == Phase::moving ? per_second(state.rate) : 0.0);
}

void FlowNetwork::append_state(FlowId flow, SimTime now, std::vector<std::uint64_t>& state) const {
  const Flow& mine = flows_[flow.index];
  const bool unsolved = mine.phase == Phase::moving && mine.rate == 0.0;
  state.push_back(static_cast<std::uint64_t>(mine.phase));
  state.push_back(unsolved ? UINT64_MAX : static_cast<std::uint64_t>(mine.event - now.ticks()));
  state.push_back(static_cast<std::uint64_t>(now.ticks() - mine.settled));
  state.push_back(std::bit_cast<std::uint64_t>(mine.left));
  state.push_back(std::bit_cast<std::uint64_t>(mine.rate));
}

void FlowNetwork::skip(SimTime span, std::int64_t periods,
                       std::span<const double> earlier_bytes_by_link) {
  const std::span<double> carried = links_.carried();
  for (std::size_t i = 0; i < carried.size(); ++i) {
    carried[i] += static_cast<double>(periods) * (carried[i] - earlier_bytes_by_link[i]);
  }
  now_ += span.ticks();
  latencies_.shift(span.ticks());
  finishes_.shift(span.ticks());
  for (Flow& flow : flows_) {
    flow.settled += span.ticks();
    flow.event += span.ticks();
  }
}

}  // namespace longhaul
