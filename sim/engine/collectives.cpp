// Collectives: members post, flows move, members go on.
#include <algorithm>

#include "sim/engine/machine.h"
#include "sim/units/check.h"

namespace longhaul {

namespace {

CollectiveKind kind_of(Op op) {
  switch (op) {
    case Op::all_gather: return CollectiveKind::all_gather;
    case Op::reduce_scatter: return CollectiveKind::reduce_scatter;
    case Op::all_reduce: return CollectiveKind::all_reduce;
    case Op::all_to_all: return CollectiveKind::all_to_all;
    default: break;
  }
  check(op == Op::send_receive, "only collectives have a kind");
  return CollectiveKind::send;
}

std::uint32_t shifted(std::uint32_t member, int shift, std::size_t size) {
  const auto n = static_cast<std::int64_t>(size);
  return static_cast<std::uint32_t>(((static_cast<std::int64_t>(member) + shift) % n + n) % n);
}

}  // namespace

const CollectivePlan& Machine::plan_for(std::uint32_t communicator, std::uint32_t place,
                                        std::uint32_t member) {
  const Instruction& instruction = program_.code[place];
  const bool pairwise = instruction.op == Op::send_receive;
  const std::uint64_t key = static_cast<std::uint64_t>(communicator) << 40 |
                            static_cast<std::uint64_t>(place) << 20 | (pairwise ? member : 0);
  const auto found = plans_.find(key);
  if (found != plans_.end()) {
    return found->second;
  }
  const std::vector<GpuId>& gpus = communicators_[communicator].gpus;
  CollectiveRequest request;
  request.kind = kind_of(instruction.op);
  request.bytes = collective_bytes(program_, instruction);
  std::vector<GpuId> pair;
  if (pairwise) {
    pair = {gpus[member], gpus[shifted(member, instruction.shift, gpus.size())]};
    request.gpus = pair;
  } else {
    request.gpus = gpus;
  }
  CollectivePlan plan = transport_.lower(request);
  result_.extrapolated = result_.extrapolated || plan.extrapolated;
  return plans_.emplace(key, std::move(plan)).first->second;
}

// A member reaches its collective: it holds its SMs from now on and waits for the others.
void Machine::post(RankId rank, std::uint32_t index) {
  RankState& state = ranks_[rank.index];
  Task& task = state.tasks[index];
  const Instruction& instruction = program_.code[task.place];
  const std::uint32_t id = communicator_of_[instruction.group->index][rank.index];
  const std::uint32_t member = member_of_[instruction.group->index][rank.index];
  Communicator& communicator = communicators_[id];
  Channel& channel = communicator.channels[static_cast<int>(instruction.stream)];
  const std::uint64_t sequence = channel.next[member]++;
  const std::size_t members = communicator.members.size();
  while (channel.queue.size() <= sequence - channel.first) {
    Occurrence fresh;
    fresh.place = task.place;
    fresh.members_left = static_cast<std::int32_t>(members);
    fresh.task_of.assign(members, std::nullopt);
    channel.queue.push_back(std::move(fresh));
  }
  Occurrence& occurrence = channel.queue[sequence - channel.first];
  check(occurrence.place == task.place, "the members of a communicator must agree on its order");
  occurrence.task_of[member] = index;
  ++occurrence.arrived;
  task.state = TaskState::posted;
  task.started = now_;
  // A kernel that sends to one neighbour and receives from another needs what the busier side does.
  const std::uint32_t source = shifted(member, -instruction.shift, members);
  task.sms_held = std::max(plan_for(id, task.place, member).sms_held,
                           plan_for(id, task.place, source).sms_held);
  change_sms(rank, task.sms_held);
  if (instruction.op == Op::send_receive) {
    task.transfers = 2;
    const std::uint32_t after = shifted(member, instruction.shift, members);
    if (occurrence.task_of[after]) {
      start_transfers(id, instruction.stream, sequence, member);
    }
    if (source != member && occurrence.task_of[source]) {
      start_transfers(id, instruction.stream, sequence, source);
    }
  } else if (occurrence.arrived == static_cast<std::int32_t>(members)) {
    start_collective(id, instruction.stream, sequence);
  }
}

void Machine::start_plan(const CollectivePlan& plan, const FlowOwner& owner,
                         Occurrence& occurrence) {
  occurrence.blame.moving = now_;
  occurrence.blame.spread = plan.relative_spread;
  occurrence.blame.cause = cause_of(program_.code[occurrence.place]);
  if (plan.flows.empty()) {
    start_flow({}, plan.latency, owner);
  }
  for (const PlannedFlow& flow : plan.flows) {
    start_flow(flow, plan.latency, owner);
  }
}

void Machine::start_flow(const PlannedFlow& flow, Seconds extra, const FlowOwner& owner) {
  FlowSpec spec;
  spec.links = flow.links;
  spec.bytes = flow.bytes;
  spec.latency = flow.latency + extra;
  if (!flow.links.empty()) {
    spec.rate_cap = flow.rate_cap;
  }
  const FlowId id = network_.start(spec, now_);
  if (owners_.size() <= id.index) {
    owners_.resize(id.index + 1);
  }
  owners_[id.index] = owner;
  Channel& channel = communicators_[owner.communicator].channels[owner.stream];
  Occurrence& occurrence = channel.queue[owner.sequence - channel.first];
  occurrence.flows.push_back(id);
  ++occurrence.flows_left;
}

void Machine::start_collective(std::uint32_t communicator, Stream stream,
                               std::uint64_t sequence) {
  Channel& channel = communicators_[communicator].channels[static_cast<int>(stream)];
  Occurrence& occurrence = channel.queue[sequence - channel.first];
  occurrence.started = true;
  FlowOwner owner;
  owner.communicator = communicator;
  owner.stream = static_cast<std::uint8_t>(stream);
  owner.sequence = sequence;
  start_plan(plan_for(communicator, occurrence.place, 0), owner, occurrence);
}

// Sender and receiver are both there: the message from `member` to its neighbour moves.
void Machine::start_transfers(std::uint32_t communicator, Stream stream, std::uint64_t sequence,
                              std::uint32_t member) {
  Channel& channel = communicators_[communicator].channels[static_cast<int>(stream)];
  Occurrence& occurrence = channel.queue[sequence - channel.first];
  const int shift = program_.code[occurrence.place].shift;
  FlowOwner owner;
  owner.communicator = communicator;
  owner.stream = static_cast<std::uint8_t>(stream);
  owner.sequence = sequence;
  owner.sender = member;
  owner.receiver = shifted(member, shift, communicators_[communicator].members.size());
  start_plan(plan_for(communicator, occurrence.place, member), owner, occurrence);
}

void Machine::flow_done(FlowId flow) {
  const FlowOwner owner = owners_[flow.index];
  Communicator& communicator = communicators_[owner.communicator];
  Channel& channel = communicator.channels[owner.stream];
  Occurrence& occurrence = channel.queue[owner.sequence - channel.first];
  occurrence.flows.erase(std::find(occurrence.flows.begin(), occurrence.flows.end(), flow));
  --occurrence.flows_left;
  ++result_.events;
  ++result_.simulated_events;
  if (owner.sender) {
    for (const std::uint32_t member : {*owner.sender, *owner.receiver}) {
      RankState& state = ranks_[communicator.members[member].index];
      if (--state.tasks[*occurrence.task_of[member]].transfers == 0) {
        finish_member(communicator, occurrence, member);
      }
    }
  } else if (occurrence.flows_left == 0) {
    for (std::uint32_t member = 0; member < communicator.members.size(); ++member) {
      finish_member(communicator, occurrence, member);
    }
  }
  retire(channel);
}

void Machine::finish_member(Communicator& communicator, Occurrence& occurrence,
                            std::uint32_t member) {
  const RankId rank = communicator.members[member];
  const std::uint32_t index = *occurrence.task_of[member];
  RankState& state = ranks_[rank.index];
  state.tasks[index].blame = occurrence.blame;
  state.last_transfer = occurrence.blame;
  --occurrence.members_left;
  change_sms(rank, -state.tasks[index].sms_held);
  complete(rank, index);
}

void Machine::retire(Channel& channel) {
  while (!channel.queue.empty() && channel.queue.front().members_left == 0) {
    channel.queue.pop_front();
    ++channel.first;
  }
}

}  // namespace longhaul
