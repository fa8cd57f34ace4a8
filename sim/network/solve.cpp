// Max-min sharing, solved again where something changed. A set of bundles is filled with all others
// held fixed; bundles outside whose share that contradicts join the set, until none does. Exact,
// since an allocation is max-min fair if and only if every flow is at its cap, or crosses a
// saturated link on which no flow is faster (Bertsekas and Gallager, Data Networks, 6.5.2).
#include <algorithm>
#include <limits>

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
  begin_round();
  ++solves_;
  set_.clear();
  touched_.clear();
  shares_.clear();
  for (const std::uint32_t index : fresh_) {
    BundleState& bundle = bundles_[index];
    bundle.fresh = false;
    if (bundle.flows > 0 && bundle.crossings > 0) {
      include(index);
    }
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

// Links and bundles remember the last solve that looked at them. After 2^32 solves the numbers
// begin again, and none of old may be taken for a new one.
void FlowNetwork::begin_round() {
  if (++round_ != 0) {
    return;
  }
  for (std::uint32_t link = 0; link < links_.size(); ++link) {
    links_[link].round = 0;
  }
  for (BundleState& bundle : bundles_) {
    bundle.round = 0;
  }
  round_ = 1;
}

// Adds a bundle to the set: it gives up its share on the links it crosses.
void FlowNetwork::include(std::uint32_t index) {
  BundleState& bundle = bundles_[index];
  bundle.round = round_;
  if (bundle.ruler != none) {
    --links_[bundle.ruler].ruled;
  }
  const std::uint32_t first = shares_.size();
  std::uint32_t ruler = none;
  double bound = bundle.bound;
  for (const Crossing& crossing : links_of(index)) {
    const LinkState& link = links_[crossing.link];
    if (link.size > 1) {
      share(crossing, bundle);
      continue;
    }
    const double whole = quantised(link.capacity / (crossing.weight * bundle.flows));
    if (whole < bound) {
      bound = whole;
      ruler = crossing.link;
    }
  }
  Member& member = set_.add();
  member.bundle = index;
  member.first_share = first;
  member.share_count = shares_.size() - first;
  member.own_ruler = ruler;
  member.own_bound = bound;
}

// The bundle about to be the last of the set, on a link that other bundles cross, too.
void FlowNetwork::share(const Crossing& crossing, const BundleState& bundle) {
  LinkState& link = links_[crossing.link];
  if (link.round != round_) {
    link.round = round_;
    link.touched = touched_.size();
    Touched& touched = touched_.add();
    touched.link = crossing.link;
    touched.members = 0;
    touched.first_share = none;
    touched.free = link.capacity - link.load;
    touched.open = 0.0;
  }
  Touched& touched = touched_[link.touched];
  const double weight = crossing.weight * bundle.flows;
  ++touched.members;
  touched.free += crossing.weight * bundle.rated * bundle.rate;
  touched.open += weight;
  const std::uint32_t place = shares_.size();
  Share& share = shares_.add();
  share.touched = link.touched;
  share.member = set_.size();
  share.next = touched.first_share;
  share.weight = weight;
  touched.first_share = place;
}

void FlowNetwork::include_ruled(std::uint32_t index) {
  const LinkState& link = links_[index];
  if (link.ruled == 0) {
    return;
  }
  for (const Visitor& visitor : links_.visitors(link)) {
    const BundleState& bundle = bundles_[visitor.bundle];
    if (bundle.ruler == index && bundle.round != round_) {
      include(visitor.bundle);
    }
  }
}

// Progressive filling of the set, the tightest link first. Levels of links only rise while bundles
// are fixed at lower ones, so that a level seen before is a lower bound.
void FlowNetwork::fill() {
  for (Member& member : set_) {
    member.bound = member.own_bound;
    member.ruler = member.own_ruler;
    member.rate = -1.0;
  }
  double least = std::numeric_limits<double>::infinity();
  double most = 0.0;
  bool even = true;
  for (Touched& touched : touched_) {
    touched.left = touched.free;
    touched.count = touched.open;
    touched.key = touched.left / touched.count;
    touched.top = 0.0;
    touched.level = -1.0;
    if (touched.members == 1) {
      bound_by(touched);
      even = false;
    } else {
      least = std::min(least, touched.key);
      most = std::max(most, touched.key);
    }
  }
  even = even && least == most && std::all_of(set_.begin(), set_.end(), [&](const Member& member) {
           return member.share_count > 0 && member.bound > least;
         });
  if (even) {
    fill_evenly(quantised(least));
  } else if (touched_.size() <= few_links) {
    fill_few();
  } else {
    fill_many();
  }
  for (Member& member : set_) {
    if (member.rate < 0.0) {
      fix(member, member.bound, member.ruler);
    }
  }
}

// A link with a single member is a bound on it.
void FlowNetwork::bound_by(Touched& touched) {
  Member& member = set_[shares_[touched.first_share].member];
  const double bound = quantised(touched.key);
  touched.count = 0.0;
  if (bound < member.bound) {
    member.bound = bound;
    member.ruler = touched.link;
  }
}

// All links have one level and no bound is below: everyone gets it, as in any collective in
// lock-step.
void FlowNetwork::fill_evenly(double level) {
  for (Touched& touched : touched_) {
    touched.left -= touched.open * level;
    touched.count = 0.0;
    touched.top = level;
    touched.level = level;
  }
  for (Member& member : set_) {
    member.rate = level;
    member.ruler = touched_[shares_[member.first_share].touched].link;
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
    if (touched_[i].count > 0.0) {
      levels_.push_back({touched_[i].key, i});
    }
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
    if (touched.count > 0.0) {
      sink_first({touched.key, levels_.front().touched});
    } else {
      const Level last = levels_.back();
      levels_.pop_back();
      if (!levels_.empty()) {
        sink_first(last);
      }
    }
  }
}

// Puts `level` in the place of the first of the heap.
void FlowNetwork::sink_first(const Level& level) {
  std::size_t place = 0;
  for (;;) {
    std::size_t child = 2 * place + 1;
    if (child >= levels_.size()) {
      break;
    }
    child += child + 1 < levels_.size() && levels_[child] > levels_[child + 1] ? 1 : 0;
    if (!(level > levels_[child])) {
      break;
    }
    levels_[place] = levels_[child];
    place = child;
  }
  levels_[place] = level;
}

// Members with a bound below the level of the tightest link reach that bound: no other link stops
// them before. If there is none, all members of the link share its level.
void FlowNetwork::fill_tightest(Touched& touched) {
  const double level = touched.left / touched.count;
  bool bounded = false;
  for (std::uint32_t i = touched.first_share; i != none; i = shares_[i].next) {
    Member& member = set_[shares_[i].member];
    if (member.rate < 0.0 && member.bound <= level) {
      fix(member, member.bound, member.ruler);
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
  const Share* share = shares_.begin() + member.first_share;
  for (const Share* end = share + member.share_count; share != end; ++share) {
    Touched& touched = touched_[share->touched];
    touched.left -= share->weight * rate;
    touched.count -= share->weight;
    touched.top = std::max(touched.top, rate);
    touched.level = touched.link == ruler ? rate : touched.level;
  }
}

// Adds the bundles outside the set that can no longer keep their rates. False if there are none.
bool FlowNetwork::widen() {
  const std::uint32_t before = set_.size();
  const std::uint32_t filled = touched_.size();
  for (std::uint32_t i = 0; i < filled; ++i) {
    if (links_[touched_[i].link].size > touched_[i].members) {
      widen_at(touched_[i]);
    }
  }
  return set_.size() > before;
}

// By value: including bundles may move the list of touched links.
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
    const BundleState& bundle = bundles_[visitor.bundle];
    if (bundle.round != round_ && bundle.rate > level) {
      include(visitor.bundle);
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
    bundles_[member.bundle].ruler = member.ruler;
    if (member.ruler != none) {
      LinkState& link = links_[member.ruler];
      ++link.ruled;
      // Alone on it: nobody touched it, and the next to come must find its level.
      link.level = member.rate;
    }
    set_rate(member.bundle, member.rate);
  }
  rates_solved_ += set_.size();
}

}  // namespace longhaul
