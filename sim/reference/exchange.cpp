// Collectives as they are defined, all members at once.
#include "sim/reference/kernels.h"

namespace longhaul {

namespace {

// Equal pieces of dimension `dim`, one per member.
std::vector<Array> cut(const Array& whole, int dim, std::size_t members) {
  const auto n = static_cast<std::int64_t>(members);
  if (dim < 0 || dim >= static_cast<int>(whole.shape.size()) || whole.size(dim) % n != 0) {
    throw ReferenceError("cuts " + print_shape(whole.shape) + " into " + std::to_string(n) +
                         " parts along dimension " + std::to_string(dim));
  }
  std::vector<Array> pieces;
  const std::int64_t length = whole.size(dim) / n;
  for (std::int64_t i = 0; i < n; ++i) {
    pieces.push_back(slice(whole, dim, i * length, length));
  }
  return pieces;
}

Array sum(const std::vector<Array>& parts) {
  Array total = parts[0];
  for (std::size_t i = 1; i < parts.size(); ++i) {
    add_to(total, parts[i]);
  }
  return total;
}

std::vector<Array> all_to_all(const Instruction& instruction, const std::vector<Array>& parts) {
  std::vector<std::vector<Array>> received(parts.size());
  for (const Array& part : parts) {
    const std::vector<Array> pieces = cut(part, instruction.dim, parts.size());
    for (std::size_t i = 0; i < parts.size(); ++i) {
      received[i].push_back(pieces[i]);
    }
  }
  std::vector<Array> joined;
  for (const auto& pieces : received) {
    joined.push_back(join(pieces, instruction.join_dim));
  }
  return joined;
}

// Member i gets what member i - shift has.
std::vector<Array> shifted(const Instruction& instruction, const std::vector<Array>& parts) {
  const auto n = static_cast<std::int64_t>(parts.size());
  std::vector<Array> moved(parts.size());
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t to = ((i + instruction.shift) % n + n) % n;
    moved[static_cast<std::size_t>(to)] = parts[static_cast<std::size_t>(i)];
  }
  return moved;
}

}  // namespace

std::vector<Array> exchange_parts(const Instruction& instruction, const std::vector<Array>& parts) {
  switch (instruction.op) {
    case Op::all_gather: return std::vector<Array>(parts.size(), join(parts, instruction.dim));
    case Op::reduce_scatter: return cut(sum(parts), instruction.dim, parts.size());
    case Op::all_reduce: return std::vector<Array>(parts.size(), sum(parts));
    case Op::all_to_all: return all_to_all(instruction, parts);
    case Op::broadcast:
      return std::vector<Array>(parts.size(), parts[static_cast<std::size_t>(instruction.root)]);
    case Op::send_receive: return shifted(instruction, parts);
    default: throw ReferenceError("is no collective");
  }
}

}  // namespace longhaul
