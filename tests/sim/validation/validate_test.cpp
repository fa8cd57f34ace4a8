// Measured runs: reading, turning rates into times, scoring.
#include <catch2/catch.hpp>

#include <cmath>

#include "sim/search/predict.h"
#include "sim/validation/error_bands.h"
#include "sim/validation/predict_run.h"
#include "sim/validation/refit.h"
#include "sim/validation/run_facts.h"
#include "sim/validation/validate.h"

using namespace longhaul;

namespace {

SourcePtr source_of(const std::string& text) {
  auto source = std::make_shared<SourceText>();
  source->name = "runs.yaml";
  source->text = text;
  return source;
}

std::string run_text(const std::string& plan, const std::string& measured) {
  return "format: longhaul-runs/1\n"
         "source: {title: test, where: here, trust: high}\n"
         "runs:\n"
         "  - id: one\n"
         "    group: g\n"
         "    model: {name: m, layers: 32, hidden: 4096, heads: 32, kv_heads: 8, head_dim: 128, "
         "ffn: 14336, gated_mlp: true, vocab: 128256, tied_embeddings: false}\n"
         "    hardware: {device: h100-sxm-80gb, gpus: 8, gpus_per_node: 8, intra_node: nvswitch, "
         "fabric: none}\n"
         "    workload: {phase: train, sequence_length: 8192, micro_batch: 1, global_batch: 8, "
         "mask: causal, dtype: bf16}\n"
         "    plan: " + plan + "\n"
         "    software: {framework: ideal, attention: FA3}\n"
         "    measured: " + measured + "\n";
}

const std::string plain_plan =
    "{tensor: 1, sequence_parallel: false, pipeline: 1, virtual_pipeline: 1, data: 8, zero: 3, "
    "recompute: full, context: {method: none}}";

MeasuredRun only_run(const std::string& text) {
  Diagnostics diagnostics;
  const auto runs = read_runs(source_of(text), diagnostics);
  diagnostics.throw_if_errors();
  REQUIRE(runs.size() == 1);
  return runs[0];
}

Score score(double measured, double predicted, const std::string& id) {
  Score made;
  made.id = id;
  made.group = "g";
  made.quantity = "time";
  made.phase = "train";
  made.measured = measured;
  made.predicted = predicted;
  made.low = predicted * 0.9;
  made.high = predicted * 1.1;
  return made;
}

}  // namespace

TEST_CASE("a step time is scored as it stands, a token rate as the time it implies") {
  const MeasuredRun direct = only_run(run_text(plain_plan, "{step_time: 2 s}"));
  REQUIRE(direct.measurements.size() == 1);
  CHECK(direct.measurements[0].value == 2.0);
  const MeasuredRun rate =
      only_run(run_text(plain_plan, "{tokens_per_second_per_gpu: 4096}"));
  REQUIRE(rate.measurements.size() == 1);
  CHECK(rate.measurements[0].value == 8.0 * 8192.0 / 4096.0 / 8.0);
}

TEST_CASE("only the most direct of several statements of one time is scored") {
  const MeasuredRun run = only_run(
      run_text(plain_plan, "{mfu: 0.4, step_time: 2 s, tokens_per_second: 1000, "
                           "flop_convention: full, peak_reserved: 70 GiB}"));
  REQUIRE(run.measurements.size() == 2);
  CHECK(run.measurements[0].key == "step_time");
  CHECK(run.measurements[1].quantity == MeasuredQuantity::reserved);
}

TEST_CASE("a rate of unknown convention is not scored, and says so") {
  const MeasuredRun run = only_run(run_text(plain_plan, "{tflops_per_gpu: 400 TFLOP/s}"));
  CHECK(run.measurements.empty());
  REQUIRE(run.skipped_quantities.size() == 1);
}

TEST_CASE("what has no schedule yet is skipped with its reason") {
  std::string plan = plain_plan;
  plan.replace(plan.find("pipeline: 1"), 11, "pipeline: 4, schedule: zb_v");
  const MeasuredRun run = only_run(run_text(plan, "{step_time: 2 s}"));
  CHECK(run.skip_reason == "pipeline schedule 'zb_v' is not modelled");
}

TEST_CASE("zero-bubble schedules are read in any spelling, 1F1B's names are one") {
  const auto schedule = [](const std::string& word) {
    std::string plan = plain_plan;
    plan.replace(plan.find("pipeline: 1"), 11, "pipeline: 4, schedule: " + word);
    const MeasuredRun run = only_run(run_text(plan, "{step_time: 2 s}"));
    CHECK(run.skip_reason.empty());
    return run.draft->plan.schedule;
  };
  CHECK(schedule("zb_h1") == PipelineSchedule::zb_h1);
  CHECK(schedule("ZB-H2") == PipelineSchedule::zb_h2);
  CHECK(schedule("ZB-1p") == PipelineSchedule::zb_1p);
  CHECK(schedule("zb2p") == PipelineSchedule::zb_2p);
  CHECK(schedule("1F1B") == PipelineSchedule::one_f_one_b);
  CHECK(schedule("interleaved") == PipelineSchedule::one_f_one_b);  // as virtual_pipeline says
}

