#include "sim/reference/execution.h"

#include <algorithm>
#include <set>

namespace longhaul {

namespace {

// Runs `act`, putting in front of its complaint where it happened.
template <class Act>
void located(const std::string& where, const Act& act) {
  try {
    act();
  } catch (const ReferenceError& error) {
    throw ReferenceError(where + " " + error.what());
  }
}

bool each_axis_once(const Group& group) {
  std::set<Axis> seen;
  return std::all_of(group.axes.begin(), group.axes.end(),
                     [&](Axis axis) { return seen.insert(axis).second; });
}

}  // namespace

Execution::Execution(const Program& program, std::vector<ReferenceMemory>& memory,
                     const std::set<std::pair<RankId, std::size_t>>& left_out, ExecutionOrder order,
                     std::uint64_t seed)
    : program_(program),
      memory_(memory),
      random_(order == ExecutionOrder::any_legal),
      choice_(seed) {
  for (const Group& group : program.groups) {
    if (!each_axis_once(group)) {
      throw ReferenceError("group '" + group.name + "' lists an axis twice");
    }
  }
  for (std::size_t rank = 0; rank < memory.size(); ++rank) {
    prepare(RankId(rank), left_out, order);
  }
}

void Execution::prepare(RankId rank, const std::set<std::pair<RankId, std::size_t>>& left_out,
                        ExecutionOrder order) {
  std::vector<std::size_t> places;
  for (const auto& [who, place] : left_out) {
    if (who == rank) {
      places.push_back(place);
    }
  }
  std::vector<Step> steps = trace(program_, rank, places);
  order == ExecutionOrder::program ? order_as_listed(program_, steps) : order_by_dependence(program_, steps);
  auto& blockers = blockers_.emplace_back(steps.size(), 0);
  auto& dependents = dependents_.emplace_back(steps.size());
  for (std::size_t i = 0; i < steps.size(); ++i) {
    blockers[i] = steps[i].after.size();
    for (const std::size_t before : steps[i].after) {
      dependents[before].push_back(i);
    }
    if (blockers[i] == 0) {
      ready_.push_back({rank, i});
    }
  }
  left_ += steps.size();
  steps_.push_back(std::move(steps));
}

const Step& Execution::step(const At& at) const { return steps_[at.rank.index][at.step]; }

const Instruction& Execution::instruction(const At& at) const {
  return program_.code[step(at).place];
}

std::string Execution::describe(const At& at) const {
  return "'" + program_.name + "', rank " + std::to_string(at.rank.index) + ", instruction " +
         std::to_string(step(at).place) + " (" + name_of(instruction(at).op) + " '" +
         instruction(at).label + "')";
}

void Execution::run() {
  while (!ready_.empty()) {
    execute(take_next());
  }
  if (left_ > 0) {
    report_deadlock();
  }
  if (!messages_.empty()) {
    throw ReferenceError("'" + program_.name + "': rank " +
                         std::to_string(std::get<2>(messages_.begin()->first).index) +
                         " never receives a message from rank " +
                         std::to_string(std::get<1>(messages_.begin()->first).index));
  }
  for (std::size_t rank = 0; rank < memory_.size(); ++rank) {
    located("'" + program_.name + "', rank " + std::to_string(rank) + ":",
            [&] { memory_[rank].check_all_released(); });
  }
}

Execution::At Execution::take_next() {
  // Not std::uniform_int_distribution: its results differ between standard libraries.
  const std::size_t chosen = random_ ? choice_() % ready_.size() : ready_.size() - 1;
  std::swap(ready_[chosen], ready_.back());
  const At at = ready_.back();
  ready_.pop_back();
  return at;
}

void Execution::execute(const At& at) {
  if (is_collective(instruction(at).op)) {
    arrive(at);
    return;
  }
  if (instruction(at).op == Op::exchange) {
    located(describe(at), [&] { post_messages(at); });
    take_messages(at);
    return;
  }
  if (instruction(at).op == Op::wait) {
    finish(at);
    return;
  }
  located(describe(at), [&] {
    const Op op = instruction(at).op;
    op == Op::allocate || op == Op::release ? allocate_or_release(at) : execute_alone(at);
  });
  finish(at);
}

void Execution::allocate_or_release(const At& at) {
  for (const Operand& operand : step(at).writes) {
    memory_[at.rank.index].allocate(operand);
  }
  for (const Operand& operand : step(at).reads) {
    memory_[at.rank.index].release(operand);
  }
}

Call Execution::call_of(const At& at) {
  Call call{program_, instruction(at), at.rank, step(at).counters, {}, {}, {}};
  const ReferenceMemory& memory = memory_[at.rank.index];
  for (const Operand& operand : step(at).reads) {
    call.reads.push_back(memory.read(operand));
  }
  for (std::size_t i = 0; i < step(at).writes.size(); ++i) {
    const Operand& operand = step(at).writes[i];
    static_cast<void>(memory.held(operand));
    call.writes.push_back(Array::filled(memory.shape(operand), 0.0));
    if (accumulation(call.instruction, i) == Accumulation::combine) {
      call.before.push_back(memory.read(operand));
    }
  }
  return call;
}

void Execution::execute_alone(const At& at) {
  Call call = call_of(at);
  compute(call);
  for (std::size_t i = 0; i < call.writes.size(); ++i) {
    store(at, i, std::move(call.writes[i]));
  }
}

void Execution::store(const At& at, std::size_t write, Array value) {
  ReferenceMemory& memory = memory_[at.rank.index];
  const Operand& operand = step(at).writes[write];
  if (accumulation(instruction(at), write) == Accumulation::sum) {
    add_to(value, memory.read(operand));
  }
  memory.write(operand, value);
}

void Execution::arrive(const At& at) {
  const GroupId group = *instruction(at).group;
  const std::vector<RankId> members = group_members(program_.mesh, program_.group(group), at.rank);
  const Meeting meeting{group, members[0], step(at).meeting};
  std::vector<At>& here = waiting_[meeting];
  here.push_back(at);
  const Step& first = step(here[0]);
  if (first.place != step(at).place || first.counters != step(at).counters) {
    throw ReferenceError(describe(at) + " meets " + describe(here[0]) +
                         " in a collective of group '" + program_.group(group).name + "'");
  }
  if (here.size() < members.size()) {
    return;
  }
  std::vector<At> in_order;
  for (const RankId member : members) {
    in_order.push_back(*std::find_if(here.begin(), here.end(),
                                     [&](const At& other) { return other.rank == member; }));
  }
  waiting_.erase(meeting);
  execute_together(in_order);
}

// Sends without waiting for the receiver: only the engine knows when messages move.
void Execution::post_messages(const At& at) {
  const Step& mine = step(at);
  for (std::size_t i = 0; i < mine.reads.size(); ++i) {
    const MessageId& id = mine.messages[i];
    messages_.emplace(id, memory_[at.rank.index].read(mine.reads[i]));
    const auto receiver = waiting_messages_.find(id);
    if (receiver != waiting_messages_.end()) {
      const At other = receiver->second;
      waiting_messages_.erase(receiver);
      take_messages(other);
    }
  }
}

// Once all messages that a step receives are there it is done.
void Execution::take_messages(const At& at) {
  const Step& mine = step(at);
  const std::size_t sent = mine.reads.size();
  for (std::size_t i = 0; i < mine.writes.size(); ++i) {
    if (messages_.find(mine.messages[sent + i]) == messages_.end()) {
      waiting_messages_[mine.messages[sent + i]] = at;
      return;
    }
  }
  located(describe(at), [&] {
    for (std::size_t i = 0; i < mine.writes.size(); ++i) {
      const auto found = messages_.find(mine.messages[sent + i]);
      store(at, i, std::move(found->second));
      messages_.erase(found);
    }
  });
  finish(at);
}

void Execution::execute_together(const std::vector<At>& members) {
  located(describe(members[0]), [&] {
    for (std::size_t operand = 0; operand < step(members[0]).reads.size(); ++operand) {
      move_operand(members, operand);
    }
  });
  for (const At& member : members) {
    finish(member);
  }
}

void Execution::move_operand(const std::vector<At>& members, std::size_t operand) {
  std::vector<Array> parts;
  for (const At& member : members) {
    parts.push_back(memory_[member.rank.index].read(step(member).reads[operand]));
  }
  const Instruction& exchange = instruction(members[0]);
  std::vector<RankId> ranks;
  for (const At& member : members) {
    ranks.push_back(member.rank);
  }
  std::vector<Array> results = is_token_exchange(exchange.op)
                                   ? exchange_tokens(program_, exchange, ranks, operand, parts)
                                   : exchange_parts(exchange, parts);
  for (std::size_t i = 0; i < members.size(); ++i) {
    const std::vector<std::int64_t> shape =
        memory_[members[i].rank.index].shape(step(members[i]).writes[operand]);
    if (results[i].shape != shape) {
      throw ReferenceError("makes " + print_shape(results[i].shape) + " where " +
                           print_shape(shape) + " is to be written");
    }
    store(members[i], operand, std::move(results[i]));
  }
}

void Execution::finish(const At& at) {
  --left_;
  for (const std::size_t next : dependents_[at.rank.index][at.step]) {
    if (--blockers_[at.rank.index][next] == 0) {
      ready_.push_back({at.rank, next});
    }
  }
}

void Execution::report_deadlock() const {
  std::string text = "'" + program_.name + "' never ends:";
  for (const auto& [meeting, here] : waiting_) {
    for (const At& at : here) {
      text += "\n  " + describe(at) + " waits for others of group '" +
              program_.group(std::get<0>(meeting)).name + "'";
    }
  }
  for (const auto& [message, at] : waiting_messages_) {
    text += "\n  " + describe(at) + " waits for a message from rank " +
            std::to_string(std::get<1>(message).index);
  }
  throw ReferenceError(text);
}

}  // namespace longhaul
