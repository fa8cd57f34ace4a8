// What an instruction costs on its own: the bridge from programs to sim/cost.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <unordered_map>
#include <vector>

#include "sim/cost/kernel.h"
#include "sim/engine/timeline.h"
#include "sim/program/program.h"

namespace longhaul {

/// Cost of one instruction that runs on a single GPU.
struct Price {
  Seconds time;
  double relative_spread = 0.0;
  bool extrapolated = false;
  std::int64_t workspace = 0;  ///< bytes of scratch memory held while it runs
  Seconds last_tiles = {};     ///< KernelTime::last_tiles of its last call
};

/// The row of the accounts an instruction's busy time belongs to (or, for a collective, the row
/// its exposed time belongs to).
Cause cause_of(const Instruction& instruction);

/// Bytes of a tensor reference (the slice only, where there is one).
Bytes bytes_of(const Program& program, const TensorRef& ref);

/// Sum of the bytes of a collective's operands as NCCL counts them: the larger side.
Bytes collective_bytes(const Program& program, const Instruction& instruction);

/// Bytes that an op of the host copies, or that its processor reads and writes in host memory.
Bytes host_bytes(const Program& program, const Instruction& instruction);

/// Prices the instructions of one program, remembering what it has priced. Shapes are the same on
/// all ranks, so only attention blocks depend on more than the place.
class Pricer {
 public:
  Pricer(const Program& program, const KernelCosts& kernels);
  /// `query_owner` and `key_owner` are the block's, for the ops that have one.
  const Price& price(std::size_t place, std::int64_t query_owner,
                     std::optional<std::int64_t> key_owner);

 private:
  [[nodiscard]] Price compute(const Instruction& instruction, std::int64_t query_owner,
                              std::optional<std::int64_t> key_owner);
  [[nodiscard]] Price attention(const Instruction& instruction, std::int64_t query_owner,
                                std::optional<std::int64_t> key_owner);
  const KernelTime& call_time(const AttentionShape& shape);
  [[nodiscard]] Price gemm(const Instruction& instruction) const;
  [[nodiscard]] bool has_odd_rows(const Instruction& instruction) const;
  [[nodiscard]] Price head_products(const Instruction& instruction) const;
  [[nodiscard]] Bytes cast_bytes(const Instruction& instruction, double a, double b) const;
  [[nodiscard]] Bytes sum_bytes(const Instruction& instruction) const;
  [[nodiscard]] Price merge(const Instruction& instruction, std::int64_t query_owner,
                            std::optional<std::int64_t> key_owner) const;
  [[nodiscard]] Seconds copies_around(const AttentionShape& shape,
                                      const Instruction& instruction) const;
  [[nodiscard]] Seconds query_sum(const AttentionShape& shape, const Instruction& instruction) const;
  [[nodiscard]] Price memory_bound(Bytes bytes, double launches) const;
  [[nodiscard]] Bytes traffic(const Instruction& instruction) const;

  const Program& program_;
  const KernelCosts& kernels_;
  std::unordered_map<std::uint64_t, Price> known_;
  std::map<AttentionShape, KernelTime> known_calls_;  // most pairs of owners make the same calls
};

}  // namespace longhaul
