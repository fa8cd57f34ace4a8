#include "calibrate/fit/model_fit.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>

#include "calibrate/fit/regression.h"
#include "calibrate/fit/statistics.h"
#include "sim/cost/placement.h"
#include "sim/topology/cluster_spec.h"
#include "sim/units/check.h"

namespace longhaul {

namespace {

constexpr double least_own = 0.01;  // of the logarithm: zero has none
constexpr double least_seconds = 1e-8;

// By TransferKind, as profiles write them.
constexpr std::array<const char*, transfer_kinds> kind_words = {
    "ring/LL",     "ring/LL128", "ring/Simple", "tree/LL",    "tree/LL128",
    "tree/Simple", "nvls",       "nvls_tree",   "all_to_all", "send"};

Eigen::VectorXd to_logs(const Behaviour& behaviour) {
  Eigen::VectorXd logs(behaviour_parameters);
  logs << std::log(std::max(behaviour.base.value(), least_seconds)),
      std::log(std::max(behaviour.hop.value(), least_seconds)), std::log(behaviour.share),
      std::log(std::max(behaviour.own, least_own)), std::log(behaviour.blend);
  return logs;
}

Behaviour from_logs(const Eigen::VectorXd& logs) {
  Behaviour behaviour;
  behaviour.base = Seconds::of(std::exp(logs[0]));
  behaviour.hop = Seconds::of(std::exp(logs[1]));
  behaviour.share = std::exp(logs[2]);
  behaviour.own = std::exp(logs[3]);
  behaviour.blend = std::exp(logs[4]);
  return behaviour;
}

// The kind of transfer that a plan of NCCL's is.
std::optional<TransferKind> kind_of(const CollectivePlan& plan) {
  std::string word = plan.algorithm;
  if (word == "ring" || word == "tree") {
    word += "/" + plan.protocol;
  } else if (word == "pairwise") {
    word = "all_to_all";
  } else if (word == "p2p") {
    word = "send";
  }
  for (std::size_t kind = 0; kind < transfer_kinds; ++kind) {
    if (word == kind_words[kind]) {
      return static_cast<TransferKind>(kind);
    }
  }
  return std::nullopt;
}

std::string medium_of(const Cluster& cluster, const std::vector<GpuId>& gpus) {
  const Placement placement = place(cluster, gpus);
  if (placement.over_network) {
    return cluster.spec().fabric.technology;
  }
  switch (placement.inside) {
    case Inside::pcie: return "pcie";
    case Inside::staged: return "staged";
    default: return cluster.device().architecture;
  }
}

// A measurement with the GPUs it is of.
struct Point {
  FitMeasurement row;
  std::vector<GpuId> gpus;
  [[nodiscard]] CollectiveRequest request() const { return {row.kind, gpus, row.bytes}; }
};

using Key = std::pair<std::string, TransferKind>;  // medium, kind
using Points = std::vector<Point>;

struct Sorted {
  std::map<Key, Points> points;
  std::set<std::string> refusals;
};

Sorted sort_by_kind(const Cluster& cluster, const TransportProfile& profile,
                    const Measurements& measurements) {
  Sorted sorted;
  const TransportCosts costs(cluster, std::make_shared<const TransportProfile>(profile));
  for (const FitMeasurement& row : measurements.rows) {
    const auto gpus = group_members(cluster, row.group);
    if (!gpus) {
      sorted.refusals.insert(fmt::format("{}: the cluster has no {} nodes of {} GPUs",
                                         measurements.sweeps[row.sweep], row.group.nodes,
                                         row.group.gpus_per_node));
      continue;
    }
    Point point{row, *gpus};
    if (const auto kind = kind_of(costs.lower(point.request()))) {
      sorted.points[{medium_of(cluster, *gpus), *kind}].push_back(std::move(point));
    }
  }
  return sorted;
}

std::string points_fault(const Points& points) {
  std::set<double> sizes;
  for (const Point& point : points) {
    sizes.insert(point.row.bytes.value());
  }
  if (points.size() < least_points) {
    return fmt::format("{} points, but {} parameters need {}: measure more sizes", points.size(),
                       behaviour_parameters, least_points);
  }
  if (sizes.size() < least_sizes) {
    return fmt::format("{} sizes, but waiting and moving are told apart from {} on", sizes.size(),
                       least_sizes);
  }
  return "";
}

// The fit of one kind on one medium.
class KindFit {
 public:
  KindFit(const Cluster& cluster, const TransportProfile& profile, const Key& key, double sigma)
      : cluster_(cluster), profile_(profile), key_(key), sigma_(sigma) {
    for (std::size_t i = 0; i < profile_.media.size(); ++i) {
      medium_ = profile_.media[i].name == key.first ? i : medium_;
    }
  }

