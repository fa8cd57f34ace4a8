#include "kernels/common/comparison.h"

#include <cmath>
#include <cstdio>
#include <stdexcept>

namespace longhaul::kernels {

namespace {

template <class T, class ToDouble>
Difference compare(const std::vector<T>& output, const std::vector<double>& reference,
                   ToDouble to_double) {
  if (output.size() != reference.size() || output.empty()) {
    throw std::invalid_argument("comparison: sizes differ, or nothing to compare");
  }
  Difference found{.elements = output.size()};
  double squares = 0;
  double wanted = 0;
  for (std::size_t i = 0; i < output.size(); ++i) {
    const double value = to_double(output[i]);
    if (std::isinf(reference[i]) && value == reference[i]) continue;
    const double error = std::abs(value - reference[i]);
    if (!std::isfinite(error)) {
      if (found.wrong++ == 0) found.worst = i;
      continue;
    }
    if (error > found.largest) {
      found.largest = error;
      if (found.wrong == 0) found.worst = i;
    }
    squares += error * error;
    wanted += reference[i] * reference[i];
  }
  found.relative = wanted > 0 ? std::sqrt(squares / wanted) : std::sqrt(squares);
  return found;
}

}  // namespace

Difference difference(const std::vector<float>& output, const std::vector<double>& reference) {
  return compare(output, reference, [](float value) { return static_cast<double>(value); });
}

Difference difference(const std::vector<Bfloat16>& output, const std::vector<double>& reference) {
  return compare(output, reference,
                 [](Bfloat16 value) { return static_cast<double>(to_float(value)); });
}

bool passes(const std::string& what, const Difference& found, double relative, double largest) {
  const bool ok = found.wrong == 0 && found.relative <= relative && found.largest <= largest;
  std::printf("%-6s %s: relative %.2e (bound %.2e), largest %.2e (bound %.2e) at %zu of %zu",
              ok ? "ok" : "FAILED", what.c_str(), found.relative, relative, found.largest, largest,
              found.worst, found.elements);
  std::printf(found.wrong > 0 ? ", %zu not finite\n" : "\n", found.wrong);
  return ok;
}

}  // namespace longhaul::kernels
