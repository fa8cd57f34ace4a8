#pragma once
// The Hopper forward kernel on the CPU: its control flow, masks, softmax, descriptors and epilogue
// as the GPU runs them (the same headers), every single operation emulated.

#include <array>
#include <cmath>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "kernels/common/emulated_hopper.h"
#include "kernels/flash_attention/operand.h"
#include "kernels/flash_attention/pipeline.h"
#include "kernels/flash_attention/quad.h"
#include "kernels/flash_attention/reference.h"
#include "kernels/flash_attention/softmax.h"
#include "tests/kernels/interleaver.h"

namespace longhaul::kernels::flash {

/// Results, where the kernel would put them.
struct EmulatedOutput {
  std::vector<Bfloat16> o;
  std::vector<float> running_o;  // not empty: join with what stands here and in lse
  std::vector<float> lse;
  std::vector<int> visits;  // how often a row of a head was written
};

/// What all blocks of a launch share.
struct EmulatedLaunch {
  const AttentionInputs* inputs = nullptr;
  Problem problem;
  EmulatedOutput* output = nullptr;
  Interleaver* interleaver = nullptr;
  float scale_log2 = 0;
  int blocks = 1;
  bool dynamic = false;
  int counter = 0;
};

/// A block's barriers, memory and copies on their way.
template <class Shape>
struct EmulatedBlock {
  using Layout = BarrierLayout<Shape>;
  EmulatedLaunch& launch;
  int index = 0;
  // Not at address 0, where a forgotten base would go unnoticed.
  MemoryMap<Shape> map{3 * panel_alignment};
  EmulatedMemory memory{3 * panel_alignment + Shape::barrier_offset};
  std::vector<EmulatedBarrier> barriers;
  std::array<int, tile_slots> tiles{};
  std::array<EmulatedNamedBarrier, 1 + Shape::warpgroups> named;
  std::deque<std::function<void()>> copies;  // started and not done
  int turning = Shape::turns_v ? turning_warps : 0;
  int computing = 4 * Shape::warpgroups + 1 + turning;  // threads that have not ended

  EmulatedBlock(EmulatedLaunch& launch_, int index_) : launch(launch_), index(index_) {
    barriers.resize(Layout::count);
    for (const Barrier which : {Barrier::q_full, Barrier::q_empty}) prepare(which, 1);
    for (const Barrier which :
         {Barrier::k_full, Barrier::k_empty, Barrier::v_full, Barrier::v_empty}) {
      prepare(which, Shape::stages);
    }
    for (const Barrier which : {Barrier::tile_full, Barrier::tile_empty}) {
      prepare(which, tile_slots);
    }
    if (!Shape::turns_v) return;
    for (const Barrier which : {Barrier::loaded_v_full, Barrier::loaded_v_empty}) {
      prepare(which, Shape::stages);
    }
  }
  void prepare(Barrier which, int stages) {
    for (int stage = 0; stage < stages; ++stage) {
      barrier(which, stage) = EmulatedBarrier(Layout::arrivals(which));
    }
  }
  EmulatedBarrier& barrier(Barrier which, int stage) {
    return barriers.at(Layout::index(which, stage));
  }
  void wait(Barrier which, int stage, int phase) {
    launch.interleaver->pause(
        [&, which, stage, phase] { return barrier(which, stage).over(phase); });
  }
  /// The copy engine: does copies in any order, at any time.
  void run_copies() {
    for (;;) {
      launch.interleaver->pause([&] { return !copies.empty() || computing == 0; });
      if (copies.empty()) return;
      const int chosen = launch.interleaver->draw(static_cast<int>(copies.size()));
      copies[chosen]();
      copies.erase(copies.begin() + chosen);
    }
  }
};

/// The producer's machine (see pipeline.h).
template <class Shape>
class CopyEmulation {
 public:
  explicit CopyEmulation(EmulatedBlock<Shape>& block) : block_(block) {}

