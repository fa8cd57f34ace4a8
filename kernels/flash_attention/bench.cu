// Rates of the Hopper forward kernel over lengths, masks and head dimensions.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "kernels/common/bench.h"
#include "kernels/common/clocks.h"
#include "kernels/common/cuda_error.h"
#include "kernels/common/device_buffer.h"
#include "kernels/common/random_inputs.h"
#include "kernels/flash_attention/launch.h"

namespace longhaul::kernels::flash {
namespace {

struct Point {
  const char* mask_name;
  MaskSpec mask;
  int head_dim, heads, kv_heads, length;
  bool joins;
};

// Tensors of one call; several sets take turns, so that inputs come from memory.
struct Set {
  DeviceBuffer<Bfloat16> q, k, v, o;
  DeviceBuffer<float> running, lse;
  Forward forward;

  Set(const AttentionShape& shape, bool joins, const std::vector<Bfloat16>& queries,
      const std::vector<Bfloat16>& keys)
      : q(queries),
        k(keys),
        v(keys),
        o(joins ? 0 : queries.size()),
        running(std::vector<float>(joins ? queries.size() : 0, 0.0f)),
        lse(std::vector<float>(queries.size() / shape.head_dim, 0.0f)),
        forward(shape, {.q = q.data(),
                        .k = k.data(),
                        .v = v.data(),
                        .o = joins ? nullptr : o.data(),
                        .running_o = joins ? running.data() : nullptr,
                        .lse = lse.data()}) {}
};

AttentionShape shape_of(const Point& point) {
  AttentionShape shape;
  shape.head_dim = point.head_dim;
  shape.heads = point.heads;
  shape.kv_heads = point.kv_heads;
  shape.q_len = point.length;
  shape.kv_len = point.length;
  shape.scale = 1.0f / std::sqrt(static_cast<float>(point.head_dim));
  shape.mask = point.mask;
  return shape;
}

double attribute(cudaDeviceAttr which) {
  int index = 0;
  int value = 0;
  check_cuda(cudaGetDevice(&index), "cudaGetDevice");
  check_cuda(cudaDeviceGetAttribute(&value, which, index), "cudaDeviceGetAttribute");
  return value;
}

// Dense bf16 peak of this GPU at its highest clock, FLOP/s: 4096 a clock and SM (NVIDIA H100 white
// paper: 989.4 TFLOP/s of 132 SMs at 1830 MHz).
double peak_flops(const Device& device) {
  return 4096.0 * device.sms * 1e3 * attribute(cudaDevAttrClockRate);
}

// Bytes per second of the memory interface: two transfers a clock on all its wires.
double peak_bandwidth() {
  return 2e3 * attribute(cudaDevAttrMemoryClockRate) * attribute(cudaDevAttrGlobalMemoryBusWidth) /
         8;
}

std::string name_of(const Point& point) {
  return std::string(point.joins ? "joining " : "") + point.mask_name + " d" +
         std::to_string(point.head_dim) + " h" + std::to_string(point.heads) + "/" +
         std::to_string(point.kv_heads) + " " + std::to_string(point.length);
}

Fields fields_of(const Point& point, const char* dtype) {
  return {{"op", std::string("attention_forward")},
          {"batch", std::int64_t{1}},
          {"heads", std::int64_t{point.heads}},
          {"kv_heads", std::int64_t{point.kv_heads}},
          {"q_len", std::int64_t{point.length}},
          {"kv_len", std::int64_t{point.length}},
          {"head_dim", std::int64_t{point.head_dim}},
          {"mask", std::string(point.mask_name)},
          {"dtype", std::string(dtype)},
          {"backend", std::string("longhaul")},
          {"state", std::string("as_found")},
          {"joins", point.joins}};
}

void bench_point(Results& results, const Device& device, const Options& options,
                 const Point& point) {
  const AttentionShape shape = shape_of(point);
  const Work work{.bytes = attention_bytes(shape, point.joins), .flops = attention_flops(shape)};
  const std::size_t rows = static_cast<std::size_t>(point.length) * point.head_dim;
  const auto queries = random_bfloat16(rows * point.heads, options.seed);
  const auto keys = random_bfloat16(rows * point.kv_heads, options.seed + 1);
  std::vector<Set> sets;
  const int count = rotating_sets(device, work.bytes);
  sets.reserve(count);
  for (int i = 0; i < count; ++i) sets.emplace_back(shape, point.joins, queries, keys);
  const Timing timing = time_calls([&](int i) { sets[i].forward.launch(nullptr); }, count);
  report(results, name_of(point), fields_of(point, "bf16"), work, timing);
  const double least_s = std::max(work.flops / peak_flops(device), work.bytes / peak_bandwidth());
  std::printf("%-48s %10.1f %% of the roofline\n", "", 1e8 * least_s / timing.median_us);
}

// The same with e4m3 operands, without joining; the peak is twice that of bf16.
struct Fp8Set {
  DeviceBuffer<Float8> q, k, v;
  DeviceBuffer<Bfloat16> o;
  DeviceBuffer<float> lse;
  Forward forward;