TEST_CASE("a word that the format does not have is no default: the run is skipped with it") {
  const auto skipped = [](const std::string& from, const std::string& to) {
    std::string text = run_text(plain_plan, "{step_time: 1 s}");
    text.replace(text.find(from), from.size(), to);
    return only_run(text).skip_reason;
  };
  CHECK(skipped("mask: causal", "mask: document") == "mask 'document' is not predicted yet");
  CHECK(skipped("mask: causal", "mask: {blocks: 4}") == "mask 'of several keys' is not predicted yet");
  CHECK(skipped("dtype: bf16", "dtype: int8") == "dtype 'int8' is not predicted yet");
  CHECK(skipped("recompute: full", "recompute: half") == "recompute 'half' is not predicted yet");
  CHECK(skipped("recompute: full", "recompute: full, recompute_detail: odd") ==
        "recompute_detail 'odd' is not predicted yet");
  const std::string none = "context: {method: none}";
  CHECK(skipped(none, "context: {method: ring, ring: 8, order: spiral}") ==
        "context order 'spiral' is not predicted yet");
  CHECK(skipped(none, "context: {method: ring, ring: 8, variant: odd}") ==
        "context variant 'odd' is not predicted yet");
  CHECK(skipped("phase: train", "phase: attention, pass: sideways") ==
        "pass 'sideways' is not predicted yet");
  CHECK(skipped("mask: causal", "mask: {window: 4096}").empty());
}

TEST_CASE("a window of keys is a mask of measured runs, too") {
  std::string text = run_text(plain_plan, "{step_time: 1 s}");
  text.replace(text.find("mask: causal"), 12, "mask: {window: 4096}");
  const MaskSpec mask = only_run(text).draft->workload.mask;
  CHECK(mask.kind == MaskKind::window);
  CHECK(mask.window == 4096);
}

TEST_CASE("a prefill behind a cache of no tokens is one without a cache") {
  for (const auto& [cached, tokens] : {std::pair{"0", 0}, std::pair{"124800", 124800}}) {
    std::string text = run_text(plain_plan, "{time_to_first_token: 1 s}");
    text.replace(text.find("phase: train"), 12,
                 std::string("phase: prefill, cached_tokens: ") + cached);
    CHECK(only_run(text).draft->workload.cached_tokens == tokens);
  }
}

TEST_CASE("a name's case and hyphens do not matter, and the longest known word decides") {
  const auto stack = [](const std::string& framework) {
    const auto found = software_of_framework(framework);
    return found ? found->name : "";
  };
  CHECK(stack("TorchTitan (2025)") == "fsdp");
  CHECK(stack("megatron_lm 2021") == "megatron_2021");
  CHECK(stack("NVIDIA Megatron-Core 0.12") == "megatron");
  CHECK(stack("Megatron-DeepSpeed") == "megatron_deepspeed");
  CHECK(stack("HF transformers + DeepSpeed ZeRO-3") == "deepspeed");
  CHECK(stack("BurstAttention") == "burst_attention");
  CHECK(stack("Burst-Attention") == "ring_flash_attention");
  CHECK(stack("Somebody's trainer").empty());
}

TEST_CASE("a framework that nobody knows runs as the stack most like it, and says so") {
  const auto stack_with = [](const std::string& from, const std::string& to, std::size_t notes) {
    std::string text = run_text(plain_plan, "{step_time: 1 s}");
    text.replace(text.find("framework: ideal"), 16, "framework: test");
    text.replace(text.find(from), from.size(), to);
    Diagnostics diagnostics;
    const auto runs = read_runs(source_of(text), diagnostics);
    diagnostics.throw_if_errors();
    CHECK(diagnostics.all().size() == notes);
    CHECK(runs[0].stack_assumed == (notes > 0));
    return runs[0].draft->software;
  };
  CHECK(stack_with("zero: 3", "zero: 3", 1) == "fsdp");
  CHECK(stack_with("zero: 3", "zero: 1", 1) == "deepspeed");
  CHECK(stack_with("tensor: 1", "tensor: 8", 1) == "megatron");
  CHECK(stack_with("pipeline: 1", "pipeline: 2", 1) == "megatron");
  CHECK(stack_with("framework: test", "framework: NeMo", 0) == "nemo");
}

TEST_CASE("fp32 shards with autocast compute in bf16, their memory is not scored; plain fp32 does not") {
  // 8 sequences of 8192 tokens through 8B parameters in 2 s are 220 TFLOP/s per GPU, more than the
  // 67 that an H100 has without tensor cores: such a record is of the parameters' type.
  std::string text = run_text(plain_plan, "{step_time: 2 s, peak_allocated: 40 GiB}");
  text.replace(text.find("dtype: bf16"), 11, "dtype: fp32");
  const MeasuredRun plain = only_run(text);
  CHECK(plain.draft->precision.compute == DataType::fp32);
  CHECK(plain.measurements.size() == 2);
  text.replace(text.find("attention: FA3"), 14,
               "attention: FA3, precision_mode: fp32_master_shards");
  const MeasuredRun shards = only_run(text);
  CHECK(shards.draft->precision.compute == DataType::bf16);
  CHECK(shards.draft->precision.states == States::fp32);
  REQUIRE(shards.measurements.size() == 1);
  CHECK(shards.measurements[0].quantity == MeasuredQuantity::time);
  REQUIRE(shards.skipped_quantities.size() == 1);
}

TEST_CASE("a note about many runs of a file is said once, with how many") {
  std::string text = run_text(plain_plan, "{step_time: 1 s}");
  text.replace(text.find("framework: ideal"), 16, "framework: test");
  const std::string second = text.substr(text.find("  - id: one"));
  Diagnostics diagnostics;
  CHECK(read_runs(source_of(text + second + second), diagnostics).size() == 3);
  REQUIRE(diagnostics.all().size() == 1);
  CHECK_THAT(diagnostics.all()[0].message, Catch::Contains("(here and 2 times more)"));
}

