// Each op of one rank against a formula written out here, and every backward op against central
// differences of its forward op.
#include <catch2/catch.hpp>

#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "tests/sim/reference/one_op.h"

using namespace longhaul;
using namespace longhaul::test;
using Catch::Matchers::WithinAbs;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// Numbers without pattern, in [-1, 1].
Array numbers(std::vector<std::int64_t> shape, double seed) {
  Array array = Array::filled(std::move(shape), 0.0);
  for (std::size_t i = 0; i < array.values.size(); ++i) {
    array.values[i] = std::sin(seed + 12.9898 * static_cast<double>(i * i + i));
  }
  return array;
}

void check_close(const Array& got, const Array& expected, double tolerance = 1e-13) {
  REQUIRE(got.shape == expected.shape);
  for (std::size_t i = 0; i < got.values.size(); ++i) {
    CAPTURE(i);
    CHECK_THAT(got.values[i], WithinAbs(expected.values[i], tolerance));
  }
}

// d(sum of dy * f(x)) / dx by moving every element of x both ways.
Array slopes(Array x, const Array& dy, const std::function<Array(const Array&)>& f) {
  constexpr double step = 1e-5;
  Array slope = Array::filled(x.shape, 0.0);
  for (std::size_t i = 0; i < x.values.size(); ++i) {
    const double here = x.values[i];
    const auto sum_at = [&](double value) {
      x.values[i] = value;
      const Array y = f(x);
      double sum = 0;
      for (std::size_t n = 0; n < y.values.size(); ++n) {
        sum += y.values[n] * dy.values[n];
      }
      return sum;
    };
    slope.values[i] = (sum_at(here + step) - sum_at(here - step)) / (2 * step);
    x.values[i] = here;
  }
  return slope;
}
constexpr double slope_tolerance = 1e-8;  // truncation step^2, rounding 1e-16 / step

Array gemm_by_hand(const Array& a, const Array& b, bool ta, bool tb) {
  const std::int64_t m = a.size(ta ? 1 : 0), k = a.size(ta ? 0 : 1), n = b.size(tb ? 0 : 1);
  Array c = Array::filled({m, n}, 0.0);
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      for (std::int64_t l = 0; l < k; ++l) {
        c.values[static_cast<std::size_t>(i * n + j)] +=
            a.values[static_cast<std::size_t>(ta ? l * m + i : i * k + l)] *
            b.values[static_cast<std::size_t>(tb ? j * k + l : l * n + j)];
      }
    }
  }
  return c;
}

}  // namespace

TEST_CASE("zero writes zeros, copy copies, add adds, and adds to what is there if it accumulates") {
  const Array a = numbers({2, 3}, 1), b = numbers({2, 3}, 2), c = numbers({2, 3}, 3);
  CHECK(OneOp{Op::zero, {}, {{2, 3}}, {c}}.run()[0].values == std::vector<double>(6, 0.0));
  CHECK(OneOp{Op::copy, {a}, {{2, 3}}}.run()[0].values == a.values);
  Array sum = a;
  add_to(sum, b);
  check_close(OneOp{Op::add, {a, b}, {{2, 3}}}.run()[0], sum);
  add_to(sum, c);
  Instruction accumulate;
  accumulate.accumulate = true;
  check_close(OneOp{Op::add, {a, b}, {{2, 3}}, {c}, accumulate}.run()[0], sum);
}

TEST_CASE("a matrix product of each transposition equals the triple loop") {
  for (const bool ta : {false, true}) {
    for (const bool tb : {false, true}) {
      const Array a =
          numbers(ta ? std::vector<std::int64_t>{3, 4} : std::vector<std::int64_t>{4, 3}, 1);
      const Array b =
          numbers(tb ? std::vector<std::int64_t>{5, 3} : std::vector<std::int64_t>{3, 5}, 2);
      const Array before = numbers({4, 5}, 3);
      Instruction fields;
      fields.transpose_a = ta;
      fields.transpose_b = tb;
      Array expected = gemm_by_hand(a, b, ta, tb);
      check_close(OneOp{Op::gemm, {a, b}, {{4, 5}}, {}, fields}.run()[0], expected);
      fields.accumulate = true;
      add_to(expected, before);
      check_close(OneOp{Op::gemm, {a, b}, {{4, 5}}, {before}, fields}.run()[0], expected);
    }
  }
}

