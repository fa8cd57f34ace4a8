// From program to streams: issuing in order, dependences by tensor slot, starting stream heads.
#include <algorithm>

#include "sim/engine/machine.h"
#include "sim/units/check.h"

namespace longhaul {

namespace {

// A host runs ahead of its GPU: CUDA queues about a thousand launches. A shallower queue of
// compute work gives the same times (nothing behind it could start) and keeps the state small.
constexpr std::size_t compute_queue_depth = 16;
constexpr std::size_t live_limit = 1024;
// Readers of a slot are forgotten once they are done, when there are so many.
constexpr std::size_t many_readers = 8;

bool in_compute_order(Op op) { return op != Op::release && !is_communication(op); }

}  // namespace

// Ranks only touch each other through collectives, whose outcome does not depend on the order in
// which simultaneous members post; the ranks are sorted so that accounts come out the same anyway.
void Machine::progress_all() {
  while (!dirty_.empty()) {
    looked_at_.swap(dirty_);
    std::sort(looked_at_.begin(), looked_at_.end());
    for (const std::uint32_t actor : looked_at_) {
      actors_[actor].dirty = false;
      progress(ActorId(actor));
    }
    looked_at_.clear();
  }
}

void Machine::mark_dirty(ActorState& state) {
  if (!state.dirty) {
    state.dirty = true;
    dirty_.push_back(static_cast<std::uint32_t>(&state - actors_.data()));
  }
}

void Machine::progress(ActorId actor) {
  ActorState& state = actors_[actor.index];
  bool moved = true;
  while (moved) {
    moved = false;
    while (may_issue(state)) {
      issue(actor);
      moved = true;
    }
    moved = start_heads(actor) || moved;
  }
}

bool Machine::may_issue(const ActorState& state) const {
  return !state.cursor.done() && !state.host_waits && state.live.size() < live_limit &&
         state.queues[static_cast<int>(Stream::compute)].size() < compute_queue_depth;
}

std::uint32_t Machine::new_task(ActorState& state) {
  if (state.free_tasks.empty()) {
    state.tasks.emplace_back();
    return static_cast<std::uint32_t>(state.tasks.size() - 1);
  }
  const std::uint32_t index = state.free_tasks.back();
  state.free_tasks.pop_back();
  Task& task = state.tasks[index];
  task.state = TaskState::waiting;
  task.blockers = 0;
  task.transfers = 0;
  task.sms_held = 0;
  task.uses.clear();
  task.dependents.clear();
  task.work_left = 0.0;
  task.spread = 0.0;
  task.workspace = 0;
  task.last_tiles = SimTime();
  task.behind = false;
  task.launched = SimTime();
  task.held_up = SimTime::infinity();
  task.blame = Blame();
  return index;
}

void Machine::issue(ActorId actor) {
  ActorState& state = actors_[actor.index];
  const std::uint32_t index = new_task(state);
  Task& task = state.tasks[index];
  task.serial = ++state.issued;
  task.place = static_cast<std::uint32_t>(state.cursor.place());
  task.counters = state.cursor.counters();
  const Instruction& instruction = program_.code[task.place];
  operands_.append(task.place, fold_.rank_of(actor), task.counters, task.uses);
  add_dependences(state, index);
  if (instruction.op == Op::wait) {
    // Streams run in order: the last one of the stream is the last to end.
    const auto& awaited = state.queues[static_cast<int>(instruction.awaited)];
    if (!awaited.empty()) {
      wait_for(state, {awaited.back(), state.tasks[awaited.back()].serial}, index);
    }
  }
  launch(state, task, instruction);
  const bool called_for_here = comes_late(instruction) || instruction.behind_compute;
  if ((instruction.op == Op::release || called_for_here) && state.last_compute) {
    // Memory is given back once the compute stream is past this point, without holding it up; late
    // messages, and what an event of that stream is waited for, are called for there.
    state.tasks[*state.last_compute].dependents.push_back(index);
    ++task.blockers;
  }
  state.live.push_back(index);
  if (in_compute_order(instruction.op)) {
    state.queues[static_cast<int>(Stream::compute)].push_back(index);
    state.last_compute = index;
  } else if (instruction.op != Op::release) {
    state.queues[static_cast<int>(instruction.stream)].push_back(index);
  }
  const std::uint64_t begun = state.cursor.advance();
  if (actor.index == 0) {
    boundaries_ |= begun;
  }
  if (instruction.op == Op::release && task.blockers == 0) {
    apply_memory(actor, task);
    complete(actor, index);
  }
}

// How far back a host can have launched what is issued now: its queue is no longer.
SimTime Machine::earliest_launch() const {
  const SimTime ahead = SimTime::from(program_.host.launch * program_.host.queue);
  return now_ > ahead ? now_ - ahead : SimTime();
}

// How many segments the allocator takes from the driver for what is allocated here.
std::int64_t Machine::new_segments(ActorState& state, const Instruction& instruction) const {
  if (state.segments.empty()) {
    return 0;
  }
  for (const TensorRef& ref : instruction.writes) {
    const Tensor& tensor = program_.tensor(ref.tensor);
    state.allocations += !tensor.in_host_memory && tensor.slot_bytes() > Bytes() ? 1 : 0;
  }
  const std::int64_t before = state.segments[state.next_segment].segments;
  while (state.next_segment + 1 < state.segments.size() &&
         state.segments[state.next_segment + 1].allocations <= state.allocations) {
    ++state.next_segment;
  }
  return state.segments[state.next_segment].segments - before;
}

// The host launches the task's kernels behind those before, ahead of the GPU by its queue at most.
void Machine::launch(ActorState& state, Task& task, const Instruction& instruction) {
  const Host& host = program_.host;
  Seconds work;
  if (instruction.op == Op::host) {
    state.host_waits = instruction.waits;
    work = instruction.waits ? Seconds() : instruction.host_time;
  } else if (is_communication(instruction.op)) {
    work = host.collective * instruction.launches;
  } else if (instruction.op == Op::allocate) {
    work = host.segment * static_cast<double>(new_segments(state, instruction));
  } else if (instruction.op != Op::release &&
             instruction.op != Op::wait && !instruction.fused) {
    work = host.launch * instruction.launches;
  }
  state.host = std::max(state.host, earliest_launch()) + SimTime::from(work);
  if (instruction.not_before > Seconds()) {
    state.host = std::max(state.host, SimTime::from(instruction.not_before));
  }
  task.launched = state.host;
}

// True if the task could start but for its host; its rank is looked at again when the host is there.
bool Machine::wait_for_host(ActorId actor, Task& task) {
  if (task.launched <= now_) {
    return false;
  }
  if (task.held_up == SimTime::infinity()) {
    task.held_up = now_;
    wakes_.push({task.launched, static_cast<std::uint32_t>(actor.index)});
  }
  return true;
}

// Whether it is a message of a ring, where those are launched behind the kernels beside them.
bool Machine::comes_late(const Instruction& instruction) const {
  return program_.host.late_messages && instruction.op == Op::send_receive &&
         instruction.stream == Stream::context;
}

// CTAs of the kernel that came first go first (Amert et al., RTSS 2017): a message that is ready
// while attention runs gets SMs only when the last tiles of that kernel have begun.
void Machine::stand_behind_tiles(const ActorState& state, Task& task) const {
  if (task.behind || !state.computing || !comes_late(program_.code[task.place])) {
    return;
  }
  const Task& kernel = state.tasks[state.queues[static_cast<int>(Stream::compute)].front()];
  if (kernel.last_tiles > SimTime()) {
    task.behind = true;
    task.launched = std::max(task.launched, state.finish - std::min(kernel.last_tiles, state.finish));
  }
}

void Machine::wake_ranks() {
  while (!wakes_.empty() && wakes_.top().when <= now_) {
    mark_dirty(actors_[wakes_.top().actor]);
    wakes_.pop();
  }
}

void Machine::wait_for(ActorState& state, const TaskRef& earlier, std::uint32_t index) {
  if (earlier.serial == 0 || earlier.index == index) {
    return;
  }
  Task& other = state.tasks[earlier.index];
  if (other.serial == earlier.serial && other.state != TaskState::done) {
    other.dependents.push_back(index);
    ++state.tasks[index].blockers;
  }
}

// An earlier unfinished task that touches the same slot comes first, unless both only read it. Who
// reads waits for the last writer; who writes waits for the readers since, too, and they for it.
void Machine::add_dependences(ActorState& state, std::uint32_t index) {
  for (const Use& use : state.tasks[index].uses) {
    SlotUsers& users = state.slots[use.key];
    wait_for(state, users.writer, index);
    if (use.write) {
      for (const TaskRef& reader : users.readers) {
        wait_for(state, reader, index);
      }
    }
  }
  note_uses(state, index);
}

void Machine::note_uses(ActorState& state, std::uint32_t index) {
  const Task& task = state.tasks[index];
  for (const Use& use : task.uses) {
    SlotUsers& users = state.slots[use.key];
    if (use.write) {
      users.writer = {index, task.serial};
      users.readers.clear();
      continue;
    }
    if (users.writer.index == index && users.writer.serial == task.serial) {
      continue;  // reads what it writes itself
    }
    if (users.readers.size() >= many_readers) {
      std::erase_if(users.readers, [&](const TaskRef& reader) {
        const Task& other = state.tasks[reader.index];
        return other.serial != reader.serial || other.state == TaskState::done;
      });
    }
    users.readers.push_back({index, task.serial});
  }
}

// Starts whatever heads its stream and waits for nothing. True if anything moved.
bool Machine::start_heads(ActorId actor) {
  ActorState& state = actors_[actor.index];
  bool moved = false;
  for (int stream = 0; stream < stream_count; ++stream) {
    auto& queue = state.queues[stream];
    while (!queue.empty()) {
      const std::uint32_t head = queue.front();
      Task& task = state.tasks[head];
      if (task.state != TaskState::waiting || task.blockers > 0) {
        break;
      }
      stand_behind_tiles(state, task);
      if (wait_for_host(actor, task)) {
        break;
      }
      moved = true;
      if (is_communication(program_.code[task.place].op)) {
        post(actor, head);
        break;
      }
      if (start_compute(actor, head)) {
        break;
      }
    }
  }
  return moved;
}

// The task is over: those that waited for it may go on.
void Machine::complete(ActorId actor, std::uint32_t index) {
  ActorState& state = actors_[actor.index];
  Task& task = state.tasks[index];
  const Instruction& instruction = program_.code[task.place];
  check(task.state != TaskState::done, "a task ends once");
  task.state = TaskState::done;
  state.live.erase(std::find(state.live.begin(), state.live.end(), index));
  if (instruction.op != Op::release) {
    auto& queue =
        state.queues[in_compute_order(instruction.op) ? static_cast<int>(Stream::compute)
                                                      : static_cast<int>(instruction.stream)];
    check(!queue.empty() && queue.front() == index, "streams run in order");
    queue.pop_front();
  }
  if (state.last_compute == index) {
    state.last_compute.reset();
  }
  if (instruction.op == Op::host && instruction.waits) {
    state.host_waits = false;
    state.host = now_;
  }
  result_.events += fold_.size_of(actor);
  ++result_.simulated_events;
  state.times.end = now_;
  if (instruction.part == Part::forward) {
    state.times.forward_end = now_;
  }
  if (options_.record_spans) {
    result_.spans.push_back(
        {fold_.rank_of(actor), instruction.stream, task.started, now_, task.place});
  }
  std::vector<std::uint32_t> dependents;
  dependents.swap(task.dependents);
  const Blame blame = task.blame;
  for (const std::uint32_t waiting : dependents) {
    Task& next = state.tasks[waiting];
    next.blame = blame;
    if (--next.blockers == 0 && program_.code[next.place].op == Op::release) {
      apply_memory(actor, next);
      complete(actor, waiting);
    }
  }
  dependents.clear();
  state.tasks[index].dependents.swap(dependents);  // keeps the room for the next task
  state.free_tasks.push_back(index);
  mark_dirty(state);
}

}  // namespace longhaul
