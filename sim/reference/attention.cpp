// Attention of one block: plain softmax over the keys that the block's calls let through
// (FlashAttention-2, arXiv 2307.08691, without its tiles).
#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "sim/program/attention_calls.h"
#include "sim/program/cursor.h"
#include "sim/reference/kernels.h"

namespace longhaul {

namespace {

constexpr double nothing = -std::numeric_limits<double>::infinity();

using Row = Eigen::Map<Eigen::VectorXd>;
using ConstRow = Eigen::Map<const Eigen::VectorXd>;

// q[b, s, h, d] against k[b, s', g, d] and v[b, s', g, value_d].
struct Heads {
  std::int64_t batch, queries, heads, d, keys, kv_heads, value_d;

  Heads(const Array& q, const Array& k, const Array& v)
      : batch(q.size(0)),
        queries(q.size(1)),
        heads(q.size(2)),
        d(q.size(3)),
        keys(k.size(1)),
        kv_heads(k.size(2)),
        value_d(v.size(3)) {
    const bool fits = k.size(0) == batch && k.size(3) == d && v.size(0) == batch &&
                      v.size(1) == keys && v.size(2) == kv_heads && heads % kv_heads == 0;
    if (!fits) {
      throw ReferenceError("attends to keys " + print_shape(k.shape) + " with queries " +
                           print_shape(q.shape));
    }
  }
  [[nodiscard]] double scale() const { return 1.0 / std::sqrt(static_cast<double>(d)); }
  [[nodiscard]] std::int64_t query(std::int64_t b, std::int64_t i, std::int64_t h) const {
    return ((b * queries + i) * heads + h) * d;
  }
  /// The key row that query head h attends to.
  [[nodiscard]] std::int64_t key(std::int64_t b, std::int64_t j, std::int64_t h) const {
    return ((b * keys + j) * kv_heads + h / (heads / kv_heads)) * d;
  }
  /// Where rows of outputs and values begin.
  [[nodiscard]] std::int64_t output(std::int64_t b, std::int64_t i, std::int64_t h) const {
    return query(b, i, h) / d * value_d;
  }
  [[nodiscard]] std::int64_t value(std::int64_t b, std::int64_t j, std::int64_t h) const {
    return key(b, j, h) / d * value_d;
  }
  [[nodiscard]] std::size_t statistic(std::int64_t b, std::int64_t h, std::int64_t i) const {
    return static_cast<std::size_t>((b * heads + h) * queries + i);
  }
};

ConstRow row(const Array& array, std::int64_t at, std::int64_t d) {
  return {array.values.data() + at, d};
}
Row row(Array& array, std::int64_t at, std::int64_t d) { return {array.values.data() + at, d}; }

// o, lse of one query row over the keys it sees.
double attend_row(const Call& call, const Heads& heads, std::int64_t b, std::int64_t h,
                  std::int64_t i, const std::vector<std::int64_t>& keys, Row o) {
  if (keys.empty()) {
    return nothing;
  }
  const ConstRow q = row(call.reads[0], heads.query(b, i, h), heads.d);
  std::vector<double> scores;
  for (const std::int64_t j : keys) {
    scores.push_back(heads.scale() * q.dot(row(call.reads[1], heads.key(b, j, h), heads.d)));
  }
  const double top = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (std::size_t n = 0; n < keys.size(); ++n) {
    const double p = std::exp(scores[n] - top);
    sum += p;
    o += p * row(call.reads[2], heads.value(b, keys[n], h), heads.value_d);
  }
  o /= sum;
  return top + std::log(sum);
}

// Combines a partial result into (o, lse): weights exp(lse_part - lse_whole).
void combine(const Array& o_part, const Array& lse_part, Array& o, Array& lse) {
  const std::int64_t batch = o.size(0), tokens = o.size(1), heads = o.size(2), d = o.size(3);
  for (std::int64_t n = 0; n < batch * tokens * heads; ++n) {
    const std::int64_t h = n % heads, i = n / heads % tokens, b = n / heads / tokens;
    const auto at = static_cast<std::size_t>((b * heads + h) * tokens + i);
    const double part = lse_part.values[at];
    const double old = lse.values[at];
    const double top = std::max(part, old);
    if (top == nothing) {
      continue;
    }
    const double whole = top + std::log(std::exp(part - top) + std::exp(old - top));
    row(o, n * d, d) =
        std::exp(old - whole) * row(o, n * d, d) + std::exp(part - whole) * row(o_part, n * d, d);
    lse.values[at] = whole;
  }
}

// Writes the combination of what was there, if the instruction asks for it, and this part.
void write_combined(Call& call, Array o, Array lse) {
  if (call.before.empty()) {
    call.writes[0].values = std::move(o.values);
    call.writes[1].values = std::move(lse.values);
    return;
  }
  call.writes = call.before;
  combine(o, lse, call.writes[0], call.writes[1]);
}

// Gradients of one query row: P = exp(score - lse), dS = P (dP - delta).
void attend_row_backward(Call& call, const Heads& heads, std::int64_t b, std::int64_t h,
                         std::int64_t i, const std::vector<std::int64_t>& keys) {
  const std::int64_t d = heads.d;
  const std::int64_t at = heads.query(b, i, h);
  const ConstRow q = row(std::as_const(call.reads[0]), at, d);
  const std::int64_t value_d = heads.value_d;
  const ConstRow d_o = row(std::as_const(call.reads[3]), heads.output(b, i, h), value_d);
  const double lse = call.reads[4].values[heads.statistic(b, h, i)];
  const double delta = call.reads[5].values[heads.statistic(b, h, i)];
  for (const std::int64_t j : keys) {
    const std::int64_t key = heads.key(b, j, h);
    const ConstRow k = row(std::as_const(call.reads[1]), key, d);
    const std::int64_t value = heads.value(b, j, h);
    const ConstRow v = row(std::as_const(call.reads[2]), value, value_d);
    const double p = std::exp(heads.scale() * q.dot(k) - lse);
    const double ds = p * (d_o.dot(v) - delta) * heads.scale();
    row(call.writes[0], at, d) += ds * k;
    row(call.writes[1], key, d) += ds * q;
    row(call.writes[2], value, value_d) += p * d_o;
  }
}

void need_statistics(const Heads& heads, const Array& array) {
  const std::vector<std::int64_t> want{heads.batch, heads.heads, heads.queries};
  if (array.shape != want) {
    throw ReferenceError("keeps statistics as " + print_shape(array.shape) + " instead of " +
                         print_shape(want));
  }
}

}  // namespace

std::vector<std::vector<std::int64_t>> seen_keys(const Call& call, std::int64_t queries,
                                                 std::int64_t keys) {
  const Program& program = call.program;
  const AttentionBlock& block = *call.instruction.block;
  const AttentionGeometry geometry = geometry_of(program, block);
  const std::int64_t all_keys = geometry.shard_keys() * (block.key_owner ? 1 : geometry.ring);
  if (queries != geometry.shard_queries() || keys != all_keys) {
    throw ReferenceError("attends to a block of another size than the program's geometry says");
  }
  const std::int64_t query_owner = query_shard(block, program.mesh, call.rank, call.counters);
  const std::optional<std::int64_t> key_owner =
      key_shard(block, program.mesh, call.rank, call.counters);
  if (query_owner < 0 || query_owner >= geometry.ring ||
      (key_owner && (*key_owner < 0 || *key_owner >= geometry.ring))) {
    throw ReferenceError("attends to a shard that does not exist");
  }
  std::vector<std::vector<std::int64_t>> seen(static_cast<std::size_t>(queries));
  for (const AttentionCall& part_call : attention_calls(geometry, query_owner, key_owner)) {
    for (std::int64_t i = 0; i < part_call.queries; ++i) {
      for (std::int64_t j = 0; j < part_call.keys; ++j) {
        if (part_call.band.lets(i, j)) {
          seen[static_cast<std::size_t>(part_call.query_begin + i)].push_back(part_call.key_begin +
                                                                              j);
        }
      }
    }
  }
  return seen;
}

void compute_attend(Call& call) {
  const Heads heads(call.reads[0], call.reads[1], call.reads[2]);
  need_statistics(heads, call.writes[1]);
  const auto seen = seen_keys(call, heads.queries, heads.keys);
  Array o = Array::filled(call.writes[0].shape, 0.0);
  need(o.elements() == heads.batch * heads.queries * heads.heads * heads.value_d,
       "writes outputs as wide as the values");
  Array lse = Array::filled(call.writes[1].shape, nothing);
  for (std::int64_t b = 0; b < heads.batch; ++b) {
    for (std::int64_t h = 0; h < heads.heads; ++h) {
      for (std::int64_t i = 0; i < heads.queries; ++i) {
        lse.values[heads.statistic(b, h, i)] =
            attend_row(call, heads, b, h, i, seen[static_cast<std::size_t>(i)],
                       row(o, heads.output(b, i, h), heads.value_d));
      }
    }
  }
  write_combined(call, std::move(o), std::move(lse));
}

void compute_merge_attention(Call& call) { write_combined(call, call.reads[0], call.reads[1]); }

void compute_attention_delta(Call& call) {
  const Array& o = call.reads[0];
  const Array& d_o = call.reads[1];
  const Heads heads(o, o, d_o);
  need_statistics(heads, call.writes[0]);
  for (std::int64_t b = 0; b < heads.batch; ++b) {
    for (std::int64_t h = 0; h < heads.heads; ++h) {
      for (std::int64_t i = 0; i < heads.queries; ++i) {
        const std::int64_t at = heads.query(b, i, h);
        call.writes[0].values[heads.statistic(b, h, i)] =
            row(o, at, heads.d).dot(row(d_o, at, heads.d));
      }
    }
  }
}

void compute_attend_backward(Call& call) {
  const Heads heads(call.reads[0], call.reads[1], call.reads[2]);
  need_statistics(heads, call.reads[4]);
  need_statistics(heads, call.reads[5]);
  const auto seen = seen_keys(call, heads.queries, heads.keys);
  for (std::int64_t b = 0; b < heads.batch; ++b) {
    for (std::int64_t h = 0; h < heads.heads; ++h) {
      for (std::int64_t i = 0; i < heads.queries; ++i) {
        attend_row_backward(call, heads, b, h, i, seen[static_cast<std::size_t>(i)]);
      }
    }
  }
}

}  // namespace longhaul