TEST_CASE("a matrix product of operands whose sizes do not fit is refused") {
  const Array a = numbers({4, 3}, 1);
  CHECK_THROWS_AS((OneOp{Op::gemm, {a, numbers({4, 5}, 2)}, {{4, 5}}}.run()), ReferenceError);
}

TEST_CASE("RMSNorm divides by the root of the mean square") {
  // Mean square of (3, 4) is 12.5; weights 1 and 2.
  const Array y =
      OneOp{Op::norm, {array_of({1, 2}, {3, 4}), array_of({2}, {1, 2})}, {{1, 2}}}.run()[0];
  const double root = std::sqrt(12.5 + 1e-5);
  check_close(y, array_of({1, 2}, {3 / root, 8 / root}));
}

TEST_CASE("norm backward gives the slopes of norm by x and by weight, added to what is there") {
  const Array x = numbers({3, 4}, 1), w = numbers({4}, 2), dy = numbers({3, 4}, 3);
  const Array before = numbers({4}, 4);
  const auto found =
      OneOp{Op::norm_backward, {x, w, dy}, {{3, 4}, {4}}, {Array::filled({3, 4}, 9.0), before}}
          .run();
  check_close(found[0],
              slopes(x, dy,
                     [&](const Array& at) {
                       return OneOp{Op::norm, {at, w}, {{3, 4}}}.run()[0];
                     }),
              slope_tolerance);
  Array dw = slopes(w, dy, [&](const Array& at) {
    return OneOp{Op::norm, {x, at}, {{3, 4}}}.run()[0];
  });
  add_to(dw, before);
  check_close(found[1], dw, slope_tolerance);
}

TEST_CASE("swiglu is silu(gate) * up, and its backward the slopes") {
  const Array one = OneOp{Op::swiglu, {array_of({1, 1, 2}, {2, 3})}, {{1, 1}}}.run()[0];
  CHECK_THAT(one.values[0], WithinAbs(2 / (1 + std::exp(-2.0)) * 3, 1e-14));
  const Array x = numbers({2, 3, 2}, 1), dy = numbers({2, 3}, 2);
  check_close(OneOp{Op::swiglu_backward, {x, dy}, {{2, 3, 2}}}.run()[0],
              slopes(x, dy,
                     [](const Array& at) {
                       return OneOp{Op::swiglu, {at}, {{2, 3}}}.run()[0];
                     }),
              slope_tolerance);
}

TEST_CASE("swiglu with weights multiplies rows, and its backward gives the slopes of both") {
  const Array x = numbers({2, 3, 2}, 1), w = numbers({2}, 3), dy = numbers({2, 3}, 2);
  const auto y = [](const Array& at, const Array& weights) {
    return OneOp{Op::swiglu, {at, weights}, {{2, 3}}}.run()[0];
  };
  const Array plain = OneOp{Op::swiglu, {x}, {{2, 3}}}.run()[0];
  CHECK_THAT(y(x, w).values[4], WithinAbs(plain.values[4] * w.values[1], 1e-14));
  const auto back = OneOp{Op::swiglu_backward, {x, dy, w}, {{2, 3, 2}, {2}}}.run();
  check_close(back[0], slopes(x, dy, [&](const Array& at) { return y(at, w); }), slope_tolerance);
  check_close(back[1], slopes(w, dy, [&](const Array& at) { return y(x, at); }), slope_tolerance);
}

TEST_CASE("columns split and join; rows that share a row of the second part add up in it") {
  // Two rows that share one: [1 2 | 3] and [4 5 | 6].
  const Array x = array_of({1, 2, 3}, {1, 2, 3, 4, 5, 6});
  const auto parts = OneOp{Op::split_columns, {x}, {{1, 2, 2}, {1, 1, 1}}}.run();
  check_close(parts[0], array_of({1, 2, 2}, {1, 2, 4, 5}));
  check_close(parts[1], array_of({1, 1, 1}, {9}));
  const Array joined = OneOp{Op::join_columns, {parts[0], parts[1]}, {{1, 2, 3}}}.run()[0];
  check_close(joined, array_of({1, 2, 3}, {1, 2, 9, 4, 5, 9}));
  CHECK_THROWS_AS((OneOp{Op::join_columns, {x, x}, {{1, 2, 5}}}.run()), BugError);
}

