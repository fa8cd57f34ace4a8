#include "sim/program/cursor.h"

#include <algorithm>

#include "sim/units/check.h"

namespace longhaul {

namespace {

bool turns_with_a_loop(const Index& index) {
  return index.loop || std::any_of(index.lookups.begin(), index.lookups.end(),
                                   [](const Lookup& lookup) { return lookup.loop.has_value(); });
}

bool within(const Condition& one, const Mesh& mesh, RankId rank,
            const std::vector<std::int64_t>& counters) {
  const std::int64_t value = evaluate(one.value, mesh, rank, counters);
  return value >= one.at_least && value <= one.at_most;
}

Presence presence_of(const Program& program, const Instruction& instruction, RankId rank) {
  if (instruction.op == Op::loop_end) {
    return Presence::always;
  }
  if (instruction.op == Op::loop_begin &&
      program.loops[instruction.loop.index].turns(program.mesh, rank) == 0) {
    return Presence::never;
  }
  bool always = true;
  for (const Condition& one : instruction.when) {
    if (turns_with_a_loop(one.value)) {
      always = false;
    } else if (!within(one, program.mesh, rank, {})) {
      return Presence::never;
    }
  }
  return always ? Presence::always : Presence::by_turn;
}

}  // namespace

std::vector<Presence> presence_of(const Program& program, RankId rank) {
  std::vector<Presence> presence;
  presence.reserve(program.code.size());
  for (const Instruction& instruction : program.code) {
    presence.push_back(presence_of(program, instruction, rank));
  }
  return presence;
}

Cursor::Cursor(const Program& program, RankId rank)
    : program_(&program),
      code_size_(program.code.size()),
      rank_(rank),
      counters_(program.loops.size(), 0),
      begin_of_(program.loops.size(), 0),
      end_of_(program.loops.size(), 0),
      presence_(presence_of(program, rank)) {
  int uniform = 0;
  for (const Loop& loop : program.loops) {
    turns_.push_back(loop.turns(program.mesh, rank));
    check(!loop.uniform || uniform < 64, "a program has at most 64 uniform loops");
    marks_.push_back(loop.uniform ? std::uint64_t{1} << uniform : 0);
    uniform += loop.uniform ? 1 : 0;
  }
  for (std::size_t place = 0; place < code_size_; ++place) {
    const Instruction& instruction = program.code[place];
    if (instruction.op == Op::loop_begin) {
      begin_of_[instruction.loop.index] = place;
    } else if (instruction.op == Op::loop_end) {
      end_of_[instruction.loop.index] = place;
    }
  }
  find_live_places();
  settle();
}

// Stages of a pipeline share one list: most of a long list is never for a given rank.
void Cursor::find_live_places() {
  next_live_.assign(code_size_ + 1, code_size_);
  for (std::size_t place = code_size_; place-- > 0;) {
    const Instruction& instruction = program_->code[place];
    const std::size_t after =
        instruction.op == Op::loop_begin ? end_of_[instruction.loop.index] + 1 : place + 1;
    next_live_[place] = presence_[place] == Presence::never ? next_live_[after] : place;
  }
}

const Instruction& Cursor::instruction() const {
  check(!done(), "the cursor is past the end of the program");
  return program_->code[place_];
}

std::uint64_t Cursor::advance() {
  ++place_;
  return settle();
}

// Steps over loop marks until a real instruction or the end.
std::uint64_t Cursor::settle() {
  std::uint64_t begun = 0;
  while (!done()) {
    place_ = next_live_[place_];
    if (done()) {
      break;
    }
    const Instruction& mark = program_->code[place_];
    if (!holds(place_)) {
      place_ = mark.op == Op::loop_begin ? end_of_[mark.loop.index] + 1 : place_ + 1;
    } else if (mark.op == Op::loop_begin) {
      counters_[mark.loop.index] = 0;
      begun |= marks_[mark.loop.index];
      ++place_;
    } else if (mark.op == Op::loop_end) {
      std::int64_t& counter = counters_[mark.loop.index];
      if (counter + 1 < turns_[mark.loop.index]) {
        ++counter;
        begun |= marks_[mark.loop.index];
        place_ = begin_of_[mark.loop.index] + 1;
      } else {
        counter = 0;
        ++place_;
      }
    } else {
      break;
    }
  }
  return begun;
}

bool Cursor::holds(std::size_t place) const {
  return presence_[place] == Presence::always ||
         conditions_hold(program_->code[place], program_->mesh, rank_, counters_);
}

bool Cursor::inside(LoopId loop) const {
  return place_ > begin_of_[loop.index] && place_ < end_of_[loop.index];
}

void Cursor::skip(LoopId loop, std::int64_t turns) {
  check(inside(loop), "only a loop that the cursor is in can be skipped");
  counters_[loop.index] += turns;
  check(counters_[loop.index] < turns_[loop.index], "skipped beyond the loop");
}

std::int64_t evaluate(const Index& index, const Mesh& mesh, RankId rank,
                      const std::vector<std::int64_t>& counters) {
  std::int64_t value = index.constant;
  if (index.loop) {
    value += index.loop_coefficient * counters[index.loop->index];
  }
  if (index.axis) {
    value += index.axis_coefficient * mesh.coordinate(rank, *index.axis);
  }
  for (const Lookup& lookup : index.lookups) {
    std::int64_t at = lookup.constant + (lookup.loop ? counters[lookup.loop->index] : 0);
    if (lookup.axis) {
      at += lookup.axis_coefficient * mesh.coordinate(rank, *lookup.axis);
    }
    check(at >= 0 && at < static_cast<std::int64_t>(lookup.table->size()),
          "an index must lie in its table");
    value += (*lookup.table)[static_cast<std::size_t>(at)];
  }
  if (index.modulus > 0) {
    value %= index.modulus;
    value += value < 0 ? index.modulus : 0;
  }
  return value;
}

bool conditions_hold(const Instruction& instruction, const Mesh& mesh, RankId rank,
                     const std::vector<std::int64_t>& counters) {
  return std::all_of(
      instruction.when.begin(), instruction.when.end(),
      [&](const Condition& one) { return within(one, mesh, rank, counters); });
}

std::int64_t query_shard(const AttentionBlock& block, const Mesh& mesh, RankId rank,
                         const std::vector<std::int64_t>& counters) {
  const std::int64_t owner = evaluate(block.query_owner, mesh, rank, counters);
  return block.query_node
             ? owner + block.node_shards * evaluate(*block.query_node, mesh, rank, counters)
             : owner;
}

std::optional<std::int64_t> key_shard(const AttentionBlock& block, const Mesh& mesh, RankId rank,
                                      const std::vector<std::int64_t>& counters) {
  if (!block.key_owner) {
    return std::nullopt;
  }
  const std::int64_t owner = evaluate(*block.key_owner, mesh, rank, counters);
  return block.key_node
             ? owner + block.node_shards * evaluate(*block.key_node, mesh, rank, counters)
             : owner;
}

}  // namespace longhaul
