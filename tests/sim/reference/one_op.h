// Programs of a handful of instructions, written down tensor by tensor.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "sim/reference/reference.h"

namespace longhaul::test {

/// A program under construction, and its run.
class SmallProgram {
 public:
  explicit SmallProgram(std::int64_t ring = 1, std::int64_t data = 1) {
    program.name = "small";
    program.mesh.sizes[static_cast<int>(Axis::ring)] = ring;
    program.mesh.sizes[static_cast<int>(Axis::data)] = data;
    program.groups = {{"ring", {Axis::ring}}, {"all", {Axis::ring, Axis::data}}};
  }
  /// A persistent tensor; `dealt` dimensions are cut over the ring.
  TensorRef tensor(const std::string& name, std::vector<std::int64_t> shape,
                   std::vector<std::vector<Shard>> shards = {}, bool persistent = true) {
    Tensor made;
    made.name = name;
    made.shape = std::move(shape);
    made.shards = std::move(shards);
    made.persistent = persistent;
    program.tensors.push_back(made);
    TensorRef ref;
    ref.tensor = TensorId(program.tensors.size() - 1);
    return ref;
  }
  TensorRef temporary(const std::string& name, std::vector<std::int64_t> shape) {
    return tensor(name, std::move(shape), {}, false);
  }
  Instruction& add(Op op, std::vector<TensorRef> reads, std::vector<TensorRef> writes) {
    Instruction instruction;
    instruction.op = op;
    instruction.label = name_of(op);
    instruction.reads = std::move(reads);
    instruction.writes = std::move(writes);
    if (is_collective(op)) {
      instruction.group = GroupId(0);
    }
    program.code.push_back(instruction);
    return program.code.back();
  }
  Program program;
};

inline Array array_of(std::vector<std::int64_t> shape, std::vector<double> values) {
  return {std::move(shape), std::move(values)};
}

/// Runs one instruction on one rank: operands r0, r1, ... hold `reads`, w0, w1, ... are written
/// (and hold `before` first, where given). Returns all writes.
struct OneOp {
  Op op;
  std::vector<Array> reads;
  std::vector<std::vector<std::int64_t>> writes;
  std::vector<Array> before{};
  Instruction fields{};
  AttentionGeometry geometry{};

  [[nodiscard]] std::vector<Array> run() const {
    SmallProgram small;
    small.program.attention = geometry;
    std::vector<TensorRef> from, to;
    for (std::size_t i = 0; i < reads.size(); ++i) {
      from.push_back(small.tensor("r" + std::to_string(i), reads[i].shape));
    }
    for (std::size_t i = 0; i < writes.size(); ++i) {
      to.push_back(small.tensor("w" + std::to_string(i), writes[i]));
    }
    Instruction instruction = fields;
    instruction.op = op;
    instruction.reads = from;
    instruction.writes = to;
    small.program.code = {instruction};
    ReferenceRun run(small.program);
    for (std::size_t i = 0; i < reads.size(); ++i) {
      run.set_global("r" + std::to_string(i), 0, reads[i]);
    }
    for (std::size_t i = 0; i < before.size(); ++i) {
      run.set_global("w" + std::to_string(i), 0, before[i]);
    }
    run.run();
    std::vector<Array> results;
    for (std::size_t i = 0; i < writes.size(); ++i) {
      results.push_back(run.gather_global("w" + std::to_string(i), 0));
    }
    return results;
  }
};

}  // namespace longhaul::test
