// The engine's state: actors (ranks, each for its class) with streams and tasks, communicators with
// collectives in progress. Private to sim/engine.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <queue>
#include <unordered_map>
#include <vector>

#include "sim/engine/allocator_replay.h"
#include "sim/engine/engine.h"
#include "sim/engine/fold.h"
#include "sim/engine/ledger.h"
#include "sim/engine/operands.h"
#include "sim/engine/price.h"
#include "sim/network/flow_network.h"
#include "sim/program/cursor.h"

namespace longhaul {

/// Why a stream that stands still does so: what it waited for last, and since when that moved.
struct Blame {
  Cause cause = Cause::other;
  SimTime moving;       ///< when the transfer itself began (before: waiting for other ranks)
  double spread = 0.0;  ///< relative spread of the transfer's cost
  std::optional<std::uint32_t> place = std::nullopt;  ///< of the transfer's instruction
  std::uint32_t last = 0;  ///< the rank that came to it last
  std::optional<Stream> stream = std::nullopt;  ///< that the transfer moved on
};

/// A transfer that ended while its rank's compute stream stood still.
struct Moved {
  Blame blame;
  SimTime end;
};

enum class TaskState : std::uint8_t { waiting, posted, running, done };

/// A task of a rank, told apart from later tasks in the same place of the pool.
struct TaskRef {
  std::uint32_t index = 0;
  std::uint32_t serial = 0;  ///< 0: none
};

/// The unfinished tasks that a new user of a tensor slot must wait for.
struct SlotUsers {
  TaskRef writer;                ///< the last one to write it
  std::vector<TaskRef> readers;  ///< those that read it since
};

/// One issued instruction of one rank.
struct Task {
  std::uint32_t serial = 0;  ///< of the task that now has this place in the pool
  std::uint32_t place = 0;
  TaskState state = TaskState::waiting;
  std::int32_t blockers = 0;   ///< unfinished tasks it waits for
  std::int32_t transfers = 0;  ///< send_receive: flows it still waits for
  std::int32_t sms_held = 0;   ///< by its communication kernel
  std::vector<Use> uses;
  std::vector<std::int64_t> counters;     ///< loop turns at issue
  std::vector<std::uint32_t> dependents;  ///< tasks of the same rank waiting for this one
  double work_left = 0.0;                 ///< ticks at full speed
  double spread = 0.0;
  std::int64_t workspace = 0;
  SimTime last_tiles;    ///< of a running kernel: so long before its end all tiles have begun
  bool behind = false;   ///< a message whose `launched` waits for the tiles of a kernel
  SimTime started;
  SimTime launched;  ///< by the host; nothing starts before
  /// It could have started then, had the host been faster (infinity: the host held nothing up).
  SimTime held_up = SimTime::infinity();
  Blame blame;
};

/// A rank that stands for its class: where it is, what it has issued, what runs.
struct ActorState {
  explicit ActorState(Cursor start) : cursor(std::move(start)) {}
  Cursor cursor;
  std::vector<Task> tasks;  ///< pool
  std::vector<std::uint32_t> free_tasks;
  std::uint32_t issued = 0;         ///< tasks so far; the serial of the last one
  std::vector<SlotUsers> slots;     ///< by key
  std::vector<std::uint32_t> live;  ///< unfinished tasks in issue order
  std::deque<std::uint32_t> queues[stream_count];
  std::optional<std::uint32_t> last_compute;  ///< last unfinished task issued to the compute stream
  bool computing = false;                     ///< the head of the compute queue runs
  double speed = 1.0;                         ///< of the running kernel
  SimTime settled;               ///< work_left of the running kernel holds at this instant
  SimTime finish;                ///< of the running kernel, if nothing changes
  std::uint64_t generation = 0;  ///< of `finish`
  SimTime idle_since;            ///< the compute stream stands still since
  bool began = false;            ///< a first forward kernel has started
  std::vector<Moved> moved;      ///< meanwhile, in order of their ends
  int sms_held = 0;              ///< by communication kernels
  SimTime host;                  ///< its host has launched everything issued so far
  bool host_waits = false;       ///< for the compute stream: nothing is issued meanwhile
  std::int64_t allocations = 0;  ///< tensor slots allocated so far, persistent ones included
  std::vector<SegmentStep> segments;  ///< that its allocator takes from the driver, in order
  std::size_t next_segment = 0;       ///< in `segments`
  Blame last_transfer;           ///< the communication that ended last
  bool dirty = true;             ///< something may be issued or started
  RankTimes times;
};

/// One collective in progress, or waiting for members.
struct Occurrence {
  std::uint32_t place = 0;
  std::uint32_t arrived = 0;  ///< members of the original
  std::int32_t flows_left = 0;
  std::int32_t members_left = 0;  ///< actors whose task has not finished
  bool started = false;
  Blame blame;
  std::vector<std::optional<std::uint32_t>> task_of;  ///< by member
  std::vector<FlowId> flows;                          ///< in progress, in start order
};

/// The collectives of one communicator on one stream, oldest first.
struct Channel {
  std::deque<Occurrence> queue;
  std::uint64_t first = 0;          ///< sequence number of queue.front()
  std::vector<std::uint64_t> next;  ///< by member: sequence number of its next collective
};

/// A communicator: one group instance, for its class. Members are those of the FoldedCommunicator.
struct Communicator {
  Channel channels[stream_count];
};

/// A message posted by its sender or by its receiver.
struct Letter {
  ActorId actor;
  std::uint32_t task = 0;
  std::uint32_t exchange = 0;
  std::uint32_t place = 0;
};

/// A message on its way.
struct Delivery {
  Letter sender;
  Letter receiver;
  Blame blame;
  std::vector<FlowId> flows;  ///< in progress, in start order
};

/// Messages from one member of a communicator to another on one stream, oldest first: the n-th sent
/// is the n-th received. One of the first two is empty.
struct Mailbox {
  std::deque<Letter> sent;
  std::deque<Letter> awaited;
  std::vector<Delivery> moving;
};

/// Who is told when a flow ends.
struct FlowOwner {
  std::uint32_t communicator = 0;
  std::uint8_t stream = 0;
  std::uint64_t sequence = 0;
  std::int64_t copies = 1;              ///< flows that this one stands for
  std::optional<std::uint32_t> sender;  ///< member index (send_receive)
  std::optional<std::uint32_t> receiver;
  std::optional<std::uint32_t> mailbox;  ///< of a message; then nothing above but `copies` counts
};

/// The end of a running kernel, valid while the rank's generation is the same.
struct KernelEnd {
  SimTime when;
  std::uint32_t actor = 0;
  std::uint64_t generation = 0;
  bool operator>(const KernelEnd& other) const {
    return when != other.when ? when > other.when : actor > other.actor;
  }
};

/// A stream of a rank waits for its host until then.
struct Wake {
  SimTime when;
  std::uint32_t actor = 0;
  bool operator>(const Wake& other) const {
    return when != other.when ? when > other.when : actor > other.actor;
  }
};

/// What was true when a turn of a uniform loop began.
struct Snapshot {
  std::int64_t turn = 0;
  SimTime when;
  std::vector<std::uint64_t> state;  ///< relative; equal states evolve equally
  std::vector<RankTimes> times;
  std::vector<Holdings> holdings;
  std::vector<double> link_bytes;
  std::int64_t events = 0;
};

/// The simulation itself. One object, one run.
class Machine {
 public:
  Machine(const Program& program, const Traffic& traffic, const Fold& fold,
          const KernelCosts& kernels, const EngineOptions& options);
  Timeline run();

