#include "calibrate/fit/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <memory>
#include <optional>

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
  for (const FitMeasurement& row : measurements.rows) {
    floors[row.sweep] = std::min(floors[row.sweep], row.time.value());
  }
  return floors;
}

bool covers(const CollectiveTable& table, Bytes bytes) {
  return table.points.front().bytes <= bytes && bytes <= table.points.back().bytes;
}

}  // namespace

namespace {

// The model alone, the model with tables, and what both say to one measurement after the other.
class Foreteller {
 public:
  Foreteller(const Cluster& cluster, const TransportProfile& profile)
      : cluster_(cluster),
        profile_(profile),
        model_(cluster, without_tables(profile)),
        whole_(cluster, std::make_shared<const TransportProfile>(profile)) {}

  struct Answer {
    const CollectiveTable* table = nullptr;
    double model = 0.0;
    double whole = 0.0;
  };

  /// Nothing for groups that the cluster lacks, and for sizes beyond the group's table.
  [[nodiscard]] std::optional<Answer> foretell(const FitMeasurement& row) const {
    const auto gpus = group_members(cluster_, row.group);
    if (!gpus) {
      return std::nullopt;
    }
    const CollectiveTable* table = find_table(profile_, cluster_, place(cluster_, *gpus), row.kind);
    if (table != nullptr && !covers(*table, row.bytes)) {
      return std::nullopt;
    }
    const CollectiveRequest request{row.kind, *gpus, row.bytes};
    return Answer{table, model_.alone(request).value(), whole_.alone(request).value()};
  }

 private:
  static std::shared_ptr<const TransportProfile> without_tables(TransportProfile profile) {
    profile.tables.clear();
    return std::make_shared<const TransportProfile>(std::move(profile));
  }

  const Cluster& cluster_;
  const TransportProfile& profile_;
  TransportCosts model_;
  TransportCosts whole_;
};

}  // namespace

std::vector<SweepError> compare_with_measurements(const Cluster& cluster,
                                                  const TransportProfile& profile,
                                                  const Measurements& measurements) {
  const Foreteller foreteller(cluster, profile);
  const std::vector<double> floors = floors_of(measurements);
  std::map<std::size_t, Sweep> by_sweep;
  for (const FitMeasurement& row : measurements.rows) {
    if (const auto answer = foreteller.foretell(row)) {
      Sweep& sweep = by_sweep[row.sweep];
      sweep.has_table = answer->table != nullptr;
      sweep.bands[band_of(row.bytes)].add(answer->model, answer->whole, row.time.value(),
                                          floors[row.sweep]);
    }
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

std::vector<TableVerdict> judge_tables(const Cluster& cluster, const TransportProfile& profile,
                                       const Measurements& measurements) {
  const Foreteller foreteller(cluster, profile);
  const std::vector<double> floors = floors_of(measurements);
  std::vector<std::array<Errors, size_bands>> errors(profile.tables.size());
  for (const FitMeasurement& row : measurements.rows) {
    const auto answer = foreteller.foretell(row);
    if (answer && answer->table != nullptr) {
      const auto index = static_cast<std::size_t>(answer->table - profile.tables.data());
      errors[index][band_of(row.bytes)].add(answer->model, answer->whole, row.time.value(),
                                            floors[row.sweep]);
    }
  }
  std::vector<TableVerdict> verdicts(profile.tables.size());
  for (std::size_t table = 0; table < verdicts.size(); ++table) {
    verdicts[table].table = table;
    for (std::size_t band = 0; band < size_bands; ++band) {
      const BandError error = errors[table][band].summarise();
      verdicts[table].bands[band] = error;
      verdicts[table].confirmed = verdicts[table].confirmed && error.table <= error.model;
    }
  }
  return verdicts;
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
