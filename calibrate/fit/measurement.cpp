#include "calibrate/fit/measurement.h"

#include <algorithm>

namespace longhaul {

std::size_t Measurements::add_sweep(std::string name) {
  const auto found = std::find(sweeps.begin(), sweeps.end(), name);
  if (found != sweeps.end()) {
    return static_cast<std::size_t>(found - sweeps.begin());
  }
  sweeps.push_back(std::move(name));
  return sweeps.size() - 1;
}

const std::vector<std::string>& collective_words() {
  static const std::vector<std::string> words = {"all_gather", "reduce_scatter", "all_reduce",
                                                 "all_to_all", "broadcast",      "send"};
  return words;
}

void read_measured_file(const std::string& path, const CsvOptions& options, Measurements& result,
                        Diagnostics& diagnostics) {
  const auto source = read_source(path, diagnostics);
  if (!source) {
    return;
  }
  if (path.ends_with(".csv")) {
    read_measured_csv(*source, options, result, diagnostics);
  } else {
    read_measured_sweep(*source, result, diagnostics);
  }
}

}  // namespace longhaul
