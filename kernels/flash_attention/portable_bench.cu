// Rates of the portable forward, by head dimension, mask and length.
#include <string>
#include <vector>

#include "kernels/common/bench.h"
#include "kernels/common/clocks.h"
#include "kernels/common/device_buffer.h"
#include "kernels/common/roofline.h"
#include "kernels/flash_attention/portable.h"

namespace longhaul::kernels::flash {
namespace {

struct Point {
  const char* mask_name;
  MaskSpec mask;
  int head_dim, heads, kv_heads, length;
};

struct Set {
  DeviceBuffer<Bfloat16> q, k, v, o;
  DeviceBuffer<float> lse;
  PortableCall call;

  Set(const AttentionShape& shape, const std::vector<Bfloat16>& queries,
      const std::vector<Bfloat16>& keys)
      : q(queries),
        k(keys),
        v(keys),
        o(queries.size()),
        lse(queries.size() / shape.head_dim),
        call(shape,
             {.q = q.data(), .k = k.data(), .v = v.data(), .o = o.data(), .lse = lse.data()}) {}
};

AttentionShape shape_of(const Point& point) {
  return attention_shape(point.head_dim, 1, point.heads, point.kv_heads, point.length, point.length,
                         point.mask);
}

void bench_mask(Results& results, const Device& device, const Options& options,
                const Point& point) {
  const AttentionShape shape = shape_of(point);
  const std::size_t rows = static_cast<std::size_t>(point.length) * point.head_dim;
  const auto queries = bench_inputs(rows * point.heads, options.seed);
  const auto keys = bench_inputs(rows * point.kv_heads, options.seed + 1);
  const Fields fields = {{"op", std::string("attention_forward")},
                         {"batch", std::int64_t{1}},
                         {"heads", std::int64_t{point.heads}},
                         {"kv_heads", std::int64_t{point.kv_heads}},
                         {"q_len", std::int64_t{point.length}},
                         {"kv_len", std::int64_t{point.length}},
                         {"head_dim", std::int64_t{point.head_dim}},
                         {"mask", std::string(point.mask_name)},
                         {"dtype", std::string("bf16")},
                         {"backend", std::string("longhaul_portable")},
                         {"state", std::string("as_found")},
                         {"joins", false}};
  const std::string what = std::string(point.mask_name) + " d" + std::to_string(point.head_dim) +
                           " h" + std::to_string(point.heads) + "/" +
                           std::to_string(point.kv_heads) + " " + std::to_string(point.length);
  const Work work{.bytes = attention_bytes(shape, false), .flops = attention_flops(shape)};
  const Timing timing = bench_point(
      results, device, what, fields, work, [&](int) { return Set(shape, queries, keys); },
      [](Set& set) { set.call.launch(nullptr); });
  report_roofline(device, work, timing);
}

bool bench(const Device& device, const Options& options) {
  Results results(options, "portable_attention", read_provenance());
  const std::vector<int> lengths =
      options.quick ? std::vector<int>{16384} : std::vector<int>{1024, 4096, 16384};
  for (const int head_dim : {64, 128, 256}) {
    for (const int length : lengths) {
      bench_mask(results, device, options, {"full", full_mask(), head_dim, 16, 16, length});
      bench_mask(results, device, options, {"causal", causal_mask(), head_dim, 16, 16, length});
    }
  }
  bench_mask(results, device, options, {"causal", causal_mask(), 128, 32, 8, 16384});
  return true;
}

}  // namespace
}  // namespace longhaul::kernels::flash

int main(int argc, char** argv) {
  using namespace longhaul::kernels;
  return run_on_device(argc, argv, {8, 0}, flash::bench);
}
