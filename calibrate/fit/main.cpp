// longhaul_fit: measured collectives to tables and behaviours of a transport profile.
// The command line is judged here, by hand: CLI11 belongs to the simulator's own program.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>

#include "calibrate/fit/compare.h"
#include "calibrate/fit/kernel_command.h"
#include "calibrate/fit/model_fit.h"
#include "calibrate/fit/tables.h"
#include "sim/input/presets.h"
#include "sim/topology/read_cluster.h"

namespace longhaul {

namespace {

constexpr const char* help =
    R"(longhaul_fit tables --device NAME[,NAME] --origin TEXT [--only COLUMN=VALUE]
    [--gpus-per-node N --fabric NAME [--nic-rate RATE]] FILES
  prints the tables of a transport profile
longhaul_fit model --cluster NAME [--gpus N] [--profile FILE] [--only COLUMN=VALUE] [--gpus-per-node N] FILES
  prints behaviours fitted to the files, with errors, held-out errors and covariances
longhaul_fit compare --cluster NAME [--gpus N] [--profile FILE] [--tables FILE] [--only COLUMN=VALUE] FILES
  prints errors of the model and of the tables by size
longhaul_fit keep --cluster NAME [--gpus N] --tables FILE [--only COLUMN=VALUE] FILES
  prints the tables of FILE without those that foretell FILES worse than the model in some band
longhaul_fit kernels --device NAME --origin TEXT [--gemm TYPE=SOURCE,...]
    [--attention KERNEL=ROWS@SOURCE,...] [--memory SOURCE] [--residuals FOLDER] FILES
  prints fits of matrix products, attention and memory-bound kernels, their errors on the error
  output; FILES: gemm*.csv, attention*.csv, memory_bound*.csv, or yardstick's .jsonl (SOURCE is then
  BACKEND or BACKEND@STATE, --memory an operator; ceilings.jsonl prints what the card reached)
FILES: .csv with nccl-tests' rows, .yaml sweeps. See calibrate/README.md.
)";

struct Arguments {
  std::string command;
  std::map<std::string, std::string> options;
  std::vector<std::string> files;
  [[nodiscard]] std::string option(const std::string& name,
                                   const std::string& fallback = "") const {
    const auto found = options.find(name);
    return found == options.end() ? fallback : found->second;
  }
};

const std::vector<std::string> option_names = {
    "--device",   "--origin",  "--only",    "--gpus-per-node", "--fabric",
    "--nic-rate", "--cluster", "--profile", "--gpus",          "--tables",
    "--gemm",     "--attention", "--memory", "--residuals"};

Arguments read_arguments(int count, char** words, Diagnostics& diagnostics) {
  Arguments arguments;
  arguments.command = count > 1 ? words[1] : "";
  for (int i = 2; i < count; ++i) {
    const std::string word = words[i];
    if (!word.starts_with("--")) {
      arguments.files.push_back(word);
    } else if (std::find(option_names.begin(), option_names.end(), word) == option_names.end()) {
      const std::string close = closest_match(word, option_names);
      diagnostics.error({}, "unknown-option", "there is no option " + word,
                        close.empty() ? "longhaul_fit --help" : "did you mean " + close + "?");
    } else if (i + 1 == count) {
      diagnostics.error({}, "no-value", word + " needs a value", "longhaul_fit --help");
    } else {
      arguments.options[word] = words[++i];
    }
  }
  if (arguments.files.empty()) {
    diagnostics.error({}, "no-files", "there are no measurements", "name .csv or .yaml files");
  }
  return arguments;
}

std::string demand(const Arguments& arguments, const char* name, Diagnostics& diagnostics) {
  const std::string value = arguments.option(name);
  if (value.empty()) {
    diagnostics.error({}, "no-option", fmt::format("{} needs {}", arguments.command, name),
                      "longhaul_fit --help");
  }
  return value;
}

