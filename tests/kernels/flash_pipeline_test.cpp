// The forward kernel's control flow, masks, layouts and softmax, run on the CPU by an emulation of
// the hardware, against attention in double precision.
#include <cmath>
#include <limits>
#include <random>

#include <catch2/catch.hpp>

#include "tests/kernels/attention_shapes.h"
#include "tests/kernels/bounds.h"
#include "tests/kernels/flash_emulation.h"

namespace longhaul::kernels::flash {

namespace {

// Small tiles, for many runs: two warpgroups that take turns, as at head dimensions 64 and 128.
struct SmallTiles {
  static constexpr int head_dim = 64;
  static constexpr int warpgroups = 2;
  static constexpr int rows = 128;
  static constexpr int keys = 16;
  static constexpr int stages = 2;
  static constexpr int threads = 384;
  static constexpr int producer_registers = 40;
  static constexpr int consumer_registers = 232;
  static constexpr bool takes_turns = true;
  static constexpr int element_bytes = 2;
  static constexpr bool turns_v = false;
  static constexpr int panels = 1;
  static constexpr int kv_bytes = keys * head_dim * 2;
  static constexpr int k_offset = rows * head_dim * 2;
  static constexpr int v_offset = k_offset + stages * kv_bytes;
  static constexpr int loaded_v_offset = v_offset;
  static constexpr int barrier_offset = v_offset + stages * kv_bytes;
};
static_assert(Budget<SmallTiles>::holds);

// The same with warps between the loading of V and its use, as fp8 has them.
struct SmallTurnedTiles : SmallTiles {
  static constexpr bool turns_v = true;
  static constexpr int loaded_v_offset = v_offset + stages * kv_bytes;
  static constexpr int barrier_offset = loaded_v_offset + stages * kv_bytes;
};

float largest(const std::vector<Bfloat16>& values) {
  float found = 0;
  for (const Bfloat16 value : values) found = std::fmax(found, std::fabs(to_float(value)));
  return found;
}

EmulatedOutput fresh_output(const AttentionInputs& inputs, bool joins) {
  const std::size_t rows =
      static_cast<std::size_t>(inputs.shape.batch) * inputs.shape.q_len * inputs.shape.heads;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EmulatedOutput output;
  output.o.assign(rows * inputs.shape.head_dim, Bfloat16{0xffff});
  if (joins) output.running_o.assign(rows * inputs.shape.head_dim, nan);
  output.lse.assign(rows, joins ? minus_infinity : nan);
  output.visits.assign(rows, 0);
  return output;
}

template <class Shape>
void launch(const AttentionInputs& inputs, EmulatedOutput& output, unsigned seed) {
  Interleaver interleaver(seed);
  const TilePlan plan = plan_tiles(inputs.shape, Shape::rows, Shape::keys);
  EmulatedLaunch call;
  call.inputs = &inputs;
  call.problem = plan.problem;
  call.output = &output;
  call.interleaver = &interleaver;
  call.scale_log2 = inputs.shape.scale * log2_e;
  call.blocks = 1 + static_cast<int>(seed % 3);
  call.dynamic = seed % 2 == 0;
  emulate<Shape>(call);
}

// Rounding: P is bf16, within a unit of each weight, so O errs by at most a unit of max |v|; O itself
// is rounded by as much; the rest is fp32 and far smaller (2^-16 for both sums together).
double output_bound(const AttentionInputs& inputs) {
  return (2 * bf16_unit + 0x1p-16) * static_cast<double>(largest(inputs.v));
}

// Compares all rows; `o(element)` gives the output.
template <class Output>
void compare(const AttentionInputs& inputs, const EmulatedOutput& output, const Output& o,
             double bound) {
  const std::vector<Sequence> sequences = all_sequences(inputs.shape);
  int wrong = 0;
  for (int s = 0; s < static_cast<int>(sequences.size()); ++s) {
    for (int head = 0; head < inputs.shape.heads; ++head) {
      for (int row = 0; row < sequences[s].q_len; ++row) {
        const AttentionRow wanted = attention_row(inputs, s, head, row);
        const std::size_t lse = lse_place(inputs.shape, s, head, row);
        const std::size_t first = output_place(inputs.shape, s, head, row) * inputs.shape.head_dim;
        const double found = static_cast<double>(output.lse[lse]);
        const bool empty = std::isinf(wanted.lse) && found == wanted.lse;
        if (!(empty || std::fabs(found - wanted.lse) <= 1e-5 * (1 + std::fabs(wanted.lse)))) {
          ++wrong;
        }
        if (output.visits[lse] != 1) ++wrong;
        for (int d = 0; d < inputs.shape.head_dim; ++d) {
          if (!(std::fabs(o(first + d) - wanted.o[d]) <= bound)) ++wrong;
        }
      }
    }
  }
  REQUIRE(wrong == 0);
}

template <class Shape>
void check_call(const AttentionShape& shape, unsigned seed) {
  INFO("seed " << seed << " q_len " << shape.q_len << " kv_len " << shape.kv_len << " above "
               << shape.mask.above << " below " << shape.mask.below);
  const AttentionInputs inputs = attention_inputs(shape, seed);
  EmulatedOutput output = fresh_output(inputs, false);
  launch<Shape>(inputs, output, seed);
  compare(
      inputs, output, [&](std::size_t at) { return static_cast<double>(to_float(output.o[at])); },
      output_bound(inputs));
}

AttentionShape shape_of(int head_dim, int q_len, int kv_len, const MaskSpec& mask) {
  return attention_shape(head_dim, 1, 1, 1, q_len, kv_len, mask);
}

MaskSpec some_mask(unsigned choice) {
  switch (choice % 8) {
    case 0: return full_mask();
    case 1: return causal_mask();
    case 2: return diagonal_mask(static_cast<int>(choice) - 20);
    case 3: return zigzag_mask(2, 1);
    case 4: return zigzag_mask(1, 2);
    case 5: return striped_mask(0, 2, 4);
    case 6: return window_mask(static_cast<int>(choice));
    default: return striped_mask(3, 1, 4, 60);
  }
}

}  // namespace

TEST_CASE(
    "under any interleaving nothing deadlocks, no live buffer is overwritten, each row is "
    "written once and equals attention in double precision") {
  std::mt19937 random(7);
  for (unsigned seed = 0; seed < 48; ++seed) {
    AttentionShape shape = shape_of(64, 1 + static_cast<int>(random() % 300),
                                    1 + static_cast<int>(random() % 120), some_mask(seed));
    shape.heads = seed % 3 == 0 ? 4 : 2;
    shape.kv_heads = seed % 2 == 0 ? 1 : 2;
    shape.batch = seed % 5 == 0 ? 2 : 1;
    check_call<SmallTiles>(shape, seed);
  }
}

TEST_CASE("with warps that turn V in between, the same holds under any interleaving") {
  std::mt19937 random(9);
  for (unsigned seed = 0; seed < 24; ++seed) {
    AttentionShape shape = shape_of(64, 1 + static_cast<int>(random() % 300),
                                    1 + static_cast<int>(random() % 120), some_mask(seed));
    shape.heads = 2;
    check_call<SmallTurnedTiles>(shape, seed);
  }
}

TEST_CASE("batches of varying lengths, empty sequences among them, keep their rows apart") {
  for (unsigned seed = 0; seed < 8; ++seed) {
    std::mt19937 random(seed);
    AttentionShape shape = shape_of(64, 0, 0, some_mask(seed));
    shape.heads = 2;
    for (int s = 0; s < 5; ++s) {
      const int q_len = s == 2 ? 0 : static_cast<int>(random() % 200);
      const int kv_len = s == 3 ? 0 : static_cast<int>(random() % 70);
      shape.sequences.push_back({shape.q_len, q_len, shape.kv_len, kv_len});
      shape.q_len += q_len;
      shape.kv_len += kv_len;
    }
    check_shape(shape);
    check_call<SmallTiles>(shape, seed);
  }
}

TEST_CASE("the tiles of every head dimension compute attention through their own layouts") {
  check_call<TileShape<64, false>>(shape_of(64, 200, 300, causal_mask()), 1);
  check_call<TileShape<64, true>>(shape_of(64, 70, 130, full_mask()), 2);
  check_call<TileShape<128, false>>(shape_of(128, 140, 300, causal_mask()), 3);
  check_call<TileShape<128, true>>(shape_of(128, 130, 400, full_mask()), 4);
  check_call<TileShape<256, false>>(shape_of(256, 130, 170, causal_mask()), 5);
}

TEST_CASE("blocks of keys joined step by step in fp32 equal attention over all keys: the ring") {
  constexpr int ranks = 3;
  constexpr int length = 80;
  for (int own = 0; own < ranks; ++own) {
    AttentionShape shape = shape_of(64, length, ranks * length, diagonal_mask(own * length));
    shape.heads = 2;
    const AttentionInputs whole = attention_inputs(shape, 11 + own);
    EmulatedOutput output = fresh_output(whole, true);
    for (int step = 0; step < ranks; ++step) {
      const int from = (own - step + ranks) % ranks;
      AttentionInputs part = whole;
      part.shape.kv_len = length;
      part.shape.mask = diagonal_mask((own - from) * length);
      const std::size_t size = static_cast<std::size_t>(length) * 64;
      const auto block = [&](const std::vector<Bfloat16>& values) {
        return std::vector<Bfloat16>(values.begin() + from * size,
                                     values.begin() + (from + 1) * size);
      };
      part.k = block(whole.k);
      part.v = block(whole.v);
      output.visits.assign(output.visits.size(), 0);
      launch<SmallTiles>(part, output, 5 * own + step);
    }
    compare(
        whole, output, [&](std::size_t at) { return static_cast<double>(output.running_o[at]); },
        (bf16_unit + 0x1p-16) * static_cast<double>(largest(whole.v)));
  }
}

TEST_CASE("a NaN in an input reaches the output: it is not taken for a row without keys") {
  AttentionInputs inputs = attention_inputs(shape_of(64, 20, 20, full_mask()), 3);
  inputs.k[5] = Bfloat16{0x7fff};
  EmulatedOutput output = fresh_output(inputs, false);
  launch<SmallTiles>(inputs, output, 3);
  CHECK(std::isnan(output.lse[0]));
  CHECK(std::isnan(to_float(output.o[0])));
}

TEST_CASE("the emulation finds the faults it is there for") {
  SECTION("threads that wait for each other are a deadlock") {
    Interleaver interleaver(1);
    CHECK_THROWS_AS(interleaver.run({[&] { interleaver.pause([] { return false; }); }, [] {}}),
                    Deadlock);
  }
  SECTION("an arrival too many at an mbarrier is refused") {
    EmulatedBarrier barrier(2);
    barrier.arrive_expecting(8);
    barrier.arrive();
    CHECK_THROWS_AS(barrier.arrive(), std::logic_error);
    barrier.complete(8);
    CHECK(barrier.over(0));
  }
}

TEST_CASE("a quad's exchange in two rounds is a transposition") {
  std::uint32_t held[4][4];
  for (int lane = 0; lane < 4; ++lane) {
    for (int i = 0; i < 4; ++i) held[lane][i] = static_cast<std::uint32_t>(10 * lane + i);
  }
  transpose_quad(held);
  for (int lane = 0; lane < 4; ++lane) {
    for (int i = 0; i < 4; ++i) CHECK(held[lane][i] == static_cast<std::uint32_t>(10 * i + lane));
  }
}

}  // namespace longhaul::kernels::flash