TEST_CASE("a grouped product is a product for each group, transposes and sums included") {
  const Array a = numbers({2, 3, 4}, 1), b = numbers({2, 4, 5}, 2);
  const Array c = OneOp{Op::grouped_gemm, {a, b}, {{2, 3, 5}}}.run()[0];
  for (std::int64_t group = 0; group < 2; ++group) {
    const Array alone =
        OneOp{Op::gemm, {slice(a, 0, group, 1), slice(b, 0, group, 1)}, {{1, 3, 5}}}.run()[0];
    check_close(slice(c, 0, group, 1), alone);
  }
  CHECK_THROWS_AS((OneOp{Op::grouped_gemm, {a, b}, {{3, 2, 5}}}.run()), BugError);
}

TEST_CASE("scores, their softmax and weighted sums are attention in pieces") {
  // One sequence of two tokens, one head of two channels: scores without a block are products.
  const Array q = array_of({1, 2, 1, 2}, {1, 2, 3, 4}), k = array_of({1, 2, 1, 2}, {1, 0, 0, 1});
  const Array x = OneOp{Op::score, {q, k}, {{1, 1, 2, 2}}}.run()[0];
  check_close(x, array_of({1, 1, 2, 2}, {1, 2, 3, 4}));
  const double e = std::exp(1.0);
  const Array p = OneOp{Op::softmax, {x}, {{1, 1, 2, 2}}}.run()[0];
  check_close(p, array_of({1, 1, 2, 2}, {1 / (1 + e), e / (1 + e), 1 / (1 + e), e / (1 + e)}));
  check_close(OneOp{Op::weigh, {p, k}, {{1, 2, 1, 2}}}.run()[0],
              array_of({1, 2, 1, 2}, {1 / (1 + e), e / (1 + e), 1 / (1 + e), e / (1 + e)}));
  CHECK_THROWS_AS((OneOp{Op::score, {q, k}, {{1, 1, 2, 3}}}.run()), BugError);
}

TEST_CASE("gradients of a softmax are its central differences; a transposed sum is the transpose") {
  const Array x = numbers({1, 2, 3, 4}, 1), d = numbers({1, 2, 3, 4}, 2);
  const Array p = OneOp{Op::softmax, {x}, {x.shape}}.run()[0];
  const Array dx = OneOp{Op::softmax_backward, {p, d}, {x.shape}}.run()[0];
  const auto objective = [&](const Array& at) {
    const Array row = OneOp{Op::softmax, {at}, {x.shape}}.run()[0];
    return std::inner_product(row.values.begin(), row.values.end(), d.values.begin(), 0.0);
  };
  for (std::size_t i = 0; i < x.values.size(); ++i) {
    Array more = x, less = x;
    more.values[i] += 1e-5;
    less.values[i] -= 1e-5;
    const double slope = (objective(more) - objective(less)) / 2e-5;
    CHECK_THAT(dx.values[i], Catch::Matchers::WithinAbs(slope, 1e-8));
  }
  // <P V, D> = <V, P^T D>, with two heads that share one of keys and values.
  const Array v = numbers({1, 4, 1, 5}, 3), o = numbers({1, 3, 2, 5}, 4);
  Instruction transposed;
  transposed.transpose_a = true;
  const Array pv = OneOp{Op::weigh, {p, v}, {o.shape}}.run()[0];
  const Array ptd = OneOp{Op::weigh, {p, o}, {v.shape}, {}, transposed}.run()[0];
  CHECK_THAT(std::inner_product(pv.values.begin(), pv.values.end(), o.values.begin(), 0.0),
             Catch::Matchers::WithinRel(
                 std::inner_product(ptd.values.begin(), ptd.values.end(), v.values.begin(), 0.0),
                 1e-12));
}

