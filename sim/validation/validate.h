// Predictions against measured runs: errors, coverage of intervals, right and wrong decisions.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sim/validation/read_runs.h"

namespace longhaul {

/// One measured figure beside its prediction.
struct Score {
  std::string id;
  std::string source;
  std::string group;
  std::string trust;
  std::string quantity;   ///< "time", "allocated", ...
  std::string phase;      ///< "train", "attention", ...
  std::string method;     ///< context method
  std::string software;   ///< stack
  double measured = 0.0;
  double predicted = 0.0;
  double low = 0.0;       ///< prediction interval
  double high = 0.0;
  double least = 0.0;     ///< of what is predicted for the ways the run may have gone;
  double most = 0.0;      ///< 0: its record leaves none open
  double own_spread = 0.0;  ///< relative, of this prediction's costs and of what is not known
  bool fitted = false;    ///< a profile was fitted on this run: scored apart
  /// predicted / measured - 1 (out_of_memory: 0 right, 1 wrong).
  [[nodiscard]] double error() const;
};

/// One row of the summary.
struct ScoreSummary {
  std::string quantity;
  std::string phase;
  std::int64_t runs = 0;
  double mean_absolute_error = 0.0;    ///< relative, as a fraction
  double median_absolute_error = 0.0;
  double p90_absolute_error = 0.0;
  double bias = 0.0;                   ///< mean signed error
  double interval_coverage = 0.0;      ///< share of measurements inside the interval
};

/// Pairs of runs of one group whose measured times differ by more than 5 %.
struct DecisionScore {
  std::int64_t pairs = 0;
  std::int64_t correct = 0;            ///< the predicted order is the measured one
};

/// Which scores a summary is about. Those with a fitted profile are never among the first two.
enum class ScoreScope { trusted, low_trust, fitted };

struct ValidationReport {
  std::vector<Score> scores;           ///< in the order of the files
  std::vector<std::pair<std::string, std::string>> skipped;  ///< run id, why
  std::vector<ScoreSummary> summary;   ///< trusted, by quantity and phase
  std::vector<ScoreSummary> by_source;  ///< trusted, by quantity and source
  std::vector<ScoreSummary> low_trust;  ///< by quantity and source
  std::vector<ScoreSummary> fitted;     ///< by quantity and source
  DecisionScore decisions;             ///< trusted
  DecisionScore low_trust_decisions;
};

/// Told after each run: how many are done of how many. Called by one worker at a time.
using ValidationProgress = std::function<void(std::size_t, std::size_t)>;

/// What another stack would do, in place of the run's own (cross-validation, refits).
using StackChange =
    std::function<std::shared_ptr<const SoftwareProfile>(const SoftwareProfile&)>;

struct ValidationOptions {
  StackChange stack;        ///< empty: the stacks as they come
  bool times_only = false;  ///< no search for the longest sequence
  ValidationProgress progress;
};

/// Predicts every run on all cores and scores it. Nothing is fitted. The same report in every run:
/// runs are independent and reported in the order of the files.
ValidationReport validate(const std::vector<MeasuredRun>& runs, const ValidationOptions& options);

/// Summary rows of scores grouped by quantity and phase (or by quantity and source).
std::vector<ScoreSummary> summarize_scores(const std::vector<Score>& scores, bool by_source,
                                           ScoreScope scope = ScoreScope::trusted);

/// Decisions over the time scores of each group.
DecisionScore score_decisions(const std::vector<Score>& scores,
                              ScoreScope scope = ScoreScope::trusted);

}  // namespace longhaul
