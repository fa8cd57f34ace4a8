// Fits of matrix products; equations: docs/models/gemm.md.
#include <cmath>

#include "calibrate/fit/gemm_form.h"
#include "calibrate/fit/regression.h"

namespace longhaul {

namespace {

constexpr std::size_t gemm_points = 1000;  // that the mechanism is fitted to, about
constexpr double odds_sigma = 3.0;  // of the log-odds of the staircase: it may vanish or be whole
constexpr double tile_sigma = 0.2;  // of a tile's efficiency about the common curve

// cuBLAS's shapes on every generation; Hopper's 2 x 1 clusters of 128 x 256 count as such.
constexpr std::array<std::array<std::int64_t, 2>, 8> tile_shapes = {
    {{256, 128}, {128, 256}, {128, 128}, {256, 64}, {64, 256}, {128, 64}, {64, 128}, {64, 64}}};
enum GemmParameter {
  e0, intensity, launch, tile_start, wave_odds, memory_share, sharpness, split_cost, first_tile
};
constexpr auto parameters = static_cast<Eigen::Index>(first_tile + tile_shapes.size());

GemmCurve gemm_curve(KernelType type, const Eigen::VectorXd& logs) {
  GemmCurve curve;
  curve.type = type;
  for (std::size_t i = 0; i < tile_shapes.size(); ++i) {
    const auto& shape = tile_shapes[i];
    const double reads = 64.0 / static_cast<double>(shape[0]) + 64.0 / static_cast<double>(shape[1]);
    const double own = logs[first_tile + static_cast<Eigen::Index>(i)];
    curve.tiles.push_back({shape[0], shape[1],
                           std::min(1.0, std::exp(logs[e0] + own) /
                                             (1.0 + std::exp(logs[intensity]) * reads))});
  }
  curve.launch = Seconds::of(std::exp(logs[launch]));
  curve.tile_start = Seconds::of(std::exp(logs[tile_start]));
  curve.wave_share = 1.0 / (1.0 + std::exp(-logs[wave_odds]));
  curve.memory_share = std::exp(logs[memory_share]);
  curve.sharpness = std::min(50.0, std::exp(logs[sharpness]));
  curve.split_cost = std::exp(logs[split_cost]);
  return curve;
}

std::array<double, 3> wave_sizes(const Device& device, const GemmShape& shape) {
  const auto [waves, waste] = gemm_waves(device, shape);
  return {waves, waste, static_cast<double>(shape.k)};
}

struct GemmModel {
  GemmCurve curve;
  RegressionResult regression;
};

RegressionProblem gemm_problem(const Device& device, const GemmForm& form,
                               const std::vector<GemmRow>& rows) {
  RegressionProblem problem;
  problem.predict = [&device, &form, rows](const Eigen::VectorXd& logs) {
    const GemmCurve curve = form.curve(logs);
    Eigen::VectorXd result(static_cast<Eigen::Index>(rows.size()));
    for (std::size_t i = 0; i < rows.size(); ++i) {
      result[static_cast<Eigen::Index>(i)] = std::log(gemm_mechanism(device, curve, rows[i].shape));
    }
    return result;
  };
  problem.observed.resize(static_cast<Eigen::Index>(rows.size()));
  for (std::size_t i = 0; i < rows.size(); ++i) {
    problem.observed[static_cast<Eigen::Index>(i)] = std::log(rows[i].seconds);
  }
  problem.weights = Eigen::VectorXd::Ones(problem.observed.size());
  problem.prior = form.prior;
  problem.prior_sigma = form.prior_sigma;
  return problem;
}

// Starts that differ in how much worse small tiles are: the best of tiles makes valleys.
std::vector<Eigen::VectorXd> starts_of(const Eigen::VectorXd& prior) {
  std::vector<Eigen::VectorXd> starts;
  for (const double worse : {0.05, 0.2, 0.6}) {
    starts.push_back(prior);
    starts.back()[intensity] = std::log(worse);
  }
  return starts;
}

// The nearest table that never falls along its second axis (pool adjacent violators: Barlow et al.
// 1972): tiles that compute nothing cost no less than nothing.
void make_rising(Correction& table) {
  const std::size_t length = table.knots[1].size();
  const std::size_t stride = table.knots[2].size();
  for (std::size_t line = 0; line < table.values.size() / length; ++line) {
    const std::size_t start = line / stride * stride * length + line % stride;
    std::vector<std::pair<double, std::size_t>> pools;  // mean, members
    for (std::size_t i = 0; i < length; ++i) {
      pools.emplace_back(table.values[start + i * stride], 1);
      while (pools.size() > 1 && pools[pools.size() - 2].first > pools.back().first) {
        const auto [mean, members] = pools.back();
        pools.pop_back();
        auto& [below, count] = pools.back();
        below = (below * static_cast<double>(count) + mean * static_cast<double>(members)) /
                static_cast<double>(count + members);
        count += members;
      }
    }
    std::size_t i = 0;
    for (const auto& [mean, members] : pools) {
      for (std::size_t member = 0; member < members; ++member) {
        table.values[start + i++ * stride] = mean;
      }
    }
  }
}

// The two corrections, each fitted to what the other leaves.
void fit_corrections(const Device& device, const std::vector<GemmRow>& rows, GemmCurve& curve) {
  // Waves from a sixteenth to 64, waste in eighths of an octave, every second octave of k.
  const std::array<std::vector<double>, 3> wave_knots = {
      {{-4, -2, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4, 5, 6},
       {0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 1},
       {7, 9, 10, 11, 12, 13, 14, 16}}};
  const std::vector<double> rest = rest_of(device, rows, curve);
  std::vector<double> by_waves(rows.size(), 0.0);
  for (int round = 0; round < gemm_backfits; ++round) {
    fit_size_correction(rows, rest, by_waves, curve);
    std::vector<Deviation> stairs;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const double smooth = correction_factor(curve.correction, gemm_sizes(rows[i].shape));
      stairs.push_back({wave_sizes(device, rows[i].shape), rest[i] - std::log(smooth)});
    }
    curve.waves = fit_correction(wave_knots, stairs, gemm_stiffness);
    make_rising(curve.waves);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      by_waves[i] = std::log(correction_factor(curve.waves, stairs[i].at));
    }
  }
}