 private:
  // setup (machine.cpp)
  void make_actors();
  void make_communicators();
  // issue.cpp: from program to streams
  void progress_all();
  void progress(ActorId actor);
  [[nodiscard]] bool may_issue(const ActorState& state) const;
  void issue(ActorId actor);
  std::uint32_t new_task(ActorState& state);
  void add_dependences(ActorState& state, std::uint32_t index);
  static void wait_for(ActorState& state, const TaskRef& earlier, std::uint32_t index);
  static void note_uses(ActorState& state, std::uint32_t index);
  void mark_dirty(ActorState& state);
  bool start_heads(ActorId actor);
  void launch(ActorState& state, Task& task, const Instruction& instruction);
  [[nodiscard]] std::int64_t new_segments(ActorState& state, const Instruction& instruction) const;
  bool wait_for_host(ActorId actor, Task& task);
  [[nodiscard]] bool comes_late(const Instruction& instruction) const;
  void stand_behind_tiles(const ActorState& state, Task& task) const;
  void wake_ranks();
  [[nodiscard]] SimTime earliest_launch() const;
  void complete(ActorId actor, std::uint32_t index);
  // kernels.cpp: the compute stream and memory
  bool start_compute(ActorId actor, std::uint32_t index);
  void start_kernel(ActorId actor, std::uint32_t index);
  void apply_memory(ActorId actor, const Task& task);
  void account_gap(ActorState& state, const Blame& blame, SimTime until);
  void account_transfer(ActorState& state, const Blame& blame, SimTime from, SimTime until);
  static void note_moved(ActorState& state, const Blame& blame, SimTime end);
  void finish_kernel(ActorId actor);
  void change_sms(ActorId actor, int change);
  void schedule_finish(ActorId actor);
  // collectives.cpp
  void post(ActorId actor, std::uint32_t index);
  void start_collective(std::uint32_t communicator, Stream stream, std::uint64_t sequence);
  void start_transfers(std::uint32_t communicator, Stream stream, std::uint64_t sequence,
                       std::uint32_t member);
  void start_flow(const FoldedFlow& flow, Seconds extra, const FlowOwner& owner);
  FlowId begin_flow(const FoldedFlow& flow, Seconds extra, const FlowOwner& owner);
  void start_plan(const FoldedTransfer& plan, FlowOwner owner, Occurrence& occurrence);
  void flow_done(FlowId flow);
  void finish_member(std::uint32_t communicator, Occurrence& occurrence, std::uint32_t member);
  void retire(Channel& channel);
  void add_occurrence(Channel& channel, std::uint32_t place, std::size_t members);
  // messages.cpp
  void post_messages(ActorId actor, std::uint32_t index);
  std::uint32_t mailbox_of(std::uint32_t communicator, Stream stream, std::uint32_t from,
                           std::uint32_t to);
  void start_deliveries(std::uint32_t mailbox);
  void start_delivery(std::uint32_t mailbox, const Letter& sender, const Letter& receiver);
  void message_moved(FlowId flow, std::uint32_t mailbox);
  void message_done(const Letter& letter, ActorId other, const Blame& blame);
  [[nodiscard]] const FoldedTransfer& plan_for(std::uint32_t communicator, std::uint32_t place,
                                               std::uint32_t member) const;
  [[nodiscard]] const std::vector<FoldedMember>& members_of(std::uint32_t communicator) const {
    return fold_.communicators()[communicator].members;
  }
  // repetition.cpp
  void consider_skipping();
  [[nodiscard]] bool all_inside(LoopId loop) const;
  Snapshot take_snapshot(LoopId loop) const;
  void append_rank(const ActorState& state, LoopId loop, std::vector<std::uint64_t>& out) const;
  void append_channels(std::vector<std::uint64_t>& out) const;
  void append_messages(std::vector<std::uint64_t>& out) const;
  [[nodiscard]] std::int64_t turns_ahead(LoopId loop, std::int64_t period) const;
  void skip_turns(LoopId loop, const Snapshot& then, const Snapshot& now);
  void shift_rank(ActorState& state, LoopId loop, std::int64_t turns, SimTime span, SimTime since);
  // the end
  static void leave_out_wait(ActorState& state);
  void close_accounts();
  void expand_to_ranks();
  void check_all_done() const;