TEST_CASE("tokens go to (t k + floor(t k / e) + j) mod e, and come back summed") {
  // Three tokens, two of four experts each: 0 and 1; 2 and 3; 1 and 2 (4 + 1, 4 + 1 + 1 mod 4).
  Instruction two;
  two.experts_per_token = 2;
  AttentionGeometry geometry;
  geometry.sequence = 3;
  const Array x = array_of({1, 3, 1}, {10, 20, 30});
  const Array w = array_of({1, 3, 2}, {1, 2, 3, 4, 5, 6});
  const auto rows = OneOp{Op::dispatch, {x, w}, {{4, 2, 1}, {4, 2}}, {}, two, geometry}.run();
  check_close(rows[0], array_of({4, 2, 1}, {10, 0, 10, 30, 20, 30, 20, 0}));
  check_close(rows[1], array_of({4, 2}, {1, 0, 2, 5, 3, 6, 4, 0}));
  const auto back =
      OneOp{Op::combine, {rows[0], rows[1]}, {{1, 3, 1}, {1, 3, 2}}, {}, two, geometry}.run();
  check_close(back[0], array_of({1, 3, 1}, {20, 40, 60}));
  check_close(back[1], w);
  // One row an expert is too few for the third token.
  CHECK_THROWS_AS((OneOp{Op::dispatch, {x}, {{4, 1, 1}}, {}, two, geometry}.run()), BugError);
}

TEST_CASE("a router weighs the chosen experts by a softmax, and its backward is the slope") {
  AttentionGeometry geometry;
  geometry.sequence = 3;
  const Array logits = numbers({1, 3, 4}, 1), dw = numbers({1, 3, 2}, 2);
  const auto route = [&](const Array& at) {
    return OneOp{Op::route, {at}, {{1, 3, 2}}, {}, {}, geometry}.run()[0];
  };
  const Array w = route(logits);
  const double first = std::exp(logits.values[5 + 4]);  // token 2, expert 1
  const double second = std::exp(logits.values[6 + 4]);
  CHECK_THAT(w.values[4], WithinAbs(first / (first + second), 1e-14));
  check_close(
      OneOp{Op::route_backward, {logits, dw}, {{1, 3, 4}}, {}, {}, geometry}.run()[0],
      slopes(logits, dw, route), slope_tolerance);
}

TEST_CASE("gelu is x times the normal distribution function, and its backward the slopes") {
  // Phi(1) = 0.841344746068543 (tables).
  const Array one = OneOp{Op::gelu, {array_of({2}, {1, -1})}, {{2}}}.run()[0];
  check_close(one, array_of({2}, {0.841344746068543, -(1 - 0.841344746068543)}));
  const Array x = numbers({5}, 1), dy = numbers({5}, 2);
  check_close(OneOp{Op::gelu_backward, {x, dy}, {{5}}}.run()[0],
              slopes(x, dy,
                     [](const Array& at) {
                       return OneOp{Op::gelu, {at}, {{5}}}.run()[0];
                     }),
              slope_tolerance);
}

TEST_CASE("rope turns pairs (j, j + d/2) by position / 10000^(2j/d), and backward turns back") {
  const Array x = numbers({1, 3, 2, 4}, 1);
  const Array y = OneOp{Op::rope, {x}, {{1, 3, 2, 4}}}.run()[0];
  // Token 0 does not turn; token 2, head 1 starts at element 20: angles 2 and 2 / 100.
  for (std::size_t i = 0; i < 8; ++i) {
    CHECK(y.values[i] == x.values[i]);
  }
  CHECK_THAT(y.values[20],
             WithinAbs(x.values[20] * std::cos(2.0) - x.values[22] * std::sin(2.0), 1e-14));
  CHECK_THAT(y.values[23],
             WithinAbs(x.values[21] * std::sin(0.02) + x.values[23] * std::cos(0.02), 1e-14));
  check_close(OneOp{Op::rope_backward, {y}, {{1, 3, 2, 4}}}.run()[0], x);
  const Array dy = numbers(x.shape, 5);
  check_close(OneOp{Op::rope_backward, {dy}, {x.shape}}.run()[0],
              slopes(x, dy,
                     [](const Array& at) {
                       return OneOp{Op::rope, {at}, {at.shape}}.run()[0];
                     }),
              slope_tolerance);
}

