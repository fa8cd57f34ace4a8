#include "calibrate/fit/kernel_fit.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <numeric>

#include "calibrate/fit/regression.h"
#include "calibrate/fit/smooth.h"
#include "calibrate/fit/statistics.h"
#include "sim/units/check.h"

namespace longhaul {

namespace {

constexpr int folds = 5;
constexpr double prior_sigma = 0.7;        // a factor of two either way
constexpr double launch_sigma = 0.02;      // of a launch that tiny kernels have told
constexpr double tiny_bytes = 65536.0;     // below, a cast takes its launch and nothing else
constexpr std::size_t gemm_points = 2000;  // that the mechanism of products is fitted to, about
constexpr std::size_t attention_points = 120;
// Chosen among 0.1, 0.3, 1, 3 and 10 by held-out errors of H100's tables.
constexpr double gemm_stiffness = 0.3;
constexpr double attention_stiffness = 0.3;

// Every so-manieth element, so that about `wanted` remain.
template <class T>
std::vector<T> thinned(const std::vector<T>& all, std::size_t wanted) {
  const std::size_t step = std::max<std::size_t>(1, all.size() / wanted);
  std::vector<T> some;
  for (std::size_t i = 0; i < all.size(); i += step) {
    some.push_back(all[i]);
  }
  return some;
}

std::vector<double> powers_of_two(double low, double high, double step) {
  std::vector<double> knots;
  const double first = std::floor(std::log2(low) + 1e-9);
  for (double x = first; x < std::log2(high) + step - 1e-9; x += step) {
    knots.push_back(x);
  }
  return knots;
}

// Fold of every row by its family; families are numbered in the order of their keys.
template <class T, class Key>
std::vector<int> folds_of(const std::vector<T>& rows, Key key, std::size_t& families) {
  std::map<decltype(key(rows.front())), std::size_t> numbers;
  for (const T& row : rows) {
    numbers.emplace(key(row), 0);
  }
  families = 0;
  for (auto& [name, number] : numbers) {
    number = families++;
  }
  std::vector<int> result;
  for (const T& row : rows) {
    result.push_back(fold_of(numbers.at(key(row)), folds));
  }
  return result;
}

template <class T, class Fitted>
struct Study {
  std::function<Fitted(const std::vector<T>&)> fit;
  std::function<double(const Fitted&, const T&)> predict;  // seconds
};

// Errors within and of folds left out.
template <class T, class Fitted>
void validate(const Study<T, Fitted>& study, const Fitted& whole, const std::vector<T>& rows,
              const std::vector<int>& fold_of_row, FitReport& report) {
  std::vector<double> within;
  for (const T& row : rows) {
    within.push_back(study.predict(whole, row) / row.seconds);
  }
  std::vector<double> held_out;
  for (int fold = 0; fold < folds; ++fold) {
    std::vector<T> training;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (fold_of_row[i] != fold) {
        training.push_back(rows[i]);
      }
    }
    const Fitted fitted = study.fit(training);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (fold_of_row[i] == fold) {
        held_out.push_back(study.predict(fitted, rows[i]) / rows[i].seconds);
        report.residuals.push_back({rows[i].seconds, held_out.back()});
      }
    }
  }
  report.error = error_of(within);
  report.held_out = error_of(held_out);
}

template <class T, class Size>
FittedRange range_of(const std::vector<T>& rows, Size size) {
  FittedRange range{INFINITY, 0.0};
  for (const T& row : rows) {
    range.low = std::min(range.low, size(row));
    range.high = std::max(range.high, size(row));
  }
  return range;
}

// ---- matrix products ----

constexpr std::array<std::array<std::int64_t, 2>, 11> tile_shapes = {
    {{256, 256}, {256, 128}, {128, 256}, {192, 128}, {128, 192}, {128, 128},
     {256, 64}, {64, 256}, {128, 64}, {64, 128}, {64, 64}}};
enum GemmParameter { e0, intensity, launch, tile_start, wave_odds, memory_share, sharpness, count };

