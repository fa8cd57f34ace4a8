#include "sim/validation/validate.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <future>
#include <map>
#include <mutex>
#include <thread>

#include "sim/validation/predict_run.h"

namespace longhaul {

namespace {

ScoreSummary summary_of(const std::vector<const Score*>& scores) {
  ScoreSummary row;
  row.runs = static_cast<std::int64_t>(scores.size());
  std::vector<double> errors;
  for (const Score* score : scores) {
    const double error = score->error();
    errors.push_back(std::abs(error));
    row.mean_absolute_error += std::abs(error) / static_cast<double>(scores.size());
    row.bias += error / static_cast<double>(scores.size());
    if (score->measured >= score->low && score->measured <= score->high) {
      row.interval_coverage += 1.0 / static_cast<double>(scores.size());
    }
  }
  std::sort(errors.begin(), errors.end());
  const std::size_t middle = errors.size() / 2;
  row.median_absolute_error =
      errors.size() % 2 == 1 ? errors[middle] : 0.5 * (errors[middle - 1] + errors[middle]);
  const auto rank = static_cast<std::size_t>(std::ceil(0.9 * static_cast<double>(errors.size())));
  row.p90_absolute_error = errors[std::min(errors.size() - 1, rank - 1)];
  return row;
}

bool in_scope(const Score& score, ScoreScope scope) {
  const ScoreScope own = score.fitted           ? ScoreScope::fitted
                         : score.trust == "low" ? ScoreScope::low_trust
                                                : ScoreScope::trusted;
  return own == scope;
}

}  // namespace

double Score::error() const {
  if (quantity == name_of(MeasuredQuantity::out_of_memory)) {
    return measured == predicted ? 0.0 : 1.0;
  }
  return predicted / measured - 1.0;
}

std::vector<ScoreSummary> summarize_scores(const std::vector<Score>& scores, bool by_source,
                                           ScoreScope scope) {
  std::map<std::pair<std::string, std::string>, std::vector<const Score*>> groups;
  for (const Score& score : scores) {
    if (in_scope(score, scope)) {
      groups[{score.quantity, by_source ? score.source : score.phase}].push_back(&score);
    }
  }
  std::vector<ScoreSummary> rows;
  for (const auto& [key, members] : groups) {
    ScoreSummary row = summary_of(members);
    row.quantity = key.first;
    row.phase = key.second;
    rows.push_back(row);
  }
  return rows;
}

DecisionScore score_decisions(const std::vector<Score>& scores, ScoreScope scope) {
  constexpr double noticeable = 0.05;
  std::map<std::pair<std::string, std::string>, std::vector<const Score*>> groups;
  for (const Score& score : scores) {
    const bool timed = score.quantity == name_of(MeasuredQuantity::time);
    if (timed && !score.group.empty() && in_scope(score, scope)) {
      groups[{score.source, score.group}].push_back(&score);
    }
  }
  DecisionScore decisions;
  for (const auto& [key, members] : groups) {
    for (std::size_t i = 0; i < members.size(); ++i) {
      for (std::size_t j = i + 1; j < members.size(); ++j) {
        const double low = std::min(members[i]->measured, members[j]->measured);
        const double high = std::max(members[i]->measured, members[j]->measured);
        if (high <= low * (1.0 + noticeable)) {
          continue;
        }
        ++decisions.pairs;
        const double measured = members[i]->measured - members[j]->measured;
        const double predicted = members[i]->predicted - members[j]->predicted;
        decisions.correct += (measured > 0.0) == (predicted > 0.0) && predicted != 0.0 ? 1 : 0;
      }
    }
  }
  return decisions;
}

namespace {

// What became of one run.
struct Outcome {
  std::vector<Score> scores;
  std::string why;  ///< it was skipped
};

// Why nothing can be said of a run before it is predicted; empty if there is no such reason.
std::string reason_to_skip(const MeasuredRun& run) {
  if (!run.skip_reason.empty() || !run.measurements.empty() || !run.draft) {
    return run.skip_reason;
  }
  return run.skipped_quantities.empty() ? "nothing that is scored was measured"
                                        : run.skipped_quantities.front();
}

// Runs to predict, those of which the same is predicted together.
std::vector<std::vector<std::size_t>> group_alike(const std::vector<MeasuredRun>& runs) {
  std::vector<std::vector<std::size_t>> groups;
  std::map<std::string, std::vector<std::size_t>> by_machine;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    if (!runs[i].draft || !reason_to_skip(runs[i]).empty()) {
      continue;
    }
    std::vector<std::size_t>& candidates = by_machine[runs[i].machine];
    const auto found = std::find_if(candidates.begin(), candidates.end(), [&](std::size_t group) {
      return same_prediction(runs[groups[group].front()], runs[i]);
    });
    if (found != candidates.end()) {
      groups[*found].push_back(i);
    } else {
      candidates.push_back(groups.size());
      groups.push_back({i});
    }
  }
  return groups;
}

Outcome score_predicted(const MeasuredRun& run, const RunPrediction& prediction) {
  Outcome outcome;
  outcome.why = prediction.why;
  if (!prediction.results.empty()) {
    outcome.why.clear();
    outcome.scores = score_run(run, prediction, outcome.why);
  }
  return outcome;
}

// Runs have clusters of their own, so workers share nothing but what is never changed.
std::vector<Outcome> predict_all(const std::vector<MeasuredRun>& runs,
                                 const ValidationOptions& options) {
  std::vector<Outcome> outcomes(runs.size());
  for (std::size_t i = 0; i < runs.size(); ++i) {
    outcomes[i].why = reason_to_skip(runs[i]);
  }
  const auto groups = group_alike(runs);
  std::atomic<std::size_t> next{0};
  std::mutex telling;
  std::size_t done = 0;
  const auto work = [&] {
    for (std::size_t i = next++; i < groups.size(); i = next++) {
      const RunPrediction prediction = predict_run(runs[groups[i].front()], options);
      for (const std::size_t run : groups[i]) {
        outcomes[run] = score_predicted(runs[run], prediction);
      }
      const std::lock_guard<std::mutex> lock(telling);
      ++done;
      if (options.progress) {
        options.progress(done, groups.size());
      }
    }
  };
  const std::size_t cores = std::max(1u, std::thread::hardware_concurrency());
  std::vector<std::future<void>> others;
  for (std::size_t i = 1; i < std::min(cores, groups.size()); ++i) {
    others.push_back(std::async(std::launch::async, work));
  }
  work();
  for (auto& other : others) {
    other.get();
  }
  return outcomes;
}

}  // namespace

ValidationReport validate(const std::vector<MeasuredRun>& runs, const ValidationOptions& options) {
  ValidationReport report;
  const std::vector<Outcome> outcomes = predict_all(runs, options);
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const Outcome& outcome = outcomes[i];
    report.scores.insert(report.scores.end(), outcome.scores.begin(), outcome.scores.end());
    if (outcome.scores.empty()) {
      report.skipped.emplace_back(runs[i].id, outcome.why);
    }
  }
  report.summary = summarize_scores(report.scores, false);
  report.by_source = summarize_scores(report.scores, true);
  report.low_trust = summarize_scores(report.scores, true, ScoreScope::low_trust);
  report.fitted = summarize_scores(report.scores, true, ScoreScope::fitted);
  report.decisions = score_decisions(report.scores);
  report.low_trust_decisions = score_decisions(report.scores, ScoreScope::low_trust);
  return report;
}

}  // namespace longhaul
