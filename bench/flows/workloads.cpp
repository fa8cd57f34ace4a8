#include "bench/flows/workloads.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <memory>

#include "bench/flows/exchanges.h"
#include "bench/flows/phased.h"

namespace longhaul::bench {

namespace {

constexpr double mib = 1048576.0;
constexpr std::int64_t most_gpus = 1 << 20;

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// No step in which a GPU sends `bytes` over a leaf that all its pod uses takes longer, twice over.
double slowest(double bytes, double oversubscription) {
  return 2.0 * (bytes * (oversubscription + 1.0) / Rail8::nic + bytes / Rail8::nvlink + 1e-5);
}

void add_percentiles(Outcome& outcome, const Simulation& simulation) {
  std::vector<std::int64_t> times = simulation.completion_times();
  std::sort(times.begin(), times.end());
  const std::size_t n = times.size();
  for (const std::size_t place : {n / 2, n * 99 / 100, n * 999 / 1000}) {
    if (n > 0) {
      outcome.percentiles.push_back(simulation.seconds(static_cast<double>(times[place])));
    }
  }
}

template <class Workload>
Outcome measure(Workload& workload, std::int64_t multiplicity) {
  const double begin = cpu_seconds();
  workload.run();
  Outcome outcome;
  outcome.run_s = cpu_seconds() - begin;
  const Simulation& simulation = workload.simulation();
  const Totals& totals = simulation.totals();
  const auto times = static_cast<double>(multiplicity);
  outcome.flows = totals.flows * multiplicity;
  outcome.computes = totals.computes * multiplicity;
  outcome.timers = totals.timers * multiplicity;
  outcome.events = 2 * outcome.flows + outcome.computes + outcome.timers;
  outcome.makespan = simulation.seconds(static_cast<double>(totals.end));
  outcome.sum_fct = times * simulation.seconds(static_cast<double>(totals.sum_fct));
  outcome.sum_end = times * simulation.seconds(static_cast<double>(totals.sum_end));
  outcome.max_fct = simulation.seconds(static_cast<double>(totals.max_fct));
  outcome.solves = simulation.network().solves();
  outcome.rates_solved = simulation.network().rates_solved();
  add_percentiles(outcome, simulation);
  return outcome;
}

struct Common {
  std::int64_t gpus;
  double oversubscription;
  bool jitter;
};

Common read_common(Arguments& arguments) {
  Common common{};
  common.gpus = arguments.integer("G", 8, 1, most_gpus);
  common.oversubscription = arguments.number("oversub", 2.0);
  common.jitter = arguments.integer("jit", 0, 0, 1) == 1;
  if (common.oversubscription <= 0.0) {
    throw ArgumentError("oversub wants a positive number");
  }
  return common;
}

void refuse_jitter(const Common& common, const std::string& name) {
  if (common.jitter) {
    throw ArgumentError(name + " folds equal GPUs; with jit=1 no two are equal");
  }
}

Outcome ring(Arguments& arguments, bool folded) {
  const Common common = read_common(arguments);
  Phase phase;
  phase.kind = PhaseKind::attending;
  phase.steps = arguments.integer("S", common.gpus, 1, std::int64_t{1} << 40);
  phase.bytes = arguments.number("bytes", 64 * mib);
  phase.seconds = arguments.number("Tc", 0.0005);
  const bool skip = arguments.integer("ff", 0, 0, 1) == 1;
  arguments.check_all_used();
  if (common.gpus < 2) {
    throw ArgumentError("a ring wants at least two GPUs: G=" + std::to_string(common.gpus));
  }
  const double step = 1.1 * phase.seconds + slowest(phase.bytes, common.oversubscription);
  const double longest = static_cast<double>(phase.steps) * step;
  std::unique_ptr<Wiring> wiring;
  if (folded) {
    refuse_jitter(common, "ringq");
    wiring = std::make_unique<FoldedRing>(common.gpus, common.oversubscription);
  } else {
    wiring = std::make_unique<RailRings>(common.gpus, 1, common.oversubscription, true);
  }
  Phased workload(*wiring, {phase}, {common.jitter, skip && !common.jitter, {}, longest});
  return measure(workload, wiring->multiplicity());
}

Outcome exchanges(Arguments& arguments) {
  const Common common = read_common(arguments);
  ExchangeShape shape;
  shape.gpus = common.gpus;
  shape.degree = arguments.integer("U", 8, 2, 1 << 16);
  shape.exchanges = 4 * arguments.integer("L", 32, 1, 1 << 20);
  shape.bytes = arguments.number("bytes", 64 * mib);
  shape.seconds = arguments.number("Tc", 0.2e-3);
  shape.oversubscription = common.oversubscription;
  shape.jitter = common.jitter;
  arguments.check_all_used();
  if (shape.gpus % shape.degree != 0) {
    throw ArgumentError("G must be a multiple of U");
  }
  const double step = 1.1 * shape.seconds + slowest(shape.bytes, common.oversubscription);
  Exchanges workload(shape, static_cast<double>(shape.exchanges) * step);
  return measure(workload, 1);
}

Phase passing(Ring ring, std::int64_t steps, double bytes) {
  Phase phase;
  phase.kind = PhaseKind::passing;
  phase.ring = ring;
  phase.steps = steps;
  phase.bytes = bytes;
  return phase;
}

Phase computing(double seconds) {
  Phase phase;
  phase.seconds = seconds;
  return phase;
}

double longest_of(const std::vector<Phase>& phases, double oversubscription) {
  double sum = 0.0;
  for (const Phase& phase : phases) {
    const double step = 1.1 * phase.seconds + slowest(phase.bytes, oversubscription);
    sum += static_cast<double>(std::max<std::int64_t>(1, phase.steps)) * step;
  }
  return sum;
}

// Nodes and phases that all GPUs go through; then one all-reduce along the rails.
void add_all_reduce(std::vector<Phase>& phases, std::int64_t nodes, double bytes) {
  if (nodes > 1) {
    phases.push_back(
        passing(Ring::all, 2 * (nodes - 1), std::floor(bytes / static_cast<double>(nodes))));
  }
}

void need_whole_nodes(const Common& common) {
  if (common.gpus % Rail8::node != 0) {
    throw ArgumentError("G must be a multiple of 8: whole nodes");
  }
}

Outcome megatron(Arguments& arguments) {
  const Common common = read_common(arguments);
  need_whole_nodes(common);
  const std::int64_t layers = arguments.integer("L", 4, 1, 1 << 20);
  const double sequence = arguments.number("S", 128 * mib);
  const double gradients = arguments.number("D", 1024 * mib);
  const double seconds = arguments.number("Tc", 0.5e-3);
  arguments.check_all_used();
  std::vector<Phase> phases;
  for (std::int64_t i = 0; i < 4 * layers; ++i) {
    phases.push_back(i % 2 == 0 ? passing(Ring::inner, 7, sequence / 8.0) : computing(seconds));
    phases.back().jitter = i;
  }
  add_all_reduce(phases, common.gpus / Rail8::node, gradients);
  const RailRings wiring(common.gpus, 1, common.oversubscription, false);
  const double longest = longest_of(phases, common.oversubscription);
  Phased workload(wiring, phases, {common.jitter, false, {}, longest});
  return measure(workload, 1);
}

// One training step of a transformer of 32 layers (hidden 4096, 8 KV heads' worth of 1024 keys and
// 1024 values, MLP 14336) on 2^20 tokens with tensor parallelism 8 and ring attention over `group`.
std::vector<Phase> step_phases(std::int64_t group, std::int64_t nodes) {
  constexpr double hidden = 4096.0;
  constexpr double rate = 4e14;
  const double tokens = 1048576.0 / static_cast<double>(group);
  const double sequence = std::floor(tokens * hidden * 2.0 / 8.0);
  const double qkv = hidden * (hidden + 2048.0);
  const double out = hidden * hidden;
  const double mlp = 3.0 * hidden * 14336.0;
  std::vector<Phase> phases;
  const auto exchange = [&] { phases.push_back(passing(Ring::inner, 7, sequence)); };
  const auto product = [&](double weights) {
    phases.push_back(computing(2.0 * tokens * weights / 8.0 / rate));
  };
  const auto attention = [&](double factor, double bytes) {
    Phase phase = passing(Ring::outer, group, tokens * bytes);
    phase.kind = PhaseKind::attending;
    phase.seconds = factor * (2.0 * tokens * tokens * (hidden / 8.0) / rate);
    phases.push_back(phase);
  };
  for (int layer = 0; layer < 32; ++layer) {
    exchange(), product(qkv), attention(1.0, 512.0), product(out), exchange();
    exchange(), product(mlp), exchange();
  }
  for (int layer = 0; layer < 32; ++layer) {
    exchange(), product(2.0 * mlp), exchange(), exchange(), product(2.0 * out);
    attention(2.5, 1024.0), product(2.0 * qkv), exchange();
  }
  for (std::size_t i = 0; i < phases.size(); ++i) {
    const bool attends = phases[i].kind == PhaseKind::attending;
    phases[i].jitter = static_cast<std::int64_t>(attends ? i * 131 : i);
  }
  add_all_reduce(phases, nodes, std::floor(7e9 * 2.0 / 8.0));
  return phases;
}

Outcome training_step(Arguments& arguments, bool folded) {
  const Common common = read_common(arguments);
  need_whole_nodes(common);
  const std::int64_t nodes = common.gpus / Rail8::node;
  const std::int64_t group = arguments.integer("CP", 1, 1, nodes);
  const bool skip = arguments.integer("ff", folded ? 1 : 0, 0, 1) == 1;
  arguments.check_all_used();
  if (nodes % group != 0) {
    throw ArgumentError("the nodes (G/8) must be a multiple of CP");
  }
  const std::vector<Phase> phases = step_phases(group, nodes);
  std::unique_ptr<Wiring> wiring;
  if (folded) {
    refuse_jitter(common, "stepq");
    wiring = std::make_unique<FoldedRails>(common.gpus, group, common.oversubscription);
  } else {
    wiring = std::make_unique<RailRings>(common.gpus, group, common.oversubscription, false);
  }
  // 32 layers forward and 32 backward, of 8 phases each.
  PhasedOptions options{common.jitter, skip && !common.jitter, {{0, 8, 32}, {256, 8, 32}}, 1.0};
  options.longest = longest_of(phases, common.oversubscription);
  Phased workload(*wiring, phases, options);
  return measure(workload, wiring->multiplicity());
}

Outcome random_flows(Arguments& arguments) {
  const std::int64_t k = arguments.integer("k", 8, 2, 128);
  const std::int64_t oversubscription = arguments.integer("o", 2, 1, 64);
  const std::int64_t flows = arguments.integer("N", 10000, 1, 1 << 30);
  const std::int64_t seed = arguments.integer("seed", 1, 0, INT64_MAX);
  arguments.check_all_used();
  if (k % 2 != 0) {
    throw ArgumentError("k=" + std::to_string(k) + ": a fat tree wants an even k");
  }
  RandomFlows workload(k, oversubscription, flows, static_cast<std::uint64_t>(seed));
  return measure(workload, 1);
}

}  // namespace

Outcome run_workload(const std::vector<std::string>& words) {
  Arguments arguments(words);
  const std::string name = arguments.text("w");
  if (name == "ring" || name == "ringq") {
    return ring(arguments, name == "ringq");
  }
  if (name == "a2a") {
    return exchanges(arguments);
  }
  if (name == "meg") {
    return megatron(arguments);
  }
  if (name == "rnd") {
    return random_flows(arguments);
  }
  if (name == "step" || name == "stepq") {
    return training_step(arguments, name == "stepq");
  }
  throw ArgumentError("w=" + name + ": want one of ring, ringq, a2a, meg, rnd, step, stepq");
}

}  // namespace longhaul::bench