GemmModel gemm_model(const Device& device, const GemmForm& form,
                     const std::vector<GemmRow>& rows) {
  const RegressionProblem problem = gemm_problem(device, form, thinned(rows, gemm_points));
  GemmModel model;
  model.regression = pattern_fit(problem, form.starts);
  model.curve = form.curve(model.regression.parameters);
  form.correct(rows, model.curve);
  return model;
}

double gemm_seconds(const Device& device, const GemmCurve& curve, const GemmRow& row) {
  return gemm_mechanism(device, curve, row.shape) * gemm_correction(device, curve, row.shape);
}

// Rows that memory could not have served at its data-sheet rate: tables repeat a call, and what
// stayed in the cache is none of a training step's cold operands.
std::vector<GemmRow> rows_from_memory(const Device& device, const std::vector<GemmRow>& rows) {
  std::vector<GemmRow> kept;
  for (const GemmRow& row : rows) {
    if (row.seconds * device.memory_bandwidth.value() >= gemm_bytes(row.shape)) {
      kept.push_back(row);
    }
  }
  return kept;
}

std::vector<std::string> parameter_names() {
  std::vector<std::string> names = {"e0",        "intensity",    "launch",    "tile_start",
                                    "wave_odds", "memory_share", "sharpness", "split_cost"};
  for (const auto& shape : tile_shapes) {
    names.push_back("tile_" + std::to_string(shape[0]) + "x" + std::to_string(shape[1]));
  }
  return names;
}

}  // namespace

