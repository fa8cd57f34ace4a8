// Walks a program as one rank, instruction by instruction, and keeps the books: what is held,
// what is sent. The books refuse what a real machine would: a slot used before it is allocated,
// allocated twice, released twice or never, or a slot that does not exist.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <stdexcept>
#include <string>

#include "sim/program/cursor.h"
#include "sim/program/program.h"

namespace longhaul::test {

class Walk {
 public:
  /// Runs the whole program for `rank`; `visit` sees every instruction before it happens.
  explicit Walk(const Program& program, std::size_t rank = 0,
                const std::function<void(const Walk&, const Instruction&)>& visit = {})
      : program_(program), rank_(rank) {
    hold_persistent();
    for (Cursor cursor(program, rank_); !cursor.done(); cursor.advance()) {
      counters_ = cursor.counters();
      if (visit) {
        visit(*this, cursor.instruction());
      }
      step(cursor.instruction());
    }
    if (!live_.empty()) {
      fail("never released: " + program.tensors[live_.begin()->first].name);
    }
  }

  /// Bytes held now.
  [[nodiscard]] std::int64_t held(MemoryCategory category) const {
    const auto found = held_.find(category);
    return found == held_.end() ? 0 : found->second;
  }
  /// How often an op ran.
  [[nodiscard]] std::int64_t count(Op op) const { return at(counts_, op); }
  /// Bytes this rank sent in all collectives of a kind, by the usual accounting: an all-gather
  /// or a send_receive of x sends x to each of the others (or one other), a reduce-scatter or an
  /// all-to-all keeps its own n-th, an all-reduce is a reduce-scatter and an all-gather.
  [[nodiscard]] std::int64_t sent(Op op, Stream stream = Stream::context) const {
    const auto found = sent_.find({op, stream});
    return found == sent_.end() ? 0 : found->second;
  }
  [[nodiscard]] const std::vector<std::int64_t>& counters() const { return counters_; }

 private:
  static std::int64_t at(const std::map<Op, std::int64_t>& table, Op op) {
    const auto found = table.find(op);
    return found == table.end() ? 0 : found->second;
  }
  [[noreturn]] static void fail(const std::string& why) { throw std::runtime_error(why); }

  static std::int64_t bytes_of(const Tensor& tensor) {
    return static_cast<std::int64_t>(tensor.slot_bytes().value());
  }
  void hold_persistent() {
    for (const Tensor& tensor : program_.tensors) {
      if (tensor.persistent && !tensor.view) {
        held_[tensor.category] += bytes_of(tensor) * tensor.slots;
      }
    }
  }
  std::int64_t slot_of(const TensorRef& ref) const {
    const std::int64_t slot = evaluate(ref.slot, program_.mesh, rank_, counters_);
    if (slot < 0 || slot >= program_.tensor(ref.tensor).slots) {
      fail("no such slot of " + program_.tensor(ref.tensor).name);
    }
    return slot;
  }
  void use(const TensorRef& ref, const Instruction& instruction) const {
    const std::int64_t slot = slot_of(ref);
    const Tensor& tensor = program_.tensor(ref.tensor);
    if (!tensor.persistent && !live_.contains({ref.tensor.index, slot})) {
      fail(instruction.label + " uses what is not allocated: " + tensor.name);
    }
  }
  void allocate(const TensorRef& ref) {
    const Tensor& tensor = program_.tensor(ref.tensor);
    if (tensor.persistent || !live_.insert({ref.tensor.index, slot_of(ref)}).second) {
      fail("allocated twice: " + tensor.name);
    }
    held_[tensor.category] += bytes_of(tensor);
  }
  void release(const TensorRef& ref) {
    const Tensor& tensor = program_.tensor(ref.tensor);
    if (live_.erase({ref.tensor.index, slot_of(ref)}) == 0) {
      fail("released without being held: " + tensor.name);
    }
    held_[tensor.category] -= bytes_of(tensor);
  }
  void step(const Instruction& instruction) {
    ++counts_[instruction.op];
    if (instruction.op == Op::allocate) {
      for (const TensorRef& ref : instruction.writes) {
        allocate(ref);
      }
      return;
    }
    for (const TensorRef& ref : instruction.reads) {
      use(ref, instruction);
    }
    for (const TensorRef& ref : instruction.writes) {
      use(ref, instruction);
    }
    if (instruction.op == Op::release) {
      for (const TensorRef& ref : instruction.reads) {
        release(ref);
      }
    } else if (is_collective(instruction.op)) {
      send(instruction);
    }
  }
  void send(const Instruction& instruction) {
    const std::int64_t n = group_size(program_.mesh, program_.group(*instruction.group));
    std::int64_t bytes = 0;
    for (std::size_t i = 0; i < instruction.reads.size(); ++i) {
      const Tensor& from = program_.tensor(instruction.reads[i].tensor);
      check_sizes(instruction, n, from, program_.tensor(instruction.writes[i].tensor));
      const std::int64_t all = bytes_of(from);
      switch (instruction.op) {
        case Op::send_receive: bytes += all; break;
        case Op::all_gather: bytes += all * (n - 1); break;
        case Op::all_reduce: bytes += 2 * all * (n - 1) / n; break;
        default: bytes += all * (n - 1) / n; break;
      }
    }
    sent_[{instruction.op, instruction.stream}] += bytes;
  }
  static void check_sizes(const Instruction& instruction, std::int64_t n, const Tensor& from,
                          const Tensor& to) {
    const std::int64_t in = from.elements();
    const std::int64_t out = to.elements();
    // Shards of weights that do not divide are rounded up.
    const bool fits = instruction.op == Op::all_gather       ? (out + n - 1) / n == in
                      : instruction.op == Op::reduce_scatter ? (in + n - 1) / n == out
                                                             : in == out;
    if (!fits) {
      fail(instruction.label + ": sizes of " + from.name + " and " + to.name);
    }
  }

  const Program& program_;
  RankId rank_;
  std::vector<std::int64_t> counters_;
  std::set<std::pair<std::uint32_t, std::int64_t>> live_;
  std::map<MemoryCategory, std::int64_t> held_;
  std::map<Op, std::int64_t> counts_;
  std::map<std::pair<Op, Stream>, std::int64_t> sent_;
};

}  // namespace longhaul::test
