#pragma once
// The control flow of the Hopper forward kernel: who waits for what, and in which order.
//
// One warpgroup loads (the producer), the others compute (the consumers). Both sides are templates
// over a machine that carries out the single operations: on the GPU TMA, wgmma and mbarriers
// (forward.cuh), in the tests an emulation on the CPU that runs this very code under every
// interleaving it draws and computes the result.
//
// Barriers follow the usual scheme: a ring of buffers, each with a `full` and an `empty` barrier;
// the phase of a barrier flips when all its arrivals came. A consumer waits for phase p of `full`,
// the producer for phase p ^ 1 of `empty`, which a fresh barrier counts as over.

#include "kernels/common/host_device.h"
#include "kernels/flash_attention/scheduler.h"
#include "kernels/flash_attention/tile_shape.h"

namespace longhaul::kernels::flash {

/// A place in a ring of `stages` buffers: how many were passed, of which only two rounds matter.
template <int stages>
class RingPlace {
 public:
  static_assert(stages == 1 || stages == 2 || stages == 4, "stage and phase are bits of the count");
  LONGHAUL_HOST_DEVICE constexpr int stage() const { return passed_ % stages; }
  LONGHAUL_HOST_DEVICE constexpr int phase() const { return passed_ / stages % 2; }
  LONGHAUL_HOST_DEVICE constexpr void advance() { passed_ = (passed_ + 1) % (2 * stages); }

 private:
  unsigned passed_ = 0;
};

LONGHAUL_HOST_DEVICE constexpr bool has_keys(const TileWork& work) {
  return work.tiles.first < work.tiles.end;
}

/// The producer. Machine:
///   int first_tile(), next_tile(int tile)       the numbers of this block's tiles
///   void wait(Barrier, int stage, int phase)    returns once the phase is over
///   void publish(int slot, int tile)            tells the consumers, arrives at tile_full
///   void load_q(const TileWork&), load_k(stage, work, n), load_v(stage, work, n)
///                                               start a copy that arrives at its full barrier
template <class Shape, class Machine>
class Producer {
 public:
  LONGHAUL_HOST_DEVICE Producer(Machine& machine, const Problem& problem)
      : machine_(machine), problem_(problem) {}

  /// Loads for all tiles of the block. A number past the last tile ends both sides.
  LONGHAUL_HOST_DEVICE void run() {
    const int count = tile_count(problem_);
    for (int tile = machine_.first_tile();;) {
      machine_.wait(Barrier::tile_empty, slot_.stage(), slot_.phase() ^ 1);
      machine_.publish(slot_.stage(), tile);
      slot_.advance();
      if (tile >= count) return;
      const int next = machine_.next_tile(tile);  // asked for early: the answer takes a while
      const TileWork work = work_of<Shape::rows, Shape::keys>(problem_, tile);
      if (has_keys(work)) load_tile(work);
      tile = next;
    }
  }

 private:
  // Keys from the last tile to the first, as the ones on the diagonal are masked and come first.
  // Values follow one step behind their keys, as they are needed.
  LONGHAUL_HOST_DEVICE void load_tile(const TileWork& work) {
    int n = work.tiles.end - 1;
    load_k(work, n);  // before Q: its buffer is free while the last tile's products still run
    machine_.wait(Barrier::q_empty, 0, q_.phase() ^ 1);
    machine_.load_q(work);
    q_.advance();
    for (; n > work.tiles.first; --n) {
      load_k(work, n - 1);
      load_v(work, n);
    }
    load_v(work, n);
  }

  LONGHAUL_HOST_DEVICE void load_k(const TileWork& work, int n) {
    machine_.wait(Barrier::k_empty, k_.stage(), k_.phase() ^ 1);
    machine_.load_k(k_.stage(), work, n);
    k_.advance();
  }

  LONGHAUL_HOST_DEVICE void load_v(const TileWork& work, int n) {
    machine_.wait(Shape::turns_v ? Barrier::loaded_v_empty : Barrier::v_empty, v_.stage(),
                  v_.phase() ^ 1);
    machine_.load_v(v_.stage(), work, n);
    v_.advance();
  }

  Machine& machine_;
  const Problem& problem_;
  RingPlace<tile_slots> slot_;
  RingPlace<Shape::stages> k_;
  RingPlace<Shape::stages> v_;
  RingPlace<1> q_;
};

/// A warp that turns V, where operands have 8 bits. Machine: wait, release and read_tile as below,
/// and
///   void turn(int stage)    V^T of that stage from the loaded V of that stage, visible to wgmma
template <class Shape, class Machine>
class Turner {
 public:
  LONGHAUL_HOST_DEVICE Turner(Machine& machine, const Problem& problem)
      : machine_(machine), problem_(problem) {}

  LONGHAUL_HOST_DEVICE void run() {
    const int count = tile_count(problem_);
    for (;;) {
      machine_.wait(Barrier::tile_full, slot_.stage(), slot_.phase());
      const int tile = machine_.read_tile(slot_.stage());
      machine_.release(Barrier::tile_empty, slot_.stage());
      slot_.advance();
      if (tile >= count) return;
      const TileRange tiles = work_of<Shape::rows, Shape::keys>(problem_, tile).tiles;
      for (int n = tiles.first; n < tiles.end; ++n) turn();
    }
  }

