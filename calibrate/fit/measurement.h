// Measured collectives, as the fits take them, and the readers of files that hold them.
#pragma once

#include <string>
#include <vector>

#include "sim/cost/collective.h"
#include "sim/input/yaml.h"

namespace longhaul {

/// Members of a group: gpus = gpus_per_node x nodes. Nodes are counted as transport profiles do
/// (an NVLink domain is one node).
struct GroupShape {
  int gpus = 0;
  int gpus_per_node = 0;
  int nodes = 1;
  auto operator<=>(const GroupShape&) const = default;
};

/// One collective of one size; `bytes` as CollectiveRequest and nccl-tests count them.
struct FitMeasurement {
  CollectiveKind kind = CollectiveKind::all_gather;
  GroupShape group;
  Bytes bytes;
  Seconds time;
  std::size_t sweep = 0;  ///< index in Measurements::sweeps
};

/// Rows of any number of files. A sweep is one collective on one group in one file: all its
/// repetitions and data types, since they are no independent evidence.
struct Measurements {
  std::vector<FitMeasurement> rows;
  std::vector<std::string> sweeps;          ///< names
  std::vector<std::string> left_out;        ///< what was read but not taken, in words
  std::size_t add_sweep(std::string name);  ///< its index; known names are found again
};

/// The words of collectives in a profile's tables, by CollectiveKind.
const std::vector<std::string>& collective_words();

struct CsvOptions {
  int gpus_per_node = 0;  ///< 0: all rows are of one node
  /// Take only the rows whose cell in this column is this. Without a column: the rows of the newest
  /// nccl_version_stamp, if the file has such.
  std::string column, value;
};

/// Rows of nccl-tests as a CSV: columns operation, gpus, message_bytes, latency_us, and if there
/// are such bus_bandwidth_gb_per_s, nccl_version_stamp, flag; others are ignored. Rows with a flag,
/// of zero bytes, or of other NCCL versions (or values) are left out. If there is a bus bandwidth, it must be
/// that of nccl-tests' formula for message_bytes within 2 %: it tells what the size counts.
void read_measured_csv(const SourcePtr& source, const CsvOptions& options, Measurements& result,
                       Diagnostics& diagnostics);

/// One sweep of nccl-tests as YAML: id, collective, gpus, nodes, columns (bytes, time_us, ...: out
/// of place), rows. Other keys are ignored; rows of zero bytes are left out, and so is a sweep of a
/// collective that is not modelled (reduce).
void read_measured_sweep(const SourcePtr& source, Measurements& result, Diagnostics& diagnostics);

/// Either, by the file's name (.csv, .yaml).
void read_measured_file(const std::string& path, const CsvOptions& options, Measurements& result,
                        Diagnostics& diagnostics);

}  // namespace longhaul