  int first_tile() const { return block_.index; }
  int next_tile(int tile) {
    EmulatedLaunch& launch = block_.launch;
    launch.interleaver->pause();
    return launch.dynamic ? launch.blocks + launch.counter++ : tile + launch.blocks;
  }
  void wait(Barrier which, int stage, int phase) { block_.wait(which, stage, phase); }
  void publish(int slot, int tile) {
    block_.tiles[slot] = tile;
    block_.barrier(Barrier::tile_full, slot).arrive();
  }
  void load_q(const TileWork& work) {
    const AttentionInputs& inputs = *block_.launch.inputs;
    copy(tensor(inputs.q, inputs.shape.q_len, inputs.shape.heads), Shape::rows, block_.map.q(),
         Barrier::q_full, 0, query_box(work));
  }
  void load_k(int stage, const TileWork& work, int n) {
    const AttentionInputs& inputs = *block_.launch.inputs;
    copy(tensor(inputs.k, inputs.shape.kv_len, inputs.shape.kv_heads), Shape::keys,
         block_.map.k(stage), Barrier::k_full, stage, key_box<Shape::keys>(work, n));
  }
  void load_v(int stage, const TileWork& work, int n) {
    const AttentionInputs& inputs = *block_.launch.inputs;
    constexpr Barrier full = Shape::turns_v ? Barrier::loaded_v_full : Barrier::v_full;
    copy(tensor(inputs.v, inputs.shape.kv_len, inputs.shape.kv_heads), Shape::keys,
         block_.map.loaded_v(stage), full, stage, key_box<Shape::keys>(work, n));
  }

 private:
  EmulatedTensor tensor(const std::vector<Bfloat16>& values, int rows, int heads) const {
    return {&values, block_.launch.inputs->shape.batch, rows, heads, Shape::head_dim};
  }
  void copy(const EmulatedTensor& tensor, int rows, std::uint32_t destination, Barrier which,
            int stage, BoxPlace place) {
    block_.barrier(which, stage).arrive_expecting(rows * Shape::head_dim * 2);
    for (int panel = 0; panel < Shape::panels; ++panel) {
      const std::uint32_t to = destination + panel * rows * panel_row_bytes;
      block_.copies.push_back([&block = block_, tensor, rows, to, which, stage, place, panel] {
        block.memory.copy_box(tensor, to, rows, panel * panel_columns, place.row, place.head,
                              place.batch);
        block.barrier(which, stage).complete(rows * panel_row_bytes);
      });
    }
  }
  EmulatedBlock<Shape>& block_;
};

/// The machine of a warp that turns V. Here it only carries V over, a third each: the protocol is
/// what is tested; flash_kernel_test turns bytes.
template <class Shape>
class TurnEmulation {
 public:
  TurnEmulation(EmulatedBlock<Shape>& block, int warp) : block_(block), warp_(warp) {}

  void wait(Barrier which, int stage, int phase) { block_.wait(which, stage, phase); }
  void release(Barrier which, int stage) {
    block_.launch.interleaver->pause();
    block_.barrier(which, stage).arrive();
  }
  int read_tile(int slot) const { return block_.tiles[slot]; }
  void turn(int stage) {
    for (int byte = 4 * warp_; byte < Shape::kv_bytes; byte += 4 * turning_warps) {
      if (byte % 1024 < 4 * turning_warps) block_.launch.interleaver->pause();
      block_.memory.store_word(block_.map.v(stage) + byte,
                               block_.memory.load_word(block_.map.loaded_v(stage) + byte));
    }
  }

 private:
  EmulatedBlock<Shape>& block_;
  int warp_;
};

/// Four threads' exchange as forward.cuh does it with shuffles: part[lane][i].
inline void transpose_quad(std::uint32_t (&part)[4][4]) {
  for (int bit = 1; bit <= 2; bit *= 2) {
    for (int i = 0; i < 4; ++i) {
      if ((i & bit) != 0) continue;
      std::uint32_t sent[4];
      for (int lane = 0; lane < 4; ++lane) {
        sent[lane] = quad_sends(lane, bit, part[lane][i], part[lane][i | bit]);
      }
      for (int lane = 0; lane < 4; ++lane) {
        quad_receives(lane, bit, sent[lane ^ bit], part[lane][i], part[lane][i | bit]);
      }
    }
  }
}

/// The consumer's machine, one warp of it: warps of a warpgroup may run apart.
template <class Shape>
class WarpEmulation {
 public:
  WarpEmulation(EmulatedBlock<Shape>& block, int warp) : block_(block), warp_(warp) {}