 private:
  LONGHAUL_HOST_DEVICE void turn() {
    machine_.wait(Barrier::loaded_v_full, v_.stage(), v_.phase());
    machine_.wait(Barrier::v_empty, v_.stage(), v_.phase() ^ 1);
    machine_.turn(v_.stage());
    machine_.release(Barrier::v_full, v_.stage());
    machine_.release(Barrier::loaded_v_empty, v_.stage());
    v_.advance();
  }

  Machine& machine_;
  const Problem& problem_;
  RingPlace<tile_slots> slot_;
  RingPlace<Shape::stages> v_;
};

/// One consumer warpgroup. Machine:
///   void wait(Barrier, int stage, int phase)
///   void release(Barrier, int stage)      one arrival of each of the warpgroup's warps
///   int read_tile(int slot)
///   void first_turn(), take_turn(), pass_turn(), last_turn()   who may use the tensor cores
///   void begin(const TileWork&)               O = 0, no maximum yet
///   void start_scores(int stage)          S = Q K^T begins
///   void start_values(int stage)          O += P V begins
///   void finish_scores(bool alone)        waits for S; alone: nothing else runs
///   void finish_values()                  waits for O
///   void softmax<masked>(int n)           scores of the n-th tile of keys become P (not rounded)
///   void round_p()                        P to bf16, as operand; O must not be running
///   void shrink_o()                       O times the factors of the last softmax
///   void store(const TileWork&)               the results of begin() and what followed
///   TileRange tiles(const TileWork&)      the walk, with the full tiles of this warpgroup's rows
template <class Shape, class Machine>
class Consumer {
 public:
  LONGHAUL_HOST_DEVICE Consumer(Machine& machine, const Problem& problem)
      : machine_(machine), problem_(problem) {}

  /// Computes all tiles of the block.
  LONGHAUL_HOST_DEVICE void run() {
    const int count = tile_count(problem_);
    machine_.first_turn();
    for (;;) {
      machine_.wait(Barrier::tile_full, slot_.stage(), slot_.phase());
      const int tile = machine_.read_tile(slot_.stage());
      machine_.release(Barrier::tile_empty, slot_.stage());
      slot_.advance();
      if (tile >= count) break;
      const TileWork work = work_of<Shape::rows, Shape::keys>(problem_, tile);
      machine_.begin(work);
      if (has_keys(work)) attend(work);
      machine_.store(work);
    }
    machine_.last_turn();
  }

 private:
  // Softmax of one tile of keys beside the product P V of the tile before.
  LONGHAUL_HOST_DEVICE void attend(const TileWork& work) {
    const TileRange tiles = machine_.tiles(work);
    int n = tiles.end - 1;
    machine_.wait(Barrier::q_full, 0, q_.phase());
    q_.advance();
    first_scores(n--);
    for (; n >= tiles.full_end; --n) step<true>(n);
    for (; n >= tiles.full_first; --n) step<false>(n);
    for (; n >= tiles.first; --n) step<true>(n);
    machine_.release(Barrier::q_empty, 0);
    last_values();
  }

  LONGHAUL_HOST_DEVICE void first_scores(int n) {
    machine_.wait(Barrier::k_full, k_.stage(), k_.phase());
    machine_.take_turn();
    machine_.start_scores(k_.stage());
    machine_.pass_turn();
    machine_.finish_scores(true);
    machine_.release(Barrier::k_empty, k_.stage());
    k_.advance();
    machine_.template softmax<true>(n);
    machine_.round_p();
  }

  template <bool masked>
  LONGHAUL_HOST_DEVICE void step(int n) {
    machine_.wait(Barrier::k_full, k_.stage(), k_.phase());
    machine_.take_turn();
    machine_.start_scores(k_.stage());
    machine_.wait(Barrier::v_full, v_.stage(), v_.phase());
    machine_.start_values(v_.stage());
    machine_.pass_turn();
    machine_.finish_scores(false);
    machine_.release(Barrier::k_empty, k_.stage());
    k_.advance();
    machine_.template softmax<masked>(n);
    machine_.finish_values();
    machine_.release(Barrier::v_empty, v_.stage());
    v_.advance();
    machine_.round_p();
    machine_.shrink_o();
  }

  LONGHAUL_HOST_DEVICE void last_values() {
    machine_.wait(Barrier::v_full, v_.stage(), v_.phase());
    machine_.start_values(v_.stage());
    machine_.finish_values();
    machine_.release(Barrier::v_empty, v_.stage());
    v_.advance();
  }

  Machine& machine_;
  const Problem& problem_;
  RingPlace<tile_slots> slot_;
  RingPlace<Shape::stages> k_;
  RingPlace<Shape::stages> v_;
  RingPlace<1> q_;
};

}  // namespace longhaul::kernels::flash
