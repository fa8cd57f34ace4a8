#include "sim/validation/predict_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "sim/scenario/words.h"
#include "sim/search/longest_sequence.h"
#include "sim/search/predict.h"
#include "sim/search/uncertainty.h"

namespace longhaul {

namespace {

std::string first_message(const Diagnostics& diagnostics) {
  for (const Diagnostic& diagnostic : diagnostics.all()) {
    if (diagnostic.severity == Severity::error) {
      return diagnostic.message;
    }
  }
  return "unknown reason";
}

const Measurement* find_measurement(const MeasuredRun& run, MeasuredQuantity quantity) {
  for (const Measurement& measurement : run.measurements) {
    if (measurement.quantity == quantity) {
      return &measurement;
    }
  }
  return nullptr;
}

bool ran_out_of_memory(const MeasuredRun& run) {
  const Measurement* stated = find_measurement(run, MeasuredQuantity::out_of_memory);
  return stated != nullptr && stated->value > 0.0;
}

std::optional<Result> predict_draft(const ScenarioDraft& draft, const ValidationOptions& options,
                                    std::string& why) {
  Diagnostics diagnostics;
  try {
    auto scenario = check_scenario(draft, diagnostics);
    if (scenario) {
      if (options.stack) {
        scenario->stack_override = options.stack(scenario->stack());
      }
      return predict(*scenario, diagnostics);
    }
    why = first_message(diagnostics);
  } catch (const InputError& error) {
    why = first_message(error.diagnostics());
  }
  return std::nullopt;
}

// What ran, fitted: alternatives that do not fit are not what ran.
void keep_possible(const MeasuredRun& run, std::vector<Result>& results) {
  const auto fits = [](const Result& result) { return result.memory.fits; };
  if (!ran_out_of_memory(run) && std::any_of(results.begin(), results.end(), fits)) {
    std::erase_if(results, [&](const Result& result) { return !fits(result); });
  }
}

// What the stack's users would have chosen among the alternatives, from no recompute to full.
std::optional<std::size_t> likeliest(const MeasuredRun& run, std::size_t alternatives) {
  const UnstatedRecompute habit = find_software(run.draft->software)->unstated_recompute;
  if (alternatives < 2 || habit == UnstatedRecompute::unknown) {
    return std::nullopt;
  }
  return habit == UnstatedRecompute::lightest ? 0 : alternatives - 1;
}

// A figure whose kind is not stated is what the stack's logs print.
MeasuredQuantity kind_of(const MeasuredRun& run, MeasuredQuantity quantity) {
  if (quantity != MeasuredQuantity::memory) {
    return quantity;
  }
  switch (find_software(run.draft->software)->memory_reading) {
    case MemoryReading::allocated: return MeasuredQuantity::allocated;
    case MemoryReading::device: return MeasuredQuantity::device;
    case MemoryReading::reserved: break;
  }
  return MeasuredQuantity::reserved;
}

// Some logs are the last rank's, the others the fullest one's.
double bytes_of(const MeasuredRun& run, MeasuredQuantity quantity, const MemoryResult& memory) {
  const bool last = run.last_rank_memory;
  switch (kind_of(run, quantity)) {
    case MeasuredQuantity::allocated:
      return (last ? memory.last_rank.allocated : memory.allocated).value();
    case MeasuredQuantity::device:
      return (last ? memory.last_rank.reserved : memory.reserved).value();
    default:
      return (last ? memory.last_rank.allocator_reserved : memory.allocator_reserved).value();
  }
}

bool degrees_unknown(const MeasuredRun& run) {
  const auto is = [&](const char* key) {
    return std::find(run.unknown.begin(), run.unknown.end(), key) != run.unknown.end();
  };
  return is("ring") && is("ulysses");
}

// The same ranks as one ring and as one all-to-all: what a run may have been whose degrees are not
// known, besides what its record takes them for.
std::vector<ContextPlan> other_degrees(const ContextPlan& recorded) {
  ContextPlan ring = recorded;
  ring.method = ContextMethod::ring;
  ring.ring = recorded.degree();
  ring.ulysses = ring.inner_ring = 1;
  ContextPlan ulysses = recorded;
  ulysses.method = ContextMethod::ulysses;
  ulysses.ulysses = recorded.degree();
  ulysses.ring = ulysses.inner_ring = 1;
  ulysses.variant = RingVariant::pass_kv;
  return {ring, ulysses};
}

// Adds what a run of unknown degrees may have been as well; what no plan allows did not run.
void add_other_degrees(const MeasuredRun& run, const ValidationOptions& options,
                       std::vector<Result>& results) {
  if (!degrees_unknown(run) || run.draft->plan.context.degree() == 1) {
    return;
  }
  for (const ContextPlan& context : other_degrees(run.draft->plan.context)) {
    ScenarioDraft draft = *run.draft;
    draft.plan.context = context;
    std::string refused;
    if (auto result = predict_draft(draft, options, refused)) {
      results.push_back(std::move(*result));
    }
  }
}

bool measures_memory(const MeasuredRun& run) {
  return std::any_of(
      run.measurements.begin(), run.measurements.end(), [](const Measurement& measurement) {
        return measurement.quantity != MeasuredQuantity::time &&
               measurement.quantity != MeasuredQuantity::out_of_memory &&
               measurement.quantity != MeasuredQuantity::longest_sequence;
      });
}

// Whether the run's attention may have been separate operators, and that matters to its figures.
bool may_be_unfused(const MeasuredRun& run) { return run.attention_open && measures_memory(run); }

// Memory of attention that the stack may have run as separate operators, if that fits, too.
std::optional<Result> predict_unfused(const MeasuredRun& run, const ValidationOptions& options) {
  if (!may_be_unfused(run) || options.times_only) {
    return std::nullopt;
  }
  ScenarioDraft draft = *run.draft;
  draft.attention_kernel = "unfused";
  std::string refused;
  auto result = predict_draft(draft, options, refused);
  return result && result->memory.fits ? std::move(result) : std::nullopt;
}

// Extremes of what is predicted, and the union of its intervals.
void cover(const Result& result, const auto& value, const auto& interval, Score& score) {
  const Interval own = interval(result);
  score.least = std::min(score.least, value(result));
  score.most = std::max(score.most, value(result));
  score.low = std::min(score.low, own.low);
  score.high = std::max(score.high, own.high);
}

// Prediction and interval over the results: that of the one which is likeliest, else the geometric
// middle of the extremes; and the union of their intervals.
void predict_over(const RunPrediction& prediction, const auto& value, const auto& interval,
                  Score& score) {
  const std::vector<Result>& results = prediction.results;
  const Interval first = interval(results.front());
  score.least = score.most = value(results.front());
  score.low = first.low;
  score.high = first.high;
  for (const Result& result : results) {
    cover(result, value, interval, score);
  }
  score.predicted = prediction.likeliest  ? value(results[*prediction.likeliest])
                    : results.size() == 1 ? score.least
                                          : std::sqrt(score.least * score.most);
}

// A result's own interval, widened by what is not known about the run.
Interval widened(const Result& result, double unknown) {
  const double step = result.step_time.value();
  const ErrorBand own{std::log(step / std::max(result.interval_low.value(), 1e-30)),
                      std::log(result.interval_high.value() / step)};
  return interval_of(step, own, unknown);
}

void predict_measurement(const MeasuredRun& run, const RunPrediction& prediction, Score& score,
                         MeasuredQuantity quantity) {
  const Uncertainty& errors = find_uncertainty();
  const double unknown = errors.spread_of_unknown(run.unknown);
  const ErrorBand band = errors.band(name_of(quantity));
  if (quantity == MeasuredQuantity::time) {
    predict_over(
        prediction, [](const Result& result) { return result.step_time.value(); },
        [&](const Result& result) { return widened(result, unknown); }, score);
  } else if (quantity == MeasuredQuantity::out_of_memory) {
    score.predicted = prediction.results.front().memory.fits ? 0.0 : 1.0;
    score.low = score.high = score.predicted;
  } else if (quantity == MeasuredQuantity::longest_sequence) {
    score.predicted = static_cast<double>(prediction.longest_sequence.value_or(0));
    const Interval interval = interval_of(score.predicted, band, unknown);
    score.low = interval.low;
    score.high = interval.high;
  } else {
    const auto value = [&](const Result& result) { return bytes_of(run, quantity, result.memory); };
    const auto interval = [&](const Result& result) {
      return interval_of(value(result), band, unknown);
    };
    predict_over(prediction, value, interval, score);
    if (prediction.unfused) {
      cover(*prediction.unfused, value, interval, score);
    }
  }
}

Score score_of(const MeasuredRun& run, const Measurement& measurement,
               const RunPrediction& prediction) {
  Score score;
  score.id = run.id;
  score.source = run.source;
  score.group = run.group;
  score.trust = run.trust;
  score.quantity = name_of(measurement.quantity);
  score.phase = word_of(phase_words, run.draft->workload.phase);
  score.method = word_of(method_words, run.draft->plan.context.method);
  score.software = run.draft->software;
  score.measured = measurement.value;
  const bool timed = measurement.quantity == MeasuredQuantity::time;
  const std::set<std::string>& fitted_runs = find_software(run.draft->software)->fitted_runs;
  score.fitted = run.fitted || (timed && fitted_runs.count(run.id) > 0);
  score.own_spread = std::hypot(timed ? prediction.results.front().cost_spread : 0.0,
                                find_uncertainty().spread_of_unknown(run.unknown));
  predict_measurement(run, prediction, score, measurement.quantity);
  return score;
}

// Model FLOPs alone, without what was recomputed, in less time than the device's peak allows.
bool beyond_peak(const MeasuredRun& run, const Result& result, std::string& why) {
  const Measurement* time = find_measurement(run, MeasuredQuantity::time);
  if (time == nullptr || !(result.mfu > 0.0)) {
    return false;
  }
  const double share = result.mfu * result.step_time.value() / time->value;
  if (share <= 1.0) {
    return false;
  }
  why = fmt::format(
      "impossible as recorded: its model FLOPs in its time need {:.0f} TFLOP/s per GPU, "
      "{:.2f} times the device's peak",
      result.tflops_per_gpu * result.step_time.value() / time->value, share);
  return true;
}

// Alternatives that differ by more than one's interval is wide say nothing; nor do those that
// disagree whether it fits, where nothing else was measured.
bool ambiguous(const MeasuredRun& run, const std::vector<Result>& results, std::string& why) {
  if (results.size() < 2) {
    return false;
  }
  const std::string what = run.recompute_unknown ? "recompute is" : "ring and all-to-all degrees are";
  const auto [least, most] = std::minmax_element(
      results.begin(), results.end(),
      [](const Result& a, const Result& b) { return a.step_time < b.step_time; });
  const double width = least->interval_high.value() / least->interval_low.value();
  if (most->step_time.value() > least->step_time.value() * width) {
    why = what + " not known, and the alternatives differ by more than the interval";
  }
  const bool fits = results.front().memory.fits;
  for (const Result& result : results) {
    if (ran_out_of_memory(run) && result.memory.fits != fits) {
      why = what + " not known, and whether it fits depends on it";
    }
  }
  return !why.empty();
}

// Names every member of a draft, so that a new one cannot be forgotten: this would not compile.
// Places say nothing of what is predicted, and the clusters are told apart by the machines' texts.
bool same_draft(const ScenarioDraft& a, const ScenarioDraft& b) {
  const auto tie = [](const ScenarioDraft& draft) {
    const auto& [model, cluster, cluster_value, cluster_name, gpus, workload, plan, data, precision,
                 software, stack_override, attention_kernel, deterministic, expandable_segments, open,
               places] = draft;
    return std::tie(model, cluster_name, gpus, workload, plan, data, precision, software,
                    stack_override, attention_kernel, deterministic, expandable_segments, open);
  };
  const bool built = a.cluster && b.cluster && !a.cluster_value && !b.cluster_value;
  return built && tie(a) == tie(b);
}

bool measures_length(const MeasuredRun& run) {
  return find_measurement(run, MeasuredQuantity::longest_sequence) != nullptr;
}

}  // namespace

bool same_prediction(const MeasuredRun& a, const MeasuredRun& b) {
  return a.draft && b.draft && a.machine == b.machine && same_draft(*a.draft, *b.draft) &&
         a.recompute_unknown == b.recompute_unknown && may_be_unfused(a) == may_be_unfused(b) &&
         degrees_unknown(a) == degrees_unknown(b) &&
         ran_out_of_memory(a) == ran_out_of_memory(b) && measures_length(a) == measures_length(b);
}

RunPrediction predict_run(const MeasuredRun& run, const ValidationOptions& options) {
  RunPrediction prediction;
  ScenarioDraft draft = *run.draft;
  std::vector<Recompute> recomputes{draft.plan.recompute};
  if (run.recompute_unknown) {
    recomputes = {Recompute::none, Recompute::selective, Recompute::full};
  }
  for (const Recompute recompute : recomputes) {
    draft.plan.recompute = recompute;
    auto result = predict_draft(draft, options, prediction.why);
    if (!result) {
      prediction.results.clear();
      return prediction;
    }
    prediction.results.push_back(std::move(*result));
  }
  add_other_degrees(run, options, prediction.results);
  keep_possible(run, prediction.results);
  prediction.unfused = predict_unfused(run, options);
  if (run.recompute_unknown && !degrees_unknown(run)) {
    prediction.likeliest = likeliest(run, prediction.results.size());
  }
  if (measures_length(run) && !options.times_only) {
    prediction.longest_sequence = longest_sequence(*run.draft);
  }
  return prediction;
}

std::vector<Score> score_run(const MeasuredRun& run, const RunPrediction& prediction,
                             std::string& why) {
  std::vector<Score> scores;
  const auto& results = prediction.results;
  if (beyond_peak(run, results.front(), why) || ambiguous(run, results, why)) {
    return scores;
  }
  bool stated = false;
  for (const Measurement& measurement : run.measurements) {
    stated = stated || measurement.quantity == MeasuredQuantity::out_of_memory;
    const bool searched = measurement.quantity != MeasuredQuantity::longest_sequence ||
                          prediction.longest_sequence.value_or(0) > 0;
    if (searched) {
      scores.push_back(score_of(run, measurement, prediction));
    }
  }
  // A run that has a time but no statement about memory did fit: that is worth scoring too.
  if (!stated && !run.measurements.empty()) {
    scores.push_back(
        score_of(run, {MeasuredQuantity::out_of_memory, "fits", 0.0}, prediction));
  }
  return scores;
}

}  // namespace longhaul
