// Scenarios that are right: what is chosen for what the user left open, overriding, remarks, and
// both sides of every divisibility rule. Wrong ones, word by word, are in tests/bad_input/scenario.
#include <catch2/catch.hpp>

#include "sim/scenario/pipeline_parts.h"
#include "sim/scenario/rank_order.h"
#include "sim/scenario/read_scenario.h"
#include "sim/scenario/words.h"

using namespace longhaul;

namespace {

YamlValue parse(const std::string& text) {
  Diagnostics diagnostics;
  const auto source = std::make_shared<const SourceText>(SourceText{"s.yaml", text});
  const auto value = YamlValue::parse(source, diagnostics);
  INFO(format_diagnostics(diagnostics, false));
  REQUIRE(value);
  return *value;
}

struct Outcome {
  std::optional<Scenario> scenario;
  std::string words;
};

Outcome outcome(const std::string& text) {
  Diagnostics diagnostics;
  Outcome out;
  const ScenarioDraft draft = read_scenario(parse(text), diagnostics);
  out.scenario = check_scenario(draft, diagnostics);
  out.words = format_diagnostics(diagnostics, false);
  if (diagnostics.has_errors()) {
    out.scenario.reset();
  }
  return out;
}

Scenario accepted(const std::string& text) {
  const Outcome out = outcome(text);
  INFO(text << "\n" << out.words);
  REQUIRE(out.scenario);
  return *out.scenario;
}

bool refused(const std::string& text) { return !outcome(text).scenario; }

// A scenario on DGX H100 with this many GPUs, workload and plan.
std::string on(int gpus, const std::string& workload, const std::string& plan,
               const std::string& model = "llama3-8b") {
  return "model: " + model + "\ncluster: dgx-h100\ngpus: " + std::to_string(gpus) +
         "\nworkload: {" + workload + "}\nplan: {" + plan + "}\n";
}

}  // namespace

TEST_CASE("groups that fit an NVLink domain but do not divide it are remarked upon") {
  // Four stages of 64 GPUs on racks of 72: of the first stage's experts all are in the first rack, the
  // second stage's have 8 there and 56 in the next. On racks of which 64 are used none is cut.
  const std::string rest = "\nsoftware: megatron\nworkload: {sequence_length: 4k, global_batch: 256}\n"
                           "plan: {expert: 64, pipeline: 4, stage_layers: [16, 15, 15, 15]}\n";
  const auto remarks = [&](const std::string& cluster, int gpus) {
    const Scenario s = accepted("model: deepseek-v3\ncluster: " + cluster + "\ngpus: " +
                                std::to_string(gpus) + rest);
    std::string all;
    for (const std::string& remark : s.remarks) {
      all += remark + "\n";
    }
    return all;
  };
  const std::string trays = "{fabric: infiniband-rails, node: {include: gb200-tray, nvlink: "
                            "{domain_nodes: 16}}}";
  CHECK(remarks("gb200-nvl72", 256).find("expert groups over 64 neighbouring GPUs do not divide the "
                                         "72 of an NVLink domain") != std::string::npos);
  CHECK(remarks(trays, 256).find("do not divide") == std::string::npos);
  CHECK(remarks("dgx-h100", 256).find("do not divide") == std::string::npos);  // 8 nodes each
  const Scenario ring =
      accepted(on(12, "sequence_length: 96k, global_batch: 2", "context: {method: ring, ring: 6}"));
  REQUIRE(ring.remarks.size() == 1);
  CHECK(ring.remarks[0] ==
        "ring groups over 6 neighbouring GPUs do not divide the 8 of a node: some cross the network");
}

