#include "sim/validation/score_sweeps.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>

#include "sim/cost/placement.h"
#include "sim/cost/transport.h"
#include "sim/topology/cluster_spec.h"
#include "sim/units/check.h"
#include "sim/validation/sweep_machine.h"

namespace longhaul {

namespace {

constexpr double kibi = 1024.0;
constexpr double mebi = 1024.0 * 1024.0;
constexpr double us_per_second = 1e6;     // dividing keeps 200 us at exactly 0.0002 s
constexpr double ninety_percent = 1.645;  // standard deviations, as for intervals of steps

// Of a list that is not empty.
double median_of(std::vector<double> values) {
  check(!values.empty(), "a median has values");
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : 0.5 * (values[middle - 1] + values[middle]);
}

double p90_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto rank = static_cast<std::size_t>(std::ceil(0.9 * static_cast<double>(values.size())));
  return values.at(std::max<std::size_t>(rank, 1) - 1);
}

double mean_of(const std::vector<double>& values) {
  double sum = 0.0;
  for (const double value : values) {
    sum += value / static_cast<double>(values.size());
  }
  return sum;
}

// Members of the request. sendrecv_perf passes messages round a ring: the slowest stands for all,
// which leaves the first node if there are several.
std::span<const GpuId> members_of(const Sweep& sweep, const SweepMachine& machine) {
  const std::span<const GpuId> all(machine.gpus);
  if (sweep.kind != CollectiveKind::send) {
    return all;
  }
  return all.subspan(sweep.nodes > 1 ? static_cast<std::size_t>(sweep.gpus_per_node) - 1 : 0, 2);
}

CollectiveRequest request_of(const Sweep& sweep, const SweepMachine& machine, double bytes) {
  CollectiveRequest request;
  request.kind = *sweep.kind;
  request.gpus = members_of(sweep, machine);
  if (sweep.kind == CollectiveKind::send) {
    request.communicator = machine.gpus;
  }
  request.bytes = Bytes::of(bytes);
  request.algorithm = sweep.algorithm;
  request.protocol = sweep.protocol;
  return request;
}

SweepPoint predict_point(const TransportCosts& costs, const Sweep& sweep,
                         const SweepMachine& machine, const SweepRow& row) {
  const CollectiveRequest request = request_of(sweep, machine, row.bytes);
  const CollectivePlan plan = costs.lower(request);
  SweepPoint point;
  point.bytes = row.bytes;
  point.measured = row.time->value / us_per_second;
  point.predicted = costs.alone(request).value();
  const double half = ninety_percent * plan.relative_spread * point.predicted;
  point.low = std::max(0.0, point.predicted - half);
  point.high = point.predicted + half;
  point.algorithm = plan.algorithm;
  point.protocol = plan.protocol;
  point.table = plan.measured;
  point.extrapolated = plan.extrapolated;
  return point;
}

void add_notes(SweepScore& score) {
  if (score.sweep.kind == CollectiveKind::send && score.sweep.gpus > 2) {
    score.notes.emplace_back("a ring of messages is predicted as its slowest message alone");
  }
}

SweepScore score_sweep(const Sweep& sweep, const SweepMachine& machine,
                       const TransportCosts& costs) {
  SweepScore score;
  score.sweep = sweep;
  score.machine = machine.description;
  score.notes = sweep.notes;
  score.notes.insert(score.notes.end(), machine.notes.begin(), machine.notes.end());
  score.many_nodes = place(*machine.cluster, members_of(sweep, machine)).over_network;
  const std::vector<std::string>& fitted_on = costs.profile().fitted_on;
  score.fitted = std::find(fitted_on.begin(), fitted_on.end(), sweep.id) != fitted_on.end();
  for (const SweepRow& row : sweep.rows) {
    score.points.push_back(predict_point(costs, sweep, machine, row));
    score.table = score.table || score.points.back().table;
  }
  for (const CollectiveTable& table : costs.profile().tables) {
    const bool itself = table.from.find(sweep.id) != std::string::npos;
    score.fitted = score.fitted || (score.table && itself);
  }
  for (std::size_t band = 0; band < size_bands; ++band) {
    score.bands[band] = score_band(score.points, band);
  }
  add_notes(score);
  return score;
}

// Every second size as a table for exactly this group. Where more bytes took less time, the longest
// time so far is repeated, as a table in a file must have it.
CollectiveTable half_table(const Sweep& sweep, const SweepMachine& machine) {
  const Placement placement = place(*machine.cluster, members_of(sweep, machine));
  const NodeSpec& node = machine.cluster->spec().node;
  CollectiveTable table;
  table.kind = *sweep.kind;
  table.devices = {node.device.name};
  table.gpus = placement.gpus;
  table.gpus_per_node = placement.per_node();
  table.nodes = placement.node_count();
  table.fabric = table.nodes > 1 ? machine.cluster->spec().fabric.technology : "none";
  table.from = sweep.id;
  double longest = 0.0;
  for (std::size_t i = 0; i < sweep.rows.size(); i += 2) {
    longest = std::max(longest, sweep.rows[i].time->value / us_per_second);
    table.points.push_back({Bytes::of(sweep.rows[i].bytes), Seconds::of(longest)});
  }
  return table;
}

// Nothing for sweeps of less than three sizes: there is no size between two of a table.
std::optional<HalfScore> score_half(const Sweep& sweep, const SweepMachine& machine,
                                    const TransportCosts& costs) {
  TransportProfile profile = costs.profile();
  const CollectiveTable table = half_table(sweep, machine);
  if (table.points.size() < 2) {
    return std::nullopt;
  }
  profile.tables.insert(profile.tables.begin(), table);
  const TransportCosts calibrated(*machine.cluster,
                                  std::make_shared<const TransportProfile>(std::move(profile)));
  Sweep unpinned = sweep;  // a table holds for the settings it was measured with
  unpinned.algorithm.reset();
  unpinned.protocol.reset();
  std::vector<double> errors;
  for (std::size_t i = 1; i + 1 < sweep.rows.size(); i += 2) {
    const SweepPoint point = predict_point(calibrated, unpinned, machine, sweep.rows[i]);
    check(point.table, "a half of a sweep is predicted from its other half");
    errors.push_back(std::abs(point.error()));
  }
  HalfScore score;
  score.id = sweep.id;
  score.many_nodes = place(*machine.cluster, members_of(sweep, machine)).over_network;
  score.calibrated = static_cast<std::int64_t>(table.points.size());
  score.predicted = static_cast<std::int64_t>(errors.size());
  score.median_absolute_error = median_of(errors);
  score.mean_absolute_error = mean_of(errors);
  return score;
}

std::vector<HalfSummary> summarize_halves(const std::vector<HalfScore>& halves) {
  std::vector<HalfSummary> rows;
  for (const bool many_nodes : {false, true}) {
    std::vector<double> medians;
    std::vector<double> means;
    for (const HalfScore& half : halves) {
      if (half.many_nodes == many_nodes) {
        medians.push_back(half.median_absolute_error);
        means.push_back(half.mean_absolute_error);
      }
    }
    if (!medians.empty()) {
      rows.push_back({many_nodes, static_cast<std::int64_t>(medians.size()), median_of(medians),
                      median_of(means)});
    }
  }
  return rows;
}

SweepSummary::Band summarize_band(const std::vector<const SweepScore*>& scores, std::size_t band) {
  SweepSummary::Band row;
  std::vector<double> errors;
  std::vector<double> biases;
  double covered = 0.0;
  std::int64_t points = 0;
  for (const SweepScore* score : scores) {
    const BandScore& of_sweep = score->bands[band];
    if (of_sweep.sizes > 0) {
      errors.push_back(of_sweep.median_absolute_error);
      biases.push_back(of_sweep.bias);
      covered += of_sweep.interval_coverage * static_cast<double>(of_sweep.sizes);
      points += of_sweep.sizes;
    }
  }
  if (!errors.empty()) {
    row.sweeps = static_cast<std::int64_t>(errors.size());
    row.median = median_of(errors);
    row.p90 = p90_of(errors);
    row.bias = median_of(biases);
    row.interval_coverage = covered / static_cast<double>(points);
  }
  return row;
}

}  // namespace

