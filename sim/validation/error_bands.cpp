#include "sim/validation/error_bands.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace longhaul {

namespace {

// Half-width of a central 90 % interval of a normal error, in standard deviations, and the share
// of errors beyond either end.
constexpr double ninety_percent = 1.645;
constexpr double tail = 0.05;
// A band is at least this wide: runs repeat within about 1 %, and few figures may agree by chance.
constexpr double narrowest = 0.02;
// All figures of a band's kin together weigh as much as one source of so many: enough to keep a band
// of one source from being its own little scatter, too little to change a band of many sources.
constexpr double kin_figures = 25.0;

struct Residual {
  double log_ratio = 0.0;  ///< ln(measured / predicted)
  double beyond = 0.0;     ///< the same, own spread taken out
  double weight = 1.0;
};

using Residuals = std::map<std::string, std::vector<Residual>>;  // by source

// Least and most that is predicted, over the ways that a run may have gone.
std::pair<double, double> ways_of(const Score& score) {
  return score.most > 0.0 ? std::pair(score.least, score.most)
                          : std::pair(score.predicted, score.predicted);
}

Residual residual_of(const Score& score) {
  Residual residual;
  // What lies between the ways that a run may have gone is no error.
  const auto [least, most] = ways_of(score);
  const double nearest = std::clamp(score.measured, least, most);
  residual.log_ratio = std::log(score.measured / nearest);
  const double own = ninety_percent * score.own_spread;
  const double square = residual.log_ratio * residual.log_ratio - own * own;
  residual.beyond = std::copysign(std::sqrt(std::max(square, 0.0)), residual.log_ratio);
  return residual;
}

// Smallest value with at least `share` of the weight at or below it.
double quantile(std::vector<Residual> residuals, double share) {
  std::sort(residuals.begin(), residuals.end(),
            [](const Residual& a, const Residual& b) { return a.beyond < b.beyond; });
  double all = 0.0;
  for (const Residual& residual : residuals) {
    all += residual.weight;
  }
  double sum = 0.0;
  for (const Residual& residual : residuals) {
    sum += residual.weight;
    if (sum >= share * all) {
      return residual.beyond;
    }
  }
  return residuals.back().beyond;
}

// One-way analysis: errors that a source's figures share, and those they do not.
void split_variance(const Residuals& by_source, BandEstimate& estimate) {
  double within = 0.0;
  double means = 0.0;
  double squares = 0.0;
  for (const auto& [source, residuals] : by_source) {
    const auto count = static_cast<double>(residuals.size());
    double mean = 0.0;
    for (const Residual& residual : residuals) {
      mean += residual.log_ratio / count;
    }
    for (const Residual& residual : residuals) {
      within += (residual.log_ratio - mean) * (residual.log_ratio - mean);
    }
    means += mean;
    squares += mean * mean;
  }
  const auto sources = static_cast<double>(by_source.size());
  const double freedom = std::max(static_cast<double>(estimate.figures) - sources, 1.0);
  estimate.within = std::sqrt(within / freedom);
  const double spread = squares - means * means / sources;
  estimate.between = sources > 1.0 ? std::sqrt(std::max(spread, 0.0) / (sources - 1.0)) : 0.0;
}

// The figures of all sources, those of a source weighing the root of their number together.
std::vector<Residual> weighted(const Residuals& by_source) {
  std::vector<Residual> all;
  for (const auto& [source, residuals] : by_source) {
    for (Residual residual : residuals) {
      residual.weight = 1.0 / std::sqrt(static_cast<double>(residuals.size()));
      all.push_back(residual);
    }
  }
  return all;
}

// Times are kin of times, bytes of bytes; the longest sequence is what bytes make it.
bool are_kin(const std::string& a, const std::string& b) {
  const auto is_bytes = [](const std::string& name) {
    return name == "allocated" || name == "reserved" || name == "memory";
  };
  return a != b && is_bytes(a) == is_bytes(b) && a != "max_sequence_length" &&
         b != "max_sequence_length";
}

void add_kin(const std::map<std::string, Residuals>& bands, const std::string& name,
             std::vector<Residual>& all) {
  std::vector<Residual> kin;
  double weight = 0.0;
  for (const auto& [other, by_source] : bands) {
    if (are_kin(name, other)) {
      const std::vector<Residual> more = weighted(by_source);
      kin.insert(kin.end(), more.begin(), more.end());
    }
  }
  for (const Residual& residual : kin) {
    weight += residual.weight;
  }
  for (Residual residual : kin) {
    residual.weight *= std::sqrt(kin_figures) / weight;
    all.push_back(residual);
  }
}

BandEstimate estimate_band(const std::string& name, const std::map<std::string, Residuals>& bands) {
  BandEstimate estimate;
  estimate.name = name;
  const Residuals& by_source = bands.at(name);
  estimate.sources = static_cast<std::int64_t>(by_source.size());
  std::vector<Residual> all = weighted(by_source);
  estimate.figures = static_cast<std::int64_t>(all.size());
  add_kin(bands, name, all);
  estimate.band.below = std::max(-quantile(all, tail), narrowest);
  estimate.band.above = std::max(quantile(all, 1.0 - tail), narrowest);
  split_variance(by_source, estimate);
  return estimate;
}

bool usable(const Score& score) {
  return !band_of(score).empty() && score.trust != "low" && score.predicted > 0.0 &&
         score.measured > 0.0;
}

}  // namespace

