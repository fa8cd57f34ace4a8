// Text and JSON of results: what is said, where it stands, and that nothing is lost or made up.
#include <catch2/catch.hpp>

#include "sim/report/json_report.h"
#include "sim/report/text_report.h"
#include "sim/report/text_table.h"
#include "sim/units/check.h"

using namespace longhaul;
using Catch::Matchers::Contains;

namespace {

Scenario scenario() {
  Diagnostics diagnostics;
  const auto source = std::make_shared<const SourceText>(
      SourceText{"s.yaml",
                 "model: llama3-8b\ncluster: dgx-h100\ngpus: 32\n"
                 "workload: {sequence_length: 1M, global_batch: 2}\n"
                 "plan: {zero: 3, recompute: full, context: {method: usp, ulysses: 8}}\n"});
  const auto map = YamlValue::parse(source, diagnostics);
  REQUIRE(map);
  const auto out = check_scenario(read_scenario(*map, diagnostics), diagnostics);
  INFO(format_diagnostics(diagnostics, false));
  REQUIRE(out);
  return *out;
}

// Figures that no two are alike, so that a figure in the wrong place shows.
Result result() {
  Result r;
  r.step_time = Seconds::of(12.5);
  r.interval_low = Seconds::of(11.25);
  r.interval_high = Seconds::of(13.75);
  r.tokens_per_second = 167772.16;
  r.tokens_per_second_per_gpu = 5242.88;
  r.mfu = 0.4567;
  r.flop_convention = "causal attention, no recompute";
  r.tflops_per_gpu = 451.7;
  r.bubble_fraction = 0.0625;
  r.exposed_communication = Seconds::of(0.75);
  r.compute_time = Seconds::of(11.5);
  r.critical_path = {{"attention", Seconds::of(9.0)}, {"ring_exchange", Seconds::of(3.5)}};
  r.memory.peak = Bytes::of(64.0 * 1073741824.0);
  r.memory.peak_rank = 5;
  r.memory.reserved = r.memory.peak;
  r.memory.capacity = Bytes::of(80.0 * 1073741824.0);
  r.memory.fits = true;
  r.memory.categories = {{"parameters", Bytes::of(48.0 * 1073741824.0)},
                         {"kv_buffers", Bytes::of(16.0 * 1073741824.0)}};
  r.bottleneck = "attention kernels: 72.0 % of the step";
  r.inputs = {{"cluster", "topologies/clusters/dgx-h100.yaml abc"}};
  r.events = 42;
  return r;
}

Alternative row(const std::string& name, bool fits) {
  Alternative out;
  out.name = name;
  out.scenario = scenario();
  out.plan = out.scenario->plan;
  out.result = result();
  if (!fits) {
    out.result->memory.reserved = Bytes::of(81.0 * 1073741824.0);
    out.result->memory.fits = false;
  }
  return out;
}

std::string text_at(const JsonValue& value, const std::vector<std::string>& path) {
  const JsonValue* at = &value;
  for (const std::string& key : path) {
    INFO(key);
    at = at->find(key);
    REQUIRE(at != nullptr);
  }
  return at->dump();
}

}  // namespace

TEST_CASE("columns line up by characters, numbers at the right, no spaces at line ends") {
  TextTable table({{"name", Align::left}, {"n", Align::right}, {"", Align::left}});
  table.add({"µs", "7", "x"});
  table.add({"longer", "1234"});
  CHECK(table.text() ==
        "name       n\n"
        "------  ----  -\n"
        "µs         7  x\n"
        "longer  1234\n");
  CHECK(table.text("  ").substr(0, 6) == "  name");
}

TEST_CASE("a table without titles has rows only, and more cells than columns are a bug") {
  TextTable table({{""}, {""}});
  table.add({"a", "b"});
  CHECK(table.text() == "a  b\n");
  CHECK_THROWS_AS(table.add({"a", "b", "c"}), BugError);
}

TEST_CASE("digits are grouped by three") {
  CHECK(grouped(0) == "0");
  CHECK(grouped(999) == "999");
  CHECK(grouped(1000) == "1,000");
  CHECK(grouped(-1234567) == "-1,234,567");
  CHECK(grouped(-999) == "-999");
}

TEST_CASE("a prediction's JSON holds every key of the contract with its figure") {
  const JsonValue json = result_json(scenario(), result());
  CHECK(text_at(json, {"step_time_s"}) == "12.5");
  CHECK(text_at(json, {"step_time_interval_s"}) == "[11.25,13.75]");
  CHECK(text_at(json, {"interval_coverage"}) == "0.9");
  CHECK(text_at(json, {"tokens_per_second_per_gpu"}) == "5242.88");
  CHECK(text_at(json, {"mfu"}) == "0.4567");
  CHECK(text_at(json, {"flop_convention"}) == "\"causal attention, no recompute\"");
  CHECK(text_at(json, {"bubble_fraction"}) == "0.0625");
  CHECK(text_at(json, {"exposed_communication_s"}) == "0.75");
  CHECK(text_at(json, {"critical_path"}) == "{\"attention\":9,\"ring_exchange\":3.5}");
  // Bytes are whole numbers, printed as such.
  CHECK(text_at(json, {"memory", "peak_bytes"}) == "68719476736");
  CHECK(text_at(json, {"memory", "peak_rank"}) == "5");
  CHECK(text_at(json, {"memory", "reserved_bytes"}) == "68719476736");
  CHECK(text_at(json, {"memory", "capacity_bytes"}) == "85899345920");
  CHECK(text_at(json, {"memory", "fits"}) == "true");
  CHECK(text_at(json, {"memory", "categories"}) ==
        "{\"parameters\":51539607552,\"kv_buffers\":17179869184}");
  CHECK(text_at(json, {"bottleneck"}) == "\"attention kernels: 72.0 % of the step\"");
  CHECK(text_at(json, {"calibrated"}) == "false");
  CHECK_THAT(text_at(json, {"inputs"}), Contains("dgx-h100.yaml abc"));
}

