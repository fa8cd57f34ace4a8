// What calls of attention take that a server makes, with batches of variable length and keys and
// values in a paged cache: the form of most open measurements. Steps of training make none of it.
// Private to the fits.
#pragma once

#include "calibrate/fit/kernel_rows.h"
#include "sim/cost/profile.h"

namespace longhaul {

/// What kernels around attention are priced with.
struct CopyRates {
  double memory_share = 0.0;  ///< of the data-sheet bandwidth
  Seconds launch;             ///< of a copy
  double block_life = 0.0;    ///< seconds that a thread block lives which waits for memory
};

/// Seconds of writing K and V of all tokens to the cache: both are read and written once. vLLM's
/// kernel (csrc/cache_kernels.cu, reshape_and_cache_flash) moreover starts one thread block a token, of
/// min(kv heads x head_dim, 512) threads, and an SM holds as many as it has threads for.
double cache_seconds(const Device& device, const CopyRates& rates, const AttentionRow& row);

/// What FlashAttention-3 decides of a batch of variable length (hopper/: heuristics.h,
/// flash_prepare_scheduler.cu, tile_size.h, tile_scheduler.hpp). Where its copy engine cannot load the
/// pages, which goes for pages of 64 tokens, tiles hold the same queries of all heads of a group.
struct Flash3Plan {
  std::int64_t columns = 128;   ///< keys of a tile
  std::int64_t most_parts = 1;  ///< of the keys, as the host assumes; above one a kernel follows
  std::int64_t parts = 1;       ///< as the device then decides
  std::int64_t heads = 1;       ///< kv heads whose tiles alternate, since their keys fit the L2 cache
};
Flash3Plan flash3_plan(const Device& device, const AttentionCurve& curve, const AttentionRow& row);

/// Seconds of the attention kernel of such a call, launch included: sequences one after another, in
/// each some heads after some, of these the tiles with the most keys first. `memory_share` as above.
double flash3_mechanism(const Device& device, const AttentionCurve& curve, double memory_share,
                        const AttentionRow& row);

/// Seconds of the kernel that adds up the parts. It is launched where the host assumes parts, one
/// block of 256 threads for 8 rows of 128 channels (16 rows of 64); where the device decides for
/// one part, each reads that and ends.
double combine_seconds(const Device& device, const AttentionCurve& curve, const CopyRates& rates,
                       const AttentionRow& row);

}  // namespace longhaul
