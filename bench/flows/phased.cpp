#include "bench/flows/phased.h"

#include "bench/flows/jitter.h"

namespace longhaul::bench {

namespace {

// A ring that has not settled after so many looks at its state is jittered: looking costs O(GPUs).
constexpr std::int64_t most_looks = 64;

}  // namespace

Phased::Phased(const Wiring& wiring, std::vector<Phase> phases, PhasedOptions options)
    : wiring_(wiring),
      phases_(std::move(phases)),
      gpus_(static_cast<std::size_t>(wiring.gpus())),
      options_(std::move(options)),
      simulation_(wiring.capacities(), options_.longest) {
  Counts received{};
  for (const Phase& phase : phases_) {
    received_.push_back(received);
    if (phase.kind == PhaseKind::compute) {
      continue;
    }
    const auto ring = static_cast<std::size_t>(phase.ring);
    for (std::uint32_t gpu = 0; next_[ring].size() < gpus_.size(); ++gpu) {
      next_[ring].push_back(wiring_.hop(phase.ring, gpu).to);
    }
    received[ring] += phase.kind == PhaseKind::passing ? phase.steps : phase.steps - 1;
  }
}

void Phased::run() {
  for (std::uint32_t gpu = 0; gpu < gpus_.size(); ++gpu) {
    enter(gpu);
  }
  simulation_.run(*this);
}

std::int64_t Phased::span_of(std::uint32_t gpu, const Phase& phase, std::int64_t i) const {
  return simulation_.ticks(options_.jitter ? phase.seconds * jitter_factor(gpu, i) : phase.seconds);
}

void Phased::enter(std::uint32_t gpu) {
  Gpu& state = gpus_[gpu];
  if (state.phase == phases_.size()) {
    return;
  }
  state.step = 0;
  state.sent = 0;
  if (options_.skip && gpu == 0) {
    for (const PhaseLoop& loop : options_.loops) {
      const std::uint32_t turn = (state.phase - loop.first) / loop.phases;
      if (state.phase == loop.first + turn * loop.phases && turn < loop.turns) {
        look_at_turn(loop);
      }
    }
  }
  const Phase& phase = phases_[state.phase];
  if (phase.kind == PhaseKind::compute) {
    simulation_.compute(span_of(gpu, phase, phase.jitter), gpu);
  } else if (phase.kind == PhaseKind::passing) {
    progress(gpu);
  } else {
    begin_step(gpu, phase);
  }
}

void Phased::timer(std::uint32_t gpu) {
  Gpu& state = gpus_[gpu];
  if (phases_[state.phase].kind == PhaseKind::compute) {
    ++state.phase;
    enter(gpu);
    return;
  }
  state.computed = true;
  progress(gpu);
}

// The tag of a flow is its sender; both ends learn of it.
void Phased::sent(std::uint64_t sender) {
  const auto gpu = static_cast<std::uint32_t>(sender);
  Gpu& state = gpus_[gpu];
  const Ring ring = phases_[state.phase].ring;  // a sender is still in the phase of its send
  ++state.sent;
  const std::uint32_t to = next_[static_cast<std::size_t>(ring)][gpu];
  ++gpus_[to].received[static_cast<std::size_t>(ring)];
  progress(gpu);
  if (to != gpu) {
    progress(to);
  }
}

void Phased::progress(std::uint32_t gpu) {
  const Gpu& state = gpus_[gpu];
  if (state.phase == phases_.size()) {
    return;
  }
  const Phase& phase = phases_[state.phase];
  if (phase.kind == PhaseKind::passing) {
    pass_on(gpu, phase);
  } else if (phase.kind == PhaseKind::attending) {
    attend(gpu, phase);
  }
}

void Phased::pass_on(std::uint32_t gpu, const Phase& phase) {
  Gpu& state = gpus_[gpu];
  const auto ring = static_cast<std::size_t>(phase.ring);
  const std::int64_t received = state.received[ring] - received_[state.phase][ring];
  if (state.sent == phase.steps && received >= phase.steps) {
    ++state.phase;
    enter(gpu);
  } else if (state.step == state.sent && state.step < phase.steps && received >= state.step) {
    ++state.step;
    send(gpu, phase);
  }
}

void Phased::attend(std::uint32_t gpu, const Phase& phase) {
  Gpu& state = gpus_[gpu];
  const auto ring = static_cast<std::size_t>(phase.ring);
  const std::int64_t received = state.received[ring] - received_[state.phase][ring];
  if (!state.computed) {
    return;
  }
  if (state.step == phase.steps) {
    ++state.phase;
    enter(gpu);
  } else if (state.sent == state.step && received >= state.step) {
    begin_step(gpu, phase);
  }
}

void Phased::begin_step(std::uint32_t gpu, const Phase& phase) {
  Gpu& state = gpus_[gpu];
  state.computed = false;
  simulation_.compute(span_of(gpu, phase, phase.jitter + state.step), gpu);
  ++state.step;
  if (state.step < phase.steps) {
    send(gpu, phase);
  }
  if (options_.skip && options_.loops.empty() && gpu == 0 && looks_ < most_looks) {
    look_at_step(phase);
  }
}

void Phased::send(std::uint32_t gpu, const Phase& phase) {
  const Hop hop = wiring_.hop(phase.ring, gpu);
  simulation_.send(
      hop.path, phase.bytes, gpu,
      hop.folded ? std::span(hop.weights).first(hop.path.count) : std::span<const std::uint32_t>());
}

// Steps of a ring without jitter: once everything stands, relative to now and to GPU 0's step, as
// it stood before, what happened since happens again.
void Phased::look_at_step(const Phase& phase) {
  ++looks_;
  const std::int64_t step = gpus_[0].step;
  const Memory* then = seen(step, state(step, {step, 0, 0}));
  if (then == nullptr) {
    return;
  }
  looks_ = most_looks;
  // GPUs ahead of the first must not reach the end, where the last step sends nothing.
  std::int64_t ahead = 0;
  for (const Gpu& gpu : gpus_) {
    ahead = std::max(ahead, gpu.step - step);
  }
  const std::int64_t steps = step - then->at;
  const std::int64_t periods = (phase.steps - step - ahead - 2) / steps - 1;
  if (periods > 0) {
    simulation_.skip(simulation_.now() - then->when, periods, then->totals);
    skip_steps(periods * steps);
  }
}

// The same for turns of a loop of phases, while every GPU is inside the loop.
void Phased::look_at_turn(const PhaseLoop& loop) {
  const std::uint32_t phase = gpus_[0].phase;
  const std::uint32_t end = loop.first + loop.phases * loop.turns;
  std::uint32_t furthest = phase;
  for (const Gpu& gpu : gpus_) {
    if (gpu.phase < loop.first || gpu.phase >= end) {
      return;
    }
    furthest = std::max(furthest, gpu.phase);
  }
  if (phase == loop.first) {
    seen_.clear();
  }
  const Memory* then = seen(phase, state(0, received_[phase]));
  if (then == nullptr) {
    return;
  }
  const auto phases = static_cast<std::uint32_t>(phase - then->at);
  const std::uint32_t periods = (end - 1 - furthest) / phases;
  const Memory known = *then;
  seen_.clear();
  if (periods > 0) {
    simulation_.skip(simulation_.now() - known.when, periods, known.totals);
    skip_phases(periods * phases);
  }
}

// The earlier look at an equal state; if there is none, this one is remembered.
const Phased::Memory* Phased::seen(std::int64_t at, std::vector<std::uint64_t> state) {
  for (const Memory& memory : seen_) {
    if (memory.state == state) {
      return &memory;
    }
  }
  seen_.push_back({at, simulation_.now(), simulation_.totals(), std::move(state)});
  return nullptr;
}

// Relative to GPU 0's phase, to `step` and to `received`.
std::vector<std::uint64_t> Phased::state(std::int64_t step, const Counts& received) const {
  std::vector<std::uint64_t> all;
  for (const Gpu& gpu : gpus_) {
    all.push_back(gpu.phase - gpus_[0].phase);
    all.push_back(static_cast<std::uint64_t>(gpu.step - step));
    all.push_back(static_cast<std::uint64_t>(gpu.sent - step));
    for (std::size_t ring = 0; ring < ring_count; ++ring) {
      all.push_back(static_cast<std::uint64_t>(gpu.received[ring] - received[ring]));
    }
    all.push_back(gpu.computed ? 1 : 0);
  }
  simulation_.append_state(all);
  return all;
}

void Phased::skip_steps(std::int64_t steps) {
  for (Gpu& gpu : gpus_) {
    gpu.step += steps;
    gpu.sent += steps;
    gpu.received[0] += steps;
  }
}

void Phased::skip_phases(std::uint32_t phases) {
  for (Gpu& gpu : gpus_) {
    for (std::size_t ring = 0; ring < ring_count; ++ring) {
      gpu.received[ring] += received_[gpu.phase + phases][ring] - received_[gpu.phase][ring];
    }
    gpu.phase += phases;
  }
}

}  // namespace longhaul::bench
