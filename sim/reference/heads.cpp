// Rotary embedding, the fused qkv projection's layout, replicated heads, order of tokens.
#include <algorithm>
#include <cmath>

#include "sim/program/attention_calls.h"
#include "sim/program/cursor.h"
#include "sim/program/layout.h"
#include "sim/reference/kernels.h"

namespace longhaul {

namespace {

// Copies `width` numbers.
void move(const Array& from, std::int64_t at, Array& to, std::int64_t into, std::int64_t width) {
  std::copy_n(from.values.begin() + at, width, to.values.begin() + into);
}

// Shapes of the fused projection: qkv[t, g, per_group + 2, d].
struct QkvShape {
  std::int64_t rows = 0;       ///< tokens x kv heads
  std::int64_t per_group = 0;  ///< query heads of a kv head
  std::int64_t d = 0;
};

QkvShape qkv_shape(const Array& qkv, const Array& q, const Array& k, const Array& v) {
  QkvShape shape;
  shape.d = qkv.size(-1);
  shape.per_group = qkv.size(-2) - 2;
  need(shape.per_group > 0, "needs query heads, keys and values in every group");
  shape.rows = qkv.elements() / (shape.d * (shape.per_group + 2));
  need(q.elements() == shape.rows * shape.per_group * shape.d &&
           k.elements() == shape.rows * shape.d && v.elements() == k.elements(),
       "splits or joins q, k, v whose sizes do not fit");
  return shape;
}

// x[rows, a + b] beside y[rows, a] and z[rows / sharing, b].
struct Columns {
  std::int64_t a, b, rows, sharing;
};

Columns columns_of(const Array& x, const Array& y, const Array& z) {
  Columns s{y.size(-1), z.size(-1), 0, 0};
  s.rows = y.elements() / s.a;
  const std::int64_t rows_of_z = z.elements() / s.b;
  need(x.size(-1) == s.a + s.b && x.elements() == s.rows * (s.a + s.b) && rows_of_z > 0 &&
           s.rows % rows_of_z == 0,
       "splits or joins columns whose sizes do not fit");
  s.sharing = s.rows / rows_of_z;
  return s;
}

// Of token `token` in the sequence, behind those that are cached: by how the tensor is dealt, or by
// the block it is.
std::int64_t position_of(const Call& call, const Tensor& tensor, std::int64_t tokens,
                         std::int64_t token) {
  const Program& program = call.program;
  if (!call.instruction.block) {
    return program.attention.cached +
           global_index(program.mesh, tensor.shards[1], tokens, call.rank, token);
  }
  const AttentionBlock& block = *call.instruction.block;
  const AttentionGeometry geometry = geometry_of(program, block);
  need(tokens == geometry.sequence / geometry.ring, "rotates a shard of another size");
  const std::int64_t owner = query_shard(block, program.mesh, call.rank, call.counters);
  return geometry.cached + token_position(geometry, owner, token);
}

}  // namespace

// Su et al. 2021 (arXiv 2104.09864) as Llama pairs dimensions: j with j + d/2, angle
// position / 10000^(2j/d).
void compute_rope(Call& call, bool inverse) {
  const Array& x = call.reads[0];
  const Tensor& tensor = call.written_tensor(0);
  need(x.shape.size() == 4 && x.size(3) % 2 == 0 && call.writes[0].elements() == x.elements(),
       "needs [b, s, h, d] with even d");
  const std::int64_t tokens = x.size(1);
  const std::int64_t half = x.size(3) / 2;
  const std::int64_t vectors = x.elements() / (2 * half);
  for (std::int64_t vector = 0; vector < vectors; ++vector) {
    const std::int64_t token = vector / x.size(2) % tokens;
    const auto position = static_cast<double>(position_of(call, tensor, tokens, token));
    for (std::int64_t j = 0; j < half; ++j) {
      const double frequency =
          std::pow(10000.0, -static_cast<double>(j) / static_cast<double>(half));
      const double angle = (inverse ? -1.0 : 1.0) * position * frequency;
      const auto first = static_cast<std::size_t>(vector * 2 * half + j);
      const std::size_t second = first + static_cast<std::size_t>(half);
      const double a = x.values[first];
      const double b = x.values[second];
      call.writes[0].values[first] = a * std::cos(angle) - b * std::sin(angle);
      call.writes[0].values[second] = a * std::sin(angle) + b * std::cos(angle);
    }
  }
}

void compute_split_qkv(Call& call) {
  const QkvShape s = qkv_shape(call.reads[0], call.writes[0], call.writes[1], call.writes[2]);
  for (std::int64_t row = 0; row < s.rows; ++row) {
    const std::int64_t from = row * (s.per_group + 2) * s.d;
    move(call.reads[0], from, call.writes[0], row * s.per_group * s.d, s.per_group * s.d);
    move(call.reads[0], from + s.per_group * s.d, call.writes[1], row * s.d, s.d);
    move(call.reads[0], from + (s.per_group + 1) * s.d, call.writes[2], row * s.d, s.d);
  }
}

void compute_merge_qkv(Call& call) {
  const QkvShape s = qkv_shape(call.writes[0], call.reads[0], call.reads[1], call.reads[2]);
  for (std::int64_t row = 0; row < s.rows; ++row) {
    const std::int64_t to = row * (s.per_group + 2) * s.d;
    move(call.reads[0], row * s.per_group * s.d, call.writes[0], to, s.per_group * s.d);
    move(call.reads[1], row * s.d, call.writes[0], to + s.per_group * s.d, s.d);
    move(call.reads[2], row * s.d, call.writes[0], to + (s.per_group + 1) * s.d, s.d);
  }
}

void compute_split_columns(Call& call) {
  const Array& x = call.reads[0];
  Array& y = call.writes[0];
  Array& z = call.writes[1];
  const Columns s = columns_of(x, y, z);
  for (std::int64_t row = 0; row < s.rows; ++row) {
    move(x, row * (s.a + s.b), y, row * s.a, s.a);
    for (std::int64_t i = 0; i < s.b; ++i) {
      z.values[static_cast<std::size_t>(row / s.sharing * s.b + i)] +=
          x.values[static_cast<std::size_t>(row * (s.a + s.b) + s.a + i)];
    }
  }
}

void compute_join_columns(Call& call) {
  const Columns s = columns_of(call.writes[0], call.reads[0], call.reads[1]);
  for (std::int64_t row = 0; row < s.rows; ++row) {
    move(call.reads[0], row * s.a, call.writes[0], row * (s.a + s.b), s.a);
    move(call.reads[1], row / s.sharing * s.b, call.writes[0], row * (s.a + s.b) + s.a, s.b);
  }
}

void compute_repeat_heads(Call& call) {
  const Array& x = call.reads[0];
  Array& y = call.writes[0];
  const std::int64_t d = x.size(-1);
  need(y.size(-1) == d && y.elements() % x.elements() == 0,
       "repeats heads a whole number of times");
  const std::int64_t times = y.elements() / x.elements();
  for (std::int64_t head = 0; head < y.elements() / d; ++head) {
    move(x, head / times * d, y, head * d, d);
  }
}

void compute_sum_heads(Call& call) {
  const Array& dy = call.reads[0];
  Array& dx = call.writes[0];
  const std::int64_t d = dx.size(-1);
  need(dy.size(-1) == d && dy.elements() % dx.elements() == 0,
       "sums heads a whole number at a time");
  const std::int64_t times = dy.elements() / dx.elements();
  for (std::int64_t i = 0; i < dy.elements(); ++i) {
    const std::int64_t into = i / d / times * d + i % d;
    dx.values[static_cast<std::size_t>(into)] += dy.values[static_cast<std::size_t>(i)];
  }
}

void compute_reorder(Call& call) {
  const AttentionGeometry geometry = geometry_of(call.program, call.instruction.block);
  const Array& x = call.reads[0];
  Array& y = call.writes[0];
  need(x.size(1) == geometry.sequence && x.shape == y.shape, "puts the whole sequence in order");
  const std::int64_t part = geometry.sequence / geometry.ring;
  const std::int64_t width = x.elements() / (x.size(0) * geometry.sequence);
  for (std::int64_t b = 0; b < x.size(0); ++b) {
    for (std::int64_t i = 0; i < geometry.sequence; ++i) {
      const std::int64_t in_shards = (b * geometry.sequence + i) * width;
      const std::int64_t in_order =
          (b * geometry.sequence + token_position(geometry, i / part, i % part)) * width;
      call.instruction.inverse ? move(x, in_order, y, in_shards, width)
                               : move(x, in_shards, y, in_order, width);
    }
  }
}

}  // namespace longhaul