TEST_CASE("a run on a device that nobody knows is left out with a warning, the others are read") {
  std::string text = run_text(plain_plan, "{step_time: 2 s}");
  text.replace(text.find("h100-sxm-80gb"), 13, "h99-sxm");
  Diagnostics diagnostics;
  const auto runs = read_runs(source_of(text), diagnostics);
  REQUIRE(runs.size() == 1);
  CHECK(runs[0].skip_reason == "no device is called 'h99-sxm'");
  CHECK_FALSE(diagnostics.has_errors());
  REQUIRE(diagnostics.all().size() == 1);
  CHECK(diagnostics.all()[0].place.line == 7);
}

TEST_CASE("a file of another format is refused at its place") {
  Diagnostics diagnostics;
  CHECK(read_runs(source_of("format: other\nruns: []\n"), diagnostics).empty());
  CHECK(diagnostics.has_errors());
}

TEST_CASE("summaries count, average and take medians of relative errors") {
  const std::vector<Score> scores = {score(1.0, 1.1, "a"), score(1.0, 0.8, "b"),
                                     score(1.0, 1.4, "c")};
  const auto rows = summarize_scores(scores, false);
  REQUIRE(rows.size() == 1);
  CHECK(rows[0].runs == 3);
  CHECK_THAT(rows[0].mean_absolute_error, Catch::Matchers::WithinAbs(0.7 / 3.0, 1e-12));
  CHECK_THAT(rows[0].median_absolute_error, Catch::Matchers::WithinAbs(0.2, 1e-12));
  CHECK_THAT(rows[0].p90_absolute_error, Catch::Matchers::WithinAbs(0.4, 1e-12));
  CHECK_THAT(rows[0].bias, Catch::Matchers::WithinAbs(0.1, 1e-12));
  CHECK_THAT(rows[0].interval_coverage, Catch::Matchers::WithinAbs(1.0 / 3.0, 1e-12));
}

TEST_CASE("a decision counts when the measured gap exceeds 5 %, and is right in the right order") {
  const std::vector<Score> scores = {score(1.00, 1.0, "a"), score(1.04, 0.5, "b"),
                                     score(2.00, 3.0, "c")};
  const DecisionScore decisions = score_decisions(scores);
  CHECK(decisions.pairs == 2);
  CHECK(decisions.correct == 2);
}

TEST_CASE("a fitted run is not part of the summary") {
  std::vector<Score> scores = {score(1.0, 1.1, "a"), score(1.0, 9.0, "b")};
  scores[1].fitted = true;
  CHECK(summarize_scores(scores, false)[0].runs == 1);
}

TEST_CASE("a plain run is predicted end to end") {
  const MeasuredRun run = only_run(run_text(plain_plan, "{step_time: 2 s}"));
  const ValidationReport report = validate({run}, {});
  REQUIRE(report.scores.size() == 2);
  CHECK(report.scores[0].predicted > 0.1);
  CHECK(report.scores[0].predicted < 20.0);
  CHECK(report.scores[1].quantity == "out_of_memory");
}

TEST_CASE("a rate that counts recomputed work implies the time by what the plan recomputes") {
  // Full recompute: four forward passes instead of three. None: a "with recompute" rate is the
  // plain one.
  const std::string rate =
      "{tflops_per_gpu: 400 TFLOP/s, flop_convention: full_with_recompute}";
  std::string none = plain_plan;
  none.replace(none.find("recompute: full"), 15, "recompute: none");
  std::string selective = plain_plan;
  selective.replace(selective.find("recompute: full"), 15, "recompute: selective");
  const double with_all = only_run(run_text(plain_plan, rate)).measurements.at(0).value;
  const double with_none = only_run(run_text(none, rate)).measurements.at(0).value;
  const double with_cores = only_run(run_text(selective, rate)).measurements.at(0).value;
  CHECK_THAT(with_all / with_none, Catch::Matchers::WithinRel(4.0 / 3.0, 1e-12));
  // Attention cores: 4 s^2 h d per layer and sequence, 8 sequences, 32 layers, on 8 GPUs.
  const double cores = 8.0 * 32.0 * 4.0 * 8192.0 * 8192.0 * 4096.0;
  CHECK_THAT(with_cores - with_none, Catch::Matchers::WithinRel(cores / 400e12 / 8.0, 1e-9));
}

TEST_CASE("FLOP rates of an attention iteration count 4 s^2 h d, backward 2.5 times that") {
  std::string text = run_text(plain_plan, "{tflops_per_gpu: 100 TFLOP/s, flop_convention: causal}");
  text.replace(text.find("phase: train"), 12, "phase: attention, pass: forward_backward");
  const double flops = 3.5 * 4.0 * 0.5 * 8192.0 * 8192.0 * 4096.0;
  CHECK_THAT(only_run(text).measurements.at(0).value,
             Catch::Matchers::WithinRel(flops / 100e12 / 8.0, 1e-12));
}

TEST_CASE("a memory figure computed from another one is not scored a second time") {
  std::string text = run_text(plain_plan, "{peak_allocated: 40 GiB, peak_reserved: 44 GiB}");
  CHECK(only_run(text).measurements.size() == 2);
  text += "    derived: [peak_reserved]\n";
  const MeasuredRun run = only_run(text);
  REQUIRE(run.measurements.size() == 1);
  CHECK(run.measurements[0].quantity == MeasuredQuantity::allocated);
}