TEST_CASE("rope uses the global positions of a zigzag shard") {
  // Four tokens over two ranks: rank 0 holds 0 and 3, rank 1 holds 1 and 2.
  SmallProgram small(2);
  const std::vector<std::vector<Shard>> dealt{{}, {{Axis::ring, SequenceOrder::zigzag}}, {}, {}};
  const TensorRef x = small.tensor("x", {1, 2, 1, 2}, dealt);
  const TensorRef y = small.tensor("y", {1, 2, 1, 2}, dealt);
  small.add(Op::rope, {x}, {y});
  ReferenceRun run(small.program);
  run.set_global("x", 0, array_of({1, 4, 1, 2}, {1, 0, 1, 0, 1, 0, 1, 0}));
  run.run();
  const Array whole = run.gather_global("y", 0);
  for (std::size_t p = 0; p < 4; ++p) {
    CHECK_THAT(whole.values[2 * p], WithinAbs(std::cos(static_cast<double>(p)), 1e-14));
    CHECK_THAT(whole.values[2 * p + 1], WithinAbs(std::sin(static_cast<double>(p)), 1e-14));
  }
}

TEST_CASE("the fused projection stands by key/value head: its queries, then key, then value") {
  // One token, 2 kv heads, 2 queries each, d = 1.
  const Array qkv = array_of({1, 1, 2, 4, 1}, {1, 2, 3, 4, 5, 6, 7, 8});
  const auto split = OneOp{Op::split_qkv, {qkv}, {{1, 1, 4, 1}, {1, 1, 2, 1}, {1, 1, 2, 1}}}.run();
  CHECK(split[0].values == std::vector<double>{1, 2, 5, 6});
  CHECK(split[1].values == std::vector<double>{3, 7});
  CHECK(split[2].values == std::vector<double>{4, 8});
  CHECK(OneOp{Op::merge_qkv, split, {qkv.shape}}.run()[0].values == qkv.values);
}

TEST_CASE("heads are repeated one after the other, and summed the same way") {
  const Array x = array_of({1, 1, 2, 2}, {1, 2, 3, 4});
  const Array y = OneOp{Op::repeat_heads, {x}, {{1, 1, 4, 2}}}.run()[0];
  CHECK(y.values == std::vector<double>{1, 2, 1, 2, 3, 4, 3, 4});
  const Array dy = array_of({1, 1, 4, 2}, {1, 2, 3, 4, 5, 6, 7, 8});
  CHECK(OneOp{Op::sum_heads, {dy}, {{1, 1, 2, 2}}}.run()[0].values ==
        std::vector<double>{4, 6, 12, 14});
}

TEST_CASE("reorder puts gathered zigzag shards into natural order, and back") {
  // Two ranks of two tokens: 0 and 3, 1 and 2.
  OneOp op{Op::reorder, {array_of({1, 4, 1, 1}, {10, 13, 11, 12})}, {{1, 4, 1, 1}}};
  op.geometry = {4, 2, SequenceOrder::zigzag, {}};
  const Array ordered = op.run()[0];
  CHECK(ordered.values == std::vector<double>{10, 11, 12, 13});
  op.reads = {ordered};
  op.fields.inverse = true;
  CHECK(op.run()[0].values == std::vector<double>{10, 13, 11, 12});
}

namespace {

// A program's attention of one rank, with 4 query and 2 key/value heads.
struct TinyAttention {
  std::int64_t tokens = 5;
  AttentionGeometry geometry{5, 1, SequenceOrder::contiguous, {MaskKind::causal, 0}};
  Array q = numbers({2, 5, 4, 3}, 1), k = numbers({2, 5, 2, 3}, 2), v = numbers({2, 5, 2, 3}, 3);

  [[nodiscard]] std::vector<Array> attend(const Array& at_q, const Array& at_k,
                                          const Array& at_v) const {
    OneOp op{Op::attend, {at_q, at_k, at_v}, {q.shape, {2, 4, 5}}};
    op.fields.block = AttentionBlock{Index::of(0), Index::of(0)};
    op.geometry = geometry;
    return op.run();
  }
};

}  // namespace

