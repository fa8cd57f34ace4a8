#include "sim/report/sweep_report.h"

#include <fmt/format.h>

#include <map>

#include "sim/report/text_table.h"
#include "sim/units/format.h"

namespace longhaul {

namespace {

const char* name_of_scope(bool many_nodes) { return many_nodes ? "several nodes" : "one node"; }

std::string signed_percent(double fraction) {
  return (fraction < 0 ? "-" : "+") + format_percent(fraction < 0 ? -fraction : fraction);
}

std::vector<Column> with_bands(std::vector<Column> columns) {
  for (std::size_t band = 0; band < size_bands; ++band) {
    columns.push_back({name_of_band(band), Align::right});
  }
  return columns;
}

std::string sweeps_table(const std::vector<SweepScore>& scores) {
  if (scores.empty()) {
    return "  none could be predicted\n";
  }
  TextTable table(
      with_bands({{"sweep", Align::left}, {"group", Align::right}, {"by", Align::left}}));
  for (const SweepScore& score : scores) {
    std::vector<std::string> cells{
        score.sweep.id + (score.fitted ? " (fitted)" : ""),
        fmt::format("{}x{}", score.sweep.nodes, score.sweep.gpus_per_node),
        score.table ? "table" : "model"};
    for (const BandScore& band : score.bands) {
      cells.push_back(band.sizes == 0 ? ""
                                      : format_percent(band.median_absolute_error) + " (" +
                                            signed_percent(band.bias) + ")");
    }
    table.add(std::move(cells));
  }
  return table.text("  ");
}

std::string summary_table(const std::vector<SweepSummary>& rows, bool fitted) {
  TextTable table(with_bands({{"scope", Align::left}, {"collective", Align::left}}));
  for (const SweepSummary& row : rows) {
    if (row.fitted != fitted) {
      continue;
    }
    std::vector<std::string> cells{name_of_scope(row.many_nodes), row.collective};
    for (const SweepSummary::Band& band : row.bands) {
      cells.push_back(band.sweeps == 0
                          ? ""
                          : fmt::format("{} ({}) {} of {}", format_percent(band.median),
                                        signed_percent(band.bias),
                                        format_percent(band.interval_coverage), band.sweeps));
    }
    table.add(std::move(cells));
  }
  return table.text("  ");
}

bool has_rows(const std::vector<SweepSummary>& rows, bool fitted) {
  for (const SweepSummary& row : rows) {
    if (row.fitted == fitted) {
      return true;
    }
  }
  return false;
}

std::string halves_text(const SweepReport& report) {
  if (report.halves.empty()) {
    return {};
  }
  TextTable table({{"sweep", Align::left},
                   {"calibrated", Align::right},
                   {"predicted", Align::right},
                   {"median", Align::right},
                   {"mean", Align::right}});
  for (const HalfScore& half : report.halves) {
    table.add({half.id, grouped(half.calibrated), grouped(half.predicted),
               format_percent(half.median_absolute_error),
               format_percent(half.mean_absolute_error)});
  }
  std::string text =
      "\nEvery second size as a table, the sizes between predicted from it:\n\n" + table.text("  ");
  for (const HalfSummary& row : report.half_summary) {
    text +=
        fmt::format("{}, {} sweeps: median error {} (means: {})\n", name_of_scope(row.many_nodes),
                    row.sweeps, format_percent(row.median), format_percent(row.mean));
  }
  return text;
}

// Notes and reasons, each once, with how many sweeps have it.
std::string counted(const std::map<std::string, std::int64_t>& lines) {
  std::string text;
  for (const auto& [line, count] : lines) {
    text += fmt::format("  {:>5}  {}\n", count, line);
  }
  return text;
}

std::string remarks_text(const SweepReport& report) {
  std::map<std::string, std::int64_t> notes;
  std::map<std::string, std::int64_t> reasons;
  std::int64_t tables = 0;
  std::int64_t extrapolated = 0;
  for (const SweepScore& score : report.scores) {
    for (const std::string& note : score.notes) {
      ++notes[note];
    }
    for (const SweepPoint& point : score.points) {
      extrapolated += point.extrapolated ? 1 : 0;
    }
    tables += score.table ? 1 : 0;
  }
  for (const auto& [id, why] : report.skipped) {
    ++reasons[why];
  }
  std::string text =
      fmt::format("\nsweeps predicted from a measured table: {}; sizes nobody measured: {}\n",
                  tables, extrapolated);
  text += notes.empty() ? "" : "assumed:\n" + counted(notes);
  text += fmt::format("skipped sweeps: {}\n", report.skipped.size());
  return text + counted(reasons);
}

template <class T>
JsonValue list_of(const std::vector<T>& items, JsonValue (*make)(const T&)) {
  JsonValue list = JsonValue::array();
  for (const T& item : items) {
    list.push(make(item));
  }
  return list;
}

JsonValue json_text(const std::string& text) { return JsonValue(text); }

JsonValue json_point(const SweepPoint& point) {
  JsonValue made = JsonValue::object();
  made.set("bytes", point.bytes)
      .set("measured", point.measured)
      .set("predicted", point.predicted)
      .set("interval", JsonValue::array().push(point.low).push(point.high))
      .set("error", point.error())
      .set("algorithm", point.algorithm)
      .set("protocol", point.protocol)
      .set("table", point.table)
      .set("extrapolated", point.extrapolated);
  return made;
}

JsonValue json_sweep(const SweepScore& score) {
  JsonValue bands = JsonValue::array();
  for (std::size_t i = 0; i < size_bands; ++i) {
    const BandScore& band = score.bands[i];
    if (band.sizes > 0) {
      JsonValue made = JsonValue::object();
      made.set("band", name_of_band(i))
          .set("sizes", band.sizes)
          .set("median_absolute_percentage_error", 100.0 * band.median_absolute_error)
          .set("bias", 100.0 * band.bias)
          .set("interval_coverage", band.interval_coverage);
      bands.push(made);
    }
  }
  JsonValue made = JsonValue::object();
  made.set("id", score.sweep.id)
      .set("collective", score.sweep.collective)
      .set("gpus", score.sweep.gpus)
      .set("nodes", score.sweep.nodes)
      .set("scope", name_of_scope(score.many_nodes))
      .set("machine", score.machine)
      .set("fitted", score.fitted)
      .set("table", score.table)
      .set("notes", list_of(score.notes, &json_text))
      .set("bands", bands)
      .set("points", list_of(score.points, &json_point));
  return made;
}

JsonValue json_summary(const SweepSummary& row) {
  JsonValue bands = JsonValue::array();
  for (std::size_t i = 0; i < size_bands; ++i) {
    const SweepSummary::Band& band = row.bands[i];
    if (band.sweeps > 0) {
      JsonValue made = JsonValue::object();
      made.set("band", name_of_band(i))
          .set("sweeps", band.sweeps)
          .set("median_absolute_percentage_error", 100.0 * band.median)
          .set("p90_absolute_percentage_error", 100.0 * band.p90)
          .set("bias", 100.0 * band.bias)
          .set("interval_coverage", band.interval_coverage);
      bands.push(made);
    }
  }
  JsonValue made = JsonValue::object();
  made.set("scope", name_of_scope(row.many_nodes))
      .set("collective", row.collective)
      .set("fitted", row.fitted)
      .set("bands", bands);
  return made;
}

JsonValue json_half(const HalfScore& half) {
  JsonValue made = JsonValue::object();
  made.set("id", half.id)
      .set("scope", name_of_scope(half.many_nodes))
      .set("calibrated", half.calibrated)
      .set("predicted", half.predicted)
      .set("median_absolute_percentage_error", 100.0 * half.median_absolute_error)
      .set("mean_absolute_percentage_error", 100.0 * half.mean_absolute_error);
  return made;
}

JsonValue json_half_summary(const HalfSummary& row) {
  JsonValue made = JsonValue::object();
  made.set("scope", name_of_scope(row.many_nodes))
      .set("sweeps", row.sweeps)
      .set("median_absolute_percentage_error", 100.0 * row.median)
      .set("mean_absolute_percentage_error", 100.0 * row.mean);
  return made;
}

JsonValue json_skipped(const std::pair<std::string, std::string>& entry) {
  JsonValue made = JsonValue::object();
  made.set("id", entry.first).set("why", entry.second);
  return made;
}

}  // namespace

std::string sweep_text(const SweepReport& report) {
  std::string text =
      "Sweeps: median |predicted / measured - 1| by size (in brackets: median signed error).\n\n";
  text += sweeps_table(report.scores);
  for (const bool fitted : {false, true}) {
    if (has_rows(report.summary, fitted)) {
      text += fmt::format(
          "\n{}: medians over sweeps (bias) share of sizes in interval, of how many sweeps\n\n",
          fitted ? "Sweeps of machines that the transport profile was fitted on"
                 : "Sweeps of other machines");
      text += summary_table(report.summary, fitted);
    }
  }
  return text + halves_text(report) + remarks_text(report);
}

void add_sweeps(const SweepReport& report, JsonValue& result) {
  result.set("sweeps", list_of(report.scores, &json_sweep))
      .set("sweep_summary", list_of(report.summary, &json_summary))
      .set("sweeps_skipped", list_of(report.skipped, &json_skipped));
  if (!report.halves.empty()) {
    result.set("sweep_halves", list_of(report.halves, &json_half))
        .set("sweep_half_summary", list_of(report.half_summary, &json_half_summary));
  }
}

}  // namespace longhaul
