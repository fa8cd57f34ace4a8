// What a step and a peak consist of.
#include <catch2/catch.hpp>

#include "sim/search/predict.h"
#include "tests/sim/search/sixteen_gpus.h"

using namespace longhaul;

namespace {

Scenario scenario_of(const std::string& plan, const std::string& length) {
  return on_sixteen_gpus(plan, "sequence_length: " + length);
}

const std::string ring = "{context: {method: ring, ring: 16}, recompute: full}";
const std::string usp = "{context: {method: usp, ring: 2, ulysses: 8}, recompute: full, zero: 3}";

std::int64_t ticks_of(const Explanation& explanation) {
  std::int64_t sum = 0;
  for (const TimeRow& row : explanation.time) {
    sum += row.ticks;
  }
  return sum;
}

std::int64_t bytes_of(const Explanation& explanation) {
  std::int64_t sum = 0;
  for (const MemoryRow& row : explanation.memory) {
    sum += row.bytes;
  }
  return sum;
}

}  // namespace

TEST_CASE("causes sum to the step and owners to the peak, to the tick and the byte") {
  for (const std::string& plan : {ring, usp}) {
    Diagnostics diagnostics;
    const Explained explained = predict_explained(scenario_of(plan, "64k"), diagnostics);
    CHECK(SimTime::of_ticks(ticks_of(explained.explanation)).seconds() ==
          explained.result.step_time);
    CHECK(static_cast<double>(bytes_of(explained.explanation)) ==
          explained.result.memory.peak.value());
  }
}

TEST_CASE("causes by label sum to the rows of the critical path") {
  Diagnostics diagnostics;
  const Explained explained = predict_explained(scenario_of(usp, "64k"), diagnostics);
  REQUIRE_FALSE(explained.result.critical_path.empty());
  for (const auto& [cause, seconds] : explained.result.critical_path) {
    std::int64_t ticks = 0;
    for (const TimeRow& row : explained.explanation.time) {
      ticks += row.cause == cause ? row.ticks : 0;
    }
    INFO(cause);
    CHECK(SimTime::of_ticks(ticks).seconds() == seconds);
  }
}

TEST_CASE("waiting for a message is told by its name: nothing that ranks exchange is 'other'") {
  Diagnostics diagnostics;
  const std::string queries = "{tensor: 8, context: {method: ring, ring: 2, variant: pass_q}}";
  const std::string stages = "{pipeline: 16}";
  const auto waits = [&](const std::string& plan, const std::string& workload,
                         const std::string& label) {
    double seconds = 0.0;
    for (const TimeRow& row :
         predict_explained(on_sixteen_gpus(plan, workload), diagnostics).explanation.time) {
      CHECK(row.cause != "other");
      seconds += row.label == label ? SimTime::of_ticks(row.ticks).seconds().value() : 0.0;
    }
    return seconds;
  };
  CHECK(waits(queries, "phase: prefill, sequence_length: 4k, cached_tokens: 60k",
              "return of partial attention") > 0.0);
  CHECK(waits(stages, "sequence_length: 4k, global_batch: 16", "receive gradient") > 0.0);
}

TEST_CASE("explaining changes no prediction, also where turns are skipped and ranks folded") {
  Diagnostics diagnostics;
  const Scenario scenario = scenario_of(usp, "64k");
  const Result plain = predict(scenario, diagnostics);
  const Result explained = predict_explained(scenario, diagnostics).result;
  CHECK(plain.step_time == explained.step_time);
  CHECK(plain.memory.peak == explained.memory.peak);
  CHECK(plain.events == explained.events);
}

TEST_CASE("a difference sums to the difference of the steps and of the peaks") {
  Diagnostics diagnostics;
  const Explained a = predict_explained(scenario_of(ring, "64k"), diagnostics);
  const Explained b = predict_explained(scenario_of(usp, "128k"), diagnostics);
  const Difference difference = difference_of(a.explanation, b.explanation);
  std::int64_t ticks = 0;
  for (const TimeChange& change : difference.time) {
    CHECK(change.after - change.before == change.row.ticks);
    ticks += change.row.ticks;
  }
  CHECK(ticks == ticks_of(b.explanation) - ticks_of(a.explanation));
  std::int64_t bytes = 0;
  for (const MemoryChange& change : difference.memory) {
    bytes += change.row.bytes;
  }
  CHECK(bytes == bytes_of(b.explanation) - bytes_of(a.explanation));
}

TEST_CASE("nothing differs from itself") {
  Diagnostics diagnostics;
  const Explained a = predict_explained(scenario_of(ring, "64k"), diagnostics);
  const Difference difference = difference_of(a.explanation, a.explanation);
  CHECK(difference.time.empty());
  CHECK(difference.memory.empty());
}

TEST_CASE("only the ring's method explains its exchanges: all-to-alls appear with Ulysses") {
  Diagnostics diagnostics;
  const auto waits_in = [&](const std::string& plan, const std::string& cause) {
    for (const TimeRow& row : predict_explained(scenario_of(plan, "64k"), diagnostics)
                                  .explanation.time) {
      if (row.cause == cause) {
        CHECK_FALSE(row.group.empty());
        return true;
      }
    }
    return false;
  };
  CHECK(waits_in(usp, "all_to_all"));
  CHECK_FALSE(waits_in(ring, "all_to_all"));
}