std::array<double, 3> gemm_sizes(const GemmShape& shape) {
  return {static_cast<double>(shape.m), static_cast<double>(shape.n),
          static_cast<double>(shape.k)};
}

std::vector<double> rest_of(const Device& device, const std::vector<GemmRow>& rows,
                            const GemmCurve& curve) {
  std::vector<double> rest;
  for (const GemmRow& row : rows) {
    rest.push_back(std::log(row.seconds / gemm_mechanism(device, curve, row.shape)));
  }
  return rest;
}

void fit_size_correction(const std::vector<GemmRow>& rows, const std::vector<double>& rest,
                         const std::vector<double>& other, GemmCurve& curve) {
  std::array<std::vector<double>, 3> knots;
  for (std::size_t side = 0; side < 3; ++side) {
    curve.range[side] =
        range_of(rows, [&](const GemmRow& row) { return gemm_sizes(row.shape)[side]; });
        knots[side] = powers_of_two(curve.range[side].low, curve.range[side].high, 1.0);
  }
  std::vector<Deviation> deviations;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    deviations.push_back({gemm_sizes(rows[i].shape), rest[i] - other[i]});
  }
  curve.correction = fit_correction(knots, deviations, gemm_stiffness);
}

GemmForm fastest_tile_form(const Device& device, KernelType type) {
  GemmForm form;
  form.names = parameter_names();
  form.prior = Eigen::VectorXd::Zero(parameters);
  form.prior.head(first_tile) << std::log(0.95), std::log(0.2), std::log(2e-6), std::log(1e-6),
      1.0, std::log(0.8), std::log(4.0), 0.0;
  form.prior_sigma = Eigen::VectorXd::Constant(parameters, prior_sigma);
  form.prior_sigma[wave_odds] = odds_sigma;
  form.prior_sigma.tail(parameters - first_tile).setConstant(tile_sigma);
  form.starts = starts_of(form.prior);
  form.curve = [type](const Eigen::VectorXd& logs) { return gemm_curve(type, logs); };
  form.correct = [&device](const std::vector<GemmRow>& rows, GemmCurve& curve) {
    fit_corrections(device, rows, curve);
  };
  return form;
}

std::optional<GemmFit> fit_gemm(const Device& device, KernelType type,
                                const std::vector<GemmRow>& all) {
  const std::vector<GemmRow> rows = rows_from_memory(device, all);
  if (rows.size() < least_points) {
    return std::nullopt;
  }
  std::size_t families = 0;
  const std::vector<int> fold_of_row = folds_of(
      rows, [](const GemmRow& row) { return std::pair(row.shape.n, row.shape.k); }, families);
  if (families < least_families) {
    return std::nullopt;
  }
  const auto ruled = type == KernelType::fp8_block ? block_form(device) : std::nullopt;
  const GemmForm form = ruled ? *ruled : fastest_tile_form(device, type);
  Study<GemmRow, GemmModel> study;
  study.fit = [&](const std::vector<GemmRow>& training) {
    return gemm_model(device, form, training);
  };
  study.predict = [&](const GemmModel& model, const GemmRow& row) {
    return gemm_seconds(device, model.curve, row);
  };
  const GemmModel model = study.fit(rows);
  GemmFit fit{model.curve, {}};
  fit.report.names = form.names;
  fit.report.parameters = model.regression.parameters;
  fit.report.covariance = model.regression.covariance;
  fit.report.left_out = all.size() - rows.size();
  validate(study, model, rows, fold_of_row, fit.report);
  for (const std::size_t side : {0U, 1U}) {  // tokens and vocabularies exceed the tables, k does not
    fit.curve.range[side].growth =
        growth_of(study, rows, fit.curve.range[side].high,
                  [&](const GemmRow& row) { return gemm_sizes(row.shape)[side]; });
  }
  // One standard deviation of a normal error whose median size is the held-out one.
  fit.curve.spread = std::max(0.01, 1.4826 * fit.report.held_out.middle);
  return fit;
}

}  // namespace longhaul