TEST_CASE("experts are cut like everything else unless the plan says otherwise") {
  const std::string work = "sequence_length: 4k";
  const Scenario plain = accepted(on(16, work, "tensor: 2, sequence_parallel: true, expert: 8",
                                     "mixtral-8x7b"));
  CHECK(plain.plan.expert == 8);
  CHECK(plain.plan.expert_tensor == 2);
  CHECK(plain.remarks.back().find("tokens are taken to be balanced") != std::string::npos);
  const Scenario whole =
      accepted(on(16, work, "tensor: 2, sequence_parallel: true, expert: 8, expert_tensor: 1",
                  "mixtral-8x7b"));
  CHECK(whole.plan.expert_tensor == 1);
  // 8 x 2 ranks are all of 16; of 8 there are none left to deal to.
  CHECK(refused(on(8, work, "tensor: 2, sequence_parallel: true, expert: 8", "mixtral-8x7b")));
  // Ranks of experts may be context ranks.
  accepted(on(8, work, "expert: 8, context: {method: ring, ring: 8}", "mixtral-8x7b"));
  const Scenario loaded =
      accepted(on(8, "sequence_length: 4k, expert_imbalance: 1.5", "expert: 8", "mixtral-8x7b"));
  CHECK(loaded.workload.expert_imbalance == 1.5);
  CHECK(accepted(on(8, "sequence_length: 4k, expert_capacity: 1.25", "expert: 8", "mixtral-8x7b"))
            .workload.expert_capacity == 1.25);
}

TEST_CASE("latent attention runs in every phase that needs no cache of it") {
  const std::string plan = "expert: 8, context: {method: ring, ring: 8}";
  accepted(on(8, "sequence_length: 4k", plan, "deepseek-v2-lite"));
  accepted(on(8, "sequence_length: 4k, phase: forward", plan, "deepseek-v2-lite"));
  accepted(on(8, "sequence_length: 4k, phase: attention", "context: {method: ring, ring: 8}",
              "deepseek-v2-lite"));
  CHECK(refused(on(8, "sequence_length: 4k, phase: prefill", plan, "deepseek-v2-lite")));
}

TEST_CASE("the scenario of the formats page is read key by key") {
  // Every key that can be predicted, with a value that is not its default.
  const Scenario s = accepted(R"(
model: llama3-8b
cluster: dgx-h100
gpus: 64
workload:
  phase: train
  sequence_length: 1M
  micro_batch: 2
  global_batch: 8
  mask: full
plan:
  tensor: 2
  sequence_parallel: true
  context: {method: usp, ring: 4, ulysses: 4, order: striped, inner: ring}
  pipeline: 1
  virtual_pipeline: 1
  data: 2
  zero: 2
  shard_over_context: false
  recompute: selective
  offload: []
precision: {compute: fp8, gradients: bf16, attention: fp16}
software: megatron
attention_kernel: fa2
)");
  CHECK(s.model.name == "llama3-8b");
  CHECK(s.cluster.gpu_count() == 64);
  CHECK(s.gpus == 64);
  CHECK(s.workload.phase == Phase::train);
  CHECK(s.workload.sequence_length == 1048576);
  CHECK(s.workload.micro_batch == 2);
  CHECK(s.workload.global_batch == 8);
  CHECK(s.micro_batches() == 2);
  CHECK(s.workload.mask == MaskSpec{MaskKind::full, 0});
  CHECK(s.plan.tensor == 2);
  CHECK(s.plan.sequence_parallel);
  CHECK(s.plan.context.method == ContextMethod::usp);
  CHECK(s.plan.context.ring == 4);
  CHECK(s.plan.context.ulysses == 4);
  CHECK(s.plan.context.order == SequenceOrder::striped);
  CHECK(s.plan.context.inner == InnerPlacement::ring);
  CHECK(s.plan.data == 2);
  CHECK(s.plan.zero == 2);
  CHECK_FALSE(s.plan.shard_over_context);
  CHECK(s.plan.recompute == Recompute::selective);
  CHECK(s.precision.compute == DataType::fp8);
  CHECK(s.precision.gradients == DataType::bf16);
  CHECK(s.precision.attention == DataType::fp16);
  CHECK(s.software == "megatron");
  CHECK(s.attention_kernel == "fa2");
}

