// The real program: exit codes, where it speaks, what it says when the user is wrong.
#include <catch2/catch.hpp>

#include "sim/input/yaml.h"
#include "tests/cli/run_longhaul.h"

using Catch::Matchers::Contains;
using longhaul::test::run;
using longhaul::test::Said;

namespace {

// Parses a JSON document (by the YAML reader's JSON mode) and returns whether "ok" is true.
bool is_ok(const std::string& text) {
  auto source = std::make_shared<longhaul::SourceText>();
  source->name = "output";
  source->text = text;
  longhaul::Diagnostics diagnostics;
  const auto document = longhaul::YamlValue::parse_json(source, diagnostics);
  REQUIRE(document);
  REQUIRE(document->find("format_version"));
  REQUIRE(document->find("diagnostics"));
  return document->find("ok")->scalar() == "true";
}

}  // namespace

TEST_CASE("alone it shows three examples and is content") {
  const Said said = run("");
  CHECK(said.exit_code == 0);
  CHECK_THAT(said.out, Contains("longhaul compare llama3-8b dgx-h100 --gpus 32 --seq 1M"));
  CHECK_THAT(said.out, Contains("longhaul predict"));
  CHECK_THAT(said.out, Contains("longhaul list"));
  CHECK(said.err.empty());
}

TEST_CASE("a prediction goes to standard output, and what does not fit exits with 1") {
  const Said fits =
      run("predict llama3-8b dgx-h100 --gpus 8 --seq 32k --method ring --zero 3 "
          "--recompute full");
  CHECK(fits.exit_code == 0);
  CHECK_THAT(fits.out, Contains("step time"));
  CHECK_THAT(fits.out, Contains("uncalibrated"));
  const Said short_of = run("predict llama3-70b dgx-h100 --gpus 8 --seq 32k --zero 0");
  CHECK(short_of.exit_code == 1);
}

TEST_CASE("a misspelt command, flag, model or cluster is answered with a suggestion and exit 2") {
  const Said command = run("predcit");
  CHECK(command.exit_code == 2);
  CHECK_THAT(command.err, Contains("did you mean 'predict'"));
  CHECK(command.out.empty());
  const Said flag = run("predict llama3-8b dgx-h100 --gpsu 8 --seq 8k");
  CHECK(flag.exit_code == 2);
  CHECK_THAT(flag.err, Contains("did you mean '--gpus'"));
  const Said model = run("predict llama3-8x dgx-h100 --gpus 8 --seq 8k");
  CHECK(model.exit_code == 2);
  CHECK_THAT(model.err, Contains("llama3-8b"));
  const Said cluster = run("predict llama3-8b dgx-h10 --gpus 8 --seq 8k");
  CHECK(cluster.exit_code == 2);
  CHECK_THAT(cluster.err, Contains("dgx-h100"));
}

TEST_CASE("with --json there is exactly one document, for errors too") {
  const Said good = run("predict llama3-8b dgx-h100 --gpus 8 --seq 32k --method ulysses --json");
  CHECK(is_ok(good.out));
  for (const char* key : {"step_time_s", "step_time_interval_s", "tokens_per_second_per_gpu", "mfu",
                          "bubble_fraction", "exposed_communication_s", "critical_path",
                          "peak_bytes", "capacity_bytes", "bottleneck", "inputs"}) {
    CHECK_THAT(good.out, Contains("\"" + std::string(key) + "\""));
  }
  const Said bad = run("predict llama3-8b dgx-h100 --gpus 7 --seq 32k --method ulysses --json");
  CHECK(bad.exit_code == 2);
  CHECK_FALSE(is_ok(bad.out));
}

TEST_CASE("all mistakes of a scenario are told at once, with their places") {
  const Said said = run("check -",
                        "printf 'model: llama3-8b\\ncluster: dgx-h100\\ngpus: 8\\n"
                        "workload: {sequence_length: 1000, masc: causal}\\n"
                        "plan: {context: {method: rinng, ring: 8}}\\n' |");
  CHECK(said.exit_code == 2);
  CHECK_THAT(said.err, Contains("masc"));
  CHECK_THAT(said.err, Contains("did you mean 'mask'"));
  CHECK_THAT(said.err, Contains("rinng"));
  CHECK_THAT(said.err, Contains(":4:"));
  CHECK_THAT(said.err, Contains(":5:"));
}

TEST_CASE("a file that cannot be read is the only mistake that is told about it") {
  for (const char* file : {"/nonexistent.yaml", "/dev/null", "'" LONGHAUL_BINARY "'"}) {
    const Said said = run("predict " + std::string(file));
    INFO(file);
    CHECK(said.exit_code == 2);
    CHECK(said.err.find("has no 'model'") == std::string::npos);
    CHECK_THAT(said.err, Contains("1 error"));
  }
  const Said both = run("check /nonexistent.yaml /nowhere.yaml");
  CHECK_THAT(both.err, Contains("/nonexistent.yaml"));
  CHECK_THAT(both.err, Contains("/nowhere.yaml"));
}

TEST_CASE("an output that cannot be written is exit 4, before any work") {
  const Said said =
      run("predict llama3-8b dgx-h100 --gpus 8 --seq 8k -o /nonexistent-folder/result.txt");
  CHECK(said.exit_code == 4);
  CHECK_THAT(said.err, Contains("/nonexistent-folder/result.txt"));
}

TEST_CASE("no colour reaches a file or a pipe") {
  const Said said = run("compare llama3-8b dgx-h100 --gpus 8 --seq 32k");
  CHECK(said.exit_code == 0);
  CHECK(said.out.find('\x1b') == std::string::npos);
}

TEST_CASE("compare ranks the legal methods and says why others are not") {
  const Said said = run("compare llama3-8b dgx-h100 --gpus 32 --seq 128k --global-batch 1");
  CHECK(said.exit_code == 0);
  for (const char* word : {"ring 32", "ulysses 32", "usp u8 x r4", "all-gather 32", "tp8+sp",
                           "KV replicated 4x", "rejected", "next: longhaul predict"}) {
    CHECK_THAT(said.out, Contains(word));
  }
}

TEST_CASE("catalogue, files and wiring can be looked at") {
  CHECK_THAT(run("list").out, Contains("llama3-8b"));
  CHECK_THAT(run("list clusters").out, Contains("gb200-nvl72"));
  CHECK_THAT(run("show llama3-8b").out, Contains("8,030,261,248"));
  CHECK_THAT(run("topology show dgx-h100 --gpus 16").out, Contains("leaf"));
  CHECK_THAT(run("topology show dgx-h100 --gpus 16 --dot").out, Contains("graph "));
  CHECK_THAT(run("--version").out, Contains("longhaul"));
}

TEST_CASE("the same command prints the same bytes") {
  const std::string command = "predict examples/ring-attention-only.yaml --json";
  CHECK(run(command).out == run(command).out);
}