std::size_t size_band(double bytes) {
  return bytes < 64.0 * kibi ? 0 : bytes < mebi ? 1 : bytes < 16.0 * mebi ? 2 : 3;
}

const char* name_of_band(std::size_t band) {
  static constexpr const char* names[size_bands] = {"< 64 KiB", "64 KiB-1 MiB", "1-16 MiB",
                                                    ">= 16 MiB"};
  return names[band];
}

BandScore score_band(const std::vector<SweepPoint>& points, std::size_t band) {
  BandScore score;
  std::vector<double> absolute;
  std::vector<double> relative;
  std::int64_t covered = 0;
  for (const SweepPoint& point : points) {
    if (size_band(point.bytes) == band) {
      relative.push_back(point.error());
      absolute.push_back(std::abs(point.error()));
      covered += point.measured >= point.low && point.measured <= point.high ? 1 : 0;
    }
  }
  if (!absolute.empty()) {
    score.sizes = static_cast<std::int64_t>(absolute.size());
    score.median_absolute_error = median_of(absolute);
    score.bias = median_of(relative);
    score.interval_coverage = static_cast<double>(covered) / static_cast<double>(absolute.size());
  }
  return score;
}

std::vector<SweepSummary> summarize_sweeps(const std::vector<SweepScore>& scores) {
  // By fitted, several nodes, collective: "" is all of them.
  std::map<std::tuple<bool, bool, std::string>, std::vector<const SweepScore*>> groups;
  for (const SweepScore& score : scores) {
    for (const std::string& collective : {std::string(), score.sweep.collective}) {
      groups[{score.fitted, score.many_nodes, collective}].push_back(&score);
    }
  }
  std::vector<SweepSummary> rows;
  for (const auto& [key, members] : groups) {
    SweepSummary row;
    row.fitted = std::get<0>(key);
    row.many_nodes = std::get<1>(key);
    row.collective = std::get<2>(key).empty() ? "all" : std::get<2>(key);
    for (std::size_t band = 0; band < size_bands; ++band) {
      row.bands[band] = summarize_band(members, band);
    }
    rows.push_back(row);
  }
  return rows;
}

SweepReport score_sweeps(const std::vector<Sweep>& sweeps, const SweepOptions& options,
                         Diagnostics& diagnostics) {
  SweepReport report;
  for (const Sweep& sweep : sweeps) {
    std::string why = sweep.skip_reason;
    if (why.empty() && sweep.gpus > options.max_gpus) {
      why = fmt::format("more than {} GPUs (--max-gpus)", options.max_gpus);
    }
    const SweepMachine machine =
        why.empty() ? machine_of(sweep, options.cluster, diagnostics) : SweepMachine{};
    why = why.empty() ? machine.skip_reason : why;
    if (!why.empty()) {
      report.skipped.emplace_back(sweep.id, why);
      continue;
    }
    const TransportCosts costs = find_transport_costs(*machine.cluster, diagnostics);
    report.scores.push_back(score_sweep(sweep, machine, costs));
    const auto half = options.half ? score_half(sweep, machine, costs) : std::nullopt;
    if (half) {
      report.halves.push_back(*half);
    }
  }
  report.summary = summarize_sweeps(report.scores);
  report.half_summary = summarize_halves(report.halves);
  return report;
}

}  // namespace longhaul
