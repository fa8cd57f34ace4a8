#include "calibrate/fit/read_yardstick.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>

#include "calibrate/fit/csv_file.h"
#include "calibrate/fit/statistics.h"

namespace longhaul {

namespace {

constexpr double microsecond = 1e-6;
constexpr double largest = 1e18;  // of any count in a line

// One object of a file, at its own line.
std::optional<YamlValue> object_at(const SourcePtr& source, std::size_t line,
                                   const std::string& text, Diagnostics& diagnostics) {
  const auto padded = std::make_shared<const SourceText>(
      SourceText{source->name, std::string(line, '\n') + text});
  const auto value = YamlValue::parse_json(padded, diagnostics);
  if (value && !value->is_map()) {
    diagnostics.error(value->place(), "not-an-object", "a line of results is one JSON object",
                      "give the file as yardstick wrote it");
    return std::nullopt;
  }
  return value;
}

// Every point of a file that has the keys of all points, in order.
void for_each_point(const SourcePtr& source, Diagnostics& diagnostics, LeftOut& left_out,
                    const std::function<void(MapReader&)>& take) {
  const std::vector<std::string> lines = split_text(source->text, '\n');
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].empty()) {
      continue;
    }
    const bool torn = i + 1 == lines.size();  // its end of line was never written
    Diagnostics own;
    const auto value = object_at(source, i, lines[i], torn ? own : diagnostics);
    if (torn && !value) {
      ++left_out["torn line"];
    }
    if (value) {
      MapReader reader(*value, "point", diagnostics);
      take(reader);
    }
  }
}

// Why a point is not taken; empty: it is.
std::string objection(MapReader& point, const YardstickChoice& choice) {
  const std::string status = point.text("status");
  if (status != "ok") {
    return "status " + status;
  }
  const std::string backend = point.text("backend", "");
  if (!choice.backend.empty() && backend != choice.backend) {
    return "backend " + backend;
  }
  const std::string state = point.text("state", "as_found");
  if (!choice.state.empty() && state != choice.state) {
    return "clocks " + state;
  }
  if (point.has("verified") && !point.boolean("verified")) {
    return "not verified";
  }
  const double sets = point.number("rotating_sets", 0.0, largest, 1.0);
  const double bytes = point.number("bytes", 0.0, largest, 0.0);
  if (bytes > 0.0 && sets * bytes < choice.l2_cache.value()) {
    return "fits the L2 cache";
  }
  return "";
}

double seconds_of(MapReader& point) {
  constexpr double least = 1e-6;  // microseconds: nothing takes a picosecond
  return point.number("value_us_median", least, largest) * microsecond;
}

std::int64_t size_of(MapReader& point, const char* key) { return point.integer(key, {1}); }

// Reads what `choice` allows with `read`; counts the rest.
template <class Row>
std::vector<Row> chosen_rows(const SourcePtr& source, const YardstickChoice& choice,
                             LeftOut& left_out, Diagnostics& diagnostics,
                             const std::function<std::optional<Row>(MapReader&)>& read) {
  std::vector<Row> rows;
  for_each_point(source, diagnostics, left_out, [&](MapReader& point) {
    const std::string why = objection(point, choice);
    if (!why.empty()) {
      ++left_out[why];
    } else if (const auto row = read(point)) {
      rows.push_back(*row);
    }
  });
  return rows;
}

std::optional<GemmRow> gemm_row(MapReader& point, LeftOut& left_out) {
  const std::string op = point.text("op");
  const std::string dtype = point.text("dtype", "");
  const bool backward = op == "gemm_dgrad" || op == "gemm_wgrad";
  if ((op != "gemm_forward" && !backward) || dtype != "bf16") {
    ++left_out[dtype == "fp8" ? "fp8 without quantising" : op];
    return std::nullopt;
  }
  const std::int64_t m = size_of(point, "m");
  const std::int64_t n = size_of(point, "n");
  const std::int64_t k = size_of(point, "k");
  GemmRow row;
  row.shape = op == "gemm_dgrad"   ? GemmShape{m, k, n, 1, KernelType::bf16}
              : op == "gemm_wgrad" ? GemmShape{n, k, m, 1, KernelType::bf16}
                                   : GemmShape{m, n, k, 1, KernelType::bf16};
  row.seconds = seconds_of(point);
  return row;
}

std::optional<AttentionRow> attention_row(MapReader& point, LeftOut& left_out) {
  const std::string op = point.text("op");
  if (op != "attention_forward" && op != "attention_backward") {
    ++left_out[op];
    return std::nullopt;
  }
  // Our own benches (kernels/) measure more than the fit knows: other masks, e4m3, and results
  // joined with a running one.
  const std::string mask = point.text("mask");
  const std::string dtype = point.text("dtype", "bf16");
  if (dtype != "bf16" || point.boolean("joins", false) || (mask != "full" && mask != "causal")) {
    ++left_out[dtype != "bf16" ? op + " of " + dtype
               : mask != "full" && mask != "causal" ? "mask " + mask
                                                    : "joined with a running result"];
    return std::nullopt;
  }
  AttentionRow row;
  row.shape.batch = size_of(point, "batch");
  row.shape.heads = size_of(point, "heads");
  row.shape.kv_heads =
      point.text("gqa", "native") == "expanded" ? row.shape.heads : size_of(point, "kv_heads");
  row.shape.queries = size_of(point, "q_len");
  row.shape.keys = size_of(point, "kv_len");
  row.shape.head_dim = size_of(point, "head_dim");
  row.shape.backward = op == "attention_backward";
  if (mask == "causal") {
    row.shape.band.upper = 0;
  }
  row.seconds = seconds_of(point);
  return row;
}