  void wait(Barrier which, int stage, int phase) { block_.wait(which, stage, phase); }
  void release(Barrier which, int stage) {
    block_.launch.interleaver->pause();
    block_.barrier(which, stage).arrive();
  }
  int read_tile(int slot) const { return block_.tiles[slot]; }

  void first_turn() {
    if (Shape::takes_turns && warpgroup() == Shape::warpgroups - 1) pass_turn();
  }
  void take_turn() {
    if (!Shape::takes_turns) return;
    EmulatedNamedBarrier& barrier = block_.named[1 + warpgroup()];
    const int round = barrier.arrive(256);
    block_.launch.interleaver->pause([&barrier, round] { return barrier.over(round); });
  }
  void pass_turn() {
    if (!Shape::takes_turns) return;
    block_.named[1 + (warpgroup() + 1) % Shape::warpgroups].arrive(256);
  }
  void last_turn() {
    if (Shape::takes_turns && warpgroup() == 0) take_turn();
  }

  void begin(const TileWork& work) {
    for (int lane = 0; lane < 32; ++lane) {
      lanes_[lane].state = RowState{};
      lanes_[lane].o.fill(0.0f);
      for (int half = 0; half < 2; ++half) {
        lanes_[lane].keys[half] = keys_of_row(work.mask, row_of(work, lane) + 8 * half);
      }
    }
  }
  TileRange tiles(const TileWork& work) const {
    const int begin = work.row_begin + warpgroup() * 64;
    return within(tiles_of_rows(work.mask, begin, smaller(work.q_len, begin + 64), Shape::keys),
                  work.tiles);
  }

  // A product runs at any time between its start and the wait for it.
  void start_scores(int stage) {
    start(scores_, [this, stage] { multiply_scores(stage); });
  }
  void start_values(int stage) {
    start(values_, [this, stage] { multiply_values(stage); });
  }
  void finish_scores(bool) { finish(scores_); }
  void finish_values() { finish(values_); }

  template <bool masked>
  void softmax(int n) {
    for (int lane = 0; lane < 32; ++lane) {
      Lane& l = lanes_[lane];
      if (masked) mask_scores(l.s, l.keys, n * Shape::keys + fragment_column(lane));
      l.maxima[0] = l.state.maximum[0];
      l.maxima[1] = l.state.maximum[1];
      raise_maxima(l.s, l.maxima);
    }
    for (int lane = 0; lane < 32; ++lane) {
      Lane& l = lanes_[lane];
      float exponent[2];
      for (int row = 0; row < 2; ++row) {
        float maximum = minus_infinity;
        for (int i = 0; i < 4; ++i) {
          maximum = std::fmax(maximum, lanes_[lane / 4 * 4 + i].maxima[row]);
        }
        l.shrink[row] =
            next_maximum(l.state, row, maximum, block_.launch.scale_log2, exponent[row]);
      }
      exponentiate(l.s, l.state, block_.launch.scale_log2, exponent);
    }
  }
  void round_p() {
    for (Lane& lane : lanes_) {
      for (int i = 0; i < Shape::keys / 2; ++i) lane.p[i] = to_bfloat16(lane.s[i]);
    }
  }
  void shrink_o() {
    for (Lane& lane : lanes_) {
      for (int i = 0; i < Shape::head_dim / 2; ++i) lane.o[i] *= lane.shrink[i / 2 % 2];
    }
  }

  void store(const TileWork& work) {
    block_.launch.interleaver->pause();
    for (int quad = 0; quad < 32; quad += 4) {
      for (int half = 0; half < 2; ++half) {
        const int row = row_of(work, quad) + 8 * half;
        if (row < work.q_len) store_row(work, quad, half, row);
      }
    }
  }