TEST_CASE("a memory figure of unknown kind and unit is what the logs of its software mean") {
  // BurstAttention prints max_memory_reserved / 2^30 as GB; other stacks' GB are taken as they stand.
  std::string text = run_text(plain_plan, "{peak_memory: 40 GB}");
  const std::string unsure = "    unknown: [memory_unit]\n";
  CHECK(only_run(text + unsure).measurements[0].value == 40e9);
  const std::string software = "framework: ideal";
  text.replace(text.find(software), software.size(), "framework: BurstAttention");
  CHECK(only_run(text + unsure).measurements[0].value == 40.0 * (1 << 30));
  CHECK(only_run(text).measurements[0].value == 40e9);
  CHECK(only_run(text).measurements[0].quantity == MeasuredQuantity::memory);
}

TEST_CASE("a run of the same stack as the one before it ran on that stack") {
  std::string text = run_text(plain_plan, "{step_time: 2 s}");
  const std::string software = "framework: ideal";
  text.replace(text.find(software), software.size(), "framework: nanotron v0.5");
  const std::size_t begin = text.find("  - id: one");
  std::string second = text.substr(begin);
  second.replace(second.find("nanotron v0.5"), 13, "same stack");
  Diagnostics diagnostics;
  const auto runs = read_runs(source_of(text + second), diagnostics);
  REQUIRE(runs.size() == 2);
  CHECK(runs[1].draft->software == "nanotron");
}

TEST_CASE("a run that says nothing of its trust has that of its source") {
  CHECK(only_run(run_text(plain_plan, "{step_time: 2 s}")).trust == "high");
  CHECK(only_run(run_text(plain_plan, "{step_time: 2 s}") + "    trust: low\n").trust == "low");
}

TEST_CASE("figures of low trust are summed up and decided apart") {
  std::vector<Score> scores = {score(1.0, 1.1, "a"), score(2.0, 1.0, "b"), score(3.0, 4.0, "c")};
  scores[1].trust = "low";
  CHECK(summarize_scores(scores, false)[0].runs == 2);
  CHECK(summarize_scores(scores, false, ScoreScope::low_trust)[0].runs == 1);
  CHECK(score_decisions(scores).pairs == 1);
  CHECK(score_decisions(scores, ScoreScope::low_trust).pairs == 0);
}

TEST_CASE("a record faster than its device can be is reported as impossible, not scored") {
  // 8 sequences of 8192 tokens through 8B parameters need 3.5e15 FLOP; 8 H100 have 7.9e15 per
  // second. 0.1 s is beyond the peak, 2 s is not.
  const ValidationReport report =
      validate({only_run(run_text(plain_plan, "{step_time: 0.1 s}"))}, {});
  CHECK(report.scores.empty());
  REQUIRE(report.skipped.size() == 1);
  CHECK(report.skipped[0].second.starts_with("impossible as recorded"));
}

TEST_CASE("what is not known about a run widens its interval and moves no prediction") {
  const std::string known = run_text(plain_plan, "{step_time: 2 s}");
  const ValidationReport sure = validate({only_run(known)}, {});
  const ValidationReport unsure = validate({only_run(known + "    unknown: [recompute]\n")}, {});
  CHECK(unsure.scores.at(0).predicted == sure.scores.at(0).predicted);
  CHECK(unsure.scores.at(0).low < sure.scores.at(0).low);
  CHECK(unsure.scores.at(0).high > sure.scores.at(0).high);
}

TEST_CASE("of recompute that is not known, what does not fit is not what ran") {
  // 8B parameters sharded over 8 GPUs, 64k tokens on each: only full recompute fits in 80 GB, so
  // the prediction is that of full recompute.
  std::string full = run_text(plain_plan, "{step_time: 40 s}");
  full.replace(full.find("sequence_length: 8192"), 21, "sequence_length: 65536");
  std::string open = full;
  open.replace(open.find("recompute: full"), 15, "recompute: unknown");
  const ValidationReport stated = validate({only_run(full)}, {});
  const ValidationReport inferred = validate({only_run(open)}, {});
  REQUIRE(stated.scores.size() == 2);
  REQUIRE(inferred.scores.size() == 2);
  CHECK(inferred.scores[0].predicted == stated.scores[0].predicted);
}

TEST_CASE("of degrees that are not known, the middle of ring, all-to-all and record is predicted") {
  // Recorded as an all-to-all; a ring over the same GPUs takes longer. The middle lies between.
  const auto text = [](const std::string& context, const std::string& end) {
    std::string run = run_text("{tensor: 1, pipeline: 1, data: 1, zero: 0, recompute: none, "
                               "context: {" + context + "}}",
                               "{forward_time: 100 ms}");
    run.replace(run.find("phase: train"), 12, "phase: attention, pass: forward");
    // Long enough that the two differ by less than an interval is wide.
    run.replace(run.find("sequence_length: 8192"), 21, "sequence_length: 131072");
    return run + end;
  };
  const auto predicted = [](const std::string& run) {
    return validate({only_run(run)}, {}).scores.at(0);
  };
  const Score ulysses = predicted(text("method: ulysses, ulysses: 8", ""));
  const Score ring = predicted(text("method: ring, ring: 8, order: zigzag", ""));
  const std::string record = "method: ulysses, ulysses: 8, order: zigzag";
  const Score one = predicted(text(record, "    unknown: [ring]\n"));
  const Score open = predicted(text(record, "    unknown: [ring, ulysses]\n"));
  REQUIRE(ring.predicted > ulysses.predicted);
  CHECK(one.predicted == ulysses.predicted);
  CHECK_THAT(open.predicted,
             Catch::Matchers::WithinRel(std::sqrt(ring.predicted * ulysses.predicted), 1e-9));
  CHECK(open.high >= ring.high);
  CHECK(open.low <= ulysses.low);
}