GemmCurve gemm_curve(KernelType type, const Eigen::VectorXd& logs) {
  GemmCurve curve;
  curve.type = type;
  for (const auto& shape : tile_shapes) {
    const double reads = 64.0 / static_cast<double>(shape[0]) + 64.0 / static_cast<double>(shape[1]);
    curve.tiles.push_back({shape[0], shape[1],
                           std::min(1.0, std::exp(logs[e0]) /
                                             (1.0 + std::exp(logs[intensity]) * reads))});
  }
  curve.launch = Seconds::of(std::exp(logs[launch]));
  curve.tile_start = Seconds::of(std::exp(logs[tile_start]));
  curve.wave_share = 1.0 / (1.0 + std::exp(-logs[wave_odds]));
  curve.memory_share = std::exp(logs[memory_share]);
  curve.sharpness = std::min(50.0, std::exp(logs[sharpness]));
  return curve;
}

std::array<double, 3> gemm_sizes(const GemmRow& row) {
  return {static_cast<double>(row.shape.m), static_cast<double>(row.shape.n),
          static_cast<double>(row.shape.k)};
}

struct GemmModel {
  GemmCurve curve;
  RegressionResult regression;
};

double gemm_seconds(const Device& device, const GemmCurve& curve, const GemmRow& row) {
  return gemm_mechanism(device, curve, row.shape) *
         correction_factor(curve.correction, gemm_sizes(row));
}

GemmModel gemm_model(const Device& device, KernelType type, const std::vector<GemmRow>& rows) {
  const std::vector<GemmRow> some = thinned(rows, gemm_points);
  RegressionProblem problem;
  problem.predict = [&](const Eigen::VectorXd& logs) {
    const GemmCurve curve = gemm_curve(type, logs);
    Eigen::VectorXd result(static_cast<Eigen::Index>(some.size()));
    for (std::size_t i = 0; i < some.size(); ++i) {
      result[static_cast<Eigen::Index>(i)] =
          std::log(gemm_mechanism(device, curve, some[i].shape));
    }
    return result;
  };
  problem.observed.resize(static_cast<Eigen::Index>(some.size()));
  for (std::size_t i = 0; i < some.size(); ++i) {
    problem.observed[static_cast<Eigen::Index>(i)] = std::log(some[i].seconds);
  }
  problem.weights = Eigen::VectorXd::Ones(problem.observed.size());
  problem.prior.resize(count);
  problem.prior << std::log(0.9), std::log(0.15), std::log(2e-6), std::log(1.5e-6), 0.0,
      std::log(0.8), std::log(4.0);
  problem.prior_sigma = Eigen::VectorXd::Constant(count, prior_sigma);
  GemmModel model;
  model.regression = robust_fit(problem);
  model.curve = gemm_curve(type, model.regression.parameters);
  std::vector<Deviation> deviations;
  for (const GemmRow& row : rows) {
    deviations.push_back(
        {gemm_sizes(row), std::log(row.seconds / gemm_mechanism(device, model.curve, row.shape))});
  }
  std::array<std::vector<double>, 3> knots;
  for (std::size_t side = 0; side < 3; ++side) {
    const FittedRange range = range_of(rows, [&](const GemmRow& row) { return gemm_sizes(row)[side]; });
    knots[side] = powers_of_two(range.low, range.high, 1.0);
    model.curve.range[side] = range;
  }
  model.curve.correction = fit_correction(knots, deviations, gemm_stiffness);
  return model;
}

// ---- memory-bound kernels ----

struct MemoryModel {
  Eigen::VectorXd logs;
  Eigen::MatrixXd covariance;
};

double memory_seconds(const Device& device, const Eigen::VectorXd& logs, double bytes) {
  const double stream =
      bytes / (device.memory_bandwidth.value() * std::min(1.0, std::exp(logs[1])));
  return std::exp(logs[0]) + stream;
}

MemoryModel memory_model(const Device& device, double launch_seconds,
                         const std::vector<MemoryRow>& rows) {
  RegressionProblem problem;
  const auto size = static_cast<Eigen::Index>(rows.size());
  problem.predict = [&](const Eigen::VectorXd& logs) {
    Eigen::VectorXd result(size);
    for (Eigen::Index i = 0; i < size; ++i) {
      result[i] = std::log(memory_seconds(device, logs, rows[static_cast<std::size_t>(i)].bytes));
    }
    return result;
  };
  problem.observed.resize(size);
  for (Eigen::Index i = 0; i < size; ++i) {
    problem.observed[i] = std::log(rows[static_cast<std::size_t>(i)].seconds);
  }
  problem.weights = Eigen::VectorXd::Ones(size);
  problem.prior = Eigen::Vector2d(std::log(launch_seconds), std::log(0.85));
  problem.prior_sigma = Eigen::Vector2d(launch_sigma, prior_sigma);
  const RegressionResult result = robust_fit(problem);
  return {result.parameters, result.covariance};
}

