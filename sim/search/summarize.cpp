#include "sim/search/summarize.h"

#include <algorithm>
#include <cmath>

#include "sim/scenario/words.h"
#include "sim/search/rank_memory.h"
#include "sim/search/uncertainty.h"
#include "sim/topology/cluster_spec.h"
#include "sim/units/band.h"
#include "sim/units/format.h"

namespace longhaul {

namespace {

// Of a sequence's tokens behind those that are cached.
double pairs_of(const Workload& workload) {
  Band band;
  if (workload.mask.kind != MaskKind::full) {
    band.upper = workload.cached_tokens;
  }
  if (workload.mask.kind == MaskKind::window) {
    band.lower = workload.cached_tokens + 1 - workload.mask.window;
  }
  return attended_pairs(band, workload.sequence_length,
                        workload.cached_tokens + workload.sequence_length);
}

// Forward attention FLOPs of one sequence in one layer: 2 products of 2 FLOP per pair and head
// element.
double attention_flops(const Scenario& scenario) {
  const Model& model = scenario.model;
  return 2.0 * static_cast<double>(model.heads * (model.head_dim + value_dim(model))) *
         pairs_of(scenario.workload);
}

double sequences_per_step(const Scenario& scenario) {
  const Workload& workload = scenario.workload;
  return workload.phase == Phase::train || scenario.plan.pipeline > 1
             ? static_cast<double>(workload.global_batch)
             : static_cast<double>(workload.micro_batch * scenario.plan.data);
}

// Forward FLOPs of everything but attention cores, one sequence. A prefill asks the LM head about
// the last token only.
double matrix_flops(const Scenario& scenario) {
  const std::int64_t length = scenario.workload.sequence_length;
  const double whole = forward_flops(scenario.model, 1, length, AttentionFlops::full).value();
  const double square = static_cast<double>(length) * static_cast<double>(length);
  const double head_of_a_token =
      2.0 * static_cast<double>(scenario.model.hidden) * static_cast<double>(scenario.model.vocab);
  const double unasked = scenario.workload.phase == Phase::prefill
                             ? head_of_a_token * static_cast<double>(length - 1)
                             : 0.0;
  return whole - unasked -
         2.0 *
             static_cast<double>(scenario.model.layers * scenario.model.heads *
                                 (scenario.model.head_dim + value_dim(scenario.model))) *
             square;
}

double attention_passes(Pass pass) {
  switch (pass) {
    case Pass::forward: return 1.0;
    case Pass::backward: return 2.5;
    case Pass::forward_backward: break;
  }
  return 3.5;
}

void read_times(const Timeline& timeline, Result& result) {
  double busy = 0.0;
  double exposed = 0.0;
  for (const RankTimes& times : timeline.ranks) {
    for (int cause = 0; cause < cause_count; ++cause) {
      const double seconds =
          SimTime::of_ticks(times.ticks[static_cast<std::size_t>(cause)]).seconds().value();
      if (cause < busy_cause_count) {
        busy += seconds;
      } else if (cause < static_cast<int>(Cause::slower_ranks)) {
        exposed += seconds;
      }
    }
  }
  const double ranks = static_cast<double>(timeline.ranks.size());
  const double step = timeline.end.seconds().value();
  result.compute_time = Seconds::of(busy / ranks);
  result.exposed_communication = Seconds::of(exposed / ranks);
  result.bubble_fraction = step > 0.0 ? 1.0 - busy / ranks / step : 0.0;
}

// How much the host's times differ from machine to machine: the spread of the stack's launch time
// before any run was fitted, for a fit narrows the mean, not the machines.
double host_spread(const SoftwareProfile& stack) {
  const SoftwareValue& launch =
      stack.numbers[static_cast<std::size_t>(SoftwareNumber::host_launch)];
  return launch.prior > 0.0 ? launch.prior_spread / launch.prior : 0.0;
}

// Errors of one cause are taken as one error (they come from the same curve), errors of different
// causes as independent.
void read_critical_path(const Scenario& scenario, const Timeline& timeline, Result& result) {
  const RankTimes& times = timeline.ranks[slowest_rank(timeline).index];
  double variance = 0.0;
  for (int cause = 0; cause < cause_count; ++cause) {
    const auto i = static_cast<std::size_t>(cause);
    if (times.ticks[i] == 0) {
      continue;
    }
    result.critical_path.emplace_back(name_of(static_cast<Cause>(cause)),
                                      SimTime::of_ticks(times.ticks[i]).seconds());
    const double waited = cause == static_cast<int>(Cause::host)
                              ? static_cast<double>(times.ticks[i]) * host_spread(scenario.stack())
                              : 0.0;
    const double error = std::ldexp(times.spread[i] + waited, -SimTime::tick_exponent);
    variance += error * error;
  }
  const double step = result.step_time.value();
  result.cost_spread = step > 0.0 ? std::sqrt(variance) / step : 0.0;
  const Uncertainty& errors = find_uncertainty();
  const Interval interval =
      interval_of(step, errors.band(word_of(phase_words, scenario.workload.phase)),
                  result.cost_spread);
  result.interval_low = Seconds::of(interval.low);
  result.interval_high = Seconds::of(interval.high);
  result.interval_coverage = errors.coverage;
  result.forward_time = times.forward_end.seconds();
}

// Rank r runs on GPU r. The ranks of a node are taken to hold the most at the same time.
void read_host_memory(const Cluster& cluster, const Timeline& timeline, MemoryResult& memory) {
  std::vector<double> nodes(static_cast<std::size_t>(cluster.node_count()), 0.0);
  double most = 0.0;
  for (std::size_t rank = 0; rank < timeline.memory.size(); ++rank) {
    const auto held = static_cast<double>(timeline.memory[rank].host_peak);
    most = std::max(most, held);
    nodes[static_cast<std::size_t>(cluster.node_of(GpuId(rank)))] += held;
  }
  memory.host_peak = Bytes::of(most);
  memory.host_node_peak = Bytes::of(*std::max_element(nodes.begin(), nodes.end()));
  memory.host_capacity = cluster.spec().node.host.memory;
  memory.host_fits =
      memory.host_capacity.value() <= 0.0 || memory.host_node_peak <= memory.host_capacity;
}

void read_memory(const Scenario& scenario, const Program& program, const Timeline& timeline,
                 const KernelCosts& kernels, bool every_stage, MemoryResult& memory) {
  memory.capacity = scenario.cluster.device().memory;
  const auto capacity = static_cast<std::int64_t>(memory.capacity.value());
  const RankId fullest = fullest_rank(timeline);
  const RankId last(timeline.memory.size() - 1);
  const RankMemory worst = memory_of_rank(program, timeline, fullest, kernels, capacity);
  // Ranks of one stage whose peaks are the same have made the same requests.
  const bool alike = program.mesh.coordinate(last, Axis::pipeline) == worst.stage &&
                     timeline.memory[last.index].bytes == timeline.memory[fullest.index].bytes;
  memory.last_rank = alike ? worst : memory_of_rank(program, timeline, last, kernels, capacity);
  memory.last_rank.rank = static_cast<std::int64_t>(last.index);
  memory.last_rank.peak_time = timeline.memory[last.index].when.seconds();
  memory.stages =
      every_stage ? memory_of_stages(program, timeline, kernels, capacity)
                  : memory_of_tight_stages(program, timeline, worst, memory.last_rank, kernels,
                                           capacity);
  memory.peak = worst.peak;
  memory.allocated = worst.allocated;
  memory.peak_rank = worst.rank;
  memory.peak_time = worst.peak_time;
  memory.allocator_reserved = worst.allocator_reserved;
  memory.reserved = worst.reserved;
  const bool device_fits =
      std::all_of(memory.stages.begin(), memory.stages.end(),
                  [&](const RankMemory& one) { return one.reserved <= memory.capacity; });
  read_host_memory(scenario.cluster, timeline, memory);
  memory.fits = device_fits && memory.host_fits;
  memory.positions = memory_of_positions(program.mesh, timeline, fullest);
  for (int i = 0; i < memory_category_count; ++i) {
    const auto bytes = timeline.memory[fullest.index].bytes[static_cast<std::size_t>(i)];
    memory.categories.emplace_back(name_of(static_cast<MemoryCategory>(i)),
                                   Bytes::of(static_cast<double>(bytes)));
  }
}

const char* words_for(const std::string& cause) {
  static constexpr std::pair<const char*, const char*> words[] = {
      {"attention", "attention kernels"},
      {"gemm", "matrix products"},
      {"memory_bound", "memory-bound kernels"},
      {"loss", "the loss"},
      {"optimizer", "the optimizer"},
      {"ring_exchange", "waiting for keys and values from the ring neighbour"},
      {"all_to_all", "waiting for all-to-all exchanges"},
      {"all_gather", "waiting for gathered keys and values"},
      {"expert_parallel", "waiting for tokens on their way to experts and back"},
      {"tensor_parallel", "waiting for tensor-parallel collectives"},
      {"data_parallel", "waiting for gradient and parameter collectives"},
      {"pipeline", "waiting for pipeline neighbours"},
      {"offload", "waiting for copies to or from host memory"},
      {"slower_ranks", "waiting for slower ranks (load imbalance)"},
      {"host", "waiting for the host to launch kernels"},
      {"data_loading", "waiting for data from storage"},
  };
  for (const auto& [name, text] : words) {
    if (cause == name) {
      return text;
    }
  }
  return "gaps without a known cause";
}

std::string bottleneck_of(const Result& result) {
  const auto largest =
      std::max_element(result.critical_path.begin(), result.critical_path.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  if (largest == result.critical_path.end()) {
    return "nothing to do";
  }
  return std::string(words_for(largest->first)) + ": " +
         format_percent(largest->second / result.step_time) + " of the step";
}

const char* convention_of(MaskKind mask) {
  switch (mask) {
    case MaskKind::full: return "full attention, no recompute";
    case MaskKind::window: return "attention within the window, no recompute";
    case MaskKind::causal: break;
  }
  return "causal attention, no recompute";
}

void read_rates(const Scenario& scenario, Result& result) {
  const double step = result.step_time.value();
  const double gpus = static_cast<double>(scenario.gpus);
  const double tokens =
      sequences_per_step(scenario) * static_cast<double>(scenario.workload.sequence_length);
  result.flop_convention = convention_of(scenario.workload.mask.kind);
  if (step <= 0.0) {
    return;
  }
  const double flops = model_flops(scenario).value();
  const Device& device = scenario.cluster.device();
  const DataType compute = scenario.precision.compute;
  const double peak = compute == DataType::fp8 && device.peak_fp8.value() > 0
                          ? device.peak_fp8.value()
                          : compute == DataType::fp32 ? device.peak_fp32.value()
                                                      : device.peak_bf16.value();
  result.tokens_per_second = tokens / step;
  result.tokens_per_second_per_gpu = tokens / step / gpus;
  result.tflops_per_gpu = flops / step / gpus / 1e12;
  result.mfu = flops / step / gpus / peak;
}

void list_inputs(const Scenario& scenario, const KernelCosts& kernels,
                 const TransportCosts& transport, Result& result) {
  result.inputs.emplace_back("model", scenario.model.name);
  for (const std::string& origin : scenario.cluster.origins()) {
    result.inputs.emplace_back("cluster", origin);
  }
  for (const std::string& origin : kernels.origins()) {
    result.inputs.emplace_back("kernels", origin);
  }
  const SoftwareProfile& stack = scenario.stack();
  result.inputs.emplace_back("software", stack.source_name + " sha256:" + stack.hash.substr(0, 16));
  if (!stack.fit_name.empty()) {
    result.inputs.emplace_back("software fit",
                               stack.fit_name + " sha256:" + stack.fit_hash.substr(0, 16));
  }
  const Uncertainty& errors = find_uncertainty();
  result.inputs.emplace_back("uncertainty",
                             errors.source_name + " sha256:" + errors.hash.substr(0, 16));
  for (const std::string& origin : transport.origins()) {
    result.inputs.emplace_back("transport", origin);
  }
}

}  // namespace

Flops model_flops(const Scenario& scenario) {
  const double sequences = sequences_per_step(scenario);
  const double layers = static_cast<double>(scenario.model.layers);
  const Phase phase = scenario.workload.phase;
  if (phase == Phase::attention) {
    return Flops::of(sequences * attention_flops(scenario) *
                     attention_passes(scenario.workload.pass));
  }
  const double forward = sequences * (matrix_flops(scenario) + layers * attention_flops(scenario));
  return Flops::of(phase == Phase::train ? 3.0 * forward : forward);
}

RankId slowest_rank(const Timeline& timeline) {
  std::size_t slowest = 0;
  for (std::size_t rank = 1; rank < timeline.ranks.size(); ++rank) {
    if (timeline.ranks[rank].end > timeline.ranks[slowest].end) {
      slowest = rank;
    }
  }
  return RankId(slowest);
}

Result summarize(const Scenario& scenario, const Program& program, const Timeline& timeline,
                 const KernelCosts& kernels, const TransportCosts& transport, bool every_stage) {
  Result result;
  result.step_time = timeline.end.seconds();
  read_times(timeline, result);
  read_critical_path(scenario, timeline, result);
  read_memory(scenario, program, timeline, kernels, every_stage, result.memory);
  read_rates(scenario, result);
  list_inputs(scenario, kernels, transport, result);
  result.bottleneck = bottleneck_of(result);
  result.calibrated = kernels.calibrated() && transport.calibrated();
  result.extrapolated = timeline.extrapolated;
  result.events = timeline.events;
  result.remarks = scenario.remarks;
  return result;
}

}  // namespace longhaul