TEST_CASE("attend is softmax attention of each query head to its key/value head") {
  const TinyAttention tiny;
  const auto found = tiny.attend(tiny.q, tiny.k, tiny.v);
  // Sequence 1, token 2, head 3: key/value head 1, keys 0..2.
  const auto q_at = [&](std::int64_t i) {
    return tiny.q.values[static_cast<std::size_t>(((1 * 5 + 2) * 4 + 3) * 3 + i)];
  };
  const auto key_at = [&](const Array& x, std::int64_t j, std::int64_t i) {
    return x.values[static_cast<std::size_t>(((1 * 5 + j) * 2 + 1) * 3 + i)];
  };
  double sum = 0, mixed = 0;
  for (std::int64_t j = 0; j < 3; ++j) {
    double score = 0;
    for (std::int64_t i = 0; i < 3; ++i) {
      score += q_at(i) * key_at(tiny.k, j, i) / std::sqrt(3.0);
    }
    sum += std::exp(score);
    mixed += std::exp(score) * key_at(tiny.v, j, 2);
  }
  CHECK_THAT(found[0].values[((1 * 5 + 2) * 4 + 3) * 3 + 2], WithinAbs(mixed / sum, 1e-14));
  CHECK_THAT(found[1].values[(1 * 4 + 3) * 5 + 2], WithinAbs(std::log(sum), 1e-14));
}

TEST_CASE("a query that sees no key of a block gives 0 and a log-sum-exp of minus infinity") {
  // Contiguous shards: rank 0's queries see nothing of rank 1's keys.
  OneOp op{Op::attend,
           {numbers({1, 2, 1, 1}, 1), numbers({1, 2, 1, 1}, 2), numbers({1, 2, 1, 1}, 3)},
           {{1, 2, 1, 1}, {1, 1, 2}}};
  op.fields.block = AttentionBlock{Index::of(0), Index::of(1)};
  op.geometry = {4, 2, SequenceOrder::contiguous, {MaskKind::causal, 0}};
  const auto found = op.run();
  CHECK(found[0].values == std::vector<double>{0, 0});
  CHECK(found[1].values == std::vector<double>{-infinity, -infinity});
}

TEST_CASE("attend refuses blocks of another size than the geometry's, or of shards beyond it") {
  OneOp op{Op::attend,
           {numbers({1, 3, 1, 1}, 1), numbers({1, 3, 1, 1}, 2), numbers({1, 3, 1, 1}, 3)},
           {{1, 3, 1, 1}, {1, 1, 3}}};
  op.fields.block = AttentionBlock{Index::of(0), Index::of(1)};
  op.geometry = {4, 2, SequenceOrder::contiguous, {}};
  CHECK_THROWS_AS(op.run(), ReferenceError);
  op.geometry.sequence = 6;
  CHECK_NOTHROW(op.run());
  op.fields.block->key_owner = Index::of(2);
  CHECK_THROWS_AS(op.run(), ReferenceError);
}

TEST_CASE("two halves of the keys combine to attention to all of them") {
  // By merge_attention, and by attend itself with `accumulate`.
  const Array q = numbers({1, 2, 1, 2}, 1);
  const Array k = numbers({1, 4, 1, 2}, 2), v = numbers({1, 4, 1, 2}, 3);
  const std::vector<std::vector<std::int64_t>> outputs{{1, 2, 1, 2}, {1, 1, 2}};
  OneOp op{Op::attend, {q, k, v}, outputs};
  op.geometry = {4, 2, SequenceOrder::contiguous, {MaskKind::full, 0}};
  op.fields.block = AttentionBlock{Index::of(0), std::nullopt};
  const auto whole = op.run();
  op.fields.block->key_owner = Index::of(0);
  op.reads = {q, slice(k, 1, 0, 2), slice(v, 1, 0, 2)};
  const auto first = op.run();
  op.reads = {q, slice(k, 1, 2, 2), slice(v, 1, 2, 2)};
  const auto second = op.run();
  OneOp merge{Op::merge_attention, second, outputs, first, op.fields, op.geometry};
  merge.fields.accumulate = true;
  op.before = first;
  op.fields.accumulate = true;
  for (const auto& combined : {merge.run(), op.run()}) {
    check_close(combined[0], whole[0]);
    check_close(combined[1], whole[1]);
  }
}