TEST_CASE("what is left out takes its documented default") {
  const Scenario s = accepted(
      "model: llama3-8b\ncluster: dgx-h100\ngpus: 8\n"
      "workload: {sequence_length: 8k}\n");
  CHECK(s.workload.phase == Phase::train);
  CHECK(s.workload.mask == MaskSpec{});
  CHECK(s.plan.context.method == ContextMethod::none);
  CHECK(s.plan.tensor == 1);
  CHECK(s.plan.zero == 1);
  CHECK(s.plan.shard_over_context);
  CHECK(s.plan.recompute == Recompute::none);
  CHECK(s.precision.compute == DataType::bf16);
  CHECK(s.precision.gradients == DataType::fp32);
  CHECK(s.software == "ideal");
  CHECK(s.attention_kernel.empty());
  // auto: replicas fill the GPUs, and each runs one micro-batch.
  CHECK(s.plan.data == 8);
  CHECK(s.workload.global_batch == 8);
}

TEST_CASE("without 'gpus' all of the cluster is used") {
  const Scenario s = accepted(
      "model: llama3-8b\ncluster: single-gpu\n"
      "workload: {sequence_length: 8k}\n");
  CHECK(s.gpus == s.cluster.gpu_count());
  CHECK(s.gpus == 1);
}

TEST_CASE("a degree that is left out is what the others leave of the GPUs") {
  const std::string w = "sequence_length: 128k";
  CHECK(accepted(on(32, w, "context: {method: ring}")).plan.context.ring == 32);
  CHECK(accepted(on(32, w, "context: {method: ring}, data: 4")).plan.context.ring == 8);
  CHECK(accepted(on(32, w, "context: {method: ring}, tensor: 8")).plan.context.ring == 4);
  CHECK(accepted(on(32, w, "context: {method: ulysses}")).plan.context.ulysses == 32);
  CHECK(accepted(on(32, w, "context: {method: usp, ulysses: 8}")).plan.context.ring == 4);
  CHECK(accepted(on(32, w, "context: {method: usp, ring: 8}")).plan.context.ulysses == 4);
  CHECK(accepted(on(32, w, "context: {method: all_gather}")).plan.context.ring == 32);
  // A degree that is given stays, and the rest become replicas.
  const Scenario s = accepted(on(32, w, "context: {method: ring, ring: 4}"));
  CHECK(s.plan.context.ring == 4);
  CHECK(s.plan.data == 8);
}

TEST_CASE("a later map overrides an earlier one key by key") {
  Diagnostics diagnostics;
  ScenarioDraft draft = read_scenario(
      parse(on(32, "sequence_length: 128k, micro_batch: 2", "zero: 3, context: {method: ring}")),
      diagnostics);
  read_scenario_onto(draft, parse("workload: {sequence_length: 1M}"), diagnostics);
  read_scenario_onto(draft, parse("gpus: 16"), diagnostics);
  const auto s = check_scenario(draft, diagnostics);
  REQUIRE(s);
  CHECK(s->workload.sequence_length == 1048576);
  CHECK(s->workload.micro_batch == 2);
  CHECK(s->plan.zero == 3);
  CHECK(s->gpus == 16);
  CHECK(s->plan.context.ring == 16);
}

TEST_CASE("naming another method forgets the degrees of the one before") {
  Diagnostics diagnostics;
  ScenarioDraft draft = read_scenario(
      parse(on(32, "sequence_length: 128k", "context: {method: usp, ring: 4, ulysses: 8}")),
      diagnostics);
  read_scenario_onto(draft, parse("plan: {context: {method: ring}}"), diagnostics);
  const auto s = check_scenario(draft, diagnostics);
  INFO(format_diagnostics(diagnostics, false));
  REQUIRE(s);
  CHECK(s->plan.context.ring == 32);
  CHECK(s->plan.context.ulysses == 1);
}