  const Program& program_;
  const Traffic& traffic_;
  const Fold& fold_;
  const KernelCosts& kernels_;
  EngineOptions options_;
  Operands operands_;
  Pricer pricer_;
  Ledger ledger_;
  FlowNetwork network_;
  std::vector<ActorState> actors_;
  std::vector<Communicator> communicators_;
  std::vector<Mailbox> mailboxes_;
  /// By communicator, stream, sender and receiver (members): index into mailboxes_.
  std::map<std::array<std::uint32_t, 4>, std::uint32_t> mailbox_index_;
  std::vector<std::size_t> loop_begin_;  ///< by loop: place
  std::vector<std::size_t> loop_end_;
  std::vector<FlowOwner> owners_;  ///< by FlowId
  std::priority_queue<KernelEnd, std::vector<KernelEnd>, std::greater<>> kernel_ends_;
  std::priority_queue<Wake, std::vector<Wake>, std::greater<>> wakes_;
  SimTime now_;
  std::uint64_t boundaries_ = 0;  ///< uniform loops in which rank 0 has just begun a turn
  std::vector<std::vector<Snapshot>> history_;  ///< by loop
  std::vector<std::uint32_t> dirty_;            ///< ranks to look at, in no particular order
  std::vector<std::uint32_t> looked_at_;        ///< those being looked at
  std::vector<Occurrence> spare_;               ///< retired, kept for the room they have
  Timeline result_;
};

}  // namespace longhaul
