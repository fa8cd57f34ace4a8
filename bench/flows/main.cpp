// bench/flows: runs a reference workload of the flow engine and prints what it is compared by.
//   flows w=ring G=512 Tc=0.0025 jit=1
#include <sys/resource.h>

#include <cstdio>

#include "bench/flows/workloads.h"

namespace {

void print(const longhaul::bench::Outcome& outcome) {
  rusage use{};
  getrusage(RUSAGE_SELF, &use);
  std::printf("flows=%lld computes=%lld timers=%lld events=%lld makespan=%.12g sum_fct=%.12g",
              static_cast<long long>(outcome.flows), static_cast<long long>(outcome.computes),
              static_cast<long long>(outcome.timers), static_cast<long long>(outcome.events),
              outcome.makespan, outcome.sum_fct);
  std::printf(" sum_end=%.12g max_fct=%.12g", outcome.sum_end, outcome.max_fct);
  if (outcome.percentiles.size() == 3) {
    std::printf(" p50=%.12g p99=%.12g p999=%.12g", outcome.percentiles[0], outcome.percentiles[1],
                outcome.percentiles[2]);
  }
  std::printf(" run_s=%.6g mev_per_s=%.3f solves=%lld rates_solved=%lld rss_mib=%.1f\n",
              outcome.run_s, static_cast<double>(outcome.events) / outcome.run_s * 1e-6,
              static_cast<long long>(outcome.solves), static_cast<long long>(outcome.rates_solved),
              static_cast<double>(use.ru_maxrss) / 1024.0);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    print(longhaul::bench::run_workload({argv + 1, argv + argc}));
  } catch (const longhaul::bench::ArgumentError& error) {
    std::fprintf(stderr,
                 "flows: %s\nusage: flows w=ring|ringq|a2a|meg|rnd|step|stepq KEY=VALUE...\n",
                 error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "flows: %s\n", error.what());
    return 70;
  }
  return 0;
}
