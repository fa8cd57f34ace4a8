// check(): our own invariants, on in every build. A failure is a bug in longhaul
// (exit 70), never the user's mistake; those are Diagnostics (sim/input).
#pragma once

#include <source_location>
#include <stdexcept>
#include <string>

namespace longhaul {

/// Thrown when an invariant of ours does not hold. Only cli/main catches it (exit 70).
class BugError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

[[noreturn]] inline void fail_check(const char* why, const std::source_location& where) {
  throw BugError(std::string(where.file_name()) + ":" + std::to_string(where.line()) + ": " + why);
}

/// Verifies an invariant in every build type.
inline void check(bool condition, const char* why,
                  const std::source_location& where = std::source_location::current()) {
  if (!condition) {
    fail_check(why, where);
  }
}

}  // namespace longhaul
