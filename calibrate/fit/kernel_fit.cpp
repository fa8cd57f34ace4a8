#include "calibrate/fit/kernel_fit.h"

#include <algorithm>
#include <cmath>

#include "calibrate/fit/regression.h"
#include "calibrate/fit/study.h"
#include "calibrate/fit/statistics.h"

namespace longhaul {

namespace {

constexpr double launch_sigma = 0.02;      // of a launch that tiny kernels have told
constexpr double ramp_sigma = 1.5;         // a factor of four: nothing is known of it beforehand
constexpr double tiny_bytes = 65536.0;     // below, a cast takes its launch and nothing else

struct MemoryModel {
  Eigen::VectorXd logs;
  Eigen::MatrixXd covariance;
};

double memory_seconds(const Device& device, const Eigen::VectorXd& logs, double bytes) {
  const double rate = device.memory_bandwidth.value() * std::min(1.0, std::exp(logs[1]));
  return stream_seconds(bytes, rate, Seconds::of(std::exp(logs[0])),
                        Seconds::of(std::exp(logs[2])));
}

MemoryModel memory_model(const Device& device, double launch_seconds,
                         const std::vector<StreamRow>& rows) {
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
  problem.prior = Eigen::Vector3d(std::log(launch_seconds), std::log(0.85), std::log(1e-6));
  problem.prior_sigma = Eigen::Vector3d(launch_sigma, prior_sigma, ramp_sigma);
  const RegressionResult result = robust_fit(problem);
  return {result.parameters, result.covariance};
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

std::optional<MemoryFit> fit_memory(const Device& device, const std::vector<StreamRow>& rows) {
  // What the L2 cache may hold runs at the cache's rate when it is read again and again, which a
  // training step does not do; what is tiny tells the launch.
  std::vector<StreamRow> streams;
  std::vector<double> launches;
  for (const StreamRow& row : rows) {
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
      folds_of(streams, [](const StreamRow& row) { return row.width; }, families);
  if (families < least_families) {
    return std::nullopt;
  }
  Study<StreamRow, MemoryModel> study;
  study.fit = [&](const std::vector<StreamRow>& training) {
    return memory_model(device, median(launches), training);
  };
  study.predict = [&](const MemoryModel& model, const StreamRow& row) {
    return memory_seconds(device, model.logs, row.bytes);
  };
  const MemoryModel model = study.fit(streams);
  MemoryFit fit;
  fit.launch = Seconds::of(std::exp(model.logs[0]));
  fit.efficiency = std::min(1.0, std::exp(model.logs[1]));
  fit.largest = range_of(streams, [](const StreamRow& row) { return row.bytes; }).high;
  fit.ramp = Seconds::of(std::exp(model.logs[2]));
  fit.report.names = {"launch", "efficiency", "ramp"};
  fit.report.parameters = model.logs;
  fit.report.covariance = model.covariance;
  validate(study, model, streams, fold_of_row, fit.report);
  fit.spread = std::max(0.01, 1.4826 * fit.report.held_out.middle);
  return fit;
}

}  // namespace longhaul