  [[nodiscard]] bool has_medium() const { return medium_ < profile_.media.size(); }

  [[nodiscard]] RegressionResult fit(const Points& points) const {
    RegressionProblem problem;
    problem.predict = [&](const Eigen::VectorXd& logs) { return predict(points, logs); };
    problem.observed = observed(points);
    problem.weights = weights(points);
    problem.prior = to_logs(profile_.media[medium_].behaviours[kind_index()]);
    problem.prior_sigma = Eigen::VectorXd::Constant(behaviour_parameters, sigma_);
    return robust_fit(problem);
  }

  [[nodiscard]] Eigen::VectorXd predict(const Points& points, const Eigen::VectorXd& logs) const {
    auto profile = std::make_shared<TransportProfile>(profile_);
    profile->media[medium_].behaviours[kind_index()] = from_logs(logs);
    const TransportCosts costs(cluster_, profile);
    Eigen::VectorXd result(static_cast<Eigen::Index>(points.size()));
    for (std::size_t i = 0; i < points.size(); ++i) {
      result[static_cast<Eigen::Index>(i)] = std::log(costs.alone(points[i].request()).value());
    }
    return result;
  }

  static Eigen::VectorXd observed(const Points& points) {
    Eigen::VectorXd result(static_cast<Eigen::Index>(points.size()));
    for (std::size_t i = 0; i < points.size(); ++i) {
      result[static_cast<Eigen::Index>(i)] = std::log(points[i].row.time.value());
    }
    return result;
  }

 private:
  [[nodiscard]] std::size_t kind_index() const { return static_cast<std::size_t>(key_.second); }

  // Repetitions of a size in one sweep are together worth the root of their number.
  static Eigen::VectorXd weights(const Points& points) {
    std::map<std::pair<std::size_t, double>, int> repetitions;
    for (const Point& point : points) {
      ++repetitions[{point.row.sweep, point.row.bytes.value()}];
    }
    Eigen::VectorXd result(static_cast<Eigen::Index>(points.size()));
    for (std::size_t i = 0; i < points.size(); ++i) {
      const FitMeasurement& row = points[i].row;
      result[static_cast<Eigen::Index>(i)] =
          1.0 / std::sqrt(repetitions.at({row.sweep, row.bytes.value()}));
    }
    return result;
  }

