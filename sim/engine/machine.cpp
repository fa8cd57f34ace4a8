#include "sim/engine/machine.h"

#include <algorithm>
#include <string>

#include "sim/units/check.h"

namespace longhaul {

const char* name_of(Cause cause) {
  static constexpr const char* names[cause_count] = {
      "attention",     "gemm",       "memory_bound", "loss",            "optimizer",
      "ring_exchange", "all_to_all", "all_gather",   "tensor_parallel", "data_parallel",
      "pipeline",      "offload",    "slower_ranks", "other"};
  return names[static_cast<int>(cause)];
}

Machine::Machine(const Program& program, const Cluster& cluster, const KernelCosts& kernels,
                 const TransportCosts& transport, const EngineOptions& options)
    : program_(program),
      transport_(transport),
      kernels_(kernels),
      options_(options),
      pricer_(program, kernels),
      ledger_(program, options.record_memory),
      network_(transport.link_capacities()),
      loop_begin_(program.loops.size(), 0),
      loop_end_(program.loops.size(), 0),
      history_(program.loops.size()) {
  check_program(program);
  check(program.mesh.ranks() <= cluster.gpu_count(), "every rank needs a GPU of its own");
  options_.skip_repetition =
      options.skip_repetition && !options.record_spans && !options.record_memory;
  std::uint32_t key = 0;
  for (const Tensor& tensor : program.tensors) {
    first_key_.push_back(key);
    key += static_cast<std::uint32_t>(tensor.slots);
  }
  for (std::size_t place = 0; place < program.code.size(); ++place) {
    const Instruction& mark = program.code[place];
    if (mark.op == Op::loop_begin) {
      loop_begin_[mark.loop.index] = place;
    } else if (mark.op == Op::loop_end) {
      loop_end_[mark.loop.index] = place;
    }
  }
  for (std::size_t rank = 0; rank < static_cast<std::size_t>(program.mesh.ranks()); ++rank) {
    ranks_.emplace_back(Cursor(program, RankId(rank)));
    ranks_.back().slots.resize(key);
    dirty_.push_back(static_cast<std::uint32_t>(rank));
  }
  make_communicators();
  hold_communicator_memory(cluster);
}

// One communicator per group and set of members.
void Machine::make_communicators() {
  for (const Group& group : program_.groups) {
    std::vector<std::uint32_t> communicator(ranks_.size());
    std::vector<std::uint32_t> member(ranks_.size());
    for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
      member[rank] =
          static_cast<std::uint32_t>(group_index(program_.mesh, group, RankId(rank)));
      if (member[rank] != 0) {
        continue;
      }
      Communicator made;
      made.members = group_members(program_.mesh, group, RankId(rank));
      for (const RankId id : made.members) {
        made.gpus.emplace_back(id.index);
        communicator[id.index] = static_cast<std::uint32_t>(communicators_.size());
      }
      for (Channel& channel : made.channels) {
        channel.next.assign(made.members.size(), 0);
      }
      communicators_.push_back(std::move(made));
    }
    communicator_of_.push_back(std::move(communicator));
    member_of_.push_back(std::move(member));
  }
}

// Every communicator keeps buffers on each member's GPU from the start: one set per group and
// kind of collective that the program uses on it.
void Machine::hold_communicator_memory(const Cluster&) {
  std::vector<bool> used(program_.groups.size(), false);
  for (const Instruction& instruction : program_.code) {
    if (!instruction.group || used[instruction.group->index]) {
      continue;
    }
    const std::size_t group = instruction.group->index;
    used[group] = true;
    const CollectiveKind kind = instruction.op == Op::send_receive ? CollectiveKind::send
                                : instruction.op == Op::all_to_all ? CollectiveKind::all_to_all
                                                                   : CollectiveKind::all_gather;
    for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
      const Communicator& mine = communicators_[communicator_of_[group][rank]];
      const Bytes bytes = transport_.communicator_memory(kind, mine.gpus);
      ledger_.hold(RankId(rank), MemoryCategory::communication,
                   static_cast<std::int64_t>(bytes.value()), SimTime());
    }
  }
}

Timeline Machine::run() {
  std::vector<FlowId> ended;
  progress_all();
  consider_skipping();
  while (true) {
    while (!kernel_ends_.empty() &&
           kernel_ends_.top().generation != ranks_[kernel_ends_.top().rank].generation) {
      kernel_ends_.pop();
    }
    const SimTime kernel =
        kernel_ends_.empty() ? SimTime::infinity() : kernel_ends_.top().when;
    const SimTime next = std::min(kernel, network_.next_event());
    if (next == SimTime::infinity()) {
      break;
    }
    now_ = next;
    while (!kernel_ends_.empty() && kernel_ends_.top().when == now_) {
      const KernelEnd end = kernel_ends_.top();
      kernel_ends_.pop();
      if (end.generation == ranks_[end.rank].generation) {
        finish_kernel(RankId(end.rank));
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
  for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
    const RankState& state = ranks_[rank];
    if (state.cursor.done() && state.live.empty()) {
      continue;
    }
    const std::uint32_t place = state.live.empty()
                                    ? static_cast<std::uint32_t>(state.cursor.place())
                                    : state.tasks[state.live.front()].place;
    throw BugError("deadlock: rank " + std::to_string(rank) + " waits for ever at instruction " +
                   std::to_string(place) + " (" + name_of(program_.code[place].op) + " '" +
                   program_.code[place].label + "')");
  }
}

// What is left of every rank's compute stream after its last kernel: its own last transfer, then
// the ranks that are not done yet.
void Machine::close_accounts() {
  result_.end = SimTime();
  for (const RankState& state : ranks_) {
    result_.end = std::max(result_.end, state.times.end);
  }
  for (RankState& state : ranks_) {
    if (state.idle_since < state.times.end) {
      account_gap(state, state.last_transfer, state.times.end);
    }
    Blame others;
    others.cause = Cause::slower_ranks;
    others.moving = result_.end;
    account_gap(state, others, result_.end);
    result_.ranks.push_back(state.times);
  }
  result_.memory = ledger_.peaks();
  result_.memory_samples = ledger_.take_samples();
  const auto bytes = network_.bytes_by_link();
  result_.link_bytes.assign(bytes.begin(), bytes.end());
}

Timeline simulate(const Program& program, const Cluster& cluster, const KernelCosts& kernels,
                  const TransportCosts& transport, const EngineOptions& options) {
  return Machine(program, cluster, kernels, transport, options).run();
}

}  // namespace longhaul
