// Behaviours of links (base, hop, share, own, blend of docs/models/collectives.md) from
// measurements.
#pragma once

#include <Eigen/Dense>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "calibrate/fit/measurement.h"
#include "sim/cost/transport.h"

namespace longhaul {

/// Parameters of a behaviour, in this order in covariances: logarithms of base, hop, share, own
/// (1 % at least) and blend.
inline constexpr int behaviour_parameters = 5;

/// Fewer points than this are refused: two for each parameter.
inline constexpr std::size_t least_points = 2 * behaviour_parameters;
/// And sizes: base and share of one size cannot be told apart.
inline constexpr std::size_t least_sizes = 4;

struct BehaviourFit {
  TransferKind kind = TransferKind::ring_ll;
  std::string medium;
  Behaviour behaviour;
  Eigen::MatrixXd covariance;
  std::size_t points = 0;
  std::vector<std::string> sweeps;
  Bytes smallest, largest;  ///< range of validity
  double error = 0.0;       ///< median of |measured / fitted - 1|
  /// The same of sweeps that were left out, one after the other; nothing with fewer than two.
  std::optional<double> held_out_error;
  bool converged = false;
};

/// What a fit found: fits by medium and kind, and what was refused, in words.
struct ModelFit {
  std::vector<BehaviourFit> fits;
  std::vector<std::string> refusals;
};

/// Fits every kind of transfer that the measurements show. Which algorithm and protocol NCCL ran is
/// taken from its own model. One-node groups fit the medium inside (the device's architecture,
/// "pcie" or "staged"), others the fabric's, with what is inside as the profile has it. The prior
/// is the profile's behaviour, with a standard deviation of `prior_sigma` in logarithms. A sweep
/// counts as one vote: its points have weights of 1 / sqrt(repetitions of the size).
/// Tables of the profile are ignored.
ModelFit fit_model(const Cluster& cluster, const TransportProfile& profile,
                   const Measurements& measurements, double prior_sigma = 0.7);

/// As YAML: `behaviours` to copy into a profile, and beside each its errors, range and covariance.
std::string write_model_fit(const ModelFit& fit);

/// The members of a group: the first GPUs of each of the first NVLink domains (hosts, where domains
/// are smaller). Nothing if the cluster has no such group.
std::optional<std::vector<GpuId>> group_members(const Cluster& cluster, const GroupShape& group);

}  // namespace longhaul