  const Cluster& cluster_;
  const TransportProfile& profile_;
  Key key_;
  double sigma_;
  std::size_t medium_ = SIZE_MAX;
};

double median_error(const Eigen::VectorXd& residuals) {
  std::vector<double> errors;
  for (const double residual : residuals) {
    errors.push_back(std::abs(std::expm1(residual)));
  }
  return median(errors);
}

std::optional<double> held_out_error(const KindFit& fit, const Points& points) {
  std::set<std::size_t> sweeps;
  for (const Point& point : points) {
    sweeps.insert(point.row.sweep);
  }
  std::vector<double> errors;
  for (const std::size_t out : sweeps) {
    Points rest, held;
    for (const Point& point : points) {
      (point.row.sweep == out ? held : rest).push_back(point);
    }
    if (!points_fault(rest).empty()) {
      continue;
    }
    const Eigen::VectorXd logs = fit.fit(rest).parameters;
    const Eigen::VectorXd residuals = KindFit::observed(held) - fit.predict(held, logs);
    for (const double residual : residuals) {
      errors.push_back(std::abs(std::expm1(residual)));
    }
  }
  return errors.empty() ? std::nullopt : std::optional(median(errors));
}

BehaviourFit fit_kind(const KindFit& fit, const Key& key, const Points& points,
                      const Measurements& measurements) {
  const RegressionResult result = fit.fit(points);
  BehaviourFit answer;
  answer.kind = key.second;
  answer.medium = key.first;
  answer.behaviour = from_logs(result.parameters);
  answer.covariance = result.covariance;
  answer.points = points.size();
  answer.error = median_error(result.residuals);
  answer.converged = result.converged;
  answer.held_out_error = held_out_error(fit, points);
  answer.smallest = points.front().row.bytes;
  answer.largest = answer.smallest;
  std::set<std::size_t> sweeps;
  for (const Point& point : points) {
    sweeps.insert(point.row.sweep);
    answer.smallest = std::min(answer.smallest, point.row.bytes);
    answer.largest = std::max(answer.largest, point.row.bytes);
  }
  for (const std::size_t sweep : sweeps) {
    answer.sweeps.push_back(measurements.sweeps[sweep]);
  }
  return answer;
}

std::string write_fit(const BehaviourFit& fit) {
  const Behaviour& b = fit.behaviour;
  const std::size_t kind = static_cast<std::size_t>(fit.kind);
  std::string text = fmt::format(
      "  - behaviour: {{of: {}, base: {:.4g} us, hop: {:.4g} us, share: {:.4g}, own: {:.3g}, "
      "blend: {:.3g}}}\n    medium: {}\n",
      kind_words[kind], b.base.value() * 1e6, b.hop.value() * 1e6, b.share, b.own, b.blend,
      fit.medium);
  text += fmt::format("    points: {}\n    range: [{:.0f} B, {:.0f} B]\n    sweeps: [\"{}\"]\n",
                      fit.points, fit.smallest.value(), fit.largest.value(),
                      fmt::join(fit.sweeps, "\", \""));
  text += fmt::format(
      "    error: {:.4f}\n    held_out_error: {}\n    converged: {}\n", fit.error,
      fit.held_out_error ? fmt::format("{:.4f}", *fit.held_out_error) : std::string("none"),
      fit.converged);
  text += "    covariance:  # of the logarithms of base, hop, share, own, blend\n";
  for (const auto& row : fit.covariance.rowwise()) {
    text += fmt::format("      - [{:.4g}]\n", fmt::join(row.begin(), row.end(), ", "));
  }
  return text;
}

}  // namespace

std::optional<std::vector<GpuId>> group_members(const Cluster& cluster, const GroupShape& group) {
  const int node = std::max(cluster.gpus_per_node(), cluster.nvlink_domain_size());
  if (group.gpus_per_node > node || group.nodes * node > cluster.gpu_count()) {
    return std::nullopt;
  }
  std::vector<GpuId> gpus;
  for (int i = 0; i < group.gpus; ++i) {
    gpus.emplace_back(i / group.gpus_per_node * node + i % group.gpus_per_node);
  }
  return gpus;
}

ModelFit fit_model(const Cluster& cluster, const TransportProfile& profile,
                   const Measurements& measurements, double prior_sigma) {
  TransportProfile without_tables = profile;
  without_tables.tables.clear();
  const Sorted sorted = sort_by_kind(cluster, without_tables, measurements);
  ModelFit result;
  result.refusals.assign(sorted.refusals.begin(), sorted.refusals.end());
  for (const auto& [key, points] : sorted.points) {
    const KindFit fit(cluster, without_tables, key, prior_sigma);
    std::string fault = points_fault(points);
    if (fault.empty() && !fit.has_medium()) {
      fault = "the profile has no such medium";
    }
    if (fault.empty()) {
      result.fits.push_back(fit_kind(fit, key, points, measurements));
    } else {
      result.refusals.push_back(fmt::format(
          "{} on {}: {}", kind_words[static_cast<std::size_t>(key.second)], key.first, fault));
    }
  }
  return result;
}

std::string write_model_fit(const ModelFit& fit) {
  std::string text = "format: longhaul-model-fit/1\nfits:\n";
  for (const BehaviourFit& one : fit.fits) {
    text += write_fit(one);
  }
  text += fit.refusals.empty() ? "refused: []\n" : "refused:\n";
  for (const std::string& refusal : fit.refusals) {
    text += fmt::format("  - \"{}\"\n", refusal);
  }
  return text;
}

}  // namespace longhaul
