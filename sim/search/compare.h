// Every legal way to split the sequence on the same GPUs, ranked.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "sim/scenario/read_scenario.h"
#include "sim/search/predict.h"
#include "sim/search/result.h"

namespace longhaul {

/// One row: a plan that was predicted, or why it is not legal.
struct Alternative {
  std::string name;  ///< "ring 32 zigzag", "usp u8 x r4", "tp8+sp x ring 4"
  Plan plan;
  std::optional<Result> result;      ///< absent: rejected
  std::string reason;                ///< why rejected, or a remark ("KV replicated 2x")
  std::optional<Scenario> scenario;  ///< what was predicted; absent: rejected
  /// True if it was predicted and fits in device memory.
  [[nodiscard]] bool fits() const { return result && result->memory.fits; }
};

/// How a scenario is predicted; tests put in their own.
using Predictor = std::function<Result(const Scenario&, Diagnostics&)>;

/// Tries every method on the scenario's GPUs (ring, Ulysses, USP splits with either inner
/// placement, Megatron tensor + sequence parallelism alone and with ring, all-gather), with the
/// rest of the plan as given. Ranked: those that fit by step time, then those that do not fit, by
/// peak memory, then the rejected ones.
///
/// What the user left open is settled so that rows can be compared: all rows run the same global
/// batch (the smallest that every plan's replicas divide), and each row takes the first pair of
/// ZeRO stage and recompute that fits, from (1, none) over (3, none) and (1, full) to (3, full).
/// A mistake that no plan can mend is recorded as an error, and there are no rows.
std::vector<Alternative> compare_methods(const ScenarioDraft& draft, const Predictor& predictor,
                                         Diagnostics& diagnostics);
inline std::vector<Alternative> compare_methods(const ScenarioDraft& draft,
                                                Diagnostics& diagnostics) {
  return compare_methods(draft, predict, diagnostics);
}

/// A scenario of the user's with the name of its row.
struct NamedDraft {
  std::string name;
  ScenarioDraft draft;
};

/// Ranks scenarios as they stand, in the same order. Each is the user's own, so one that is wrong
/// is an error (recorded), not a rejected row.
std::vector<Alternative> compare_scenarios(const std::vector<NamedDraft>& drafts,
                                           const Predictor& predictor, Diagnostics& diagnostics);

}  // namespace longhaul
