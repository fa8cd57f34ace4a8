#include "kernels/rope/reference.h"

#include <cmath>

namespace longhaul::kernels {

RopeTable make_rope_table(int positions, int width, double base) {
  RopeTable table;
  for (int position = 0; position < positions; ++position) {
    for (int i = 0; i < width / 2; ++i) {
      const double angle = position * std::pow(base, -2.0 * i / width);
      table.cosines.push_back(static_cast<float>(std::cos(angle)));
      table.sines.push_back(static_cast<float>(std::sin(angle)));
    }
  }
  return table;
}

std::vector<double> rope_reference(const RopeShape& shape, RopeDirection direction,
                                   const RopeTable& table,
                                   const std::vector<std::int32_t>& positions,
                                   const std::vector<double>& x) {
  std::vector<double> turned = x;
  const int half = shape.width / 2;
  const double sign = direction == RopeDirection::forward ? 1.0 : -1.0;
  for (std::int64_t token = 0; token < shape.tokens; ++token) {
    const std::size_t row = static_cast<std::size_t>(positions[token]) * half;
    for (int head = 0; head < shape.heads; ++head) {
      const std::int64_t begin = token * shape.stride() + static_cast<std::int64_t>(head) * shape.width;
      for (int i = 0; i < half; ++i) {
        const double cosine = static_cast<double>(table.cosines[row + i]);
        const double sine = sign * static_cast<double>(table.sines[row + i]);
        const double first = x[begin + i];
        const double second = x[begin + i + half];
        turned[begin + i] = first * cosine - second * sine;
        turned[begin + i + half] = second * cosine + first * sine;
      }
    }
  }
  return turned;
}

}  // namespace longhaul::kernels
