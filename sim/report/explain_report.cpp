#include "sim/report/explain_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "sim/report/text_table.h"
#include "sim/units/format.h"

namespace longhaul {

namespace {

// Rows printed of each table; JSON has them all.
constexpr std::size_t printed_rows = 15;

std::string spaced(std::string words) {
  std::replace(words.begin(), words.end(), '_', ' ');
  return words;
}

// Who was waited for; kernels wait for nobody.
std::string waited_for(const TimeRow& row) {
  const std::string group = row.group.empty() ? "" : "in " + row.group;
  return row.rank ? fmt::format("{}, rank {} last", group, *row.rank) : group;
}

std::vector<std::string> time_words(const TimeRow& row) {
  return {spaced(row.cause), spaced(row.part), row.label, waited_for(row)};
}

std::string memory_name(const MemoryRow& row) {
  return row.tensor.empty() ? "(no tensor)" : row.tensor;
}

std::string time_signed(std::int64_t ticks) {
  const Seconds size = SimTime::of_ticks(std::abs(ticks)).seconds();
  return (ticks < 0 ? "-" : "+") + format_seconds(size);
}

std::string bytes_text(std::int64_t bytes) {
  return format_bytes(Bytes::of(static_cast<double>(bytes)));
}

std::string bytes_signed(std::int64_t bytes) {
  return (bytes < 0 ? "-" : "+") + bytes_text(std::abs(bytes));
}

// What the rows that are not printed are together; empty if all are.
template <class Row, class Amount>
std::string rest_of(const std::vector<Row>& rows, const Amount& amount, std::string (*words)(std::int64_t)) {
  std::int64_t rest = 0;
  for (std::size_t i = printed_rows; i < rows.size(); ++i) {
    rest += amount(rows[i]);
  }
  return rows.size() > printed_rows
             ? fmt::format("  and {} more: {}\n", rows.size() - printed_rows, words(rest))
             : "";
}

std::string time_text(std::int64_t ticks) {
  return format_seconds(SimTime::of_ticks(ticks).seconds());
}

JsonValue time_row_json(const TimeRow& row) {
  JsonValue out = JsonValue::object();
  out.set("cause", row.cause)
      .set("part", row.part)
      .set("label", row.label)
      .set("group", row.group.empty() ? JsonValue() : JsonValue(row.group))
      .set("last_rank", row.rank ? JsonValue(*row.rank) : JsonValue())
      .set("seconds", row.seconds().value());
  return out;
}

JsonValue memory_row_json(const MemoryRow& row) {
  JsonValue out = JsonValue::object();
  out.set("category", row.category)
      .set("tensor", row.tensor.empty() ? JsonValue() : JsonValue(row.tensor))
      .set("bytes", row.bytes);
  return out;
}

double seconds_of(std::int64_t ticks) { return SimTime::of_ticks(ticks).seconds().value(); }

}  // namespace

std::string explanation_text(const Explanation& explanation, TextStyle style) {
  std::int64_t step = 0;
  for (const TimeRow& row : explanation.time) {
    step += row.ticks;
  }
  TextTable times({{"", Align::left}, {"", Align::left}, {"", Align::left}, {"", Align::left},
                   {"", Align::right}, {"", Align::right}});
  for (std::size_t i = 0; i < std::min(printed_rows, explanation.time.size()); ++i) {
    const TimeRow& row = explanation.time[i];
    std::vector<std::string> cells = time_words(row);
    cells.push_back(time_text(row.ticks));
    cells.push_back(format_percent(static_cast<double>(row.ticks) / static_cast<double>(step)));
    times.add(cells);
  }
  TextTable owners({{"", Align::left}, {"", Align::left}, {"", Align::right}});
  for (std::size_t i = 0; i < std::min(printed_rows, explanation.memory.size()); ++i) {
    const MemoryRow& row = explanation.memory[i];
    owners.add({spaced(row.category), memory_name(row), bytes_text(row.bytes)});
  }
  return heading(fmt::format("causes of the step (rank {})", explanation.slowest_rank), style) +
         times.text("  ") +
         rest_of(explanation.time, [](const TimeRow& row) { return row.ticks; }, time_text) + "\n" +
         heading(fmt::format("owners of the peak (rank {})", explanation.fullest_rank), style) +
         owners.text("  ") +
         rest_of(explanation.memory, [](const MemoryRow& row) { return row.bytes; }, bytes_text);
}

JsonValue explanation_json(const Explanation& explanation) {
  JsonValue times = JsonValue::array();
  for (const TimeRow& row : explanation.time) {
    times.push(time_row_json(row));
  }
  JsonValue owners = JsonValue::array();
  for (const MemoryRow& row : explanation.memory) {
    owners.push(memory_row_json(row));
  }
  JsonValue out = JsonValue::object();
  out.set("slowest_rank", explanation.slowest_rank)
      .set("time", std::move(times))
      .set("fullest_rank", explanation.fullest_rank)
      .set("memory", std::move(owners));
  return out;
}

std::string difference_text(const std::string& before, const std::string& after,
                            const Difference& difference, TextStyle style) {
  std::int64_t step = 0;
  for (const TimeChange& change : difference.time) {
    step += change.row.ticks;
  }
  TextTable times({{"", Align::left}, {"", Align::left}, {"", Align::left}, {"", Align::left},
                   {before, Align::right}, {after, Align::right}, {"change", Align::right}});
  for (std::size_t i = 0; i < std::min(printed_rows, difference.time.size()); ++i) {
    const TimeChange& change = difference.time[i];
    std::vector<std::string> cells = time_words(change.row);
    cells.push_back(time_text(change.before));
    cells.push_back(time_text(change.after));
    cells.push_back(time_signed(change.row.ticks));
    times.add(cells);
  }
  std::int64_t peak = 0;
  TextTable owners({{"", Align::left}, {"", Align::left}, {before, Align::right},
                    {after, Align::right}, {"change", Align::right}});
  for (std::size_t i = 0; i < difference.memory.size(); ++i) {
    const MemoryChange& change = difference.memory[i];
    peak += change.row.bytes;
    if (i < printed_rows) {
      owners.add({spaced(change.row.category), memory_name(change.row), bytes_text(change.before),
                  bytes_text(change.after), bytes_signed(change.row.bytes)});
    }
  }
  return heading(fmt::format("why {} takes {} against {}", after, time_signed(step), before),
                 style) +
         times.text("  ") +
         rest_of(difference.time, [](const TimeChange& change) { return change.row.ticks; },
                 time_signed) +
         "\n" +
         heading(fmt::format("why {} peaks at {} against {}", after, bytes_signed(peak), before),
                 style) +
         owners.text("  ") +
         rest_of(difference.memory, [](const MemoryChange& change) { return change.row.bytes; },
                 bytes_signed);
}

JsonValue difference_json(const std::string& before, const std::string& after,
                          const Difference& difference) {
  JsonValue times = JsonValue::array();
  for (const TimeChange& change : difference.time) {
    times.push(time_row_json(change.row)
                   .set("before_s", seconds_of(change.before))
                   .set("after_s", seconds_of(change.after)));
  }
  JsonValue owners = JsonValue::array();
  for (const MemoryChange& change : difference.memory) {
    owners.push(memory_row_json(change.row)
                    .set("before_bytes", change.before)
                    .set("after_bytes", change.after));
  }
  JsonValue out = JsonValue::object();
  out.set("before", before)
      .set("after", after)
      .set("time", std::move(times))
      .set("memory", std::move(owners));
  return out;
}

}  // namespace longhaul
