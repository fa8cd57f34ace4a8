// What calibrate/profiles/devices/*.yaml hold, as plain numbers. Private to sim/cost and its tests.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "sim/cost/kernel.h"

namespace longhaul {

/// One attention kernel, forward or backward, for head dimensions up to `head_dim`.
struct AttentionCurve {
  std::int64_t head_dim = 0;   ///< largest head dimension it serves
  std::int64_t rows = 128;     ///< queries (backward: queries) of a tile
  std::int64_t columns = 128;  ///< keys of a tile
  double beta = 1.0;           ///< cycles per tile element besides the matrix products, x 1/16
};

/// Forward or backward of one kernel family.
struct AttentionPass {
  std::vector<AttentionCurve> full;    ///< without a mask, by head_dim
  std::vector<AttentionCurve> masked;  ///< with one
  Seconds launch;                      ///< per call
  Seconds tile_start;                  ///< per tile: prologue and epilogue
  double masked_step = 1.0;            ///< a step on a partly masked tile, in whole steps
  double spread = 0.1;
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

/// Efficiency curves of one device family.
struct KernelProfile {
  std::string name;
  bool calibrated = false;
  std::vector<std::string> devices;
  std::vector<AttentionFamily> attention;  ///< the first is the default
  std::vector<GemmTile> gemm_tiles;
  Seconds gemm_launch;
  Seconds gemm_tile_start;
  double gemm_spread = 0.1;
  double memory_efficiency = 0.85;  ///< of the data-sheet bandwidth, large kernels
  Seconds memory_launch;
  double memory_spread = 0.1;
  double sustained = 1.0;     ///< speed of a training step against a burst (power)
  double interference = 0.0;  ///< slowing beside communication, SMs apart
  /// Beside an all-gather on A100 attention took 1.83 and a product 1.76 times as long
  /// (github.com/NVIDIA/nccl issue 1428); nothing worse than twice is believed.
  double interference_limit = 2.0;
  std::vector<std::string> origins;
};

/// Reads a profile; the format is calibrate/profiles/README.md.
std::optional<KernelProfile> read_kernel_profile(const SourcePtr& source, Diagnostics& diagnostics);

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

}  // namespace longhaul
