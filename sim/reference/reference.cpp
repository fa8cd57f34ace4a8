#include "sim/reference/reference.h"

#include <algorithm>
#include <cmath>

#include "sim/program/layout.h"
#include "sim/reference/execution.h"

namespace longhaul {

namespace {

// Where each element of a rank's part stands in the whole, in row-major order of the part.
std::vector<std::int64_t> places_in_whole(const Program& program, const Tensor& tensor,
                                          RankId rank) {
  std::vector<std::int64_t> places{0};
  for (std::size_t dim = 0; dim < tensor.shape.size(); ++dim) {
    const std::int64_t size = tensor.shape[dim];
    const std::int64_t whole = global_size(program.mesh, tensor.shards[dim], size);
    std::vector<std::int64_t> finer;
    finer.reserve(places.size() * static_cast<std::size_t>(size));
    for (const std::int64_t place : places) {
      for (std::int64_t i = 0; i < size; ++i) {
        finer.push_back(place * whole +
                        global_index(program.mesh, tensor.shards[dim], size, rank, i));
      }
    }
    places = std::move(finer);
  }
  return places;
}

std::vector<std::int64_t> whole_shape(const Program& program, const Tensor& tensor) {
  std::vector<std::int64_t> shape;
  for (std::size_t dim = 0; dim < tensor.shape.size(); ++dim) {
    shape.push_back(global_size(program.mesh, tensor.shards[dim], tensor.shape[dim]));
  }
  return shape;
}

Operand operand_of(const Program& program, TensorId tensor, std::int64_t slot) {
  const Tensor& declared = program.tensor(tensor);
  if (slot < 0 || (declared.stage_slots.empty() && slot >= declared.slots)) {
    throw ReferenceError("'" + declared.name + "' has no slot " + std::to_string(slot));
  }
  Operand operand;
  operand.tensor = tensor;
  operand.slot = slot;
  return operand;
}

// Program with `shards` of every tensor as long as its shape.
Program complete(Program program) {
  check_program(program);
  for (Tensor& tensor : program.tensors) {
    tensor.shards.resize(tensor.shape.size());
  }
  return program;
}

double largest(const Array& array) {
  double most = 0;
  for (const double value : array.values) {
    most = std::max(most, std::abs(value));
  }
  return most;
}

// Joins a rank's part into the whole; `filled` says which elements another rank has given.
void gather_part(const Array& part, const std::vector<std::int64_t>& places, double scale,
                 const std::string& name, Array& whole, std::vector<bool>& filled) {
  constexpr double tolerance = 1e-12;  // replicas compute the same thing in the same order
  for (std::size_t i = 0; i < places.size(); ++i) {
    const auto place = static_cast<std::size_t>(places[i]);
    const double value = part.values[i];
    if (!filled[place]) {
      whole.values[place] = value;
      filled[place] = true;
    } else if (!(std::abs(value - whole.values[place]) <= tolerance * scale) &&
               value != whole.values[place]) {
      throw ReferenceError("ranks that hold the same part of '" + name + "' disagree: " +
                           std::to_string(value) + " and " + std::to_string(whole.values[place]));
    }
  }
}

}  // namespace

// Memory keeps a pointer to the tensors: a run is neither copied nor moved (see the header).
ReferenceRun::ReferenceRun(const Program& program) : program_(complete(program)) {
  for (std::int64_t rank = 0; rank < program_.mesh.ranks(); ++rank) {
    memory_.emplace_back(program_, RankId(static_cast<std::size_t>(rank)));
  }
}

TensorId ReferenceRun::find(const std::string& name) const {
  for (std::size_t i = 0; i < program_.tensors.size(); ++i) {
    if (program_.tensors[i].name == name) {
      return TensorId(i);
    }
  }
  throw ReferenceError("program '" + program_.name + "' has no tensor '" + name + "'");
}

void ReferenceRun::set_global(const std::string& name, std::int64_t slot, const Array& whole) {
  const TensorId id = find(name);
  const Tensor& tensor = program_.tensor(id);
  Operand operand = operand_of(program_, id, slot);
  const auto wanted = whole_shape(program_, tensor);
  if (!tensor.persistent || whole.shape != wanted) {
    throw ReferenceError("'" + name + "' is persistent and " + print_shape(wanted) +
                         " over all ranks, or cannot be set to " + print_shape(whole.shape));
  }
  for (std::size_t rank = 0; rank < memory_.size(); ++rank) {
    const auto mine = tensor.slot_of_whole(program_.mesh, RankId(rank), slot);
    if (!mine) {
      continue;
    }
    operand.slot = *mine;
    Array part = Array::filled(tensor.shape, 0.0);
    const auto places = places_in_whole(program_, tensor, RankId(rank));
    for (std::size_t i = 0; i < places.size(); ++i) {
      part.values[i] = whole.values[static_cast<std::size_t>(places[i])];
    }
    memory_[rank].write(operand, part);
  }
}

void ReferenceRun::run(ExecutionOrder order, std::uint64_t seed) {
  Execution execution(program_, memory_, left_out_, order, seed);
  execution.run();
}

Array ReferenceRun::gather_global(const std::string& name, std::int64_t slot) const {
  const TensorId id = find(name);
  const Tensor& tensor = program_.tensor(id);
  Operand operand = operand_of(program_, id, slot);
  double scale = 0;
  std::vector<std::optional<Array>> parts;
  for (std::size_t rank = 0; rank < memory_.size(); ++rank) {
    const auto mine = tensor.slot_of_whole(program_.mesh, RankId(rank), slot);
    operand.slot = mine.value_or(0);
    parts.push_back(mine ? std::optional<Array>(memory_[rank].read(operand)) : std::nullopt);
    scale = std::max(scale, mine ? largest(*parts.back()) : 0.0);
  }
  Array whole = Array::filled(whole_shape(program_, tensor), 0.0);
  std::vector<bool> filled(whole.values.size(), false);
  for (std::size_t rank = 0; rank < memory_.size(); ++rank) {
    if (parts[rank]) {
      gather_part(*parts[rank], places_in_whole(program_, tensor, RankId(rank)), scale, name, whole,
                  filled);
    }
  }
  if (std::find(filled.begin(), filled.end(), false) != filled.end()) {
    throw ReferenceError("no rank holds some elements of '" + name + "'");
  }
  return whole;
}

const Array& ReferenceRun::local(RankId rank, const std::string& name, std::int64_t slot) const {
  return memory_.at(rank.index).held(operand_of(program_, find(name), slot));
}

}  // namespace longhaul
