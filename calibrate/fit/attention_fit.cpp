// Fits of attention kernels; equations: docs/models/attention.md.
#include <cmath>

#include "calibrate/fit/kernel_fit.h"
#include "calibrate/fit/regression.h"
#include "calibrate/fit/served_attention.h"
#include "calibrate/fit/study.h"

namespace longhaul {

namespace {

constexpr std::size_t attention_points = 120;  // that the mechanism is fitted to, about
// Chosen among 0.1, 0.3, 1, 3 and 10 by held-out errors of H100's tables.
constexpr double stiffness = 0.3;
constexpr int backfits = 2;  // rounds in which the two corrections explain the other's rest

// A thread block that loads an index and what it points to: two trips to memory of 0.5 us and more.
constexpr double life_prior = 1.3e-6;

struct AttentionModel {
  AttentionCurve curve;
  CopyRates rates;
  RegressionResult regression;
};

// What the rows share besides their curve. The life of thread blocks in `rates` is the prior.
struct Served {
  const Device& device;
  CopyRates rates;
  AttentionServer server;
};

// What is fitted: logarithms of beta, launch, start of a tile, cost of a masked step and, where such
// count, how long a thread block lives.
constexpr Eigen::Index curve_parameters = 4;

bool counts_blocks(const Served& served, const AttentionRow& row) {
  return row.vllm && (row.paged_cache || served.server.flash3);
}

AttentionModel attention_of(const Served& served, const AttentionCurve& start,
                            const Eigen::VectorXd& logs) {
  AttentionModel model{start, served.rates, {}};
  model.curve.beta = std::min(99.0, std::exp(logs[0]));
  model.curve.launch = Seconds::of(std::exp(logs[1]));
  model.curve.tile_start = Seconds::of(std::exp(logs[2]));
  model.curve.masked_step = std::min(9.9, std::exp(logs[3]));
  if (logs.size() > curve_parameters) {
    model.rates.block_life = std::exp(logs[curve_parameters]);
  }
  return model;
}

// The attention kernel itself.
double kernel_seconds(const Served& served, const AttentionCurve& curve, const AttentionRow& row) {
  return served.server.flash3
             ? flash3_mechanism(served.device, curve, served.rates.memory_share, row)
             : attention_mechanism(served.device, curve, false, served.rates.memory_share,
                                   row.shape, served.server.order);
}

// Kernels of their own around it.
double seconds_around(const Served& served, const AttentionModel& model, const AttentionRow& row) {
  const double cache = cache_seconds(served.device, model.rates, row);
  return served.server.flash3
             ? cache + combine_seconds(served.device, model.curve, model.rates, row)
             : cache;
}

// The two corrections, each fitted to what the other leaves. Deviations are at the sizes of the
// first.
void fit_corrections(const std::vector<AttentionRow>& rows,
                     const std::vector<Deviation>& deviations, AttentionCurve& curve) {
  constexpr std::array<double, 3> steps = {1.0, 1.0, 1.5};
  std::array<std::vector<double>, 3> knots;
  std::array<std::vector<double>, 3> layout_knots;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    curve.range[axis] = range_of(
        rows, [&](const AttentionRow& row) { return attention_sizes(row.shape)[axis]; });
    knots[axis] = powers_of_two(curve.range[axis].low, curve.range[axis].high, steps[axis]);
    const FittedRange layout = range_of(
        rows, [&](const AttentionRow& row) { return attention_layout(row.shape)[axis]; });
    layout_knots[axis] = powers_of_two(layout.low, layout.high, 1.0);
  }
  for (int round = 0; round < backfits; ++round) {
    std::vector<Deviation> smooth = deviations;
    std::vector<Deviation> layout;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      smooth[i].log -= std::log(correction_factor(curve.layout, attention_layout(rows[i].shape)));
    }
    curve.correction = fit_correction(knots, smooth, stiffness);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      layout.push_back({attention_layout(rows[i].shape),
                        deviations[i].log -
                            std::log(correction_factor(curve.correction, deviations[i].at))});
    }
    curve.layout = fit_correction(layout_knots, layout, stiffness);
  }
}

