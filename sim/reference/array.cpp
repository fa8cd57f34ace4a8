#include "sim/reference/array.h"

#include <algorithm>
#include <cmath>

#include "sim/units/check.h"

namespace longhaul {

namespace {

// Sizes before, at and behind a dimension: elements of a row-major array by [outer][length][inner].
struct Around {
  std::int64_t outer = 1, length = 1, inner = 1;
};

Around around(const std::vector<std::int64_t>& shape, int dim) {
  check(dim >= 0 && dim < static_cast<int>(shape.size()), "the array has that dimension");
  Around a;
  for (int i = 0; i < static_cast<int>(shape.size()); ++i) {
    std::int64_t& part = i < dim ? a.outer : i == dim ? a.length : a.inner;
    part *= shape[static_cast<std::size_t>(i)];
  }
  return a;
}

}  // namespace

Array Array::filled(std::vector<std::int64_t> shape, double value) {
  Array array;
  array.values.assign(static_cast<std::size_t>(product(shape)), value);
  array.shape = std::move(shape);
  return array;
}

std::int64_t Array::size(int dim) const {
  const int dims = static_cast<int>(shape.size());
  const int index = dim < 0 ? dims + dim : dim;
  check(index >= 0 && index < dims, "the array has that dimension");
  return shape[static_cast<std::size_t>(index)];
}

std::int64_t product(const std::vector<std::int64_t>& shape) {
  std::int64_t all = 1;
  for (const std::int64_t size : shape) {
    all *= size;
  }
  return all;
}

std::string print_shape(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + "]";
}

Array slice(const Array& whole, int dim, std::int64_t begin, std::int64_t length) {
  const Around a = around(whole.shape, dim);
  check(begin >= 0 && length >= 0 && begin + length <= a.length, "a slice lies inside its array");
  Array part;
  part.shape = whole.shape;
  part.shape[static_cast<std::size_t>(dim)] = length;
  part.values.reserve(static_cast<std::size_t>(a.outer * length * a.inner));
  for (std::int64_t o = 0; o < a.outer; ++o) {
    const auto from = whole.values.begin() + (o * a.length + begin) * a.inner;
    part.values.insert(part.values.end(), from, from + length * a.inner);
  }
  return part;
}

void put_slice(Array& whole, int dim, std::int64_t begin, const Array& part) {
  const Around a = around(whole.shape, dim);
  const std::int64_t length = part.size(dim);
  check(begin >= 0 && begin + length <= a.length && part.elements() == a.outer * length * a.inner,
        "a slice lies inside its array");
  for (std::int64_t o = 0; o < a.outer; ++o) {
    const auto from = part.values.begin() + o * length * a.inner;
    std::copy(from, from + length * a.inner,
              whole.values.begin() + (o * a.length + begin) * a.inner);
  }
}

Array join(const std::vector<Array>& parts, int dim) {
  check(!parts.empty(), "something is joined");
  std::vector<std::int64_t> shape = parts[0].shape;
  std::int64_t& length = shape[static_cast<std::size_t>(dim)];
  length = 0;
  for (const Array& part : parts) {
    length += part.size(dim);
  }
  Array whole = Array::filled(shape, 0.0);
  std::int64_t begin = 0;
  for (const Array& part : parts) {
    put_slice(whole, dim, begin, part);
    begin += part.size(dim);
  }
  return whole;
}

void add_to(Array& into, const Array& other) {
  check(into.elements() == other.elements(), "arrays that are added have equal sizes");
  for (std::size_t i = 0; i < into.values.size(); ++i) {
    into.values[i] += other.values[i];
  }
}

bool has_nan(const Array& array) {
  return std::any_of(array.values.begin(), array.values.end(),
                     [](double value) { return std::isnan(value); });
}

}  // namespace longhaul
