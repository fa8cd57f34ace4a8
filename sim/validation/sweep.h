// Measured sweeps of one collective over sizes, as nccl-tests prints them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sim/cost/collective.h"
#include "sim/input/diagnostic.h"
#include "sim/input/yaml.h"

namespace longhaul {

/// A number as it was printed: `rounding` is half a unit of its last digit.
struct Printed {
  double value = 0.0;
  double rounding = 0.0;
};
/// A plain decimal number ("12.50"); nothing for "N/A", "nan", and what is no number.
std::optional<Printed> parse_printed(const std::string& text);

/// One size. Times in microseconds and bandwidths in GB/s (10^9), as nccl-tests prints them.
struct SweepRow {
  double bytes = 0.0;           ///< nccl-tests' size; CollectiveRequest counts the same
  std::optional<Printed> time;  ///< out of place
  std::optional<Printed> algorithm_bandwidth;
  std::optional<Printed> bus_bandwidth;
  std::optional<Printed> in_place_time;
  std::optional<Printed> in_place_algorithm_bandwidth;
  std::optional<Printed> in_place_bus_bandwidth;
  Place place;
};

/// What one run of one nccl-tests program measured, on what.
struct Sweep {
  std::string id;
  std::string file;
  std::string platform;
  std::string gpu;  ///< as the source names it
  int gpus = 0;
  int nodes = 0;  ///< hosts
  int gpus_per_node = 0;
  std::string intra;                   ///< how GPUs of a host are joined, in words; empty: not said
  std::string inter;                   ///< what joins the hosts, in words; empty: not said
  std::string collective;              ///< "all_reduce", ...; empty: not said
  std::optional<CollectiveKind> kind;  ///< nothing: not one that is predicted
  std::string nccl;
  std::string dtype;
  std::optional<NcclAlgorithm> algorithm;  ///< pins
  std::optional<NcclProtocol> protocol;
  std::optional<YamlValue> cluster;             ///< as in a scenario: preset, path or map
  std::optional<YamlValue> hardware;            ///< as in longhaul-runs/1
  std::vector<SweepRow> rows;                   ///< sizes ascending, none twice
  std::optional<double> average_bus_bandwidth;  ///< as the log states it
  std::vector<std::string> notes;               ///< what was assumed while reading
  std::string skip_reason;                      ///< not empty: cannot be predicted
  Place place;
};

/// "all_reduce", "allreduce", "AllReduce", "all_reduce_perf" are one: lower case with underscores;
/// empty for what is no collective of nccl-tests.
std::string collective_name(const std::string& word);
/// The kind that is predicted under such a name; nothing for reduce, gather, scatter, hypercube.
std::optional<CollectiveKind> collective_kind(const std::string& name);
/// "Ring", "NVLS", "nvls_tree": any case; nothing for what no CollectiveRequest can pin.
std::optional<NcclAlgorithm> algorithm_pin(std::string word);
std::optional<NcclProtocol> protocol_pin(std::string word);

/// Bus over algorithm bandwidth on n ranks (nccl-tests doc/PERFORMANCE.md): all_reduce 2 (n-1)/n;
/// all_gather, reduce_scatter, alltoall, gather, scatter, hypercube (n-1)/n; others 1.
double bus_factor(const std::string& collective, int gpus);

/// Puts rows in order and looks for numbers that contradict one another: algorithm bandwidth is
/// size over time, bus bandwidth its factor, to the printed digits; the stated average is that of
/// the rows. Contradicting rows are left out with a warning; if they are more than a tenth, the
/// sweep gets a skip_reason. Also skips sweeps on one rank, without sizes, of unknown kinds.
void check_sweep(Sweep& sweep, Diagnostics& diagnostics);

/// Reads a sweep in YAML: `format: longhaul-sweep/1`, or the same keys without a format. Mistakes
/// are recorded with their place; then nothing is returned.
std::optional<Sweep> read_sweep(const SourcePtr& source, Diagnostics& diagnostics);

/// True if the text says `format: longhaul-sweep/1`, or has no format but a collective and rows.
bool looks_like_sweep(const SourceText& source);

}  // namespace longhaul