TEST_CASE("a refused degree does not bring follow-up complaints") {
  const Outcome out = outcome(on(32, "sequence_length: 128k", "context: {method: ring, ring: x}"));
  CHECK_FALSE(out.scenario);
  CHECK(out.words.find("1 error in") != std::string::npos);
}

TEST_CASE("Ulysses beyond the KV heads replicates them and says so") {
  const std::string w = "sequence_length: 128k";
  const Scenario s = accepted(on(16, w, "context: {method: ulysses}"));
  REQUIRE(s.remarks.size() == 1);
  CHECK(s.remarks[0] == "ulysses 16 > 8 KV heads: KV replicated 2x");
  // Up to the number of KV heads nothing is replicated.
  CHECK(accepted(on(8, w, "context: {method: ulysses}")).remarks.empty());
  // Tensor ranks share the KV heads first.
  const Scenario t = accepted(on(16, w, "tensor: 2, context: {method: ulysses}"));
  REQUIRE(t.remarks.size() == 1);
  CHECK(t.remarks[0] == "ulysses 8 > 4 KV heads of a tensor rank: KV replicated 2x");
  // 32 query heads are the end.
  CHECK(accepted(on(32, w, "context: {method: ulysses}")).plan.context.ulysses == 32);
  CHECK(refused(on(64, w, "context: {method: ulysses}")));
}

TEST_CASE("a zigzag ring needs two equal chunks per rank, other orders one") {
  const auto ring = [](const std::string& length, const std::string& order) {
    return on(8, "sequence_length: " + length, "context: {method: ring, order: " + order + "}");
  };
  CHECK_FALSE(refused(ring("100000", "zigzag")));  // 16 x 6250
  CHECK(refused(ring("100008", "zigzag")));        // 8 x 12501
  CHECK_FALSE(refused(ring("100008", "contiguous")));
  CHECK_FALSE(refused(ring("100008", "striped")));
  CHECK(refused(ring("100004", "contiguous")));
  // A ring of one rank has nothing to deal.
  CHECK_FALSE(refused(on(8, "sequence_length: 10001", "context: {method: ring, ring: 1}")));
}

TEST_CASE("half of a sequence runs again where a rank's first half is the sequence's first half") {
  const auto half = [](const std::string& order, const std::string& mask) {
    return on(8, "sequence_length: 64k, mask: " + mask,
              "recompute: full, recompute_detail: keep_attention_output_part, "
              "context: {method: ring, order: " + order + "}");
  };
  CHECK(refused(half("contiguous", "causal")));
  CHECK_FALSE(refused(half("striped", "causal")));
  CHECK_FALSE(refused(half("zigzag", "{window: 4096}")));
  CHECK(refused(half("zigzag", "full")));
}

TEST_CASE("the global batch is a multiple of what all replicas run at once") {
  const auto batch = [](int global) {
    return on(32, "sequence_length: 64k, micro_batch: 2, global_batch: " + std::to_string(global),
              "context: {method: ulysses, ulysses: 8}");
  };
  CHECK(accepted(batch(8)).micro_batches() == 1);
  CHECK(accepted(batch(16)).micro_batches() == 2);
  CHECK(refused(batch(12)));
  CHECK(refused(batch(4)));
}

TEST_CASE("a pass without optimizer runs one micro-batch per replica, whatever the batch says") {
  const Scenario s = accepted(on(8, "phase: prefill, sequence_length: 64k, micro_batch: 3",
                                 "context: {method: ring, ring: 4}"));
  CHECK(s.workload.global_batch == 6);
  CHECK(s.micro_batches() == 1);
  // A program's draft may carry a batch that means nothing to its phase.
  Diagnostics diagnostics;
  ScenarioDraft draft =
      read_scenario(parse(on(8, "phase: attention, sequence_length: 64k, micro_batch: 4",
                             "context: {method: ring}")),
                    diagnostics);
  draft.open.global_batch = false;
  draft.workload.global_batch = 1;
  CHECK(check_scenario(draft, diagnostics));
}

