// Plans that people run, worked out by hand: what a step must take and a GPU must hold by arithmetic
// alone (FLOPs, bytes over a data-sheet rate, the closed form of a pipeline), before it is predicted.
#include <catch2/catch.hpp>

#include <fmt/format.h>

#include "sim/scenario/read_scenario.h"
#include "sim/search/predict.h"

using namespace longhaul;
using Catch::Matchers::WithinRel;

namespace {

constexpr double nic = 50e9;  // a DGX H100's 400 Gb/s for each GPU

Result predicted(const std::string& text) {
  Diagnostics diagnostics;
  const auto source = std::make_shared<const SourceText>(SourceText{"s.yaml", text});
  const auto map = YamlValue::parse(source, diagnostics);
  REQUIRE(map);
  const auto scenario = check_scenario(read_scenario(*map, diagnostics), diagnostics);
  INFO(format_diagnostics(diagnostics, false));
  REQUIRE(scenario);
  return predict(*scenario, diagnostics);
}

double seconds_of(const Result& result, const std::string& cause) {
  for (const auto& [name, time] : result.critical_path) {
    if (name == cause) {
      return time.value();
    }
  }
  return 0.0;
}

double held(const Result& result, const std::string& category) {
  for (const auto& [name, bytes] : result.memory.categories) {
    if (name == category) {
      return bytes.value();
    }
  }
  FAIL("no such category: " << category);
  return 0.0;
}

// Matrices of a Llama 3 layer, and its two norms.
double layer_of(double hidden, double ffn, double heads, double kv_heads) {
  return 2 * hidden * 128 * (heads + kv_heads) + 3 * hidden * ffn;
}

}  // namespace

TEST_CASE("Llama 3 405B takes what the closed form of its pipeline says") {
  // As on 8,192 H100 (arXiv 2407.21783, table 4), with 2 of the 64 replicas.
  // 126 layers in 64 parts of 2, the first and last of 1: a full stage has 8 of on average 7.875. 32
  // micro-batches in turns of 1/4 stage: 32 + 15/4 stage times, each a full stage's kernels and the
  // tensor-parallel exchanges that it waits for. What is left are gradients, messages and the host.
  const Result r = predicted(
      "model: llama3.1-405b\ncluster: dgx-h100\ngpus: 256\nsoftware: megatron\n"
      "workload: {sequence_length: 8k, global_batch: 64}\n"
      "plan: {tensor: 8, sequence_parallel: true, pipeline: 16, virtual_pipeline: 4,"
      " uneven_stages: true, zero: 1, recompute: none}\n");
  const double waiting = seconds_of(r, "tensor_parallel") * 8 / 7;  // of a stage with 7 layers
  const double stage = (r.compute_time.value() * 8 / 7.875 + waiting) / 32;
  CHECK_THAT(r.step_time.value(), WithinRel((32 + 15.0 / 4) * stage, 0.05));
  // The second stage is fullest: 2 x 14 + 3 x 16 + 1 passes in flight, of 2 layers each, with
  // 2 (4m + 2hd + 2gd + 3f) + 4h bytes a token over 8 ranks (sequence parallelism cuts all of them).
  const double token = (2.0 * (4 * 16384 + 2 * 16384 + 2 * 1024 + 3 * 53248) + 4 * 128) / 8;
  CHECK_THAT(held(r, "activations"), WithinRel(77 * 2 * 8192 * token, 0.03));
  const double parameters = 8 * layer_of(16384, 53248, 128, 8) / 8;
  CHECK_THAT(held(r, "parameters"), WithinRel(2 * parameters, 0.001));
  CHECK_THAT(held(r, "gradients"), WithinRel(4 * parameters, 0.001));
  CHECK_THAT(held(r, "optimizer"), WithinRel(12 * parameters / 2, 0.001));
}

TEST_CASE("gradients that nothing hides take their bytes over the adapters' rate, and are named") {
  // Llama 3 70B, 8 tensor ranks in each of 8 nodes, ZeRO 1 over the 8 ranks of the ring: of each
  // parameter 4 bytes are summed and 2 gathered, 7/8 of them over a GPU's adapter, all of it exposed.
  // Kernels and rings wait for nobody: there is next to nothing left for slower ranks.
  const Result r = predicted(
      "model: llama3-70b\ncluster: dgx-h100\ngpus: 64\nsoftware: megatron\n"
      "workload: {sequence_length: 128k, global_batch: 4}\n"
      "plan: {tensor: 8, sequence_parallel: true, context: {method: ring, ring: 8}, zero: 1,"
      " recompute: full}\n");
  const double least = 70.55e9 / 8 * (4 + 2) * 7 / 8 / nic;
  CHECK(seconds_of(r, "data_parallel") > least);
  CHECK(seconds_of(r, "data_parallel") < 1.15 * least);
  CHECK(r.exposed_communication.value() > seconds_of(r, "data_parallel"));
  CHECK(seconds_of(r, "slower_ranks") < 0.01 * r.step_time.value());
}

