// Rates of the Hopper forward kernel over lengths, masks and head dimensions, and of cuDNN's
// attention on the same inputs in the same run.
#include <cstdio>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/common/bench.h"
#include "kernels/common/clocks.h"
#include "kernels/common/comparison.h"
#include "kernels/common/cuda_error.h"
#include "kernels/common/device_buffer.h"
#include "kernels/common/random_inputs.h"
#include "kernels/common/roofline.h"
#include "kernels/flash_attention/launch.h"
#include "kernels/vendor/cudnn_attention.h"

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
  return attention_shape(point.head_dim, 1, point.heads, point.kv_heads, point.length, point.length,
                         point.mask);
}

std::string name_of(const Point& point) {
  return std::string(point.joins ? "joining " : "") + point.mask_name + " d" +
         std::to_string(point.head_dim) + " h" + std::to_string(point.heads) + "/" +
         std::to_string(point.kv_heads) + " " + std::to_string(point.length);
}

Fields fields_of(const Point& point, const char* dtype, const char* backend = "longhaul") {
  return {{"op", std::string("attention_forward")},
          {"batch", std::int64_t{1}},
          {"heads", std::int64_t{point.heads}},
          {"kv_heads", std::int64_t{point.kv_heads}},
          {"q_len", std::int64_t{point.length}},
          {"kv_len", std::int64_t{point.length}},
          {"head_dim", std::int64_t{point.head_dim}},
          {"mask", std::string(point.mask_name)},
          {"dtype", std::string(dtype)},
          {"backend", std::string(backend)},
          {"state", std::string("as_found")},
          {"joins", point.joins}};
}

// cuDNN's attention of the same inputs, with outputs of its own.
struct Vendor {
  struct Outputs {
    DeviceBuffer<Bfloat16> o;
    DeviceBuffer<float> lse;
    vendor::CudnnAttention::Call call;
  };
  vendor::CudnnAttention attention;
  std::vector<Outputs> sets;

  Vendor(const AttentionShape& shape, std::vector<Set>& ours) : attention(shape) {
    for (Set& set : ours) {
      DeviceBuffer<Bfloat16> o(set.o.size());
      DeviceBuffer<float> lse(set.lse.size());
      auto call = attention.on({.q = set.q.data(),
                                .k = set.k.data(),
                                .v = set.v.data(),
                                .o = o.data(),
                                .lse = lse.data()});
      sets.push_back({std::move(o), std::move(lse), std::move(call)});
    }
    sets[0].call.launch(nullptr);  // what fails, fails here, where a point can be left out
    check_cuda(cudaDeviceSynchronize(), "cuDNN's attention");
  }
};

// The comparison with cuDNN in one run.
class Comparison {
 public:
  Comparison(Results& results, std::string version)
      : results_(results), version_(std::move(version)) {}

  // cuDNN made ready for a point; nothing where there is no cuDNN or it does not do this.
  std::optional<Vendor> vendor(const Point& point, std::vector<Set>& sets) const {
    if (version_.empty() || point.joins) return std::nullopt;
    try {
      return Vendor(shape_of(point), sets);
    } catch (const vendor::CudnnUnsupported& error) {
      left_out(point, "unsupported", error.what());
    } catch (const vendor::CudnnError& error) {
      left_out(point, "error", error.what());
    }
    return std::nullopt;
  }

  // A rate counts only where both computed the same.
  void report(const Point& point, const Work& work, const Set& ours, const Vendor& vendor,
              const Timing& our_time, const Timing& its_time) const {
    const Difference o = compare(ours.o.download(), vendor.sets[0].o.download());
    const Difference lse = compare(ours.lse.download(), vendor.sets[0].lse.download());
    const bool same = o.wrong + lse.wrong == 0 && o.relative <= most && lse.relative <= most_lse;
    std::printf("%-48s O differs by %.2g, LSE by %.2g\n", "", o.relative, lse.relative);
    if (!same) return left_out(point, "error", "cuDNN and this kernel do not compute the same");
    kernels::report(results_, "cuDNN " + name_of(point), fields_of(point, "bf16", "cudnn"), work,
                    its_time,
                    {{"cudnn", version_},
                     {"engine", vendor.attention.engine()},
                     {"workspace_bytes", vendor.attention.workspace_bytes()},
                     {"relative_difference", o.relative},
                     {"longhaul_share", its_time.median_us / our_time.median_us}});
    std::printf("%-48s %10.1f %% of cuDNN's rate\n", "",
                100 * its_time.median_us / our_time.median_us);
  }

 private:
  // Both round P and O to bf16, 2^-9 at most and of random sign; LSE is fp32 from end to end.
  static constexpr double most = 1e-2;
  static constexpr double most_lse = 1e-3;

  template <class T>
  static Difference compare(const std::vector<T>& ours, const std::vector<T>& its) {
    std::vector<double> reference;
    reference.reserve(its.size());
    for (const T& value : its) reference.push_back(static_cast<double>(to_float(value)));
    return difference(ours, reference);
  }
  static float to_float(float value) { return value; }
  static float to_float(Bfloat16 value) { return kernels::to_float(value); }

  void left_out(const Point& point, const std::string& status, const std::string& why) const {
    std::printf("%-48s %s: %s\n", ("cuDNN " + name_of(point)).c_str(), status.c_str(), why.c_str());
    results_.write(fields_of(point, "bf16", "cudnn"),
                   {{"status", status}, {"error", why}, {"cudnn", version_}});
  }

  Results& results_;
  std::string version_;
};

void bench_point(Results& results, const Comparison& comparison, const Device& device,
                 const Options& options, const Point& point) {
  const AttentionShape shape = shape_of(point);
  const Work work{.bytes = attention_bytes(shape, point.joins), .flops = attention_flops(shape)};
  const std::size_t rows = static_cast<std::size_t>(point.length) * point.head_dim;
  const auto queries = random_bfloat16(rows * point.heads, options.seed);
  const auto keys = random_bfloat16(rows * point.kv_heads, options.seed + 1);
  std::vector<Set> sets;
  const int count = rotating_sets(device, work.bytes);
  sets.reserve(count);
  for (int i = 0; i < count; ++i) sets.emplace_back(shape, point.joins, queries, keys);
  const auto vendor = comparison.vendor(point, sets);
  std::vector<std::function<void(int)>> calls = {[&](int i) { sets[i].forward.launch(nullptr); }};
  if (vendor) calls.push_back([&](int i) { vendor->sets[i].call.launch(nullptr); });
  const std::vector<Timing> timings = time_in_turn(calls, count);
  report(results, name_of(point), fields_of(point, "bf16"), work, timings[0]);
  report_roofline(device, work, timings[0]);
  if (vendor) comparison.report(point, work, sets[0], *vendor, timings[0], timings[1]);
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
  report_roofline(device, work, timing, 2.0);
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

// The version of cuDNN, or "" where there is none, said once.
std::string find_cudnn() {
  try {
    return vendor::cudnn_version();
  } catch (const vendor::CudnnMissing& error) {
    std::printf("comparison left out, waived: %s\n", error.what());
    return "";
  }
}

bool bench(const Device& device, const Options& options) {
  if (device.capability.major != 9) {
    std::printf("waived: wgmma needs compute capability 9.0\n");
    return true;
  }
  const std::string cudnn = find_cudnn();
  Fields provenance = read_provenance();
  provenance.emplace_back("cudnn", cudnn);
  Results results(options, "flash_attention", provenance);
  const Comparison comparison(results, cudnn);
  for (const Point& point : points(options.quick)) {
    bench_point(results, comparison, device, options, point);
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
