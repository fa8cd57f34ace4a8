// Measurements to the `tables:` of a transport profile.
#pragma once

#include <string>
#include <vector>

#include "calibrate/fit/measurement.h"
#include "sim/cost/transport.h"

namespace longhaul {

struct TableOptions {
  std::vector<std::string> devices;  ///< names of device presets
  std::string fabric = "none";       ///< of groups on several nodes
  BytesPerSecond nic_rate;           ///< the same, per GPU; zero: any
  std::string origin;                ///< who published the measurements; part of `from`
};

/// One table per collective and group. Repeated measurements of a size become their median; times
/// that fall where sizes rise are pooled (isotonic regression of log times, equal weights: Barlow
/// et al. 1972); sizes are thinned to those from which logarithmic interpolation stays within
/// half of the spread of repetitions, but 1 % at least and 2 % at most. The table's spread is the
/// 90th percentile, over measurements of sizes, of the deviation from what the table says, 1 % at
/// least. Groups of one size only are left out. Ordered by collective, then group.
std::vector<CollectiveTable> make_tables(const Measurements& measurements,
                                         const TableOptions& options);

/// Tables as the text of a file of their own (read_table_file), four digits. Deterministic.
std::string write_tables(const std::vector<CollectiveTable>& tables);

}  // namespace longhaul
