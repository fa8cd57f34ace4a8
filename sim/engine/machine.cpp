#include "sim/engine/machine.h"

#include <algorithm>
#include <string>

#include "sim/units/check.h"

namespace longhaul {

const char* name_of(Cause cause) {
  static constexpr const char* names[cause_count] = {
      "attention",       "gemm",          "memory_bound", "loss",
      "optimizer",       "ring_exchange", "all_to_all",   "all_gather",
      "expert_parallel",
      "tensor_parallel", "data_parallel", "pipeline",     "offload",
      "slower_ranks",    "host",          "data_loading", "other"};
  return names[static_cast<int>(cause)];
}

namespace {

// By actor: it stands for a rank whose memory over time is wanted.
std::vector<bool> watched_actors(const Fold& fold, const std::vector<RankId>& ranks) {
  std::vector<bool> watched(fold.actors(), false);
  for (const RankId rank : ranks) {
    check(rank.index < fold.actor_of().size(), "a watched rank is a rank of the program");
    watched[fold.actor_of()[rank.index].index] = true;
  }
  return watched;
}

}  // namespace

Machine::Machine(const Program& program, const Traffic& traffic, const Fold& fold,
                 const KernelCosts& kernels, const EngineOptions& options)
    : program_(program),
      traffic_(traffic),
      fold_(fold),
      kernels_(kernels),
      options_(options),
      operands_(program),
      pricer_(program, kernels),
      ledger_(program, fold.ranks(), watched_actors(fold, options.watched), options.record_details),
      network_(fold.capacities()),
      loop_begin_(program.loops.size(), 0),
      loop_end_(program.loops.size(), 0),
      history_(program.loops.size()) {
  options_.skip_repetition =
      options.skip_repetition && !options.record_spans && options.watched.empty() &&
      program.host.segment <= Seconds();  // which turn takes segments is not in the state
  for (std::size_t place = 0; place < program.code.size(); ++place) {
    const Instruction& mark = program.code[place];
    if (mark.op == Op::loop_begin) {
      loop_begin_[mark.loop.index] = place;
    } else if (mark.op == Op::loop_end) {
      loop_end_[mark.loop.index] = place;
    }
  }
  make_actors();
  make_communicators();
}

void Machine::make_actors() {
  for (std::size_t actor = 0; actor < fold_.actors(); ++actor) {
    actors_.emplace_back(Cursor(program_, fold_.rank_of(ActorId(actor))));
    actors_.back().slots.resize(operands_.slots());
    actors_.back().times.places.resize(options_.record_details ? program_.code.size() : 0);
    if (program_.host.segment > Seconds()) {
      actors_.back().segments =
          replay_segments(program_, fold_.rank_of(ActorId(actor)), kernels_, {});
      actors_.back().allocations = actors_.back().segments.front().allocations;
    }
    dirty_.push_back(static_cast<std::uint32_t>(actor));
  }
}

void Machine::make_communicators() {
  for (const FoldedCommunicator& communicator : fold_.communicators()) {
    Communicator made;
    for (Channel& channel : made.channels) {
      channel.next.assign(communicator.members.size(), 0);
    }
    communicators_.push_back(std::move(made));
    for (const FoldedMember& member : communicator.members) {
      ledger_.hold_communicator(member.actor, communicator.buffers);
    }
  }
}

Timeline Machine::run() {
  std::vector<FlowId> ended;
  progress_all();
  consider_skipping();
  while (true) {
    while (!kernel_ends_.empty() &&
           kernel_ends_.top().generation != actors_[kernel_ends_.top().actor].generation) {
      kernel_ends_.pop();
    }
    const SimTime kernel = kernel_ends_.empty() ? SimTime::infinity() : kernel_ends_.top().when;
    const SimTime wake = wakes_.empty() ? SimTime::infinity() : std::max(now_, wakes_.top().when);
    const SimTime next = std::min({kernel, wake, network_.next_event()});
    if (next == SimTime::infinity()) {
      break;
    }
    check_time_range(next >= now_);
    now_ = next;
    wake_ranks();
    while (!kernel_ends_.empty() && kernel_ends_.top().when == now_) {
      const KernelEnd end = kernel_ends_.top();
      kernel_ends_.pop();
      if (end.generation == actors_[end.actor].generation) {
        finish_kernel(ActorId(end.actor));
      }
    }
    ended.clear();
    network_.advance(now_, ended);
    for (const FlowId flow : ended) {
      flow_done(flow);
    }
    progress_all();
    consider_skipping();
  }
  check_all_done();
  close_accounts();
  return std::move(result_);
}

void Machine::check_all_done() const {
  for (std::size_t actor = 0; actor < actors_.size(); ++actor) {
    const ActorState& state = actors_[actor];
    if (state.cursor.done() && state.live.empty()) {
      continue;
    }
    const std::uint32_t place = state.live.empty()
                                    ? static_cast<std::uint32_t>(state.cursor.place())
                                    : state.tasks[state.live.front()].place;
    const RankId rank = fold_.rank_of(ActorId(actor));
    throw BugError("deadlock: rank " + std::to_string(rank.index) +
                   " waits for ever at instruction " + std::to_string(place) + " (" +
                   name_of(program_.code[place].op) + " '" + program_.code[place].label + "')");
  }
}

// What is left of every rank's compute stream after its last kernel: its own last transfer, then
// the ranks that are not done yet.
void Machine::close_accounts() {
  result_.end = SimTime();
  for (const ActorState& state : actors_) {
    result_.end = std::max(result_.end, state.times.end - state.times.before);
  }
  for (ActorState& state : actors_) {
    if (state.idle_since < state.times.end) {
      account_gap(state, state.last_transfer, state.times.end);
    }
    Blame others;
    others.cause = Cause::slower_ranks;
    others.moving = result_.end + state.times.before;
    account_gap(state, others, others.moving);
    state.times.end -= state.times.before;
    state.times.forward_end -= state.times.before;
  }
  expand_to_ranks();
}

// Every rank did as its actor did, and every link carried what its class did.
void Machine::expand_to_ranks() {
  const std::vector<MemoryPeak>& peaks = ledger_.peaks();
  // A rank's clock starts where its step does.
  const auto in_step = [&](ActorId actor, SimTime when) {
    return std::max(when, actors_[actor.index].times.before) - actors_[actor.index].times.before;
  };
  for (const ActorId actor : fold_.actor_of()) {
    result_.ranks.push_back(actors_[actor.index].times);
    result_.memory.push_back(peaks[actor.index]);
    result_.memory.back().when = in_step(actor, result_.memory.back().when);
  }
  result_.actors = static_cast<std::int64_t>(fold_.actors());
  for (const RankId rank : options_.watched) {
    const ActorId actor = fold_.actor_of()[rank.index];
    result_.memory_tracks.push_back(ledger_.samples(actor));
    for (MemorySample& sample : result_.memory_tracks.back()) {
      sample.when = in_step(actor, sample.when);
    }
  }
  const auto bytes = network_.bytes_by_link();
  for (const std::uint32_t link : fold_.class_of_links()) {
    result_.link_bytes.push_back(link == Fold::none ? 0.0 : bytes[link]);
  }
}

Timeline simulate(const Program& program, const Cluster& cluster, const KernelCosts& kernels,
                  const TransportCosts& transport, const EngineOptions& options) {
  check_program(program);
  check(program.mesh.ranks() <= cluster.gpu_count(), "every rank needs a GPU of its own");
  const Traffic traffic = lower_traffic(program, transport);
  const std::vector<BytesPerSecond> capacities = transport.link_capacities();
  // What is recorded is recorded of every rank.
  const bool fold = options.fold && !options.record_spans;
  const Symmetry symmetry = fold ? find_symmetry(program, traffic, capacities)
                                 : no_symmetry(program, traffic, capacities);
  const Fold folded(traffic, symmetry, capacities);
  return Machine(program, traffic, folded, kernels, options).run();
}

}  // namespace longhaul