// Separate operators keep 2 bytes per score and layer: 32 x 32 heads x 2048^2 x 2 B are 8 GiB.
TEST_CASE("memory of attention that a stack chose lies between flash kernels and separate operators") {
  const auto predicted = [](const std::string& attention) {
    std::string run = run_text("{tensor: 1, data: 8, zero: 3, recompute: none, context: {method: "
                               "none}}", "{peak_allocated: 60 GB, step_time: 1 s}");
    run.replace(run.find("sequence_length: 8192"), 21, "sequence_length: 2048");
    run.replace(run.find("attention: FA3"), 14, "attention: " + attention);
    return validate({only_run(run)}, {}).scores;
  };
  const auto flash = predicted("TE fused");
  const auto open = predicted("TE auto");
  const auto separate = predicted("unfused");
  REQUIRE(flash.at(1).quantity == "allocated");
  CHECK(separate.at(1).predicted > flash.at(1).predicted + 8e9);
  CHECK(open.at(1).predicted == flash.at(1).predicted);
  CHECK(open.at(1).low == flash.at(1).low);
  CHECK(open.at(1).high == separate.at(1).high);
  CHECK(open.at(0).high == flash.at(0).high);  // of its time nothing is said
}

namespace {

// A run of Megatron-LM's functional tests.
MeasuredRun test_run(const std::string& id, const std::string& attention, int zero = 0) {
  std::string run = run_text(plain_plan, "{step_time: 2 s}");
  const auto put = [&](const std::string& old, const std::string& text) {
    run.replace(run.find(old), old.size(), text);
  };
  put("id: one", "id: " + id);
  put("framework: ideal, attention: FA3", "framework: Megatron-LM CI, attention: " + attention);
  put("zero: 3", "zero: " + std::to_string(zero));
  return only_run(run);
}

}  // namespace

TEST_CASE("a star in the ids of a fact stands for any text, everything else for itself") {
  CHECK(is_among("a_b_c", "a_b_c"));
  CHECK(is_among("a_b_c", "a*c"));
  CHECK(is_among("a_b_c", "*b*"));
  CHECK(is_among("abab", "*ab"));
  CHECK(is_among("a", "a*"));
  CHECK_FALSE(is_among("a_b_c", "a_b"));
  CHECK_FALSE(is_among("a_b_c", "b*"));
  CHECK_FALSE(is_among("a_b_c", "a*b"));
}

TEST_CASE("the public configuration of a run tells the attention that its record leaves open") {
  // gpt3_mcore_tp* are tests of Megatron-LM's own layers, whose attention is separate operators.
  const MeasuredRun local = test_run("mlmci_gpt3_mcore_tp1_pp4__dev", "TE auto (deterministic)");
  CHECK(local.draft->attention_kernel == "unfused");
  CHECK_FALSE(local.attention_open);
  const MeasuredRun engine = test_run("mlmci_gpt3_mcore_te_tp1__dev", "TE auto (deterministic)");
  CHECK(engine.draft->attention_kernel == "cudnn");
  CHECK(engine.attention_open);
  // What a record says goes before.
  CHECK(test_run("mlmci_gpt3_mcore_tp1_pp4__dev", "FA3").draft->attention_kernel == "fa3");
  // The old image has no deterministic flash kernel; others are not concerned.
  const auto old = [](const std::string& attention) {
    return test_run("mlmci_any__lts_dgxa100_x", attention).draft->attention_kernel;
  };
  CHECK(old("TE auto (deterministic)") == "unfused");
  CHECK(old("TE auto") == "cudnn");
}

TEST_CASE("a fused loss is not made of a stack's separate operators; compiled, it holds more") {
  const auto operators = [](const SoftwareProfile& stack) {
    std::int64_t count = 0;
    for (const OperatorHabit& habit : stack.operators) {
      count += habit.op == "loss" || habit.op == "loss_statistics" ? 1 : 0;
    }
    return count;
  };
  CHECK(operators(*find_software("megatron_ci")) == 2);
  const MeasuredRun compiled = test_run("mlmci_a_cross_entropy_loss_fusion__dev", "unfused");
  REQUIRE(compiled.draft->stack_override);
  CHECK(compiled.draft->stack_override->compiled_loss);
  CHECK(operators(*compiled.draft->stack_override) == 0);
  const MeasuredRun fused = test_run("a", "unfused, loss: fused");
  REQUIRE(fused.draft->stack_override);
  CHECK_FALSE(fused.draft->stack_override->compiled_loss);
  CHECK(operators(*fused.draft->stack_override) == 0);
  CHECK_FALSE(test_run("a", "unfused").draft->stack_override);
}

TEST_CASE("fp8 with a scale for each row gathers in the compute type, with one for a tensor in fp8") {
  const MeasuredRun rows = test_run("tt_any_8b_fp8_rowwise_vanilla", "unfused");
  REQUIRE(rows.draft->stack_override);
  CHECK_FALSE(rows.draft->stack_override->fp8_gathers);
  CHECK_FALSE(test_run("tt_any_8b_fp8_tensorwise_vanilla", "unfused").draft->stack_override);
}

TEST_CASE("figures that a code composed ran on that code, whatever their record says") {
  // vTrain's own tables have vocab_size // world_size rows: 128261 over 4 ranks leave one out.
  CHECK(test_run("vt_single_0000", "unfused").draft->software == "vtrain");
  CHECK(test_run("vt_multi_0000", "unfused").draft->software != "vtrain");
  std::string text = run_text(plain_plan, "{step_time: 1 s}");
  text.replace(text.find("id: one"), 7, "id: vt_single_1");
  text.replace(text.find("128256"), 6, "128261");
  text.replace(text.find("tensor: 1"), 9, "tensor: 4");
  text.replace(text.find("data: 8"), 7, "data: 2");
  CHECK(only_run(text).draft->model->vocab == 128260);
}

