#include "sim/engine/allocator_replay.h"

#include <algorithm>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "sim/engine/price.h"
#include "sim/program/cursor.h"
#include "sim/units/check.h"

namespace longhaul {

namespace {

bool may_need_workspace(Op op) { return op == Op::attend || op == Op::attend_backward; }

bool is_marker(Op op) {
  return op == Op::allocate || op == Op::release || op == Op::loop_begin || op == Op::loop_end ||
         op == Op::wait;
}

bool concerns_memory(Op op) {
  return op == Op::allocate || op == Op::release || op == Op::loop_begin || op == Op::loop_end ||
         may_need_workspace(op);
}

// What of a loop's turn the next turn can notice.
struct AllocatorState {
  std::vector<CachingAllocator::FreeBlock> free;
  std::int64_t reserved = 0;
  std::int64_t requested = 0;
  std::vector<std::pair<std::int64_t, std::int64_t>> waiting;
  std::int64_t ahead = 0;  ///< of the GPU
  bool operator==(const AllocatorState&) const = default;
};

// A host that launches and a GPU that follows, in ticks: what the host may know of when the GPU is
// done with something. Transfers are taken to end with the kernels before them, at the earliest.
class Follower {
 public:
  explicit Follower(const Host& host) : host_(host) {}
  /// The next instruction: so many launches that take the host `work`, so long on the GPU.
  void run(double launches, Seconds work, Seconds busy) {
    launched_ += launches;
    now_ += SimTime::from(work);
    // The host runs ahead of the GPU by a queue of launches, no further.
    while (!ends_.empty() && ends_.front().first + host_.queue <= launched_) {
      now_ = std::max(now_, ends_.front().second);
      ends_.pop_front();
    }
    gpu_ = std::max(gpu_, now_) + SimTime::from(busy);
    ends_.emplace_back(launched_, gpu_);
  }
  /// The host waits for the GPU.
  void join() {
    now_ = std::max(now_, gpu_);
    ends_.clear();
  }
  [[nodiscard]] std::int64_t now() const { return now_.ticks(); }
  [[nodiscard]] std::int64_t gpu() const { return gpu_.ticks(); }

 private:
  const Host& host_;
  double launched_ = 0.0;
  SimTime now_, gpu_;
  std::deque<std::pair<double, SimTime>> ends_;  ///< launches so far, when the GPU is through
};

class Replay {
 public:
  Replay(const Program& program, RankId rank, const KernelCosts& kernels,
         const AllocatorOptions& options)
      : program_(program),
        rank_(rank),
        presence_(presence_of(program, rank)),
        pricer_(program, kernels),
        records_(program.host.record_streams),
        gather_buffer_(program.host.gather_buffer),
        follower_(program.host),
        allocator_(options),
        counters_(program.loops.size(), 0),
        before_(program.loops.size()) {
    find_places();
    hold_persistent();
  }

  AllocatorCounts run();
  /// Records changes of what is reserved into `steps`; no turns are skipped then.
  void record(std::vector<SegmentStep>& steps) { steps_ = &steps; }

 private:
  void note_reserved();
  void find_places();
  void hold_persistent();
  void step(const Instruction& instruction, std::uint32_t place);
  void hold(const TensorRef& ref);
  void give_back(const TensorRef& ref);
  void pass_workspace(const Instruction& instruction, std::uint32_t place);
  [[nodiscard]] const Price& price_of(const Instruction& instruction, std::uint32_t place);
  void follow(const Instruction& instruction, std::uint32_t place);
  void mark(const std::vector<TensorRef>& refs);
  std::size_t slot_of(const TensorRef& ref) const;
  [[nodiscard]] bool holds(std::uint32_t place) const;
  [[nodiscard]] bool turns_again(LoopId loop, std::int64_t depth);
  [[nodiscard]] AllocatorState state() const;