TEST_CASE("a model with its own sliding window is run with it unless the user names a mask") {
  const std::string model =
      "{name: w, layers: 2, hidden: 512, heads: 8, ffn: 1024, vocab: 1000, sliding_window: 4096}";
  const Scenario own = accepted(on(8, "sequence_length: 64k", "context: {method: ring}", model));
  CHECK(own.workload.mask == MaskSpec{MaskKind::window, 4096});
  REQUIRE(own.remarks.size() == 1);
  CHECK(own.remarks[0] == "mask: the model's own sliding window of 4096 keys");
  const Scenario causal =
      accepted(on(8, "sequence_length: 64k, mask: causal", "context: {method: ring}", model));
  CHECK(causal.workload.mask == MaskSpec{});
  CHECK(causal.remarks.empty());
}

TEST_CASE("tensor parallelism beyond a node is allowed with a warning") {
  const std::string model = "{name: m, layers: 2, hidden: 2048, heads: 32, ffn: 8192, vocab: 1000}";
  const Outcome wide = outcome(on(16, "sequence_length: 8k", "tensor: 16", model));
  CHECK(wide.scenario);
  CHECK(wide.words.find("warning: tensor 16 is more than the 8 GPUs of a node") !=
        std::string::npos);
  const Outcome inside = outcome(on(16, "sequence_length: 8k", "tensor: 8", model));
  CHECK(inside.scenario);
  CHECK(inside.words.empty());
}

TEST_CASE("only the attention of a model without MLP can be run") {
  const std::string model = "{layers: 1, hidden: 4096, heads: 32, kv_heads: 8, head_dim: 128}";
  CHECK_FALSE(
      refused(on(8, "phase: attention, sequence_length: 64k", "context: {method: ring}", model)));
  CHECK(refused(on(8, "phase: forward, sequence_length: 64k", "context: {method: ring}", model)));
}

TEST_CASE("products of degrees too large for a count are refused, not wrapped around") {
  // 2^20 to the fourth is 2^80, which is 0 in 64 bits.
  CHECK(refused(on(32, "sequence_length: 1M",
                   "tensor: 1048576, context: {method: usp, ring: 1048576, ulysses: 1048576}, "
                   "data: 1048576")));
}

TEST_CASE("a plan in words leaves out what is 1 or off") {
  Plan plan;
  CHECK(plan_text(plan) == "one GPU");
  plan.data = 8;
  CHECK(plan_text(plan) == "whole sequences x dp8");
  plan.data = 1;
  plan.tensor = 8;
  plan.sequence_parallel = true;
  CHECK(plan_text(plan) == "tp8+sp");
  plan.context.method = ContextMethod::ring;
  plan.context.ring = 4;
  CHECK(plan_text(plan) == "tp8+sp x ring 4 zigzag");
  plan.tensor = 1;
  plan.context.method = ContextMethod::usp;
  plan.context.ulysses = 8;
  plan.context.inner = InnerPlacement::ring;
  CHECK(plan_text(plan) == "usp u8 x r4 zigzag, ring inner");
  plan.context = ContextPlan();
  plan.pipeline = 8;
  plan.virtual_pipeline = 3;
  CHECK(plan_text(plan) == "pp8 x 3");
  plan.uneven_stages = true;
  CHECK(plan_text(plan) == "pp8 x 3 uneven");
  plan.uneven_stages = false;
  plan.pipeline = 4;
  plan.virtual_pipeline = 1;
  plan.stage_layers = {2, 4, 4, 2};
  CHECK(plan_text(plan) == "pp4 of 2, 4, 4, 2 layers");
  plan.stage_layers.clear();
  plan.pipeline = 8;
  plan.virtual_pipeline = 3;
  plan.rank_order = {PlanAxis::pipeline, PlanAxis::data};
  CHECK(plan_text(plan) == "pp8 x 3, ranks pp-dp");
}

