// Memory by stage of a pipeline, of the last rank and by position in the sequence.
#include <catch2/catch.hpp>

#include <algorithm>
#include <set>

#include "sim/cost/collective.h"
#include "sim/cost/kernel.h"
#include "sim/engine/engine.h"
#include "sim/schedule/lower.h"
#include "sim/search/memory_bound.h"
#include "sim/search/predict.h"
#include "sim/search/rank_memory.h"
#include "sim/search/software_memory.h"
#include "tests/sim/search/sixteen_gpus.h"

using namespace longhaul;

namespace {

MemoryResult memory_of(const std::string& plan, bool every_stage = true) {
  Diagnostics diagnostics;
  PredictOptions options;
  options.every_stage = every_stage;
  return predict_with(on_sixteen_gpus(plan, 32), options, diagnostics).result.memory;
}

}  // namespace

TEST_CASE("every stage of a pipeline has its own peak, and the fullest is the result's") {
  const MemoryResult memory = memory_of("{tensor: 2, sequence_parallel: true, pipeline: 4}");
  REQUIRE(memory.stages.size() == 4);
  for (std::size_t stage = 0; stage < 4; ++stage) {
    const RankMemory& one = memory.stages[stage];
    CHECK(one.stage == static_cast<std::int64_t>(stage));
    CHECK(one.rank / 4 == one.stage);  // pipeline is the slowest axis
    CHECK(one.ranks == 4);
    CHECK(one.allocated < one.peak);
    CHECK(one.allocator_reserved >= one.allocated);
    CHECK(one.reserved - one.allocator_reserved == one.peak - one.allocated);
    CHECK(one.peak <= memory.peak);
  }
  // 1F1B: an inner stage holds a micro-batch less than the one before it.
  CHECK(memory.stages[1].allocated > memory.stages[2].allocated);
  const RankMemory& fullest = memory.stages[static_cast<std::size_t>(memory.peak_rank / 4)];
  CHECK(fullest.peak == memory.peak);
  CHECK(fullest.reserved == memory.reserved);
}

TEST_CASE("no plan needs less than its bound, with pipelines, too") {
  // A first stage has neither the head nor the layers of others, so its bound is within a fifth of what
  // is held in the end, and no more than that.
  for (const char* plan : {"{pipeline: 4, zero: 1}", "{pipeline: 4, zero: 3, recompute: full}",
                           "{tensor: 2, pipeline: 8, zero: 0, recompute: full}", "{zero: 3}"}) {
    INFO(plan);
    Diagnostics diagnostics;
    const Scenario scenario = on_sixteen_gpus(plan, 32);
    const double bound = memory_lower_bound(scenario).value();
    const double peak = predict(scenario, diagnostics).memory.peak.value();
    CHECK(bound <= peak);
    CHECK(bound > 0.8 * peak);
  }
}

TEST_CASE("the last rank is of the last stage, whether stages are asked for or not") {
  for (const char* order : {"tp-cp-dp-pp", "pp-dp-tp", "tp-pp-dp"}) {
    const std::string plan = std::string("{tensor: 2, pipeline: 4, rank_order: ") + order + "}";
    const MemoryResult all = memory_of(plan);
    const MemoryResult few = memory_of(plan, false);
    CHECK(all.last_rank.rank == 15);
    CHECK(all.last_rank.stage == 3);
    CHECK(all.last_rank.allocated == all.stages.back().allocated);
    CHECK(few.last_rank.allocated == all.last_rank.allocated);
    CHECK(few.last_rank.allocator_reserved == all.stages.back().allocator_reserved);
    REQUIRE(few.stages.size() == 1);
    CHECK(few.stages[0].peak == all.peak);
  }
}