 private:
  struct Lane {
    float s[Shape::keys / 2];
    std::array<Bfloat16, Shape::keys / 2> p;
    std::array<float, Shape::head_dim / 2> o;
    RowState state;
    float maxima[2];
    float shrink[2];
    KeyInterval keys[2];
  };
  using Product = std::function<void()>;

  int warpgroup() const { return warp_ / 4; }
  // As the kernel has it, from the thread's index in its warpgroup.
  int row_of(const TileWork& work, int lane) const {
    return work.row_begin + warpgroup() * 64 + fragment_row(warp_ % 4 * 32 + lane);
  }

  void start(Product& pending, Product product) {
    if (block_.launch.interleaver->coin()) {
      product();
    } else {
      pending = std::move(product);
    }
  }
  void finish(Product& pending) {
    block_.launch.interleaver->pause();
    if (pending) pending();
    pending = nullptr;
  }

  // This warp's 16 rows of the warpgroup's products, by the operands' descriptors.
  void multiply_scores(int stage) {
    const std::uint64_t q = k_major_descriptor(block_.map.q() + warpgroup() * 64 * panel_row_bytes);
    const std::uint64_t k = k_major_descriptor(block_.map.k(stage));
    std::vector<float> a(16 * Shape::head_dim);
    std::vector<float> b(Shape::keys * Shape::head_dim);
    for (int d = 0; d < Shape::head_dim; ++d) {
      const std::uint64_t a_step = q + k_major_step(Shape::rows, d / 16);
      const std::uint64_t b_step = k + k_major_step(Shape::keys, d / 16);
      for (int m = 0; m < 16; ++m) {
        a[m * Shape::head_dim + d] = block_.memory.k_major(a_step, warp_ % 4 * 16 + m, d % 16);
      }
      for (int n = 0; n < Shape::keys; ++n) {
        b[n * Shape::head_dim + d] = block_.memory.k_major(b_step, n, d % 16);
      }
    }
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < Shape::keys / 2; ++i) {
        const float* left = &a[accumulator_row(0, lane, i) * Shape::head_dim];
        const float* right = &b[accumulator_column(lane, i) * Shape::head_dim];
        float sum = 0;
        for (int d = 0; d < Shape::head_dim; ++d) sum += left[d] * right[d];
        lanes_[lane].s[i] = sum;
      }
    }
  }

  void multiply_values(int stage) {
    const std::uint64_t v = mn_major_descriptor(block_.map.v(stage), Shape::keys);
    for (int step = 0; step < Shape::keys / 16; ++step) {
      const std::uint64_t b_step = v + mn_major_step(step);
      float a[16][16];
      for (int lane = 0; lane < 32; ++lane) {
        // Four registers of two: rows g, g + 8, g, g + 8; columns from 2t, 2t, 2t + 8, 2t + 8.
        for (int i = 0; i < 8; ++i) {
          const int row = lane / 4 + (i / 2 % 2 == 1 ? 8 : 0);
          const int column = lane % 4 * 2 + i % 2 + (i >= 4 ? 8 : 0);
          a[row][column] = to_float(lanes_[lane].p[8 * step + i]);
        }
      }
      std::vector<float> b(16 * Shape::head_dim);
      for (int k = 0; k < 16; ++k) {
        for (int n = 0; n < Shape::head_dim; ++n) {
          b[n * 16 + k] = block_.memory.n_major(b_step, k, n);
        }
      }
      for (int lane = 0; lane < 32; ++lane) {
        for (int i = 0; i < Shape::head_dim / 2; ++i) {
          const float* left = a[accumulator_row(0, lane, i)];
          const float* right = &b[accumulator_column(lane, i) * 16];
          for (int k = 0; k < 16; ++k) lanes_[lane].o[i] += left[k] * right[k];
        }
      }
    }
  }

  // One row, held by the four lanes of a quad.
  void store_row(const TileWork& work, int quad, int half, int row) {
    EmulatedOutput& output = *block_.launch.output;
    const Problem& problem = block_.launch.problem;
    float total = 0;
    for (int lane = quad; lane < quad + 4; ++lane) total += lanes_[lane].state.sum[half];
    const RowResult result =
        finish_row(lanes_[quad].state.maximum[half], total, block_.launch.scale_log2);
    const std::size_t lse = lse_index(problem, work, row);
    const bool joins = !output.running_o.empty();
    const MergeWeights weights =
        joins ? merge_weights(output.lse.at(lse), result.lse) : MergeWeights{0, 1, result.lse};
    output.lse.at(lse) = weights.lse;
    ++output.visits.at(lse);
    const std::size_t first = output_index(problem, work, row) * Shape::head_dim;
    if (!joins) {
      write_row(quad, half, result.factor, &output.o.at(first));
    } else if (result.lse != minus_infinity) {
      join_row(quad, half, weights.second * result.factor, weights.first,
               &output.running_o.at(first));
    }
  }

  // The quad's exchange, in lockstep.
  void write_row(int quad, int half, float factor, Bfloat16* out) {
    for (int four = 0; four < Shape::head_dim / 32; ++four) {
      std::uint32_t part[4][4];
      for (int lane = 0; lane < 4; ++lane) {
        for (int i = 0; i < 4; ++i) {
          const int at = group_register(4 * four + i, half);
          const auto& o = lanes_[quad + lane].o;
          part[lane][i] = to_bfloat16(o[at] * factor).bits |
                          static_cast<std::uint32_t>(to_bfloat16(o[at + 1] * factor).bits) << 16;
        }
      }
      transpose_quad(part);
      for (int lane = 0; lane < 4; ++lane) {
        std::memcpy(out + exchanged_column(four, lane), part[lane], 16);
      }
    }
  }

  void join_row(int quad, int half, float factor, float kept, float* out) {
    for (int lane = 0; lane < 4; ++lane) {
      for (int group = 0; group < Shape::head_dim / 8; ++group) {
        for (int j = 0; j < 2; ++j) {
          float& to = out[8 * group + fragment_column(quad + lane) + j];
          const float before = kept != 0.0f ? to * kept : 0.0f;
          to = lanes_[quad + lane].o[group_register(group, half) + j] * factor + before;
        }
      }
    }
  }

  EmulatedBlock<Shape>& block_;
  int warp_;
  std::array<Lane, 32> lanes_{};
  Product scores_;
  Product values_;
};