TEST_CASE("a pipeline's schedule is what is written, or what its chunks make it") {
  const auto schedule = [](const std::string& plan) {
    return accepted(on(4, "sequence_length: 8k, global_batch: 16", "pipeline: 4, data: 1, " + plan));
  };
  CHECK(schedule("zero: 1").plan.schedule == PipelineSchedule::one_f_one_b);
  CHECK(schedule("virtual_pipeline: 2").plan.schedule == PipelineSchedule::interleaved);
  CHECK(schedule("virtual_pipeline: 2, schedule: interleaved").plan.schedule ==
        PipelineSchedule::interleaved);
  CHECK_FALSE(schedule("zero: 1").steps_apart());
  const Scenario h2 = schedule("schedule: ZB-H2");
  CHECK(h2.plan.schedule == PipelineSchedule::zb_h2);
  CHECK(h2.steps_apart());
  CHECK(plan_text(h2.plan) == "pp4 zb_h2");
  CHECK_FALSE(schedule("schedule: zb_h2, post_validation: false").steps_apart());
}

TEST_CASE("the order of the ranks names every axis with ranks once, experts between tp and dp") {
  const auto placed = [](const std::string& order) {
    return refused(on(32, "sequence_length: 128k",
                      "tensor: 2, context: {method: usp, ring: 4, ulysses: 2}, data: 2, "
                      "rank_order: " + order));
  };
  for (const char* good : {"tp-cp-dp-pp", "tp-cp-ep-dp-pp", "tp-cp-dp", "dp-cp-tp", "pp-dp-tp-cp",
                           "ulysses-tp-dp-ring", "tp-ring-ulysses-dp"}) {
    INFO(good);
    CHECK_FALSE(placed(good));
  }
  for (const char* bad : {"tp-dp", "tp-cp", "cp-dp-pp", "tp-ring-dp", "tp-cp-ring-dp",
                          "tp-tp-cp-dp", "tp-cp-dp-", "tensor-cp-dp", "''"}) {
    INFO(bad);
    CHECK(placed(bad));
  }
  Plan plan;
  plan.context.ulysses = 2;
  plan.context.ring = 4;
  plan.rank_order = {PlanAxis::data, PlanAxis::context, PlanAxis::tensor};
  CHECK(settled_rank_order(plan) ==
        std::vector{PlanAxis::data, PlanAxis::ulysses, PlanAxis::ring, PlanAxis::tensor,
                    PlanAxis::pipeline});
  plan.data = 3;
  CHECK(stride_of(plan, PlanAxis::data) == 1);
  CHECK(stride_of(plan, PlanAxis::ring) == 6);
  CHECK(stride_of(plan, PlanAxis::tensor) == 24);
  plan.context.inner = InnerPlacement::ring;
  CHECK(stride_of(plan, PlanAxis::ulysses) == 12);
}

TEST_CASE("parts of the model and groups of micro-batches are checked against each other") {
  const std::string model = "{name: m, layers: 12, hidden: 2048, heads: 32, ffn: 8192, vocab: 1000}";
  const auto no = [&](const std::string& plan, int batch = 16) {
    INFO(plan);
    return refused(on(4, "sequence_length: 8k, global_batch: " + std::to_string(batch),
                      "pipeline: 4, data: 1, " + plan, model));
  };
  CHECK_FALSE(no("uneven_stages: true"));  // 2, 4, 4, 2
  CHECK_FALSE(no("stage_layers: [0, 5, 5, 2]"));
  CHECK_FALSE(no("virtual_pipeline: 2, uneven_stages: true"));  // 0, 2, 2, ..., 0
  CHECK(no("stage_layers: [3, 3, 3]"));
  CHECK(no("stage_layers: [3, 3, 3, 4]"));
  CHECK(no("stage_layers: [3, 3, 3, -3]"));
  CHECK(no("stage_layers: 3"));
  CHECK(no("virtual_pipeline: 2"));  // 12 layers in 8 parts
  // A group, the last one too, has as many micro-batches as there are stages, or more.
  CHECK_FALSE(no("virtual_pipeline: 3, virtual_group: 5", 5));
  CHECK_FALSE(no("virtual_pipeline: 3", 5));
  CHECK(no("virtual_pipeline: 3, virtual_group: 4", 5));
  CHECK(no("virtual_pipeline: 3, virtual_group: 3", 6));
  CHECK(no("virtual_pipeline: 3", 3));
  CHECK(no("virtual_group: 4"));
  const auto groups = [](std::int64_t stages, std::int64_t micro_batches) {
    Plan plan;
    plan.pipeline = stages;
    plan.virtual_pipeline = 2;
    return virtual_group_of(plan, micro_batches);
  };
  CHECK(groups(4, 8) == 4);
  CHECK(groups(4, 5) == 5);
  CHECK(groups(4, 10) == 5);
  CHECK(groups(4, 9) == 5);  // 5 and 4
  CHECK(groups(4, 3) == 0);
  CHECK(refused(on(4, "sequence_length: 8k, global_batch: 4", "stage_layers: [12]", model)));
}

