// How wrong predictions have been: the error model behind every interval
// (docs/models/uncertainty.md; calibrate/profiles/uncertainty.yaml).
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sim/input/diagnostic.h"
#include "sim/units/quantity.h"

namespace longhaul {

/// Logarithms of the ratios measured / predicted within which nine of ten measurements lay: from
/// -below to +above.
struct ErrorBand {
  double below = 0.0;
  double above = 0.0;
};

/// An interval around a prediction.
struct Interval {
  double low = 0.0;
  double high = 0.0;
};

/// What one key that a run does not know adds.
struct UnknownSpread {
  std::string key;      ///< as runs name it: "recompute", "micro_batch"
  double spread = 0.0;  ///< relative standard deviation
  std::string source;
};

struct Uncertainty {
  double coverage = 0.9;  ///< stated share of measurements inside an interval
  /// By phase ("train", "forward", "prefill", "attention") for times, by kind ("allocated",
  /// "reserved", "memory") for memory, "max_sequence_length" for lengths.
  std::vector<std::pair<std::string, ErrorBand>> bands;
  std::vector<UnknownSpread> unknown;
  std::string source_name;  ///< where it was read, for `inputs`
  std::string hash;         ///< of that text

  [[nodiscard]] ErrorBand band(const std::string& name) const;
  /// Keys without an entry add nothing; the deviations of several keys add in squares.
  [[nodiscard]] double spread_of_unknown(const std::vector<std::string>& keys) const;
};

/// The error model that comes with longhaul. Read once, then shared.
const Uncertainty& find_uncertainty();

/// Reads an error model; nothing, with the mistakes recorded, if it is not one.
std::optional<Uncertainty> read_uncertainty(const SourcePtr& source, Diagnostics& diagnostics);

/// [value e^-b, value e^+a]: a and b are the band's halves, each joined in squares with
/// 1.645 x `spread`, the relative standard deviation that this prediction adds of its own.
Interval interval_of(double value, const ErrorBand& band, double spread);

}  // namespace longhaul