std::optional<StreamRow> stream_row(MapReader& point, const std::string& wanted,
                                    LeftOut& left_out) {
  const std::string op = point.text("op");
  const bool other = op == "cross_entropy" || (!wanted.empty() && op != wanted);
  if (other || point.text("way", "forward") != "forward") {
    ++left_out[other ? op : "backward"];
    return std::nullopt;
  }
  return StreamRow{point.number("bytes", 1.0, largest), point.number("hidden", 1.0, largest),
                   seconds_of(point)};
}

}  // namespace

std::vector<GemmRow> read_yardstick_gemm(const SourcePtr& source, const YardstickChoice& choice,
                                         LeftOut& left_out, Diagnostics& diagnostics) {
  return chosen_rows<GemmRow>(source, choice, left_out, diagnostics,
                              [&](MapReader& point) { return gemm_row(point, left_out); });
}

std::vector<AttentionRow> read_yardstick_attention(const SourcePtr& source,
                                                   const YardstickChoice& choice,
                                                   LeftOut& left_out, Diagnostics& diagnostics) {
  return chosen_rows<AttentionRow>(
      source, choice, left_out, diagnostics,
      [&](MapReader& point) { return attention_row(point, left_out); });
}

std::vector<StreamRow> read_yardstick_streams(const SourcePtr& source, const std::string& op,
                                              const YardstickChoice& choice, LeftOut& left_out,
                                              Diagnostics& diagnostics) {
  return chosen_rows<StreamRow>(
      source, choice, left_out, diagnostics,
      [&](MapReader& point) { return stream_row(point, op, left_out); });
}

std::vector<Ceiling> read_yardstick_ceilings(const SourcePtr& source, LeftOut& left_out,
                                             Diagnostics& diagnostics) {
  const auto read = [](MapReader& point) -> std::optional<Ceiling> {
    Ceiling ceiling;
    ceiling.what = point.text("op");
    for (const char* key : {"kernel", "data", "way", "memory", "beside"}) {
      const std::string word = point.text(key, "");
      ceiling.what += word.empty() ? "" : " " + word;
    }
    ceiling.seconds = seconds_of(point);
    ceiling.bytes = point.number("bytes", 0.0, largest, 0.0);
    ceiling.flops = point.number("flops", 0.0, largest, 0.0);
    return ceiling;
  };
  YardstickChoice any;
  any.state.clear();
  return chosen_rows<Ceiling>(source, any, left_out, diagnostics, read);
}

std::vector<std::string> best_ceilings(const std::vector<Ceiling>& ceilings) {
  std::vector<std::pair<std::string, double>> best;  // seconds a unit of work, as first seen
  std::map<std::string, std::string> words;
  for (const Ceiling& ceiling : ceilings) {
    const double work =
        ceiling.flops > 0.0 ? ceiling.flops : ceiling.bytes > 0.0 ? ceiling.bytes : 1.0;
    const double cost = ceiling.seconds / work;
    auto at = std::find_if(best.begin(), best.end(),
                           [&](const auto& known) { return known.first == ceiling.what; });
    if (at == best.end()) {
      at = best.insert(best.end(), {ceiling.what, cost});
    } else if (at->second <= cost) {
      continue;
    }
    at->second = cost;
    words[ceiling.what] = ceiling.flops > 0.0   ? fmt::format("{:.1f} TFLOP/s", 1e-12 / cost)
                          : ceiling.bytes > 0.0 ? fmt::format("{:.0f} GB/s", 1e-9 / cost)
                                                : fmt::format("{:.2f} us", 1e6 * cost);
  }
  std::vector<std::string> lines;
  for (const auto& [what, cost] : best) {
    lines.push_back(what + " " + words.at(what));
  }
  return lines;
}

std::optional<HotShare> hot_share(const SourcePtr& source, Diagnostics& diagnostics) {
  std::map<std::string, std::array<double, 2>> times;  // by the point, but for its state
  LeftOut left_out;
  YardstickChoice any;
  any.state.clear();
  for_each_point(source, diagnostics, left_out, [&](MapReader& point) {
    const std::string state = point.text("state", "");
    if (state.empty() || !objection(point, any).empty()) {
      return;
    }
    std::string id = point.text("id");
    const std::size_t at = id.find("\"" + state + "\"");
    if (at != std::string::npos) {
      id.erase(at, state.size() + 2);
      times[id][state == "hot" ? 1 : 0] = seconds_of(point);
    }
  });
  std::vector<double> shares;
  for (const auto& [id, both] : times) {
    if (both[0] > 0.0 && both[1] > 0.0) {
      shares.push_back(both[0] / both[1]);
    }
  }
  if (shares.empty()) {
    return std::nullopt;
  }
  return HotShare{median(shares), shares.size()};
}

}  // namespace longhaul
