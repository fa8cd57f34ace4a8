// Small programs for the engine's tests, written by hand so that their times can be worked out.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "sim/program/program.h"

namespace longhaul::test {

/// Builds programs tersely: tensors by name, instructions by operands.
class Draft {
 public:
  explicit Draft(std::int64_t ring) {
    program.mesh.sizes[static_cast<int>(Axis::ring)] = ring;
    program.groups = {{"ring", {Axis::ring}}};
  }
  TensorId tensor(std::vector<std::int64_t> shape, std::int64_t slots = 1, bool persistent = true) {
    Tensor made;
    made.name = "t" + std::to_string(program.tensors.size());
    made.shards.resize(shape.size());
    made.shape = std::move(shape);
    made.slots = slots;
    made.persistent = persistent;
    program.tensors.push_back(std::move(made));
    return TensorId(program.tensors.size() - 1);
  }
  LoopId loop(std::int64_t count, bool uniform) {
    program.loops.push_back({"loop", count, uniform});
    return LoopId(program.loops.size() - 1);
  }
  Instruction& add(Op op, std::vector<TensorRef> reads, std::vector<TensorRef> writes) {
    Instruction instruction;
    instruction.op = op;
    instruction.label = name_of(op);
    instruction.reads = std::move(reads);
    instruction.writes = std::move(writes);
    program.code.push_back(std::move(instruction));
    return program.code.back();
  }
  void begin(LoopId loop) { add(Op::loop_begin, {}, {}).loop = loop; }
  void end(LoopId loop) { add(Op::loop_end, {}, {}).loop = loop; }
  static TensorRef ref(TensorId tensor, Index slot = Index::of(0)) {
    TensorRef made;
    made.tensor = tensor;
    made.slot = slot;
    return made;
  }
  Program program;
};

/// `layers` turns of: save an activation, project, ring attention over `ring` ranks with a
/// travelling double-buffered key/value pair. Slots of the saved tensor grow with the turns.
inline Program ring_layers(std::int64_t ring, std::int64_t layers, MaskKind mask,
                           std::int64_t local = 2048) {
  Draft d(ring);
  d.program.attention = {local * ring, ring, SequenceOrder::contiguous, {mask, 0}};
  const TensorId x = d.tensor({local, 1024});
  const TensorId w = d.tensor({1024, 1536});
  const TensorId y = d.tensor({local, 1536});
  const TensorId q = d.tensor({1, local, 8, 128});
  const TensorId k = d.tensor({1, local, 2, 128}, 2);
  const TensorId v = d.tensor({1, local, 2, 128}, 2);
  const TensorId o = d.tensor({1, local, 8, 128});
  const TensorId lse = d.tensor({1, 8, local});
  const TensorId saved = d.tensor({local, 1024}, layers, false);
  const LoopId layer = d.loop(layers, true);
  const LoopId step = d.loop(ring - 1, false);
  const auto attend = [&](Index slot, Index owner) {
    Instruction& made = d.add(Op::attend, {d.ref(q), d.ref(k, slot), d.ref(v, slot)},
                              {d.ref(o), d.ref(lse)});
    made.accumulate = true;
    made.block = AttentionBlock{Index::coordinate(Axis::ring), owner};
  };
  d.begin(layer);
  d.add(Op::allocate, {}, {d.ref(saved, Index::counter(layer))});
  d.add(Op::gemm, {d.ref(x), d.ref(w)}, {d.ref(y)});
  d.add(Op::split_qkv, {d.ref(y)}, {d.ref(q), d.ref(k), d.ref(v)});
  d.begin(step);
  const Index here = Index::counter(step, 1, 0, 2);
  const Index there = Index::counter(step, 1, 1, 2);
  Instruction& hop = d.add(Op::send_receive, {d.ref(k, here), d.ref(v, here)},
                           {d.ref(k, there), d.ref(v, there)});
  hop.stream = Stream::context;
  hop.group = GroupId(0);
  Index owner = Index::coordinate(Axis::ring, 0, ring);
  owner.loop = step;
  owner.loop_coefficient = -1;
  attend(here, owner);
  d.end(step);
  attend(Index::of((ring - 1) % 2), Index::coordinate(Axis::ring, 1, ring));
  d.add(Op::copy, {d.ref(o)}, {d.ref(saved, Index::counter(layer))});
  d.end(layer);
  return d.program;
}

}  // namespace longhaul::test