/// Runs the whole launch: `launch.blocks` blocks of one producer, all consumer warps and a copy
/// engine each, interleaved at random. Throws Deadlock, or what a barrier found wrong.
template <class Shape>
void emulate(EmulatedLaunch& launch) {
  std::vector<std::unique_ptr<EmulatedBlock<Shape>>> blocks;
  std::vector<std::function<void()>> bodies;
  for (int index = 0; index < launch.blocks; ++index) {
    blocks.push_back(std::make_unique<EmulatedBlock<Shape>>(launch, index));
    EmulatedBlock<Shape>& block = *blocks.back();
    bodies.push_back([&block] { block.run_copies(); });
    bodies.push_back([&block, &launch] {
      CopyEmulation<Shape> machine(block);
      Producer<Shape, CopyEmulation<Shape>>(machine, launch.problem).run();
      --block.computing;
    });
    for (int warp = 0; warp < block.turning; ++warp) {
      bodies.push_back([&block, &launch, warp] {
        TurnEmulation<Shape> machine(block, warp);
        Turner<Shape, TurnEmulation<Shape>>(machine, launch.problem).run();
        --block.computing;
      });
    }
    for (int warp = 0; warp < 4 * Shape::warpgroups; ++warp) {
      bodies.push_back([&block, &launch, warp] {
        const auto machine = std::make_unique<WarpEmulation<Shape>>(block, warp);
        Consumer<Shape, WarpEmulation<Shape>>(*machine, launch.problem).run();
        --block.computing;
      });
    }
  }
  launch.interleaver->run(bodies);
  for (const auto& block : blocks) {
    for (const EmulatedNamedBarrier& barrier : block->named) {
      if (!barrier.idle()) throw std::logic_error("a turn was passed that nobody took");
    }
  }
}

}  // namespace longhaul::kernels::flash
