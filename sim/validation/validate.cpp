#include "sim/validation/validate.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "sim/search/predict.h"

namespace longhaul {

namespace {

const char* name_of_phase(Phase phase) {
  static constexpr const char* names[] = {"train", "forward", "prefill", "decode", "attention"};
  return names[static_cast<int>(phase)];
}

const char* name_of_method(ContextMethod method) {
  static constexpr const char* names[] = {"none", "ring",       "ulysses",
                                          "usp",  "all_gather", "double_ring"};
  return names[static_cast<int>(method)];
}

std::string first_message(const Diagnostics& diagnostics) {
  for (const Diagnostic& diagnostic : diagnostics.all()) {
    if (diagnostic.severity == Severity::error) {
      return diagnostic.message;
    }
  }
  return "unknown reason";
}

// The prediction of a run, or why there is none.
std::optional<Result> predict_run(const MeasuredRun& run, std::string& why) {
  Diagnostics diagnostics;
  try {
    const auto scenario = check_scenario(*run.draft, diagnostics);
    if (scenario) {
      return predict(*scenario, diagnostics);
    }
    why = first_message(diagnostics);
  } catch (const InputError& error) {
    why = first_message(error.diagnostics());
  }
  return std::nullopt;
}

Score score_of(const MeasuredRun& run, const Measurement& measurement, const Result& result) {
  Score score;
  score.id = run.id;
  score.source = run.source;
  score.group = run.group;
  score.trust = run.trust;
  score.quantity = name_of(measurement.quantity);
  score.phase = name_of_phase(run.draft->workload.phase);
  score.method = name_of_method(run.draft->plan.context.method);
  score.measured = measurement.value;
  switch (measurement.quantity) {
    case MeasuredQuantity::time:
      score.predicted = result.step_time.value();
      score.low = result.interval_low.value();
      score.high = result.interval_high.value();
      break;
    case MeasuredQuantity::allocated: score.predicted = result.memory.allocated.value(); break;
    case MeasuredQuantity::reserved:
    case MeasuredQuantity::memory:
      score.predicted = result.memory.allocator_reserved.value();
      break;
    case MeasuredQuantity::device: score.predicted = result.memory.reserved.value(); break;
    case MeasuredQuantity::out_of_memory: score.predicted = result.memory.fits ? 0.0 : 1.0; break;
  }
  if (measurement.quantity != MeasuredQuantity::time) {
    score.low = score.high = score.predicted;
  }
  return score;
}

// A run that has a time but no statement about memory did fit: that is worth scoring too.
void score_run(const MeasuredRun& run, const Result& result, std::vector<Score>& scores) {
  bool stated = false;
  for (const Measurement& measurement : run.measurements) {
    stated = stated || measurement.quantity == MeasuredQuantity::out_of_memory;
    scores.push_back(score_of(run, measurement, result));
  }
  if (!stated && !run.measurements.empty()) {
    scores.push_back(score_of(run, {MeasuredQuantity::out_of_memory, "fits", 0.0}, result));
  }
}

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

}  // namespace

double Score::error() const {
  if (quantity == name_of(MeasuredQuantity::out_of_memory)) {
    return measured == predicted ? 0.0 : 1.0;
  }
  return predicted / measured - 1.0;
}

std::vector<ScoreSummary> summarize_scores(const std::vector<Score>& scores, bool by_source) {
  std::map<std::pair<std::string, std::string>, std::vector<const Score*>> groups;
  for (const Score& score : scores) {
    if (!score.fitted) {
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

DecisionScore score_decisions(const std::vector<Score>& scores) {
  constexpr double noticeable = 0.05;
  std::map<std::pair<std::string, std::string>, std::vector<const Score*>> groups;
  for (const Score& score : scores) {
    if (score.quantity == name_of(MeasuredQuantity::time) && !score.group.empty()) {
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

ValidationReport validate(const std::vector<MeasuredRun>& runs,
                          const ValidationProgress& progress) {
  ValidationReport report;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const MeasuredRun& run = runs[i];
    std::string why = run.skip_reason;
    if (why.empty() && run.draft && run.measurements.empty()) {
      why = run.skipped_quantities.empty() ? "nothing that is scored was measured"
                                           : run.skipped_quantities.front();
    }
    std::optional<Result> result;
    if (why.empty() && run.draft) {
      result = predict_run(run, why);
    }
    if (result) {
      score_run(run, *result, report.scores);
    } else {
      report.skipped.emplace_back(run.id, why);
    }
    if (progress) {
      progress(i + 1, runs.size());
    }
  }
  report.summary = summarize_scores(report.scores, false);
  report.by_source = summarize_scores(report.scores, true);
  report.decisions = score_decisions(report.scores);
  return report;
}

}  // namespace longhaul
