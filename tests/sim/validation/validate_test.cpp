// Measured runs: reading, turning rates into times, scoring.
#include <catch2/catch.hpp>

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
         "    software: {framework: test, attention: FA3}\n"
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
  plan.replace(plan.find("pipeline: 1"), 11, "pipeline: 4");
  const MeasuredRun run = only_run(run_text(plan, "{step_time: 2 s}"));
  CHECK(run.skip_reason == "pipeline parallelism has no schedule yet");
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
  const ValidationReport report = validate({run}, nullptr);
  REQUIRE(report.scores.size() == 2);
  CHECK(report.scores[0].predicted > 0.1);
  CHECK(report.scores[0].predicted < 20.0);
  CHECK(report.scores[1].quantity == "out_of_memory");
}
