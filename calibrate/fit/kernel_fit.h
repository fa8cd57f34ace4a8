// Fits of kernels: a mechanism of few parameters and a smooth correction on top of it.
#pragma once

#include <Eigen/Dense>

#include "calibrate/fit/kernel_rows.h"
#include "sim/cost/profile.h"

namespace longhaul {

/// Relative errors of predictions, |predicted / measured - 1|.
struct FitError {
  std::size_t points = 0;
  double middle = 0.0;  ///< median
  double p90 = 0.0;
};
FitError error_of(const std::vector<double>& predicted_over_measured);

/// What every fit says of itself. Held out: whole families of shapes (products: one (n, k);
/// attention: one (heads, kv heads); memory: one row width), five folds, everything fitted anew.
struct FitReport {
  FitError error;
  FitError held_out;
  std::vector<std::string> names;  ///< of the mechanism's parameters, whose logarithms were fitted
  Eigen::VectorXd parameters;      ///< logarithms
  Eigen::MatrixXd covariance;      ///< of the logarithms
  std::size_t left_out = 0;        ///< rows that memory could not have served: a cache did
  std::vector<std::array<double, 2>> residuals;  ///< held out: seconds, predicted / measured
};

constexpr std::size_t least_points = 40;   ///< of a fit; fewer are refused
constexpr std::size_t least_families = 5;  ///< one a fold

struct GemmFit {
  GemmCurve curve;
  FitReport report;
};
/// Nothing if there are too few rows or families. Tile efficiencies lie about
/// e = e0 / (1 + h (64 / rows + 64 / columns)): a tile reads rows + columns for rows x columns
/// products. Rows faster than the data-sheet rate of memory are left out.
std::optional<GemmFit> fit_gemm(const Device& device, KernelType type,
                                const std::vector<GemmRow>& rows);

/// Memory-bound kernels around a measured one: share of bandwidth, launch, and what is known
/// beyond them.
struct MemoryFit {
  double efficiency = 0.0;
  Seconds launch;
  Seconds ramp;  ///< what a long stream loses before it reaches its rate
  double spread = 0.0;
  double largest = 0.0;  ///< bytes
  FitReport report;
};
/// The launch from rows below 64 KiB, the share from rows of more than twice the L2 cache; those
/// between run at the cache's rate and are left out. The report is of the large ones.
std::optional<MemoryFit> fit_memory(const Device& device, const std::vector<StreamRow>& rows);

/// How rows were called.
struct AttentionServer {
  TileOrder order = TileOrder::longest;
  bool flash3 = false;  ///< FlashAttention-3 as vLLM calls it (served_attention.h); then no order
};

struct AttentionFit {
  AttentionCurve curve;
  FitReport report;
};
/// All rows must be of one kernel, pass, head size and kind of mask. `start`: the profile's curve;
/// its tile sizes are kept, its figures are the prior. `memory`: prices what a paged cache takes.
/// All rows write a paged cache or none does, and all are vLLM's or none is.
std::optional<AttentionFit> fit_attention(const Device& device, const AttentionCurve& start,
                                          double memory_share, Seconds memory_launch,
                                          const std::vector<AttentionRow>& rows,
                                          const AttentionServer& server = {});

}  // namespace longhaul
