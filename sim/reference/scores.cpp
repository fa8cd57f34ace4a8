// Attention whose scores are stored: products of heads, and the softmax between them.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "sim/reference/kernels.h"

namespace longhaul {

namespace {

// x[b, h, s, n] between rows[b, s, h, d] and columns[b, n, g, d].
struct Square {
  std::int64_t batch, heads, rows, columns, kv_heads, d;

  Square(const Array& x, const Array& of_rows, const Array& of_columns)
      : batch(x.size(0)),
        heads(x.size(1)),
        rows(x.size(2)),
        columns(x.size(3)),
        kv_heads(of_columns.size(2)),
        d(of_rows.size(3)) {
    need(of_rows.shape == std::vector<std::int64_t>{batch, rows, heads, d} &&
             of_columns.shape == std::vector<std::int64_t>{batch, columns, kv_heads, d} &&
             heads % kv_heads == 0,
         "multiplies heads whose sizes do not fit their scores");
  }
  [[nodiscard]] std::size_t at(std::int64_t b, std::int64_t h, std::int64_t i,
                               std::int64_t j) const {
    return static_cast<std::size_t>(((b * heads + h) * rows + i) * columns + j);
  }
  [[nodiscard]] std::size_t row(std::int64_t b, std::int64_t h, std::int64_t i) const {
    return static_cast<std::size_t>(((b * rows + i) * heads + h) * d);
  }
  [[nodiscard]] std::size_t column(std::int64_t b, std::int64_t h, std::int64_t j) const {
    return static_cast<std::size_t>(((b * columns + j) * kv_heads + h / (heads / kv_heads)) * d);
  }
  /// Every score with where its row and its column begin.
  void each(const auto& body) const {
    for (std::int64_t b = 0; b < batch; ++b) {
      for (std::int64_t h = 0; h < heads; ++h) {
        for (std::int64_t i = 0; i < rows; ++i) {
          for (std::int64_t j = 0; j < columns; ++j) {
            body(at(b, h, i, j), row(b, h, i), column(b, h, j));
          }
        }
      }
    }
  }
};

// Adds weight * from[at...] to to[into...].
void add_scaled(double weight, const Array& from, std::size_t at, Array& to, std::size_t into,
                std::int64_t width) {
  for (std::size_t i = 0; i < static_cast<std::size_t>(width); ++i) {
    to.values[into + i] += weight * from.values[at + i];
  }
}

// Everything that the mask of the instruction's block keeps from its queries becomes -inf.
void hide(const Call& call, const Square& square, Array& x) {
  const auto seen = seen_keys(call, square.rows, square.columns);
  for (std::int64_t i = 0; i < square.rows; ++i) {
    const auto& keys = seen[static_cast<std::size_t>(i)];
    for (std::int64_t j = 0; j < square.columns; ++j) {
      if (std::find(keys.begin(), keys.end(), j) != keys.end()) {
        continue;
      }
      for (std::int64_t n = 0; n < square.batch * square.heads; ++n) {
        x.values[square.at(n / square.heads, n % square.heads, i, j)] =
            -std::numeric_limits<double>::infinity();
      }
    }
  }
}

}  // namespace

void compute_score(Call& call) {
  const Array& q = call.reads[0];
  const Array& k = call.reads[1];
  Array& x = call.writes[0];
  const Square square(x, q, k);
  const double scale =
      call.instruction.block ? 1.0 / std::sqrt(static_cast<double>(square.d)) : 1.0;
  square.each([&](std::size_t at, std::size_t row, std::size_t column) {
    const auto from = q.values.begin() + static_cast<std::ptrdiff_t>(row);
    x.values[at] = scale * std::inner_product(from, from + square.d,
                                              k.values.begin() +
                                                  static_cast<std::ptrdiff_t>(column),
                                              0.0);
  });
  if (call.instruction.block) {
    hide(call, square, x);
  }
}

void compute_softmax(Call& call) {
  const Array& x = call.reads[0];
  Array& p = call.writes[0];
  const std::int64_t width = x.size(-1);
  need(x.shape == p.shape, "keeps the shape of its rows");
  for (std::int64_t begin = 0; begin < x.elements(); begin += width) {
    const auto first = x.values.begin() + begin;
    const double top = *std::max_element(first, first + width);
    if (std::isinf(top)) {
      continue;  // sees nothing: zeros
    }
    double sum = 0.0;
    for (std::int64_t i = 0; i < width; ++i) {
      sum += p.values[static_cast<std::size_t>(begin + i)] = std::exp(first[i] - top);
    }
    for (std::int64_t i = 0; i < width; ++i) {
      p.values[static_cast<std::size_t>(begin + i)] /= sum;
    }
  }
}

void compute_softmax_backward(Call& call) {
  const Array& p = call.reads[0];
  const Array& dp = call.reads[1];
  Array& dx = call.writes[0];
  const std::int64_t width = p.size(-1);
  need(p.shape == dp.shape && p.shape == dx.shape, "keeps the shape of its rows");
  for (std::int64_t begin = 0; begin < p.elements(); begin += width) {
    const auto first = p.values.begin() + begin;
    const double mean = std::inner_product(first, first + width, dp.values.begin() + begin, 0.0);
    for (std::int64_t i = begin; i < begin + width; ++i) {
      const auto at = static_cast<std::size_t>(i);
      dx.values[at] = call.instruction.scale * p.values[at] * (dp.values[at] - mean);
    }
  }
}

void compute_weigh(Call& call) {
  const Array& p = call.reads[0];
  const bool transposed = call.instruction.transpose_a;
  const Array& from = call.reads[1];
  Array& to = call.writes[0];
  const Square square(p, transposed ? from : to, transposed ? to : from);
  square.each([&](std::size_t at, std::size_t row, std::size_t column) {
    add_scaled(p.values[at], from, transposed ? row : column, to, transposed ? column : row,
               square.d);
  });
}

}  // namespace longhaul
