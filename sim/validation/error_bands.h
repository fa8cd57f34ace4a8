// The error model's bands, estimated from scores (docs/models/uncertainty.md).
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "sim/search/uncertainty.h"
#include "sim/validation/validate.h"

namespace longhaul {

/// A band with what it rests on.
struct BandEstimate {
  std::string name;  ///< "train", "allocated"
  ErrorBand band;
  std::int64_t figures = 0;
  std::int64_t sources = 0;
  double between = 0.0;  ///< standard deviation of the sources' mean logarithmic errors: what all
                         ///< figures of a source share
  double within = 0.0;   ///< of the figures of a source about its mean
};

/// Bands of times by phase, of memory by kind and of longest sequences: the quantiles of
/// ln(measured / predicted) that leave 5 % of the weight on either side, after each figure's own
/// spread is taken out in squares. A source weighs as the square root of its figures, so that no
/// single one decides. Trusted figures only; fitted ones too, for lack of others.
/// `without`: this source left out.
std::vector<BandEstimate> estimate_bands(const std::vector<Score>& scores,
                                         const std::string& without = "");

/// Name of the band that a score belongs to; empty: none.
std::string band_of(const Score& score);

/// Bands as the file that is shipped (calibrate/profiles/uncertainty.yaml), keeping the entries of
/// `kept` for unknown keys, and its bands where there are no figures.
std::string uncertainty_yaml(const std::vector<BandEstimate>& bands, const Uncertainty& kept);

/// Leave-one-source-out coverage: the share of each band's figures that lie inside the interval
/// whose band was estimated without their source.
std::vector<std::pair<std::string, double>> held_out_coverage(const std::vector<Score>& scores);

}  // namespace longhaul
