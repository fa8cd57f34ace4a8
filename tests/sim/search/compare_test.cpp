// What compare tries, how it ranks and what it settles for the user, with figures made up by rule.
#include <algorithm>
#include <catch2/catch.hpp>
#include <set>

#include "tests/sim/search/fake_predictor.h"

using namespace longhaul;
using test::fake_result;
using test::FakeFigures;

namespace {

// Few layers and a small width, so that compare's own bound on memory rules nothing out.
const std::string small_model =
    "{name: small, layers: 2, hidden: 1024, heads: 32, kv_heads: 8, head_dim: 32, ffn: 2048, "
    "vocab: 1000}";

ScenarioDraft draft(const std::string& rest) {
  Diagnostics diagnostics;
  const auto source = std::make_shared<const SourceText>(
      SourceText{"s.yaml", "model: " + small_model + "\ncluster: dgx-h100\n" + rest});
  const auto map = YamlValue::parse(source, diagnostics);
  REQUIRE(map);
  ScenarioDraft out = read_scenario(*map, diagnostics);
  INFO(format_diagnostics(diagnostics, false));
  REQUIRE_FALSE(diagnostics.has_errors());
  return out;
}

std::vector<Alternative> rows_of(const ScenarioDraft& draft, FakeFigures figures = {}) {
  Diagnostics diagnostics;
  const auto rows = compare_methods(
      draft, [&](const Scenario& scenario, Diagnostics&) { return fake_result(scenario, figures); },
      diagnostics);
  INFO(format_diagnostics(diagnostics, false));
  CHECK_FALSE(diagnostics.has_errors());
  return rows;
}

std::set<std::string> names_of(const std::vector<Alternative>& rows) {
  std::set<std::string> names;
  for (const Alternative& row : rows) {
    names.insert(row.name);
  }
  CHECK(names.size() == rows.size());  // no plan twice
  return names;
}

const Alternative& row_of(const std::vector<Alternative>& rows, const std::string& name) {
  const auto found = std::find_if(rows.begin(), rows.end(),
                                  [&](const Alternative& row) { return row.name == name; });
  INFO(name);
  REQUIRE(found != rows.end());
  return *found;
}

}  // namespace

TEST_CASE("on two nodes every method is tried, USP with either part inside") {
  // 16 GPUs: ring, Ulysses and all-gather over 16, USP with 2, 4, 8 heads' shares and both
  // placements, tensor parallelism of 2, 4, 8 with a ring over the rest, and of 8 alone.
  const auto names = names_of(rows_of(draft("gpus: 16\nworkload: {sequence_length: 64k}")));
  const std::set<std::string> expected{"ring 16 zigzag",
                                       "ulysses 16",
                                       "usp u2 x r8 zigzag, ulysses inner",
                                       "usp u2 x r8 zigzag, ring inner",
                                       "usp u4 x r4 zigzag, ulysses inner",
                                       "usp u4 x r4 zigzag, ring inner",
                                       "usp u8 x r2 zigzag, ulysses inner",
                                       "usp u8 x r2 zigzag, ring inner",
                                       "all-gather 16 zigzag",
                                       "tp2+sp x ring 8 zigzag",
                                       "tp4+sp x ring 4 zigzag",
                                       "tp8+sp x ring 2 zigzag",
                                       "tp8+sp x dp2"};
  CHECK(names == expected);
}

TEST_CASE("inside one node the placement changes nothing and is tried once") {
  const auto names = names_of(rows_of(draft("gpus: 8\nworkload: {sequence_length: 64k}")));
  CHECK(names.count("usp u2 x r4 zigzag, ulysses inner") == 1);
  CHECK(names.count("usp u2 x r4 zigzag, ring inner") == 0);
  CHECK(names.count("tp8+sp") == 1);
}

TEST_CASE("a tensor degree of the user's is kept in every row") {
  const auto rows =
      rows_of(draft("gpus: 16\nworkload: {sequence_length: 64k}\n"
                    "plan: {tensor: 2, sequence_parallel: true}"));
  CHECK(rows.size() >= 5);
  for (const Alternative& row : rows) {
    CHECK(row.plan.tensor == 2);
    CHECK(row.plan.context.degree() == 8);
  }
}

