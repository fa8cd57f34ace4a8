// Bundles: flows that are served alike, kept in the order in which they end. All flows of a bundle
// have one rate, so what one is served all are, and their order never changes.
#include <algorithm>

#include "sim/network/flow_network.h"
#include "sim/units/check.h"

namespace longhaul {

namespace {

// How many bundles are looked at before a flow gets its own: enough for the few shapes that meet on
// a link in collectives, cheap where every flow has a shape of its own.
constexpr std::size_t bundles_tried = 3;
constexpr std::size_t loose_tried = 8;

// A rate that ends everything at once.
constexpr double endless = unlimited_bandwidth / SimTime::ticks_per_second;

// Within a few units in the last place, like the division that follows; the same on every machine.
double as_double(ServedUnits units) {
  return static_cast<double>(static_cast<std::int64_t>(units >> 62)) * 0x1p62 +
         static_cast<double>(static_cast<std::int64_t>(units & ((ServedUnits{1} << 62) - 1)));
}

}  // namespace

// A link that nobody has becomes the flow's own; one that another flow has is shared from now on.
void FlowNetwork::claim_links(std::uint32_t flow) {
  const double bytes = flows_[flow].bytes;
  for (const Crossing& crossing : crossings_of(flow)) {
    LinkState& link = links_[crossing.link];
    links_.carried()[crossing.link] += crossing.weight * bytes;
    if (link.shared) {
      continue;
    }
    if (link.owner == LinkState::nobody) {
      link.owner = flow;
      flows_[flow].owner = true;
      continue;
    }
    FlowState& other = flows_[link.owner];
    if (other.bundle != none && !other.reshaping) {
      other.reshaping = true;
      reshaped_.push_back(link.owner);
    }
    link.owner = LinkState::nobody;
    link.shared = true;
  }
}

void FlowNetwork::disown_links(std::uint32_t flow) {
  for (const Crossing& crossing : crossings_of(flow)) {
    LinkState& link = links_[crossing.link];
    link.owner = link.owner == flow ? LinkState::nobody : link.owner;
  }
}

// The flow goes to another bundle with what it has left.
void FlowNetwork::reshape(std::uint32_t flow) {
  FlowState& state = flows_[flow];
  state.reshaping = false;
  const std::uint32_t index = state.bundle;
  settle(bundles_[index]);
  const ServedUnits left = state.mark - bundles_[index].served;
  unlink(bundles_[index], flow);
  shrink(index, 1);
  place(flow, left);
}

void FlowNetwork::place(std::uint32_t flow, ServedUnits left) {
  shape_.clear();
  double bound = flows_[flow].cap;
  std::uint32_t sign = 0;
  for (const Crossing& crossing : crossings_of(flow)) {
    const LinkState& link = links_[crossing.link];
    if (link.shared) {
      shape_.push_back(crossing);
      sign = (sign ^ crossing.link) * 0x9E3779B1U;  // Knuth's multiplicative hash
    } else {
      const double whole =
          crossing.weight == 1.0 ? link.capacity : quantised(link.capacity / crossing.weight);
      bound = std::min(bound, whole);
    }
  }
  const std::uint32_t bundle = find_bundle(bound, sign);
  if (bundle == none) {
    make_bundle(flow, left, bound, sign);
  } else {
    join(bundle, flow, left);
  }
}

std::uint32_t FlowNetwork::find_bundle(double bound, std::uint32_t sign) {
  if (shape_.empty()) {
    for (const std::uint32_t bundle : loose_) {
      if (bundles_[bundle].bound == bound) {
        return bundle;
      }
    }
    return none;
  }
  const auto visitors = links_.visitors(links_[shape_.front().link]);
  const std::size_t tried = std::min(visitors.size(), bundles_tried);
  for (std::size_t i = 1; i <= tried; ++i) {
    const Visitor& visitor = visitors[visitors.size() - i];
    if (visitor.sign == sign && same_shape(visitor.bundle, bound)) {
      return visitor.bundle;
    }
  }
  return none;
}

bool FlowNetwork::same_shape(std::uint32_t bundle, double bound) {
  const auto same = [](const Crossing& a, const Crossing& b) {
    return a.link == b.link && a.weight == b.weight;
  };
  const std::span<const Crossing> links = links_of(bundle);
  return bundles_[bundle].bound == bound && links.size() == shape_.size() &&
         std::equal(links.begin(), links.end(), shape_.begin(), same);
}

std::uint32_t FlowNetwork::take_bundle() {
  if (free_bundles_.empty()) {
    free_bundles_.push_back(static_cast<std::uint32_t>(bundles_.size()));
    bundles_.emplace_back();
    bundle_crossings_.resize(bundle_crossings_.size() + stride_);
  }
  const std::uint32_t index = free_bundles_.back();
  free_bundles_.pop_back();
  return index;
}

void FlowNetwork::make_bundle(std::uint32_t flow, ServedUnits left, double bound,
                              std::uint32_t sign) {
  const std::uint32_t index = take_bundle();
  BundleState& bundle = bundles_[index];
  bundle.served = 0;
  bundle.settled = now_;
  bundle.rate_units = 0;
  bundle.rate = 0.0;
  bundle.bound = bound;
  bundle.first = bundle.last = flow;
  bundle.flows = 1;
  bundle.rated = 0;
  bundle.ruler = none;
  bundle.crossings = static_cast<std::uint32_t>(shape_.size());
  FlowState& state = flows_[flow];
  state.mark = left;
  state.bundle = index;
  state.next = state.previous = none;
  for (std::uint32_t i = 0; i < bundle.crossings; ++i) {
    enter_link(index, i, sign);
  }
  if (bundle.crossings > 0) {
    mark_fresh(index);
    return;
  }
  if (loose_.size() == loose_tried) {
    loose_.erase(loose_.begin());  // the oldest ends with the flows it has
  }
  loose_.push_back(index);
  set_rate(index, bound);
}

void FlowNetwork::enter_link(std::uint32_t index, std::uint32_t i, std::uint32_t sign) {
  Crossing& crossing = links_of(index)[i];
  crossing = shape_[i];
  LinkState& link = links_[crossing.link];
  if (link.size == 1) {
    // From a bound on one bundle to a share: now the sums begin to count.
    const Visitor& only = links_.only(link);
    const BundleState& other = bundles_[only.bundle];
    const Crossing& there = links_of(only.bundle)[only.crossing];
    link.load = there.weight * other.rated * other.rate;
    link.ceiling = other.rate;
  }
  crossing.place = links_.add(link, {index, i, sign});
  if (link.ruled > 0) {
    mark_changed(crossing.link);
  }
}

void FlowNetwork::join(std::uint32_t index, std::uint32_t flow, ServedUnits left) {
  BundleState& bundle = bundles_[index];
  settle(bundle);
  flows_[flow].mark = bundle.served + left;
  flows_[flow].bundle = index;
  insert(bundle, flow);
  ++bundle.flows;
  if (bundle.first == flow) {
    retime(index);
  }
  if (bundle.crossings == 0) {
    return;
  }
  mark_fresh(index);
  for (const Crossing& crossing : links_of(index)) {
    if (links_[crossing.link].ruled > 0) {
      mark_changed(crossing.link);
    }
  }
}

// From the end: flows of equal size end in the order in which they came.
void FlowNetwork::insert(BundleState& bundle, std::uint32_t flow) {
  FlowState& state = flows_[flow];
  std::uint32_t before = bundle.last;
  while (before != none && flows_[before].mark > state.mark) {
    before = flows_[before].previous;
  }
  const std::uint32_t after = before == none ? bundle.first : flows_[before].next;
  state.previous = before;
  state.next = after;
  (before == none ? bundle.first : flows_[before].next) = flow;
  (after == none ? bundle.last : flows_[after].previous) = flow;
}

void FlowNetwork::unlink(BundleState& bundle, std::uint32_t flow) {
  const FlowState& state = flows_[flow];
  (state.previous == none ? bundle.first : flows_[state.previous].next) = state.next;
  (state.next == none ? bundle.last : flows_[state.next].previous) = state.previous;
}

// `flows` of its flows are gone. What they took is free.
void FlowNetwork::shrink(std::uint32_t index, std::uint32_t flows) {
  BundleState& bundle = bundles_[index];
  if (bundle.flows == flows) {
    dissolve(index);
    return;
  }
  bundle.flows -= flows;
  const std::uint32_t rated = std::min(bundle.rated, bundle.flows);
  const double freed = bundle.rate * (bundle.rated - rated);
  bundle.rated = rated;
  for (const Crossing& crossing : links_of(index)) {
    LinkState& link = links_[crossing.link];
    link.load -= crossing.weight * freed;
    if (link.ruled > 0) {
      mark_changed(crossing.link);
    }
  }
  retime(index);
}

void FlowNetwork::dissolve(std::uint32_t index) {
  BundleState& bundle = bundles_[index];
  bundle.flows = 0;
  if (bundle.ruler != none) {
    --links_[bundle.ruler].ruled;
  }
  const double freed = bundle.rate * bundle.rated;
  for (const Crossing& crossing : links_of(index)) {
    LinkState& link = links_[crossing.link];
    link.load -= crossing.weight * freed;
    if (const Visitor* moved = links_.remove(link, crossing.place)) {
      links_of(moved->bundle)[moved->crossing].place = crossing.place;
    }
    if (link.size == 0) {
      emptied_.push_back(crossing.link);
    } else if (link.ruled > 0) {
      mark_changed(crossing.link);
    }
  }
  if (bundle.crossings == 0) {
    const auto found = std::find(loose_.begin(), loose_.end(), index);
    if (found != loose_.end()) {
      loose_.erase(found);
    }
  }
  finishes_.erase(index);
  free_bundles_.push_back(index);
}

// Links that nobody shares can be owned again.
void FlowNetwork::forget_emptied() {
  for (const std::uint32_t link : emptied_) {
    links_[link].shared = links_[link].size > 0;
  }
  emptied_.clear();
}

// Its first flow ends, and all that end within the same tick.
void FlowNetwork::finish(std::uint32_t index, std::vector<FlowId>& completed) {
  BundleState& bundle = bundles_[index];
  settle(bundle);
  const ServedUnits limit = bundle.served + bundle.rate_units / 2;
  const bool at_once = bundle.rate >= endless;
  std::uint32_t flows = 0;
  do {
    const std::uint32_t flow = bundle.first;
    unlink(bundle, flow);
    if (flows_[flow].owner) {
      disown_links(flow);
    }
    release(flow);
    completed.emplace_back(flow);
    ++flows;
  } while (bundle.first != none && (at_once || flows_[bundle.first].mark <= limit));
  if (bundle.first == none) {
    dissolve(index);
  } else {
    shrink(index, flows);
  }
}

ServedUnits FlowNetwork::served_at(const BundleState& bundle, std::int64_t now) const {
  return bundle.served + static_cast<ServedUnits>(bundle.rate_units) * (now - bundle.settled);
}

void FlowNetwork::settle(BundleState& bundle) {
  if (bundle.settled != now_) {
    bundle.served = served_at(bundle, now_);
    bundle.settled = now_;
  }
}

// When its first flow ends at the present rate.
void FlowNetwork::retime(std::uint32_t index) {
  BundleState& bundle = bundles_[index];
  if (bundle.rate == 0.0) {
    return;
  }
  settle(bundle);
  double ticks = 0.0;
  if (bundle.rate < endless) {
    const ServedUnits left = flows_[bundle.first].mark - bundle.served;
    ticks = std::max(0.0, as_double(left) / static_cast<double>(bundle.rate_units));
  }
  check_time_range(ticks < 9.0e18 - static_cast<double>(now_));
  finishes_.set(index, now_ + static_cast<std::int64_t>(ticks + 0.5));
}

void FlowNetwork::set_rate(std::uint32_t index, double rate) {
  BundleState& bundle = bundles_[index];
  bundle.rated = bundle.flows;
  if (bundle.rate == rate) {
    return;
  }
  settle(bundle);
  bundle.rate = rate;
  bundle.rate_units = static_cast<std::int64_t>(std::min(rate, endless) * per_quantum_);
  retime(index);
}

void FlowNetwork::mark_changed(std::uint32_t link) {
  if (!links_[link].changed) {
    links_[link].changed = true;
    changed_.push_back(link);
  }
}

void FlowNetwork::mark_fresh(std::uint32_t bundle) {
  if (!bundles_[bundle].fresh) {
    bundles_[bundle].fresh = true;
    fresh_.push_back(bundle);
  }
}

}  // namespace longhaul
