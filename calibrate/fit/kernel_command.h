// `longhaul_fit kernels`: files of measured kernels to one file of fits.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "sim/input/diagnostic.h"

namespace longhaul {

struct KernelCommand {
  std::string device;  ///< preset the rows were measured on
  std::string origin;  ///< who published the measurements; part of every `from`
  /// "bf16=SOURCE,fp8=SOURCE": the rows of each type, by the column source. Several
  /// joined by + are pooled: machines differ, and a fit of one is too sure of itself. Of yardstick's
  /// files: BACKEND or BACKEND@STATE ("bf16=cublaslt@hot").
  std::string gemm;
  /// "fa3=KERNEL@SOURCE,...": kernels of the profile and the rows they are fitted to. Of yardstick's
  /// files: BACKEND or BACKEND@STATE ("fa3=cudnn").
  std::string attention;
  /// Source (of yardstick's files: operator) of the memory-bound rows; empty: all. A kernel that does not stream well says
  /// nothing of the memory.
  std::string memory;
  /// Files; what each holds is told by its name: gemm*, attention*, memory_bound* that end in .csv
  /// or, as yardstick wrote them, in .jsonl; ceilings*.jsonl.
  std::vector<std::string> files;
};

struct KernelFits {
  std::string text;                          ///< format longhaul-kernel-fit/1
  std::vector<std::string> notes;            ///< errors of each fit, and what was refused and why
  std::map<std::string, std::string> plots;  ///< SVG of held-out residuals by name
};

/// Fits everything the files hold; usage errors and unreadable files are recorded.
KernelFits fit_kernels(const KernelCommand& command, Diagnostics& diagnostics);

}  // namespace longhaul