TEST_CASE("a sum of gradients that is not overlapped is exposed whole, however long the sequence") {
  // Llama 3 8B on four nodes: of each parameter 4 bytes are summed over 32 ranks, in one ring of which
  // each adapter carries an eighth. The last layer's attention backward takes as long as all of it at
  // 128k tokens, but the sum is called for when the backward pass has returned.
  for (const char* length : {"8k", "32k", "128k"}) {
    const Result r = predicted(fmt::format(
        "model: llama3-8b\ncluster: dgx-h100\ngpus: 32\nsoftware: ideal\n"
        "workload: {{sequence_length: {}, global_batch: 32}}\n"
        "plan: {{zero: 1, recompute: full, overlap_gradient_reduction: false,"
        " overlap_parameter_gather: true}}\n", length));
    const double least = 8.03e9 * 4 * 31 / 32 / 8 / nic;
    INFO(length);
    CHECK(seconds_of(r, "data_parallel") > least);
    CHECK(seconds_of(r, "data_parallel") < 1.15 * (least + 8.03e9 * 2 * 31 / 32 / 8 / nic));
  }
}

TEST_CASE("ZeRO 2 whose sums are not overlapped stands still for each of them") {
  // DeepSpeed's overlap_comm: false. On four nodes each micro-batch's gradients, 2 bytes each, cross an
  // adapter as above; two micro-batches sum twice.
  const auto waiting = [](bool overlap) {
    return seconds_of(
        predicted(fmt::format(
            "model: llama3-8b\ncluster: dgx-h100\ngpus: 32\nsoftware: ideal\n"
            "workload: {{sequence_length: 16k, global_batch: 64}}\n"
            "plan: {{zero: 2, recompute: full, overlap_gradient_reduction: {}}}\n", overlap)),
        "data_parallel");
  };
  const double least = 2 * 8.03e9 * 2 * 31 / 32 / 8 / nic;
  CHECK(waiting(false) > least);
  CHECK(waiting(false) < 1.3 * least);
  CHECK(waiting(true) < 0.4 * least);
}

TEST_CASE("partial results of passed queries come home while nothing is computed, and are named") {
  // Llama 3.1 405B, 128k tokens on 8 tensor ranks x ring of 4 nodes: 3 times 16 heads of 32k tokens, 128
  // channels of 2 bytes and 4 of statistics, over a GPU's own adapter in each of 126 layers.
  const Result r = predicted(
      "model: llama3.1-405b\ncluster: dgx-h100\ngpus: 32\nsoftware: ideal\n"
      "workload: {phase: prefill, sequence_length: 128k}\n"
      "plan: {tensor: 8, context: {method: ring, ring: 4, variant: pass_q}}\n");
  const double least = 126.0 * 3 * 32768 * 16 * (128 * 2 + 4) / nic;
  CHECK(seconds_of(r, "ring_exchange") > least);
  CHECK(seconds_of(r, "ring_exchange") < 1.15 * least);
  CHECK(seconds_of(r, "other") < 0.01 * least);
  CHECK(r.exposed_communication.value() > seconds_of(r, "ring_exchange"));
}

TEST_CASE("ZeRO 3 between nodes costs three times the weights in every micro-batch") {
  // Llama 3.1 405B on 8 tensor ranks, shards over 64 ranks in as many nodes: weights are gathered
  // forward and backward and gradients scattered, 2 bytes each, four times a step. 2,048 tokens a rank
  // compute for a quarter of that: the step is that long and little more.
  const Result r = predicted(
      "model: llama3.1-405b\ncluster: dgx-h100\ngpus: 512\nsoftware: ideal\n"
      "workload: {sequence_length: 8k, global_batch: 64}\n"
      "plan: {tensor: 8, sequence_parallel: true, context: {method: ring, ring: 4}, zero: 3,"
      " recompute: full}\n");
  const double least = 4 * 3 * 2 * 405.85e9 / 8 * 63 / 64 / nic;
  CHECK(r.step_time.value() > least);
  CHECK(r.step_time.value() < 1.35 * least);
}

