// The compute stream: kernels, their slowing by communication, memory, idle accounts.
#include <cmath>

#include "sim/engine/machine.h"
#include "sim/units/check.h"

namespace longhaul {

// Starts the head of the compute stream. True if it is a kernel that now runs; instructions
// without duration are over at once.
bool Machine::start_compute(ActorId actor, std::uint32_t index) {
  ActorState& state = actors_[actor.index];
  Task& task = state.tasks[index];
  const Instruction& instruction = program_.code[task.place];
  check(instruction.stream == Stream::compute, "kernels run on the compute stream");
  task.started = now_;
  account_gap(state, task.blame, std::min(task.held_up, now_));
  const bool reads_data = instruction.not_before > Seconds();
  account_gap(state, {reads_data ? Cause::data_loading : Cause::host, SimTime(), 0.0}, now_);
  if (instruction.op == Op::allocate) {
    apply_memory(actor, task);
    complete(actor, index);
    return false;
  }
  if ((instruction.op == Op::host && !instruction.waits) || instruction.op == Op::wait) {
    complete(actor, index);
    return false;
  }
  if (program_.steps_apart && !state.began && instruction.part == Part::forward &&
      instruction.op != Op::zero && instruction.op != Op::host) {
    leave_out_wait(state);
  }
  start_kernel(actor, index);
  if (task.work_left > 0.0) {
    return true;
  }
  complete(actor, index);
  return false;
}

void Machine::start_kernel(ActorId actor, std::uint32_t index) {
  ActorState& state = actors_[actor.index];
  Task& task = state.tasks[index];
  const Instruction& instruction = program_.code[task.place];
  std::int64_t query_owner = 0;
  std::optional<std::int64_t> key_owner;
  if (instruction.block) {
    const RankId rank = fold_.rank_of(actor);
    query_owner = query_shard(*instruction.block, program_.mesh, rank, task.counters);
    key_owner = key_shard(*instruction.block, program_.mesh, rank, task.counters);
  }
  const Price& price = pricer_.price(task.place, query_owner, key_owner);
  const SimTime alone = SimTime::from(price.time);
  task.work_left = static_cast<double>(alone.ticks());
  task.spread = price.relative_spread;
  task.workspace = price.workspace;
  task.last_tiles = SimTime::from(price.last_tiles);
  result_.extrapolated = result_.extrapolated || price.extrapolated;
  if (task.work_left <= 0.0) {
    return;
  }
  if (task.workspace > 0) {
    ledger_.hold(actor, MemoryCategory::workspace, task.workspace, now_);
  }
  task.state = TaskState::running;
  state.computing = true;
  state.moved.clear();
  state.settled = now_;
  state.speed = 1.0 / kernels_.interference(state.sms_held);
  schedule_finish(actor);
}

void Machine::schedule_finish(ActorId actor) {
  ActorState& state = actors_[actor.index];
  const Task& task = state.tasks[state.queues[static_cast<int>(Stream::compute)].front()];
  const double ticks = std::ceil(task.work_left / state.speed);
  state.finish = now_ + SimTime::of_ticks(static_cast<std::int64_t>(ticks));
  ++state.generation;
  kernel_ends_.push({state.finish, actor.index, state.generation});
}

// Communication kernels came or went: the running kernel goes on at another speed.
void Machine::change_sms(ActorId actor, int change) {
  ActorState& state = actors_[actor.index];
  state.sms_held += change;
  check(state.sms_held >= 0, "no more SMs can be given back than were held");
  if (!state.computing || change == 0) {
    return;
  }
  const double speed = 1.0 / kernels_.interference(state.sms_held);
  if (speed == state.speed) {
    return;
  }
  Task& task = state.tasks[state.queues[static_cast<int>(Stream::compute)].front()];
  const double elapsed = static_cast<double>((now_ - state.settled).ticks());
  task.work_left = std::max(0.0, task.work_left - elapsed * state.speed);
  state.settled = now_;
  state.speed = speed;
  schedule_finish(actor);
}

void Machine::finish_kernel(ActorId actor) {
  ActorState& state = actors_[actor.index];
  const std::uint32_t index = state.queues[static_cast<int>(Stream::compute)].front();
  Task& task = state.tasks[index];
  const auto cause = static_cast<std::size_t>(cause_of(program_.code[task.place]));
  const std::int64_t busy = (now_ - task.started).ticks();
  state.times.ticks[cause] += busy;
  state.times.spread[cause] += static_cast<double>(busy) * task.spread;
  if (options_.record_details) {
    state.times.places[task.place].busy += busy;
  }
  state.computing = false;
  ++state.generation;
  state.idle_since = now_;
  if (task.workspace > 0) {
    ledger_.give_back(actor, MemoryCategory::workspace, task.workspace, now_);
  }
  // Whoever starts after a kernel without a gap has nothing to blame.
  task.blame = Blame();
  complete(actor, index);
}

// A transfer of a rank is over: of interest where the compute stream may be waiting for it, or for
// one that stands behind it.
void Machine::note_moved(ActorState& state, const Blame& blame, SimTime end) {
  state.last_transfer = blame;
  if (!state.computing) {
    state.moved.push_back({blame, end});
  }
}

// Books the time the compute stream stood still for a transfer that moved.
void Machine::account_transfer(ActorState& state, const Blame& blame, SimTime from, SimTime until) {
  const auto cause = static_cast<std::size_t>(blame.cause);
  const std::int64_t waited = (until - from).ticks();
  state.times.ticks[cause] += waited;
  state.times.spread[cause] += static_cast<double>(waited) * blame.spread;
  if (options_.record_details && blame.place) {
    state.times.places[*blame.place].waited += waited;
  }
}

// Books the time the compute stream stood still: the end to the transfer it waited for; before that,
// to those which moved on the same stream, for this one stood behind them; and what is left to
// waiting for other ranks to come to it.
void Machine::account_gap(ActorState& state, const Blame& blame, SimTime until) {
  const SimTime since = state.idle_since;
  if (until <= since) {
    return;
  }
  // Work of the host involves no other rank: a chain of it is all its own.
  const bool alone = blame.cause == Cause::offload;
  const SimTime moving = alone ? since : std::min(std::max(blame.moving, since), until);
  std::int64_t slower = (moving - since).ticks();
  SimTime accounted = since;
  for (const Moved& before : state.moved) {
    const SimTime from = std::max(before.blame.moving, accounted);
    const SimTime end = std::min(before.end, moving);
    if (blame.stream && before.blame.stream == blame.stream && from < end) {
      account_transfer(state, before.blame, from, end);
      slower -= (end - from).ticks();
      accounted = end;
    }
  }
  state.times.ticks[static_cast<std::size_t>(Cause::slower_ranks)] += slower;
  if (options_.record_details && blame.place) {
    PlaceTimes& place = state.times.places[*blame.place];
    place.slower += slower;
    place.last = slower > 0 ? blame.last : place.last;
  }
  account_transfer(state, blame, moving, until);
  state.idle_since = until;
}

// A stage that does not wait for the others between steps still does its last one while they begin
// this one: what it waits for their first input is no part of its step.
void Machine::leave_out_wait(ActorState& state) {
  state.began = true;
  std::int64_t wait = 0;
  for (const Cause cause : {Cause::pipeline, Cause::slower_ranks}) {
    std::int64_t& ticks = state.times.ticks[static_cast<std::size_t>(cause)];
    wait += ticks;
    ticks = 0;
    state.times.spread[static_cast<std::size_t>(cause)] = 0.0;
  }
  for (PlaceTimes& place : state.times.places) {
    place.waited = 0;
    place.slower = 0;
  }
  state.times.before = SimTime::of_ticks(wait);
}

void Machine::apply_memory(ActorId actor, const Task& task) {
  const Instruction& instruction = program_.code[task.place];
  const bool holding = instruction.op == Op::allocate;
  for (const TensorRef& ref : holding ? instruction.writes : instruction.reads) {
    ledger_.change_tensor(actor, ref.tensor, holding ? 1 : -1, now_);
  }
}

}  // namespace longhaul