  Fp8Set(const AttentionShape& shape, const std::vector<Float8>& queries,
         const std::vector<Float8>& keys)
      : q(queries),
        k(keys),
        v(keys),
        o(queries.size()),
        lse(queries.size() / shape.head_dim),
        forward(
            shape,
            Fp8Tensors{
                .q = q.data(), .k = k.data(), .v = v.data(), .o = o.data(), .lse = lse.data()}) {}
};

std::vector<Float8> random_float8(std::size_t count, std::uint64_t seed) {
  std::vector<Float8> rounded;
  for (const float value : random_normal(count, seed)) rounded.push_back(to_float8(value));
  return rounded;
}

void bench_fp8(Results& results, const Device& device, const Options& options, const Point& point) {
  const AttentionShape shape = shape_of(point);
  const std::size_t rows = static_cast<std::size_t>(point.length) * point.head_dim;
  const double operands = static_cast<double>(rows) * (point.heads + 2.0 * point.kv_heads);
  const double outputs = static_cast<double>(rows) * point.heads * (2.0 + 4.0 / point.head_dim);
  const Work work{.bytes = operands + outputs, .flops = attention_flops(shape)};
  const auto queries = random_float8(rows * point.heads, options.seed);
  const auto keys = random_float8(rows * point.kv_heads, options.seed + 1);
  std::vector<Fp8Set> sets;
  const int count = rotating_sets(device, work.bytes);
  sets.reserve(count);
  for (int i = 0; i < count; ++i) sets.emplace_back(shape, queries, keys);
  const Timing timing = time_calls([&](int i) { sets[i].forward.launch(nullptr); }, count);
  report(results, "fp8 " + name_of(point), fields_of(point, "fp8_e4m3"), work, timing);
  const double least_s =
      std::max(work.flops / (2 * peak_flops(device)), work.bytes / peak_bandwidth());
  std::printf("%-48s %10.1f %% of the roofline\n", "", 1e8 * least_s / timing.median_us);
}

std::vector<Point> points(bool quick) {
  std::vector<Point> found;
  const std::vector<int> lengths =
      quick ? std::vector<int>{16384} : std::vector<int>{512, 1024, 2048, 4096, 8192, 16384, 32768};
  for (const int head_dim : {64, 128, 256}) {
    for (const int length : lengths) {
      found.push_back({"full", full_mask(), head_dim, 16, 16, length, false});
      found.push_back({"causal", causal_mask(), head_dim, 16, 16, length, false});
    }
  }
  for (const int length : lengths) {
    found.push_back({"causal", causal_mask(), 128, 32, 8, length, false});
    found.push_back({"causal", causal_mask(), 128, 32, 8, length, true});
    found.push_back({"full", full_mask(), 128, 32, 8, length, true});
    found.push_back({"zigzag_earlier", zigzag_mask(1, 0), 128, 32, 8, length, true});
    found.push_back({"zigzag_later", zigzag_mask(0, 1), 128, 32, 8, length, true});
    found.push_back({"striped", striped_mask(0, 1, 2), 128, 32, 8, length, true});
    found.push_back({"window_4096", window_mask(4095), 128, 32, 8, length, false});
  }
  return found;
}

bool bench(const Device& device, const Options& options) {
  if (device.capability.major != 9) {
    std::printf("waived: wgmma needs compute capability 9.0\n");
    return true;
  }
  Results results(options, "flash_attention", read_provenance());
  for (const Point& point : points(options.quick)) {
    bench_point(results, device, options, point);
    const bool fp8 = point.head_dim == 128 && point.heads == 16 && !point.joins;
    if (fp8) bench_fp8(results, device, options, point);
  }
  return true;
}

}  // namespace
}  // namespace longhaul::kernels::flash

int main(int argc, char** argv) {
  using namespace longhaul::kernels;
  return run_on_device(argc, argv, {9, 0}, flash::bench);
}
