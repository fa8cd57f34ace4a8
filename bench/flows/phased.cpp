#include "bench/flows/phased.h"

#include "bench/flows/jitter.h"

namespace longhaul::bench {

namespace {

// A ring that has not settled after so many looks at its state is jittered: looking costs O(GPUs).
constexpr std::int64_t most_looks = 64;

}  // namespace

Phased::Phased(const Wiring& wiring, std::vector<Phase> phases, bool jitter, bool skip,
               double longest)
    : wiring_(wiring),
      phases_(std::move(phases)),
      gpus_(static_cast<std::size_t>(wiring.gpus())),
      jitter_(jitter),
      skip_(skip),
      simulation_(wiring.capacities(), longest) {
  std::array<std::int64_t, ring_count> received{};
  for (Phase& phase : phases_) {
    const auto ring = static_cast<std::size_t>(phase.ring);
    phase.received = received[ring];
    if (phase.kind != PhaseKind::compute) {
      for (std::uint32_t gpu = 0; next_[ring].size() < gpus_.size(); ++gpu) {
        next_[ring].push_back(wiring_.hop(phase.ring, gpu).to);
      }
      received[ring] += phase.kind == PhaseKind::passing ? phase.steps : phase.steps - 1;
    }
  }
}

void Phased::run() {
  for (std::uint32_t gpu = 0; gpu < gpus_.size(); ++gpu) {
    enter(gpu);
  }
  simulation_.run(*this);
}

std::int64_t Phased::span_of(std::uint32_t gpu, const Phase& phase, std::int64_t i) const {
  return simulation_.ticks(jitter_ ? phase.seconds * jitter_factor(gpu, i) : phase.seconds);
}

void Phased::enter(std::uint32_t gpu) {
  Gpu& state = gpus_[gpu];
  if (state.phase == phases_.size()) {
    return;
  }
  const Phase& phase = phases_[state.phase];
  state.step = 0;
  state.sent = 0;
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
  const std::int64_t received =
      state.received[static_cast<std::size_t>(phase.ring)] - phase.received;
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
  const std::int64_t received =
      state.received[static_cast<std::size_t>(phase.ring)] - phase.received;
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
  if (skip_ && gpu == 0 && looks_ < most_looks) {
    consider_skipping(phase);
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
void Phased::consider_skipping(const Phase& phase) {
  ++looks_;
  std::vector<std::uint64_t> now = state();
  const Gpu& first = gpus_[0];
  for (const auto& [then, memory] : seen_) {
    if (then != now) {
      continue;
    }
    const std::int64_t steps = first.step - memory.step;
    const std::int64_t span = simulation_.now() - memory.when;
    // GPUs ahead of the first must not reach the end, where the last step sends nothing.
    std::int64_t ahead = 0;
    for (const Gpu& gpu : gpus_) {
      ahead = std::max(ahead, gpu.step - first.step);
    }
    const std::int64_t periods = (phase.steps - first.step - ahead - 2) / steps - 1;
    if (periods > 0) {
      const Totals earlier = memory.totals;
      skip(steps, span, periods, earlier);
    }
    looks_ = most_looks;
    return;
  }
  seen_.emplace_back(std::move(now), Memory{first.step, simulation_.now(), simulation_.totals()});
}

std::vector<std::uint64_t> Phased::state() const {
  std::vector<std::uint64_t> all;
  const std::int64_t step = gpus_[0].step;
  for (const Gpu& gpu : gpus_) {
    all.push_back(static_cast<std::uint64_t>(gpu.step - step));
    all.push_back(static_cast<std::uint64_t>(gpu.sent - step));
    all.push_back(static_cast<std::uint64_t>(gpu.received[0] - step));
    all.push_back(gpu.computed ? 1 : 0);
  }
  simulation_.append_state(all);
  return all;
}

void Phased::skip(std::int64_t steps, std::int64_t span, std::int64_t periods,
                  const Totals& earlier) {
  simulation_.skip(span, periods, earlier);
  for (Gpu& gpu : gpus_) {
    gpu.step += periods * steps;
    gpu.sent += periods * steps;
    gpu.received[0] += periods * steps;
  }
}

}  // namespace longhaul::bench
