#include "sim/search/uncertainty.h"

#include <cmath>

#include "sim/input/presets.h"
#include "sim/input/yaml.h"
#include "sim/units/check.h"

namespace longhaul {

namespace {

// Half-width of a central 90 % interval of a normal error, in standard deviations.
constexpr double ninety_percent = 1.645;

void read_bands(MapReader& root, Uncertainty& model, Diagnostics& diagnostics) {
  const auto map = root.child("bands");
  if (!map) {
    return;
  }
  for (const auto& [key, value] : map->entries()) {
    MapReader reader(value, "bands", diagnostics);
    ErrorBand band;
    band.below = reader.number("below", 0.0, 10.0);
    band.above = reader.number("above", 0.0, 10.0);
    reader.finish();
    model.bands.emplace_back(key, band);
  }
}

void read_unknown(MapReader& root, Uncertainty& model, Diagnostics& diagnostics) {
  const auto map = root.child("unknown");
  if (!map) {
    return;
  }
  for (const auto& [key, value] : map->entries()) {
    MapReader reader(value, "unknown", diagnostics);
    const double spread = reader.number("spread", 0.0, 1.0);
    model.unknown.push_back({key, spread, reader.text("source")});
    reader.finish();
  }
}

}  // namespace

ErrorBand Uncertainty::band(const std::string& name) const {
  for (const auto& [key, band] : bands) {
    if (key == name) {
      return band;
    }
  }
  return {};
}

double Uncertainty::spread_of_unknown(const std::vector<std::string>& keys) const {
  double variance = 0.0;
  for (const UnknownSpread& entry : unknown) {
    for (const std::string& asked : keys) {
      variance += asked == entry.key ? entry.spread * entry.spread : 0.0;
    }
  }
  return std::sqrt(variance);
}

std::optional<Uncertainty> read_uncertainty(const SourcePtr& source, Diagnostics& diagnostics) {
  const auto document = YamlValue::parse(source, diagnostics);
  if (!document) {
    return std::nullopt;
  }
  Uncertainty model;
  MapReader root(*document, "uncertainty", diagnostics);
  root.choice("format", {"longhaul-uncertainty/1"});
  model.coverage = root.number("coverage", 0.5, 1.0);
  root.text("from");
  read_bands(root, model, diagnostics);
  read_unknown(root, model, diagnostics);
  root.finish();
  model.source_name = source->name;
  model.hash = sha256_hex(source->text);
  return diagnostics.has_errors() ? std::nullopt : std::optional(std::move(model));
}

const Uncertainty& find_uncertainty() {
  static const Uncertainty model = [] {
    Diagnostics diagnostics;
    const auto source = embedded_file("calibrate/profiles/uncertainty.yaml");
    auto read = source ? read_uncertainty(*source, diagnostics) : std::nullopt;
    check(read.has_value(), "the error model that comes with longhaul can be read");
    return std::move(*read);
  }();
  return model;
}

Interval interval_of(double value, const ErrorBand& band, double spread) {
  const double own = ninety_percent * spread;
  return {value * std::exp(-std::hypot(band.below, own)),
          value * std::exp(std::hypot(band.above, own))};
}

}  // namespace longhaul