TEST_CASE("whether all stages fit does not depend on how many of them are looked at") {
  const Scenario scenario = on_sixteen_gpus("{pipeline: 8, recompute: none}", 32);
  const Program program = lower(scenario);
  Diagnostics diagnostics;
  const KernelCosts kernels = find_kernel_costs(scenario.cluster.device(), "", diagnostics);
  const Timeline timeline =
      simulate(program, scenario.cluster, kernels,
               find_transport_costs(scenario.cluster, diagnostics));
  const RankId last(timeline.memory.size() - 1);
  std::set<std::size_t> looked_at;
  for (std::int64_t gib = 28; gib <= 80; gib += 4) {
    const std::int64_t capacity = gib << 30;
    const auto of = [&](RankId rank) {
      return memory_of_rank(program, timeline, rank, kernels, capacity);
    };
    const auto overflows = [limit = Bytes::of(static_cast<double>(capacity))](
                               const RankMemory& one) { return one.reserved > limit; };
    const auto all = memory_of_stages(program, timeline, kernels, capacity);
    const auto some = memory_of_tight_stages(program, timeline, of(fullest_rank(timeline)),
                                             of(last), kernels, capacity);
    INFO(gib);
    CHECK(std::count_if(all.begin(), all.end(), overflows) ==
          std::count_if(some.begin(), some.end(), overflows));
    looked_at.insert(some.size());
  }
  CHECK(looked_at.size() > 3);
}

TEST_CASE("a step of weeks is refused with words for the user") {
  Scenario scenario = on_sixteen_gpus("{context: {method: ring, ring: 8}}", 2);
  scenario.workload.sequence_length = std::int64_t{1} << 31;
  Diagnostics diagnostics;
  CHECK_THROWS_AS(predict_with(scenario, {}, diagnostics), InputError);
  REQUIRE(diagnostics.has_errors());
  CHECK_THAT(format_diagnostics(diagnostics, false),
             Catch::Matchers::Contains("one step would take more than 6 days"));
}

TEST_CASE("without a pipeline the one stage is the whole plan") {
  const MemoryResult memory = memory_of("{context: {method: ring, ring: 8}}");
  REQUIRE(memory.stages.size() == 1);
  CHECK(memory.stages[0].ranks == 16);
  CHECK(memory.stages[0].peak == memory.peak);
  CHECK(memory.last_rank.peak == memory.peak);
  CHECK(memory.positions.empty());
}

TEST_CASE("positions in the sequence are told apart where they hold different bytes") {
  // Ranks 0 to 3 are ring positions 0, 1 of two replicas; the second position holds more.
  Mesh mesh;
  mesh.sizes[static_cast<int>(Axis::ring)] = 2;
  mesh.sizes[static_cast<int>(Axis::data)] = 2;
  Timeline timeline;
  timeline.memory.resize(4);
  for (std::size_t rank = 0; rank < 4; ++rank) {
    timeline.memory[rank].total = rank % 2 == 0 ? 100 : 140;
    timeline.memory[rank].communicators = 10;
  }
  timeline.memory[2].total = 101;
  const auto positions = memory_of_positions(mesh, timeline, RankId(0));
  REQUIRE(positions.size() == 2);
  CHECK(positions[0].rank == 2);
  CHECK(positions[0].peak == Bytes::of(101));
  CHECK(positions[1].rank == 1);
  CHECK(positions[1].allocated == Bytes::of(130));
  for (MemoryPeak& peak : timeline.memory) {
    peak.total = 100;
  }
  CHECK(memory_of_positions(mesh, timeline, RankId(0)).empty());
}

TEST_CASE("Transformer Engine keeps a gradient of no use for each shape of a layer's weights") {
  // Llama 3 8B on 2 tensor ranks: qkv 3072 x 4096, output 4096 x 2048, up 14336 x 4096 and down
  // 4096 x 7168 of 2 bytes, whatever the number of layers and stages.
  const auto dummies = [](const char* plan) {
    Diagnostics diagnostics;
    const Scenario scenario = on_sixteen_gpus(plan, 32);
    Program program = lower(scenario);
    add_software_memory(scenario, program);
    std::int64_t bytes = 0;
    for (const Tensor& tensor : program.tensors) {
      if (tensor.name.starts_with("dummy gradient")) {
        CHECK(tensor.persistent);
        CHECK(tensor.slots == 1);
        bytes += static_cast<std::int64_t>(tensor.slot_bytes().value());
      }
    }
    return bytes;
  };
  const std::int64_t layer =
      2 * (3072 * 4096 + 4096 * 2048 + 14336 * 4096 + 4096 * 7168);
  CHECK(dummies("{tensor: 2, sequence_parallel: true}") == layer);
  CHECK(dummies("{tensor: 2, sequence_parallel: true, pipeline: 4}") == layer);
  CHECK(dummies("{tensor: 4, sequence_parallel: true}") == layer / 2);
  CHECK(dummies("{zero: 3}") == 0);
}
