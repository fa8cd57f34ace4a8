// A predictor whose figures follow from the plan alone, so that what compare makes of them is
// known.
#pragma once

#include "sim/search/compare.h"

namespace longhaul::test {

/// Step time and memory by rule: recomputing takes a third longer, ZeRO 3 a tenth; a ring rank more
/// takes a second. Memory: 100 GiB of activations over the tokens' ranks (a tenth when recomputed)
/// and 40 GiB of states (over the GPUs with ZeRO 3).
struct FakeFigures {
  double capacity_gib = 80.0;
};

inline Result fake_result(const Scenario& scenario, const FakeFigures& figures) {
  constexpr double gib = 1024.0 * 1024.0 * 1024.0;
  const Plan& plan = scenario.plan;
  const bool again = plan.recompute == Recompute::full;
  Result result;
  result.step_time = Seconds::of((100.0 + static_cast<double>(plan.context.ring)) *
                                 (again ? 4.0 / 3.0 : 1.0) * (plan.zero == 3 ? 1.1 : 1.0));
  result.interval_low = result.step_time * 0.9;
  result.interval_high = result.step_time * 1.1;
  const double ranks = static_cast<double>(plan.context.degree() * plan.tensor);
  const double states = 40.0 / (plan.zero == 3 ? static_cast<double>(scenario.gpus) : 1.0);
  const double activations = 1000.0 / ranks * (again ? 0.1 : 1.0);
  result.memory.peak = Bytes::of((states + activations) * gib);
  result.memory.reserved = result.memory.peak;
  result.memory.capacity = Bytes::of(figures.capacity_gib * gib);
  result.memory.fits = result.memory.reserved <= result.memory.capacity;
  result.remarks = scenario.remarks;
  return result;
}

}  // namespace longhaul::test