  const Program& program_;
  RankId rank_;
  std::vector<Presence> presence_;  ///< by place
  Pricer pricer_;
  bool records_;       ///< blocks that collectives used come back late
  bool gather_buffer_;
  Follower follower_;  ///< only moved then
  CachingAllocator allocator_;
  std::int64_t allocations_ = 0;
  std::vector<SegmentStep>* steps_ = nullptr;
  std::vector<std::uint32_t> places_;          ///< instructions that concern memory, in order
  std::vector<std::size_t> begin_of_;          ///< by loop: index in places_
  std::vector<std::size_t> end_of_;
  std::vector<std::int64_t> counters_;         ///< by loop
  std::vector<AllocatorState> before_;         ///< by loop: at the end of the turn before
  std::vector<std::size_t> first_slot_;        ///< by tensor
  std::vector<std::int64_t> slot_bytes_;       ///< by tensor
  std::vector<std::optional<CachingAllocator::Handle>> handles_;  ///< by tensor slot
  std::vector<std::int64_t> in_transfer_;  ///< by tensor slot: until then, at least
};

// Loops without anything that concerns memory are left out, and so is what this rank never runs.
void Replay::find_places() {
  begin_of_.assign(program_.loops.size(), 0);
  end_of_.assign(program_.loops.size(), 0);
  std::optional<LoopId> never;
  for (std::size_t place = 0; place < program_.code.size(); ++place) {
    const Op op = program_.code[place].op;
    if (never) {
      never = op == Op::loop_end && program_.code[place].loop == *never ? std::nullopt : never;
      continue;
    }
    if (presence_[place] == Presence::never) {
      never = op == Op::loop_begin ? std::optional(program_.code[place].loop) : never;
      continue;
    }
    if (!concerns_memory(op) && !records_) {
      continue;
    }
    if (op == Op::loop_end && program_.code[places_.back()].op == Op::loop_begin) {
      places_.pop_back();
      continue;
    }
    if (op == Op::loop_begin) {
      begin_of_[program_.code[place].loop.index] = places_.size();
    } else if (op == Op::loop_end) {
      end_of_[program_.code[place].loop.index] = places_.size();
    }
    places_.push_back(static_cast<std::uint32_t>(place));
  }
}

void Replay::hold_persistent() {
  std::size_t slots = 0;
  for (const Tensor& tensor : program_.tensors) {
    first_slot_.push_back(slots);
    slots += static_cast<std::size_t>(tensor.slots);
    const auto bytes = static_cast<std::int64_t>(tensor.slot_bytes().value());
    slot_bytes_.push_back(bytes);
    if (!tensor.persistent || tensor.view || tensor.in_host_memory || bytes == 0) {
      continue;
    }
    for (std::int64_t slot = 0; slot < tensor.held_slots(program_.mesh, rank_); ++slot) {
      allocator_.allocate(bytes);
      ++allocations_;
    }
  }
  handles_.resize(slots);
  in_transfer_.resize(slots, 0);
}

std::size_t Replay::slot_of(const TensorRef& ref) const {
  const std::int64_t slot = evaluate(ref.slot, program_.mesh, rank_, counters_);
  return first_slot_[ref.tensor.index] + static_cast<std::size_t>(slot);
}

void Replay::hold(const TensorRef& ref) {
  const Tensor& tensor = program_.tensor(ref.tensor);
  const std::int64_t bytes = slot_bytes_[ref.tensor.index];
  if (!tensor.in_host_memory && bytes > 0) {
    const std::size_t slot = slot_of(ref);
    handles_[slot] = allocator_.allocate(bytes);
    in_transfer_[slot] = 0;
    ++allocations_;
  }
}

void Replay::give_back(const TensorRef& ref) {
  const std::size_t slot = slot_of(ref);
  std::optional<CachingAllocator::Handle>& handle = handles_[slot];
  if (handle) {
    allocator_.free_after(*handle, in_transfer_[slot]);
    handle.reset();
  }
}

// A transfer of these begins.
void Replay::mark(const std::vector<TensorRef>& refs) {
  for (const TensorRef& ref : refs) {
    in_transfer_[slot_of(ref)] = follower_.gpu();
  }
}

// Where host and GPU are behind this instruction.
void Replay::follow(const Instruction& instruction, std::uint32_t place) {
  if (is_communication(instruction.op)) {
    follower_.run(1.0, program_.host.collective, Seconds());
    mark(instruction.reads);
    if (!(gather_buffer_ && instruction.op == Op::all_gather &&
          instruction.stream == Stream::tensor)) {
      mark(instruction.writes);
    }
  } else if (instruction.op == Op::host) {
    follower_.run(0.0, instruction.waits ? Seconds() : instruction.host_time, Seconds());
    if (instruction.waits) {
      follower_.join();
    }
  } else if (!is_marker(instruction.op) && !instruction.fused) {
    follower_.run(instruction.launches, program_.host.launch * instruction.launches,
                  price_of(instruction, place).time);
  }
  allocator_.set_time(follower_.now());
}

const Price& Replay::price_of(const Instruction& instruction, std::uint32_t place) {
  std::int64_t query_owner = 0;
  std::optional<std::int64_t> key_owner;
  if (instruction.block) {
    query_owner = query_shard(*instruction.block, program_.mesh, rank_, counters_);
    key_owner = key_shard(*instruction.block, program_.mesh, rank_, counters_);
  }
  return pricer_.price(place, query_owner, key_owner);
}

void Replay::pass_workspace(const Instruction& instruction, std::uint32_t place) {
  const std::int64_t bytes = price_of(instruction, place).workspace;
  if (bytes > 0) {
    allocator_.free(allocator_.allocate(bytes));
  }
}

void Replay::step(const Instruction& instruction, std::uint32_t place) {
  if (instruction.op == Op::allocate) {
    for (const TensorRef& ref : instruction.writes) {
      hold(ref);
    }
  } else if (instruction.op == Op::release) {
    for (const TensorRef& ref : instruction.reads) {
      give_back(ref);
    }
  } else if (may_need_workspace(instruction.op)) {
    pass_workspace(instruction, place);
  }
  note_reserved();
  if (records_) {
    follow(instruction, place);
  }
}

void Replay::note_reserved() {
  const std::int64_t reserved = allocator_.counts().reserved;
  if (steps_ != nullptr && (steps_->empty() || steps_->back().reserved != reserved)) {
    steps_->push_back({allocations_, reserved, allocator_.counts().segments});
  }
}

AllocatorState Replay::state() const {
  return {allocator_.free_blocks(), allocator_.counts().reserved, allocator_.counts().requested,
          allocator_.waiting(), follower_.gpu() - follower_.now()};
}

// At the end of a turn: whether there is another one to step through. States are compared in loops
// that stand in no other only: the long ones are the micro-batches.
bool Replay::turns_again(LoopId loop, std::int64_t depth) {
  const std::int64_t turn = ++counters_[loop.index];
  const Loop& turns = program_.loops[loop.index];
  bool again = turn < turns.turns(program_.mesh, rank_);
  if (again && depth == 0 && steps_ == nullptr && turns.uniform && turns.stage_uniform.empty()) {
    AllocatorState now = state();
    again = turn == 1 || !(now == before_[loop.index]);
    before_[loop.index] = std::move(now);
  }
  if (!again) {
    counters_[loop.index] = 0;
  }
  return again;
}

bool Replay::holds(std::uint32_t place) const {
  return presence_[place] == Presence::always ||
         conditions_hold(program_.code[place], program_.mesh, rank_, counters_);
}

AllocatorCounts Replay::run() {
  note_reserved();
  std::int64_t depth = 0;
  for (std::size_t at = 0; at < places_.size(); ++at) {
    const Instruction& instruction = program_.code[places_[at]];
    if (!holds(places_[at])) {
      at = instruction.op == Op::loop_begin ? end_of_[instruction.loop.index] : at;
    } else if (instruction.op == Op::loop_begin) {
      ++depth;
    } else if (instruction.op == Op::loop_end) {
      --depth;
      if (turns_again(instruction.loop, depth)) {
        at = begin_of_[instruction.loop.index];
        ++depth;
      }
    } else {
      step(instruction, places_[at]);
    }
  }
  return allocator_.counts();
}

}  // namespace

AllocatorCounts replay_allocator(const Program& program, RankId rank, const KernelCosts& kernels,
                                 const AllocatorOptions& options) {
  return Replay(program, rank, kernels, options).run();
}

std::vector<SegmentStep> replay_segments(const Program& program, RankId rank,
                                         const KernelCosts& kernels,
                                         const AllocatorOptions& options) {
  std::vector<SegmentStep> steps;
  Replay replay(program, rank, kernels, options);
  replay.record(steps);
  replay.run();
  return steps;
}

}  // namespace longhaul