// ---- attention ----

struct AttentionModel {
  AttentionCurve curve;
  RegressionResult regression;
};

// What is fitted: logarithms of beta, launch, start of a tile and cost of a masked step.
AttentionCurve attention_curve(const AttentionCurve& start, const Eigen::VectorXd& logs) {
  AttentionCurve curve = start;
  curve.beta = std::min(99.0, std::exp(logs[0]));
  curve.launch = Seconds::of(std::exp(logs[1]));
  curve.tile_start = Seconds::of(std::exp(logs[2]));
  curve.masked_step = std::min(9.9, std::exp(logs[3]));
  return curve;
}

// Reads K and V and writes them to the cache: a memory-bound kernel of its own.
double cache_seconds(const Device& device, double memory_share, Seconds memory_launch,
                     const AttentionRow& row) {
  if (!row.paged_cache) {
    return 0.0;
  }
  const double elements = static_cast<double>(row.shape.batch * row.shape.keys) *
                          static_cast<double>(row.shape.kv_heads * row.shape.head_dim);
  return memory_launch.value() +
         8.0 * elements / (device.memory_bandwidth.value() * memory_share);
}

AttentionModel attention_model(const Device& device, const AttentionCurve& start,
                               double memory_share, Seconds memory_launch,
                               const std::vector<AttentionRow>& rows) {
  const std::vector<AttentionRow> some = thinned(rows, attention_points);
  const auto size = static_cast<Eigen::Index>(some.size());
  const auto seconds = [&](const AttentionCurve& curve, const AttentionRow& row) {
    return attention_mechanism(device, curve, false, memory_share, row.shape) +
           cache_seconds(device, memory_share, memory_launch, row);
  };
  RegressionProblem problem;
  problem.predict = [&](const Eigen::VectorXd& logs) {
    const AttentionCurve curve = attention_curve(start, logs);
    Eigen::VectorXd result(size);
    for (Eigen::Index i = 0; i < size; ++i) {
      result[i] = std::log(seconds(curve, some[static_cast<std::size_t>(i)]));
    }
    return result;
  };
  problem.observed.resize(size);
  for (Eigen::Index i = 0; i < size; ++i) {
    problem.observed[i] = std::log(some[static_cast<std::size_t>(i)].seconds);
  }
  problem.weights = Eigen::VectorXd::Ones(size);
  problem.prior.resize(4);
  problem.prior << std::log(start.beta), std::log(start.launch.value()),
      std::log(start.tile_start.value()), std::log(start.masked_step);
  problem.prior_sigma = Eigen::VectorXd::Constant(4, prior_sigma);
  AttentionModel model;
  model.regression = robust_fit(problem);
  model.curve = attention_curve(start, model.regression.parameters);
  std::vector<Deviation> deviations;
  for (const AttentionRow& row : rows) {
    // The correction is of the kernel, so the cache's share of the time is taken off first; half
    // of the time at least is the kernel's.
    const double cache = cache_seconds(device, memory_share, memory_launch, row);
    const double kernel = std::max(row.seconds - cache, 0.5 * row.seconds);
    const double modelled =
        attention_mechanism(device, model.curve, false, memory_share, row.shape);
    deviations.push_back({attention_sizes(row.shape), std::log(kernel / modelled)});
  }
  std::array<std::vector<double>, 3> knots;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const FittedRange range = range_of(
        rows, [&](const AttentionRow& row) { return attention_sizes(row.shape)[axis]; });
    knots[axis] = powers_of_two(range.low, range.high, axis == 1 ? 1.0 : axis == 0 ? 1.0 : 1.5);
    model.curve.range[axis] = range;
  }
  model.curve.correction = fit_correction(knots, deviations, attention_stiffness);
  return model;
}

}  // namespace

FitError error_of(const std::vector<double>& predicted_over_measured) {
  std::vector<double> sizes;
  for (const double ratio : predicted_over_measured) {
    sizes.push_back(std::abs(ratio - 1.0));
  }
  return {sizes.size(), sizes.empty() ? 0.0 : median(sizes),
          sizes.empty() ? 0.0 : quantile(sizes, 0.9)};
}

