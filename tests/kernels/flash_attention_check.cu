// The Hopper forward kernel against attention in double precision, on a GPU: fresh random inputs,
// outputs poisoned with NaN, all masks, head dimensions, groups and lengths that do not divide.
#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernels/common/comparison.h"
#include "kernels/common/cuda_error.h"
#include "kernels/common/device.h"
#include "kernels/common/device_buffer.h"
#include "kernels/common/options.h"
#include "kernels/flash_attention/launch.h"
#include "kernels/flash_attention/reference.h"
#include "tests/kernels/attention_shapes.h"
#include "tests/kernels/bounds.h"

namespace longhaul::kernels::flash {
namespace {

struct Case {
  std::string name;
  AttentionShape shape;
};

double largest(const std::vector<Bfloat16>& values) {
  double found = 0;
  for (const Bfloat16 value : values) found = std::fmax(found, std::fabs(to_float(value)));
  return found;
}

// Rows to compare, as (sequence, head, row): all of a small call, else a sample with first and
// last.
struct Place {
  int sequence, head, row;
};
std::vector<Place> places_of(const AttentionShape& shape, std::uint64_t seed) {
  std::vector<Place> places;
  const auto sequences = all_sequences(shape);
  std::mt19937_64 random(seed);
  for (int s = 0; s < static_cast<int>(sequences.size()); ++s) {
    const int rows = sequences[s].q_len;
    for (int head = 0; head < shape.heads; ++head) {
      const int count = std::min(rows, 96);
      for (int i = 0; i < count; ++i) {
        const int row = count == rows ? i : i == 0 ? 0 : i == 1 ? rows - 1 : int(random() % rows);
        places.push_back({s, head, row});
      }
    }
  }
  return places;
}

// What an output may be off by: O relative to the largest value and in Euclidean norm, LSE.
struct Bounds {
  double o = 0;
  double norm = 1e-2;
  double lse = 2e-3;
};
// P is rounded to bf16, O to bf16 or not; 2^-11 is left for the tensor core's sums, which keep fewer
// bits than IEEE's.
constexpr Bounds bf16_bounds{bf16_unit + bf16_unit + 0x1p-11};
constexpr Bounds joined_bounds{bf16_unit + 0x1p-16 + 0x1p-11};
// P is rounded to e4m3 (2^-4 of each weight, and 2^-18 of the largest where it is subnormal;
// lengths here stay below 2^12), O to bf16. Products of e4m3 are summed with about 14 bits
// (DeepSeek-V3, arXiv:2412.19437, 3.3.2): 2^-13 of sums of scores of up to 40 is 5e-3.
constexpr Bounds fp8_bounds{0x1p-4 + 0x1p-6 + bf16_unit + 0x1p-10, 0x1p-4, 1e-2};

// Outputs at the sampled rows beside their references. `scale`: of V, which the reference does not
// know.
template <class Element>
bool compare(const std::string& name, const AttentionInputs& inputs, const std::vector<Element>& o,
             const std::vector<float>& lse, const Bounds& bounds, std::uint64_t seed,
             double scale = 1) {
  std::vector<Element> found_o;
  std::vector<double> wanted_o;
  std::vector<float> found_lse;
  std::vector<double> wanted_lse;
  for (const Place& at : places_of(inputs.shape, seed)) {
    const AttentionRow wanted = attention_row(inputs, at.sequence, at.head, at.row);
    const long long first =
        output_place(inputs.shape, at.sequence, at.head, at.row) * inputs.shape.head_dim;
    found_o.insert(found_o.end(), o.begin() + first, o.begin() + first + inputs.shape.head_dim);
    for (const double value : wanted.o) wanted_o.push_back(scale * value);
    found_lse.push_back(lse[lse_place(inputs.shape, at.sequence, at.head, at.row)]);
    wanted_lse.push_back(wanted.lse);
  }
  const double largest_o = bounds.o * scale * largest(inputs.v);
  const bool outputs = passes(name + " O", difference(found_o, wanted_o), bounds.norm, largest_o);
  const bool sums = passes(name + " LSE", difference(found_lse, wanted_lse), 1e-2, bounds.lse);
  return outputs && sums;
}

bool check_case(const Case& one, std::uint64_t seed) {
  const AttentionInputs inputs = attention_inputs(one.shape, seed);
  DeviceBuffer<Bfloat16> q(inputs.q), k(inputs.k), v(inputs.v), o(inputs.q.size());
  DeviceBuffer<float> lse(inputs.q.size() / one.shape.head_dim);
  const Forward forward(
      one.shape, {.q = q.data(), .k = k.data(), .v = v.data(), .o = o.data(), .lse = lse.data()});
  for (int call = 0; call < 2; ++call) {  // the second finds the counter as the first left it
    o.poison();
    lse.poison();
    forward.launch(nullptr);
  }
  const bool ok = compare(one.name, inputs, o.download(), lse.download(), bf16_bounds, seed);
  return !o.overran() && !lse.overran() && ok;
}

// Rounds to e4m3, and the input with it.
std::vector<Float8> round_to_fp8(std::vector<Bfloat16>& values) {
  std::vector<Float8> rounded;
  for (Bfloat16& value : values) {
    rounded.push_back(to_float8(to_float(value)));
    value = to_bfloat16(to_float(rounded.back()));  // exact: three bits of mantissa
  }
  return rounded;
}

bool check_fp8(const Case& one, std::uint64_t seed) {
  AttentionInputs inputs = attention_inputs(one.shape, seed);
  DeviceBuffer<Float8> q(round_to_fp8(inputs.q)), k(round_to_fp8(inputs.k)),
      v(round_to_fp8(inputs.v));
  DeviceBuffer<Bfloat16> o(inputs.q.size());
  DeviceBuffer<float> lse(inputs.q.size() / one.shape.head_dim);
  Fp8Tensors tensors;
  tensors.q = q.data();
  tensors.k = k.data();
  tensors.v = v.data();
  tensors.v_scale = 0.25f;
  tensors.o = o.data();
  tensors.lse = lse.data();
  Forward(one.shape, tensors).launch(nullptr);
  const bool ok =
      compare("fp8 " + one.name, inputs, o.download(), lse.download(), fp8_bounds, seed, 0.25);
  return !o.overran() && !lse.overran() && ok;
}

// A contiguous ring of `ranks`, as its last rank sees it: one joining call per block of keys.
bool check_ring(int head_dim, int length, int ranks, std::uint64_t seed) {
  const AttentionShape shape = attention_shape(head_dim, 1, 3, 1, length, ranks * length,
                                               diagonal_mask((ranks - 1) * length));
  const AttentionInputs inputs = attention_inputs(shape, seed);
  DeviceBuffer<Bfloat16> q(inputs.q), k(inputs.k), v(inputs.v);
  DeviceBuffer<float> running(inputs.q.size()), lse(inputs.q.size() / head_dim);
  lse.upload(std::vector<float>(lse.size(), -std::numeric_limits<float>::infinity()));
  for (int from = ranks - 1; from >= 0; --from) {
    AttentionShape step = shape;
    step.kv_len = length;
    step.mask = diagonal_mask((ranks - 1 - from) * length);
    const std::size_t block = std::size_t(from) * length * head_dim;
    Forward(step, {.q = q.data(),
                   .k = k.data() + block,
                   .v = v.data() + block,
                   .running_o = running.data(),
                   .lse = lse.data()})
        .launch(nullptr);
    check_cuda(cudaDeviceSynchronize(), "a step of the ring");
  }
  const std::string name = "ring of " + std::to_string(ranks) + " d" + std::to_string(head_dim);
  const bool ok = compare(name, inputs, running.download(), lse.download(), joined_bounds, seed);
  return !running.overran() && !lse.overran() && ok;
}

std::vector<Case> cases_of(int head_dim, bool quick) {
  const std::string d = " d" + std::to_string(head_dim);
  const auto with = [&](const char* name, int q_len, int kv_len, const MaskSpec& mask) {
    return Case{name + d, attention_shape(head_dim, 2, 4, 2, q_len, kv_len, mask)};
  };
  std::vector<Case> cases = {with("full, one tile", 64, 80, full_mask()),
                             with("full, ragged", 333, 517, full_mask()),
                             with("causal, square", 1024, 1024, causal_mask()),
                             with("causal, ragged", 777, 1111, causal_mask()),
                             with("causal, fewer keys than rows", 600, 123, causal_mask()),
                             with("one query", 1, 4097, causal_mask()),
                             with("zigzag, earlier rank", 512, 512, zigzag_mask(2, 1)),
                             with("zigzag, later rank", 512, 512, zigzag_mask(1, 2)),
                             with("striped, own", 640, 640, striped_mask(1, 1, 4)),
                             with("striped, later rank", 640, 640, striped_mask(1, 2, 4)),
                             with("diagonal with offset", 500, 900, diagonal_mask(131)),
                             with("nothing seen", 200, 200, diagonal_mask(-200)),
                             with("sliding window", 1500, 1500, window_mask(257))};
  const AttentionShape packed =
      packed_shape(head_dim, 4, 1, causal_mask(),
                   {{300, 300}, {0, 10}, {1, 513}, {700, 650}, {129, 0}, {64, 64}});
  cases.push_back({"varying lengths" + d, packed});
  if (quick) return cases;
  cases.push_back({"causal 16k" + d, attention_shape(head_dim, 1, 16, 16, 16384, 16384, causal_mask())});
  cases.push_back({"full 16k" + d, attention_shape(head_dim, 1, 16, 16, 16384, 16384, full_mask())});
  return cases;
}

bool check(const Device& device, const Options& options) {
  if (device.capability.major != 9) {
    std::printf("waived: wgmma needs compute capability 9.0\n");
    return true;
  }
  bool ok = true;
  for (const int head_dim : {64, 128, 256}) {
    for (const Case& one : cases_of(head_dim, options.quick)) {
      ok = check_case(one, options.seed) && ok;
    }
    ok = check_ring(head_dim, 400, 3, options.seed) && ok;
  }
  for (const Case& one : cases_of(128, true)) {
    if (one.shape.kv_len < 4096) ok = check_fp8(one, options.seed) && ok;
  }
  return ok;
}

}  // namespace
}  // namespace longhaul::kernels::flash

int main(int argc, char** argv) {
  using namespace longhaul::kernels;
  return run_on_device(argc, argv, {9, 0}, flash::check);
}
