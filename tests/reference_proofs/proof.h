// Runs programs on random numbers and compares what they give with the oracle.
#pragma once

#include <cstdint>
#include <string>

#include "sim/reference/reference.h"
#include "sim/scenario/scenario.h"
#include "tests/reference_proofs/oracle.h"

namespace longhaul::test {

/// The largest difference over the largest magnitude expected; infinite if shapes differ, a number
/// is NaN or all that is expected is zero.
double relative_error(const Array& got, const Array& expected);

/// How far a program is from the oracle: the worst relative error over everything it gives.
struct Verdict {
  bool refused = false;  ///< the executor would not run it to the end
  std::string why;       ///< the complaint, or the tensor that is worst
  double error = 0;
  int compared = 0;  ///< tensors compared
};

/// Every proof's tolerance: sums of a few thousand doubles in another order differ by some 1e-14.
constexpr double proof_tolerance = 1e-10;
inline bool is_proven(const Verdict& verdict) {
  return !verdict.refused && verdict.compared > 0 && verdict.error <= proof_tolerance;
}
/// A fault that no rounding explains.
inline bool is_wrong(const Verdict& verdict) {
  return !verdict.refused && !(verdict.error <= 1e-3);
}

/// Computes `program`, a lowering of `scenario` (possibly broken on purpose), and compares all its
/// outputs: of phase attention o, dq, dk, dv; of phase train all gradients and updated weights; of
/// phases forward and prefill the layers' output, the caches.
Verdict prove(const Scenario& scenario, const Program& program,
              ExecutionOrder order = ExecutionOrder::program, std::uint64_t seed = 0);
/// Of lower(scenario).
Verdict prove(const Scenario& scenario, ExecutionOrder order = ExecutionOrder::program,
              std::uint64_t seed = 0);

/// For messages: "usp ring 4 ulysses 2 zigzag, tensor 1, data 1, zero 1, 48 tokens, ..."
std::string describe(const Scenario& scenario);

}  // namespace longhaul::test
