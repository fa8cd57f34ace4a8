#pragma once
// The parts of a Hopper SM that the forward kernel rests on, written from their documentation and
// independent of the kernel's own headers (compute_capability 9.0 beside emulated_gpu.h):
// mbarriers, named barriers, the TMA copy with its swizzle, and the operands of wgmma as
// descriptors and fragments describe them.

#include <cstdint>
#include <vector>

#include "kernels/common/bfloat16.h"
#include "kernels/common/float8.h"

namespace longhaul::kernels {

/// PTX ISA, "mbarrier": a phase is over when all expected arrivals came and all expected bytes.
class EmulatedBarrier {
 public:
  explicit EmulatedBarrier(int arrivals = 1) : arrivals_(arrivals), pending_(arrivals) {}
  void arrive();
  void arrive_expecting(int bytes);
  void complete(int bytes);
  /// Is the phase with this parity over? A fresh barrier is in phase 0, as if 1 were just over.
  bool over(int parity) const { return phase_ != parity; }

 private:
  void end_phase();
  int arrivals_;
  int pending_;
  int bytes_ = 0;
  int phase_ = 0;
};

/// PTX ISA, "bar": a barrier that `threads` threads complete.
class EmulatedNamedBarrier {
 public:
  /// `count` threads arrive, a warp unless told. Returns the round they belong to; throws if more
  /// than `threads` come.
  int arrive(int threads, int count = 32);
  bool over(int round) const { return round_ > round; }
  bool idle() const { return arrived_ == 0; }

 private:
  int arrived_ = 0;
  int round_ = 0;
};

/// A tensor of bf16, or of e4m3, in global memory: [batches, rows, heads, columns], columns
/// fastest.
struct EmulatedTensor {
  const std::vector<Bfloat16>* values = nullptr;
  int batches = 1;
  int rows = 0;
  int heads = 1;
  int columns = 0;
  int box_rows = 0;                            // of a copy, where the tensor map says it
  const std::vector<Float8>* bytes = nullptr;  // instead of values
};

/// Shared memory of one block, all bytes 0xff (NaN) at first.
class EmulatedMemory {
 public:
  explicit EmulatedMemory(std::uint32_t bytes) : bytes_(bytes, 0xff) {}

  /// TMA with 128-byte swizzle (CUDA driver API, CU_TENSOR_MAP_SWIZZLE_128B): box of `rows` x 128
  /// bytes to `destination`, a multiple of 1024; zeros for what lies outside the tensor.
  void copy_box(const EmulatedTensor& tensor, std::uint32_t destination, int rows, int column,
                int row, int head, int batch);

  /// Element (m, k) of a 64 x 16 or N x 16 operand, K-major, by its matrix descriptor.
  float k_major(std::uint64_t descriptor, int m, int k) const;
  /// Element (m, k) of a 64 x 32 or N x 32 operand of e4m3, K-major.
  float k_major_float8(std::uint64_t descriptor, int m, int k) const;
  /// Element (k, n) of a 16 x N operand, N-major.
  float n_major(std::uint64_t descriptor, int k, int n) const;

  /// What a thread loads and stores: four bytes at an address as it is, not swizzled.
  std::uint32_t load_word(std::uint32_t address) const;
  void store_word(std::uint32_t address, std::uint32_t word);

 private:
  template <class Element>
  Element load(std::uint32_t address) const;
  std::vector<std::uint8_t> bytes_;
};

/// Row and column of register i of lane `lane` in warp `warp` of an m64nN accumulator (PTX ISA,
/// figure "WGMMA .m64nNk16 register fragment layout for accumulator matrix D").
int accumulator_row(int warp, int lane, int i);
int accumulator_column(int lane, int i);

}  // namespace longhaul::kernels
