#pragma once
// How far a kernel's output lies from its reference in double precision.

#include <cstddef>
#include <string>
#include <vector>

#include "kernels/common/bfloat16.h"

namespace longhaul::kernels {

/// The difference of an output to its reference.
struct Difference {
  double relative = 0;     // ||output - reference|| / ||reference||, Euclidean norms
  double largest = 0;      // largest |output - reference|
  std::size_t worst = 0;   // where it lies
  std::size_t wrong = 0;   // elements that are NaN, or infinite where the reference is not the same
  std::size_t elements = 0;
};

/// Compares element by element. An infinite reference (LSE of a row without keys) wants the same
/// infinity. Throws std::invalid_argument if the sizes differ or there is nothing to compare.
Difference difference(const std::vector<float>& output, const std::vector<double>& reference);
Difference difference(const std::vector<Bfloat16>& output, const std::vector<double>& reference);

/// True if nothing is wrong, the relative error is at most `relative` and no element is further
/// off than `largest`; written so that a NaN fails. Prints one line, `ok` or `FAILED`, with `what`.
bool passes(const std::string& what, const Difference& found, double relative, double largest);

}  // namespace longhaul::kernels