int integer_option(const Arguments& arguments, const char* name, int fallback,
                   Diagnostics& diagnostics) {
  const std::string text = arguments.option(name);
  if (text.empty()) {
    return fallback;
  }
  const Parsed<std::int64_t> parsed = parse_integer(text);
  if (!parsed.ok() || parsed.value < 1 || parsed.value > (1 << 20)) {
    diagnostics.error({}, "bad-number", fmt::format("{} is '{}'", name, text),
                      "write a number from 1 on");
    return fallback;
  }
  return static_cast<int>(parsed.value);
}

Measurements read_files(const Arguments& arguments, Diagnostics& diagnostics) {
  Measurements measurements;
  const std::string only = arguments.option("--only");
  const std::size_t equals = only.find('=');
  CsvOptions options{integer_option(arguments, "--gpus-per-node", 0, diagnostics), "", ""};
  if (equals != std::string::npos) {
    options.column = only.substr(0, equals);
    options.value = only.substr(equals + 1);
  } else if (!only.empty()) {
    diagnostics.error({}, "bad-option", "--only is '" + only + "'",
                      "write --only table_version=2.29.2");
  }
  for (const std::string& file : arguments.files) {
    read_measured_file(file, options, measurements, diagnostics);
  }
  for (const std::string& note : measurements.left_out) {
    fmt::print(stderr, "left out: {}\n", note);
  }
  return measurements;
}

std::vector<std::string> split_names(const std::string& text) {
  std::vector<std::string> names(1);
  for (const char c : text) {
    if (c == ',') {
      names.emplace_back();
    } else {
      names.back() += c;
    }
  }
  return names;
}

std::string run_tables(const Arguments& arguments, Diagnostics& diagnostics) {
  TableOptions options;
  options.devices = split_names(demand(arguments, "--device", diagnostics));
  options.origin = demand(arguments, "--origin", diagnostics);
  options.fabric = arguments.option("--fabric", "none");
  if (const std::string rate = arguments.option("--nic-rate"); !rate.empty()) {
    const Parsed<BytesPerSecond> parsed = parse_bytes_per_second(rate);
    options.nic_rate = parsed.value;
    if (!parsed.ok()) {
      diagnostics.error({}, "bad-rate", "--nic-rate " + parsed.error, parsed.help);
    }
  }
  const Measurements measurements = read_files(arguments, diagnostics);
  for (const FitMeasurement& row : measurements.rows) {
    if (row.group.nodes > 1 && options.fabric == "none") {
      diagnostics.error({}, "no-fabric", "groups on several nodes need --fabric",
                        "write --fabric infiniband, or the technology that it was");
      break;
    }
  }
  diagnostics.throw_if_errors();
  return write_tables(make_tables(measurements, options));
}

Cluster read_machine(const Arguments& arguments, Diagnostics& diagnostics) {
  ClusterSize size;
  if (const int gpus = integer_option(arguments, "--gpus", 0, diagnostics); gpus > 0) {
    size.gpus = gpus;
  }
  const std::string name = demand(arguments, "--cluster", diagnostics);
  diagnostics.throw_if_errors();
  const auto cluster = find_cluster(name, size, {}, diagnostics);
  if (!cluster) {
    throw InputError(diagnostics);
  }
  return *cluster;
}

// The profile with the tables of a file that `longhaul_fit tables` has written, if there is one.
TransportProfile read_profile(const Arguments& arguments, Diagnostics& diagnostics) {
  const std::string path = arguments.option("--profile");
  const auto source = path.empty() ? embedded_file("calibrate/profiles/transports/nccl.yaml")
                                   : read_source(path, diagnostics);
  auto profile = source ? read_transport_profile(*source, diagnostics) : std::nullopt;
  if (!profile) {
    throw InputError(diagnostics);
  }
  if (const std::string tables = arguments.option("--tables"); !tables.empty()) {
    profile->tables.clear();
    if (const auto text = read_source(tables, diagnostics)) {
      read_table_file(*text, *profile, diagnostics);
    }
    diagnostics.throw_if_errors();
  }
  return *profile;
}

