// Skipping turns: when the whole state at the beginning of a turn equals the state at the
// beginning of an earlier turn, everything in between repeats, and is counted instead of stepped.
//
// The state is compared relative to now and to the turn, as integers and bit patterns, so the
// comparison is exact. Memory may grow from turn to turn (saved activations): it is not part of
// the state, but its growth per period is constant, so it is added up; where it changes at all, the
// last period of a loop is stepped through, which is where a growing peak lies (a shrinking one
// lies in the first). See docs/decisions/0003-skipping-turns.md.
#include <algorithm>
#include <bit>

#include "sim/engine/machine.h"
#include "sim/units/check.h"

namespace longhaul {

namespace {

// Earlier turns to compare with: periods of up to this many turns are found.
constexpr std::size_t history_length = 4;

std::uint64_t bits(double value) { return std::bit_cast<std::uint64_t>(value); }
std::uint64_t relative(SimTime when, SimTime now) {
  return static_cast<std::uint64_t>((now - when).ticks());
}

}  // namespace

void Machine::consider_skipping() {
  const std::uint64_t begun = boundaries_;
  boundaries_ = 0;
  if (begun == 0 || !options_.skip_repetition) {
    return;
  }
  int uniform = -1;
  for (std::size_t i = 0; i < program_.loops.size(); ++i) {
    const LoopId loop(i);
    uniform += program_.loops[i].uniform ? 1 : 0;
    const bool wanted = program_.loops[i].uniform && (begun >> uniform & 1u) != 0 &&
                        program_.loops[i].count > 3;
    if (!wanted) {
      continue;
    }
    if (actors_[0].cursor.counters()[i] == 0) {
      history_[i].clear();
    }
    if (actors_[0].cursor.counters()[i] % program_.loops[i].period != 0 || !all_inside(loop)) {
      continue;
    }
    Snapshot now = take_snapshot(loop);
    std::vector<Snapshot>& history = history_[i];
    for (auto then = history.rbegin(); then != history.rend(); ++then) {
      if (then->state == now.state) {
        skip_turns(loop, *then, now);
        history.clear();
        return;
      }
    }
    history.push_back(std::move(now));
    if (history.size() > history_length) {
      history.erase(history.begin());
    }
  }
}

// True if every rank is in the loop where it is uniform, and in the same turn of every loop around
// it.
bool Machine::all_inside(LoopId loop) const {
  for (std::size_t actor = 0; actor < actors_.size(); ++actor) {
    const ActorState& state = actors_[actor];
    if (state.cursor.done() || !state.cursor.inside(loop)) {
      return false;
    }
    const auto [from, until] = program_.loops[loop.index].uniform_turns(
        program_.mesh, fold_.rank_of(ActorId(actor)));
    const std::int64_t turn = state.cursor.counters()[loop.index];
    if (turn < from || turn >= until) {
      return false;
    }
    for (std::size_t i = 0; i < program_.loops.size(); ++i) {
      const bool around =
          loop_begin_[i] < loop_begin_[loop.index] && loop_end_[i] > loop_end_[loop.index];
      if (around && state.cursor.counters()[i] != actors_[0].cursor.counters()[i]) {
        return false;
      }
    }
  }
  return true;
}

Snapshot Machine::take_snapshot(LoopId loop) const {
  Snapshot snapshot;
  snapshot.turn = actors_[0].cursor.counters()[loop.index];
  snapshot.when = now_;
  for (const ActorState& state : actors_) {
    append_rank(state, loop, snapshot.state);
    snapshot.times.push_back(state.times);
  }
  append_channels(snapshot.state);
  append_messages(snapshot.state);
  snapshot.holdings = ledger_.holdings();
  const auto bytes = network_.bytes_by_link();
  snapshot.link_bytes.assign(bytes.begin(), bytes.end());
  snapshot.events = result_.events;
  return snapshot;
}

void Machine::append_rank(const ActorState& state, LoopId loop,
                          std::vector<std::uint64_t>& out) const {
  const std::int64_t base = actors_[0].cursor.counters()[loop.index];
  const auto append_counters = [&](const std::vector<std::int64_t>& counters, bool inside) {
    for (std::size_t i = 0; i < counters.size(); ++i) {
      const std::int64_t value = i == loop.index && inside ? counters[i] - base : counters[i];
      out.push_back(static_cast<std::uint64_t>(value));
    }
  };
  out.push_back(state.cursor.place());
  append_counters(state.cursor.counters(), true);
  out.push_back(state.live.size());
  out.push_back(static_cast<std::uint64_t>(state.sms_held));
  out.push_back(relative(state.idle_since, now_));
  out.push_back(relative(std::max(state.host, earliest_launch()), now_));
  out.push_back(state.host_waits ? 1 : 0);
  out.push_back(state.computing ? 1 : 0);
  if (state.computing) {
    out.push_back(relative(state.settled, now_));
    out.push_back(relative(state.finish, now_));
    out.push_back(bits(state.speed));
  }
  out.push_back(state.moved.size());
  for (const Moved& transfer : state.moved) {
    out.push_back(static_cast<std::uint64_t>(transfer.blame.cause));
    out.push_back(relative(transfer.blame.moving, now_));
    out.push_back(relative(transfer.end, now_));
  }
  for (const std::uint32_t index : state.live) {
    const Task& task = state.tasks[index];
    const bool inside = task.place > loop_begin_[loop.index] && task.place < loop_end_[loop.index];
    out.push_back(task.place);
    append_counters(task.counters, inside);
    out.push_back(static_cast<std::uint64_t>(task.state));
    out.push_back(static_cast<std::uint64_t>(task.blockers));
    out.push_back(static_cast<std::uint64_t>(task.transfers));
    out.push_back(bits(task.work_left));
    out.push_back(task.behind ? 1 : 0);
    out.push_back(relative(std::max(task.launched, now_), now_));
    if (task.state != TaskState::waiting) {
      out.push_back(relative(task.started, now_));
    }
    out.push_back(static_cast<std::uint64_t>(task.blame.cause));
    if (task.blame.cause != Cause::other) {
      out.push_back(relative(task.blame.moving, now_));
    }
  }
}

void Machine::append_channels(std::vector<std::uint64_t>& out) const {
  for (const Communicator& communicator : communicators_) {
    for (const Channel& channel : communicator.channels) {
      out.push_back(channel.queue.size());
      for (const Occurrence& occurrence : channel.queue) {
        out.push_back(occurrence.place);
        out.push_back(occurrence.started ? relative(occurrence.blame.moving, now_) + 1 : 0);
        for (const auto& task : occurrence.task_of) {
          out.push_back(task ? 1 : 0);
        }
        for (const FlowId flow : occurrence.flows) {
          network_.append_state(flow, now_, out);
        }
      }
    }
  }
}

void Machine::append_messages(std::vector<std::uint64_t>& out) const {
  for (const Mailbox& box : mailboxes_) {
    out.push_back(box.sent.size());
    out.push_back(box.awaited.size());
    out.push_back(box.moving.size());
    for (const Delivery& delivery : box.moving) {
      out.push_back(relative(delivery.blame.moving, now_));
      for (const FlowId flow : delivery.flows) {
        network_.append_state(flow, now_, out);
      }
    }
  }
}

// Periods that every rank can leave out without leaving the turns in which the loop is uniform.
std::int64_t Machine::turns_ahead(LoopId loop, std::int64_t period) const {
  std::int64_t least = program_.loops[loop.index].count;
  for (std::size_t actor = 0; actor < actors_.size(); ++actor) {
    const std::int64_t until =
        program_.loops[loop.index]
            .uniform_turns(program_.mesh, fold_.rank_of(ActorId(actor)))
            .second;
    least = std::min(least, until - 1 - actors_[actor].cursor.counters()[loop.index]);
  }
  return least / period;
}

void Machine::skip_turns(LoopId loop, const Snapshot& then, const Snapshot& now) {
  const std::int64_t period = now.turn - then.turn;
  check(period > 0, "turns are counted upwards");
  // One whole period is left to step through if memory changes from turn to turn, for its peak.
  const std::int64_t kept = now.holdings == then.holdings ? 0 : 1;
  const std::int64_t periods = turns_ahead(loop, period) - kept;
  if (periods <= 0) {
    return;
  }
  // As SimTime::from() checks a span: turns that are left out must not pass the end of time, too.
  const auto turn = static_cast<double>((now.when - then.when).ticks());
  check_time_range(static_cast<double>(now_.ticks()) + turn * static_cast<double>(periods) < 9.0e18);
  const SimTime span = (now.when - then.when) * periods;
  network_.skip(span, periods, then.link_bytes);
  ledger_.skip(periods, then.holdings);
  result_.events += periods * (result_.events - then.events);
  for (std::size_t actor = 0; actor < actors_.size(); ++actor) {
    ActorState& state = actors_[actor];
    for (std::size_t i = 0; i < cause_count; ++i) {
      state.times.ticks[i] += periods * (state.times.ticks[i] - then.times[actor].ticks[i]);
      state.times.spread[i] +=
          static_cast<double>(periods) * (state.times.spread[i] - then.times[actor].spread[i]);
    }
    for (std::size_t i = 0; i < state.times.places.size(); ++i) {
      PlaceTimes& place = state.times.places[i];
      const PlaceTimes& before = then.times[actor].places[i];
      place.busy += periods * (place.busy - before.busy);
      place.waited += periods * (place.waited - before.waited);
      place.slower += periods * (place.slower - before.slower);
    }
    shift_rank(state, loop, periods * period, span, then.when);
  }
  for (Communicator& communicator : communicators_) {
    for (Channel& channel : communicator.channels) {
      for (Occurrence& occurrence : channel.queue) {
        occurrence.blame.moving += span;
      }
    }
  }
  for (Mailbox& box : mailboxes_) {
    for (Delivery& delivery : box.moving) {
      delivery.blame.moving += span;
    }
  }
  now_ += span;
  for (std::size_t actor = 0; actor < actors_.size(); ++actor) {
    ActorState& state = actors_[actor];
    if (state.computing) {
      ++state.generation;
      kernel_ends_.push({state.finish, static_cast<std::uint32_t>(actor), state.generation});
    }
  }
}

void Machine::shift_rank(ActorState& state, LoopId loop, std::int64_t turns, SimTime span,
                         SimTime since) {
  const ActorId actor(static_cast<std::size_t>(&state - actors_.data()));
  state.cursor.skip(loop, turns);
  state.settled += span;
  state.finish += span;
  state.idle_since += span;
  state.host += span;
  state.last_transfer.moving += span;
  for (Moved& transfer : state.moved) {
    transfer.blame.moving += span;
    transfer.end += span;
  }
  if (state.times.end >= since) {
    state.times.end += span;
  }
  if (state.times.forward_end >= since) {
    state.times.forward_end += span;
  }
  for (const std::uint32_t index : state.live) {
    Task& task = state.tasks[index];
    task.started += span;
    task.launched += span;
    if (task.held_up != SimTime::infinity()) {
      task.held_up += span;
      wakes_.push({task.launched, static_cast<std::uint32_t>(actor.index)});
    }
    task.blame.moving += span;
    if (task.place > loop_begin_[loop.index] && task.place < loop_end_[loop.index]) {
      task.counters[loop.index] += turns;
      task.uses.clear();
      operands_.append(task.place, fold_.rank_of(actor), task.counters, task.uses);
    }
  }
  for (SlotUsers& users : state.slots) {
    users = SlotUsers();
  }
  for (const std::uint32_t index : state.live) {
    note_uses(state, index);
  }
}

}  // namespace longhaul
