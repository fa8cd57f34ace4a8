#include "calibrate/fit/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <memory>

#include "calibrate/fit/model_fit.h"
#include "calibrate/fit/statistics.h"
#include "sim/cost/collective_table.h"

namespace longhaul {

namespace {

constexpr double mebibyte = 1048576.0;

std::size_t band_of(Bytes bytes) {
  return bytes.value() < mebibyte ? 0 : bytes.value() < 16.0 * mebibyte ? 1 : 2;
}

constexpr double above_floor = 1.1;

struct Errors {
  std::vector<double> model, table, model_floored, table_floored;

  void add(double predicted, double with_table, double measured, double floor) {
    model.push_back(std::abs(predicted / measured - 1.0));
    table.push_back(std::abs(with_table / measured - 1.0));
    if (measured > above_floor * floor) {
      model_floored.push_back(std::abs(std::max(predicted, floor) / measured - 1.0));
      table_floored.push_back(std::abs(std::max(with_table, floor) / measured - 1.0));
    }
  }
  [[nodiscard]] BandError summarise() const {
    BandError band;
    band.points = static_cast<int>(model.size());
    band.points_floored = static_cast<int>(model_floored.size());
    if (band.points > 0) {
      band.model = median(model);
      band.table = median(table);
    }
    if (band.points_floored > 0) {
      band.model_floored = median(model_floored);
      band.table_floored = median(table_floored);
    }
    return band;
  }
};

struct Sweep {
  bool has_table = false;
  std::array<Errors, size_bands> bands;
};

std::vector<double> floors_of(const Measurements& measurements) {
  std::vector<double> floors(measurements.sweeps.size(), INFINITY);
  for (const Measurement& row : measurements.rows) {
    floors[row.sweep] = std::min(floors[row.sweep], row.time.value());
  }
  return floors;
}

bool covers(const CollectiveTable& table, Bytes bytes) {
  return table.points.front().bytes <= bytes && bytes <= table.points.back().bytes;
}

}  // namespace

std::vector<SweepError> compare_with_measurements(const Cluster& cluster,
                                                  const TransportProfile& profile,
                                                  const Measurements& measurements) {
  TransportProfile bare = profile;
  bare.tables.clear();
  const TransportCosts model(cluster, std::make_shared<const TransportProfile>(bare));
  const TransportCosts whole(cluster, std::make_shared<const TransportProfile>(profile));
  const std::vector<double> floors = floors_of(measurements);
  std::map<std::size_t, Sweep> by_sweep;
  for (const Measurement& row : measurements.rows) {
    const auto gpus = group_members(cluster, row.group);
    if (!gpus) {
      continue;
    }
    const CollectiveTable* table = find_table(profile, cluster, place(cluster, *gpus), row.kind);
    if (table != nullptr && !covers(*table, row.bytes)) {
      continue;
    }
    const CollectiveRequest request{row.kind, *gpus, row.bytes};
    Sweep& sweep = by_sweep[row.sweep];
    sweep.has_table = table != nullptr;
    sweep.bands[band_of(row.bytes)].add(model.alone(request).value(), whole.alone(request).value(),
                                        row.time.value(), floors[row.sweep]);
  }
  std::vector<SweepError> result;
  for (const auto& [index, sweep] : by_sweep) {
    SweepError error{measurements.sweeps[index], Seconds::of(floors[index]), sweep.has_table, {}};
    for (std::size_t band = 0; band < size_bands; ++band) {
      error.bands[band] = sweep.bands[band].summarise();
    }
    result.push_back(error);
  }
  return result;
}

namespace {

std::string write_pair(int points, double model, double table) {
  return points == 0 ? fmt::format(" {:>15}", "-")
                     : fmt::format(" {:6.1f}% {:6.1f}%", 100.0 * model, 100.0 * table);
}

}  // namespace

std::string write_comparison(const std::vector<SweepError>& errors) {
  std::string text =
      fmt::format("{:42} {:5} {:>8} {:>15} {:>15} {:>15} {:>15} {:>15} {:>15}\n",
                  "median error: model, table", "table", "floor", "< 1 MiB", "< 16 MiB", "above",
                  "< 1 MiB, floor", "< 16, floor", "above, floor");
  for (const SweepError& error : errors) {
    text += fmt::format("{:42} {:5} {:5.1f} us", error.sweep, error.has_table ? "yes" : "no",
                        error.floor.value() * 1e6);
    for (const BandError& band : error.bands) {
      text += write_pair(band.points, band.model, band.table);
    }
    for (const BandError& band : error.bands) {
      text += write_pair(band.points_floored, band.model_floored, band.table_floored);
    }
    text += "\n";
  }
  return text;
}

}  // namespace longhaul
