#include "sim/report/validation_report.h"

#include <fmt/format.h>

#include <map>

#include "sim/report/text_table.h"
#include "sim/units/format.h"

namespace longhaul {

namespace {

std::string base_name(const std::string& path) {
  const std::size_t slash = path.find_last_of('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

std::string summary_table(const std::vector<ScoreSummary>& rows, const std::string& second) {
  TextTable table({{"quantity", Align::left},
                   {second, Align::left},
                   {"runs", Align::right},
                   {"mean", Align::right},
                   {"median", Align::right},
                   {"p90", Align::right},
                   {"bias", Align::right},
                   {"in interval", Align::right}});
  for (const ScoreSummary& row : rows) {
    const bool yes_or_no = row.quantity == "out_of_memory";
    table.add({yes_or_no ? "fits: share wrong" : row.quantity, base_name(row.phase),
               grouped(row.runs), format_percent(row.mean_absolute_error),
               yes_or_no ? "" : format_percent(row.median_absolute_error),
               yes_or_no ? "" : format_percent(row.p90_absolute_error),
               yes_or_no ? "" : (row.bias < 0 ? "-" : "+") + format_percent(std::abs(row.bias)),
               !yes_or_no ? format_percent(row.interval_coverage) : ""});
  }
  return table.text("  ");
}

std::map<std::string, std::int64_t> skip_reasons(const ValidationReport& report) {
  std::map<std::string, std::int64_t> reasons;
  for (const auto& [id, why] : report.skipped) {
    ++reasons[why];
  }
  return reasons;
}

// `second`: what row.phase names, the phase or the source.
JsonValue summary_row(const ScoreSummary& row, const char* second) {
  JsonValue made = JsonValue::object();
  made.set("quantity", row.quantity)
      .set(second, base_name(row.phase))
      .set("runs", row.runs)
      .set("mean_absolute_percentage_error", 100.0 * row.mean_absolute_error)
      .set("median_absolute_percentage_error", 100.0 * row.median_absolute_error)
      .set("p90_absolute_percentage_error", 100.0 * row.p90_absolute_error)
      .set("bias", 100.0 * row.bias)
      .set("interval_coverage", row.interval_coverage);
  return made;
}

JsonValue score_row(const Score& score) {
  JsonValue interval = JsonValue::array();
  interval.push(score.low);
  interval.push(score.high);
  JsonValue made = JsonValue::object();
  made.set("id", score.id)
      .set("source", base_name(score.source))
      .set("quantity", score.quantity)
      .set("phase", score.phase)
      .set("group", score.group)
      .set("measured", score.measured)
      .set("predicted", score.predicted)
      .set("interval", interval)
      .set("error", score.error())
      .set("trust", score.trust)
      .set("fitted", score.fitted);
  return made;
}

std::string part(const std::string& title, const std::vector<ScoreSummary>& rows) {
  return rows.empty() ? "" : title + ":\n\n" + summary_table(rows, "source") + "\n";
}

std::string decisions_text(const std::string& title, const DecisionScore& decisions) {
  if (decisions.pairs == 0) {
    return "";
  }
  const double share =
      static_cast<double>(decisions.correct) / static_cast<double>(decisions.pairs);
  return fmt::format("{}: {} of {} right ({}) among pairs that differ by more than 5 %\n", title,
                     grouped(decisions.correct), grouped(decisions.pairs), format_percent(share));
}

JsonValue rows_json(const std::vector<ScoreSummary>& rows, const char* second) {
  JsonValue list = JsonValue::array();
  for (const ScoreSummary& row : rows) {
    list.push(summary_row(row, second));
  }
  return list;
}

JsonValue decisions_json(const DecisionScore& decisions) {
  return JsonValue::object().set("pairs", decisions.pairs).set("correct", decisions.correct);
}

}  // namespace

std::string validation_text(const ValidationReport& report) {
  std::string text =
      "Errors are |predicted / measured - 1|; times of rates are the times they "
      "imply.\n\n";
  text += summary_table(report.summary, "phase") + "\n";
  text += summary_table(report.by_source, "source") + "\n";
  text += part("figures of low trust, not in the tables above", report.low_trust);
  text += part("runs that a profile was fitted on, not in the tables above", report.fitted);
  text += decisions_text("decisions", report.decisions);
  text += decisions_text("decisions of low trust", report.low_trust_decisions);
  text += fmt::format("scored figures: {}; skipped runs: {}\n",
                      grouped(static_cast<std::int64_t>(report.scores.size())),
                      grouped(static_cast<std::int64_t>(report.skipped.size())));
  for (const auto& [why, count] : skip_reasons(report)) {
    text += fmt::format("  {:>5}  {}\n", count, why);
  }
  return text;
}

JsonValue validation_json(const ValidationReport& report) {
  JsonValue runs = JsonValue::array();
  for (const Score& score : report.scores) {
    runs.push(score_row(score));
  }
  JsonValue skipped = JsonValue::array();
  for (const auto& [id, why] : report.skipped) {
    JsonValue entry = JsonValue::object();
    entry.set("id", id).set("why", why);
    skipped.push(entry);
  }
  JsonValue result = JsonValue::object();
  result.set("summary", rows_json(report.summary, "phase"))
      .set("summary_by_source", rows_json(report.by_source, "source"))
      .set("summary_low_trust", rows_json(report.low_trust, "source"))
      .set("summary_fitted", rows_json(report.fitted, "source"))
      .set("decisions", decisions_json(report.decisions))
      .set("decisions_low_trust", decisions_json(report.low_trust_decisions))
      .set("runs", runs)
      .set("skipped", skipped);
  return result;
}

}  // namespace longhaul
