// Which tensor slots an instruction touches, worked out ahead as far as the program allows.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/program/program.h"

namespace longhaul {

/// A tensor slot touched by a task. Keys are unique per (tensor, slot).
struct Use {
  std::uint32_t key = 0;
  bool write = false;
};

/// The operands of every instruction as keys of slots: most are the same in every turn of every
/// loop on every rank, and are looked up; the others are evaluated.
class Operands {
 public:
  explicit Operands(const Program& program);
  /// How many slots all tensors have together: keys are 0 .. slots() - 1.
  [[nodiscard]] std::uint32_t slots() const { return slots_; }
  /// Appends the uses of the instruction at `place` for a rank with these loop counters. A release
  /// writes what it reads: it ends the slot's life, so nothing that touches it may pass it.
  void append(std::size_t place, RankId rank, const std::vector<std::int64_t>& counters,
              std::vector<Use>& uses) const;

 private:
  struct Operand {
    Use use;  // of slot 0, if `moving`
    const TensorRef* moving = nullptr;
  };
  void add(const TensorRef& ref, bool write);
  [[nodiscard]] std::uint32_t slot_of(const TensorRef& ref, RankId rank,
                                      const std::vector<std::int64_t>& counters) const;

  const Program& program_;
  std::uint32_t slots_ = 0;
  std::vector<std::uint32_t> first_key_;  // by tensor
  std::vector<Operand> operands_;
  std::vector<std::uint32_t> first_operand_;  // by place, and the end
};

}  // namespace longhaul
