#include "sim/search/pass_costs.h"

#include <algorithm>

#include "sim/engine/engine.h"
#include "sim/program/cursor.h"
#include "sim/schedule/lower.h"
#include "sim/search/software_memory.h"

namespace longhaul {

namespace {

using Places = std::pair<std::size_t, std::size_t>;

// What the instructions at these places have cost a rank: kernels, and waits for collectives between
// them. Messages between stages are no part of a pass.
std::int64_t time_of(const Program& program, const RankTimes& times, const Places& places) {
  std::int64_t ticks = 0;
  for (std::size_t place = places.first; place < places.second; ++place) {
    const PlaceTimes& one = times.places[place];
    const Stream stream = program.code[place].stream;
    if (stream != Stream::pipeline && stream != Stream::pipeline_back) {
      ticks += one.busy + one.waited + one.slower;
    }
  }
  return ticks;
}

// Sums over replicas are no weight gradients.
std::int64_t time_of_last_weights(const Program& program, const RankTimes& times) {
  const Places& places = program.passes.last_weights;
  std::int64_t ticks = 0;
  for (std::size_t place = places.first; place < places.second; ++place) {
    if (program.code[place].part == Part::backward) {
      ticks += time_of(program, times, {place, place + 1});
    }
  }
  return ticks;
}

// The exchange of the program's first message, by itself: every stage to the next.
std::int64_t time_of_message(const Program& program, const Cluster& cluster,
                             const KernelCosts& kernels, const TransportCosts& transport) {
  const auto sends = std::find_if(program.code.begin(), program.code.end(), [](const auto& one) {
    return one.op == Op::exchange && !one.reads.empty();
  });
  Program alone;
  alone.name = "message";
  alone.mesh = program.mesh;
  alone.groups = program.groups;
  for (const char* name : {"sent", "received"}) {
    Tensor tensor = program.tensor(sends->reads[0].tensor);
    tensor.name = name;
    tensor.slots = 1;
    tensor.persistent = true;
    alone.tensors.push_back(tensor);
  }
  // Stages between the ends send and receive in one call: call after call, each would wait for the next.
  const std::int64_t last = program.mesh.size(Axis::pipeline) - 1;
  const auto add_calls = [&](std::int64_t from, std::int64_t to, bool send, bool receive) {
    Instruction call;
    call.op = Op::exchange;
    call.stream = sends->stream;
    call.group = sends->group;
    call.when = {{Index::coordinate(Axis::pipeline), from, to}};
    if (send) {
      call.reads = {{TensorId(0), Index::of(0), std::nullopt, Index::of(0), 0}};
      call.to = {1};
    }
    if (receive) {
      call.writes = {{TensorId(1), Index::of(0), std::nullopt, Index::of(0), 0}};
      call.from = {1};
    }
    alone.code.push_back(call);
  };
  add_calls(0, 0, true, false);
  if (last > 1) {
    add_calls(1, last - 1, true, true);
  }
  add_calls(last, last, false, true);
  return simulate(alone, cluster, kernels, transport).end.ticks();
}

// What is allocated less what is given back in these places, by a whole step of a rank [bytes].
std::int64_t memory_of(const Program& program, RankId rank, const Places& places) {
  double held = 0.0;
  for (Cursor cursor(program, rank); !cursor.done(); cursor.advance()) {
    const Instruction& instruction = cursor.instruction();
    const bool allocates = instruction.op == Op::allocate;
    if (cursor.place() < places.first || cursor.place() >= places.second ||
        !(allocates || instruction.op == Op::release)) {
      continue;
    }
    for (const TensorRef& ref : allocates ? instruction.writes : instruction.reads) {
      held += (allocates ? 1.0 : -1.0) * program.tensor(ref.tensor).slot_bytes().value();
    }
  }
  return static_cast<std::int64_t>(held);
}

RankId a_rank_of(const Mesh& mesh, std::int64_t stage) {
  RankId rank(0);
  while (mesh.coordinate(rank, Axis::pipeline) != stage) {
    rank = RankId(rank.index + 1);
  }
  return rank;
}

}  // namespace

std::optional<Scenario> with_pass_costs(const Scenario& scenario, const KernelCosts& kernels,
                         const TransportCosts& transport) {
  const PipelineSchedule schedule = scenario.plan.schedule;
  if (schedule != PipelineSchedule::zb_1p && schedule != PipelineSchedule::zb_2p) {
    return std::nullopt;
  }
  Scenario first = scenario;
  first.plan.schedule = PipelineSchedule::zb_1p;
  Program program = lower(first);
  add_software_memory(first, program);
  EngineOptions options;
  options.record_details = true;
  const Timeline timeline = simulate(program, scenario.cluster, kernels, transport, options);
  PassCosts costs;
  const auto mean = [&](std::int64_t sum) {
    return std::max<std::int64_t>(1, sum / scenario.micro_batches());
  };
  for (std::int64_t stage = 0; stage < scenario.plan.pipeline; ++stage) {
    const RankId id = a_rank_of(program.mesh, stage);
    const RankTimes& rank = timeline.ranks[id.index];
    const PassPlaces& passes = program.passes;
    const std::int64_t held = memory_of(program, id, passes.forward);
    const std::int64_t freed = -memory_of(program, id, passes.backward);
    costs.held.push_back(mean(held));
    costs.kept.push_back(mean(std::max<std::int64_t>(0, held - freed)));
    costs.forward.push_back(mean(time_of(program, rank, passes.forward)));
    costs.backward.push_back(mean(time_of(program, rank, passes.backward)));
    costs.weights.push_back(mean(time_of(program, rank, passes.weights) +
                                 time_of_last_weights(program, rank)));
  }
  costs.message = time_of_message(program, scenario.cluster, kernels, transport);
  Scenario timed = scenario;
  timed.pass_costs = std::move(costs);
  return timed;
}

}  // namespace longhaul
