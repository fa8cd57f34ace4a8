#include "sim/reference/memory.h"

#include <algorithm>
#include <limits>

namespace longhaul {

namespace {

constexpr double poison = std::numeric_limits<double>::quiet_NaN();

}  // namespace

ReferenceMemory::ReferenceMemory(const Program& program, RankId rank) : tensors_(&program.tensors) {
  for (const Tensor& tensor : program.tensors) {
    const auto count = static_cast<std::size_t>(tensor.slots);
    auto& slots = slots_.emplace_back(count);
    if (tensor.persistent) {
      const auto held = static_cast<std::size_t>(tensor.held_slots(program.mesh, rank));
      std::fill_n(slots.begin(), held, Array::filled(tensor.shape, poison));
    }
  }
}

std::string ReferenceMemory::name(const Operand& operand) const {
  return "'" + (*tensors_)[operand.tensor.index].name + "' slot " + std::to_string(operand.slot);
}

std::optional<Array>& ReferenceMemory::slot(const Operand& operand) {
  return slots_[operand.tensor.index][static_cast<std::size_t>(operand.slot)];
}

void ReferenceMemory::allocate(const Operand& operand) {
  if (slot(operand)) {
    throw ReferenceError("allocates " + name(operand) + ", which is held already");
  }
  slot(operand) = Array::filled((*tensors_)[operand.tensor.index].shape, poison);
}

void ReferenceMemory::release(const Operand& operand) {
  if ((*tensors_)[operand.tensor.index].persistent) {
    throw ReferenceError("releases " + name(operand) + ", which is persistent");
  }
  if (!slot(operand)) {
    throw ReferenceError("releases " + name(operand) + ", which is not held");
  }
  slot(operand).reset();
}

const Array& ReferenceMemory::held(const Operand& operand) const {
  const auto& array = slots_[operand.tensor.index][static_cast<std::size_t>(operand.slot)];
  if (!array) {
    throw ReferenceError("uses " + name(operand) + ", which is not held");
  }
  return *array;
}

Array ReferenceMemory::read(const Operand& operand) const {
  const Array& whole = held(operand);
  Array part = operand.dim ? slice(whole, *operand.dim, operand.begin, operand.length) : whole;
  if (has_nan(part)) {
    throw ReferenceError("reads " + name(operand) + ", parts of which were never written");
  }
  return part;
}

void ReferenceMemory::write(const Operand& operand, const Array& value) {
  static_cast<void>(held(operand));
  Array& whole = *slot(operand);
  if (value.elements() != product(shape(operand))) {
    throw ReferenceError("writes " + print_shape(value.shape) + " to " + name(operand) + " of " +
                         print_shape(shape(operand)));
  }
  if (operand.dim) {
    put_slice(whole, *operand.dim, operand.begin, value);
  } else {
    whole.values = value.values;
  }
}

std::vector<std::int64_t> ReferenceMemory::shape(const Operand& operand) const {
  std::vector<std::int64_t> shape = (*tensors_)[operand.tensor.index].shape;
  if (operand.dim) {
    shape[static_cast<std::size_t>(*operand.dim)] = operand.length;
  }
  return shape;
}

void ReferenceMemory::check_all_released() const {
  for (std::size_t t = 0; t < slots_.size(); ++t) {
    for (std::size_t s = 0; s < slots_[t].size(); ++s) {
      // What is wanted at the end may be held there.
      const bool wanted =
          (*tensors_)[t].role == Role::gradient || (*tensors_)[t].role == Role::output;
      if (slots_[t][s] && !(*tensors_)[t].persistent && !wanted) {
        throw ReferenceError("'" + (*tensors_)[t].name + "' slot " + std::to_string(s) +
                             " is held at the end of the program");
      }
    }
  }
}

}  // namespace longhaul
