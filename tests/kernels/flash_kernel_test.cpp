// The Hopper forward kernel's source itself, forward.cuh, run thread by thread on the emulated GPU.
#include "kernels/flash_attention/forward.cuh"

#include <algorithm>
#include <cmath>
#include <limits>

#include <catch2/catch.hpp>

#include "kernels/flash_attention/reference.h"
#include "tests/kernels/attention_shapes.h"
#include "tests/kernels/bounds.h"

namespace longhaul::kernels::flash {

namespace {

struct Outputs {
  std::vector<Bfloat16> o;
  std::vector<float> running_o;
  std::vector<float> lse;
  std::vector<int> counter = {0, 0};
};

AttentionShape shape_of(int head_dim, int q_len, int kv_len, const MaskSpec& mask) {
  return attention_shape(head_dim, 2, 2, 1, q_len, kv_len, mask);
}

template <class Shape>
ForwardParameters parameters_of(const AttentionInputs& inputs, Outputs& outputs, bool dynamic) {
  const AttentionShape& shape = inputs.shape;
  ForwardParameters parameters;
  parameters.q = {&inputs.q, shape.batch, shape.q_len, shape.heads, shape.head_dim, Shape::rows};
  parameters.k = {&inputs.k,      shape.batch,    shape.kv_len,
                  shape.kv_heads, shape.head_dim, Shape::keys};
  parameters.v = parameters.k;
  parameters.v.values = &inputs.v;
  const bool joins = !outputs.running_o.empty();
  parameters.output = {outputs.o.data(), joins ? outputs.running_o.data() : nullptr,
                       outputs.lse.data()};
  parameters.scale_log2 = shape.scale * log2_e;
  parameters.counter = dynamic ? outputs.counter.data() : nullptr;
  return parameters;
}

template <class Shape>
void run_grid(ForwardParameters& parameters, const TilePlan& plan, unsigned blocks) {
  parameters.problem = plan.problem;
  constexpr std::uint32_t addresses = 1040 + BarrierLayout<Shape>::launch_bytes;
  sm() = EmulatedSm{};
  sm().memory = EmulatedMemory(addresses);
  emulated::run_grid(blocks, Shape::threads, BarrierLayout<Shape>::launch_bytes,
                     [&] { forward_kernel<Shape>(parameters); });
}

template <class Shape>
void run_kernel(const AttentionInputs& inputs, Outputs& outputs, unsigned blocks, bool dynamic) {
  ForwardParameters parameters = parameters_of<Shape>(inputs, outputs, dynamic);
  run_grid<Shape>(parameters, plan_tiles(inputs.shape, Shape::rows, Shape::keys), blocks);
}

double largest_value(const AttentionInputs& inputs) {
  double found = 0;
  for (const Bfloat16 value : inputs.v) {
    found = std::fmax(found, std::fabs(static_cast<double>(to_float(value))));
  }
  return found;
}

// P rounded to bf16 (2^-9 of each weight), O to bf16 unless it is joined in fp32, 2^-16 for the
// sums.
double rounding_bound(const AttentionInputs& inputs, bool joins) {
  return (bf16_unit + (joins ? 0 : bf16_unit) + 0x1p-16) * largest_value(inputs);
}

// Elements of O, times `scale`, that are further from the reference than `bound`, and wrong LSEs.
int wrong_elements(const AttentionInputs& inputs, const Outputs& outputs, double bound,
                   double scale = 1) {
  const AttentionShape& shape = inputs.shape;
  const bool joins = !outputs.running_o.empty();
  int wrong = 0;
  for (int batch = 0; batch < shape.batch; ++batch) {
    for (int head = 0; head < shape.heads; ++head) {
      for (int row = 0; row < shape.q_len; ++row) {
        const AttentionRow wanted = attention_row(inputs, batch, head, row);
        const double lse = static_cast<double>(outputs.lse[lse_place(shape, batch, head, row)]);
        const bool same = lse == wanted.lse || std::fabs(lse - wanted.lse) <= 1e-4;
        if (!same) ++wrong;
        const std::size_t first = output_place(shape, batch, head, row) * shape.head_dim;
        for (int d = 0; d < shape.head_dim; ++d) {
          const float found = joins ? outputs.running_o[first + d] : to_float(outputs.o[first + d]);
          if (!(std::fabs(scale * static_cast<double>(found) - wanted.o[d]) <= bound)) ++wrong;
        }
      }
    }
  }
  return wrong;
}

Outputs fresh(const AttentionShape& shape, bool joins) {
  const std::size_t rows = static_cast<std::size_t>(shape.batch) * shape.q_len * shape.heads;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  Outputs outputs;
  outputs.o.assign(joins ? 0 : rows * shape.head_dim, Bfloat16{0xffff});
  outputs.running_o.assign(joins ? rows * shape.head_dim : 0, nan);
  outputs.lse.assign(rows, joins ? minus_infinity : nan);
  return outputs;
}

template <class Shape>
void check_kernel(const AttentionShape& shape, unsigned blocks, bool dynamic) {
  const AttentionInputs inputs = attention_inputs(shape, 1);
  Outputs outputs = fresh(shape, false);
  run_kernel<Shape>(inputs, outputs, blocks, dynamic);
  CHECK(wrong_elements(inputs, outputs, rounding_bound(inputs, false)) == 0);
  CHECK(outputs.counter == std::vector<int>{0, 0});
}

}  // namespace

TEST_CASE("the forward kernel computes attention for every head dimension, thread by thread") {
  check_kernel<TileShape<64, false>>(shape_of(64, 100, 140, causal_mask()), 1, false);
  check_kernel<TileShape<128, false>>(shape_of(128, 70, 150, causal_mask()), 2, true);
  check_kernel<TileShape<128, true>>(shape_of(128, 50, 200, full_mask()), 3, false);
  check_kernel<TileShape<256, false>>(shape_of(256, 40, 100, window_mask(30)), 2, true);
}

TEST_CASE("the forward kernel gives 0 and -inf where nothing is seen") {
  check_kernel<TileShape<128, false>>(shape_of(128, 40, 40, diagonal_mask(-20)), 1, true);
  check_kernel<TileShape<64, false>>(shape_of(64, 40, 40, diagonal_mask(-40)), 1, true);
}

TEST_CASE("the forward kernel joins with a running result, and leaves alone what sees nothing") {
  const AttentionShape whole = shape_of(128, 40, 40, causal_mask());
  const AttentionInputs inputs = attention_inputs(whole, 1);
  Outputs outputs = fresh(whole, true);
  // The same keys in two calls: those before the diagonal's last 10, and the others.
  AttentionInputs part = inputs;
  part.shape.mask = MaskSpec{-10, unlimited, false, Rows::all, Keys::all};
  run_kernel<TileShape<128, false>>(part, outputs, 1, true);
  part.shape.mask = MaskSpec{0, 9, false, Rows::all, Keys::all};
  run_kernel<TileShape<128, false>>(part, outputs, 1, true);
  CHECK(wrong_elements(inputs, outputs, rounding_bound(inputs, true)) == 0);
}

TEST_CASE("every e4m3 number survives the way through float, and rounding takes the nearest") {
  for (int bits = 0; bits < 256; ++bits) {
    const Float8 number{static_cast<std::uint8_t>(bits)};
    if ((bits & 0x7f) == 0x7f) {
      CHECK(std::isnan(to_float(number)));
    } else {
      CHECK(to_float8(to_float(number)).bits == bits);
    }
  }
  const std::vector<float> values = random_normal(3000, 5, 40.0f);
  for (const float value : values) {
    float nearest = 1e9f;
    for (int bits = 0; bits < 127; ++bits) {
      const float candidate =
          std::copysign(to_float(Float8{static_cast<std::uint8_t>(bits)}), value);
      if (std::fabs(candidate - value) < std::fabs(nearest - value)) nearest = candidate;
    }
    CHECK(to_float(to_float8(value)) == nearest);
  }
  CHECK(to_float(to_float8(1e6f)) == 448.0f);
  CHECK(to_float(to_float8(18.0f)) == 18.0f);
  CHECK(to_float(to_float8(17.0f)) == 16.0f);  // ties to even
  CHECK(to_float(to_float8(19.0f)) == 20.0f);
}

TEST_CASE("V turned for fp8 has each byte once, at the place that P's order asks for") {
  std::vector<int> keys(128);
  for (int position = 0; position < 128; ++position) ++keys[key_at(position)];
  CHECK(keys == std::vector<int>(128, 1));
  std::vector<int> visits(32 * 32);
  for (int i = 0; i < 32 * 32; ++i) {
    const TurnBlock block = turn_block(128, i);
    ++visits[block.positions * 32 + block.columns];
  }
  CHECK(visits == std::vector<int>(32 * 32, 1));
  std::uint32_t words[4] = {0x03020100, 0x13121110, 0x23222120, 0x33323130};
  transpose_bytes(words);
  CHECK(words[0] == 0x30201000);
  CHECK(words[1] == 0x31211101);
  CHECK(words[3] == 0x33231303);
}

TEST_CASE("turning V, no bank of shared memory is asked more than twice by a warp's access") {
  for (int first = 0; first < 1024; first += 32) {
    for (int j = 0; j < 4; ++j) {
      std::vector<int> loads(32);
      std::vector<int> stores(32);
      for (int lane = 0; lane < 32; ++lane) {
        const TurnBlock block = turn_block(128, first + lane);
        ++loads[word_offset(128, key_at(4 * block.positions + j), block.columns) / 4 % 32];
        ++stores[word_offset(128, 4 * block.columns + j, block.positions) / 4 % 32];
      }
      CHECK(*std::max_element(loads.begin(), loads.end()) <= 2);
      CHECK(*std::max_element(stores.begin(), stores.end()) <= 2);
    }
  }
}

namespace {

std::vector<Float8> round_to_fp8(std::vector<Bfloat16>& values) {
  std::vector<Float8> rounded;
  for (Bfloat16& value : values) {
    rounded.push_back(to_float8(to_float(value)));
    value = to_bfloat16(to_float(rounded.back()));  // exact: three bits of mantissa
  }
  return rounded;
}

}  // namespace

TEST_CASE("with e4m3 operands the kernel errs by the rounding of P to three bits at most") {
  for (const MaskSpec& mask : {causal_mask(), window_mask(40)}) {
    AttentionShape shape = shape_of(128, 140, 200, mask);
    shape.batch = 1;
    shape.heads = 1;
    AttentionInputs inputs = attention_inputs(shape, 1);
    const std::vector<Float8> q = round_to_fp8(inputs.q);
    const std::vector<Float8> k = round_to_fp8(inputs.k);
    const std::vector<Float8> v = round_to_fp8(inputs.v);
    Outputs outputs = fresh(shape, false);
    ForwardParameters parameters = parameters_of<Fp8TileShape>(inputs, outputs, true);
    parameters.q.bytes = &q;
    parameters.k.bytes = &k;
    parameters.v.bytes = &v;
    parameters.v_scale = 0.5f;
    const TilePlan plan = plan_tiles(shape, Fp8TileShape::rows, Fp8TileShape::keys);
    run_grid<Fp8TileShape>(parameters, plan, 2);
    // P 2^8 in e4m3: within 2^-4 of itself, or 2^-10 where it is subnormal.
    const double bound = (0x1p-4 + 200 * 0x1p-18 + 0x1p-8) * largest_value(inputs);
    CHECK(wrong_elements(inputs, outputs, bound, 2.0) == 0);
  }
}

TEST_CASE("no turn is left over at the end, whatever the order of threads") {
  for (const std::uint64_t order : {0, 1, 2}) {
    emulated::set_order(order);
    check_kernel<TileShape<64, false>>(shape_of(64, 20, 200, full_mask()), 1, order == 1);
    for (const auto& [id, barrier] : sm().named) CHECK(barrier.idle());
  }
  emulated::set_order(0);
}

}  // namespace longhaul::kernels::flash
