#include "sim/engine/operands.h"

#include "sim/program/cursor.h"
#include "sim/units/check.h"

namespace longhaul {

Operands::Operands(const Program& program) : program_(program) {
  for (const Tensor& tensor : program.tensors) {
    first_key_.push_back(slots_);
    slots_ += static_cast<std::uint32_t>(tensor.slots);
  }
  for (const Instruction& instruction : program.code) {
    first_operand_.push_back(static_cast<std::uint32_t>(operands_.size()));
    for (const TensorRef& ref : instruction.reads) {
      add(ref, instruction.op == Op::release);
    }
    for (const TensorRef& ref : instruction.writes) {
      add(ref, true);
    }
  }
  first_operand_.push_back(static_cast<std::uint32_t>(operands_.size()));
}

void Operands::add(const TensorRef& ref, bool write) {
  Operand operand;
  operand.use = {first_key_[ref.tensor.index], write};
  if (ref.slot.loop || ref.slot.axis || !ref.slot.lookups.empty()) {
    operand.moving = &ref;
  } else {
    operand.use.key += slot_of(ref, RankId(0), {});
  }
  operands_.push_back(operand);
}

std::uint32_t Operands::slot_of(const TensorRef& ref, RankId rank,
                                const std::vector<std::int64_t>& counters) const {
  const std::int64_t slot = evaluate(ref.slot, program_.mesh, rank, counters);
  check(slot >= 0 && slot < program_.tensor(ref.tensor).slots, "a tensor slot must exist");
  return static_cast<std::uint32_t>(slot);
}

void Operands::append(std::size_t place, RankId rank, const std::vector<std::int64_t>& counters,
                      std::vector<Use>& uses) const {
  for (std::uint32_t i = first_operand_[place]; i < first_operand_[place + 1]; ++i) {
    const Operand& operand = operands_[i];
    uses.push_back(operand.use);
    if (operand.moving != nullptr) {
      uses.back().key += slot_of(*operand.moving, rank, counters);
    }
  }
}

}  // namespace longhaul