TEST_CASE("combining with a part that saw nothing changes nothing, even with nothing before") {
  const Array o = numbers({1, 2, 1, 1}, 1);
  const Array lse = array_of({1, 1, 2}, {0.5, -infinity});
  OneOp merge{Op::merge_attention,
              {Array::filled({1, 2, 1, 1}, 0.0), Array::filled({1, 1, 2}, -infinity)},
              {{1, 2, 1, 1}, {1, 1, 2}},
              {o, lse}};
  merge.fields.accumulate = true;
  merge.fields.block = AttentionBlock{Index::of(0), Index::of(0)};
  const auto combined = merge.run();
  CHECK(combined[0].values == o.values);
  CHECK(combined[1].values == lse.values);
}

TEST_CASE("attend backward gives the slopes of attend by q, k and v") {
  const TinyAttention tiny;
  const Array d_o = numbers(tiny.q.shape, 4);
  const auto forward = tiny.attend(tiny.q, tiny.k, tiny.v);
  const Array delta = OneOp{Op::attention_delta, {forward[0], d_o}, {{2, 4, 5}}}.run()[0];
  OneOp op{Op::attend_backward,
           {tiny.q, tiny.k, tiny.v, d_o, forward[1], delta},
           {tiny.q.shape, tiny.k.shape, tiny.v.shape}};
  op.fields.block = AttentionBlock{Index::of(0), Index::of(0)};
  op.geometry = tiny.geometry;
  const auto found = op.run();
  const auto o_of = [&](const Array& q, const Array& k, const Array& v) {
    return tiny.attend(q, k, v)[0];
  };
  check_close(found[0],
              slopes(tiny.q, d_o, [&](const Array& at) { return o_of(at, tiny.k, tiny.v); }),
              slope_tolerance);
  check_close(found[1],
              slopes(tiny.k, d_o, [&](const Array& at) { return o_of(tiny.q, at, tiny.v); }),
              slope_tolerance);
  check_close(found[2],
              slopes(tiny.v, d_o, [&](const Array& at) { return o_of(tiny.q, tiny.k, at); }),
              slope_tolerance);

  // `accumulate` adds to dq alone.
  op.before = {numbers(tiny.q.shape, 6), numbers(tiny.k.shape, 7), numbers(tiny.v.shape, 8)};
  op.fields.accumulate = true;
  const auto added = op.run();
  Array dq = found[0];
  add_to(dq, op.before[0]);
  check_close(added[0], dq);
  CHECK(added[1].values == found[1].values);
  CHECK(added[2].values == found[2].values);
}

TEST_CASE("delta is the row sum of o times do, by head and token") {
  const Array o = array_of({1, 2, 2, 2}, {1, 2, 3, 4, 5, 6, 7, 8});
  const Array d_o = array_of({1, 2, 2, 2}, {1, 1, 1, 1, 1, 1, 1, 2});
  CHECK(OneOp{Op::attention_delta, {o, d_o}, {{1, 2, 2}}}.run()[0].values ==
        std::vector<double>{3, 11, 7, 23});
}

TEST_CASE("embedding looks rows up; its backward adds gradients to the rows looked up") {
  const Array tokens = array_of({1, 3}, {2, 0, 2});
  const Array table = array_of({3, 2}, {1, 2, 3, 4, 5, 6});
  CHECK(OneOp{Op::embed, {tokens, table}, {{1, 3, 2}}}.run()[0].values ==
        std::vector<double>{5, 6, 1, 2, 5, 6});
  const Array dy = array_of({1, 3, 2}, {1, 2, 3, 4, 5, 6});
  CHECK(OneOp{Op::embed_backward, {tokens, dy}, {{3, 2}}, {Array::filled({3, 2}, 10.0)}}
            .run()[0]
            .values == std::vector<double>{13, 14, 10, 10, 16, 18});
}

TEST_CASE("a rank's embedding gives zeros for tokens that other ranks have") {
  SmallProgram small(2);
  const Shard cut{Axis::ring, SequenceOrder::contiguous};
  const TensorRef tokens = small.tensor("tokens", {2});
  const TensorRef table = small.tensor("table", {2, 1}, {{cut}, {}});
  const TensorRef y = small.tensor("y", {2, 1});
  small.add(Op::embed, {tokens, table}, {y});
  ReferenceRun run(small.program);
  run.set_global("tokens", 0, array_of({2}, {3, 0}));
  run.set_global("table", 0, array_of({4, 1}, {10, 11, 12, 13}));
  run.run();
  CHECK(run.local(RankId(0), "y", 0).values == std::vector<double>{0, 10});
  CHECK(run.local(RankId(1), "y", 0).values == std::vector<double>{13, 0});
}

