// How long one kernel takes alone on one GPU: pure functions of its shape and a device
// profile. Equations, scope and origin of every parameter:
// docs/models/{attention,gemm,memory_bound}.md.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sim/input/diagnostic.h"
#include "sim/input/yaml.h"
#include "sim/topology/device.h"
#include "sim/units/band.h"
#include "sim/units/quantity.h"

namespace longhaul {

/// Element type a kernel computes in. fp8: one scale a tensor or token; fp8_block: a scale for 1 x 128
/// of A and 128 x 128 of B. The time of both includes quantising A.
enum class KernelType { bf16, fp8, fp32, fp8_block };

/// One call of an attention kernel: q [batch, queries, heads, head_dim] against
/// k, v [batch, keys, kv_heads, head_dim].
struct AttentionShape {
  std::int64_t batch = 1;
  std::int64_t queries = 0;
  std::int64_t keys = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;   ///< of queries and keys
  std::int64_t value_dim = 0;  ///< of values and outputs; 0: head_dim
  Band band;
  bool backward = false;
  KernelType type = KernelType::bf16;
  bool dropout = false;  ///< probabilities are dropped at random
  bool block = false;    ///< of some of the keys: what blocks give is combined later
  auto operator<=>(const AttentionShape&) const = default;
};

/// C[m,n] = A[m,k] B[k,n], `count` times (batched).
struct GemmShape {
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;
  std::int64_t count = 1;
  KernelType type = KernelType::bf16;
  bool odd_rows = false;  ///< an operand's or the output's rows have an odd number of elements
  bool zeros = false;     ///< of operands that were never set, which draw little power
};

/// A kernel bound by memory: bytes it must read and write, and how many launches.
struct MemoryShape {
  Bytes bytes;
  int launches = 1;
};

/// A time with what is known about its trust.
struct KernelTime {
  Seconds time;
  double relative_spread = 0.0;  ///< one standard deviation of the model's error, relative
  bool extrapolated = false;     ///< outside the calibrated range of the profile
  /// Attention forward: from when the last of its tiles has begun, and SMs come free, to the end.
  Seconds last_tiles = {};
};

/// Efficiency curves of one device, from calibrate/profiles/devices/*.yaml (format:
/// calibrate/profiles/README.md). Every number carries its origin and spread.
struct KernelProfile;
struct AttentionFamily;

/// Prices kernels on one device. Cheap to copy.
class KernelCosts {
 public:
  /// `attention` chooses a kernel family of the profile; a name it does not have gives the first,
  /// and every attention time is then marked extrapolated.
  KernelCosts(const Device& device, std::shared_ptr<const KernelProfile> profile,
              const std::string& attention = "");
  /// The same at the clocks of a short burst, which is how kernels are measured: no `sustained`.
  [[nodiscard]] KernelCosts at_burst() const;
  [[nodiscard]] KernelTime attention(const AttentionShape& shape) const;
  [[nodiscard]] KernelTime gemm(const GemmShape& shape) const;
  /// What a product takes longer whose output is not 2 bytes an element, written once: `further`
  /// bytes read or written besides (docs/models/gemm.md, sums).
  [[nodiscard]] Seconds gemm_sum(Bytes further) const;
  [[nodiscard]] KernelTime memory_bound(const MemoryShape& shape) const;
  /// Slow-down of a compute kernel while communication kernels hold `sms_held` SMs
  /// (>= 1; 1 when none): reference/network.md 3, overlap interference.
  [[nodiscard]] double interference(int sms_held) const;
  /// Scratch memory of a call (softmax statistics, fp32 dQ accumulators...), by its kernel family.
  [[nodiscard]] Bytes attention_workspace(const AttentionShape& shape) const;
  /// False while the profile holds published figures only: results then say `uncalibrated`.
  [[nodiscard]] bool calibrated() const;
  /// "path sha256" of the files behind it.
  [[nodiscard]] const std::vector<std::string>& origins() const;

 private:
  Device device_;
  std::shared_ptr<const KernelProfile> profile_;
  const AttentionFamily* family_;  // in profile_
  double sustained_;               // speed of a long step against a burst
  double sustained_attention_;
  bool generic_;                   // the profile is not of this device
  bool substituted_;               // the kernel family asked for is not in the profile
};

/// Finds the kernel profile for a device: its own file, or the generic one of its architecture
/// (then every time is marked extrapolated). Never fails for a known architecture.
/// `attention` names the implementation ("fa3", "fa2", "cudnn", "unfused"; "" = the best the device
/// has). One that the profile does not hold is replaced by the first, with a warning.
KernelCosts find_kernel_costs(const Device& device, const std::string& attention,
                              Diagnostics& diagnostics);

}  // namespace longhaul
