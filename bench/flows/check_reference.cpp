// bench/check_reference TABLE [MOST_EVENTS]: runs the rows of the reference table and prints how
// far off each is. Exit 1 if one is further off than an exact engine may be.
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "bench/flows/reference.h"

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: check_reference TABLE [MOST_EVENTS]\n");
    return 2;
  }
  const double most = argc > 2 ? std::atof(argv[2]) : 1e9;
  bool all = true;
  try {
    std::printf("%-18s %12s %9s %11s %9s %8s\n", "case", "events", "times", "percentiles", "CPU s",
                "Mev/s");
    for (const auto& row : longhaul::bench::read_reference(argv[1])) {
      if (static_cast<double>(row.events) > most) {
        std::printf("%-18s %12lld skipped\n", row.name.c_str(), static_cast<long long>(row.events));
        continue;
      }
      const auto outcome = longhaul::bench::run_workload(row.words);
      const auto off = compare(row, outcome);
      const bool good = off.times <= longhaul::bench::time_tolerance &&
                        off.percentiles <= longhaul::bench::percentile_tolerance;
      all = all && good;
      std::printf("%-18s %12lld %9.1e %11.1e %9.4g %8.2f %s\n", row.name.c_str(),
                  static_cast<long long>(row.events), off.times, off.percentiles, outcome.run_s,
                  static_cast<double>(row.events) / outcome.run_s * 1e-6, good ? "" : "WRONG");
      std::fflush(stdout);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "check_reference: %s\n", error.what());
    return 70;
  }
  return all ? 0 : 1;
}
