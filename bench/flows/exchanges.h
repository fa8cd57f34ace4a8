// All-to-all exchanges between computations, and random flows on a fat tree.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "bench/flows/simulation.h"

namespace longhaul::bench {

/// Groups of `degree` consecutive GPUs; every GPU computes, then sends a piece to each other GPU of
/// its group, and goes on when all pieces are sent and received.
struct ExchangeShape {
  std::int64_t gpus = 0;
  std::int64_t degree = 0;
  std::int64_t exchanges = 0;
  double bytes = 0.0;    ///< of one GPU in one exchange, its own piece included
  double seconds = 0.0;  ///< of a computation
  double oversubscription = 2.0;
  bool jitter = false;
};

class Exchanges {
 public:
  Exchanges(const ExchangeShape& shape, double longest);
  void run();
  [[nodiscard]] const Simulation& simulation() const { return simulation_; }
  void timer(std::uint32_t gpu);
  void sent(std::uint64_t ends);

 private:
  struct Gpu {
    std::int32_t exchange = 0;
    std::int32_t sends_left = 0;
    std::array<std::int32_t, 2> received{};  // by parity: a peer is at most one exchange ahead
    bool computed = false;
  };
  void begin(std::uint32_t gpu);
  void progress(std::uint32_t gpu);

  ExchangeShape shape_;
  Rail8 rail_;
  double piece_;
  std::vector<Gpu> gpus_;
  Simulation simulation_;
};

/// Flows of random sizes between random hosts of a fat tree, at random instants.
class RandomFlows {
 public:
  RandomFlows(std::int64_t k, std::int64_t oversubscription, std::int64_t flows,
              std::uint64_t seed);
  void run();
  [[nodiscard]] const Simulation& simulation() const { return simulation_; }
  void timer(std::uint32_t flow);
  void sent(std::uint64_t) {}

 private:
  void schedule(std::int64_t flow);
  FatTree tree_;
  std::int64_t flows_;
  std::uint64_t seed_;
  std::uint64_t mean_;             // picoseconds between arrivals
  std::uint64_t picoseconds_ = 0;  // of the last arrival
  Simulation simulation_;
};

}  // namespace longhaul::bench
