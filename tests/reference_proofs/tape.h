// Numbers that remember how they were computed, so that gradients come out by the chain rule alone:
// the oracle's gradients share no formula with the executor's backward kernels.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace longhaul::test {

/// A list of operations in the order they were done; each has at most two operands.
class Tape {
 public:
  struct Node {
    std::int32_t a = -1, b = -1;
    double da = 0, db = 0;  ///< partial derivatives by a and b
  };
  std::int32_t push(const Node& node) {
    nodes_.push_back(node);
    return static_cast<std::int32_t>(nodes_.size() - 1);
  }
  /// Derivatives of sum_i seeds[i] * value of node i by every node.
  [[nodiscard]] std::vector<double> backward(std::vector<double> seeds) const {
    for (std::size_t i = nodes_.size(); i-- > 0;) {
      const Node& node = nodes_[i];
      if (node.a >= 0) {
        seeds[static_cast<std::size_t>(node.a)] += node.da * seeds[i];
      }
      if (node.b >= 0) {
        seeds[static_cast<std::size_t>(node.b)] += node.db * seeds[i];
      }
    }
    return seeds;
  }
  [[nodiscard]] std::size_t size() const { return nodes_.size(); }

 private:
  std::vector<Node> nodes_;
};

/// A number on a tape; a constant where `tape` is null.
struct Real {
  double value = 0;
  std::int32_t node = -1;
  Tape* tape = nullptr;

  Real() = default;
  Real(double constant) : value(constant) {}  // NOLINT: numbers are numbers
  static Real variable(Tape& tape, double value) {
    Real real(value);
    real.tape = &tape;
    real.node = tape.push({});
    return real;
  }
  /// f(a) with its derivative.
  static Real of(double value, const Real& a, double da) {
    Real real(value);
    real.tape = a.tape;
    if (real.tape != nullptr) {
      real.node = real.tape->push({a.node, -1, da, 0});
    }
    return real;
  }
  /// f(a, b) with its partial derivatives.
  static Real of(double value, const Real& a, double da, const Real& b, double db) {
    Real real(value);
    real.tape = a.tape != nullptr ? a.tape : b.tape;
    if (real.tape != nullptr) {
      real.node = real.tape->push({a.node, b.node, da, db});
    }
    return real;
  }
};

inline Real operator+(const Real& a, const Real& b) {
  return Real::of(a.value + b.value, a, 1, b, 1);
}
inline Real operator-(const Real& a, const Real& b) {
  return Real::of(a.value - b.value, a, 1, b, -1);
}
inline Real operator*(const Real& a, const Real& b) {
  return Real::of(a.value * b.value, a, b.value, b, a.value);
}
inline Real operator/(const Real& a, const Real& b) {
  return Real::of(a.value / b.value, a, 1 / b.value, b, -a.value / (b.value * b.value));
}
inline Real exp(const Real& a) {
  const double e = std::exp(a.value);
  return Real::of(e, a, e);
}
inline Real log(const Real& a) { return Real::of(std::log(a.value), a, 1 / a.value); }
inline Real sqrt(const Real& a) {
  const double root = std::sqrt(a.value);
  return Real::of(root, a, 0.5 / root);
}
/// The normal distribution function.
inline Real normal_cdf(const Real& a) {
  const double density = std::exp(-a.value * a.value / 2) / std::sqrt(8 * std::atan(1.0));
  return Real::of(std::erfc(-a.value / std::sqrt(2.0)) / 2, a, density);
}

}  // namespace longhaul::test