TEST_CASE("loss is cross entropy, its gradient the slopes, whether the vocabulary is cut or not") {
  const Array logits = numbers({2, 4}, 1);
  const Array labels = array_of({2}, {3, 1});
  const auto cross_entropy = [&](const Array& x) {
    Array loss = Array::filled({2}, 0.0);
    for (std::size_t t = 0; t < 2; ++t) {
      double sum = 0;
      for (std::size_t i = 0; i < 4; ++i) {
        sum += std::exp(x.values[4 * t + i]);
      }
      loss.values[t] = std::log(sum) - x.values[4 * t + static_cast<std::size_t>(labels.values[t])];
    }
    return loss;
  };
  for (const std::int64_t ranks : {1, 2, 4}) {
    SmallProgram small(ranks);
    const Shard cut{Axis::ring, SequenceOrder::contiguous};
    const TensorRef x = small.tensor("x", {2, 4 / ranks}, {{}, {cut}});
    const TensorRef ids = small.tensor("labels", {2});
    const TensorRef own = small.tensor("own", {1, 2, 3});
    const TensorRef all = small.tensor("all", {ranks, 2, 3});
    const TensorRef loss = small.tensor("loss", {2});
    small.add(Op::loss_statistics, {x, ids}, {own});
    small.add(Op::all_gather, {own}, {all}).dim = 0;
    small.add(Op::loss, {x, ids, all}, {loss, x}).scale = 0.5;
    ReferenceRun run(small.program);
    run.set_global("x", 0, logits);
    run.set_global("labels", 0, labels);
    run.run();
    check_close(run.gather_global("loss", 0), cross_entropy(logits));
    check_close(run.gather_global("x", 0), slopes(logits, Array::filled({2}, 0.5), cross_entropy),
                slope_tolerance);
  }
}

TEST_CASE("Adam's first step from zero moments is the rate in the gradient's direction") {
  const Array zeros = Array::filled({2}, 0.0);
  const auto found = OneOp{
      Op::adam,
      {array_of({2}, {1, 1}), array_of({2}, {0.5, -4}), zeros, zeros},
      {{2}, {2}, {2}}}.run();
  check_close(found[0], array_of({2}, {1 - 1e-3, 1 + 1e-3}), 1e-10);
  check_close(found[1], array_of({2}, {0.05, -0.4}));
  check_close(found[2], array_of({2}, {0.00025, 0.016}));
}

TEST_CASE("an operand of another size is refused, whatever the op") {
  const Array x = numbers({2, 4}, 1), other = numbers({3}, 2);
  CHECK_THROWS_AS((OneOp{Op::copy, {x}, {{7}}}.run()), BugError);
  CHECK_THROWS_AS((OneOp{Op::add, {x, other}, {{2, 4}}}.run()), BugError);
  CHECK_THROWS_AS((OneOp{Op::norm, {x, other}, {{2, 4}}}.run()), BugError);
  CHECK_THROWS_AS((OneOp{Op::gelu, {x}, {{7}}}.run()), BugError);
  CHECK_THROWS_AS((OneOp{Op::swiglu, {x}, {{2, 2}}}.run()), BugError);
  CHECK_THROWS_AS((OneOp{Op::rope, {x}, {{2, 4}}}.run()), BugError);
  CHECK_THROWS_AS((OneOp{Op::adam, {x, other, x, x}, {{2, 4}, {2, 4}, {2, 4}}}.run()), BugError);
  CHECK_THROWS_AS((OneOp{Op::repeat_heads, {x}, {{3, 4}}}.run()), BugError);
}

TEST_CASE("an op without an accumulating form refuses to accumulate") {
  Instruction accumulate;
  accumulate.accumulate = true;
  CHECK_THROWS_AS((OneOp{Op::copy, {numbers({2}, 1)}, {{2}}, {}, accumulate}.run()),
                  ReferenceError);
}
