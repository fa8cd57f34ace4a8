// Dense arrays of the reference executor: any number of dimensions, row-major, double.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace longhaul {

/// A dense row-major array. values.size() is the product of shape.
struct Array {
  std::vector<std::int64_t> shape;
  std::vector<double> values;

  static Array filled(std::vector<std::int64_t> shape, double value);
  [[nodiscard]] std::int64_t elements() const { return static_cast<std::int64_t>(values.size()); }
  /// Size of dimension `dim`, counted from the end where negative.
  [[nodiscard]] std::int64_t size(int dim) const;
};

std::int64_t product(const std::vector<std::int64_t>& shape);
/// "[2, 16, 8, 4]"
std::string print_shape(const std::vector<std::int64_t>& shape);

/// The part [begin, begin + length) of dimension `dim`.
Array slice(const Array& whole, int dim, std::int64_t begin, std::int64_t length);
/// Writes `part` to that place.
void put_slice(Array& whole, int dim, std::int64_t begin, const Array& part);
/// Parts side by side along `dim`; all other dimensions must agree.
Array join(const std::vector<Array>& parts, int dim);
/// into += other, element by element, whatever their shapes.
void add_to(Array& into, const Array& other);
bool has_nan(const Array& array);

}  // namespace longhaul
