#include "sim/validation/sweep.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace longhaul {

namespace {

std::string lower_letters(const std::string& word) {
  std::string letters;
  for (const char c : word) {
    if (c >= 'A' && c <= 'Z') {
      letters += static_cast<char>(c - 'A' + 'a');
    } else if (c >= 'a' && c <= 'z') {
      letters += c;
    }
  }
  return letters;
}

struct KnownCollective {
  const char* letters;
  const char* name;
  std::optional<CollectiveKind> kind;
  enum class Factor { one, share, twice } factor;
};
using Factor = KnownCollective::Factor;

/// The programs of nccl-tests and their bus factors (doc/PERFORMANCE.md, src/*.cu).
const std::array known_collectives{
    KnownCollective{"allreduce", "all_reduce", CollectiveKind::all_reduce, Factor::twice},
    KnownCollective{"allgather", "all_gather", CollectiveKind::all_gather, Factor::share},
    KnownCollective{"reducescatter", "reduce_scatter", CollectiveKind::reduce_scatter,
                    Factor::share},
    KnownCollective{"alltoall", "alltoall", CollectiveKind::all_to_all, Factor::share},
    KnownCollective{"broadcast", "broadcast", CollectiveKind::broadcast, Factor::one},
    KnownCollective{"sendrecv", "sendrecv", CollectiveKind::send, Factor::one},
    KnownCollective{"reduce", "reduce", std::nullopt, Factor::one},
    KnownCollective{"gather", "gather", std::nullopt, Factor::share},
    KnownCollective{"scatter", "scatter", std::nullopt, Factor::share},
    KnownCollective{"hypercube", "hypercube", std::nullopt, Factor::share}};

const KnownCollective* find_collective(const std::string& word) {
  std::string letters = lower_letters(word);
  if (letters.ends_with("perf")) {
    letters.resize(letters.size() - 4);
  }
  for (const KnownCollective& known : known_collectives) {
    if (letters == known.letters) {
      return &known;
    }
  }
  return nullptr;
}

// True if the printed value may come from exact values between low and high.
bool agrees(const Printed& printed, double low, double high) {
  // Some versions cut digits off instead of rounding: a whole unit of the last digit. Beside that,
  // a thousandth for times that were averaged before and after the division.
  const double slack = 2.0 * printed.rounding + 1e-3 * std::abs(printed.value);
  return printed.value >= low - slack && printed.value <= high + slack;
}

bool triple_agrees(double bytes, const std::optional<Printed>& time,
                   const std::optional<Printed>& algorithm, const std::optional<Printed>& bus,
                   double factor) {
  constexpr double bytes_per_us = 1e3;  // of one GB/s
  if (time && !(time->value > 0.0)) {
    return false;
  }
  if (time && algorithm) {
    const double shortest = std::max(time->value - 2.0 * time->rounding, 1e-9);
    const double longest = time->value + 2.0 * time->rounding;
    if (!agrees(*algorithm, bytes / longest / bytes_per_us, bytes / shortest / bytes_per_us)) {
      return false;
    }
  }
  return !algorithm || !bus ||
         agrees(*bus, factor * (algorithm->value - 2.0 * algorithm->rounding),
                factor * (algorithm->value + 2.0 * algorithm->rounding));
}

bool row_agrees(const SweepRow& row, double factor) {
  return triple_agrees(row.bytes, row.time, row.algorithm_bandwidth, row.bus_bandwidth, factor) &&
         triple_agrees(row.bytes, row.in_place_time, row.in_place_algorithm_bandwidth,
                       row.in_place_bus_bandwidth, factor);
}

// nccl-tests rounds sizes down to whole elements per rank: tiny sizes of gathers become 0, which
// measures launches.
void drop_unusable_rows(Sweep& sweep, Diagnostics& diagnostics) {
  std::vector<SweepRow> kept;
  const double factor = bus_factor(sweep.collective, sweep.gpus);
  std::size_t odd = 0;
  const std::size_t all = sweep.rows.size();
  for (const SweepRow& row : sweep.rows) {
    if (!row_agrees(row, factor)) {
      ++odd;
      diagnostics.warning(
          row.place, "contradicting-row",
          fmt::format(
              "sweep '{}': size, time and bandwidths of {:.0f} bytes contradict one another",
              sweep.id, row.bytes),
          "the row is left out; algbw is size / time, busbw its factor for the collective");
    } else if (row.time && row.bytes > 0.0) {
      kept.push_back(row);
    }
  }
  sweep.rows = std::move(kept);
  if (10 * odd > all) {
    sweep.skip_reason = fmt::format(
        "its numbers contradict one another in {} of {} rows: not what nccl-tests prints", odd,
        all);
  }
}

void sort_rows(Sweep& sweep, Diagnostics& diagnostics) {
  std::stable_sort(sweep.rows.begin(), sweep.rows.end(),
                   [](const SweepRow& a, const SweepRow& b) { return a.bytes < b.bytes; });
  std::vector<SweepRow> kept;
  for (const SweepRow& row : sweep.rows) {
    if (!kept.empty() && kept.back().bytes == row.bytes) {
      diagnostics.warning(
          row.place, "repeated-size",
          fmt::format("sweep '{}': the size {:.0f} is there twice", sweep.id, row.bytes),
          "the first row is used");
    } else {
      kept.push_back(row);
    }
  }
  sweep.rows = std::move(kept);
}

// nccl-tests prints the mean of all bus bandwidths of a table, in and out of place.
void check_average(const Sweep& sweep, Diagnostics& diagnostics) {
  if (!sweep.average_bus_bandwidth) {
    return;
  }
  double sum = 0.0;
  int count = 0;
  for (const SweepRow& row : sweep.rows) {
    for (const auto& bus : {row.bus_bandwidth, row.in_place_bus_bandwidth}) {
      sum += bus ? bus->value : 0.0;
      count += bus ? 1 : 0;
    }
  }
  const double mean = count > 0 ? sum / count : 0.0;
  if (std::abs(mean - *sweep.average_bus_bandwidth) > 0.01 * mean + 0.01) {
    diagnostics.warning(
        sweep.place, "contradicting-average",
        fmt::format("sweep '{}': the average bus bandwidth is given as {:.3f} GB/s, "
                    "but its rows have {:.3f}",
                    sweep.id, *sweep.average_bus_bandwidth, mean),
        "rows may be missing from this excerpt");
  }
}

std::string reason_against(const Sweep& sweep) {
  if (sweep.collective.empty()) {
    return "the log does not say which collective it is: put its program's name (all_gather_perf) "
           "into the log or the file's name";
  }
  if (!sweep.kind) {
    return "'" + sweep.collective + "' is not predicted";
  }
  if (sweep.gpus < 2) {
    return "one rank alone sends nothing";
  }
  if (sweep.rows.empty()) {
    return "it has no sizes";
  }
  return {};
}

}  // namespace

