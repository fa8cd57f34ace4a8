// Max-min sharing, solved again where something changed. A set of flows is filled with all others
// held fixed; flows outside whose share that contradicts join the set, until none does. Exact,
// since an allocation is max-min fair if and only if every flow is at its cap, or crosses a
// saturated link on which no flow is faster (Bertsekas and Gallager, Data Networks, 6.5.2).
#include <algorithm>
#include <bit>

#include "sim/network/flow_network.h"
#include "sim/units/check.h"

namespace longhaul {

namespace {

// Levels that differ by less are the same level: more than rounding to quanta adds up to, and far
// less than the 1e-9 to which completion times are held.
constexpr double rounding = 1e-12;
constexpr double slower = 1.0 - rounding;
constexpr double faster = 1.0 + rounding;

// So many links are searched faster than kept in a heap.
constexpr std::size_t few_links = 8;

}  // namespace

void FlowNetwork::solve() {
  if (fresh_.empty() && changed_.empty()) {
    return;
  }
  ++round_;
  ++solves_;
  set_.clear();
  touched_.clear();
  shares_.clear();
  for (const std::uint32_t index : fresh_) {
    include(index);
  }
  for (const std::uint32_t link : changed_) {
    links_[link].changed = false;
    include_ruled(link);
  }
  fresh_.clear();
  changed_.clear();
  do {
    fill();
  } while (widen());
  apply();
}

// Which links the flow shares, and what its other links and its cap allow.
void FlowNetwork::find_bound(std::uint32_t index) {
  Flow& flow = flows_[index];
  flow.shared = 0;
  flow.bound = flow.cap;
  flow.bound_ruler = none;
  flow.bound_known = true;
  std::uint32_t bit = 1;
  for (const Crossing& crossing : crossings_of(index)) {
    const LinkState& link = links_[crossing.link];
    flow.shared |= link.size > 1 ? bit : 0;
    bit <<= 1;
    if (link.size > 1) {
      continue;
    }
    const double whole =
        crossing.weight == 1.0 ? link.capacity : quantised(link.capacity / crossing.weight);
    if (whole < flow.bound) {
      flow.bound = whole;
      flow.bound_ruler = crossing.link;
    }
  }
}

// Adds a flow to the set: it gives up its share on the links it crosses.
void FlowNetwork::include(std::uint32_t index) {
  Flow& flow = flows_[index];
  if (!flow.bound_known) {
    find_bound(index);
  }
  flow.round = round_;
  if (flow.ruler != none) {
    --links_[flow.ruler].ruled;
  }
  const auto first = static_cast<std::uint32_t>(shares_.size());
  const Crossing* crossings = crossings_.data() + std::size_t{index} * stride_;
  for (std::uint32_t shared = flow.shared; shared != 0; shared &= shared - 1) {
    share(crossings[std::countr_zero(shared)], flow.rate);
  }
  const auto count = static_cast<std::uint32_t>(shares_.size()) - first;
  set_.push_back({index, first, count, flow.bound_ruler, none, flow.bound, -1.0});
}

// The flow about to be the last of the set, on a link that others cross, too.
void FlowNetwork::share(const Crossing& crossing, double rate) {
  LinkState& link = links_[crossing.link];
  if (link.round != round_) {
    link.round = round_;
    link.touched = static_cast<std::uint32_t>(touched_.size());
    touched_.push_back(
        {crossing.link, 0, none, link.capacity - link.load, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0});
  }
  Touched& touched = touched_[link.touched];
  const auto member = static_cast<std::uint32_t>(set_.size());
  shares_.push_back({link.touched, member, touched.first_share, crossing.weight});
  touched.first_share = static_cast<std::uint32_t>(shares_.size() - 1);
  ++touched.members;
  touched.free += crossing.weight * rate;
  touched.open += crossing.weight;
}

void FlowNetwork::include_ruled(std::uint32_t index) {
  const LinkState& link = links_[index];
  if (link.ruled == 0) {
    return;
  }
  for (const Visitor& visitor : links_.visitors(link)) {
    const Flow& flow = flows_[visitor.flow];
    if (flow.ruler == index && flow.round != round_) {
      include(visitor.flow);
    }
  }
}

// Progressive filling of the set, the tightest link first. Levels of links only rise while flows
// are fixed at lower ones, so that a level seen before is a lower bound.
void FlowNetwork::fill() {
  for (Member& member : set_) {
    const bool alone = member.share_count == 0;
    member.rate = alone ? member.bound : -1.0;
    member.ruler = member.bound_ruler;
  }
  for (Touched& touched : touched_) {
    touched.left = touched.free;
    touched.count = touched.open;
    touched.key = touched.left / touched.count;
    touched.top = 0.0;
    touched.level = -1.0;
  }
  if (touched_.size() <= few_links) {
    fill_few();
  } else {
    fill_many();
  }
}

void FlowNetwork::fill_few() {
  for (;;) {
    Touched* least = nullptr;
    for (Touched& touched : touched_) {
      if (touched.count > 0.0 && (least == nullptr || touched.key < least->key)) {
        least = &touched;
      }
    }
    if (least == nullptr) {
      return;
    }
    const double level = least->left / least->count;
    if (level > least->key) {
      least->key = level;
    } else {
      fill_tightest(*least);
    }
  }
}

void FlowNetwork::fill_many() {
  levels_.clear();
  for (std::uint32_t i = 0; i < touched_.size(); ++i) {
    levels_.push_back({touched_[i].key, i});
  }
  std::make_heap(levels_.begin(), levels_.end(), std::greater<>());
  while (!levels_.empty()) {
    Touched& touched = touched_[levels_.front().touched];
    if (touched.count > 0.0) {
      touched.key = touched.left / touched.count;
      if (touched.key <= levels_.front().level) {
        fill_tightest(touched);
        touched.key = touched.count > 0.0 ? touched.left / touched.count : touched.key;
      }
    }
    const Level again{touched.key, levels_.front().touched};
    std::pop_heap(levels_.begin(), levels_.end(), std::greater<>());
    levels_.pop_back();
    if (touched.count > 0.0) {
      levels_.push_back(again);
      std::push_heap(levels_.begin(), levels_.end(), std::greater<>());
    }
  }
}

// Members with a bound below the level of the tightest link reach that bound: no other link stops
// them before. If there is none, all members of the link share its level.
void FlowNetwork::fill_tightest(Touched& touched) {
  const double level = touched.left / touched.count;
  bool bounded = false;
  for (std::uint32_t i = touched.first_share; i != none; i = shares_[i].next) {
    Member& member = set_[shares_[i].member];
    if (member.rate < 0.0 && member.bound <= level) {
      fix(member, member.bound, member.bound_ruler);
      bounded = true;
    }
  }
  if (bounded) {
    return;
  }
  touched.level = quantised(level);
  for (std::uint32_t i = touched.first_share; i != none; i = shares_[i].next) {
    Member& member = set_[shares_[i].member];
    if (member.rate < 0.0) {
      fix(member, touched.level, touched.link);
    }
  }
  touched.count = 0.0;
}

void FlowNetwork::fix(Member& member, double rate, std::uint32_t ruler) {
  member.rate = rate;
  member.ruler = ruler;
  const Share* share = shares_.data() + member.first_share;
  for (const Share* end = share + member.share_count; share != end; ++share) {
    Touched& touched = touched_[share->touched];
    touched.left -= share->weight * rate;
    touched.count -= share->weight;
    touched.top = std::max(touched.top, rate);
  }
}

// Adds the flows outside the set that can no longer keep their rates. False if there are none.
bool FlowNetwork::widen() {
  const std::size_t before = set_.size();
  const std::size_t filled = touched_.size();
  for (std::size_t i = 0; i < filled; ++i) {
    if (links_[touched_[i].link].size > touched_[i].members) {
      widen_at(touched_[i]);
    }
  }
  return set_.size() > before;
}

// By value: including flows may move the list of touched links.
void FlowNetwork::widen_at(Touched touched) {
  const LinkState& link = links_[touched.link];
  if (link.ruled > 0) {
    // It must still be saturated, and nobody on it faster than those that it rules.
    const bool saturated = touched.left <= link.capacity * rounding;
    const bool fastest = touched.top <= link.level * faster;
    const bool fair = touched.level < 0.0 || touched.level >= link.level * slower;
    if (!saturated || !fastest || !fair) {
      include_ruled(touched.link);
    }
  }
  if (touched.level >= 0.0 && touched.level < link.ceiling * slower) {
    include_faster(touched.link, touched.level * faster);
  }
}

void FlowNetwork::include_faster(std::uint32_t index, double level) {
  for (const Visitor& visitor : links_.visitors(links_[index])) {
    const Flow& flow = flows_[visitor.flow];
    if (flow.round != round_ && flow.rate > level) {
      include(visitor.flow);
    }
  }
}

void FlowNetwork::apply() {
  for (const Touched& touched : touched_) {
    LinkState& link = links_[touched.link];
    const bool outsiders = link.size > touched.members;
    link.load = link.capacity - touched.left;
    link.ceiling = outsiders && touched.level < 0.0 ? std::max(link.ceiling, touched.top)
                                                    : std::max(touched.level, touched.top);
    link.level = touched.level < 0.0 ? link.level : touched.level;
  }
  for (const Member& member : set_) {
    Flow& flow = flows_[member.flow];
    flow.ruler = member.ruler;
    if (member.ruler != none) {
      LinkState& link = links_[member.ruler];
      ++link.ruled;
    }
    set_rate(member.flow, member.rate);
  }
  rates_solved_ += static_cast<std::int64_t>(set_.size());
}

void FlowNetwork::set_rate(std::uint32_t index, double rate) {
  Flow& flow = flows_[index];
  if (flow.rate == rate) {
    return;
  }
  flow.left = std::max(0.0, flow.left - flow.rate * static_cast<double>(now_ - flow.settled));
  flow.settled = now_;
  flow.rate = rate;
  const double ticks = flow.left / rate;
  check(ticks < 9.0e18, "simulated time must be between 0 and 2^19 seconds");
  flow.event = now_ + static_cast<std::int64_t>(ticks + 0.5);
  finishes_.set(index, flow.event);
}

}  // namespace longhaul
