// The reference table: what workloads take according to SimGrid and other max-min programs.
#pragma once

#include <string>
#include <vector>

#include "bench/flows/workloads.h"

namespace longhaul::bench {

/// A row of reference_times.csv.
struct ReferenceRow {
  std::string name;
  std::vector<std::string> words;  ///< arguments of run_workload
  std::int64_t flows = 0;
  std::int64_t events = 0;
  double makespan = 0.0;
  double sum_fct = 0.0;
  double sum_end = 0.0;
  double max_fct = 0.0;
  std::vector<double> percentiles;
};

/// Reads the table. Throws std::runtime_error where it cannot.
std::vector<ReferenceRow> read_reference(const std::string& path);

/// The largest relative difference of the four times, and of the percentiles; infinite where the
/// counts of flows or events differ.
struct Difference {
  double times = 0.0;
  double percentiles = 0.0;
};
Difference compare(const ReferenceRow& row, const Outcome& outcome);

/// What is asked of an exact engine.
constexpr double time_tolerance = 1e-9;
constexpr double percentile_tolerance = 1e-7;

}  // namespace longhaul::bench
