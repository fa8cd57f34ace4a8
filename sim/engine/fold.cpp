#include "sim/engine/fold.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "sim/units/check.h"

namespace longhaul {

Fold::Fold(const Traffic& traffic, const Symmetry& symmetry,
           std::span<const BytesPerSecond> capacities)
    : traffic_(traffic) {
  find_actors(symmetry);
  find_links(symmetry, capacities);
  find_communicators(symmetry);
  count_crossings(symmetry);
  find_transfers(symmetry);
}

void Fold::find_actors(const Symmetry& symmetry) {
  std::unordered_map<std::uint64_t, std::uint32_t> known;
  for (std::size_t rank = 0; rank < symmetry.ranks.size(); ++rank) {
    const auto [found, fresh] = known.emplace(symmetry.ranks[rank], rank_of_.size());
    if (fresh) {
      rank_of_.emplace_back(rank);
      size_of_.push_back(0);
    }
    ++size_of_[found->second];
    actor_of_.emplace_back(found->second);
  }
}

void Fold::find_links(const Symmetry& symmetry, std::span<const BytesPerSecond> capacities) {
  std::unordered_map<std::uint64_t, std::uint32_t> known;
  link_class_.assign(symmetry.links.size(), none);
  for (std::uint32_t link = 0; link < symmetry.links.size(); ++link) {
    if (symmetry.links[link] == 0) {
      continue;
    }
    const auto [found, fresh] = known.emplace(symmetry.links[link], representative_.size());
    if (fresh) {
      representative_.push_back(link);
      capacities_.push_back(capacities[link]);
    }
    link_class_[link] = found->second;
  }
}

void Fold::find_communicators(const Symmetry& symmetry) {
  std::unordered_map<std::uint64_t, std::uint32_t> known;
  for (std::size_t group = 0; group < traffic_.communicator_of.size(); ++group) {
    communicator_of_.emplace_back();
    member_of_.emplace_back();
    for (std::uint32_t actor = 0; actor < rank_of_.size(); ++actor) {
      const std::uint32_t original = traffic_.communicator_of[group][rank_of_[actor].index];
      if (original == Traffic::none) {
        communicator_of_.back().push_back(none);
        member_of_.back().push_back(none);
        continue;
      }
      const auto found = known.find(symmetry.communicators[original]);
      const std::uint32_t mine = found == known.end() ? add_communicator(original) : found->second;
      known.emplace(symmetry.communicators[original], mine);
      const auto& members = communicators_[mine].members;
      const auto place = std::find_if(members.begin(), members.end(), [&](const auto& member) {
        return member.actor.index == actor;
      });
      check(place != members.end(), "alike communicators have alike members");
      communicator_of_.back().push_back(mine);
      member_of_.back().push_back(static_cast<std::uint32_t>(place - members.begin()));
    }
  }
}

std::uint32_t Fold::add_communicator(std::uint32_t original) {
  FoldedCommunicator made;
  made.original = original;
  const CommunicatorSpec& spec = traffic_.communicators[original];
  std::unordered_map<std::uint32_t, std::uint32_t> known;
  for (std::uint32_t i = 0; i < spec.members.size(); ++i) {
    const ActorId actor = actor_of_[spec.members[i].index];
    const auto [found, fresh] = known.emplace(actor.index, made.members.size());
    if (fresh) {
      made.members.push_back({actor, 0, i});
    }
    ++made.members[found->second].count;
    made.place_of.push_back(found->second);
  }
  made.buffers = traffic_.buffers[original];
  communicators_.push_back(std::move(made));
  return static_cast<std::uint32_t>(communicators_.size() - 1);
}

// For every colour of flows: how many there are, and how many cross each representative link.
void Fold::count_crossings(const Symmetry& symmetry) {
  std::vector<Crossings> all;
  std::vector<std::uint64_t> colours = symmetry.wires;
  for (std::uint32_t i = 0; i < traffic_.wires.size(); ++i) {
    for (const LinkId link : traffic_.links_of(traffic_.wires[i])) {
      const std::uint32_t link_class = link_class_[link.index];
      if (representative_[link_class] == link.index) {
        all.push_back({symmetry.wires[i], link_class, 1});
      }
    }
  }
  std::sort(all.begin(), all.end());
  for (const Crossings& one : all) {
    if (!crossings_.empty() && crossings_.back().colour == one.colour &&
        crossings_.back().link_class == one.link_class) {
      ++crossings_.back().count;
    } else {
      crossings_.push_back(one);
    }
  }
  std::sort(colours.begin(), colours.end());
  for (const std::uint64_t colour : colours) {
    if (copies_.empty() || copies_.back().first != colour) {
      copies_.emplace_back(colour, 0);
    }
    ++copies_.back().second;
  }
}

void Fold::find_transfers(const Symmetry& symmetry) {
  for (std::uint32_t i = 0; i < traffic_.exchanges.size(); ++i) {
    const Exchange& exchange = traffic_.exchanges[i];
    std::vector<std::vector<FoldedTransfer>>& mine = transfers_.emplace_back();
    mine.resize(communicators_.size());
    for (std::uint32_t c = 0; c < communicators_.size(); ++c) {
      const FoldedCommunicator& communicator = communicators_[c];
      if (traffic_.communicators[communicator.original].group != exchange.group) {
        continue;
      }
      const std::size_t each = exchange.pairwise() ? communicator.members.size() : 1;
      for (std::size_t member = 0; member < each; ++member) {
        mine[c].push_back(make_transfer(i, c, communicator.members[member], symmetry));
      }
    }
  }
}

FoldedTransfer Fold::make_transfer(std::uint32_t exchange, std::uint32_t c,
                                   const FoldedMember& member, const Symmetry& symmetry) const {
  const FoldedCommunicator& communicator = communicators_[c];
  const std::uint32_t original = communicator.original;
  const Transfer& transfer =
      traffic_.transfers[traffic_.transfer_of(exchange, original, member.first)];
  FoldedTransfer made;
  made.latency = transfer.latency;
  made.sms_held = transfer.sms_held;
  made.spread = transfer.spread;
  made.extrapolated = transfer.extrapolated;
  const int shift = traffic_.exchanges[exchange].shift;
  made.receiver = communicator.place_of[traffic_.neighbour(original, member.first, shift)];
  made.sender = communicator.place_of[traffic_.neighbour(original, member.first, -shift)];
  std::unordered_set<std::uint64_t> known;
  for (std::uint32_t i = 0; i < transfer.wire_count; ++i) {
    const std::uint32_t wire = transfer.first_wire + i;
    if (known.insert(symmetry.wires[wire]).second) {
      made.flows.push_back(make_flow(wire, symmetry));
    }
  }
  return made;
}

FoldedFlow Fold::make_flow(std::uint32_t index, const Symmetry& symmetry) const {
  const Wire& wire = traffic_.wires[index];
  const std::uint64_t colour = symmetry.wires[index];
  FoldedFlow flow;
  flow.bytes = Bytes::of(wire.bytes);
  flow.cap = BytesPerSecond::of(wire.cap);
  flow.latency = Seconds::of(wire.latency);
  const auto copies =
      std::lower_bound(copies_.begin(), copies_.end(), std::pair(colour, INT64_MIN));
  flow.copies = copies->second;
  for (const LinkId link : traffic_.links_of(wire)) {
    const LinkId mine(link_class_[link.index]);
    if (std::find(flow.links.begin(), flow.links.end(), mine) != flow.links.end()) {
      continue;  // the weight counts all crossings of the class
    }
    const Crossings wanted{colour, mine.index, 0};
    const auto found = std::lower_bound(crossings_.begin(), crossings_.end(), wanted);
    check(found != crossings_.end() && found->colour == colour && found->link_class == mine.index,
          "alike links carry alike flows");
    flow.links.push_back(mine);
    flow.weights.push_back(found->count);
  }
  return flow;
}

const FoldedTransfer& Fold::transfer(std::uint32_t exchange, std::uint32_t communicator,
                                     std::uint32_t member) const {
  const bool pairwise = traffic_.exchanges[exchange].pairwise();
  return transfers_[exchange][communicator][pairwise ? member : 0];
}

}  // namespace longhaul
