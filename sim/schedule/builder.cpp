#include "sim/schedule/builder.h"

#include "sim/units/check.h"

namespace longhaul {

Index plus(Index a, const Index& b) {
  check(a.modulus == 0 && b.modulus == 0, "sums of indices are not reduced");
  check(!a.loop || !b.loop || a.loop->index == b.loop->index, "a sum of indices has one loop");
  check(!a.axis || !b.axis || *a.axis == *b.axis, "a sum of indices has one axis");
  a.constant += b.constant;
  a.loop = a.loop ? a.loop : b.loop;
  a.loop_coefficient += b.loop_coefficient;
  a.axis = a.axis ? a.axis : b.axis;
  a.axis_coefficient += b.axis_coefficient;
  a.lookups.insert(a.lookups.end(), b.lookups.begin(), b.lookups.end());
  return a;
}

Index times(Index index, std::int64_t factor) {
  check(index.lookups.empty(), "what is looked up is not multiplied");
  index.constant *= factor;
  index.loop_coefficient *= factor;
  index.axis_coefficient *= factor;
  index.modulus *= factor;
  return index;
}

Program ProgramBuilder::finish() {
  check_program(program_);
  return std::move(program_);
}

TensorRef ProgramBuilder::tensor(const std::string& base, const TensorSpec& spec, Index slot) {
  const std::string name = prefix_ + base;
  TensorRef ref;
  ref.slot = slot;
  const auto found = by_name_.find(name);
  if (found != by_name_.end()) {
    check(program_.tensor(found->second).shape == spec.shape,
          "a tensor declared twice must keep its shape");
    ref.tensor = found->second;
    return ref;
  }
  Tensor made;
  made.name = name;
  made.shape = spec.shape;
  made.shards = spec.shards;
  made.shards.resize(spec.shape.size());
  made.type = spec.type;
  made.category = spec.category;
  made.slots = spec.slots;
  made.persistent = spec.persistent;
  made.role = spec.role;
  made.view = spec.view;
  made.in_host_memory = spec.in_host_memory;
  made.stage_slots = spec.stage_slots;
  made.owner_axes = spec.owner_axes;
  check(!made.view || made.persistent, "only persistent tensors are views");
  ref.tensor = TensorId(program_.tensors.size());
  program_.tensors.push_back(std::move(made));
  by_name_.emplace(name, ref.tensor);
  return ref;
}

TensorRef ProgramBuilder::fresh(const std::string& name, const TensorSpec& spec, Index slot) {
  const TensorRef ref = tensor(name, spec, slot);
  allocate(ref);
  return ref;
}

void ProgramBuilder::allocate(const TensorRef& ref) {
  if (!of(ref).persistent) {
    compute(Op::allocate, "allocate " + of(ref).name, {}, {ref});
  }
}

void ProgramBuilder::release(std::initializer_list<TensorRef> refs) {
  for (const TensorRef& ref : refs) {
    if (!of(ref).persistent) {
      compute(Op::release, "release " + of(ref).name, {ref}, {});
    }
  }
}

void ProgramBuilder::host(const std::string& label, double seconds, bool waits) {
  if (seconds > 0.0) {
    Instruction& instruction = compute(Op::host, label, {}, {});
    instruction.host_time = Seconds::of(seconds);
    instruction.waits = waits;
  }
}

void ProgramBuilder::host_until(const std::string& label, Seconds time) {
  if (time > Seconds()) {
    compute(Op::host, label, {}, {}).not_before = time;
  }
}

void ProgramBuilder::host_waits(const std::string& label) {
  compute(Op::host, label, {}, {}).waits = true;
}

std::optional<GroupId> ProgramBuilder::group(const std::string& name, std::vector<Axis> axes,
                                             bool ends) {
  Group wanted{name, std::move(axes), ends};
  if (group_size(program_.mesh, wanted) <= 1) {
    return std::nullopt;
  }
  for (std::size_t i = 0; i < program_.groups.size(); ++i) {
    if (program_.groups[i].name == name) {
      return GroupId(i);
    }
  }
  program_.groups.push_back(std::move(wanted));
  return GroupId(program_.groups.size() - 1);
}

LoopId ProgramBuilder::begin_loop(const std::string& name, std::int64_t count, bool uniform) {
  const LoopId loop(program_.loops.size());
  Loop made;
  made.name = name;
  made.count = count;
  made.uniform = uniform;
  program_.loops.push_back(std::move(made));
  compute(Op::loop_begin, name, {}, {}).loop = loop;
  return loop;
}

void ProgramBuilder::end_loop(LoopId loop) {
  compute(Op::loop_end, program_.loops[loop.index].name, {}, {}).loop = loop;
}

Instruction& ProgramBuilder::compute(Op op, const std::string& label, std::vector<TensorRef> reads,
                                     std::vector<TensorRef> writes) {
  Instruction instruction;
  instruction.op = op;
  instruction.part = part_;
  instruction.label = label;
  instruction.reads = std::move(reads);
  instruction.writes = std::move(writes);
  if (op != Op::loop_end) {
    instruction.when = when_;
  }
  program_.code.push_back(std::move(instruction));
  return program_.code.back();
}

Instruction& ProgramBuilder::collective(Op op, Stream stream, GroupId group,
                                        const std::string& label, std::vector<TensorRef> reads,
                                        std::vector<TensorRef> writes) {
  Instruction& made = compute(op, label, std::move(reads), std::move(writes));
  made.stream = stream;
  made.group = group;
  made.behind_compute = behind_compute_;
  return made;
}

Instruction& ProgramBuilder::host_work(Op op, const std::string& label,
                                       std::vector<TensorRef> reads,
                                       std::vector<TensorRef> writes) {
  const std::string name = "host";
  std::size_t group = 0;
  while (group < program_.groups.size() && program_.groups[group].name != name) {
    ++group;
  }
  if (group == program_.groups.size()) {
    program_.groups.push_back({name, {}});  // each rank by itself
  }
  const Stream stream = op == Op::to_host     ? Stream::copy
                        : op == Op::from_host ? Stream::fetch
                                              : Stream::processor;
  return collective(op, stream, GroupId(group), label, std::move(reads), std::move(writes));
}

void ProgramBuilder::wait_for(const std::string& label, Stream stream) {
  compute(Op::wait, label, {}, {}).awaited = stream;
}

Instruction& ProgramBuilder::gemm(const std::string& label, TensorRef a, TensorRef b, TensorRef c,
                                  bool transpose_a, bool transpose_b, bool accumulate) {
  Instruction& made = compute(Op::gemm, label, {a, b}, {c});
  made.transpose_a = transpose_a;
  made.transpose_b = transpose_b;
  made.accumulate = accumulate;
  return made;
}

}  // namespace longhaul
