#include "tests/kernels/ptxas_report.h"

#include <cstdio>
#include <sstream>

namespace longhaul::kernels {

namespace {

// The text between the first pair of quotes from `from` on.
std::string quoted(const std::string& line, std::size_t from) {
  const std::size_t begin = line.find('\'', from);
  if (begin == std::string::npos) return {};
  const std::size_t end = line.find('\'', begin + 1);
  return line.substr(begin + 1, end == std::string::npos ? end : end - begin - 1);
}

void read_line(const std::string& line, PtxasReport& report) {
  const bool warns = line.find("warning") != std::string::npos;
  if (warns || line.find("(C75") != std::string::npos) report.warnings.push_back(line);
  constexpr std::string_view compiling = "Compiling entry function ";
  if (const auto at = line.find(compiling); at != std::string::npos) {
    const std::size_t target = line.find("' for ", at);
    report.kernels.push_back({.name = quoted(line, at), .architecture = quoted(line, target + 1)});
    return;
  }
  if (report.kernels.empty()) return;
  KernelResources& kernel = report.kernels.back();
  int stack = 0;
  int stores = 0;
  int loads = 0;
  if (std::sscanf(line.c_str(), " %d bytes stack frame, %d bytes spill stores, %d bytes spill loads",
                  &stack, &stores, &loads) == 3) {
    kernel.stack_bytes = stack;
    kernel.spill_bytes = stores + loads;
  }
  std::sscanf(line.c_str(), "ptxas info : Used %d registers", &kernel.registers);
}

}  // namespace

PtxasReport parse_ptxas_report(std::string_view text) {
  PtxasReport report;
  std::istringstream stream{std::string(text)};
  for (std::string line; std::getline(stream, line);) read_line(line, report);
  return report;
}

}  // namespace longhaul::kernels
