#pragma once
// The line of a check.

#include <cstdio>
#include <string>

namespace longhaul::kernels {

/// Prints `what` with the share of its error bound, and tells whether that is at most 1.
inline bool say(const std::string& what, double share) {
  const bool ok = share <= 1;
  std::printf("%-6s %s: %.3g of the error bound\n", ok ? "ok" : "FAILED", what.c_str(), share);
  return ok;
}

/// The same of a check that has no bound but equality.
inline bool say(const std::string& what, bool same) { return say(what, same ? 0.0 : 1e9); }

}  // namespace longhaul::kernels
