#include "sim/reference/trace.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "sim/program/cursor.h"

namespace longhaul {

namespace {

std::string where(const Program& program, const Cursor& cursor, const Tensor& tensor) {
  return std::string(name_of(cursor.instruction().op)) + " '" + cursor.instruction().label +
         "' (instruction " + std::to_string(cursor.place()) + " of '" + program.name + "') names " +
         tensor.name;
}

Operand resolve(const Program& program, RankId rank, const Cursor& cursor, const TensorRef& ref) {
  const Tensor& tensor = program.tensor(ref.tensor);
  Operand operand;
  operand.tensor = ref.tensor;
  operand.slot = evaluate(ref.slot, program.mesh, rank, cursor.counters());
  if (operand.slot < 0 || operand.slot >= tensor.slots) {
    throw ReferenceError(where(program, cursor, tensor) + " slot " + std::to_string(operand.slot) +
                         " of " + std::to_string(tensor.slots));
  }
  if (!ref.slice_dim) {
    return operand;
  }
  operand.dim = ref.slice_dim;
  operand.begin = evaluate(ref.slice_begin, program.mesh, rank, cursor.counters());
  operand.length = ref.slice_length;
  const std::int64_t size = tensor.shape[static_cast<std::size_t>(*ref.slice_dim)];
  if (operand.begin < 0 || operand.begin + operand.length > size) {
    throw ReferenceError(where(program, cursor, tensor) + " beyond its end");
  }
  return operand;
}

// Messages that a rank has sent or received so far, by way.
using MessageCounts = std::map<std::tuple<Stream, RankId, RankId>, std::int64_t>;

void number_messages(const Program& program, RankId rank, const Instruction& instruction,
                     MessageCounts& counts, Step& step) {
  const Group& group = program.group(*instruction.group);
  const std::vector<RankId> members = group_members(program.mesh, group, rank);
  const auto size = static_cast<std::int64_t>(members.size());
  const std::int64_t me = group_index(program.mesh, group, rank);
  const auto number = [&](RankId from, RankId to) {
    std::int64_t& count = counts[{instruction.stream, from, to}];
    step.messages.emplace_back(instruction.stream, from, to, count++);
  };
  const auto member = [&](std::int64_t shift) {
    return members[static_cast<std::size_t>(((me + shift) % size + size) % size)];
  };
  for (const int shift : instruction.to) {
    number(rank, member(shift));
  }
  for (const int shift : instruction.from) {
    number(member(-shift), rank);
  }
}

// What happened to a slot so far.
struct SlotHistory {
  std::vector<std::size_t> readers;  ///< since the last writer
  std::size_t writer = 0;
  bool written = false;
};

}  // namespace

std::vector<Step> trace(const Program& program, RankId rank,
                        const std::vector<std::size_t>& left_out) {
  std::vector<Step> steps;
  std::vector<std::int64_t> meetings(program.groups.size(), 0);
  MessageCounts messages;
  for (Cursor cursor(program, rank); !cursor.done(); cursor.advance()) {
    if (std::find(left_out.begin(), left_out.end(), cursor.place()) != left_out.end()) {
      continue;
    }
    const Instruction& instruction = cursor.instruction();
    Step step;
    step.place = cursor.place();
    step.counters = cursor.counters();
    for (const TensorRef& ref : instruction.reads) {
      step.reads.push_back(resolve(program, rank, cursor, ref));
    }
    for (const TensorRef& ref : instruction.writes) {
      step.writes.push_back(resolve(program, rank, cursor, ref));
    }
    if (is_collective(instruction.op)) {
      step.meeting = meetings[instruction.group->index]++;
    }
    if (instruction.op == Op::exchange) {
      number_messages(program, rank, instruction, messages, step);
    }
    steps.push_back(std::move(step));
  }
  return steps;
}

void order_by_dependence(const Program& program, std::vector<Step>& steps) {
  std::map<std::pair<TensorId, std::int64_t>, SlotHistory> history;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    Step& step = steps[i];
    step.after.clear();
    const bool ends_slots = program.code[step.place].op == Op::release;
    const auto read = [&](const Operand& operand) {
      SlotHistory& slot = history[{operand.tensor, operand.slot}];
      if (slot.written) {
        step.after.push_back(slot.writer);
      }
      slot.readers.push_back(i);
    };
    const auto write = [&](const Operand& operand) {
      SlotHistory& slot = history[{operand.tensor, operand.slot}];
      if (slot.written && slot.writer != i) {
        step.after.push_back(slot.writer);
      }
      for (const std::size_t reader : slot.readers) {
        if (reader != i) {
          step.after.push_back(reader);
        }
      }
      slot = {{}, i, true};
    };
    for (const Operand& operand : step.reads) {
      ends_slots ? write(operand) : read(operand);
    }
    for (const Operand& operand : step.writes) {
      write(operand);
    }
  }
}

void order_as_listed(const Program& program, std::vector<Step>& steps) {
  order_by_dependence(program, steps);
  const auto only_receives = [&](std::size_t i) {
    return program.code[steps[i].place].op == Op::exchange && steps[i].reads.empty();
  };
  std::optional<std::size_t> before;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    std::vector<std::size_t>& after = steps[i].after;
    std::erase_if(after, [&](std::size_t earlier) { return !only_receives(earlier); });
    if (before) {
      after.push_back(*before);
    }
    before = only_receives(i) ? before : i;
  }
}

}  // namespace longhaul
