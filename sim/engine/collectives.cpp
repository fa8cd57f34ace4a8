// Collectives: members post, flows move, members go on.
#include <algorithm>

#include "sim/engine/machine.h"
#include "sim/units/check.h"

namespace longhaul {

const FoldedTransfer& Machine::plan_for(std::uint32_t communicator, std::uint32_t place,
                                        std::uint32_t member) const {
  return fold_.transfer(traffic_.exchanges_of[place][0], communicator, member);
}

// A member reaches its collective: it holds its SMs from now on and waits for the others.
void Machine::post(ActorId actor, std::uint32_t index) {
  ActorState& state = actors_[actor.index];
  Task& task = state.tasks[index];
  const Instruction& instruction = program_.code[task.place];
  if (instruction.op == Op::exchange) {
    post_messages(actor, index);
    return;
  }
  const std::uint32_t id = fold_.communicator_of(*instruction.group, actor);
  const std::uint32_t member = fold_.member_of(*instruction.group, actor);
  Channel& channel = communicators_[id].channels[static_cast<int>(instruction.stream)];
  const std::uint64_t sequence = channel.next[member]++;
  const std::vector<FoldedMember>& members = members_of(id);
  while (channel.queue.size() <= sequence - channel.first) {
    add_occurrence(channel, task.place, members.size());
  }
  Occurrence& occurrence = channel.queue[sequence - channel.first];
  check(occurrence.place == task.place, "the members of a communicator must agree on its order");
  occurrence.task_of[member] = index;
  occurrence.arrived += members[member].count;
  occurrence.blame.last = static_cast<std::uint32_t>(fold_.rank_of(actor).index);
  task.state = TaskState::posted;
  task.started = now_;
  const FoldedTransfer& plan = plan_for(id, task.place, member);
  result_.extrapolated = result_.extrapolated || plan.extrapolated;
  if (instruction.op == Op::send_receive) {
    // A kernel that sends to one neighbour and receives from another needs what the busier side
    // does.
    task.sms_held = std::max(plan.sms_held, plan_for(id, task.place, plan.sender).sms_held);
    change_sms(actor, task.sms_held);
    task.transfers = 2;
    if (occurrence.task_of[plan.receiver]) {
      start_transfers(id, instruction.stream, sequence, member);
    }
    if (plan.sender != member && occurrence.task_of[plan.sender]) {
      start_transfers(id, instruction.stream, sequence, plan.sender);
    }
    return;
  }
  task.sms_held = plan.sms_held;
  change_sms(actor, task.sms_held);
  if (occurrence.arrived == fold_.communicators()[id].place_of.size()) {
    start_collective(id, instruction.stream, sequence);
  }
}

void Machine::start_plan(const FoldedTransfer& plan, FlowOwner owner, Occurrence& occurrence) {
  occurrence.blame.moving = now_;
  occurrence.blame.spread = plan.spread;
  occurrence.blame.cause = cause_of(program_.code[occurrence.place]);
  occurrence.blame.place = occurrence.place;
  occurrence.blame.stream = program_.code[occurrence.place].stream;
  if (plan.flows.empty()) {
    const FoldedMember& member = members_of(owner.communicator)[owner.sender.value_or(0)];
    FoldedFlow nothing;
    nothing.copies = fold_.size_of(member.actor) / (owner.sender ? 1 : member.count);
    start_flow(nothing, plan.latency, owner);
  }
  for (const FoldedFlow& flow : plan.flows) {
    start_flow(flow, plan.latency, owner);
  }
}

FlowId Machine::begin_flow(const FoldedFlow& flow, Seconds extra, const FlowOwner& owner) {
  FlowSpec spec;
  spec.links = flow.links;
  spec.weights = flow.weights;
  spec.bytes = flow.bytes;
  spec.latency = flow.latency + extra;
  if (!flow.links.empty()) {
    spec.rate_cap = flow.cap;
  }
  const FlowId id = network_.start(spec, now_);
  if (owners_.size() <= id.index) {
    owners_.resize(id.index + 1);
  }
  owners_[id.index] = owner;
  owners_[id.index].copies = flow.copies;
  return id;
}

void Machine::start_flow(const FoldedFlow& flow, Seconds extra, const FlowOwner& owner) {
  const FlowId id = begin_flow(flow, extra, owner);
  Channel& channel = communicators_[owner.communicator].channels[owner.stream];
  Occurrence& occurrence = channel.queue[owner.sequence - channel.first];
  occurrence.flows.push_back(id);
  ++occurrence.flows_left;
}

void Machine::start_collective(std::uint32_t communicator, Stream stream, std::uint64_t sequence) {
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
  const FoldedTransfer& plan = plan_for(communicator, occurrence.place, member);
  FlowOwner owner;
  owner.communicator = communicator;
  owner.stream = static_cast<std::uint8_t>(stream);
  owner.sequence = sequence;
  owner.sender = member;
  owner.receiver = plan.receiver;
  start_plan(plan, owner, occurrence);
}

void Machine::flow_done(FlowId flow) {
  const FlowOwner owner = owners_[flow.index];
  if (owner.mailbox) {
    result_.events += owner.copies;
    ++result_.simulated_events;
    message_moved(flow, *owner.mailbox);
    return;
  }
  const std::vector<FoldedMember>& members = members_of(owner.communicator);
  Channel& channel = communicators_[owner.communicator].channels[owner.stream];
  Occurrence& occurrence = channel.queue[owner.sequence - channel.first];
  occurrence.flows.erase(std::find(occurrence.flows.begin(), occurrence.flows.end(), flow));
  --occurrence.flows_left;
  result_.events += owner.copies;
  ++result_.simulated_events;
  if (owner.sender) {
    for (const std::uint32_t member : {*owner.sender, *owner.receiver}) {
      ActorState& state = actors_[members[member].actor.index];
      if (--state.tasks[*occurrence.task_of[member]].transfers == 0) {
        finish_member(owner.communicator, occurrence, member);
      }
    }
  } else if (occurrence.flows_left == 0) {
    for (std::uint32_t member = 0; member < members.size(); ++member) {
      finish_member(owner.communicator, occurrence, member);
    }
  }
  retire(channel);
}

void Machine::finish_member(std::uint32_t communicator, Occurrence& occurrence,
                            std::uint32_t member) {
  const ActorId actor = members_of(communicator)[member].actor;
  const std::uint32_t index = *occurrence.task_of[member];
  ActorState& state = actors_[actor.index];
  state.tasks[index].blame = occurrence.blame;
  note_moved(state, occurrence.blame, now_);
  --occurrence.members_left;
  change_sms(actor, -state.tasks[index].sms_held);
  complete(actor, index);
}

void Machine::retire(Channel& channel) {
  while (!channel.queue.empty() && channel.queue.front().members_left == 0) {
    spare_.push_back(std::move(channel.queue.front()));
    channel.queue.pop_front();
    ++channel.first;
  }
}

void Machine::add_occurrence(Channel& channel, std::uint32_t place, std::size_t members) {
  Occurrence fresh;
  if (!spare_.empty()) {
    fresh.task_of.swap(spare_.back().task_of);
    fresh.flows.swap(spare_.back().flows);
    spare_.pop_back();
  }
  fresh.place = place;
  fresh.members_left = static_cast<std::int32_t>(members);
  fresh.task_of.assign(members, std::nullopt);
  fresh.flows.clear();
  channel.queue.push_back(std::move(fresh));
}

}  // namespace longhaul