TEST_CASE("hybrid sharding divides states by its group, however many replicas there are") {
  // Llama 3 70B over 64 of 512 ranks: 2, 4 and 12 bytes of 70.55e9 parameters; the two layers of
  // fresh gradients that ZeRO 3 has at a time come on top.
  const double p = 70.553706496e9;
  for (const int gpus : {128, 512}) {
    const Result r = predicted(fmt::format(
        "model: llama3-70b\ncluster: dgx-h100\ngpus: {}\nsoftware: ideal\n"
        "workload: {{sequence_length: 8k, global_batch: {}}}\n"
        "plan: {{zero: 3, zero_group: 64, recompute: full}}\n", gpus, gpus));
    CHECK_THAT(held(r, "parameters"), WithinRel(2 * p / 64, 0.001));
    CHECK_THAT(held(r, "optimizer"), WithinRel(12 * p / 64, 0.001));
    const double fresh = held(r, "gradients") - 4 * p / 64;
    CHECK(fresh >= 0.0);
    CHECK(fresh < 1.05 * 2 * 2 * layer_of(8192, 28672, 64, 8));
  }
}

TEST_CASE("fp8 halves what is gathered, doubles the weights and takes a byte of what is saved") {
  // Llama 3 70B on 4 tensor ranks and 4 stages. Of 8 exchanges that a layer waits for 4 are gathers
  // and 4 (with the embedding's) sums, and gathers halve: 3/4 of the time in bf16. Weights: 2 bytes more
  // for the layers'. Saved: 2m + f bytes less of each token.
  const auto run = [](const char* type) {
    return predicted(fmt::format(
        "model: llama3-70b\ncluster: dgx-h100\ngpus: 16\nsoftware: megatron\n"
        "workload: {{sequence_length: 8k, global_batch: 32}}\n"
        "plan: {{tensor: 4, sequence_parallel: true, pipeline: 4, zero: 0, recompute: none}}\n"
        "precision: {{compute: {}}}\n", type));
  };
  const Result bf16 = run("bf16");
  const Result fp8 = run("fp8");
  const auto more = [&](const char* category) {
    return held(fp8, category) - held(bf16, category);
  };
  CHECK_THAT(more("parameters"),
             WithinRel(2 * 20 * layer_of(8192, 28672, 64, 8) / 4, 0.001));
  const double saved = 4.0 * 20 * 8192 * (2 * 8192 + 28672) / 4;  // 4 micro-batches, 20 layers
  CHECK_THAT(-more("activations"), WithinRel(saved, 0.05));
  const double share = seconds_of(fp8, "tensor_parallel") / seconds_of(bf16, "tensor_parallel");
  CHECK(share > 0.6);
  CHECK(share < 0.8);
}

TEST_CASE("a causal ring in order takes (2R - 1) / R times the attention of one in zigzag") {
  // The last of R ranks attends to all blocks, 2R - 1 halves where each of a zigzag has R.
  const auto run = [](const char* order) {
    return predicted(fmt::format(
        "model: llama2-7b\ncluster: dgx-a100\ngpus: 8\nsoftware: ideal\n"
        "workload: {{sequence_length: 128k, global_batch: 1}}\n"
        "plan: {{context: {{method: ring, ring: 8, order: {}}}, zero: 3, recompute: full}}\n", order));
  };
  const Result zigzag = run("zigzag");
  const Result contiguous = run("contiguous");
  const double attention = seconds_of(zigzag, "attention");
  CHECK_THAT(contiguous.step_time.value(),
             WithinRel(zigzag.step_time.value() + attention * 7.0 / 8, 0.08));
}

TEST_CASE("experts over 64 GPUs of a rack take less than half the step of 8 and 56 of two") {
  // DeepSeek-V3 in two stages of 64 GPUs: 8 rows of 7,168 channels in bf16 for each token, both ways, in
  // the forward pass, the recompute and the backward pass of 30 layers and 4 micro-batches: 0.34 TB for
  // each GPU of a stage. In one rack that is half a second over NVLink (900 GB/s, of which exchanges get
  // 0.6 to 0.9). If 8 GPUs of a stage are in one rack and 56 in another, the 8 take 7/8 of it from
  // adapters of 50 GB/s: 6 s, for which all others wait.
  const auto run = [](const char* cluster) {
    return predicted(fmt::format(
        "model: deepseek-v3\ncluster: {}\ngpus: 128\nsoftware: ideal\n"
        "workload: {{sequence_length: 4k, global_batch: 256}}\n"
        "plan: {{expert: 64, pipeline: 2, stage_layers: [31, 30], zero: 1,"
        " recompute: full}}\n", cluster));
  };
  const double bytes = 4.0 * 30 * 4096 * 8 * 7168 * 2 * 6;
  const Result whole = run(
      "{fabric: infiniband-rails, node: {include: gb200-tray, nvlink: {domain_nodes: 16}}}");
  const Result cut = run("gb200-nvl72");
  CHECK(seconds_of(whole, "expert_parallel") > bytes / 900e9);
  CHECK(seconds_of(whole, "expert_parallel") < 2 * bytes / 900e9);
  CHECK(cut.step_time.value() > bytes * 7 / 8 / nic);
  CHECK(cut.step_time.value() > 2 * whole.step_time.value());
}