RegressionProblem attention_problem(const Served& served, const AttentionCurve& start,
                                    const std::vector<AttentionRow>& rows) {
  RegressionProblem problem;
  const auto size = static_cast<Eigen::Index>(rows.size());
  problem.predict = [&served, &start, &rows, size](const Eigen::VectorXd& logs) {
    const AttentionModel model = attention_of(served, start, logs);
    Eigen::VectorXd result(size);
    for (Eigen::Index i = 0; i < size; ++i) {
      const AttentionRow& row = rows[static_cast<std::size_t>(i)];
      result[i] = std::log(kernel_seconds(served, model.curve, row) +
                           seconds_around(served, model, row));
    }
    return result;
  };
  problem.observed.resize(size);
  for (Eigen::Index i = 0; i < size; ++i) {
    problem.observed[i] = std::log(rows[static_cast<std::size_t>(i)].seconds);
  }
  problem.weights = Eigen::VectorXd::Ones(size);
  const bool blocks = counts_blocks(served, rows.front());
  problem.prior.resize(blocks ? curve_parameters + 1 : curve_parameters);
  problem.prior.head(curve_parameters) << std::log(start.beta), std::log(start.launch.value()),
      std::log(start.tile_start.value()), std::log(start.masked_step);
  if (blocks) {
    problem.prior[curve_parameters] = std::log(served.rates.block_life);
  }
  problem.prior_sigma = Eigen::VectorXd::Constant(problem.prior.size(), prior_sigma);
  return problem;
}

AttentionModel attention_model(const Served& served, const AttentionCurve& start,
                               const std::vector<AttentionRow>& rows) {
  const std::vector<AttentionRow> some = thinned(rows, attention_points);
  const RegressionResult regression = robust_fit(attention_problem(served, start, some));
  AttentionModel model = attention_of(served, start, regression.parameters);
  model.regression = regression;
  std::vector<Deviation> deviations;
  for (const AttentionRow& row : rows) {
    // The correction is of the kernel, so what is around it is taken off first; half of the time at
    // least is the kernel's.
    const double kernel =
        std::max(row.seconds - seconds_around(served, model, row), 0.5 * row.seconds);
    deviations.push_back({attention_sizes(row.shape),
                          std::log(kernel / kernel_seconds(served, model.curve, row))});
  }
  fit_corrections(rows, deviations, model.curve);
  return model;
}

}  // namespace

std::optional<AttentionFit> fit_attention(const Device& device, const AttentionCurve& start,
                                          double memory_share, Seconds memory_launch,
                                          const std::vector<AttentionRow>& rows,
                                          const AttentionServer& server) {
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
  const Served served{device, {memory_share, memory_launch, life_prior}, server};
  Study<AttentionRow, AttentionModel> study;
  study.fit = [&](const std::vector<AttentionRow>& training) {
    return attention_model(served, start, training);
  };
  study.predict = [&](const AttentionModel& model, const AttentionRow& row) {
    return kernel_seconds(served, model.curve, row) *
               attention_correction(model.curve, row.shape) +
           seconds_around(served, model, row);
  };
  const AttentionModel model = study.fit(rows);
  AttentionFit fit{model.curve, {}};
  fit.report.names = {"beta", "launch", "tile_start", "masked_step"};
  if (counts_blocks(served, rows.front())) {
    fit.report.names.push_back("block_life");
  }
  fit.report.parameters = model.regression.parameters;
  fit.report.covariance = model.regression.covariance;
  validate(study, model, rows, fold_of_row, fit.report);
  for (const std::size_t axis : {0U, 1U}) {  // lengths exceed the tables, groups do not
    fit.curve.range[axis].growth =
        growth_of(study, rows, fit.curve.range[axis].high,
                  [&](const AttentionRow& row) { return attention_sizes(row.shape)[axis]; });
  }
  fit.curve.spread = std::max(0.01, 1.4826 * fit.report.held_out.middle);
  return fit;
}

}  // namespace longhaul