TEST_CASE("groups of replicas that each hold the optimizer's states narrow its sharding") {
  const std::string several = "mlmci_a_multi_dist_optimizer_instances__dev";
  CHECK(test_run(several, "unfused", 1).draft->plan.zero_group == 4);
  CHECK(test_run("mlmci_a__dev", "unfused", 1).draft->plan.zero_group == 0);
}

TEST_CASE("runs whose data came over a network read them at its pace, their twins do not") {
  const std::string remote = "mlmci_gpt3_mcore_te_tp1_pp4_vp1_1node__dev_dgx_gb200";
  CHECK(test_run(remote, "unfused").draft->workload.sample_time == Seconds::of(0.1));
  const std::string twin = "mlmci_gpt3_mcore_te_tp1_pp4_vp1__dev_dgx_gb200";
  CHECK(test_run(twin, "unfused").draft->workload.sample_time == Seconds());
}

TEST_CASE("a fact without an origin, or with a word that nobody knows, is refused at its place") {
  const auto codes = [](const std::string& fact) {
    Diagnostics diagnostics;
    read_run_facts(source_of("format: longhaul-run-facts/1\nfacts:\n  - " + fact + "\n"),
                   diagnostics);
    std::vector<std::string> found;
    for (const Diagnostic& diagnostic : diagnostics.all()) {
      found.push_back(diagnostic.code);
      CHECK(diagnostic.place.line == 3);
    }
    return found;
  };
  CHECK(codes("{runs: a*, sample_time: 20 ms, source: somewhere}").empty());
  CHECK(codes("{runs: a*, sample_time: 20 ms}").size() == 1);
  CHECK(codes("{runs: a*, sample_tim: 20 ms, source: somewhere}").size() == 1);
  CHECK(codes("{runs: a*, attention: fa9, source: somewhere}").size() == 1);
}

TEST_CASE("deterministic operators pin the workspaces of products, a deterministic flash does not") {
  CHECK(test_run("x", "unfused (deterministic)").draft->deterministic);
  CHECK_FALSE(test_run("x", "flash (deterministic)").draft->deterministic);
  CHECK_FALSE(test_run("x", "unfused").draft->deterministic);
}

TEST_CASE("Megatron's gradients are fp32 of bf16 runs, fp16 of fp16 runs, unless the run says more") {
  const auto gradients = [](const std::string& dtype, const std::string& mode) {
    std::string run = run_text(plain_plan, "{step_time: 1 s}");
    run.replace(run.find("dtype: bf16"), 11, "dtype: " + dtype);
    run.replace(run.find("framework: ideal"), 16, "framework: Megatron-LM (2021)" + mode);
    return only_run(run).draft->precision.gradients;
  };
  CHECK(gradients("bf16", "") == DataType::fp32);
  CHECK(gradients("fp16", "") == DataType::bf16);
  CHECK(gradients("fp16", ", precision_mode: fp32_master_shards") == DataType::fp32);
}

TEST_CASE("what lies between the ways a run may have gone widens no band") {
  std::vector<Score> scores;
  for (int i = 0; i < 100; ++i) {
    scores.push_back(score(i % 2 == 0 ? 1.0 : 1.5, 1.0, std::to_string(i)));
  }
  CHECK_THAT(estimate_bands(scores).at(0).band.above,
             Catch::Matchers::WithinRel(std::log(1.5), 1e-9));
  for (Score& each : scores) {
    each.least = 1.0;
    each.most = 1.6;
  }
  CHECK(estimate_bands(scores).at(0).band.above < 0.021);
}

TEST_CASE("the longest sequence that fits: it fits, and 3 % more does not") {
  const MeasuredRun run = only_run(run_text(plain_plan, "{max_sequence_length: 65536}"));
  const ValidationReport report = validate({run}, {});
  REQUIRE(report.scores.size() == 2);
  CHECK(report.scores[0].quantity == "max_sequence_length");
  ScenarioDraft draft = *run.draft;
  Diagnostics diagnostics;
  const auto fits = [&](double length) {
    draft.workload.sequence_length = static_cast<std::int64_t>(length) / 2 * 2;
    return predict(*check_scenario(draft, diagnostics), diagnostics).memory.fits;
  };
  CHECK(fits(report.scores[0].predicted));
  CHECK_FALSE(fits(report.scores[0].predicted * 1.03));
}

TEST_CASE("runs of one plan on one machine are predicted once, and score as each does alone") {
  MeasuredRun one = only_run(run_text(plain_plan, "{step_time: 2 s}"));
  MeasuredRun slower = only_run(run_text(plain_plan, "{step_time: 3 s}"));
  MeasuredRun other = only_run(run_text(plain_plan, "{step_time: 2 s}"));
  other.draft->plan.zero = 2;
  slower.id = "slower";
  other.id = "other";
  std::size_t predicted = 0;
  ValidationOptions options;
  options.progress = [&](std::size_t, std::size_t all) { predicted = all; };
  const ValidationReport report = validate({one, slower, other}, options);
  CHECK(predicted == 2);
  std::vector<Score> alone;
  for (const MeasuredRun& run : {one, slower, other}) {
    for (const Score& found : validate({run}, {}).scores) alone.push_back(found);
  }
  REQUIRE(report.scores.size() == alone.size());
  for (std::size_t i = 0; i < alone.size(); ++i) {
    CHECK(report.scores[i].id == alone[i].id);
    CHECK(report.scores[i].predicted == alone[i].predicted);
    CHECK(report.scores[i].error() == alone[i].error());
  }
}

