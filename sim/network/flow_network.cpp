#include "sim/network/flow_network.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "sim/units/check.h"

namespace longhaul {

namespace {

constexpr std::size_t longest_route = 1024;

// Exact: a scaling by a power of two.
double per_tick(double per_second) { return per_second * (1.0 / SimTime::ticks_per_second); }
double per_second(double per_tick) { return per_tick * SimTime::ticks_per_second; }

// So fine that a sum of rates up to twice the fattest capacity is exact in 53 bits, and that the
// share of a thousandth of the thinnest link still has seven digits more than anyone measures.
double quantum_for(const std::vector<BytesPerSecond>& capacities) {
  double most = 0.0;
  double least = unlimited_bandwidth;
  for (const BytesPerSecond capacity : capacities) {
    check(capacity.value() > 0.0, "a link must have some bandwidth");
    if (capacity.value() < unlimited_bandwidth) {
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
  per_quantum_ = 1.0 / quantum_;
  for (std::uint32_t i = 0; i < capacities.size(); ++i) {
    links_[i].capacity = quantised(per_tick(capacities[i].value()));
  }
}

double FlowNetwork::quantised(double rate) const {
  return std::max((rate + rounder_) - rounder_, quantum_);
}

ServedUnits FlowNetwork::units(double bytes) const {
  const double count = bytes * per_quantum_;
  check_time_range(count < 0x1p120);
  return static_cast<ServedUnits>(count);
}

// Gives every flow and bundle room for routes of `links` links.
void FlowNetwork::make_room(std::size_t links) {
  check(links <= longest_route, "a route crosses at most 1024 links");
  const std::size_t wider = std::max(links, 2 * stride_);
  for (std::vector<Crossing>* crossings : {&crossings_, &bundle_crossings_}) {
    std::vector<Crossing> moved(crossings->size() / stride_ * wider);
    for (std::size_t i = 0; i < crossings->size(); ++i) {
      moved[i / stride_ * wider + i % stride_] = (*crossings)[i];
    }
    *crossings = std::move(moved);
  }
  stride_ = wider;
}

void FlowNetwork::set_crossings(std::uint32_t index, const FlowSpec& spec) {
  flows_[index].crossings = static_cast<std::uint16_t>(spec.links.size());
  Crossing* crossing = crossings_.data() + std::size_t{index} * stride_;
  for (const LinkId link : spec.links) {
    *crossing++ = {link.index, 0, 1.0};
  }
  crossing -= spec.links.size();
  for (const std::uint32_t weight : spec.weights) {
    (crossing++)->weight = weight;
  }
}

std::uint32_t FlowNetwork::take_flow() {
  if (free_.empty()) {
    flows_.emplace_back();
    crossings_.resize(crossings_.size() + stride_);
    return static_cast<std::uint32_t>(flows_.size() - 1);
  }
  const std::uint32_t index = free_.back();
  free_.pop_back();
  return index;
}

FlowId FlowNetwork::start(const FlowSpec& spec, SimTime now) {
  check(now.ticks() >= now_, "flows start in the order of time");
  check(spec.weights.empty() || spec.weights.size() == spec.links.size(),
        "weights are given for every link or for none");
  now_ = now.ticks();
  if (spec.links.size() > stride_) {
    make_room(spec.links.size());
  }
  const std::uint32_t index = take_flow();
  set_crossings(index, spec);
  FlowState& flow = flows_[index];
  flow.bytes = spec.bytes.value();
  flow.cap = quantised(per_tick(spec.rate_cap.value()));
  flow.bundle = none;
  flow.owner = false;
  flow.phase = FlowPhase::latency;
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
  for (const std::uint32_t bundle : batch_) {
    finish(bundle, completed);
  }
  forget_emptied();
  if (latencies_.next() != now_) {
    return;
  }
  batch_.clear();
  latencies_.pop(batch_);
  // First all claim their links: what is shared is known before the first finds its bundle.
  const auto over = std::remove_if(batch_.begin(), batch_.end(), [&](std::uint32_t flow) {
    return !end_latency(flow, completed);
  });
  batch_.erase(over, batch_.end());
  for (const std::uint32_t flow : reshaped_) {
    reshape(flow);
  }
  reshaped_.clear();
  for (const std::uint32_t flow : batch_) {
    flows_[flow].phase = FlowPhase::moving;
    place(flow, units(flows_[flow].bytes));
  }
  forget_emptied();
}

// A flow with nothing to move, or nothing in its way, is over: false.
bool FlowNetwork::end_latency(std::uint32_t index, std::vector<FlowId>& completed) {
  const FlowState& flow = flows_[index];
  const bool nothing_in_its_way =
      flow.crossings == 0 && per_second(flow.cap) >= unlimited_bandwidth;
  if (flow.bytes > 0.0 && !nothing_in_its_way) {
    claim_links(index);
    return true;
  }
  release(index);
  completed.emplace_back(index);
  return false;
}

void FlowNetwork::release(std::uint32_t index) {
  flows_[index].phase = FlowPhase::unused;
  free_.push_back(index);
}

BytesPerSecond FlowNetwork::rate(FlowId flow) {
  solve();
  const FlowState& state = flows_[flow.index];
  const bool moving = state.phase == FlowPhase::moving;
  return BytesPerSecond::of(moving ? per_second(bundles_[state.bundle].rate) : 0.0);
}

void FlowNetwork::append_state(FlowId flow, SimTime now, std::vector<std::uint64_t>& state) const {
  const FlowState& mine = flows_[flow.index];
  state.push_back(static_cast<std::uint64_t>(mine.phase));
  if (mine.phase != FlowPhase::moving) {
    state.push_back(static_cast<std::uint64_t>(mine.event - now.ticks()));
    return;
  }
  const BundleState& bundle = bundles_[mine.bundle];
  const ServedUnits left = mine.mark - served_at(bundle, now.ticks());
  state.push_back(static_cast<std::uint64_t>(left >> 64));
  state.push_back(static_cast<std::uint64_t>(left));
  state.push_back(std::bit_cast<std::uint64_t>(bundle.rate));
  state.push_back(bundle.fresh ? 1 : 0);
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
  for (FlowState& flow : flows_) {
    flow.event += span.ticks();
  }
  for (BundleState& bundle : bundles_) {
    bundle.settled += span.ticks();
  }
}

}  // namespace longhaul
