#pragma once
// What benches write: one JSON object a line, in the format of calibrate/yardstick.

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "kernels/common/options.h"

namespace longhaul::kernels {

/// Results cannot be written; the message names the path.
class ResultsError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// One field of a line.
using Value = std::variant<std::string, double, std::int64_t, bool>;
using Fields = std::vector<std::pair<std::string, Value>>;

/// Results of one section, DIR/SECTION.jsonl, each line flushed as it comes, and
/// DIR/provenance.json. Without --out the lines go nowhere, and only the table is printed.
class Results {
 public:
  /// Opens the files, and writes `provenance` (GPU, driver, versions, clocks) with the command.
  /// Throws ResultsError where they cannot be written.
  Results(const Options& options, std::string section, const Fields& provenance);

  /// Writes one point: `shape` says what was measured and makes its id, `outcome` the values
  /// (`status`, `value_us_median`, `p10`, `p90`, `bytes`, `flops`, ...).
  void write(const Fields& shape, const Fields& outcome);

 private:
  std::string section_;
  std::ofstream file_;
};

/// `fields` as one JSON object, keys in the given order.
std::string to_json(const Fields& fields);

}  // namespace longhaul::kernels