TEST_CASE("what changes a prediction tells runs apart: machine, memory outcome, open choices") {
  const MeasuredRun run = only_run(run_text(plain_plan, "{step_time: 2 s}"));
  CHECK(same_prediction(run, run));
  MeasuredRun other = run;
  other.machine += "x";
  CHECK_FALSE(same_prediction(run, other));
  other = run;
  other.measurements.push_back({MeasuredQuantity::out_of_memory, "out_of_memory", 1.0});
  CHECK_FALSE(same_prediction(run, other));
  other = run;
  other.recompute_unknown = true;
  CHECK_FALSE(same_prediction(run, other));
  other = run;
  other.draft->workload.micro_batch = 2;
  CHECK_FALSE(same_prediction(run, other));
  other = run;
  other.draft->software = "megatron";
  CHECK_FALSE(same_prediction(run, other));
  // Of attention left open, memory is predicted both ways, but only where memory was measured.
  MeasuredRun timed = run;
  timed.attention_open = true;
  other = timed;
  other.measurements.push_back({MeasuredQuantity::reserved, "peak_reserved", 1e10});
  CHECK_FALSE(same_prediction(timed, other));
  // Where it stands in its file changes nothing.
  other = run;
  other.id = "elsewhere";
  other.draft->places.emplace_back("plan", Place{});
  CHECK(same_prediction(run, other));
}

TEST_CASE("every worker count gives the same report") {
  std::vector<MeasuredRun> runs;
  for (int i = 0; i < 6; ++i) {
    runs.push_back(only_run(run_text(plain_plan, "{step_time: 2 s}")));
    runs.back().id = std::to_string(i);
    runs.back().draft->workload.global_batch = 8 * (i + 1);
    runs.back().measurements[0].value *= i + 1;
  }
  const ValidationReport report = validate(runs, {});
  REQUIRE(report.scores.size() == 12);
  for (std::size_t i = 0; i < runs.size(); ++i) {
    CHECK(report.scores[2 * i].id == std::to_string(i));
    CHECK(report.scores[2 * i].predicted == validate({runs[i]}, {}).scores[0].predicted);
  }
}

TEST_CASE("bands leave a twentieth of the weight on either side, and a source is no crowd") {
  // 100 figures of one source, errors of -0.5 to +0.5 evenly: the band ends at 0.45. Another
  // source of one figure far outside weighs a tenth as much as the crowd, not nothing.
  std::vector<Score> scores;
  for (int i = 0; i < 100; ++i) {
    scores.push_back(score(std::exp(-0.5 + 0.01 * (i + 0.5)), 1.0, "a"));
    scores.back().source = "crowd";
  }
  const auto alone = estimate_bands(scores);
  REQUIRE(alone.size() == 1);
  CHECK(alone[0].name == "train");
  CHECK_THAT(alone[0].band.below, Catch::Matchers::WithinAbs(0.455, 0.011));
  CHECK_THAT(alone[0].band.above, Catch::Matchers::WithinAbs(0.445, 0.011));
  scores.push_back(score(std::exp(2.0), 1.0, "b"));
  scores.back().source = "other";
  CHECK(estimate_bands(scores)[0].band.above > 1.9);
  CHECK(estimate_bands(scores, "other")[0].band.above < 0.5);
}

TEST_CASE("a band of few figures has the tails of its kin, and theirs hardly move") {
  // Six figures of prefill all within 1 %, and a hundred of training spread evenly over 1 either way.
  std::vector<Score> scores;
  for (int i = 0; i < 100; ++i) {
    scores.push_back(score(std::exp(-0.5 + 0.01 * (i + 0.5)), 1.0, "a"));
    scores.back().source = "crowd";
  }
  const double alone = estimate_bands(scores)[0].band.above;
  for (int i = 0; i < 6; ++i) {
    scores.push_back(score(1.0 + 0.002 * i, 1.0, "b"));
    scores.back().source = "few";
    scores.back().phase = "prefill";
  }
  const auto bands = estimate_bands(scores);
  REQUIRE(bands.size() == 2);
  CHECK(bands[0].name == "prefill");
  CHECK(bands[0].band.above > 0.35);
  CHECK(bands[1].band.above <= alone);
  CHECK(bands[1].band.above > 0.9 * alone);
  CHECK(bands[0].figures == 6);
}

TEST_CASE("an error model written is read back as it was") {
  const Uncertainty& shipped = find_uncertainty();
  const std::string text = uncertainty_yaml({}, shipped);
  Diagnostics diagnostics;
  const auto read = read_uncertainty(source_of(text), diagnostics);
  REQUIRE(read);
  CHECK(read->bands.size() == shipped.bands.size());
  CHECK(read->unknown.size() == shipped.unknown.size());
  CHECK(read->band("train").above == shipped.band("train").above);
}

TEST_CASE("normal equations are solved, with the variances of what they give") {
  // [4 2; 2 3] x = [8; 7]: x = [1.25; 1.5], inverse [3/8 -2/8; -2/8 4/8].
  std::vector<std::vector<double>> inverse;
  const std::vector<double> x = solve_normal({{4, 2}, {2, 3}}, {8, 7}, inverse);
  CHECK_THAT(x[0], Catch::Matchers::WithinRel(1.25, 1e-12));
  CHECK_THAT(x[1], Catch::Matchers::WithinRel(1.5, 1e-12));
  CHECK_THAT(inverse[0][0], Catch::Matchers::WithinRel(0.375, 1e-12));
  CHECK_THAT(inverse[0][1], Catch::Matchers::WithinRel(-0.25, 1e-12));
  CHECK_THAT(inverse[1][1], Catch::Matchers::WithinRel(0.5, 1e-12));
}