TEST_CASE("the scenario in the JSON spells out what was chosen") {
  const JsonValue json = scenario_json(scenario());
  CHECK(text_at(json, {"model"}) == "\"llama3-8b\"");
  CHECK(text_at(json, {"gpus"}) == "32");
  CHECK(text_at(json, {"workload", "sequence_length"}) == "1048576");
  CHECK(text_at(json, {"workload", "mask"}) == "\"causal\"");
  CHECK(text_at(json, {"plan", "context", "ring"}) == "4");
  CHECK(text_at(json, {"plan", "data"}) == "1");
  CHECK(text_at(json, {"precision", "gradients"}) == "\"fp32\"");
  CHECK(text_at(json, {"attention_kernel"}) == "\"auto\"");
  Scenario windowed = scenario();
  windowed.workload.mask = {MaskKind::window, 4096};
  CHECK(text_at(scenario_json(windowed), {"workload", "mask"}) == "{\"window\":4096}");
}

TEST_CASE("the envelope of success and of failure") {
  Diagnostics diagnostics;
  const auto source = std::make_shared<const SourceText>(SourceText{"s.yaml", "a: b\n"});
  diagnostics.warning({source, 1, 4, 1}, "odd", "this is odd", "look");
  CHECK(success_document("predict", JsonValue::object().set("x", 1), diagnostics).dump() ==
        R"({"format_version":"1.0","ok":true,"command":"predict","result":{"x":1},)"
        R"("diagnostics":[{"severity":"warning","code":"odd","message":"this is odd",)"
        R"("help":"look","file":"s.yaml","line":1,"column":4}]})");
  // What has no place says so with null, not with a line 0.
  Diagnostics nowhere;
  nowhere.error({}, "usage", "what?");
  CHECK(failure_document("", nowhere).dump() ==
        R"({"format_version":"1.0","ok":false,"command":"","diagnostics":[{"severity":"error",)"
        R"("code":"usage","message":"what?","help":null,"file":null,"line":null,"column":null}]})");
}

TEST_CASE("a comparison's JSON numbers what was predicted and says what was rejected") {
  Alternative rejected;
  rejected.name = "ulysses 24";
  rejected.reason = "32 heads";
  const JsonValue json = comparison_json(1048576, {row("best", true), row("big", false), rejected});
  CHECK(text_at(json, {"best"}) == "\"best\"");
  const std::string list = text_at(json, {"alternatives"});
  CHECK_THAT(list, Contains(R"({"rank":1,"name":"best","fits":true,"rejected":false)"));
  CHECK_THAT(list, Contains(R"({"rank":2,"name":"big","fits":false,"rejected":false)"));
  CHECK_THAT(list, Contains(R"({"rank":null,"name":"ulysses 24","fits":false,"rejected":true,)"
                            R"("reason":"32 heads")"));
  CHECK(text_at(comparison_json(1, {row("big", false)}), {"best"}) == "null");
}

TEST_CASE("a prediction's text says what was run, the figures, the verdict and how sure it is") {
  const std::string text = result_text(scenario(), result(), {});
  for (const char* part : {"llama3-8b, 8.03 B parameters, on 32 x",
                           "train, 1M tokens, causal, global batch 2",
                           "usp u8 x r4 zigzag, ulysses inner, zero 3, recompute full",
                           "2 micro-batches of 1",
                           "12.5 s",
                           "90 % interval 11.2 s to 13.8 s",
                           "5,243 per GPU",
                           "45.7 %",
                           "causal attention, no recompute",
                           "750 ms",
                           "6.2 %",
                           "ring exchange",
                           "28.0 %",
                           "kv buffers",
                           "16.0 GiB",
                           "rank 5",
                           "64.0 GiB",
                           "80.0 GiB",
                           "fits",
                           "bottleneck: attention kernels",
                           "uncalibrated"}) {
    CHECK_THAT(text, Contains(part));
  }
}

TEST_CASE("a comparison's text shows the best first and names who does not fit and why") {
  Alternative rejected;
  rejected.name = "ulysses 24";
  rejected.reason = "32 heads do not divide";
  const std::string text =
      comparison_text({row("good plan", true), row("big plan", false), rejected}, {});
  CHECK(text.find("good plan") < text.find("big plan"));
  CHECK_THAT(text, Contains("no: 1.00 GiB short"));
  CHECK_THAT(text, Contains("rejected:\n  ulysses 24  32 heads do not divide\n"));
  CHECK_THAT(text, Contains("best: good plan; its bottleneck: attention kernels"));
  CHECK_THAT(text, Contains("uncalibrated"));
}

TEST_CASE("where nothing fits, or nothing is legal, the text says so instead of naming a best") {
  const std::string big = comparison_text({row("big plan", false)}, {});
  CHECK_THAT(big, Contains("nothing fits; closest: big plan"));
  CHECK_THAT(big, !Contains("best:"));
  Alternative rejected;
  rejected.name = "ring 3";
  CHECK_THAT(comparison_text({rejected}, {}), Contains("no plan is legal"));
}

TEST_CASE("colours come only when asked for") {
  CHECK(result_text(scenario(), result(), {false}).find('\x1b') == std::string::npos);
  CHECK(result_text(scenario(), result(), {true}).find('\x1b') != std::string::npos);
  const std::vector<Alternative> rows{row("a", true)};
  CHECK(comparison_text(rows, {false}).find('\x1b') == std::string::npos);
  CHECK(comparison_text(rows, {true}).find('\x1b') != std::string::npos);
}
