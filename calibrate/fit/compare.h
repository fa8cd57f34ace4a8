// How well a profile foretells measurements, with its tables and without.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "calibrate/fit/measurement.h"
#include "sim/cost/transport.h"

namespace longhaul {

/// Bands of sizes: below 1 MiB, below 16 MiB, and above.
inline constexpr std::size_t size_bands = 3;

/// Median of |predicted / measured - 1| in one band of one sweep. A benchmark that launches for all
/// GPUs in turn never takes less than its launches, however short the kernels; `*_floored` compares
/// the greater of the prediction and the sweep's own shortest time, and only where that time is
/// exceeded by a tenth, so that neither launches nor agreement on the floor counts.
struct BandError {
  int points = 0;
  double model = 0.0;
  double table = 0.0;
  int points_floored = 0;
  double model_floored = 0.0;
  double table_floored = 0.0;
};

struct SweepError {
  std::string sweep;
  Seconds floor;           ///< its shortest time
  bool has_table = false;  ///< a table of the profile serves this collective on this group
  std::array<BandError, size_bands> bands{};
};

/// Only points that the profile's table of that group covers (from its first to its last size) are
/// compared, so that both columns are of the same points; without a table all are.
std::vector<SweepError> compare_with_measurements(const Cluster& cluster,
                                                  const TransportProfile& profile,
                                                  const Measurements& measurements);

/// A table of the profile against all measurements of its collective and group together.
struct TableVerdict {
  std::size_t table = 0;  ///< index in TransportProfile::tables
  std::array<BandError, size_bands> bands{};
  /// No band in which the table's error is above the model's. True without measurements.
  bool confirmed = true;
};

/// One verdict for each table of the profile.
std::vector<TableVerdict> judge_tables(const Cluster& cluster, const TransportProfile& profile,
                                       const Measurements& measurements);

/// As a table of text.
std::string write_comparison(const std::vector<SweepError>& errors);

}  // namespace longhaul
