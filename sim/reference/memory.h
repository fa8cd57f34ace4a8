// A rank's memory, slot by slot, with the books that catch misuse.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "sim/program/program.h"
#include "sim/reference/array.h"
#include "sim/units/check.h"

namespace longhaul {

/// A program that cannot be computed, or whose result cannot be trusted: a bug of ours.
class ReferenceError : public BugError {
 public:
  using BugError::BugError;
};

/// A tensor slot (or a slice of one) after its Indices have been worked out.
struct Operand {
  TensorId tensor;
  std::int64_t slot = 0;
  std::optional<int> dim;  ///< sliced along it
  std::int64_t begin = 0;
  std::int64_t length = 0;
};

/// Tensor slots of one rank. A slot that becomes held is filled with NaN, so that reading what was
/// never written shows. All functions throw ReferenceError.
class ReferenceMemory {
 public:
  /// Persistent tensors are held from the start.
  ReferenceMemory(const Program& program, RankId rank);
  void allocate(const Operand& operand);
  void release(const Operand& operand);
  /// A copy of the operand's elements; an error if any of them is NaN.
  [[nodiscard]] Array read(const Operand& operand) const;
  void write(const Operand& operand, const Array& value);
  [[nodiscard]] std::vector<std::int64_t> shape(const Operand& operand) const;
  [[nodiscard]] const Array& held(const Operand& operand) const;
  /// An error if anything but persistent tensors is held.
  void check_all_released() const;

 private:
  [[nodiscard]] std::string name(const Operand& operand) const;
  [[nodiscard]] std::optional<Array>& slot(const Operand& operand);
  const std::vector<Tensor>* tensors_;
  std::vector<std::vector<std::optional<Array>>> slots_;  ///< by tensor, slot; empty: not held
};

}  // namespace longhaul