// Says on the error output what it left out and why.
std::string keep_tables(const Cluster& cluster, const TransportProfile& profile,
                        const Measurements& measurements) {
  std::vector<CollectiveTable> kept;
  for (const TableVerdict& verdict : judge_tables(cluster, profile, measurements)) {
    const CollectiveTable& table = profile.tables[verdict.table];
    fmt::print(stderr, "{:8} {} on {} x {}: model, table", verdict.confirmed ? "kept" : "left out",
               collective_words()[static_cast<std::size_t>(table.kind)], table.nodes,
               table.gpus_per_node);
    for (const BandError& band : verdict.bands) {
      fmt::print(stderr, "{}",
                 band.points == 0
                     ? std::string("  -")
                     : fmt::format("  {:.1f} %, {:.1f} %", 100.0 * band.model, 100.0 * band.table));
    }
    fmt::print(stderr, "\n");
    if (verdict.confirmed) {
      kept.push_back(table);
    }
  }
  return write_tables(kept);
}

std::string run_kernels(const Arguments& arguments, Diagnostics& diagnostics) {
  const KernelCommand command{demand(arguments, "--device", diagnostics),
                              demand(arguments, "--origin", diagnostics),
                              arguments.option("--gemm"), arguments.option("--attention"),
                              arguments.option("--memory"),
                              arguments.files};
  diagnostics.throw_if_errors();
  const KernelFits fits = fit_kernels(command, diagnostics);
  for (const std::string& note : fits.notes) {
    fmt::print(stderr, "{}\n", note);
  }
  const std::string folder = arguments.option("--residuals");
  for (const auto& [name, plot] : fits.plots) {
    const std::string path = folder + "/" + name + ".svg";
    if (!folder.empty() && !(std::ofstream(path) << plot)) {
      diagnostics.error({}, "not-written", "cannot write " + path, "the folder must be there");
    }
  }
  return fits.text;
}

std::string run(const Arguments& arguments, Diagnostics& diagnostics) {
  if (arguments.command == "kernels") {
    return run_kernels(arguments, diagnostics);
  }
  if (arguments.command == "tables") {
    return run_tables(arguments, diagnostics);
  }
  if (arguments.command != "model" && arguments.command != "compare" &&
      arguments.command != "keep") {
    diagnostics.error({}, "unknown-command", "there is no command '" + arguments.command + "'",
                      "tables, model, compare, keep or kernels; longhaul_fit --help");
    throw InputError(diagnostics);
  }
  if (arguments.command == "keep") {
    demand(arguments, "--tables", diagnostics);
  }
  const Cluster cluster = read_machine(arguments, diagnostics);
  const TransportProfile profile = read_profile(arguments, diagnostics);
  const Measurements measurements = read_files(arguments, diagnostics);
  diagnostics.throw_if_errors();
  if (arguments.command == "keep") {
    return keep_tables(cluster, profile, measurements);
  }
  return arguments.command == "model"
             ? write_model_fit(fit_model(cluster, profile, measurements))
             : write_comparison(compare_with_measurements(cluster, profile, measurements));
}

}  // namespace

}  // namespace longhaul

int main(int count, char** words) {
  using namespace longhaul;
  if (count < 2 || std::string(words[1]) == "--help") {
    fmt::print("{}", help);
    return count < 2 ? 2 : 0;
  }
  try {
    Diagnostics diagnostics;
    const Arguments arguments = read_arguments(count, words, diagnostics);
    const std::string text = run(arguments, diagnostics);
    diagnostics.throw_if_errors();
    fmt::print("{}", text);
    return 0;
  } catch (const InputError& error) {
    fmt::print(stderr, "{}", format_diagnostics(error.diagnostics(), false));
    return 2;
  } catch (const std::exception& error) {
    fmt::print(stderr, "a bug of longhaul_fit: {}\n", error.what());
    return 70;
  }
}