TEST_CASE("an order that contradicts 'inner', or spreads tensor ranks over nodes, is pointed out") {
  const std::string usp = "context: {method: usp, ring: 4, ulysses: 2, inner: ring}, data: 4, ";
  CHECK(refused(on(32, "sequence_length: 128k", usp + "rank_order: ulysses-ring-dp")));
  CHECK_FALSE(refused(on(32, "sequence_length: 128k", usp + "rank_order: ring-ulysses-dp")));
  const Outcome spread =
      outcome(on(32, "sequence_length: 128k", "tensor: 8, data: 4, rank_order: dp-tp"));
  CHECK(spread.scenario);
  CHECK(spread.words.find("spreads tensor 8 over 32 GPUs") != std::string::npos);
}

TEST_CASE("every enumerator has its word") {
  CHECK(word_of(rank_axis_words, PlanAxis::expert) == "ep");
  CHECK(word_of(phase_words, Phase::attention) == "attention");
  CHECK(word_of(pass_words, Pass::forward_backward) == "forward_backward");
  CHECK(word_of(method_words, ContextMethod::double_ring) == "double_ring");
  CHECK(word_of(order_words, SequenceOrder::striped) == "striped");
  CHECK(word_of(inner_words, InnerPlacement::ring) == "ring");
  CHECK(word_of(recompute_words, Recompute::full) == "full");
  CHECK(word_of(offload_words, Offload::parameters) == "parameters");
  CHECK(word_of(data_type_words, DataType::fp8) == "fp8");
}

TEST_CASE("stages of equal cost count the head as the layers that it costs") {
  // A layer of 4 h^2 + 3 h f; a head of v h is 4 such layers here, so of 20 the first stage takes 10
  // and, as these use its half up exactly, one more.
  Model model;
  model.layers = 16;
  model.hidden = 2048;
  model.heads = 32;
  model.head_dim = 64;
  model.ffn = 8192;
  model.vocab = 131072;
  CHECK(layers_by_cost(model, 2) == std::vector<std::int64_t>{11, 5});
  CHECK(layers_by_cost(model, 1) == std::vector<std::int64_t>{16});
  model.vocab = 0;  // nothing but layers: all but even, the rest at the end
  CHECK(layers_by_cost(model, 4) == std::vector<std::int64_t>{5, 4, 4, 3});
}

TEST_CASE("pieces of an MLP divide a rank's tokens, and go with whole layers of one kind") {
  const auto no = [&](const std::string& plan) {
    INFO(plan);
    return refused(on(4, "sequence_length: 8k, global_batch: 4",
                      "context: {method: ring, ring: 4}, data: 1, " + plan, "llama3-8b"));
  };
  CHECK_FALSE(no("mlp_tiles: 8"));
  CHECK_FALSE(no("mlp_tiles: 8, recompute: full"));
  CHECK(no("mlp_tiles: 7"));
  CHECK(no("mlp_tiles: 8, recompute: full, recompute_detail: keep_linear_outputs"));
}
