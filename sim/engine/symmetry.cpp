#include "sim/engine/symmetry.h"

#include <algorithm>
#include <bit>
#include <map>
#include <set>
#include <tuple>

#include "sim/program/attention_calls.h"
#include "sim/program/cursor.h"

namespace longhaul {

namespace {

// The finaliser of Steele, Lea and Flood's SplitMix (OOPSLA 2014).
std::uint64_t mix(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

// Of an ordered pair; sums of mix() are hashes of multisets.
std::uint64_t join(std::uint64_t a, std::uint64_t b) { return mix(std::rotl(a, 23) ^ mix(b)); }
std::uint64_t bits(double value) { return std::bit_cast<std::uint64_t>(value); }

// What a rank's own work depends on, besides what all ranks do.
class OwnWork {
 public:
  explicit OwnWork(const Program& program) : program_(program) {}

  std::vector<std::uint64_t> colours() {
    const auto ranks = static_cast<std::size_t>(program_.mesh.ranks());
    std::vector<std::uint64_t> colours(ranks, 1);
    const std::vector<Axis> axes = slot_axes();
    for (std::size_t rank = 0; rank < ranks; ++rank) {
      for (const Axis axis : axes) {
        const std::int64_t at = program_.mesh.coordinate(RankId(rank), axis);
        colours[rank] = join(colours[rank], static_cast<std::uint64_t>(at));
      }
    }
    for (const Instruction& instruction : program_.code) {
      if (instruction.block) {
        add_blocks(*instruction.block, colours);
      }
      if (is_of_some_ranks(instruction)) {
        add_work(instruction, colours);
      }
    }
    add_owned(colours);
    return colours;
  }

 private:
  // Slots chosen by a coordinate make other dependences: such ranks stay apart.
  std::vector<Axis> slot_axes() const {
    std::set<Axis> axes;
    if (program_.mesh.size(Axis::pipeline) > 1) {
      axes.insert(Axis::pipeline);  // conditions and turns of loops, too
    }
    for (const Instruction& instruction : program_.code) {
      for (const auto* refs : {&instruction.reads, &instruction.writes}) {
        for (const TensorRef& ref : *refs) {
          if (ref.slot.axis) {
            axes.insert(*ref.slot.axis);
          }
        }
      }
    }
    return {axes.begin(), axes.end()};
  }

  // Done by ranks of some coordinates alone, besides stages of a pipeline, which stay apart anyway.
  static bool is_of_some_ranks(const Instruction& instruction) {
    return std::any_of(instruction.when.begin(), instruction.when.end(), [](const Condition& one) {
      return one.value.axis && *one.value.axis != Axis::pipeline;
    });
  }

  // What is done, not on which slots: owners of one layer or another are alike
  // (docs/decisions/0014-owners.md). Where turns decide, the coordinates are the difference.
  void add_work(const Instruction& instruction, std::vector<std::uint64_t>& colours) const {
    std::uint64_t work = static_cast<std::uint64_t>(instruction.op);
    for (const auto* refs : {&instruction.reads, &instruction.writes}) {
      for (const TensorRef& ref : *refs) {
        work = join(work, ref.tensor.index);
      }
    }
    const bool turns = std::any_of(
        instruction.when.begin(), instruction.when.end(), [](const Condition& one) {
          return one.value.loop || !one.value.lookups.empty();
        });
    for (std::size_t rank = 0; rank < colours.size(); ++rank) {
      if (turns) {
        for (const Condition& one : instruction.when) {
          colours[rank] = join(colours[rank],
                               static_cast<std::uint64_t>(coordinate(one.value, rank)));
        }
      } else if (conditions_hold(instruction, program_.mesh, RankId(rank), {})) {
        colours[rank] = join(colours[rank], work);
      }
    }
  }

  // What owners hold of tensors that are dealt to them.
  void add_owned(std::vector<std::uint64_t>& colours) const {
    for (const Tensor& tensor : program_.tensors) {
      if (tensor.owner_axes.empty()) {
        continue;
      }
      for (std::size_t rank = 0; rank < colours.size(); ++rank) {
        colours[rank] = join(colours[rank], static_cast<std::uint64_t>(tensor.held_slots(
                                                program_.mesh, RankId(rank))));
      }
    }
  }

  void add_blocks(const AttentionBlock& block, std::vector<std::uint64_t>& colours) {
    std::map<std::vector<std::int64_t>, std::uint64_t> known;  // by coordinates
    const std::vector<Index> indices = indices_of(block);
    for (std::size_t rank = 0; rank < colours.size(); ++rank) {
      std::vector<std::int64_t> key;
      for (const Index& index : indices) {
        key.push_back(coordinate(index, rank));
      }
      auto found = known.find(key);
      if (found == known.end()) {
        found = known.emplace(key, turns_of(block, RankId(rank))).first;
      }
      colours[rank] = join(colours[rank], found->second);
    }
  }

  std::int64_t coordinate(const Index& index, std::size_t rank) const {
    return index.axis ? program_.mesh.coordinate(RankId(rank), *index.axis) : 0;
  }

  // The kernel calls of this block in every turn that its owners depend on.
  std::uint64_t turns_of(const AttentionBlock& block, RankId rank) {
    std::set<std::size_t> loops;
    for (const Index& index : indices_of(block)) {
      if (index.loop) {
        loops.insert(index.loop->index);
      }
    }
    std::vector<std::int64_t> counters(program_.loops.size(), 0);
    std::uint64_t hash = 0;
    do {
      hash = join(hash, calls_of(block, rank, counters));
    } while (next_turn(loops, counters));
    return hash;
  }

  // Counts on like the digits of a number; false once all turns were seen.
  bool next_turn(const std::set<std::size_t>& loops, std::vector<std::int64_t>& counters) const {
    for (const std::size_t loop : loops) {
      if (++counters[loop] < program_.loops[loop].count) {
        return true;
      }
      counters[loop] = 0;
    }
    return false;
  }

  static std::vector<Index> indices_of(const AttentionBlock& block) {
    std::vector<Index> found{block.query_owner};
    for (const auto& index : {block.key_owner, block.query_node, block.key_node}) {
      if (index) {
        found.push_back(*index);
      }
    }
    return found;
  }

  std::uint64_t calls_of(const AttentionBlock& block, RankId rank,
                         const std::vector<std::int64_t>& counters) {
    const std::int64_t query = query_shard(block, program_.mesh, rank, counters);
    const std::optional<std::int64_t> keys = key_shard(block, program_.mesh, rank, counters);
    const auto key = std::tuple(query, keys ? *keys : -1, block.first_half);
    const auto found = calls_.find(key);
    if (found != calls_.end()) {
      return found->second;
    }
    std::uint64_t hash = 0;
    for (const AttentionCall& call : attention_calls(geometry_of(program_, block), query, keys)) {
      // What a call costs: its size and its band, not where it begins.
      for (const std::int64_t value : {call.queries, call.keys, call.band.lower.value_or(INT64_MIN),
                                       call.band.upper.value_or(INT64_MAX)}) {
        hash = join(hash, static_cast<std::uint64_t>(value));
      }
    }
    calls_.emplace(key, hash);
    return hash;
  }

  const Program& program_;
  std::map<std::tuple<std::int64_t, std::int64_t, bool>, std::uint64_t> calls_;
};

class Refinement {
 public:
  Refinement(const Traffic& traffic, Symmetry start)
      : traffic_(traffic), colours_(std::move(start)) {
    colours_.communicators.resize(traffic.communicators.size());
    colours_.wires.resize(traffic.wires.size());
    next_ranks_.resize(colours_.ranks.size());
    next_links_.resize(colours_.links.size());
  }

  Symmetry run(bool refine) {
    std::size_t distinct = count();
    for (bool grew = refine; grew;) {
      look();
      for (std::size_t i = 0; i < next_ranks_.size(); ++i) {
        colours_.ranks[i] = join(colours_.ranks[i], next_ranks_[i]);
      }
      for (std::size_t i = 0; i < next_links_.size(); ++i) {
        colours_.links[i] = colours_.links[i] == 0 ? 0 : join(colours_.links[i], next_links_[i]);
      }
      const std::size_t now = count();
      grew = now > distinct;
      distinct = now;
    }
    look();
    return std::move(colours_);
  }

 private:
  std::size_t count() const {
    const auto distinct = [](std::vector<std::uint64_t> all) {
      std::sort(all.begin(), all.end());
      return static_cast<std::size_t>(std::unique(all.begin(), all.end()) - all.begin());
    };
    return distinct(colours_.ranks) + distinct(colours_.links);
  }

  // Colours everything by what it meets, and collects what ranks and links meet.
  void look() {
    std::fill(next_ranks_.begin(), next_ranks_.end(), 0);
    std::fill(next_links_.begin(), next_links_.end(), 0);
    std::fill(colours_.communicators.begin(), colours_.communicators.end(), 0);
    for (const Transfer& transfer : traffic_.transfers) {
      if (traffic_.exchanges[transfer.exchange].pairwise()) {
        look_at_message(transfer);
      } else {
        look_at_collective(transfer);
      }
    }
    for (std::uint32_t c = 0; c < colours_.communicators.size(); ++c) {
      finish_communicator(c);
    }
  }

  std::uint64_t flows_of(const Transfer& transfer) {
    std::uint64_t sum = 0;
    for (std::uint32_t i = 0; i < transfer.wire_count; ++i) {
      const Wire& wire = traffic_.wires[transfer.first_wire + i];
      std::uint64_t hash = join(join(bits(wire.bytes), bits(wire.cap)), bits(wire.latency));
      for (const LinkId link : traffic_.links_of(wire)) {
        hash = join(hash, colours_.links[link.index]);
      }
      colours_.wires[transfer.first_wire + i] = hash;
      sum += mix(hash);
    }
    const std::uint64_t facts = join(transfer.exchange, bits(transfer.latency.value()));
    return join(join(facts, static_cast<std::uint64_t>(transfer.sms_held)), sum);
  }

  void colour_links(const Transfer& transfer, std::uint64_t colour) {
    for (std::uint32_t i = 0; i < transfer.wire_count; ++i) {
      std::uint64_t& wire = colours_.wires[transfer.first_wire + i];
      wire = join(wire, colour);
      for (const LinkId link : traffic_.links_of(traffic_.wires[transfer.first_wire + i])) {
        next_links_[link.index] += mix(wire);
      }
    }
  }

  std::uint64_t members_of(std::uint32_t communicator) const {
    std::uint64_t sum = 0;
    for (const RankId rank : traffic_.communicators[communicator].members) {
      sum += mix(colours_.ranks[rank.index]);
    }
    return sum;
  }

  void look_at_collective(const Transfer& transfer) {
    const std::uint64_t colour = join(flows_of(transfer), members_of(transfer.communicator));
    colours_.communicators[transfer.communicator] += mix(colour);
    colour_links(transfer, colour);
  }

  void look_at_message(const Transfer& transfer) {
    const auto& members = traffic_.communicators[transfer.communicator].members;
    const int shift = traffic_.exchanges[transfer.exchange].shift;
    const RankId from = members[transfer.member];
    const RankId to = members[traffic_.neighbour(transfer.communicator, transfer.member, shift)];
    const std::uint64_t colour =
        join(join(flows_of(transfer), colours_.ranks[from.index]), colours_.ranks[to.index]);
    colours_.communicators[transfer.communicator] += mix(colour);
    next_ranks_[from.index] += mix(colour);
    next_ranks_[to.index] += mix(mix(colour));
    colour_links(transfer, colour);
  }

  // A communicator is also whom it joins, and what it holds in memory; its members meet it.
  void finish_communicator(std::uint32_t c) {
    const CommunicatorSpec& communicator = traffic_.communicators[c];
    const auto held = static_cast<std::uint64_t>(traffic_.buffers[c]);
    std::uint64_t& colour = colours_.communicators[c];
    colour = join(join(join(colour, members_of(c)), held), communicator.group.index);
    for (const RankId rank : communicator.members) {
      next_ranks_[rank.index] += mix(colour);
    }
  }

  const Traffic& traffic_;
  Symmetry colours_;
  std::vector<std::uint64_t> next_ranks_;
  std::vector<std::uint64_t> next_links_;
};

// Links that something crosses, by their capacity.
std::vector<std::uint64_t> used_links(const Traffic& traffic,
                                      std::span<const BytesPerSecond> capacities) {
  std::vector<std::uint64_t> colours(capacities.size(), 0);
  for (const LinkId link : traffic.links) {
    colours[link.index] = mix(bits(capacities[link.index].value()));
  }
  return colours;
}

}  // namespace

Symmetry no_symmetry(const Program& program, const Traffic& traffic,
                     std::span<const BytesPerSecond> capacities) {
  Symmetry start;
  start.ranks.resize(static_cast<std::size_t>(program.mesh.ranks()));
  for (std::size_t i = 0; i < start.ranks.size(); ++i) {
    start.ranks[i] = i + 1;
  }
  start.links = used_links(traffic, capacities);
  for (std::size_t i = 0; i < start.links.size(); ++i) {
    start.links[i] = start.links[i] == 0 ? 0 : i + 1;
  }
  return Refinement(traffic, std::move(start)).run(false);
}

Symmetry find_symmetry(const Program& program, const Traffic& traffic,
                       std::span<const BytesPerSecond> capacities) {
  Symmetry start;
  start.ranks = OwnWork(program).colours();
  start.links = used_links(traffic, capacities);
  return Refinement(traffic, std::move(start)).run(true);
}

}  // namespace longhaul