std::string band_of(const Score& score) {
  if (score.quantity == name_of(MeasuredQuantity::time)) {
    return score.phase;
  }
  return score.quantity == name_of(MeasuredQuantity::out_of_memory) ? "" : score.quantity;
}

std::vector<BandEstimate> estimate_bands(const std::vector<Score>& scores,
                                         const std::string& without) {
  std::map<std::string, Residuals> by_band;
  for (const Score& score : scores) {
    if (usable(score) && (without.empty() || score.source != without)) {
      by_band[band_of(score)][score.source].push_back(residual_of(score));
    }
  }
  std::vector<BandEstimate> estimates;
  for (const auto& [name, residuals] : by_band) {
    estimates.push_back(estimate_band(name, by_band));
  }
  return estimates;
}

std::string uncertainty_yaml(const std::vector<BandEstimate>& bands, const Uncertainty& kept) {
  std::string text =
      "# Made by: longhaul validate RUNS... --fit-intervals (docs/models/uncertainty.md)\n"
      "format: longhaul-uncertainty/1\n";
  text += fmt::format("coverage: {}\n", kept.coverage);
  text += "from: \"quantiles of ln(measured / predicted) over published runs\"\nbands:\n";
  for (const BandEstimate& band : bands) {
    text += fmt::format(
        "  {}: {{below: {:.3f}, above: {:.3f}}}  # {} figures, {} sources; between sources "
        "{:.3f}, within {:.3f}\n",
        band.name, band.band.below, band.band.above, band.figures, band.sources, band.between,
        band.within);
  }
  for (const auto& [name, band] : kept.bands) {
    const auto same = [&, wanted = name](const BandEstimate& other) { return other.name == wanted; };
    if (std::none_of(bands.begin(), bands.end(), same)) {
      text += fmt::format("  {}: {{below: {:.3f}, above: {:.3f}}}  # kept: no figures\n", name,
                          band.below, band.above);
    }
  }
  text += "unknown:\n";
  for (const UnknownSpread& entry : kept.unknown) {
    text += fmt::format("  {}: {{spread: {}, source: \"{}\"}}\n", entry.key, entry.spread,
                        entry.source);
  }
  return text;
}

std::vector<std::pair<std::string, double>> held_out_coverage(const std::vector<Score>& scores) {
  std::set<std::string> sources;
  for (const Score& score : scores) {
    sources.insert(score.source);
  }
  std::map<std::string, std::pair<double, double>> counts;  // inside, all
  for (const std::string& source : sources) {
    const std::vector<BandEstimate> bands = estimate_bands(scores, source);
    for (const Score& score : scores) {
      if (score.source != source || !usable(score)) {
        continue;
      }
      for (const BandEstimate& band : bands) {
        if (band.name == band_of(score)) {
          const auto [least, most] = ways_of(score);
          const double low = interval_of(least, band.band, score.own_spread).low;
          const double high = interval_of(most, band.band, score.own_spread).high;
          const bool inside = score.measured >= low && score.measured <= high;
          counts[band.name].first += inside ? 1.0 : 0.0;
          counts[band.name].second += 1.0;
        }
      }
    }
  }
  std::vector<std::pair<std::string, double>> coverage;
  for (const auto& [name, count] : counts) {
    coverage.emplace_back(name, count.first / count.second);
  }
  return coverage;
}

}  // namespace longhaul
