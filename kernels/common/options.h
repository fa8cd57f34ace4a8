#pragma once
// The command line that all checks and benches share.

#include <cstdint>
#include <stdexcept>
#include <string>

namespace longhaul::kernels {

/// A command line that cannot be understood; the message has the remedy.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// --seed N: the seed of the random inputs (printed, so that a failure can be repeated; fresh on
/// every run without it). --out DIR: also write results there (benches). --quick: fewer points.
struct Options {
  std::uint64_t seed = 0;
  std::string out;
  bool quick = false;
  std::string command;  // the line as typed, for the provenance
};

/// Reads the command line. Throws UsageError.
Options read_options(int argc, const char* const* argv);

}  // namespace longhaul::kernels
