// The flow engine against the reference table, and its shortcuts against the long way.
#include <algorithm>
#include <catch2/catch.hpp>

#include "bench/flows/reference.h"

using namespace longhaul::bench;

namespace {

std::vector<std::string> words(const std::string& text) {
  std::vector<std::string> all;
  std::size_t begin = 0;
  while (begin < text.size()) {
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    all.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return all;
}

void check_same(const Outcome& a, const Outcome& b) {
  CHECK(a.flows == b.flows);
  CHECK(a.events == b.events);
  // Bit for bit: time is counted in integers.
  CHECK(a.makespan == b.makespan);
  CHECK(a.max_fct == b.max_fct);
  CHECK(a.sum_fct == b.sum_fct);
  CHECK(a.sum_end == b.sum_end);
}

constexpr std::int64_t most_events = 290000;  // the others: bench/check_reference

}  // namespace

TEST_CASE("every small case of the reference table is met to 1e-9, percentiles to 1e-7") {
  const auto rows =
      read_reference(std::string(LONGHAUL_SOURCE_DIR) + "/bench/flows/reference_times.csv");
  int checked = 0;
  for (const ReferenceRow& row : rows) {
    if (row.events > most_events) {
      continue;
    }
    const Difference off = compare(row, run_workload(row.words));
    INFO(row.name);
    CHECK(off.times <= time_tolerance);
    CHECK(off.percentiles <= percentile_tolerance);
    ++checked;
  }
  CHECK(checked == 16);
}

TEST_CASE("skipping the periods of a ring is stepping through them") {
  for (const char* shape : {"G=8", "G=64 Tc=0.001", "G=96 S=300 oversub=8", "G=512 S=200",
                            "G=24 bytes=1000 Tc=0.00001 S=1000"}) {
    INFO(shape);
    check_same(run_workload(words(std::string("w=ring ") + shape + " ff=1")),
               run_workload(words(std::string("w=ring ") + shape)));
  }
}

TEST_CASE("skipping the layers of a training step is stepping through them") {
  for (const char* shape : {"G=8 CP=1", "G=64 CP=8", "G=64 CP=4", "G=512 CP=64"}) {
    INFO(shape);
    check_same(run_workload(words(std::string("w=step ") + shape + " ff=1")),
               run_workload(words(std::string("w=step ") + shape)));
  }
}

TEST_CASE("one GPU of each class stands for all of a ring") {
  for (const char* shape : {"G=8", "G=64", "G=256 S=40", "G=512 S=64 oversub=4", "G=1024 S=20"}) {
    INFO(shape);
    check_same(run_workload(words(std::string("w=ringq ") + shape)),
               run_workload(words(std::string("w=ring ") + shape)));
  }
}

TEST_CASE("one GPU of each class stands for all of a training step") {
  for (const char* shape : {"G=8 CP=1", "G=64 CP=8", "G=64 CP=2", "G=512 CP=32", "G=512 CP=4",
                            "G=768 CP=3 oversub=3"}) {
    INFO(shape);
    check_same(run_workload(words(std::string("w=stepq ") + shape)),
               run_workload(words(std::string("w=step ") + shape)));
  }
}

TEST_CASE("what cannot be folded, or is no workload, is refused in words") {
  for (const char* bad : {"w=ring G=1", "w=ringq G=12", "w=ringq G=8 jit=1", "w=stepq G=512 CP=3",
                          "w=a2a G=9 U=2", "w=rnd k=3", "w=what", "w=ring G=eight", "w=ring H=8",
                          "w=ring G=8 G=9", "ring", "w=ring bytes=-1", "w=step G=12"}) {
    INFO(bad);
    CHECK_THROWS_AS(run_workload(words(bad)), ArgumentError);
  }
}
