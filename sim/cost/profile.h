// What calibrate/profiles/devices/*.yaml hold, as plain numbers. Private to sim/cost and its tests.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "sim/cost/block_choice.h"
#include "sim/cost/correction.h"
#include "sim/cost/kernel.h"

namespace longhaul {

/// Sizes between which measurements stand behind a fit, both ends included.
struct FittedRange {
  double low = 0.0;
  double high = 0.0;    ///< 0: nothing was fitted, so that nothing is outside
  double growth = 0.0;  ///< error gained by an octave above `high`; 0: nothing is known above
  [[nodiscard]] bool holds(double x) const { return high <= 0.0 || (x >= low && x <= high); }
};

/// What is known of a call whose sizes may lie outside the ranges of a fit. Above a range the time
/// of a tile stays what it was and the error grows by `growth` an octave, which a fit has
/// measured on its own largest rows; the call counts as extrapolated once that passes 10 %, what
/// published curves carry unmarked. Below a range, or where no growth is known, it does at once.
struct Trust {
  double spread = 0.0;
  bool extrapolated = false;
};
Trust trust_of(const std::array<FittedRange, 3>& ranges, const std::array<double, 3>& sizes,
               double spread);

/// One attention kernel, forward or backward, for head dimensions up to `head_dim`.
struct AttentionCurve {
  std::int64_t head_dim = 0;   ///< largest head dimension it serves
  std::int64_t rows = 128;     ///< queries (backward: queries) of a tile
  std::int64_t columns = 128;  ///< keys of a tile
  double beta = 1.0;           ///< cycles per tile element besides the matrix products, x 1/16
  Seconds launch;              ///< per call
  Seconds tile_start;          ///< per tile: prologue and epilogue
  double masked_step = 1.0;    ///< a step on a partly masked tile, in whole steps
  Correction correction;       ///< over keys a query sees, queries of all heads, heads per kv head
  Correction layout;           ///< over sequences of the batch, kv heads, queries of a sequence
  std::array<FittedRange, 3> range;  ///< of the same
  double spread = 0.1;
};

/// How a kernel starts its tiles.
enum class TileOrder {
  longest,  ///< the longest first
  rows,     ///< head after head in the order of their queries, so that a causal mask's longest start
            ///< last; tiles share SMs, which evens out what that loses
  grid      ///< the same order, one tile an SM
};

/// Forward or backward of one kernel family.
struct AttentionPass {
  std::vector<AttentionCurve> full;    ///< without a mask, by head_dim
  std::vector<AttentionCurve> masked;  ///< with one
  TileOrder order = TileOrder::longest;
};

struct AttentionFamily {
  std::string name;
  bool materialised = false;  ///< writes the score matrix to memory (no flash attention)
  AttentionPass forward;
  AttentionPass backward;
};

struct GemmTile {
  std::int64_t rows = 128;
  std::int64_t columns = 128;
  double efficiency = 0.8;  ///< of the tensor cores in the main loop
};

/// What tiles cost that a rule chooses; docs/models/gemm.md.
struct BlockFigures {
  BlockRule rule = BlockRule::fastest;
  double efficiency = 0.8;      ///< of the tensor cores in a step of the main loop, 128 of k
  Seconds step;                 ///< least time of a step: latencies of the pipeline
  double load_rate = 1.0;       ///< of all SMs from the L2 cache, in data-sheet memory bandwidths
  double quantise_share = 0.5;  ///< of the data-sheet bandwidth, while A is made fp8
  Seconds uneven;               ///< further, a step of one tile: m is no multiple of 4
  Seconds spill;                ///< further, a step: Hopper's large tiles that share no loads
  Seconds plain_gather;         ///< of spreading scales of B where k is no multiple of 512 (Blackwell)
  Seconds gather;               ///< life of a thread block that spreads scales of B (Blackwell)
};

/// Matrix products of one element type; symbols and equations: docs/models/gemm.md.
struct GemmCurve {
  KernelType type = KernelType::bf16;
  std::vector<GemmTile> tiles;
  Seconds launch;
  Seconds tile_start;
  double wave_share = 0.5;   ///< how much of the staircase of waves is left, 0 to 1
  double memory_share = 0.0; ///< of the data-sheet bandwidth; 0: the profile's memory_efficiency
  double sharpness = 0.0;    ///< exponent that joins products and memory; 0: the larger counts
  double split_cost = 1.0;   ///< of partial sums, in writes and reads of 4 bytes at full bandwidth
  Correction correction;     ///< over m, n, k
  Correction waves;          ///< over gemm_waves and k
  BlockFigures blocks;       ///< with a rule they take the place of `tiles` and `split_cost`
  Correction shapes;         ///< with a rule, in place of `waves`: over gemm_block
  std::array<FittedRange, 3> range;  ///< of m, n, k
  double spread = 0.1;
};

/// Seconds of a call at burst clocks, launch included, without the correction.
double gemm_mechanism(const Device& device, const GemmCurve& curve, const GemmShape& shape);

/// How a product fills the GPU with tiles of 256 x 128, the largest and favourite ones of cuBLAS on
/// every generation: {waves if tiles could be cut at will, whole waves over those}. The second is 1
/// where nothing is lost to the ragged edge and the last wave, and for less than one wave.
std::array<double, 2> gemm_waves(const Device& device, const GemmShape& shape);

/// Rows and columns of the tile that the curve's rule chooses, and tiles an SM.
std::array<double, 3> gemm_block(const Device& device, const GemmCurve& curve,
                                 const GemmShape& shape);

/// Bytes that a product reads (A, B) and writes (C) once.
double gemm_bytes(const GemmShape& shape);

/// What a fitted curve puts on its mechanism, a factor; 1 for a curve without corrections.
double gemm_correction(const Device& device, const GemmCurve& curve, const GemmShape& shape);

/// Seconds of a call at burst clocks, launch included, without the correction. `memory_share`: of
/// the data-sheet bandwidth.
double attention_mechanism(const Device& device, const AttentionCurve& curve, bool materialised,
                           double memory_share, const AttentionShape& shape,
                           TileOrder order = TileOrder::longest);

/// Seconds of one step of a tile's main loop: products, and beta/16 cycles a score.
double attention_step(const Device& device, const AttentionCurve& curve,
                      const AttentionShape& shape, bool materialised = false);

/// Bytes that a call moves at least once.
double attention_bytes(const AttentionShape& shape);

/// Seconds of one memory-bound kernel: launch + s + s ramp / (s + ramp) with s = bytes / rate, so that
/// a stream shorter than the ramp runs at half its rate and a long one loses the ramp.
double stream_seconds(double bytes, double bytes_per_second, Seconds launch, Seconds ramp);

/// What corrections of attention are tables of: keys that a query sees on average, queries of all
/// heads and sequences, query heads per kv head. The shape must see something.
std::array<double, 3> attention_sizes(const AttentionShape& shape);

/// What the second correction is a table of: sequences, kv heads, queries of a sequence. Batches of
/// short sequences with few heads are slower than their tiles say.
std::array<double, 3> attention_layout(const AttentionShape& shape);

/// What a fitted curve puts on its mechanism, a factor; 1 for a curve without corrections.
double attention_correction(const AttentionCurve& curve, const AttentionShape& shape);

/// Efficiency curves of one device family.
struct KernelProfile {
  std::string name;
  bool calibrated = false;
  std::vector<std::string> devices;
  std::vector<AttentionFamily> attention;  ///< the first is the default
  std::vector<GemmCurve> gemm;  ///< one a type; the first stands in for types that have none
  double memory_efficiency = 0.85;  ///< of the data-sheet bandwidth, large kernels
  Seconds memory_launch;
  Seconds memory_ramp;  ///< what a long stream loses before it reaches its rate; 0: nothing
  double memory_spread = 0.1;
  double sustained = 1.0;     ///< speed of a training step against a burst (power)
  double sustained_attention = 1.0;  ///< the same of attention, which draws less power
  double odd_rows = 1.0;             ///< times that a product of 2-byte elements in odd rows takes
  double zeros = 1.0;                ///< speed of a product of zeros against a burst of numbers
  double accumulate_share = 0.0;     ///< of the time for a sum's further bytes that a product shows
  double interference = 0.0;  ///< slowing beside communication, SMs apart
  /// Beside an all-gather on A100 attention took 1.83 and a product 1.76 times as long
  /// (github.com/NVIDIA/nccl issue 1428); nothing worse than twice is believed.
  double interference_limit = 2.0;
  std::vector<std::string> origins;
};

/// Reads a profile and the fit it names; the format is calibrate/profiles/README.md.
std::optional<KernelProfile> read_kernel_profile(const SourcePtr& source, Diagnostics& diagnostics);

/// Puts what a fit (longhaul_fit kernels) found in place of a profile's own figures.
void read_kernel_fit(const SourcePtr& source, KernelProfile& profile, Diagnostics& diagnostics);

/// Steps over key tiles that one tile of queries takes: whole and partly masked ones.
struct TileSteps {
  std::int64_t whole = 0;
  std::int64_t masked = 0;
};
TileSteps tile_steps(const Band& band, std::int64_t first_row, std::int64_t rows, std::int64_t keys,
                     std::int64_t columns);

/// Time of jobs of the given costs, each `copies` times, on `servers` in list order (longest
/// first): exact up to 4096 jobs, beyond that total/servers plus half a shortest job.
double list_schedule(const std::vector<double>& costs, std::int64_t copies, std::int64_t servers);

/// Jobs start in the order given, each `copies` times, whenever a server is free: the time until all
/// have ended.
double greedy_schedule(const std::vector<double>& costs, std::int64_t copies,
                       std::int64_t servers);

/// Costs given as for list_schedule, but the shortest jobs start first, copy after copy: when nothing is left to
/// start, every server is on average half way through one of the longest, so that half of it is added
/// to total/servers. (On one server per SM some counts would end later; two tiles share an SM, which
/// evens that out.)
double ordered_schedule(const std::vector<double>& costs, std::int64_t copies,
                        std::int64_t servers);

/// Jobs in the order of one copy, copy after copy: exact up to 4096 jobs, beyond that total/servers
/// plus half a longest job.
double grid_schedule(const std::vector<double>& costs, std::int64_t copies, std::int64_t servers);

}  // namespace longhaul
