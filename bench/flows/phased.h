// Workloads in which every GPU goes through a list of phases: computations, rings of sends, and
// ring attention, on a cluster of nodes and rails or on its quotient by symmetry.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "bench/flows/simulation.h"

namespace longhaul::bench {

/// Which ring a phase sends along.
enum class Ring : std::uint8_t { inner, outer, all };
constexpr std::size_t ring_count = 3;

/// compute: a delay. passing: `steps` sends to the next GPU of the ring, each after the own and the
/// incoming one before; the phase ends with all of both. attending: `steps` computations, each
/// with a send beside it (the last without), each after the one before and both its transfers.
enum class PhaseKind : std::uint8_t { compute, passing, attending };

struct Phase {
  PhaseKind kind = PhaseKind::compute;
  Ring ring = Ring::inner;
  std::int64_t steps = 0;
  double bytes = 0.0;         ///< of a send
  double seconds = 0.0;       ///< of a computation
  std::int64_t jitter = 0;    ///< index of its computation in J(g, i)
  std::int64_t received = 0;  ///< receives along this ring before this phase (filled by Phased)
};

/// Where a GPU sends along a ring. `weights` are those of FlowSpec, if `folded`.
struct Hop {
  std::uint32_t to = 0;
  Path path;
  std::array<std::uint32_t, 6> weights{};
  bool folded = false;
};

/// Who sends to whom. GPU may be a representative of its class.
class Wiring {
 public:
  virtual ~Wiring() = default;
  [[nodiscard]] virtual std::int64_t gpus() const = 0;
  [[nodiscard]] virtual std::vector<double> capacities() const = 0;
  [[nodiscard]] virtual Hop hop(Ring ring, std::uint32_t gpu) const = 0;
  /// GPUs that each one stands for.
  [[nodiscard]] virtual std::int64_t multiplicity() const { return 1; }
};

/// Phases first .. first + phases x turns - 1 are `turns` times the same.
struct PhaseLoop {
  std::uint32_t first = 0;
  std::uint32_t phases = 0;
  std::uint32_t turns = 0;
};

/// How Phased runs. `skip`: once the state repeats at the same place of a ring or of a loop, whole
/// periods are counted and not stepped through.
struct PhasedOptions {
  bool jitter = false;
  bool skip = false;
  std::vector<PhaseLoop> loops;
  double longest = 1.0;  ///< no run lasts longer, in seconds
};

/// Runs phases on a wiring.
class Phased {
 public:
  Phased(const Wiring& wiring, std::vector<Phase> phases, PhasedOptions options);
  void run();
  [[nodiscard]] const Simulation& simulation() const { return simulation_; }
  void timer(std::uint32_t gpu);
  void sent(std::uint64_t sender);

 private:
  using Counts = std::array<std::int64_t, ring_count>;
  struct Gpu {
    std::int64_t step = 0;  // sends begun in this phase; attending: computations begun
    std::int64_t sent = 0;  // sends done in this phase
    Counts received{};
    std::uint32_t phase = 0;
    bool computed = false;
  };
  struct Memory {
    std::int64_t at;  // step, or phase
    std::int64_t when;
    Totals totals;
    std::vector<std::uint64_t> state;
  };

  void enter(std::uint32_t gpu);
  void progress(std::uint32_t gpu);
  void pass_on(std::uint32_t gpu, const Phase& phase);
  void attend(std::uint32_t gpu, const Phase& phase);
  void begin_step(std::uint32_t gpu, const Phase& phase);
  void send(std::uint32_t gpu, const Phase& phase);
  [[nodiscard]] std::int64_t span_of(std::uint32_t gpu, const Phase& phase, std::int64_t i) const;
  void look_at_step(const Phase& phase);
  void look_at_turn(const PhaseLoop& loop);
  [[nodiscard]] const Memory* seen(std::int64_t at, std::vector<std::uint64_t> state);
  [[nodiscard]] std::vector<std::uint64_t> state(std::int64_t step, const Counts& received) const;
  void skip_steps(std::int64_t steps);
  void skip_phases(std::uint32_t phases);

  const Wiring& wiring_;
  std::vector<Phase> phases_;
  std::vector<Gpu> gpus_;
  std::array<std::vector<std::uint32_t>, ring_count> next_;  // who receives what a GPU sends
  PhasedOptions options_;
  std::vector<Counts> received_;  // along each ring before each phase
  Simulation simulation_;
  std::int64_t looks_ = 0;
  std::vector<Memory> seen_;
};

/// Rings within nodes, along context-parallel groups of `group` nodes, and along whole rails.
class RailRings : public Wiring {
 public:
  /// `one_ring`: all GPUs in a single ring (Ring::inner), whatever their nodes.
  RailRings(std::int64_t gpus, std::int64_t group, double oversubscription, bool one_ring);
  [[nodiscard]] std::int64_t gpus() const override { return gpus_; }
  [[nodiscard]] std::vector<double> capacities() const override { return rail_.capacities(); }
  [[nodiscard]] Hop hop(Ring ring, std::uint32_t gpu) const override;

 private:
  std::int64_t gpus_;
  std::int64_t group_;
  bool one_ring_;
  Rail8 rail_;
};

/// RailRings with one ring, folded: the 8 GPUs of one node stand for all. Exact for whole pods.
class FoldedRing : public Wiring {
 public:
  FoldedRing(std::int64_t gpus, double oversubscription);
  [[nodiscard]] std::int64_t gpus() const override;
  [[nodiscard]] std::vector<double> capacities() const override;
  [[nodiscard]] Hop hop(Ring ring, std::uint32_t gpu) const override;
  [[nodiscard]] std::int64_t multiplicity() const override;

 private:
  std::int64_t gpus_;
  Rail8 rail_;
};

/// RailRings, folded: one GPU of every node whose position in pod and group is new stands for its
/// node's 8 and for all other such nodes.
class FoldedRails : public Wiring {
 public:
  FoldedRails(std::int64_t gpus, std::int64_t group, double oversubscription);
  [[nodiscard]] std::int64_t gpus() const override { return period_; }
  [[nodiscard]] std::vector<double> capacities() const override;
  [[nodiscard]] Hop hop(Ring ring, std::uint32_t gpu) const override;
  [[nodiscard]] std::int64_t multiplicity() const override { return 8 * nodes_ / period_; }

 private:
  [[nodiscard]] Path path(std::int64_t from, std::int64_t to) const;
  std::int64_t nodes_;
  std::int64_t group_;
  std::int64_t period_;  // nodes
  Rail8 rail_;
};

}  // namespace longhaul::bench
