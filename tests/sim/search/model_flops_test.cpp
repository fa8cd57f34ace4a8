// Model FLOPs of each phase against sums written out.
#include <catch2/catch.hpp>

#include "sim/scenario/read_scenario.h"
#include "sim/search/summarize.h"

using namespace longhaul;
using Catch::Matchers::WithinRel;

namespace {

// hidden 64, 4 heads of 16, 2 KV heads, gated MLP of 96, vocabulary 1000, 3 layers.
double flops(const std::string& workload) {
  Diagnostics diagnostics;
  const auto source = std::make_shared<const SourceText>(SourceText{
      "s.yaml",
      "model: {layers: 3, hidden: 64, heads: 4, kv_heads: 2, head_dim: 16, ffn: 96, vocab: 1000}\n"
      "cluster: single-gpu\nworkload: {sequence_length: 512, " +
          workload + "}\n"});
  const auto map = YamlValue::parse(source, diagnostics);
  REQUIRE(map);
  const auto scenario = check_scenario(read_scenario(*map, diagnostics), diagnostics);
  INFO(format_diagnostics(diagnostics, false));
  REQUIRE(scenario);
  return model_flops(*scenario).value();
}

constexpr double tokens = 512.0;
constexpr double layer_matrices = 64.0 * 64 + 2 * 64 * 32 + 64.0 * 64 + 3 * 64 * 96;
constexpr double head = 64.0 * 1000;
// Query i sees i + 1 keys; 4 FLOP per pair and element of 4 heads of 16.
constexpr double causal_attention = 4.0 * 64 * (512.0 * 513 / 2);
constexpr double full_attention = 4.0 * 64 * 512 * 512;

}  // namespace

TEST_CASE("a forward pass multiplies every matrix with every token and attends every pair") {
  CHECK_THAT(flops("phase: forward"),
             WithinRel(2 * tokens * (3 * layer_matrices + head) + 3 * causal_attention, 1e-12));
  CHECK_THAT(flops("phase: forward, mask: full"),
             WithinRel(2 * tokens * (3 * layer_matrices + head) + 3 * full_attention, 1e-12));
}

TEST_CASE("training is three forward passes of every sequence, whatever is recomputed") {
  CHECK_THAT(
      flops("phase: train, global_batch: 4"),
      WithinRel(12 * (2 * tokens * (3 * layer_matrices + head) + 3 * causal_attention), 1e-12));
}

TEST_CASE("a prefill asks the LM head about one token") {
  CHECK_THAT(flops("phase: prefill"),
             WithinRel(2 * tokens * 3 * layer_matrices + 2 * head + 3 * causal_attention, 1e-12));
}

TEST_CASE("attention alone is one layer's, its backward two and a half times its forward") {
  CHECK_THAT(flops("phase: attention, pass: forward"), WithinRel(causal_attention, 1e-12));
  CHECK_THAT(flops("phase: attention, pass: backward"), WithinRel(2.5 * causal_attention, 1e-12));
  CHECK_THAT(flops("phase: attention, pass: forward_backward, micro_batch: 2"),
             WithinRel(7.0 * causal_attention, 1e-12));
}
