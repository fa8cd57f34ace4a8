#include "sim/network/finish_queue.h"

#include <algorithm>

namespace longhaul {

void FinishQueue::set(std::uint32_t item, std::int64_t when) {
  if (item >= members_.size()) {
    members_.resize(std::max<std::size_t>(2 * members_.size(), item + 1));
  }
  Member& member = members_[item];
  if (member.group == none) {
    join(item, when);
    return;
  }
  Group& group = groups_[member.group];
  if (group.when == when) {
    return;
  }
  const bool others = last_ != none && last_ != member.group && groups_[last_].when == when;
  if (member.next != item || others) {
    leave(item);
    join(item, when);
    return;
  }
  // Alone in its group: the group moves.
  group.when = when;
  last_ = member.group;
  settle(group.place, {when, member.group});
}

void FinishQueue::join(std::uint32_t item, std::int64_t when) {
  if (last_ != none && groups_[last_].when == when) {
    add_to(last_, item);
    return;
  }
  if (free_groups_.empty()) {
    free_groups_.push_back(static_cast<std::uint32_t>(groups_.size()));
    groups_.emplace_back();
  }
  last_ = free_groups_.back();
  free_groups_.pop_back();
  groups_[last_] = {when, 0, item};
  members_[item] = {last_, item, item};
  heap_.emplace_back();
  rise(static_cast<std::uint32_t>(heap_.size() - 1), {when, last_});
}

void FinishQueue::add_to(std::uint32_t group, std::uint32_t item) {
  const std::uint32_t first = groups_[group].first;
  const std::uint32_t last = members_[first].previous;
  members_[item] = {group, first, last};
  members_[last].next = item;
  members_[first].previous = item;
}

void FinishQueue::leave(std::uint32_t item) {
  Member& member = members_[item];
  Group& group = groups_[member.group];
  if (member.next == item) {
    remove_entry(group.place);
    free_groups_.push_back(member.group);
    if (last_ == member.group) {
      last_ = none;
    }
  } else {
    members_[member.previous].next = member.next;
    members_[member.next].previous = member.previous;
    if (group.first == item) {
      group.first = member.next;
    }
  }
  member.group = none;
}

void FinishQueue::pop(std::vector<std::uint32_t>& items) {
  const std::uint32_t group = heap_.front().group;
  const std::uint32_t first = groups_[group].first;
  std::uint32_t item = first;
  do {
    items.push_back(item);
    members_[item].group = none;
    item = members_[item].next;
  } while (item != first);
  free_groups_.push_back(group);
  if (last_ == group) {
    last_ = none;
  }
  remove_entry(0);
}

void FinishQueue::remove_entry(std::uint32_t place) {
  const Entry last = heap_.back();
  heap_.pop_back();
  if (place < heap_.size()) {
    settle(place, last);
  }
}

void FinishQueue::place_entry(std::uint32_t place, const Entry& entry) {
  heap_[place] = entry;
  groups_[entry.group].place = place;
}

void FinishQueue::settle(std::uint32_t place, const Entry& entry) {
  if (place > 0 && entry.when < heap_[(place - 1) / 4].when) {
    rise(place, entry);
  } else {
    sink(place, entry);
  }
}

void FinishQueue::rise(std::uint32_t place, const Entry& entry) {
  while (place > 0) {
    const std::uint32_t parent = (place - 1) / 4;
    if (heap_[parent].when <= entry.when) {
      break;
    }
    place_entry(place, heap_[parent]);
    place = parent;
  }
  place_entry(place, entry);
}

void FinishQueue::sink(std::uint32_t place, const Entry& entry) {
  const std::uint32_t size = static_cast<std::uint32_t>(heap_.size());
  for (;;) {
    const std::uint32_t child = 4 * place + 1;
    if (child >= size) {
      break;
    }
    const std::uint32_t end = std::min(child + 4, size);
    std::uint32_t least = child;
    for (std::uint32_t other = child + 1; other < end; ++other) {
      least = heap_[other].when < heap_[least].when ? other : least;
    }
    if (heap_[least].when >= entry.when) {
      break;
    }
    place_entry(place, heap_[least]);
    place = least;
  }
  place_entry(place, entry);
}

void FinishQueue::shift(std::int64_t span) {
  for (Entry& entry : heap_) {
    entry.when += span;
    groups_[entry.group].when += span;
  }
}

}  // namespace longhaul
