// Messages between two ranks: sender and receiver post, the flow moves, both go on.
#include <algorithm>

#include "sim/engine/machine.h"
#include "sim/units/check.h"

namespace longhaul {

// All messages of an exchange are posted at once, and it is over when all of them are: a group of
// point-to-point calls that NCCL runs as one kernel.
void Machine::post_messages(ActorId actor, std::uint32_t index) {
  ActorState& state = actors_[actor.index];
  const std::uint32_t place = state.tasks[index].place;
  const Instruction& instruction = program_.code[place];
  const std::uint32_t id = fold_.communicator_of(*instruction.group, actor);
  check(id != Fold::none, "who sends or receives belongs to the group");
  const std::uint32_t me = fold_.member_of(*instruction.group, actor);
  const std::vector<std::uint32_t>& exchanges = traffic_.exchanges_of[place];
  const std::size_t reads = instruction.reads.size();
  state.tasks[index].state = TaskState::posted;
  state.tasks[index].started = now_;
  state.tasks[index].transfers = static_cast<std::int32_t>(exchanges.size());
  int sms = 0;
  std::vector<std::uint32_t> touched;
  for (std::size_t i = 0; i < exchanges.size(); ++i) {
    const FoldedTransfer& mine = fold_.transfer(exchanges[i], id, me);
    const bool sends = i < reads;
    const std::uint32_t from = sends ? me : mine.sender;
    const std::uint32_t to = sends ? mine.receiver : me;
    check(members_of(id)[from].count == 1 && members_of(id)[to].count == 1,
          "ranks that exchange messages are not folded into each other");
    const FoldedTransfer& plan = fold_.transfer(exchanges[i], id, from);
    sms = std::max(sms, plan.sms_held);
    result_.extrapolated = result_.extrapolated || plan.extrapolated;
    const std::uint32_t mailbox = mailbox_of(id, instruction.stream, from, to);
    const Letter letter{actor, index, exchanges[i], place};
    (sends ? mailboxes_[mailbox].sent : mailboxes_[mailbox].awaited).push_back(letter);
    touched.push_back(mailbox);
  }
  state.tasks[index].sms_held = sms;
  change_sms(actor, sms);
  for (const std::uint32_t mailbox : touched) {
    start_deliveries(mailbox);
  }
}

std::uint32_t Machine::mailbox_of(std::uint32_t communicator, Stream stream, std::uint32_t from,
                                  std::uint32_t to) {
  const auto [found, fresh] =
      mailbox_index_.emplace(std::array{communicator, static_cast<std::uint32_t>(stream), from, to},
                             static_cast<std::uint32_t>(mailboxes_.size()));
  if (fresh) {
    mailboxes_.emplace_back();
  }
  return found->second;
}

void Machine::start_deliveries(std::uint32_t mailbox) {
  Mailbox& box = mailboxes_[mailbox];
  while (!box.sent.empty() && !box.awaited.empty()) {
    const Letter sender = box.sent.front();
    const Letter receiver = box.awaited.front();
    box.sent.pop_front();
    box.awaited.pop_front();
    start_delivery(mailbox, sender, receiver);
  }
}

void Machine::start_delivery(std::uint32_t mailbox, const Letter& sender, const Letter& receiver) {
  check(sender.exchange == receiver.exchange,
        "sender and receiver of a message must agree on its size");
  const GroupId group = *program_.code[sender.place].group;
  const FoldedTransfer& plan =
      fold_.transfer(sender.exchange, fold_.communicator_of(group, sender.actor),
                     fold_.member_of(group, sender.actor));
  Delivery delivery{sender, receiver, {}, {}};
  delivery.blame.moving = now_;
  delivery.blame.spread = plan.spread;
  delivery.blame.cause = cause_of(program_.code[sender.place]);
  delivery.blame.stream = program_.code[sender.place].stream;
  FlowOwner owner;
  owner.mailbox = mailbox;
  if (plan.flows.empty()) {
    FoldedFlow nothing;
    nothing.copies = fold_.size_of(sender.actor);
    delivery.flows.push_back(begin_flow(nothing, plan.latency, owner));
  }
  for (const FoldedFlow& flow : plan.flows) {
    delivery.flows.push_back(begin_flow(flow, plan.latency, owner));
  }
  mailboxes_[mailbox].moving.push_back(std::move(delivery));
}

void Machine::message_moved(FlowId flow, std::uint32_t mailbox) {
  std::vector<Delivery>& moving = mailboxes_[mailbox].moving;
  const auto delivery = std::find_if(moving.begin(), moving.end(), [&](const Delivery& one) {
    return std::find(one.flows.begin(), one.flows.end(), flow) != one.flows.end();
  });
  check(delivery != moving.end(), "a flow of a message belongs to a delivery");
  delivery->flows.erase(std::find(delivery->flows.begin(), delivery->flows.end(), flow));
  if (!delivery->flows.empty()) {
    return;
  }
  const Delivery done = *delivery;
  moving.erase(delivery);
  message_done(done.sender, done.receiver.actor, done.blame);
  message_done(done.receiver, done.sender.actor, done.blame);
}

void Machine::message_done(const Letter& letter, ActorId other, const Blame& blame) {
  ActorState& state = actors_[letter.actor.index];
  Task& task = state.tasks[letter.task];
  if (--task.transfers > 0) {
    return;
  }
  task.blame = blame;
  task.blame.place = letter.place;
  task.blame.last = static_cast<std::uint32_t>(fold_.rank_of(other).index);
  note_moved(state, task.blame, now_);
  change_sms(letter.actor, -task.sms_held);
  complete(letter.actor, letter.task);
}

}  // namespace longhaul