std::optional<Printed> parse_printed(const std::string& text) {
  const Parsed<double> parsed = parse_number(text);
  if (!parsed.ok()) {
    return std::nullopt;
  }
  const std::size_t point = text.find('.');
  const std::size_t exponent = text.find_first_of("eE");
  const std::size_t end = std::min(exponent, text.size());
  const double digits =
      point == std::string::npos || point > end ? 0.0 : static_cast<double>(end - point - 1);
  const double scale = exponent == std::string::npos
                           ? 0.0
                           : std::clamp(parse_number(text.substr(exponent + 1)).value, -99.0, 99.0);
  return Printed{parsed.value, 0.5 * std::pow(10.0, scale - digits)};
}

std::string collective_name(const std::string& word) {
  const KnownCollective* known = find_collective(word);
  return known == nullptr ? "" : known->name;
}

std::optional<CollectiveKind> collective_kind(const std::string& name) {
  const KnownCollective* known = find_collective(name);
  return known == nullptr ? std::nullopt : known->kind;
}

std::optional<NcclAlgorithm> algorithm_pin(std::string word) {
  word = lower_letters(word);
  constexpr std::pair<const char*, NcclAlgorithm> words[] = {
      {"tree", NcclAlgorithm::tree},
      {"ring", NcclAlgorithm::ring},
      {"nvls", NcclAlgorithm::nvls},
      {"nvlstree", NcclAlgorithm::nvls_tree}};
  for (const auto& [name, algorithm] : words) {
    if (word == name) {
      return algorithm;
    }
  }
  return std::nullopt;
}

std::optional<NcclProtocol> protocol_pin(std::string word) {
  std::transform(word.begin(), word.end(), word.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  constexpr std::pair<const char*, NcclProtocol> words[] = {
      {"ll", NcclProtocol::ll}, {"ll128", NcclProtocol::ll128}, {"simple", NcclProtocol::simple}};
  for (const auto& [name, protocol] : words) {
    if (word == name) {
      return protocol;
    }
  }
  return std::nullopt;
}

double bus_factor(const std::string& collective, int gpus) {
  const KnownCollective* known = find_collective(collective);
  const double share = gpus > 0 ? static_cast<double>(gpus - 1) / gpus : 0.0;
  if (known == nullptr || known->factor == Factor::one) {
    return 1.0;
  }
  return known->factor == Factor::twice ? 2.0 * share : share;
}

void check_sweep(Sweep& sweep, Diagnostics& diagnostics) {
  if (sweep.skip_reason.empty() && sweep.gpus < 2) {
    sweep.skip_reason = "one rank alone sends nothing";
  }
  if (!sweep.skip_reason.empty()) {
    return;
  }
  check_average(sweep, diagnostics);
  if (!sweep.collective.empty()) {
    drop_unusable_rows(sweep, diagnostics);
  }
  sort_rows(sweep, diagnostics);
  if (sweep.skip_reason.empty()) {
    sweep.skip_reason = reason_against(sweep);
  }
}

}  // namespace longhaul
