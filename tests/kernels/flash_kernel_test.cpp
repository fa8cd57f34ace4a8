// The Hopper forward kernel's source itself, forward.cuh, run thread by thread on the emulated GPU.
#include "kernels/flash_attention/forward.cuh"

#include <cmath>
#include <limits>

#include <catch2/catch.hpp>

#include "kernels/common/random_inputs.h"
#include "kernels/flash_attention/reference.h"

namespace longhaul::kernels::flash {

namespace {

struct Outputs {
  std::vector<Bfloat16> o;
  std::vector<float> running_o;
  std::vector<float> lse;
  std::vector<int> counter = {0, 0};
};

AttentionShape shape_of(int head_dim, int q_len, int kv_len, const MaskSpec& mask) {
  AttentionShape shape;
  shape.head_dim = head_dim;
  shape.batch = 2;
  shape.heads = 2;
  shape.q_len = q_len;
  shape.kv_len = kv_len;
  shape.scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  shape.mask = mask;
  return shape;
}

AttentionInputs inputs_of(const AttentionShape& shape) {
  const std::size_t rows = static_cast<std::size_t>(shape.batch) * shape.head_dim;
  return {shape, random_bfloat16(rows * shape.q_len * shape.heads, 1),
          random_bfloat16(rows * shape.kv_len * shape.kv_heads, 2),
          random_bfloat16(rows * shape.kv_len * shape.kv_heads, 3)};
}

template <class Shape>
void run_kernel(const AttentionInputs& inputs, Outputs& outputs, unsigned blocks, bool dynamic) {
  const AttentionShape& shape = inputs.shape;
  const TilePlan plan = plan_tiles(shape, Shape::rows, Shape::keys);
  ForwardParameters parameters;
  parameters.q = {&inputs.q, shape.batch, shape.q_len, shape.heads, shape.head_dim, Shape::rows};
  parameters.k = {&inputs.k,      shape.batch,    shape.kv_len,
                  shape.kv_heads, shape.head_dim, Shape::keys};
  parameters.v = parameters.k;
  parameters.v.values = &inputs.v;
  parameters.problem = plan.problem;
  const bool joins = !outputs.running_o.empty();
  parameters.output = {outputs.o.data(), joins ? outputs.running_o.data() : nullptr,
                       outputs.lse.data()};
  parameters.scale_log2 = shape.scale * log2_e;
  parameters.counter = dynamic ? outputs.counter.data() : nullptr;
  constexpr std::uint32_t addresses = 1040 + BarrierLayout<Shape>::launch_bytes;
  sm() = EmulatedSm{};
  sm().memory = EmulatedMemory(addresses);
  emulated::run_grid(blocks, Shape::threads, BarrierLayout<Shape>::launch_bytes,
                     [&] { forward_kernel<Shape>(parameters); });
}

double largest_value(const AttentionInputs& inputs) {
  double found = 0;
  for (const Bfloat16 value : inputs.v) {
    found = std::fmax(found, std::fabs(static_cast<double>(to_float(value))));
  }
  return found;
}

// Elements that are further from the reference than rounding explains: P to bf16 (2^-9 of each
// weight), O to bf16 unless it is joined in fp32, and 2^-16 for the sums.
int wrong_elements(const AttentionInputs& inputs, const Outputs& outputs) {
  const AttentionShape& shape = inputs.shape;
  const bool joins = !outputs.running_o.empty();
  const double bound = (0x1p-9 + (joins ? 0 : 0x1p-9) + 0x1p-16) * largest_value(inputs);
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
          if (!(std::fabs(static_cast<double>(found) - wanted.o[d]) <= bound)) ++wrong;
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
  const AttentionInputs inputs = inputs_of(shape);
  Outputs outputs = fresh(shape, false);
  run_kernel<Shape>(inputs, outputs, blocks, dynamic);
  CHECK(wrong_elements(inputs, outputs) == 0);
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
  const AttentionInputs inputs = inputs_of(whole);
  Outputs outputs = fresh(whole, true);
  // The same keys in two calls: those before the diagonal's last 10, and the others.
  AttentionInputs part = inputs;
  part.shape.mask = MaskSpec{-10, unlimited, false, Rows::all, Keys::all};
  run_kernel<TileShape<128, false>>(part, outputs, 1, true);
  part.shape.mask = MaskSpec{0, 9, false, Rows::all, Keys::all};
  run_kernel<TileShape<128, false>>(part, outputs, 1, true);
  CHECK(wrong_elements(inputs, outputs) == 0);
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