// The profile as its own file has it, without what was fitted.
std::shared_ptr<const SoftwareProfile> without_fit(const SoftwareProfile& profile) {
  auto made = std::make_shared<SoftwareProfile>(profile);
  for (SoftwareValue& number : made->numbers) {
    number.value = number.prior;
  }
  return made;
}

TEST_CASE("a refit moves a host's time towards what a run shows, no further than its prior allows") {
  // A run of NeMo's that took 5 % longer than its profile without fitted numbers predicts: the
  // stack's numbers grow, and what one run can say leaves them within two spreads of the prior.
  std::string text = run_text(plain_plan, "{step_time: 2 s}");
  text.replace(text.find("framework: ideal"), 16, "framework: NeMo");
  ValidationOptions options;
  options.stack = without_fit;
  const ValidationReport before = validate({only_run(text)}, options);
  const double longer = before.scores.at(0).predicted * 1.05;
  MeasuredRun run = only_run(text);
  run.measurements.at(0).value = longer;
  const Refit refit = refit_software({run}, false, nullptr);
  REQUIRE(refit.stacks.size() == 1);
  CHECK(refit.stacks[0].name == "nemo");
  CHECK(refit.stacks[0].runs == std::vector<std::string>{run.id});
  double moved = 0.0;
  for (const RefitNumber& number : refit.stacks[0].numbers) {
    CHECK(number.fitted >= number.prior * (1.0 - 1e-9));
    CHECK(number.fitted <= number.prior + 2.0 * number.prior_spread);
    CHECK(number.posterior <= number.prior_spread * (1.0 + 1e-9));
    moved += number.fitted - number.prior;
  }
  CHECK(moved > 0.0);
  // Left out, its own source leaves the prior: 1 / 1.05 of what was measured.
  const Refit crossed = refit_software({run}, true, nullptr);
  REQUIRE(crossed.sources.size() == 1);
  CHECK_THAT(crossed.sources[0].held_out, Catch::Matchers::WithinAbs(1.0 - 1.0 / 1.05, 1e-6));
  CHECK(crossed.sources[0].refitted < crossed.sources[0].held_out);
  CHECK(crossed.median.held_out == crossed.sources[0].held_out);  // one run: all are it
  CHECK(crossed.mean.held_out == crossed.sources[0].held_out);
}

TEST_CASE("a refit is printed as the file that gives profiles their fitted numbers") {
  std::string text = run_text(plain_plan, "{step_time: 2 s}");
  text.replace(text.find("framework: ideal"), 16, "framework: NeMo");
  const Refit refit = refit_software({only_run(text)}, false, nullptr);
  Diagnostics diagnostics;
  std::map<std::string, std::shared_ptr<SoftwareProfile>> profiles;
  profiles["nemo"] = std::make_shared<SoftwareProfile>(*find_software("nemo"));
  read_software_fit(source_of(refit_text(refit)), profiles, diagnostics);
  CHECK_FALSE(diagnostics.has_errors());
  const SoftwareProfile& fitted = *profiles["nemo"];
  for (const RefitNumber& number : refit.stacks.at(0).numbers) {
    const SoftwareValue& value = fitted.numbers[static_cast<std::size_t>(number.number)];
    CHECK_THAT(value.value, Catch::Matchers::WithinRel(number.fitted, 1e-2));
    CHECK(value.prior == find_software("nemo")->numbers[static_cast<std::size_t>(number.number)].prior);
  }
  CHECK(fitted.fitted_runs.count(only_run(text).id) == 1);
  // A number that the stack's file does not mark, and a stack that does not exist, are mistakes.
  profiles["nemo"]->at(SoftwareNumber::host_step).fit = false;
  read_software_fit(source_of(refit_text(refit)), profiles, diagnostics);
  CHECK(diagnostics.has_errors());
}

TEST_CASE("a method that names an implementation names the stack, whatever benchmark it was run in") {
  std::string text = run_text("{tensor: 1, pipeline: 1, data: 8, zero: 3, recompute: full}",
                              "{step_time: 1 s}");
  text.replace(text.find("framework: ideal"), 16, "framework: BurstEngine bench, method: burst");
  CHECK(only_run(text).draft->software == "bmtrain");
  text.replace(text.find("method: burst"), 13, "method: ds-ulysses");
  CHECK(only_run(text).draft->software == "ds_ulysses");
  text.replace(text.find("method: ds-ulysses"), 18, "method: megatron-cp");
  CHECK(only_run(text).draft->software == "megatron");
  text.replace(text.find("method: megatron-cp"), 19, "method: loong-train-cp-ckpt");
  CHECK(only_run(text).draft->software == "internevo");
}

TEST_CASE("a run whose notes say that peer-to-peer was disabled copies through host memory") {
  // A ring over PCIe: through host memory it is slower than from GPU to GPU.
  std::string text = run_text(
      "{tensor: 1, pipeline: 1, data: 1, zero: 0, recompute: none, context: {method: ring, ring: 8, "
      "order: zigzag}}",
      "{forward_backward_time: 1 s}");
  text.replace(text.find("phase: train"), 12, "phase: attention, pass: forward_backward");
  text.replace(text.find("intra_node: nvswitch"), 20, "intra_node: pcie, pcie_p2p: true");
  const ValidationReport direct = validate({only_run(text)}, {});
  text.replace(text.find(", pcie_p2p: true"), 16, "");
  const ValidationReport staged =
      validate({only_run(text + "    notes: ['peer-to-peer disabled: staged']\n")}, {});
  CHECK(staged.scores.at(0).predicted > direct.scores.at(0).predicted * 1.02);
}
