// Writing programs that read like prose: tensors by name, instructions by operands.
#pragma once

#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "sim/program/program.h"

namespace longhaul {

/// The sum of two indices, neither of which is reduced, over one loop and one axis at most.
Index plus(Index a, const Index& b);

/// `factor` times an index that looks nothing up, a reduced one included: where the shards begin that
/// it counts, if each has `factor` elements.
Index times(Index index, std::int64_t factor);

/// What a tensor is, apart from its name.
struct TensorSpec {
  std::vector<std::int64_t> shape;
  std::vector<std::vector<Shard>> shards;  ///< per dimension; may be shorter than shape
  DataType type = DataType::bf16;
  MemoryCategory category = MemoryCategory::activations;
  std::int64_t slots = 1;
  bool persistent = false;
  Role role = Role::none;
  bool view = false;
  bool in_host_memory = false;
  std::vector<std::vector<std::int64_t>> stage_slots = {};
  std::vector<Axis> owner_axes = {};
};

/// Builds one program. Declaring a name twice gives the same tensor, so a piece of schedule can be
/// written out more than once (forward, then again as recompute).
class ProgramBuilder {
 public:
  explicit ProgramBuilder(std::string name) { program_.name = std::move(name); }

  Program& program() { return program_; }
  /// Checks and gives away the finished program.
  Program finish();

  // ---- tensors
  TensorRef tensor(const std::string& name, const TensorSpec& spec, Index slot = Index::of(0));
  /// The same and `allocate` for the slot.
  TensorRef fresh(const std::string& name, const TensorSpec& spec, Index slot = Index::of(0));
  void allocate(const TensorRef& ref);
  void release(std::initializer_list<TensorRef> refs);
  [[nodiscard]] const Tensor& of(const TensorRef& ref) const { return program_.tensor(ref.tensor); }
  [[nodiscard]] static TensorRef at(TensorRef ref, Index slot) {
    ref.slot = slot;
    return ref;
  }
  /// `length` places of dimension `dim` from `begin` on.
  [[nodiscard]] static TensorRef slice(TensorRef whole, int dim, Index begin, std::int64_t length) {
    whole.slice_dim = dim;
    whole.slice_begin = std::move(begin);
    whole.slice_length = length;
    return whole;
  }
  /// Shape, shards and type of a tensor, for others of its like.
  [[nodiscard]] TensorSpec spec_like(
      const TensorRef& ref, MemoryCategory category = MemoryCategory::activations) const {
    return {of(ref).shape, of(ref).shards, of(ref).type, category};
  }

  /// What is declared between these has names of its own: a schedule for other sizes.
  void begin_names(std::string prefix) { prefix_ = std::move(prefix); }
  void end_names() { prefix_.clear(); }

  // ---- groups: nothing when the group has one member
  std::optional<GroupId> group(const std::string& name, std::vector<Axis> axes,
                               bool ends = false);

  // ---- loops
  LoopId begin_loop(const std::string& name, std::int64_t count, bool uniform);
  void end_loop(LoopId loop);

  // ---- conditions: what is emitted between these is executed where the condition holds
  void begin_when(Condition condition) { when_.push_back(std::move(condition)); }
  void end_when() { when_.pop_back(); }

  // ---- communication that is emitted between these begins behind the compute emitted before it
  void begin_behind_compute() { behind_compute_ = true; }
  void end_behind_compute() { behind_compute_ = false; }

  // ---- instructions; every one belongs to the part set last
  void part(Part part) { part_ = part; }
  [[nodiscard]] Part part() const { return part_; }
  Instruction& compute(Op op, const std::string& label, std::vector<TensorRef> reads,
                       std::vector<TensorRef> writes);
  Instruction& collective(Op op, Stream stream, GroupId group, const std::string& label,
                          std::vector<TensorRef> reads, std::vector<TensorRef> writes);
  /// Op::to_host, from_host, host_zero or host_adam, on the stream of its kind.
  Instruction& host_work(Op op, const std::string& label, std::vector<TensorRef> reads,
                         std::vector<TensorRef> writes);
  /// The compute stream waits for all that was given to `stream`.
  void wait_for(const std::string& label, Stream stream);
  /// The host works for `seconds`, after the compute stream if it `waits`; nothing if 0.
  void host(const std::string& label, double seconds, bool waits);
  /// The host waits for what others do until `time` of the step; nothing if 0.
  void host_until(const std::string& label, Seconds time);
  /// The host waits for the compute stream; what follows is launched from then on.
  void host_waits(const std::string& label);
  /// C (+)= A B with the transposes of Op::gemm.
  Instruction& gemm(const std::string& label, TensorRef a, TensorRef b, TensorRef c,
                    bool transpose_a = false, bool transpose_b = false, bool accumulate = false);

 private:
  Program program_;
  std::map<std::string, TensorId> by_name_;
  std::string prefix_;
  Part part_ = Part::forward;
  std::vector<Condition> when_;
  bool behind_compute_ = false;
};

}  // namespace longhaul
