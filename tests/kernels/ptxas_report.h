#pragma once
// What ptxas said of the compiled kernels (see cmake/keep_ptxas_report.sh).

#include <string>
#include <string_view>
#include <vector>

namespace longhaul::kernels {

/// Resources of one kernel on one architecture.
struct KernelResources {
  std::string name;          // mangled
  std::string architecture;  // sm_90a
  int registers = 0;         // a thread
  int stack_bytes = 0;       // local memory a thread, spills included
  int spill_bytes = 0;       // stored and loaded
};

/// A report: its kernels, and every line with a warning, as that wgmma is serialised (C7510 to
/// C7515) or setmaxnreg ignored (C7508).
struct PtxasReport {
  std::vector<KernelResources> kernels;
  std::vector<std::string> warnings;
};

/// Reads the text that `nvcc -Xptxas -v` printed.
PtxasReport parse_ptxas_report(std::string_view text);

}  // namespace longhaul::kernels