TEST_CASE("an order and replicas of the user's are kept in every row") {
  const auto rows =
      rows_of(draft("gpus: 16\nworkload: {sequence_length: 64k}\n"
                    "plan: {data: 2, context: {order: contiguous}}"));
  for (const Alternative& row : rows) {
    CHECK(row.plan.data == 2);
    CHECK(row.plan.context.order == SequenceOrder::contiguous);
    CHECK(row.plan.tensor * row.plan.context.degree() == 8);
  }
}

TEST_CASE("rows that fit come first by time, then those that do not by memory, then the rejected") {
  // 24 ranks: 32 heads divide by 2, 4, 8 only, so USP with 3, 6, 12 and Ulysses 24 are rejected.
  // 55 GiB hold 40 / 24 of states and 1000 / 24 = 42 of activations: the best memory plan has
  // ZeRO 3.
  const auto rows = rows_of(draft("gpus: 24\nworkload: {sequence_length: 96k}"), {55.0});
  int group = 0;
  const Alternative* before = nullptr;
  for (const Alternative& row : rows) {
    const int now = row.fits() ? 0 : row.result ? 1 : 2;
    CHECK(now >= group);
    if (before != nullptr && now == group && now == 0) {
      CHECK(before->result->step_time <= row.result->step_time);
    }
    if (before != nullptr && now == group && now == 1) {
      CHECK(before->result->memory.peak <= row.result->memory.peak);
    }
    group = now;
    before = &row;
  }
  CHECK(rows.front().fits());
  CHECK(group == 2);
  const Alternative& rejected = row_of(rows, "ulysses 24");
  CHECK_FALSE(rejected.scenario);
  CHECK(rejected.reason == "32 heads do not divide by tensor 1 x ulysses 24 = 24");
}

TEST_CASE("replicated KV heads are said beside the row") {
  const auto rows = rows_of(draft("gpus: 16\nworkload: {sequence_length: 64k}"));
  CHECK(row_of(rows, "ulysses 16").reason == "ulysses 16 > 8 KV heads: KV replicated 2x");
  CHECK(row_of(rows, "ring 16 zigzag").reason.empty());
}

TEST_CASE("each row takes the fastest memory plan that fits, the leanest if none does") {
  // On 16 ranks activations are 62.5 GiB (6.25 recomputed), states 40 (2.5 with ZeRO 3).
  const ScenarioDraft open = draft("gpus: 16\nworkload: {sequence_length: 64k}");
  const auto plan_with = [&](double capacity) {
    return row_of(rows_of(open, {capacity}), "ring 16 zigzag");
  };
  const auto is = [](const Alternative& row, int zero, Recompute recompute) {
    return row.plan.zero == zero && row.plan.recompute == recompute;
  };
  CHECK(is(plan_with(102.6), 1, Recompute::none));  // 102.5
  CHECK(is(plan_with(102.4), 3, Recompute::none));  // 65
  CHECK(is(plan_with(64.9), 1, Recompute::full));   // 46.25
  CHECK(is(plan_with(46.2), 3, Recompute::full));   // 8.75
  const Alternative none = plan_with(8.7);
  CHECK(is(none, 3, Recompute::full));
  CHECK_FALSE(none.fits());
}

TEST_CASE("what the user says about memory is not overridden") {
  const auto rows = rows_of(draft("gpus: 16\nworkload: {sequence_length: 64k}\n"
                                  "plan: {zero: 2, recompute: selective}"),
                            {1.0});
  for (const Alternative& row : rows) {
    CHECK(row.plan.zero == 2);
    CHECK(row.plan.recompute == Recompute::selective);
  }
}

