// Max-min sharing, solved again where something changed. A set of flows is filled with all others
// held fixed; flows outside whose share that contradicts join the set, until none does. Exact,
// since an allocation is max-min fair if and only if every flow is at its cap, or crosses a
// saturated link on which no flow is faster (Bertsekas and Gallager, Data Networks, 6.5.2).
#include <algorithm>

#include "sim/network/flow_network.h"
#include "sim/units/check.h"

namespace longhaul {

namespace {

// Levels that differ by less are the same level: more than rounding to quanta adds up to, and far
// less than the 1e-9 to which completion times are held.
constexpr double rounding = 1e-12;
constexpr double slower = 1.0 - rounding;
constexpr double faster = 1.0 + rounding;

}  // namespace

void FlowNetwork::solve() {
  if (fresh_.empty() && changed_.empty()) {
    return;
  }
  ++round_;
  ++solves_;
  set_.clear();
  touched_.clear();
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

// Adds a flow to the set: it gives up its share on the links it crosses.
void FlowNetwork::include(std::uint32_t index) {
  Flow& flow = flows_[index];
  flow.round = round_;
  flow.member = static_cast<std::uint32_t>(set_.size());
  if (flow.ruler != none) {
    --links_[flow.ruler].ruled;
  }
  Member member{index, none, none, flow.cap, -1.0};
  for (const Crossing& crossing : crossings_of(index)) {
    const LinkState& link = links_[crossing.link];
    if (link.size > 1) {
      Touched& touched = touch(crossing.link);
      ++touched.members;
      touched.free += crossing.weight * flow.rate;
      touched.open += crossing.weight;
      continue;
    }
    const double bound =
        crossing.weight == 1 ? link.capacity : quantised(link.capacity / crossing.weight);
    if (bound < member.bound) {
      member.bound = bound;
      member.bound_ruler = crossing.link;
    }
  }
  set_.push_back(member);
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

FlowNetwork::Touched& FlowNetwork::touch(std::uint32_t index) {
  LinkState& link = links_[index];
  if (link.round != round_) {
    link.round = round_;
    link.touched = static_cast<std::uint32_t>(touched_.size());
    touched_.push_back({index, 0, link.capacity - link.load, 0.0, 0.0, 0.0, 0.0, -1.0});
  }
  return touched_[link.touched];
}

// Progressive filling of the set, the tightest link first. Levels of links only rise while flows
// are fixed at lower ones, so a stale level in the heap is a lower bound.
void FlowNetwork::fill() {
  for (Member& member : set_) {
    member.rate = -1.0;
  }
  levels_.clear();
  for (std::uint32_t i = 0; i < touched_.size(); ++i) {
    Touched& touched = touched_[i];
    touched.left = touched.free;
    touched.count = touched.open;
    touched.top = 0.0;
    touched.level = -1.0;
    levels_.push_back({touched.left / touched.count, i});
  }
  std::make_heap(levels_.begin(), levels_.end(), std::greater<>());
  while (!levels_.empty()) {
    std::pop_heap(levels_.begin(), levels_.end(), std::greater<>());
    const std::uint32_t at = levels_.back().touched;
    levels_.pop_back();
    Touched& touched = touched_[at];
    if (touched.count <= 0.0) {
      continue;
    }
    const double level = touched.left / touched.count;
    const bool least = levels_.empty() || level <= levels_.front().level;
    if (least && !fix_bounded(touched, level)) {
      fill_link(touched, quantised(level));
    } else if (touched.count > 0.0) {
      levels_.push_back({touched.left / touched.count, at});
      std::push_heap(levels_.begin(), levels_.end(), std::greater<>());
    }
  }
  for (Member& member : set_) {
    if (member.rate < 0.0) {  // it shares no link
      member.rate = member.bound;
      member.ruler = member.bound_ruler;
    }
  }
}

// On the tightest link, flows with a bound below its level reach that bound: no other link stops
// them before. True if there was one.
bool FlowNetwork::fix_bounded(const Touched& touched, double level) {
  bool any = false;
  for (const Visitor& visitor : links_.visitors(links_[touched.link])) {
    const Flow& flow = flows_[visitor.flow];
    if (flow.round != round_) {
      continue;
    }
    Member& member = set_[flow.member];
    if (member.rate < 0.0 && member.bound <= level) {
      fix(member, member.bound, member.bound_ruler);
      any = true;
    }
  }
  return any;
}

void FlowNetwork::fill_link(Touched& touched, double level) {
  for (const Visitor& visitor : links_.visitors(links_[touched.link])) {
    const Flow& flow = flows_[visitor.flow];
    if (flow.round == round_ && set_[flow.member].rate < 0.0) {
      fix(set_[flow.member], level, touched.link);
    }
  }
  touched.level = level;
  touched.count = 0.0;
}

void FlowNetwork::fix(Member& member, double rate, std::uint32_t ruler) {
  member.rate = rate;
  member.ruler = ruler;
  for (const Crossing& crossing : crossings_of(member.flow)) {
    const LinkState& link = links_[crossing.link];
    if (link.size > 1) {
      Touched& touched = touched_[link.touched];
      touched.left -= crossing.weight * rate;
      touched.count -= crossing.weight;
      touched.top = std::max(touched.top, rate);
    }
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
