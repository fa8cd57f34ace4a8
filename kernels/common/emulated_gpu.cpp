#include "kernels/common/emulated_gpu.h"

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <deque>
#include <exception>
#include <memory>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "sim/units/check.h"

longhaul::kernels::EmulatedIndex threadIdx, blockIdx, blockDim, gridDim;

namespace longhaul::kernels::emulated {

namespace {

constexpr std::size_t stack_bytes = 256 * 1024;  // of a fiber; sanitizers make frames larger
constexpr unsigned warp_lanes = 32;

// All must come before any goes on. A generation counts how often that happened.
struct Barrier {
  unsigned expected = 0;
  unsigned arrived = 0;
  std::uint64_t generation = 0;
};

struct Warp {
  Barrier barrier;
  // Two, used in turn: a lane can be one exchange ahead of another, never two.
  std::array<std::array<std::byte, warp_lanes * lane_bytes>, 2> left{};
};

struct Copy {
  void* to;
  const void* from;
  std::size_t size;
};

struct Fiber {
  std::deque<std::vector<Copy>> groups;  // committed, oldest first
  std::vector<Copy> open;                // not yet committed
  ucontext_t start{};
  jmp_buf place{};  // where it waits, once started
  bool started = false;
  const Barrier* waits_for = nullptr;  // null: can run
  std::uint64_t generation = 0;        // of waits_for, when the wait began
  unsigned exchanges = 0;
  bool done = false;
};

// The one block that runs.
struct Block {
  jmp_buf scheduler{};
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  Barrier barrier;
  std::vector<std::byte> shared;
  std::byte* shared_start = nullptr;
  std::size_t shared_bytes = 0;
  unsigned running = 0;
  const std::function<void()>* body = nullptr;
  std::exception_ptr failure;
};

std::unique_ptr<Block> block;  // null: no grid is running
std::uint64_t order_seed = 0;
unsigned most_blocks = 0;
std::vector<std::unique_ptr<std::byte[]>> stacks;  // by thread; kept from grid to grid

// Switches by _setjmp and _longjmp, as swapcontext asks the kernel for the signal mask every time.
void leave_fiber(Fiber& fiber) {
  if (_setjmp(fiber.place) == 0) _longjmp(block->scheduler, 1);
}

void enter_fiber(Fiber& fiber) {
  if (_setjmp(block->scheduler) != 0) return;
  if (fiber.started) _longjmp(fiber.place, 1);
  fiber.started = true;
  setcontext(&fiber.start);
}

void run_fiber() {
  try {
    (*block->body)();
  } catch (...) {
    block->failure = std::current_exception();
  }
  block->fibers[block->running].done = true;
  leave_fiber(block->fibers[block->running]);
}

void start_fiber(Fiber& fiber, std::byte* stack) {
  getcontext(&fiber.start);
  fiber.start.uc_stack.ss_sp = stack;
  fiber.start.uc_stack.ss_size = stack_bytes;
  fiber.start.uc_link = nullptr;
  fiber.started = false;
  fiber.groups.clear();
  fiber.open.clear();
  fiber.waits_for = nullptr;
  fiber.exchanges = 0;
  fiber.done = false;
  makecontext(&fiber.start, run_fiber, 0);
}

void wait_at(Barrier& barrier) {
  if (++barrier.arrived == barrier.expected) {
    barrier.arrived = 0;
    ++barrier.generation;
    return;
  }
  Fiber& self = block->fibers[block->running];
  self.waits_for = &barrier;
  self.generation = barrier.generation;
  leave_fiber(self);
}

bool can_run(const Fiber& fiber) {
  if (fiber.done) return false;
  return fiber.waits_for == nullptr || fiber.waits_for->generation != fiber.generation;
}

// One turn of every thread that can run. Returns whether there was any.
bool take_turns(const std::vector<unsigned>& order) {
  bool any = false;
  for (const unsigned thread : order) {
    Fiber& fiber = block->fibers[thread];
    if (!can_run(fiber)) continue;
    any = true;
    fiber.waits_for = nullptr;
    block->running = thread;
    threadIdx.x = thread;
    enter_fiber(fiber);
    if (block->failure) return false;
  }
  return any;
}

void run_block(const std::vector<unsigned>& order) {
  std::fill(block->shared.begin(), block->shared.end(), std::byte{0xff});
  block->barrier = {blockDim.x, 0, 0};
  for (Warp& warp : block->warps) warp.barrier = {warp_lanes, 0, 0};
  for (std::size_t i = 0; i < block->fibers.size(); ++i) {
    start_fiber(block->fibers[i], stacks[i].get());
  }
  while (take_turns(order)) {
  }
  if (block->failure) std::rethrow_exception(block->failure);
  for (const Fiber& fiber : block->fibers) {
    check(fiber.done, "a kernel's threads wait for others that have returned or wait elsewhere");
  }
}

std::vector<unsigned> turn_order(unsigned threads) {
  std::vector<unsigned> order(threads);
  std::iota(order.begin(), order.end(), 0U);
  std::mt19937_64 random(order_seed);
  if (order_seed != 0) std::shuffle(order.begin(), order.end(), random);
  return order;
}

// Unwinds nothing of a failed kernel's fibers: their stacks are only given back.
struct BlockGuard {
  ~BlockGuard() { block.reset(); }
};

}  // namespace

void run_grid(unsigned blocks, unsigned threads, std::size_t shared_bytes,
              const std::function<void()>& body) {
  check(block == nullptr, "a kernel cannot launch a kernel");
  check(threads > 0 && threads <= 1024 && threads % warp_lanes == 0,
        "a block has 32 to 1024 threads, in whole warps");
  constexpr std::size_t alignment = 1024;
  block = std::make_unique<Block>();
  const BlockGuard guard;
  block->fibers = std::vector<Fiber>(threads);
  block->warps.resize(threads / warp_lanes);
  while (stacks.size() < threads) {
    stacks.push_back(std::make_unique_for_overwrite<std::byte[]>(stack_bytes));
  }
  block->shared.resize(shared_bytes + alignment);
  const auto start = reinterpret_cast<std::uintptr_t>(block->shared.data());
  block->shared_start = block->shared.data() + (alignment - start % alignment) % alignment;
  block->shared_bytes = shared_bytes;
  block->body = &body;
  blockDim.x = threads;
  if (most_blocks > 0) blocks = std::min(blocks, most_blocks);
  gridDim.x = blocks;
  const std::vector<unsigned> order = turn_order(threads);
  for (unsigned index = 0; index < blocks; ++index) {
    blockIdx.x = index;
    run_block(order);
  }
}

void set_order(std::uint64_t seed) { order_seed = seed; }

void set_most_blocks(unsigned blocks) { most_blocks = blocks; }

// A fiber's index does not survive the switch in threadIdx, so take_turns() sets it again.
void wait_for_block() { wait_at(block->barrier); }

void wait_for_warp() { wait_at(block->warps[block->running / warp_lanes].barrier); }

void yield_turn() { leave_fiber(block->fibers[block->running]); }

std::byte* dynamic_shared() { return block->shared_start; }

std::size_t dynamic_shared_bytes() { return block->shared_bytes; }

const std::byte* exchange(const void* mine, std::size_t size) {
  const unsigned thread = block->running;
  Warp& warp = block->warps[thread / warp_lanes];
  auto& left = warp.left[block->fibers[thread].exchanges++ % 2];
  std::memcpy(left.data() + (thread % warp_lanes) * lane_bytes, mine, size);
  wait_at(warp.barrier);
  return left.data();
}

void copy_later(void* to, const void* from, std::size_t size) {
  block->fibers[block->running].open.push_back({to, from, size});
}

void commit_copies() {
  Fiber& self = block->fibers[block->running];
  self.groups.push_back(std::exchange(self.open, {}));
}

void wait_for_copies(int pending) {
  auto& groups = block->fibers[block->running].groups;
  while (groups.size() > static_cast<std::size_t>(pending)) {
    for (const Copy& copy : groups.front()) {
      std::memset(copy.to, 0, 16);
      if (copy.size > 0) std::memcpy(copy.to, copy.from, copy.size);
    }
    groups.pop_front();
  }
}

}  // namespace longhaul::kernels::emulated