std::optional<GemmFit> fit_gemm(const Device& device, KernelType type,
                                const std::vector<GemmRow>& rows) {
  if (rows.size() < least_points) {
    return std::nullopt;
  }
  std::size_t families = 0;
  const std::vector<int> fold_of_row = folds_of(
      rows, [](const GemmRow& row) { return std::pair(row.shape.n, row.shape.k); }, families);
  if (families < least_families) {
    return std::nullopt;
  }
  Study<GemmRow, GemmModel> study;
  study.fit = [&](const std::vector<GemmRow>& training) {
    return gemm_model(device, type, training);
  };
  study.predict = [&](const GemmModel& model, const GemmRow& row) {
    return gemm_seconds(device, model.curve, row);
  };
  const GemmModel model = study.fit(rows);
  GemmFit fit{model.curve, {}};
  fit.report.names = {"e0", "intensity", "launch", "tile_start", "wave_odds", "memory_share",
                      "sharpness"};
  fit.report.parameters = model.regression.parameters;
  fit.report.covariance = model.regression.covariance;
  validate(study, model, rows, fold_of_row, fit.report);
  // One standard deviation of a normal error whose median size is the held-out one.
  fit.curve.spread = std::max(0.01, 1.4826 * fit.report.held_out.middle);
  return fit;
}

std::optional<MemoryFit> fit_memory(const Device& device, const std::vector<MemoryRow>& rows) {
  // What the L2 cache may hold runs at the cache's rate when it is read again and again, which a
  // training step does not do; what is tiny tells the launch.
  std::vector<MemoryRow> streams;
  std::vector<double> launches;
  for (const MemoryRow& row : rows) {
    if (row.bytes > 2.0 * device.l2_cache.value()) {
      streams.push_back(row);
    } else if (row.bytes < tiny_bytes) {
      launches.push_back(row.seconds);
    }
  }
  std::size_t families = 0;
  if (streams.size() < least_points || launches.size() < least_points) {
    return std::nullopt;
  }
  const std::vector<int> fold_of_row =
      folds_of(streams, [](const MemoryRow& row) { return row.width; }, families);
  if (families < least_families) {
    return std::nullopt;
  }
  Study<MemoryRow, MemoryModel> study;
  study.fit = [&](const std::vector<MemoryRow>& training) {
    return memory_model(device, median(launches), training);
  };
  study.predict = [&](const MemoryModel& model, const MemoryRow& row) {
    return memory_seconds(device, model.logs, row.bytes);
  };
  const MemoryModel model = study.fit(streams);
  MemoryFit fit;
  fit.launch = Seconds::of(std::exp(model.logs[0]));
  fit.efficiency = std::min(1.0, std::exp(model.logs[1]));
  fit.largest = range_of(streams, [](const MemoryRow& row) { return row.bytes; }).high;
  fit.report.names = {"launch", "efficiency"};
  fit.report.parameters = model.logs;
  fit.report.covariance = model.covariance;
  validate(study, model, streams, fold_of_row, fit.report);
  fit.spread = std::max(0.01, 1.4826 * fit.report.held_out.middle);
  return fit;
}

std::optional<AttentionFit> fit_attention(const Device& device, const AttentionCurve& start,
                                          double memory_share, Seconds memory_launch,
                                          const std::vector<AttentionRow>& rows) {
  if (rows.size() < least_points) {
    return std::nullopt;
  }
  std::size_t families = 0;
  const std::vector<int> fold_of_row = folds_of(
      rows, [](const AttentionRow& row) { return std::pair(row.shape.heads, row.shape.kv_heads); },
      families);
  if (families < least_families) {
    return std::nullopt;
  }
  Study<AttentionRow, AttentionModel> study;
  study.fit = [&](const std::vector<AttentionRow>& training) {
    return attention_model(device, start, memory_share, memory_launch, training);
  };
  study.predict = [&](const AttentionModel& model, const AttentionRow& row) {
    return attention_mechanism(device, model.curve, false, memory_share, row.shape) *
               correction_factor(model.curve.correction, attention_sizes(row.shape)) +
           cache_seconds(device, memory_share, memory_launch, row);
  };
  const AttentionModel model = study.fit(rows);
  AttentionFit fit{model.curve, {}};
  fit.report.names = {"beta", "launch", "tile_start", "masked_step"};
  fit.report.parameters = model.regression.parameters;
  fit.report.covariance = model.regression.covariance;
  validate(study, model, rows, fold_of_row, fit.report);
  fit.curve.spread = std::max(0.01, 1.4826 * fit.report.held_out.middle);
  return fit;
}

}  // namespace longhaul
