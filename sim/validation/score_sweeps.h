// Predicted against measured sweeps: errors by size, per sweep and over sweeps.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "sim/validation/sweep.h"

namespace longhaul {

/// Bands of sizes: below 64 KiB, 1 MiB, 16 MiB, and from there on.
inline constexpr std::size_t size_bands = 4;
std::size_t size_band(double bytes);
/// "< 64 KiB", "64 KiB-1 MiB", "1-16 MiB", ">= 16 MiB".
const char* name_of_band(std::size_t band);

/// One size: its measured time, out of place, beside the collective alone on an idle cluster.
struct SweepPoint {
  double bytes = 0.0;
  double measured = 0.0;   ///< seconds
  double predicted = 0.0;  ///< seconds
  double low = 0.0;        ///< 90 % interval: the transport profile's spread
  double high = 0.0;
  std::string algorithm;
  std::string protocol;
  bool table = false;         ///< predicted from a measured table of the profile
  bool extrapolated = false;  ///< nothing was measured there
  [[nodiscard]] double error() const { return predicted / measured - 1.0; }
};

/// Errors of the points of one sweep in one band.
struct BandScore {
  std::int64_t sizes = 0;
  double median_absolute_error = 0.0;  ///< relative
  double bias = 0.0;                   ///< median signed error
  double interval_coverage = 0.0;
};

struct SweepScore {
  Sweep sweep;
  bool many_nodes = false;  ///< its traffic leaves the node; an NVLink domain is one node
  bool fitted = false;      ///< the profile, or its table, was made from this machine's sweeps
  bool table = false;       ///< a measured table of the profile was used
  std::string machine;
  std::vector<std::string> notes;
  std::vector<SweepPoint> points;
  std::array<BandScore, size_bands> bands;
};

/// One row: sweeps of one scope and collective.
struct SweepSummary {
  bool many_nodes = false;
  bool fitted = false;
  std::string collective;  ///< "all": of every kind
  struct Band {
    std::int64_t sweeps = 0;
    double median = 0.0;             ///< over sweeps, of their median absolute errors
    double p90 = 0.0;                ///< over sweeps, likewise
    double bias = 0.0;               ///< median over sweeps of their biases
    double interval_coverage = 0.0;  ///< of all points
  };
  std::array<Band, size_bands> bands;
};

/// One sweep of which every second size made a table that predicts the other half.
struct HalfScore {
  std::string id;
  bool many_nodes = false;
  std::int64_t calibrated = 0;  ///< sizes in the table
  std::int64_t predicted = 0;   ///< sizes between these
  double median_absolute_error = 0.0;
  double mean_absolute_error = 0.0;
};
struct HalfSummary {
  bool many_nodes = false;
  std::int64_t sweeps = 0;
  double median = 0.0;  ///< over sweeps, of their median absolute errors
  double mean = 0.0;    ///< median over sweeps of their mean absolute errors
};

struct SweepReport {
  std::vector<SweepScore> scores;                            ///< in the order of the files
  std::vector<SweepSummary> summary;                         ///< by scope, fitted, collective
  std::vector<HalfScore> halves;                             ///< only if asked for
  std::vector<HalfSummary> half_summary;                     ///< one node, several nodes
  std::vector<std::pair<std::string, std::string>> skipped;  ///< id, why
};

struct SweepOptions {
  std::string cluster;  ///< for sweeps that name none; empty: by their words
  bool half = false;
  std::int64_t max_gpus = 512;  ///< larger groups are skipped
};

/// Predicts every sweep. Nothing is fitted, except that `half` makes tables in memory. Records
/// mistakes in the machines that a user named.
SweepReport score_sweeps(const std::vector<Sweep>& sweeps, const SweepOptions& options,
                         Diagnostics& diagnostics);

/// Summary rows: for each scope, first all collectives, then each; fitted sweeps apart.
std::vector<SweepSummary> summarize_sweeps(const std::vector<SweepScore>& scores);

/// Errors of points in one band.
BandScore score_band(const std::vector<SweepPoint>& points, std::size_t band);

}  // namespace longhaul
