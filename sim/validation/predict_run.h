// The prediction of one measured run. Private to sim/validation.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sim/search/result.h"
#include "sim/validation/validate.h"

namespace longhaul {

/// What is predicted for a run: one result, or several where the run does not say how much it
/// recomputed and its memory does not tell.
struct RunPrediction {
  std::vector<Result> results;
  /// With attention out of separate operators, where the run leaves its kernel to the stack: they hold
  /// other memory.
  std::optional<Result> unfused;
  /// The one that the stack's users would have chosen (SoftwareProfile::unstated_recompute).
  std::optional<std::size_t> likeliest;
  std::optional<std::int64_t> longest_sequence;  ///< if the run measured it
  std::string why;  ///< there is no prediction, and this is the reason
};

/// Predicts a run as recorded. Where its ring and all-to-all degrees are both not known, one ring and
/// one all-to-all over the same ranks are predicted as well. Recompute that is not known: no, selective and full recompute are
/// predicted; those that do not fit are not what ran, if the run ran.
RunPrediction predict_run(const MeasuredRun& run, const ValidationOptions& options);

/// True if predict_run() must say the same of both runs. The converse need not hold.
bool same_prediction(const MeasuredRun& a, const MeasuredRun& b);

/// Scores of a predicted run, or a reason in `why` where it cannot be scored: no device is as fast
/// as the record says, or what is not known decides.
std::vector<Score> score_run(const MeasuredRun& run, const RunPrediction& prediction,
                             std::string& why);

}  // namespace longhaul