TEST_CASE("all rows run the same batch, the smallest that every plan's replicas divide") {
  // tp8 alone leaves two replicas: two sequences of micro-batch 3 each.
  for (const Alternative& row :
       rows_of(draft("gpus: 16\nworkload: {sequence_length: 64k, micro_batch: 3}"))) {
    CHECK(row.scenario->workload.global_batch == 6);
  }
  // A batch of the user's stays, and rejects whom it does not suit.
  const auto rows = rows_of(draft("gpus: 16\nworkload: {sequence_length: 64k, global_batch: 1}"));
  CHECK(row_of(rows, "ring 16 zigzag").result);
  CHECK_FALSE(row_of(rows, "tp8+sp x dp2").result);
}

TEST_CASE("rows do not depend on how many workers predict them") {
  const ScenarioDraft open = draft("gpus: 24\nworkload: {sequence_length: 96k}");
  ScenarioDraft shared = open;  // a cluster that is already there is left to one worker
  Diagnostics diagnostics;
  resolve_cluster(shared, diagnostics);
  const auto many = rows_of(open);
  const auto one = rows_of(shared);
  REQUIRE(many.size() == one.size());
  for (std::size_t i = 0; i < many.size(); ++i) {
    CHECK(many[i].name == one[i].name);
    CHECK(many[i].reason == one[i].reason);
  }
}

TEST_CASE("a mistake that no plan can mend is an error, not a table of rejections") {
  Diagnostics diagnostics;
  const auto never = [](const Scenario&, Diagnostics&) -> Result {
    FAIL("nothing of this may be predicted");
    return {};
  };
  CHECK(compare_methods(draft("gpus: 16\nworkload: {phase: decode, sequence_length: 64k}"), never,
                        diagnostics)
            .empty());
  CHECK(diagnostics.has_errors());
  CHECK(diagnostics.all()[0].code == "no-schedule");
  Diagnostics missing;
  CHECK(compare_methods(draft("gpus: 16"), never, missing).empty());
  REQUIRE(missing.has_errors());
  CHECK(missing.all()[0].message == "the scenario has no 'sequence_length'");
}

TEST_CASE("a prediction that refuses every plan is passed on with its words") {
  Diagnostics diagnostics;
  const auto refusing = [](const Scenario&, Diagnostics&) -> Result {
    Diagnostics own;
    own.error({}, "no-profile", "no profile for this");
    throw InputError(own);
  };
  CHECK(compare_methods(draft("gpus: 16\nworkload: {sequence_length: 64k}"), refusing, diagnostics)
            .empty());
  REQUIRE(diagnostics.has_errors());
  CHECK(diagnostics.all()[0].message == "no profile for this");
}

TEST_CASE("a warning that many rows give is said once") {
  Diagnostics diagnostics;
  const auto warning = [](const Scenario& scenario, Diagnostics& said) {
    said.warning({}, "generic-profile", "the same for all");
    return fake_result(scenario, {});
  };
  compare_methods(draft("gpus: 16\nworkload: {sequence_length: 64k}"), warning, diagnostics);
  CHECK(diagnostics.all().size() == 1);
}

TEST_CASE("scenarios side by side are ranked as they stand, and a wrong one is an error") {
  const auto predictor = [](const Scenario& scenario, Diagnostics&) {
    return fake_result(scenario, {200.0});
  };
  const NamedDraft slow{"slow", draft("gpus: 16\nworkload: {sequence_length: 64k}\n"
                                      "plan: {context: {method: ring}}")};
  const NamedDraft fast{"fast", draft("gpus: 16\nworkload: {sequence_length: 64k}\n"
                                      "plan: {context: {method: ulysses}}")};
  Diagnostics diagnostics;
  const auto rows = compare_scenarios({slow, fast}, predictor, diagnostics);
  REQUIRE(rows.size() == 2);
  CHECK(rows[0].name == "fast");
  CHECK(rows[1].name == "slow");
  NamedDraft wrong = slow;
  wrong.draft.workload.sequence_length = 100001;
  CHECK(compare_scenarios({fast, wrong}, predictor, diagnostics).empty());
  CHECK(diagnostics.has_errors());
}
